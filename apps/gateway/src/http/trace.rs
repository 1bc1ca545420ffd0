//! One span, one log line and one measurement a request. A line never holds the path as the client wrote it, nor its
//! query: people and one-time tickets stand there. It holds the route, and who called and in which room once that is known.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;
use tracing::field::Empty;

use super::Peer;
use super::request_id::RequestId;
use crate::app::AppState;
use crate::metrics::{self, Metrics};
use crate::otlp::{self, TRACEPARENT, Traced};

/// Middleware: opens the span that every log line of the request stands in, and logs and counts its end.
pub(crate) async fn span(State(app): State<AppState>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_default();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("-", MatchedPath::as_str);
    let method = request.method().clone();
    // Probes and the files of the web client, which have no route, come all the time and say little.
    let is_api = route.starts_with("/api/");
    let traced = match app.tracer() {
        Some(_) if is_api => trace_of(&app, &request, route),
        _ => None,
    };
    // At the highest level, so that no filter takes the request's id from an error.
    let span = tracing::error_span!(
        "request",
        request_id = id.as_str(),
        method = metrics::method(&method),
        route,
        user = Empty,
        room = Empty,
    );
    async move {
        let mut response = match &traced {
            None => next.run(request).await,
            // Boxed: whoever is not traced keeps no room for it.
            Some(traced) => Box::pin(otlp::follow(traced.clone(), next.run(request))).await,
        };
        let status = response.status();
        let took = started.elapsed();
        app.measures().requests().answered(
            &method,
            matched.as_ref().map_or("-", MatchedPath::as_str),
            status,
            took,
        );
        if let Some(traced) = traced {
            traced.answered(id.as_str(), status.as_u16());
            if let Some(header) = traced.header() {
                response.headers_mut().insert(TRACEPARENT, header);
            }
        }
        let status = status.as_u16();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
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

/// On an answer that another gateway gave, which has counted it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnsweredElsewhere;

/// [`span`] at an edge. What the origin answers is measured and traced there, what the edge answers itself here.
pub(crate) async fn span_at_edge(
    State(measures): State<Metrics>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let id = request.extensions().get::<RequestId>().cloned();
    let span = tracing::error_span!(
        "request",
        request_id = id.unwrap_or_default().as_str(),
        method = metrics::method(&method),
    );
    async move {
        let response = next.run(request).await;
        let took = started.elapsed();
        if response.extensions().get::<AnsweredElsewhere>().is_none() {
            let route = matched.as_ref().map_or("-", MatchedPath::as_str);
            let requests = measures.requests();
            requests.answered(&method, route, response.status(), took);
        }
        let status = response.status().as_u16();
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(status, duration_ms, "answered {status} in {duration_ms} ms");
        response
    }
    .instrument(span)
    .await
}

fn trace_of(app: &AppState, request: &Request, route: &str) -> Option<Arc<Traced>> {
    let peer = request.extensions().get::<Peer>()?.0.ip();
    let method = metrics::method(request.method());
    app.tracer()?
        .request(request.headers(), peer, method, route)
}
