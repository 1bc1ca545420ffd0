//! Who calls: found out once for each request of the API, before its handler, together with what depends on it.
//!
//! In this order: the rate is kept; a request that carries a cookie proves that it comes from a page of ours; a body
//! is JSON and not too large; the caller is somebody whom the table of routes lets in. Whoever sends a body is looked at
//! again once all of it is here, since they decide how long that takes. A token that is no good refuses
//! only the routes that ask who is calling: signing in must be possible with an old cookie in hand.

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use stack_auth::{Caller, Client};
use stack_types::{ErrorCode, Problem, RoomId};

use super::access;
use super::body;
use super::cookies::Carried;
use super::csrf::{self, X_CSRF_TOKEN};
use super::problem::{ApiError, ApiResult};
use super::refusals::Refusal;
use tracing::{Span, field};

use crate::app::{App, AppState};

/// Where version 1 of the API begins; the patterns of the table of routes stand below it.
pub(crate) const BASE: &str = "/api/v1";

/// How the routes of one room begin.
const ROOM: &str = "/rooms/{room}";

/// What a request says of its sender.
#[derive(Clone)]
pub(crate) struct Identity {
    /// Who it is, or why that is unknown.
    pub(crate) caller: Result<Caller, Problem>,
    /// The cookies of ours that it carries.
    pub(crate) cookies: Carried,
}

/// A caller who is signed in.
pub(crate) struct SignedIn(pub(crate) Caller);

/// The device and the address of the sender.
pub(crate) struct Sender(pub(crate) Client);

/// Middleware around every route of the API.
pub(crate) async fn establish(
    State(app): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let request = match admit(&app, request).await {
        Ok(request) => request,
        Err(refused) => return ApiError::from(refused).into_response(),
    };
    if pattern_of(&request).starts_with(ROOM)
        && let Some(room) = room_of(&request)
    {
        Span::current().record("room", field::display(room));
    }
    if let Err(refused) = let_in(&app, &request) {
        if let Some(refusal) = Refusal::of(&app, &request) {
            refusal.record(&app).await;
        }
        return *refused;
    }
    if !body::is_there(&request) {
        return next.run(request).await;
    }
    let request = match with_body(&app, request).await {
        Ok(request) => request,
        Err(refused) => return ApiError::from(refused).into_response(),
    };
    match let_in(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => *refused,
    }
}

/// The request with all of its body, and who its sender is by then: a revocation while it was on its way holds.
async fn with_body(app: &App, request: Request) -> Result<Request, Problem> {
    let ip = app.client_ip(&request);
    let (mut parts, body) = request.into_parts();
    let body = body::receive(app, body, ip).await?;
    let cookies = app.cookies().read(&parts.headers);
    let caller = authenticate(app, &parts.headers, &cookies);
    parts.extensions.insert(Identity { caller, cookies });
    Ok(Request::from_parts(parts, body.into()))
}

/// The room in a request's path. Room ids need no escapes, so that an escaped one is none.
fn room_of(request: &Request) -> Option<RoomId> {
    let (_, behind) = request.uri().path().split_once("/rooms/")?;
    behind.split('/').next()?.parse().ok()
}

/// The pattern of a request's route, below the version.
fn pattern_of(request: &Request) -> &str {
    let pattern = request.extensions().get::<MatchedPath>();
    let pattern = pattern.and_then(|matched| matched.as_str().strip_prefix(BASE));
    pattern.unwrap_or_default()
}

/// Looks the route up in the table and asks the caller for what stands there.
fn let_in(app: &App, request: &Request) -> Result<(), Box<Response>> {
    let refuse = |problem: Problem| Box::new(ApiError::from(problem).into_response());
    let pattern = pattern_of(request);
    let Some(need) = access::need(request.method(), pattern) else {
        let allowed = access::allowed(pattern);
        if allowed.is_empty() {
            tracing::error!(
                pattern,
                "the route {pattern} is not in the table, nobody is let in"
            );
            return Err(refuse(Problem::forbidden("nobody may do this")));
        }
        let answer = (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allowed)]);
        return Err(Box::new(answer.into_response()));
    };
    match request.extensions().get::<Identity>() {
        Some(identity) => {
            need.check(&identity.caller, app.clock().now())
                .map_err(refuse)?;
            match pattern.starts_with(ROOM) {
                true => {
                    let room = room_of(request);
                    need.check_in_room(&identity.caller, room.as_ref())
                        .map_err(refuse)
                }
                false => Ok(()),
            }
        }
        None => Err(refuse(unauthenticated("sign in first"))),
    }
}

