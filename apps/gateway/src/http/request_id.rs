//! The id of a request: on every answer, in every log line of it, and in every problem.

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it, in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// An id of 1 to 64 characters of `A-Z a-z 0-9 _ -`: safe in a header, a log line and JSON as it is.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(Arc<str>);

impl RequestId {
    const MAX_BYTES: usize = 64;

    /// A new random id.
    pub(crate) fn generate() -> Self {
        let mut random = [0u8; 12];
        // Without randomness the id is only less useful; nothing is guarded by it.
        let _ = getrandom::fill(&mut random);
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(text.into())
    }

    /// The client's id, when it is a sane one, or else a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        headers
            .get(X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|text| (1..=Self::MAX_BYTES).contains(&text.len()))
            .filter(|text| {
                text.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
            })
            .map_or_else(Self::generate, |text| Self(text.into()))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A new id: whoever asks for an id that is not there gets one, rather than none.
impl Default for RequestId {
    fn default() -> Self {
        Self::generate()
    }
}

/// Middleware: gives the request its id, and the answer too.
pub(crate) async fn assign(mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    request.extensions_mut().insert(id.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).unwrap());
        RequestId::of(&headers).as_str().to_owned()
    }

    #[test]
    fn a_sane_id_is_kept_and_any_other_replaced() {
        let longest = "a".repeat(64);
        for sane in ["a", "A-b_9", longest.as_str()] {
            assert_eq!(of(sane.as_bytes()), sane);
        }
        let too_long = "a".repeat(65);
        for other in [&b""[..], b"a b", b"a\xff", b"a;b", too_long.as_bytes()] {
            let id = of(other);
            assert_eq!(id.len(), 24, "{other:?} gave {id}");
        }
        assert_ne!(of(b""), of(b""));
    }
}
