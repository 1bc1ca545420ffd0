//! `/auth/recover`: getting back in with a link from an admin. The secret stands in the fragment of the link, which no
//! server and no log gets to see; the page sends it as a body.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{Delivery, Recovery, RecoveryLink, RecoveryLook};
use stack_types::UserId;

use super::signed_in;
use crate::app::{App, AppState};
use crate::http::{ApiResult, Identity, InPath, Json, OptionalJson, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/users/{user_id}/recovery", post(make))
        .route("/auth/recover", post(recover))
        .route("/auth/recover/look", post(look))
}

#[derive(Default, Deserialize)]
struct Make {
    #[serde(default)]
    reset_second_factor: bool,
}

#[derive(Deserialize)]
struct Look {
    token: String,
}

#[derive(Deserialize)]
struct Recover {
    token: String,
    new_password: String,
    token_delivery: Option<Delivery>,
}

/// A link as its maker passes it on.
pub(super) fn told(app: &App, link: &RecoveryLink) -> Value {
    json!({
        "url": format!("{}/recover#{}", app.origins().public(), link.token),
        "expires_at": link.expires_at,
    })
}

async fn make(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(user): InPath<UserId>,
    OptionalJson(asked): OptionalJson<Make>,
) -> ApiResult<(StatusCode, JsonAnswer<Value>)> {
    let auth = app.auth();
    let link = auth
        .make_recovery_link(&caller, user, asked.reset_second_factor, &client)
        .await?;
    Ok((StatusCode::CREATED, JsonAnswer(told(&app, &link))))
}

async fn look(
    State(app): State<AppState>,
    Sender(client): Sender,
    Json(asked): Json<Look>,
) -> ApiResult<JsonAnswer<RecoveryLook>> {
    app.rates().look(client.ip)?;
    Ok(JsonAnswer(app.auth().look_at_recovery(&asked.token)?))
}

async fn recover(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(asked): Json<Recover>,
) -> ApiResult<Response> {
    app.rates().redeem(client.ip)?;
    let recovery = Recovery {
        token: asked.token,
        new_password: asked.new_password,
        delivery: asked.token_delivery.unwrap_or_default(),
    };
    let got = app.auth().recover(recovery, &client).await?;
    signed_in::answer_login(&app, got, &identity)
}
