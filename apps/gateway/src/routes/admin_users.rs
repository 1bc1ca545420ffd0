//! `/admin/users`: accounts as admins look after them.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, patch};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{AccountQuery, AccountView, MakeAccount};
use stack_types::{GlobalRole, Problem, UserId};

use super::recovery;
use crate::app::AppState;
use crate::http::{ApiResult, InPath, Json, Query, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/users", get(list).post(make))
        .route("/admin/users/{user_id}", patch(change))
}

#[derive(Deserialize)]
struct Which {
    after: Option<UserId>,
    limit: Option<u64>,
    q: Option<String>,
}

#[derive(Deserialize)]
struct Make {
    username: String,
    email: Option<String>,
    display_name: Option<String>,
    role: Option<GlobalRole>,
}

#[derive(Deserialize)]
struct Change {
    role: Option<GlobalRole>,
    disabled: Option<bool>,
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Query(which): Query<Which>,
) -> ApiResult<JsonAnswer<Value>> {
    let query = AccountQuery {
        after: which.after,
        limit: which.limit,
        part: which.q,
    };
    let users = app.auth().accounts(&caller, query).await?;
    Ok(JsonAnswer(json!({ "users": users })))
}

async fn make(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Make>,
) -> ApiResult<(StatusCode, JsonAnswer<Value>)> {
    let make = MakeAccount {
        username: asked.username,
        email: asked.email,
        display_name: asked.display_name,
        role: asked.role,
    };
    let (account, link) = app.auth().make_account(&caller, make, &client).await?;
    let mut answer = recovery::told(&app, &link);
    answer["user"] = serde_json::to_value(account).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, JsonAnswer(answer)))
}

async fn change(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(user): InPath<UserId>,
    Json(asked): Json<Change>,
) -> ApiResult<JsonAnswer<AccountView>> {
    let auth = app.auth();
    // Who is to be kept out is so first, and who is let in again last: a refusal in between leaves nobody with more.
    if asked.disabled == Some(true) {
        auth.disable(&caller, user, true, &client).await?;
    }
    if let Some(role) = asked.role {
        auth.set_role(&caller, user, role, &client).await?;
    }
    if asked.disabled == Some(false) {
        auth.disable(&caller, user, false, &client).await?;
    }
    Ok(JsonAnswer(app.auth().account(&caller, user)?))
}
