//! `/auth/oauth` and `/auth/links`: signing in at an identity provider, and the accounts there that are linked.
//!
//! A callback is a page that somebody is led to, so that it never answers with a problem: it leads on, with why it
//! came to nothing in the address.

use std::time::Duration;

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{Client, OauthAnswer, OauthBegin, OauthError, OauthRefusal};
use stack_types::{ErrorCode, LinkId, Problem};

use super::{invites, signed_in};
use crate::app::{App, AppState};
use crate::http::csrf;
use crate::http::identity::BASE;
use crate::http::path::ProviderName;
use crate::http::{
    ApiError, ApiResult, Identity, InPath, OptionalJson, Query, Sender, SignedIn, chain,
};

/// Where people are told why they are not signed in.
const SIGN_IN_PAGE: &str = "/signin";
/// As long as a sign-in at a provider may take.
const BROWSER_LIVES: Duration = Duration::from_secs(10 * 60);

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/auth/providers", get(providers))
        .route("/auth/oauth/{provider}/start", get(start).post(start_with))
        .route("/auth/oauth/{provider}/link", post(link))
        .route("/auth/oauth/{provider}/callback", get(callback))
        .route("/auth/links", get(links))
        .route("/auth/links/{link_id}", delete(unlink))
}

#[derive(Deserialize)]
struct Start {
    return_to: Option<String>,
}

#[derive(Default, Deserialize)]
struct StartWith {
    return_to: Option<String>,
    invite: Option<String>,
}

#[derive(Default, Deserialize)]
struct Link {
    return_to: Option<String>,
    reauthenticate: Option<bool>,
}

async fn providers(State(app): State<AppState>) -> JsonAnswer<Value> {
    JsonAnswer(json!({ "providers": app.auth().oauth_providers() }))
}