async fn admit(app: &App, mut request: Request) -> Result<Request, Problem> {
    let headers = request.headers();
    let cookies = app.cookies().read(headers);
    let caller = authenticate(app, headers, &cookies);
    let user = caller.as_ref().ok().map(|caller| caller.user.id);
    if let Some(user) = &user {
        Span::current().record("user", field::display(user));
    }
    app.rates().api(user, app.client_ip(&request))?;
    if !is_safe(request.method()) {
        refuse_forgery(app, headers, &cookies, &caller)?;
    }
    let limit = app.limits().http_body_bytes;
    if body::is_announced(headers) {
        if body::announced_bytes(headers).is_some_and(|bytes| bytes > limit) {
            return Err(body::too_large(request.into_body(), limit).await);
        }
        if !body::is_json(headers) {
            return Err(Problem::new(
                ErrorCode::UnsupportedMediaType,
                "the body must be application/json",
            ));
        }
    }
    request
        .extensions_mut()
        .insert(Identity { caller, cookies });
    Ok(request)
}

/// The caller by the `Authorization` header or, without one, by the access cookie.
pub(crate) fn authenticate(
    app: &App,
    headers: &HeaderMap,
    cookies: &Carried,
) -> Result<Caller, Problem> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let token = value.to_str().ok().and_then(bearer).ok_or_else(|| {
                unauthenticated("the Authorization header must be `Bearer` and a token")
            })?;
            app.auth().authenticate(token)
        }
        None => match &cookies.access {
            Some(token) => app.auth().authenticate(token),
            None => Err(unauthenticated("sign in first")),
        },
    }
}

/// The token of a `Bearer` header; the scheme is written in any case.
pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' '))
        .then_some(token)
}

fn unauthenticated(detail: &'static str) -> Problem {
    Problem::new(ErrorCode::Unauthenticated, detail)
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn refuse_forgery(
    app: &App,
    headers: &HeaderMap,
    cookies: &Carried,
    caller: &Result<Caller, Problem>,
) -> Result<(), Problem> {
    let sender = csrf::sender(headers, app.origins());
    if cookies.any() {
        return csrf::check(sender, || check_token(app, headers, cookies, caller));
    }
    // A browser sends no `Authorization` header by itself, so that a request with one was meant.
    if headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    csrf::check_not_foreign(sender)
}

/// Whether the CSRF token stands in header and cookie alike and is bound to the session: the caller's or, when the
/// access token has ended, the refresh token's.
///
/// With neither at hand a token of a session cannot be checked. Then the caller is told what is really missing,
/// since an ended access token is the client's cue to refresh; refused it is all the same.
fn check_token(
    app: &App,
    headers: &HeaderMap,
    cookies: &Carried,
    caller: &Result<Caller, Problem>,
) -> Result<(), Problem> {
    let header = headers
        .get(X_CSRF_TOKEN)
        .and_then(|value| value.to_str().ok());
    let (Some(header), Some(cookie)) = (header, &cookies.csrf) else {
        return Err(csrf::refused());
    };
    let session = match caller {
        Ok(caller) => Some(caller.session_id),
        Err(_) => cookies
            .refresh
            .as_deref()
            .and_then(|token| app.auth().session_of_refresh(token)),
    };
    app.auth()
        .verify_csrf(header, cookie, session)
        .map_err(|refused| match caller {
            Err(problem) if problem.code == ErrorCode::TokenExpired && header == cookie => {
                problem.clone()
            }
            _ => refused,
        })
}

impl Identity {
    fn of(parts: &Parts) -> Self {
        // Only a route outside the middleware could lack it.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .unwrap_or_else(|| Self {
                caller: Err(unauthenticated("sign in first")),
                cookies: Carried::default(),
            })
    }
}

impl FromRequestParts<AppState> for Identity {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> ApiResult<Self> {
        Ok(Self::of(parts))
    }
}

impl FromRequestParts<AppState> for SignedIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> ApiResult<Self> {
        Ok(Self(Identity::of(parts).caller?))
    }
}

impl FromRequestParts<AppState> for Sender {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> ApiResult<Self> {
        let user_agent = parts.headers.get(header::USER_AGENT);
        let ip = app.client_ip_of(&parts.extensions, &parts.headers);
        Ok(Self(Client::new(
            ip,
            user_agent.and_then(|value| value.to_str().ok()),
        )))
    }
}
