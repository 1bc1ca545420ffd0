//! `/auth/totp` and what goes with it: the second factor, and showing again who one is.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{SecondFactor, SecondFactorView, TotpEnrollment};

use super::signed_in;
use crate::app::AppState;
use crate::http::{ApiResult, Identity, Json, OptionalJson, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/auth/login/second-factor", post(finish_login))
        .route("/auth/reauthenticate", post(reauthenticate))
        .route("/auth/totp", get(view).delete(remove))
        .route("/auth/totp/enroll", post(enroll))
        .route("/auth/totp/confirm", post(confirm))
        .route("/auth/recovery-codes", post(new_codes))
}

#[derive(Deserialize)]
struct Second {
    ticket: String,
    code: String,
}

#[derive(Deserialize)]
struct Again {
    password: String,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Code {
    code: String,
}

#[derive(Default, Deserialize)]
struct Password {
    password: Option<String>,
}

async fn finish_login(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(asked): Json<Second>,
) -> ApiResult<Response> {
    match app.auth().user_of_ticket(&asked.ticket)? {
        Some(user) => app.rates().second_factor(user)?,
        None => app.rates().no_ticket(&asked.ticket)?,
    }
    let second = SecondFactor {
        ticket: asked.ticket,
        code: asked.code,
    };
    let tokens = app.auth().finish_login(second, &client).await?;
    signed_in::answer(&app, StatusCode::OK, tokens, &identity)
}

async fn reauthenticate(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Again>,
) -> ApiResult<StatusCode> {
    app.rates().own_password(caller.user.id)?;
    if asked.code.is_some() {
        app.rates().second_factor(caller.user.id)?;
    }
    app.auth()
        .reauthenticate(&caller, asked.password, asked.code, &client)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<SecondFactorView>> {
    Ok(JsonAnswer(app.auth().second_factor(&caller)?))
}

async fn enroll(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<TotpEnrollment>> {
    let site_name = &app.config().site_name;
    Ok(JsonAnswer(
        app.auth().enroll_totp(&caller, site_name).await?,
    ))
}

async fn confirm(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Code>,
) -> ApiResult<JsonAnswer<Value>> {
    app.rates().second_factor(caller.user.id)?;
    let codes = app
        .auth()
        .confirm_totp(&caller, &asked.code, &client)
        .await?;
    Ok(JsonAnswer(json!({ "recovery_codes": codes })))
}

async fn remove(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    OptionalJson(asked): OptionalJson<Password>,
) -> ApiResult<StatusCode> {
    app.rates().own_password(caller.user.id)?;
    app.auth()
        .remove_totp(&caller, asked.password, &client)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn new_codes(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
) -> ApiResult<JsonAnswer<Value>> {
    let codes = app.auth().new_recovery_codes(&caller, &client).await?;
    Ok(JsonAnswer(json!({ "recovery_codes": codes })))
}
