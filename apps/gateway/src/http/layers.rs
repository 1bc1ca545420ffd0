//! The layers around the routes, from the outside in, and why they stand in this order:
//!
//! 1. `/api/…` gets its version, since everything after it goes by the route.
//! 2. The request id: every later line of the log and every answer has one.
//! 3. The span of the request, and the one line that says how it ended.
//! 4. What is left of the body after the answer, whoever gave it.
//! 5. Security headers, on errors too.
//! 6. CORS, so that a page that may call can also read why it was refused; it answers preflights itself.
//! 7. Compression, of whatever comes out below, problems included.
//! 8. Problems get their body: everything below may answer with a bare status or an `ApiError`.
//! 9. A panic is caught and becomes such an error.
//! 10. What found no place on its connection goes no further.
//!
//! Inside, around the API alone: each request within its time, and behind its body at most so many at once (what is too
//! much is shed, not queued). A request whose body is on its way takes no turn: who sends slowly would keep others out
//! for next to nothing. Health checks are not shed, the web client needs no time-out, and a socket outlives both.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::BoxError;
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, header};
use stack_types::{ErrorCode, Problem};
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::load_shed::error::Overloaded;
use tower::timeout::TimeoutLayer;
use tower::util::MapRequestLayer;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::csrf::X_CSRF_TOKEN;
use super::problem::{self, ApiError};
use super::request_id::{self, X_REQUEST_ID};
use super::{crowded, headers, leftover, rewrite, trace};
use crate::app::AppState;
use crate::otlp::TRACEPARENT;

/// Below this a body travels in one packet anyway.
const COMPRESSED_ABOVE_BYTES: u64 = 860;

/// How long a browser may remember a preflight.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Puts the layers around all routes.
pub(crate) fn around(routes: Router<AppState>, app: &AppState) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn(request_id::assign))
        .layer(from_fn_with_state(app.clone(), trace::span))
        .layer(from_fn(leftover::settle))
        .layer(from_fn_with_state(app.clone(), headers::add))
        .layer(cors(app))
        .layer(compression())
        .layer(from_fn(problem::render))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(crowded::refuse));
    let routes = routes
        .layer(layers)
        // Bodies are measured where they are read; see `http::body`.
        .layer(DefaultBodyLimit::disable())
        .with_state(app.clone());
    // Layers of a router run behind its routing, so that the rewriting has to stand around the whole router.
    Router::new().fallback_service(
        ServiceBuilder::new()
            .layer(MapRequestLayer::new(rewrite::version))
            .service(routes),
    )
}

/// Puts the layers around the API.
pub(crate) fn api(routes: Router<AppState>, app: &AppState) -> Router<AppState> {
    routes.layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(not_carried_out))
            .layer(TimeoutLayer::new(app.config().http.timeout)),
    )
}

/// Puts the layers around what is carried out once it is known who calls and all of the body is here.
pub(crate) fn carried_out(routes: Router<AppState>, app: &AppState) -> Router<AppState> {
    let at_once = app.config().http.concurrent_requests;
    routes.route_layer(
        ServiceBuilder::new()
            .layer(HandleErrorLayer::new(not_carried_out))
            .layer(LoadShedLayer::new())
            .layer(GlobalConcurrencyLimitLayer::new(at_once)),
    )
}

fn cors(app: &AppState) -> CorsLayer {
    let origins = app.origins().clone();
    let allowed = move |origin: &HeaderValue, _: &http::request::Parts| {
        origin
            .to_str()
            .is_ok_and(|origin| origins.is_own(origin) || origins.is_allowed(origin))
    };
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            X_CSRF_TOKEN,
            X_REQUEST_ID,
            TRACEPARENT,
        ])
        .expose_headers([header::RETRY_AFTER, X_REQUEST_ID, TRACEPARENT])
        .vary([header::ORIGIN])
        .max_age(PREFLIGHT_MAX_AGE)
}

fn compression() -> CompressionLayer<impl Predicate> {
    let predicate = SizeAbove::new(COMPRESSED_ABOVE_BYTES)
        .and(NotForContentType::IMAGES)
        .and(NotForContentType::const_new("font/"))
        // A page is small; that its length tells nothing of what stands in it need not be argued (BREACH).
        .and(NotForContentType::const_new("text/html"));
    // The libraries' own best levels are for files that are compressed once and served often.
    CompressionLayer::new()
        .quality(CompressionLevel::Precise(4))
        .compress_when(predicate)
}

async fn not_carried_out(error: BoxError) -> ApiError {
    if error.is::<tower::timeout::error::Elapsed>() {
        Problem::new(ErrorCode::Timeout, "this took too long").into()
    } else if error.is::<Overloaded>() {
        Problem::new(
            ErrorCode::Unavailable,
            "the gateway has too much to do, come back soon",
        )
        .into()
    } else {
        Problem::internal(Layer(error)).into()
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "without a message".into());
    ApiError::from(Problem::internal(Panicked(message))).into_response()
}

/// A handler panicked.
#[derive(Debug)]
struct Panicked(String);

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a handler panicked: {}", self.0)
    }
}

impl Error for Panicked {}

/// A layer failed in a way of its own.
#[derive(Debug)]
struct Layer(BoxError);

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a layer around the handler failed")
    }
}

impl Error for Layer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}
