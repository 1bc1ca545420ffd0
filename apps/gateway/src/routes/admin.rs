//! `/admin`: what administrators look at and set right. Who may is decided where it is done.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::routing::{delete, get};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use stack_ipc::service::TraceQuery;
use stack_types::{RoomId, Seq};

use crate::app::AppState;
use crate::http::path::CounterKey;
use crate::http::{ApiResult, InPath, Query, Sender, SignedIn};
use crate::message_trace::{self, MessageTrace};
use crate::stats::Overview;

/// Counters told at once, unless asked otherwise.
const COUNTERS: usize = 100;

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/admin/stats", get(stats))
        .route("/admin/rooms/{room}/messages/{seq}/trace", get(trace))
        .route("/admin/rate-counters", get(counters))
        .route("/admin/rate-counters/{key}", delete(reset_counter))
}

#[derive(Deserialize)]
struct Whose {
    user: Option<String>,
}

#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    prefix: String,
    limit: Option<usize>,
}

async fn counters(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Query(which): Query<Which>,
) -> ApiResult<JsonAnswer<Value>> {
    let limit = which.limit.unwrap_or(COUNTERS);
    let counters = app.auth().counters(&caller, &which.prefix, limit).await?;
    Ok(JsonAnswer(json!({ "counters": counters })))
}

/// The table of routes lets admins alone come here.
async fn stats(State(app): State<AppState>) -> JsonAnswer<Overview> {
    JsonAnswer(Overview::of(&app))
}

async fn trace(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(room): InPath<RoomId>,
    InPath(seq): InPath<Seq>,
    Query(Whose { user }): Query<Whose>,
) -> ApiResult<JsonAnswer<MessageTrace>> {
    let asked = TraceQuery { room, seq, user };
    let target = message_trace::target(&app, &asked)?;
    let found = message_trace::trace(&app, &asked).await;
    let outcome = message_trace::outcome(&found);
    let recorded = app.auth().record_trace(&caller, &client, target, outcome);
    recorded.await?;
    Ok(JsonAnswer(found?))
}

async fn reset_counter(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    Sender(client): Sender,
    InPath(CounterKey(key)): InPath<CounterKey>,
) -> ApiResult<StatusCode> {
    app.auth().counter_reset(&caller, &key, &client).await?;
    Ok(StatusCode::NO_CONTENT)
}
