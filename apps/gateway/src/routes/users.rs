//! `/me` and `/users`: one's own account, and a look at others.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use stack_auth::{Me, ProfileUpdate};
use stack_types::{JsonValue, Problem, User, UserId};

use crate::app::AppState;
use crate::http::{ApiResult, InPath, Json, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/me", get(me).patch(change_me))
        .route("/users/{user_id}", get(user))
}

#[derive(Deserialize)]
struct Change {
    display_name: Option<String>,
    settings: Option<JsonValue>,
}

async fn me(State(app): State<AppState>, SignedIn(caller): SignedIn) -> ApiResult<JsonAnswer<Me>> {
    Ok(JsonAnswer(app.auth().me(&caller)?))
}

async fn change_me(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Json(asked): Json<Change>,
) -> ApiResult<JsonAnswer<Me>> {
    let update = ProfileUpdate {
        display_name: asked.display_name,
        settings: asked.settings,
    };
    Ok(JsonAnswer(
        app.auth().update_profile(&caller, update).await?,
    ))
}

async fn user(
    State(app): State<AppState>,
    SignedIn(_): SignedIn,
    InPath(id): InPath<UserId>,
) -> ApiResult<JsonAnswer<User>> {
    let user = app.auth().user(id)?;
    Ok(JsonAnswer(user.ok_or_else(|| {
        Problem::not_found("there is no such user")
    })?))
}
