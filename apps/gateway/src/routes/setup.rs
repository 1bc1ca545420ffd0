//! `/setup`: the first run, for whoever has the setup link.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{Delivery, PasskeysOff, SetUpByPassword, SetupPerson};

use super::passkeys::Answered;
use super::signed_in;
use crate::app::AppState;
use crate::http::{ApiResult, Identity, Json, Sender, browser};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/setup", get(look))
        .route("/setup/password", post(by_password))
        .route("/setup/passkey/begin", post(begin))
        .route("/setup/passkey/finish", post(by_passkey))
}

#[derive(Deserialize)]
struct FirstAdmin {
    token: String,
    username: String,
    email: Option<String>,
    display_name: Option<String>,
    password: Option<String>,
    token_delivery: Option<Delivery>,
}

impl FirstAdmin {
    fn person(self) -> SetupPerson {
        SetupPerson {
            token: self.token,
            username: self.username,
            email: self.email,
            display_name: self.display_name,
        }
    }
}

/// Whether somebody has to set the server up, and whether they can do it with a passkey.
async fn look(State(app): State<AppState>) -> ApiResult<JsonAnswer<Value>> {
    let off = app.auth().passkeys_off();
    let mut answer = json!({
        "open": app.auth().setup_is_open().await?,
        "passkeys": off.is_none(),
    });
    if let Some(reason) = off.map(PasskeysOff::as_str) {
        answer["reason"] = reason.into();
    }
    Ok(JsonAnswer(answer))
}

async fn by_password(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(mut asked): Json<FirstAdmin>,
) -> ApiResult<Response> {
    app.rates().redeem(client.ip)?;
    let asked = SetUpByPassword {
        password: asked.password.take().unwrap_or_default(),
        delivery: asked.token_delivery.unwrap_or_default(),
        person: asked.person(),
    };
    let tokens = app.auth().set_up_by_password(asked, &client).await?;
    signed_in::answer(&app, StatusCode::CREATED, tokens, &identity)
}

async fn begin(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    headers: HeaderMap,
    Json(asked): Json<FirstAdmin>,
) -> ApiResult<Response> {
    app.rates().redeem(client.ip)?;
    let (browser, cookie) = browser::begins(&app, &identity, &headers)?;
    let begun = app.auth().begin_setup(asked.person(), browser.as_deref());
    Ok((cookie, JsonAnswer(begun.await?)).into_response())
}

async fn by_passkey(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(answered): Json<Answered>,
) -> ApiResult<Response> {
    let browser = identity.cookies.ceremony.as_deref();
    let (answer, delivery) = answered.made()?;
    let tokens = app
        .auth()
        .set_up_by_passkey(answer, delivery, browser, &client);
    signed_in::answer(&app, StatusCode::CREATED, tokens.await?, &identity)
}
