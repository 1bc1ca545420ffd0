//! The answer to every way of signing in: a pair of tokens, as cookies or in the body.

use std::time::Duration;

use axum::Json as JsonAnswer;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use stack_auth::{Delivery, OwnUser, SignIn, Tokens};
use stack_types::{ErrorCode, Problem, SessionId};

use crate::app::App;
use crate::http::{ApiError, ApiResult, Identity};

#[derive(Serialize)]
struct SignedInAnswer {
    user: OwnUser,
    access_token: String,
    token_type: &'static str,
    expires_in_s: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

/// A new pair of tokens: as cookies, or in the body for a program, as was asked for when the session began.
pub(super) fn answer(
    app: &App,
    status: StatusCode,
    tokens: Tokens,
    identity: &Identity,
) -> ApiResult<Response> {
    let mut headers = HeaderMap::new();
    let by_cookie = tokens.delivery == Delivery::Cookie;
    if by_cookie {
        set_cookies(app, &mut headers, &tokens, identity)?;
    }
    let body = SignedInAnswer {
        user: tokens.user,
        access_token: tokens.access_token,
        token_type: "Bearer",
        expires_in_s: tokens.expires_in_s,
        refresh_token: (!by_cookie).then_some(tokens.refresh_token),
    };
    Ok((status, headers, JsonAnswer(body)).into_response())
}

/// The same, or the ticket for the second step.
pub(super) fn answer_login(app: &App, got: SignIn, identity: &Identity) -> ApiResult<Response> {
    match got {
        SignIn::Done(tokens) => answer(app, StatusCode::OK, *tokens, identity),
        SignIn::SecondFactor { ticket } => {
            let problem = Problem::new(
                ErrorCode::SecondFactorRequired,
                "a code of your second factor is needed",
            );
            Err(ApiError::from(problem).with("ticket", ticket))
        }
    }
}

/// The answer to somebody whose session is over: the browser forgets its cookies.
pub(super) fn forgotten(app: &App) -> Response {
    let mut headers = HeaderMap::new();
    app.cookies().clear(&mut headers);
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// Sets the cookies of a pair of tokens.
pub(super) fn set_cookies(
    app: &App,
    headers: &mut HeaderMap,
    tokens: &Tokens,
    identity: &Identity,
) -> Result<(), Problem> {
    let lives = Duration::from_secs(tokens.refresh_expires_in_s);
    let csrf = csrf_token(app, identity, Some(tokens.session_id))?;
    let cookies = app.cookies();
    cookies.set_access(headers, &tokens.access_token, lives);
    cookies.set_refresh(headers, &tokens.refresh_token, lives);
    cookies.set_csrf(headers, &csrf, lives);
    Ok(())
}

/// The carried CSRF token if it is bound to the session, or a new one.
pub(super) fn csrf_token(
    app: &App,
    identity: &Identity,
    session: Option<SessionId>,
) -> Result<String, Problem> {
    let carried = identity.cookies.csrf.as_ref();
    match carried.filter(|token| app.auth().verify_csrf(token, token, session).is_ok()) {
        Some(token) => Ok(token.clone()),
        None => app.auth().csrf_token(session),
    }
}
