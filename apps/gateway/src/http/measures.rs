//! What is measured, as Prometheus text: on the addresses of everything else, or on those of its own that the
//! configuration says; with a token, if it says one.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Router;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode, header};
use stack_types::{ErrorCode, Problem};

use super::{ApiError, identity, problem, request_id};
use crate::config::Secret;
use crate::metrics::CONTENT_TYPE;
use crate::reload::Live;

/// Tells the measures.
pub(crate) type Teller = Arc<dyn Fn() -> Result<Vec<u8>, prometheus::Error> + Send + Sync>;

/// The route where everything else is, for a router with any state. Where the measures have addresses of their own it says
/// that there is nothing, as for any unknown address, and does not leave it to who answers those.
pub(crate) fn route<S: Clone + Send + Sync + 'static>(
    has_own_addresses: bool,
    live: &Live,
    teller: Teller,
) -> Router<S> {
    let nothing = any(async || StatusCode::NOT_FOUND);
    match has_own_addresses {
        true => Router::new().route("/metrics", nothing),
        false => told(live, teller),
    }
}

/// What is answered on addresses of their own: the measures, and nothing else.
pub(crate) fn router(live: &Live, teller: Teller) -> Router {
    told(live, teller)
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(from_fn(problem::render))
        .layer(from_fn(request_id::assign))
}

fn told<S: Clone + Send + Sync + 'static>(live: &Live, teller: Teller) -> Router<S> {
    let live = live.clone();
    let handler = async move |headers: HeaderMap| answer(&live, &headers, &teller);
    Router::new().route("/metrics", get(handler))
}

fn answer(live: &Live, headers: &HeaderMap, teller: &Teller) -> Result<Response, ApiError> {
    if let Some(token) = live.metrics_token()
        && !shows(headers, &token)
    {
        let detail = "the measures are for who shows the bearer token of metrics.token";
        return Err(Problem::new(ErrorCode::Unauthenticated, detail).into());
    }
    let text = teller().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

/// Whether the request has this token. How long that takes does not tell where another one differs.
fn shows(headers: &HeaderMap, token: &Secret) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(identity::bearer);
    let token = token.expose().as_bytes();
    given.is_some_and(|given| verify_slices_are_equal(given.as_bytes(), token).is_ok())
}
