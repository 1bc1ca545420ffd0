//! The cookies of a signed-in browser: what they are called, and how they are set, read and cleared.
//!
//! Under TLS their names bind them to the host (`__Host-`) or at least to TLS (`__Secure-`); both prefixes and the
//! `Secure` attribute are dropped for development on plain-HTTP loopback alone. The access cookie lives as long as
//! the session, not as long as its token: a browser that still sends an ended token is told `token_expired`, and
//! so knows that it need only refresh.
//!
//! The ceremony cookie ties the steps of a sign-in to the browser that began it. It is `Lax`, since an identity
//! provider leads back here from another site.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};

/// The refresh cookie is sent to this route only, under its full address. `/api`, the one path that covers the address
/// without a version too, would send the token along with every call; so a browser refreshes here, and a program that
/// sends its token in the body may leave the version out.
pub(crate) const REFRESH_PATH: &str = "/api/v1/auth/refresh";

/// The names and attributes of our cookies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CookieNames {
    secure: bool,
    access: &'static str,
    refresh: &'static str,
    csrf: &'static str,
    ceremony: &'static str,
}

/// What a request carries of them. Not for the log: they are secrets.
#[derive(Clone, Default)]
pub(crate) struct Carried {
    /// The access token.
    pub(crate) access: Option<String>,
    /// The refresh token.
    pub(crate) refresh: Option<String>,
    /// The CSRF token.
    pub(crate) csrf: Option<String>,
    /// The secret of the browser that began a sign-in. It proves nothing of who calls.
    pub(crate) ceremony: Option<String>,
}

impl Carried {
    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        self.access.is_some() || self.refresh.is_some() || self.csrf.is_some()
    }
}

impl CookieNames {
    /// The names under TLS, or for plain-HTTP loopback.
    pub(crate) fn new(secure: bool) -> Self {
        if secure {
            Self {
                secure,
                access: "__Host-stack_access",
                refresh: "__Secure-stack_refresh",
                csrf: "stack_csrf",
                ceremony: "__Host-stack_ceremony",
            }
        } else {
            Self {
                secure,
                access: "stack_access",
                refresh: "stack_refresh",
                csrf: "stack_csrf",
                ceremony: "stack_ceremony",
            }
        }
    }

    /// Our cookies of a request. Of two with one name the first counts: browsers send the one with the longer,
    /// that is the more exact, path first.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Carried {
        let mut carried = Carried::default();
        let values = headers
            .get_all(header::COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        for cookie in values.flat_map(Cookie::split_parse).flatten() {
            let slot = match cookie.name() {
                name if name == self.access => &mut carried.access,
                name if name == self.refresh => &mut carried.refresh,
                name if name == self.csrf => &mut carried.csrf,
                name if name == self.ceremony => &mut carried.ceremony,
                _ => continue,
            };
            if slot.is_none() {
                *slot = Some(cookie.value().to_owned());
            }
        }
        carried
    }

    /// Sets the access cookie.
    pub(crate) fn set_access(&self, headers: &mut HeaderMap, token: &str, lives: Duration) {
        append(headers, &self.access_cookie(token, lives));
    }

    /// Sets the refresh cookie.
    pub(crate) fn set_refresh(&self, headers: &mut HeaderMap, token: &str, lives: Duration) {
        append(headers, &self.refresh_cookie(token, lives));
    }

    /// Sets the cookie that scripts of ours read and repeat in a header.
    pub(crate) fn set_csrf(&self, headers: &mut HeaderMap, token: &str, lives: Duration) {
        append(headers, &self.csrf_cookie(token, lives));
    }

    /// Sets the cookie that a begun sign-in is tied to.
    pub(crate) fn set_ceremony(&self, headers: &mut HeaderMap, secret: &str, lives: Duration) {
        let cookie = self.cookie(self.ceremony, secret, lives, "/", SameSite::Lax, true);
        append(headers, &cookie);
    }

    /// Makes the browser forget who is signed in. A sign-in that it has begun goes on.
    pub(crate) fn clear(&self, headers: &mut HeaderMap) {
        append(headers, &self.access_cookie("", Duration::ZERO));
        append(headers, &self.refresh_cookie("", Duration::ZERO));
        append(headers, &self.csrf_cookie("", Duration::ZERO));
    }

    fn access_cookie<'a>(&self, token: &'a str, lives: Duration) -> Cookie<'a> {
        self.cookie(self.access, token, lives, "/", SameSite::Lax, true)
    }

    fn refresh_cookie<'a>(&self, token: &'a str, lives: Duration) -> Cookie<'a> {
        self.cookie(
            self.refresh,
            token,
            lives,
            REFRESH_PATH,
            SameSite::Strict,
            true,
        )
    }

    fn csrf_cookie<'a>(&self, token: &'a str, lives: Duration) -> Cookie<'a> {
        self.cookie(self.csrf, token, lives, "/", SameSite::Strict, false)
    }

    fn cookie<'a>(
        &self,
        name: &'static str,
        value: &'a str,
        lives: Duration,
        path: &'static str,
        same_site: SameSite,
        http_only: bool,
    ) -> Cookie<'a> {
        let seconds = i64::try_from(lives.as_secs()).unwrap_or(i64::MAX);
        Cookie::build((name, value))
            .path(path)
            .max_age(cookie::time::Duration::seconds(seconds))
            .same_site(same_site)
            .secure(self.secure)
            .http_only(http_only)
            .build()
    }
}

fn append(headers: &mut HeaderMap, cookie: &Cookie<'_>) {
    // Tokens are base 64 and dots, which a header value can hold.
    if let Ok(value) = HeaderValue::from_str(&cookie.to_string()) {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(secure: bool) -> Vec<String> {
        let names = CookieNames::new(secure);
        let mut headers = HeaderMap::new();
        names.set_access(&mut headers, "a.b", Duration::from_secs(60));
        names.set_refresh(&mut headers, "r", Duration::from_secs(60));
        names.set_csrf(&mut headers, "c", Duration::from_secs(60));
        names.set_ceremony(&mut headers, "s", Duration::from_secs(60));
        headers
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn attributes_are_those_of_the_security_page() {
        assert_eq!(
            set(true),
            [
                "__Host-stack_access=a.b; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60",
                "__Secure-stack_refresh=r; HttpOnly; SameSite=Strict; Secure; Path=/api/v1/auth/refresh; Max-Age=60",
                "stack_csrf=c; SameSite=Strict; Secure; Path=/; Max-Age=60",
                "__Host-stack_ceremony=s; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60",
            ]
        );
        assert_eq!(
            set(false)[0],
            "stack_access=a.b; HttpOnly; SameSite=Lax; Path=/; Max-Age=60"
        );
    }

    #[test]
    fn reading_takes_ours_and_survives_the_rest() {
        let names = CookieNames::new(false);
        let mut headers = HeaderMap::new();
        let line = "theme=dark; stack_access=one; ;=;x; stack_access=two; __Host-stack_access=no; stack_csrf=c";
        headers.append(header::COOKIE, line.parse().unwrap());
        headers.append(
            header::COOKIE,
            HeaderValue::from_bytes(b"stack_refresh=\xff").unwrap(),
        );
        let carried = names.read(&headers);
        assert_eq!(carried.access.as_deref(), Some("one"));
        assert_eq!(carried.csrf.as_deref(), Some("c"));
        assert_eq!(carried.refresh, None);
        assert!(!names.read(&HeaderMap::new()).any());
    }
}
