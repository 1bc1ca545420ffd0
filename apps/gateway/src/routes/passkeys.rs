//! `/auth/passkeys`: signing up, in and again by passkey, and looking after one's passkeys.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use stack_auth::{
    AskForPasskey, AssertPasskey, Delivery, NewPasskeyAnswer, PasskeyView, SignUpByPasskey,
};
use stack_types::{PasskeyId, Problem};

use super::{invites, signed_in};
use crate::app::AppState;
use crate::http::{ApiResult, Identity, InPath, Json, OptionalJson, Sender, SignedIn, browser};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/auth/passkeys", get(list))
        .route("/auth/passkeys/{passkey_id}", patch(rename).delete(remove))
        .route("/auth/passkeys/register/begin", post(begin))
        .route("/auth/passkeys/register/finish", post(add))
        .route("/auth/passkeys/signup/begin", post(begin_sign_up))
        .route("/auth/passkeys/signup/finish", post(sign_up))
        .route("/auth/passkeys/login/begin", post(begin_login))
        .route("/auth/passkeys/login/finish", post(login))
        .route("/auth/passkeys/reauthenticate/begin", post(begin_again))
        .route("/auth/passkeys/reauthenticate/finish", post(again))
}

/// What a browser answered: as `credential`, or its members beside the others.
#[derive(Deserialize)]
pub(super) struct Answered {
    ceremony: Option<String>,
    name: Option<String>,
    token_delivery: Option<Delivery>,
    credential: Option<Value>,
    #[serde(flatten)]
    members: Map<String, Value>,
}

#[derive(Deserialize)]
struct NewAccount {
    username: String,
    email: Option<String>,
    display_name: Option<String>,
    invite: Option<String>,
}

