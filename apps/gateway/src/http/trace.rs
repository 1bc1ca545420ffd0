//! One span and one log line a request. A line never holds the path as the client wrote it, nor its query: rooms,
//! people and one-time tickets stand there. It holds the route.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::request_id::RequestId;

/// Middleware: opens the span that every log line of the request stands in, and logs its end.
pub(crate) async fn span(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_default();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("-", MatchedPath::as_str);
    // Probes and the files of the web client, which have no route, come all the time and say little.
    let is_api = route.starts_with("/api/");
    // At the highest level, so that no filter takes the request's id from an error.
    let span = tracing::error_span!(
        "request",
        request_id = id.as_str(),
        method = %request.method(),
        route,
    );
    async move {
        let response = next.run(request).await;
        let status = response.status().as_u16();
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        if is_api {
            tracing::info!(status, duration_ms, "answered {status} in {duration_ms} ms");
        } else {
            tracing::debug!(status, duration_ms, "answered {status} in {duration_ms} ms");
        }
        response
    }
    .instrument(span)
    .await
}
