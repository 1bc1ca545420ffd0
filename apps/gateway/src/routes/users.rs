//! `/me` and `/users`: one's own account, and a look at others.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{Me, ProfileUpdate};
use stack_types::{JsonValue, Problem, User, UserId, Username};

use crate::app::AppState;
use crate::http::{ApiResult, InPath, Json, Query, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/me", get(me).patch(change_me))
        .route("/users", get(by_name))
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

#[derive(Deserialize)]
struct Name {
    username: Username,
}

/// People find somebody by their whole name; there is no list of everybody to walk through.
async fn by_name(
    State(app): State<AppState>,
    SignedIn(_): SignedIn,
    Query(name): Query<Name>,
) -> ApiResult<JsonAnswer<Value>> {
    let found = app.auth().user_by_name(&name.username)?;
    let users: Vec<User> = found.into_iter().collect();
    Ok(JsonAnswer(json!({ "users": users })))
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
