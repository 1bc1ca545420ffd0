//! Sends whoever comes by plain HTTP on to TLS.

use axum::Router;
use axum::extract::Request;
use http::{HeaderValue, StatusCode, header};

use super::Service;
use crate::config::Origin;

/// Answers every request with the way to the same address at `public`. Where that is does not depend on what the client
/// says of the host, so that nobody is sent elsewhere.
pub(crate) fn router(public: Origin) -> Service {
    Router::new().fallback(move |request: Request| {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        let location = HeaderValue::try_from(format!("{public}{path}"));
        async move {
            let location = location.map_err(|_| StatusCode::BAD_REQUEST)?;
            Ok::<_, StatusCode>((
                StatusCode::PERMANENT_REDIRECT,
                [
                    (header::LOCATION, location),
                    // A person moves on, and nothing else is to be had here.
                    (header::CONNECTION, HeaderValue::from_static("close")),
                ],
            ))
        }
    })
}
