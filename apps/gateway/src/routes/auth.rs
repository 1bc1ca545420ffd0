//! `/auth`: accounts and tokens.

use std::time::Duration;

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use stack_auth::{Delivery, Login, Register, WsTicket};
use stack_types::{ErrorCode, Problem};

use super::{invites, signed_in};
use crate::app::AppState;
use crate::http::{ApiError, ApiResult, Identity, Json, OptionalJson, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/auth/register", post(register))
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(refresh))
        .route("/auth/password", post(change_password))
        .route("/auth/logout", post(logout))
        .route("/auth/ticket", post(ticket))
        .route("/auth/csrf", get(csrf))
}

#[derive(Deserialize)]
struct Registration {
    username: String,
    password: String,
    email: Option<String>,
    display_name: Option<String>,
    invite: Option<String>,
    token_delivery: Option<Delivery>,
}

#[derive(Deserialize)]
struct Credentials {
    login: String,
    password: String,
    token_delivery: Option<Delivery>,
}

#[derive(Default, Deserialize)]
struct Refresh {
    refresh_token: Option<String>,
}

#[derive(Deserialize)]
struct NewPassword {
    current_password: Option<String>,
    new_password: String,
}

async fn register(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(asked): Json<Registration>,
) -> ApiResult<Response> {
    let register = Register {
        username: asked.username,
        password: asked.password,
        email: asked.email,
        display_name: asked.display_name,
        invite: asked.invite.clone(),
        delivery: asked.token_delivery.unwrap_or_default(),
    };
    let tokens = app.auth().register(register, &client).await?;
    invites::bring_in(&app, asked.invite.as_deref(), tokens.user.id).await;
    signed_in::answer(&app, StatusCode::CREATED, tokens, &identity)
}

async fn login(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(asked): Json<Credentials>,
) -> ApiResult<Response> {
    app.rates().login(client.ip)?;
    let login = Login {
        login: asked.login,
        password: asked.password,
        delivery: asked.token_delivery.unwrap_or_default(),
    };
    let got = app.auth().login(login, &client).await?;
    signed_in::answer_login(&app, got, &identity)
}

/// The token of the body counts, if there is one. When the token of a cookie turns out to be worth nothing any more,
/// the browser is told to forget it; a fault on our side leaves it alone.
async fn refresh(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    OptionalJson(asked): OptionalJson<Refresh>,
) -> ApiResult<Response> {
    let delivery = match asked.refresh_token {
        None => Delivery::Cookie,
        Some(_) => Delivery::Body,
    };
    let token = asked
        .refresh_token
        .or_else(|| identity.cookies.refresh.clone())
        .ok_or_else(|| Problem::new(ErrorCode::Unauthenticated, "there is no refresh token"))?;
    app.rates()
        .refresh(app.auth().session_of_refresh(&token), &token)?;
    match app.auth().refresh(&token, delivery, &client).await {
        Ok(tokens) => signed_in::answer(&app, StatusCode::OK, tokens, &identity),
        Err(refused) if delivery == Delivery::Cookie && refused.code.http_status() == 401 => {
            let mut headers = HeaderMap::new();
            app.cookies().clear(&mut headers);
            Ok((headers, ApiError::from(refused)).into_response())
        }
        Err(problem) => Err(problem.into()),
    }
}

async fn change_password(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<NewPassword>,
) -> ApiResult<StatusCode> {
    app.rates().own_password(caller.user.id)?;
    app.auth()
        .change_password(&caller, asked.current_password, asked.new_password, &client)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn logout(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
) -> ApiResult<Response> {
    app.auth().logout(&caller, &client).await?;
    Ok(signed_in::forgotten(&app))
}

async fn ticket(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<WsTicket>> {
    app.rates().ticket(caller.user.id)?;
    Ok(JsonAnswer(app.auth().issue_ws_ticket(&caller)?))
}

/// A token that is good is told again rather than replaced: another tab may be about to send it.
async fn csrf(State(app): State<AppState>, identity: Identity) -> ApiResult<Response> {
    let session = identity
        .caller
        .as_ref()
        .ok()
        .map(|caller| caller.session_id);
    let token = signed_in::csrf_token(&app, &identity, session)?;
    let mut headers = HeaderMap::new();
    app.cookies().set_csrf(&mut headers, &token, SIGN_IN_PAGE);
    Ok((headers, JsonAnswer(json!({ "csrf_token": token }))).into_response())
}

/// How long a CSRF cookie lives that was asked for; signing in sets one for as long as the session.
const SIGN_IN_PAGE: Duration = Duration::from_secs(24 * 60 * 60);
