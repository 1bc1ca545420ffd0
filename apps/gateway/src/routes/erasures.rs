//! Erasing what somebody has said: by admins, and by people for themselves.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stack_storage::Erasure;
use stack_types::{RoomId, Timestamp, UserId};

use crate::app::AppState;
use crate::http::{ApiResult, InPath, Json, Sender, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/users/{user_id}/erasure", post(erase))
        .route("/admin/erasures", get(all))
        .route("/me/erasure", post(erase_own))
        .route("/me/erasures", get(own))
}

#[derive(Deserialize)]
struct Where {
    room: Option<RoomId>,
}

/// An erasure as it is told.
#[derive(Serialize)]
struct ErasureView {
    id: u64,
    user_id: UserId,
    room: Option<RoomId>,
    by: Option<UserId>,
    requested_at: Timestamp,
    finished_at: Option<Timestamp>,
    rooms: u64,
    events: u64,
}

impl From<Erasure> for ErasureView {
    fn from(erasure: Erasure) -> Self {
        Self {
            id: erasure.id,
            user_id: erasure.user,
            room: erasure.room,
            by: erasure.by,
            requested_at: erasure.requested_at,
            finished_at: erasure.finished_at,
            rooms: erasure.rooms,
            events: erasure.events,
        }
    }
}

/// It is noted when this is answered, and carried out from then on.
fn accepted(erasure: Erasure) -> (StatusCode, JsonAnswer<ErasureView>) {
    (StatusCode::ACCEPTED, JsonAnswer(erasure.into()))
}

fn listed(erasures: Vec<Erasure>) -> JsonAnswer<Value> {
    let erasures: Vec<_> = erasures.into_iter().map(ErasureView::from).collect();
    JsonAnswer(json!({ "erasures": erasures }))
}

async fn erase(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(user): InPath<UserId>,
    Json(Where { room }): Json<Where>,
) -> ApiResult<(StatusCode, JsonAnswer<ErasureView>)> {
    let asked = app.auth().erase_messages(&caller, user, room, &client);
    Ok(accepted(asked.await?))
}

async fn erase_own(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
) -> ApiResult<(StatusCode, JsonAnswer<ErasureView>)> {
    let asked = app.auth().erase_own_messages(&caller, &client);
    Ok(accepted(asked.await?))
}

async fn all(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    Ok(listed(app.auth().erasures(&caller)?))
}

async fn own(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
) -> ApiResult<JsonAnswer<Value>> {
    Ok(listed(app.auth().own_erasures(&caller)?))
}
