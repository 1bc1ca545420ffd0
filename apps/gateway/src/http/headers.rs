//! Headers that every answer carries: what a browser may do with it, and whether it may be kept.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::app::AppState;
use crate::http::origin::Origins;

/// The headers, made once.
#[derive(Debug, Clone)]
pub(crate) struct SecurityHeaders(Vec<(HeaderName, HeaderValue)>);

/// A year, as browsers' preload lists ask for at least.
const HSTS: &str = "max-age=31536000; includeSubDomains";

impl SecurityHeaders {
    /// The headers of a gateway with these origins.
    pub(crate) fn new(origins: &Origins) -> Self {
        let mut headers = vec![
            (
                header::X_CONTENT_TYPE_OPTIONS,
                HeaderValue::from_static("nosniff"),
            ),
            // Not `no-referrer`: under that some requests of our own pages would say `Origin: null`.
            (
                header::REFERRER_POLICY,
                HeaderValue::from_static("same-origin"),
            ),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                HeaderValue::from_static("same-origin"),
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                HeaderValue::from_static("same-origin"),
            ),
        ];
        if let Ok(policy) = HeaderValue::try_from(content_security_policy(origins)) {
            headers.push((header::CONTENT_SECURITY_POLICY, policy));
        }
        if origins.public().is_https() {
            headers.push((
                header::STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static(HSTS),
            ));
        }
        Self(headers)
    }
}

impl SecurityHeaders {
    /// Adds them to an answer.
    pub(crate) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.0 {
            headers.insert(name, value.clone());
        }
        headers
            .entry(header::CACHE_CONTROL)
            .or_insert(HeaderValue::from_static("no-store"));
    }
}

/// Everything from here and nothing inline; pictures may also be data, which the client makes itself. The socket is
/// named, since some browsers do not count `ws:` of the same host as `'self'`; an IPv6 address cannot be named there.
fn content_security_policy(origins: &Origins) -> String {
    let sockets: Vec<String> = origins
        .own()
        .iter()
        .filter(|origin| !origin.as_str().contains('['))
        .map(|origin| origin.as_str().replacen("http", "ws", 1))
        .collect();
    format!(
        "default-src 'self'; img-src 'self' data: blob:; connect-src 'self' {}; object-src 'none'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'",
        sockets.join(" ")
    )
}

/// Middleware: adds them. What has not said how long it may be kept is not kept: answers of the API are a person's.
pub(crate) async fn add(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    app.security_headers().add_to(response.headers_mut());
    response
}