/// Leads to the provider. It is a link on a page of ours; all it changes is what it remembers until the callback.
async fn start(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    InPath(ProviderName(provider)): InPath<ProviderName>,
    Query(asked): Query<Start>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> ApiResult<Response> {
    // The callback comes to the one address that the provider knows, so that the cookie must be set there.
    if let Some(public) = elsewhere(&app, &headers)
        && is_name(&provider)
    {
        let query = query.map_or_else(String::new, |query| format!("?{query}"));
        let there = format!("{public}{BASE}/auth/oauth/{provider}/start{query}");
        return Ok(lead_to(HeaderMap::new(), &there));
    }
    // Whoever is signed in there would be signed in here, as an account that they did not ask for.
    if matches!(csrf::sender(&headers, app.origins()), csrf::Sender::Foreign) {
        return Ok(lead_to(HeaderMap::new(), SIGN_IN_PAGE));
    }
    if app.rates().oauth(client.ip).is_err() {
        return Ok(refused(OauthRefusal::TryLater));
    }
    let browser = app
        .auth()
        .oauth_browser(identity.cookies.ceremony.as_deref())?;
    let begin = OauthBegin {
        provider: &provider,
        return_to: asked.return_to.as_deref(),
        invite: None,
    };
    match app.auth().oauth_begin(begin, &browser, &client).await {
        Ok(url) => {
            let mut headers = HeaderMap::new();
            app.cookies()
                .set_ceremony(&mut headers, &browser, BROWSER_LIVES);
            Ok(lead_to(headers, &url))
        }
        Err(OauthError::Refused(reason)) => Ok(refused(reason)),
        Err(OauthError::Problem(problem)) => Err(problem.into()),
    }
}

/// Tells where the provider is. An invitation comes here, in the body: addresses are kept in logs and histories.
async fn start_with(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    InPath(ProviderName(provider)): InPath<ProviderName>,
    OptionalJson(asked): OptionalJson<StartWith>,
) -> ApiResult<Response> {
    app.rates().oauth(client.ip)?;
    let browser = app
        .auth()
        .oauth_browser(identity.cookies.ceremony.as_deref())?;
    let begin = OauthBegin {
        provider: &provider,
        return_to: asked.return_to.as_deref(),
        invite: asked.invite.as_deref(),
    };
    let begun = app.auth().oauth_begin(begin, &browser, &client).await;
    begun_at(&app, &browser, begun)
}

async fn link(
    State(app): State<AppState>,
    identity: Identity,
    SignedIn(caller): SignedIn,
    InPath(ProviderName(provider)): InPath<ProviderName>,
    OptionalJson(asked): OptionalJson<Link>,
) -> ApiResult<Response> {
    app.rates().own_ceremony(caller.user.id)?;
    let browser = app
        .auth()
        .oauth_browser(identity.cookies.ceremony.as_deref())?;
    let begin = OauthBegin {
        provider: &provider,
        return_to: asked.return_to.as_deref(),
        invite: None,
    };
    let again = asked.reauthenticate.unwrap_or_default();
    let begun = app
        .auth()
        .oauth_link_begin(&caller, begin, again, &browser)
        .await;
    begun_at(&app, &browser, begun)
}

/// Where a page of ours leads its browser next.
fn begun_at(app: &App, browser: &str, begun: Result<String, OauthError>) -> ApiResult<Response> {
    let url = begun.map_err(|error| match error {
        OauthError::Problem(problem) => problem,
        OauthError::Refused(_) => Problem::new(
            ErrorCode::Unavailable,
            "the identity provider does not answer as it should",
        ),
    })?;
    let mut headers = HeaderMap::new();
    app.cookies()
        .set_ceremony(&mut headers, browser, BROWSER_LIVES);
    Ok((headers, JsonAnswer(json!({ "authorization_url": url }))).into_response())
}

async fn callback(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    InPath(ProviderName(provider)): InPath<ProviderName>,
    RawQuery(query): RawQuery,
) -> Response {
    let answer = answer_of(query.as_deref().unwrap_or_default());
    match come_back(&app, &identity, &client, &provider, answer).await {
        Ok(response) => response,
        Err(OauthError::Refused(reason)) => refused(reason),
        Err(OauthError::Problem(problem)) => {
            let error = chain(&problem);
            tracing::error!(provider, error, "signing in at {provider} failed: {error}");
            refused(OauthRefusal::TryLater)
        }
    }
}

async fn come_back(
    app: &App,
    identity: &Identity,
    client: &Client,
    provider: &str,
    answer: OauthAnswer,
) -> Result<Response, OauthError> {
    let browser = identity.cookies.ceremony.as_deref();
    let caller = identity.caller.as_ref().ok();
    let done = app
        .auth()
        .oauth_callback(provider, answer, browser, caller, client)
        .await?;
    let mut headers = HeaderMap::new();
    if let Some(tokens) = &done.tokens {
        invites::bring_in(app, done.invite.as_deref(), tokens.user.id).await;
        signed_in::set_cookies(app, &mut headers, tokens, identity)?;
    }
    Ok(lead_to(headers, &done.return_to))
}

async fn links(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let links = app.auth().oauth_links(&caller)?;
    Ok(JsonAnswer(json!({ "links": links })))
}

async fn unlink(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(link): InPath<LinkId>,
) -> ApiResult<StatusCode> {
    app.auth().oauth_unlink(&caller, link, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What stands in a callback's query. A parameter that stands there twice is none: which one counts must not depend
/// on who reads it.
fn answer_of(query: &str) -> OauthAnswer {
    let one = |name: &str| {
        let mut found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value.into_owned()),
            _ => None,
        }
    };
    let several = |name: &str| {
        let found = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == name);
        found.count() > 1
    };
    if ["state", "code", "error", "iss"].into_iter().any(several) {
        return OauthAnswer::default();
    }
    OauthAnswer {
        state: one("state"),
        code: one("code"),
        error: one("error"),
        iss: one("iss"),
    }
}

/// Our public origin, for who is at another one of ours.
fn elsewhere<'a>(app: &'a App, headers: &HeaderMap) -> Option<&'a str> {
    let public = app.origins().public().as_str();
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let (scheme, _) = public.split_once("://")?;
    let here = format!("{scheme}://{host}");
    (here != public && app.is_own_origin(&here)).then_some(public)
}

/// Whether a provider can be called this.
fn is_name(text: &str) -> bool {
    let sane = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(sane)
}

/// The page for signing in tells why; somebody who is signed in, it leads on to their linked accounts.
fn refused(reason: OauthRefusal) -> Response {
    let page = format!("{SIGN_IN_PAGE}?error={}", reason.as_str());
    lead_to(HeaderMap::new(), &page)
}

fn lead_to(mut headers: HeaderMap, address: &str) -> Response {
    match HeaderValue::from_str(address) {
        Ok(address) => {
            headers.insert(header::LOCATION, address);
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        // An address is visible ASCII: it was parsed as one, or is a page of ours.
        Err(error) => ApiError::from(Problem::internal(error)).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_stands_twice_is_none() {
        let answer = answer_of("state=a&code=b&more=1&more=2&iss=https%3A%2F%2Fid.example");
        assert_eq!(answer.state.as_deref(), Some("a"));
        assert_eq!(answer.code.as_deref(), Some("b"));
        assert_eq!(answer.iss.as_deref(), Some("https://id.example"));
        assert_eq!(answer.error, None);
        for query in [
            "state=a&state=a&code=b",
            "state=a&code=b&code=c",
            "",
            "%ff&&==",
        ] {
            assert_eq!(answer_of(query).state, None, "{query}");
        }
    }
}