#[derive(Default, Deserialize)]
struct Asked {
    login: Option<String>,
    mediation: Option<String>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Answered {
    /// A new passkey, and how the tokens are wanted.
    ///
    /// # Errors
    /// `invalid_field` when there is no answer.
    pub(super) fn made(self) -> Result<(NewPasskeyAnswer, Delivery), Problem> {
        let answer = NewPasskeyAnswer {
            credential: credential(self.credential, self.members)?,
            ceremony: self.ceremony,
            name: self.name,
        };
        Ok((answer, self.token_delivery.unwrap_or_default()))
    }

    /// A passkey that was asked for, and how the tokens are wanted.
    fn shown(self) -> Result<(AssertPasskey, Delivery), Problem> {
        let answer = AssertPasskey {
            credential: credential(self.credential, self.members)?,
            ceremony: self.ceremony,
        };
        Ok((answer, self.token_delivery.unwrap_or_default()))
    }
}

fn credential(apart: Option<Value>, members: Map<String, Value>) -> Result<Value, Problem> {
    match apart {
        Some(credential) => Ok(credential),
        None if members.contains_key("response") => Ok(Value::Object(members)),
        None => {
            let detail = "the browser's answer is missing";
            Err(Problem::invalid_field("credential", detail))
        }
    }
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let passkeys = app.auth().passkeys(&caller)?;
    Ok(JsonAnswer(json!({ "passkeys": passkeys })))
}

async fn rename(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(id): InPath<PasskeyId>,
    Json(asked): Json<Named>,
) -> ApiResult<JsonAnswer<PasskeyView>> {
    let renamed = app.auth().rename_passkey(&caller, id, &asked.name, &client);
    Ok(JsonAnswer(renamed.await?))
}

async fn remove(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(id): InPath<PasskeyId>,
) -> ApiResult<StatusCode> {
    app.auth().remove_passkey(&caller, id, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn begin(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    identity: Identity,
    headers: HeaderMap,
) -> ApiResult<Response> {
    app.rates().own_ceremony(caller.user.id)?;
    let (browser, cookie) = browser::begins(&app, &identity, &headers)?;
    let begun = app
        .auth()
        .begin_passkey(&caller, browser.as_deref())
        .await?;
    Ok((cookie, JsonAnswer(begun)).into_response())
}

async fn add(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    identity: Identity,
    Sender(client): Sender,
    Json(answered): Json<Answered>,
) -> ApiResult<(StatusCode, JsonAnswer<PasskeyView>)> {
    let browser = identity.cookies.ceremony.as_deref();
    let (answer, _) = answered.made()?;
    let added = app.auth().add_passkey(&caller, answer, browser, &client);
    Ok((StatusCode::CREATED, JsonAnswer(added.await?)))
}

async fn begin_sign_up(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    headers: HeaderMap,
    Json(asked): Json<NewAccount>,
) -> ApiResult<Response> {
    app.rates().ceremony(client.ip)?;
    let (browser, cookie) = browser::begins(&app, &identity, &headers)?;
    let asked = SignUpByPasskey {
        username: asked.username,
        email: asked.email,
        display_name: asked.display_name,
        invite: asked.invite,
    };
    let begun = app.auth().begin_sign_up(asked, browser.as_deref(), &client);
    Ok((cookie, JsonAnswer(begun.await?)).into_response())
}

async fn sign_up(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(answered): Json<Answered>,
) -> ApiResult<Response> {
    let browser = identity.cookies.ceremony.as_deref();
    let (answer, delivery) = answered.made()?;
    let signed_up = app
        .auth()
        .sign_up(answer, delivery, browser, &client)
        .await?;
    let user = signed_up.tokens.user.id;
    invites::bring_in(&app, signed_up.invite.as_deref(), user).await;
    signed_in::answer(&app, StatusCode::CREATED, signed_up.tokens, &identity)
}

async fn begin_login(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    headers: HeaderMap,
    OptionalJson(asked): OptionalJson<Asked>,
) -> ApiResult<Response> {
    app.rates().ceremony(client.ip)?;
    let conditional = match asked.mediation.as_deref() {
        None => false,
        Some("conditional") => true,
        Some(_) => {
            let detail = "the only mediation that can be asked for is conditional";
            return Err(Problem::invalid_field("mediation", detail).into());
        }
    };
    let (browser, cookie) = browser::begins(&app, &identity, &headers)?;
    let asked = AskForPasskey {
        login: asked.login,
        conditional,
    };
    let begun = app
        .auth()
        .ask_for_passkey(asked, browser.as_deref(), &client)
        .await?;
    Ok((cookie, JsonAnswer(begun)).into_response())
}

async fn login(
    State(app): State<AppState>,
    identity: Identity,
    Sender(client): Sender,
    Json(answered): Json<Answered>,
) -> ApiResult<Response> {
    app.rates().ceremony(client.ip)?;
    let browser = identity.cookies.ceremony.as_deref();
    let (answer, delivery) = answered.shown()?;
    let tokens = app
        .auth()
        .login_by_passkey(answer, delivery, browser, &client);
    signed_in::answer(&app, StatusCode::OK, tokens.await?, &identity)
}

async fn begin_again(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    identity: Identity,
    headers: HeaderMap,
) -> ApiResult<Response> {
    app.rates().own_ceremony(caller.user.id)?;
    let (browser, cookie) = browser::begins(&app, &identity, &headers)?;
    let begun = app
        .auth()
        .ask_again_for_passkey(&caller, browser.as_deref());
    Ok((cookie, JsonAnswer(begun.await?)).into_response())
}

async fn again(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    identity: Identity,
    Sender(client): Sender,
    Json(answered): Json<Answered>,
) -> ApiResult<StatusCode> {
    let browser = identity.cookies.ceremony.as_deref();
    let (answer, _) = answered.shown()?;
    let shown = app
        .auth()
        .reauthenticate_by_passkey(&caller, answer, browser, &client);
    shown.await?;
    Ok(StatusCode::NO_CONTENT)
}
