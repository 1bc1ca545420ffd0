//! `/api-keys` and `/chat/token`: programs, and the users whom they vouch for.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get, post};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_auth::{
    ActsAs, Auth, Caller, MadeApiKey, MakeApiKey, MakeRoomToken, RoomGrant, RoomRight, RoomToken,
    Scope,
};
use stack_types::{ApiKeyId, Problem, RoomId, RoomRole, Timestamp, UserId};

use crate::app::{App, AppState};
use crate::http::{ApiResult, InPath, Json, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/api-keys", get(list).post(make))
        .route("/api-keys/{key_id}", delete(revoke))
        .route("/chat/token", post(chat_token))
}

#[derive(Default, Deserialize)]
struct Bot {
    username: Option<String>,
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct Make {
    name: String,
    scopes: Vec<Scope>,
    expires_at: Option<Timestamp>,
    bot: Option<Bot>,
    user_id: Option<UserId>,
}

#[derive(Deserialize)]
struct Vouch {
    user_id: UserId,
    display_name: Option<String>,
    rooms: Option<Vec<Value>>,
    ttl_s: Option<u64>,
}

async fn make(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Make>,
) -> ApiResult<(StatusCode, JsonAnswer<MadeApiKey>)> {
    let acts_as = match (asked.user_id, asked.bot) {
        (Some(_), Some(_)) => {
            return Err(Problem::invalid_field("bot", "either bot or user_id, not both").into());
        }
        (Some(user), None) => ActsAs::Bot(user),
        (None, bot) => {
            let bot = bot.unwrap_or_default();
            ActsAs::New {
                username: bot.username,
                display_name: bot.display_name,
            }
        }
    };
    let make = MakeApiKey {
        name: asked.name,
        scopes: asked.scopes,
        expires_at: asked.expires_at,
        acts_as,
    };
    let made = app.auth().make_api_key(&caller, make, &client).await?;
    Ok((StatusCode::CREATED, JsonAnswer(made)))
}

async fn list(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    let keys = app.auth().api_keys(&caller).await?;
    Ok(JsonAnswer(json!({ "api_keys": keys })))
}

async fn revoke(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(key): InPath<ApiKeyId>,
) -> ApiResult<StatusCode> {
    app.auth().revoke_api_key(&caller, key, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everything that can be refused is, before anything is made; what is made then is made once, so that a repeat after
/// a fault finds it there.
async fn chat_token(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    Json(asked): Json<Vouch>,
) -> ApiResult<JsonAnswer<RoomToken>> {
    let rooms = asked
        .rooms
        .map(|rooms| rooms.into_iter().map(grant).collect());
    let rooms: Option<Vec<RoomGrant>> = rooms.transpose()?;
    Auth::check_room_token(rooms.as_deref(), asked.ttl_s)?;
    let auth = app.auth();
    let brings = match &rooms {
        Some(rooms) => who_brings(&app, &caller, asked.user_id, rooms)?,
        None => Vec::new(),
    };
    let name = asked.display_name.as_deref();
    let user = auth
        .vouched_user(&caller, asked.user_id, name, &client)
        .await?;
    for (actor, room, role) in brings {
        if !app.rooms().has_place(user.id, &room, role)? {
            app.rooms().put_member(actor, &room, user.id, role).await?;
        }
    }
    let make = MakeRoomToken {
        user_id: user.id,
        rooms,
        ttl_s: asked.ttl_s,
    };
    let token = auth.make_room_token(&caller, make, &client).await?;
    Ok(JsonAnswer(token))
}

/// A room by its id alone, with every right, or `{room, rights}`.
fn grant(value: Value) -> Result<RoomGrant, Problem> {
    let fault = || {
        Problem::invalid_field(
            "rooms",
            "each room is an id, or an object of room and rights: read, send, presence",
        )
    };
    let mut grant = match value {
        Value::String(room) => RoomGrant {
            room: room.parse().map_err(|_| fault())?,
            rights: RoomRight::ALL.to_vec(),
        },
        other => serde_json::from_value::<RoomGrant>(other).map_err(|_| fault())?,
    };
    grant.rights.sort_unstable();
    grant.rights.dedup();
    Ok(grant)
}

/// Who brings the user into each room where they have no place yet, and as what: the key's bot where it may, or else
/// whoever made the key. A backend gives nobody a place that neither of the two could give.
fn who_brings(
    app: &App,
    caller: &Caller,
    user: UserId,
    rooms: &[RoomGrant],
) -> Result<Vec<(UserId, RoomId, RoomRole)>, Problem> {
    let maker = app.auth().maker_of_key(caller)?;
    // Before their places are looked at: where somebody else's user is, is not for this backend.
    let is_there = app.auth().vouches_for(caller, user)?;
    let place = |grant: &RoomGrant| {
        let role = match grant.rights.contains(&RoomRight::Send) {
            true => RoomRole::Member,
            false => RoomRole::Guest,
        };
        if is_there
            && app
                .rooms()
                .has_place(user, &grant.room, role)
                .is_ok_and(|has| has)
        {
            return Ok(None);
        }
        let may = |actor| app.rooms().may_bring_people(actor, &grant.room);
        let actor = match may(caller.user.id) {
            Ok(()) => caller.user.id,
            Err(_) => may(maker).map(|()| maker)?,
        };
        Ok(Some((actor, grant.room.clone(), role)))
    };
    let places = rooms.iter().map(place);
    places.filter_map(Result::transpose).collect()
}
