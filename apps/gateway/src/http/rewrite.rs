//! `/api/…` without a version means the newest one. Rewritten before routing, so that both are the same route.

use axum::extract::Request;
use http::Uri;
use http::uri::PathAndQuery;

const NEWEST: &str = "/api/v1/";

/// Puts the version into a path that has none.
pub(crate) fn version(mut request: Request) -> Request {
    if let Some(uri) = with_version(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

fn with_version(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix("/api/")?;
    let first = rest.split('/').next().unwrap_or(rest);
    if is_version(first) {
        return None;
    }
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let path: PathAndQuery = format!("{NEWEST}{rest}{query}").parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).ok()
}

/// `v1`, and also versions that we do not have: those are not found, not rewritten.
fn is_version(segment: &str) -> bool {
    segment.strip_prefix('v').is_some_and(|digits| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_missing_version_is_put_in() {
        let rewritten = |uri: &str| with_version(&uri.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(
            rewritten("/api/rooms/a%20b?x=1&y").as_deref(),
            Some("/api/v1/rooms/a%20b?x=1&y")
        );
        assert_eq!(
            rewritten("/api/version").as_deref(),
            Some("/api/v1/version")
        );
        assert_eq!(
            rewritten("http://h/api/me").as_deref(),
            Some("http://h/api/v1/me")
        );
        for same in [
            "/api/v1/rooms",
            "/api/v2/rooms",
            "/api/v1",
            "/api",
            "/apis/x",
            "/rooms",
            "/",
        ] {
            assert_eq!(rewritten(same), None, "{same}");
        }
    }
}
