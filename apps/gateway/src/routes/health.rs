//! Is it alive, is it ready, what is it. These stand outside `/api`, are never limited and never shed.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use serde_json::json;
use stack_types::{ErrorCode, Limits, Problem};

use crate::app::AppState;
use crate::http::ApiError;

/// The process answers.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

pub(super) async fn ping() -> &'static str {
    "pong"
}

/// The public halves of the keys that sign tokens, for those who check tokens of ours. There are none unless the
/// configuration asks for keys that have one.
pub(super) async fn public_keys(State(app): State<AppState>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/jwk-set+json"),
        (header::CACHE_CONTROL, "public, max-age=300"),
    ];
    (headers, app.auth().public_keys().to_string()).into_response()
}

/// The state of everything the gateway stands on. Always 200 as long as it can answer: what is not well is in the
/// answer. Whether to send it work is `readyz`'s question.
pub(super) async fn health(State(app): State<AppState>) -> Response {
    let checks = app.checks().await;
    let status = if checks.pass() { "ok" } else { "degraded" };
    Json(json!({ "status": status, "checks": checks })).into_response()
}

/// Whether to send it work.
pub(super) async fn readyz(State(app): State<AppState>) -> Response {
    let checks = app.checks().await;
    if checks.pass() {
        return Json(json!({ "status": "ready", "checks": checks })).into_response();
    }
    let detail = if app.is_draining() {
        "the gateway is going down"
    } else {
        "something the gateway stands on does not work"
    };
    ApiError::from(Problem::new(ErrorCode::Unavailable, detail))
        .with("checks", serde_json::to_value(checks).unwrap_or_default())
        .into_response()
}

#[derive(Serialize)]
pub(super) struct Version {
    version: &'static str,
    commit: &'static str,
    protocols: [&'static str; 2],
    limits: Limits,
}

pub(super) async fn version(State(app): State<AppState>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("STACK_BUILD_COMMIT"),
        protocols: crate::ws::SUBPROTOCOLS,
        limits: *app.limits(),
    })
}
