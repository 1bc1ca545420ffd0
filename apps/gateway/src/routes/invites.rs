//! `/invites` and `/registration`: who may make an account here, and links by which others may.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{InviteLook, MakeInvite, Registration};
use stack_types::{ErrorCode, GlobalRole, InviteId, Problem, RoomId, RoomRole, UserId};

use crate::app::{App, AppState};
use crate::http::{ApiResult, InPath, Json, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/registration", get(registration))
        .route("/invites", get(list).post(make))
        .route("/invites/look", post(look))
        .route("/invites/{invite_id}", delete(revoke))
}

#[derive(Deserialize)]
struct Room {
    room: RoomId,
    #[serde(default = "member")]
    role: RoomRole,
}

fn member() -> RoomRole {
    RoomRole::Member
}

#[derive(Deserialize)]
struct Make {
    role: Option<GlobalRole>,
    #[serde(default)]
    rooms: Vec<Room>,
    max_uses: Option<u32>,
    expires_in_s: Option<u64>,
    note: Option<String>,
}

#[derive(Deserialize)]
struct Look {
    invite: String,
}

async fn registration(State(app): State<AppState>) -> JsonAnswer<Value> {
    let mode = match app.auth().registration() {
        Registration::Open => "open",
        Registration::Invite => "invite",
        Registration::Closed => "closed",
    };
    JsonAnswer(json!({
        "mode": mode,
        "password": { "min_chars": stack_auth::MIN_PASSWORD_CHARS },
        "passkeys": app.auth().passkeys_off().is_none(),
    }))
}

async fn make(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Make>,
) -> ApiResult<(StatusCode, JsonAnswer<Value>)> {
    for Room { room, .. } in &asked.rooms {
        app.rooms()
            .get(caller.user.id, room)
            .map_err(|problem| match problem.code {
                ErrorCode::NotFound => Problem::invalid_field("rooms", "there is no such room"),
                _ => problem,
            })?;
    }
    let make = MakeInvite {
        role: asked.role,
        rooms: asked
            .rooms
            .into_iter()
            .map(|Room { room, role }| (room, role))
            .collect(),
        max_uses: asked.max_uses,
        expires_in_s: asked.expires_in_s,
        note: asked.note,
    };
    let made = app.auth().make_invite(&caller, make, &client).await?;
    let mut answer = serde_json::to_value(&made.invite).map_err(Problem::internal)?;
    answer["url"] = format!("{}/invite#{}", app.origins().public(), made.text).into();
    Ok((StatusCode::CREATED, JsonAnswer(answer)))
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let invites = app.auth().invites(&caller).await?;
    Ok(JsonAnswer(json!({ "invites": invites })))
}

async fn look(
    State(app): State<AppState>,
    Sender(client): Sender,
    Json(asked): Json<Look>,
) -> ApiResult<JsonAnswer<InviteLook>> {
    app.rates().look(client.ip)?;
    Ok(JsonAnswer(app.auth().look_at_invite(&asked.invite)?))
}

async fn revoke(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(invite): InPath<InviteId>,
) -> ApiResult<StatusCode> {
    app.auth().revoke_invite(&caller, invite, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Brings somebody who has just made an account with an invitation into its rooms, as the inviter would. A room that
/// they cannot be brought into any more keeps nobody from having an account.
pub(super) async fn bring_in(app: &App, invite: Option<&str>, user: UserId) {
    let Some(invite) = invite else { return };
    let (inviter, rooms) = match app.auth().invited_rooms(invite) {
        Ok(Some(found)) => found,
        Ok(None) => return,
        Err(problem) => {
            tracing::error!(
                error = problem.cause().map(tracing::field::display),
                user_id = %user,
                "the rooms of an invitation cannot be read"
            );
            return;
        }
    };
    for invited in rooms {
        let room = &invited.room;
        let put = app.rooms().put_member(inviter, room, user, invited.role);
        if let Err(problem) = put.await {
            tracing::warn!(
                user_id = %user, room = %room, code = %problem.code,
                "somebody was invited into a room and cannot be brought into it: {problem}"
            );
        }
    }
}
