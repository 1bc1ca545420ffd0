//! `/rooms`: rooms, who is in them, and who may not be.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::routing::{get, post, put};
use http::StatusCode;
use http::request::Parts;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_presence::RoomPresence;
use stack_rooms::{Actor, BanView, Member, NewBan, NewRoom, Room, RoomPatch};
use stack_types::{RoomId, RoomRole, RoomSettingsPatch, Timestamp, UserId};

use crate::app::AppState;
use crate::http::problem::ApiError;
use crate::http::{ApiResult, InPath, Json, OptionalJson, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/rooms", get(list).post(create))
        .route("/rooms/{room}", get(show).patch(change).delete(remove))
        .route("/rooms/{room}/members", get(members))
        .route(
            "/rooms/{room}/members/{user_id}",
            put(put_member).delete(remove_member),
        )
        .route("/rooms/{room}/bans", get(bans))
        .route("/rooms/{room}/bans/{user_id}", put(ban).delete(unban))
        .route("/rooms/{room}/mutes", get(mutes))
        .route("/rooms/{room}/mutes/{user_id}", put(mute).delete(unmute))
        .route("/rooms/{room}/owner", post(transfer))
        .route("/rooms/{room}/presence", get(presence))
}

#[derive(Deserialize)]
struct Creation {
    id: Option<RoomId>,
    title: String,
    settings: Option<RoomSettingsPatch>,
}

#[derive(Deserialize)]
struct Change {
    title: Option<String>,
    settings: Option<RoomSettingsPatch>,
}

#[derive(Deserialize)]
struct Place {
    role: RoomRole,
}

#[derive(Default, Deserialize)]
struct Banning {
    reason: Option<String>,
    expires_at: Option<Timestamp>,
}

impl From<Banning> for NewBan {
    fn from(asked: Banning) -> Self {
        Self {
            reason: asked.reason,
            expires_at: asked.expires_at,
        }
    }
}

#[derive(Deserialize)]
struct NewOwner {
    user_id: UserId,
}

/// The caller, as what they do goes on record.
struct By(Actor);

impl FromRequestParts<AppState> for By {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> ApiResult<Self> {
        let SignedIn(caller) = SignedIn::from_request_parts(parts, app).await?;
        let Sender(client) = Sender::from_request_parts(parts, app).await?;
        Ok(Self(Actor {
            user: caller.user.id,
            session: Some(caller.session_id),
            ip: client.ip.to_string(),
        }))
    }
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let mut rooms = app.rooms().list(caller.user.id).await?;
    if let Some(granted) = caller.rooms() {
        rooms.retain(|room| granted.iter().any(|grant| grant.room == room.id));
    }
    Ok(JsonAnswer(json!({ "rooms": rooms })))
}

async fn create(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Json(asked): Json<Creation>,
) -> ApiResult<(StatusCode, JsonAnswer<Room>)> {
    let new = NewRoom {
        id: asked.id,
        title: asked.title,
        settings: asked.settings.unwrap_or_default(),
    };
    let room = app.rooms().create(caller.user.id, new).await?;
    Ok((StatusCode::CREATED, JsonAnswer(room)))
}

async fn show(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
) -> ApiResult<JsonAnswer<Room>> {
    Ok(JsonAnswer(app.rooms().get(caller.user.id, &room)?))
}

async fn change(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    Json(asked): Json<Change>,
) -> ApiResult<JsonAnswer<Room>> {
    let patch = RoomPatch {
        title: asked.title,
        settings: asked.settings.unwrap_or_default(),
    };
    Ok(JsonAnswer(app.rooms().change(by, &room, patch).await?))
}

async fn remove(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
) -> ApiResult<StatusCode> {
    app.rooms().delete(by, &room).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn members(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
) -> ApiResult<JsonAnswer<Value>> {
    let members = app.rooms().members(caller.user.id, &room)?;
    Ok(JsonAnswer(json!({ "members": members })))
}

async fn put_member(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
    Json(asked): Json<Place>,
) -> ApiResult<JsonAnswer<Member>> {
    let member = app.rooms().put_member(by, &room, user, asked.role).await?;
    Ok(JsonAnswer(member))
}

async fn remove_member(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
) -> ApiResult<StatusCode> {
    app.rooms().remove_member(by, &room, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn bans(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
) -> ApiResult<JsonAnswer<Value>> {
    let bans = app.rooms().bans(caller.user.id, &room)?;
    Ok(JsonAnswer(json!({ "bans": bans })))
}

async fn ban(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
    OptionalJson(asked): OptionalJson<Banning>,
) -> ApiResult<JsonAnswer<BanView>> {
    let ban = app.rooms().ban(by, &room, user, asked.into()).await?;
    Ok(JsonAnswer(ban))
}

async fn unban(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
) -> ApiResult<StatusCode> {
    app.rooms().unban(by, &room, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn mutes(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
) -> ApiResult<JsonAnswer<Value>> {
    let mutes = app.rooms().mutes(caller.user.id, &room)?;
    Ok(JsonAnswer(json!({ "mutes": mutes })))
}

async fn mute(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
    OptionalJson(asked): OptionalJson<Banning>,
) -> ApiResult<JsonAnswer<BanView>> {
    let mute = app.rooms().mute(by, &room, user, asked.into()).await?;
    Ok(JsonAnswer(mute))
}

async fn unmute(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    InPath(user): InPath<UserId>,
) -> ApiResult<StatusCode> {
    app.rooms().unmute(by, &room, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn transfer(
    State(app): State<AppState>,
    By(by): By,
    InPath(room): InPath<RoomId>,
    Json(asked): Json<NewOwner>,
) -> ApiResult<StatusCode> {
    let user = asked.user_id;
    app.rooms().transfer(by, &room, user).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn presence(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
) -> ApiResult<JsonAnswer<RoomPresence>> {
    app.rooms().may_read(caller.user.id, &room)?;
    Ok(JsonAnswer(app.presences().room(&room)))
}
