//! `/auth/sessions`: one's own sessions.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use http::StatusCode;
use serde_json::{Value, json};
use stack_types::SessionId;

use super::signed_in;
use crate::app::AppState;
use crate::http::{ApiResult, InPath, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/auth/sessions", get(sessions).delete(revoke_others))
        .route("/auth/sessions/{session_id}", delete(revoke))
}

async fn sessions(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let sessions = app.auth().sessions(&caller)?;
    Ok(JsonAnswer(json!({ "sessions": sessions })))
}

async fn revoke(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(session): InPath<SessionId>,
) -> ApiResult<Response> {
    app.auth().revoke_session(&caller, session, &client).await?;
    if session == caller.session_id {
        return Ok(signed_in::forgotten(&app));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn revoke_others(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
) -> ApiResult<StatusCode> {
    app.auth().revoke_other_sessions(&caller, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}
