//! Cross-site request forgery: may this unsafe request be what the signed-in person wanted?
//!
//! Only what a browser adds by itself can be forged, so that a request without a cookie needs no proof. One with a
//! cookie needs a proof that it comes from a page of ours. And whatever says that it comes from elsewhere is
//! refused, whatever else it proves.

use http::{HeaderMap, HeaderName};
use stack_types::{ErrorCode, Problem};

use super::origin::{self, Origins};

/// The header that repeats the CSRF cookie.
pub(crate) const X_CSRF_TOKEN: HeaderName = HeaderName::from_static("x-csrf-token");

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What the headers say of the page that sent the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A page of ours, or of an origin that the operator allows.
    Ours,
    /// A page from elsewhere.
    Foreign,
    /// They say nothing: a program, or an old browser.
    Unknown,
}

/// Who sent the request, by `Origin` and `Sec-Fetch-Site`; browsers let no page set these.
///
/// `Sec-Fetch-Site: none` is an act of the person (a bookmark), which says nothing of a page. An allowed origin is
/// cross-site by nature, so that its `Sec-Fetch-Site` is not held against it.
pub(crate) fn sender(headers: &HeaderMap, origins: &Origins) -> Sender {
    let origin = origin::of(headers);
    let allowed = origin.is_some_and(|origin| origins.is_allowed(origin));
    let own = origin.is_some_and(|origin| origins.is_own(origin));
    if origin.is_some() && !own && !allowed {
        return Sender::Foreign;
    }
    match headers.get(SEC_FETCH_SITE).map(|value| value.as_bytes()) {
        Some(b"same-origin") => Sender::Ours,
        None | Some(b"none") if own || allowed => Sender::Ours,
        None | Some(b"none") => Sender::Unknown,
        Some(_) if allowed => Sender::Ours,
        Some(_) => Sender::Foreign,
    }
}

/// Whether a request that carries a cookie of ours may go on. `check_token` looks whether `x-csrf-token` stands there,
/// equals the cookie and was made by us for this session.
pub(crate) fn check(
    sender: Sender,
    check_token: impl FnOnce() -> Result<(), Problem>,
) -> Result<(), Problem> {
    match sender {
        Sender::Ours => Ok(()),
        Sender::Unknown => check_token(),
        Sender::Foreign => Err(refused()),
    }
}

/// Whether a request without a cookie, that may set one, may go on: login CSRF signs the victim in as somebody else.
pub(crate) fn check_not_foreign(sender: Sender) -> Result<(), Problem> {
    match sender {
        Sender::Foreign => Err(refused()),
        Sender::Ours | Sender::Unknown => Ok(()),
    }
}

/// The refusal.
pub(crate) fn refused() -> Problem {
    Problem::new(
        ErrorCode::CsrfFailed,
        "the request does not prove that it comes from a page of this server",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Inputs};

    fn origins() -> Origins {
        let inputs = Inputs {
            env: vec![
                ("STACK_PUBLIC_URL".into(), "https://chat.example".into()),
                ("STACK_CORS_ORIGINS".into(), "https://app.example".into()),
            ],
            ..Inputs::default()
        };
        Origins::new(
            &Config::load(&inputs).unwrap(),
            "127.0.0.1:8080".parse().unwrap(),
        )
    }

    fn who(site: Option<&str>, origin: Option<&str>) -> Sender {
        let mut headers = HeaderMap::new();
        if let Some(site) = site {
            headers.insert(SEC_FETCH_SITE, site.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(http::header::ORIGIN, origin.parse().unwrap());
        }
        sender(&headers, &origins())
    }

    #[test]
    fn the_whole_matrix() {
        let (ours, allowed, evil) = (
            Some("https://chat.example"),
            Some("https://app.example"),
            Some("https://evil.example"),
        );
        let expected = [
            // Sec-Fetch-Site, then: no Origin, ours, an allowed one, a foreign one, null.
            (
                None,
                [
                    Sender::Unknown,
                    Sender::Ours,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
            (
                Some("same-origin"),
                [
                    Sender::Ours,
                    Sender::Ours,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
            (
                Some("none"),
                [
                    Sender::Unknown,
                    Sender::Ours,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
            (
                Some("same-site"),
                [
                    Sender::Foreign,
                    Sender::Foreign,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
            (
                Some("cross-site"),
                [
                    Sender::Foreign,
                    Sender::Foreign,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
            (
                Some("?"),
                [
                    Sender::Foreign,
                    Sender::Foreign,
                    Sender::Ours,
                    Sender::Foreign,
                    Sender::Foreign,
                ],
            ),
        ];
        for (site, senders) in expected {
            for (origin, sender) in [None, ours, allowed, evil, Some("null")]
                .into_iter()
                .zip(senders)
            {
                assert_eq!(who(site, origin), sender, "{site:?} {origin:?}");
            }
        }
    }

    #[test]
    fn a_token_speaks_for_the_unknown_alone() {
        assert!(check(Sender::Ours, || Err(refused())).is_ok());
        assert!(check(Sender::Unknown, || Ok(())).is_ok());
        assert!(check(Sender::Unknown, || Err(refused())).is_err());
        assert!(check(Sender::Foreign, || Ok(())).is_err());
        assert!(check_not_foreign(Sender::Unknown).is_ok());
        assert!(check_not_foreign(Sender::Foreign).is_err());
    }
}
