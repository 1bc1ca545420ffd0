//! `/rooms/{room}/messages` and what is done to messages. Every answer to a write comes after it is durable.

use axum::Json as JsonAnswer;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, put};
use http::{StatusCode, header};
use serde::Deserialize;
use stack_rooms::{Page, PageQuery, Say, SendMessage, Sent};
use stack_types::{JsonValue, RoomId, Seq, Timestamp};

use crate::app::AppState;
use crate::http::path::Emoji;
use crate::http::{ApiResult, InPath, Json, OptionalJson, Query, SignedIn};

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/rooms/{room}/messages", get(page).post(send))
        .route("/rooms/{room}/messages/{seq}", patch(edit).delete(redact))
        .route(
            "/rooms/{room}/messages/{seq}/reactions/{emoji}",
            put(react).delete(take_reaction_back),
        )
        .route("/rooms/{room}/read", put(read))
}

#[derive(Deserialize)]
struct Cursor {
    after: Option<Seq>,
    before: Option<Seq>,
    after_ts: Option<Timestamp>,
    limit: Option<u64>,
}

#[derive(Deserialize)]
struct Message {
    body: String,
    data: Option<JsonValue>,
    key: Option<String>,
    reply_to: Option<Seq>,
}

#[derive(Deserialize)]
struct Edit {
    body: String,
}

#[derive(Default, Deserialize)]
struct Redaction {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Reading {
    seq: Seq,
}

async fn page(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    Query(asked): Query<Cursor>,
) -> ApiResult<Response> {
    let query = PageQuery {
        after: asked.after,
        before: asked.before,
        after_ts: asked.after_ts,
        limit: asked.limit,
    };
    let page = app.rooms().history(caller.user.id, &room, query).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text_of(&page)).into_response())
}

async fn send(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    Json(asked): Json<Message>,
) -> ApiResult<(StatusCode, JsonAnswer<Sent>)> {
    let say = Say::Message(SendMessage {
        body: asked.body,
        data: asked.data,
        key: asked.key,
        reply_to: asked.reply_to,
    });
    let sent = app.rooms().say_and_wait(caller.user.id, &room, say).await?;
    Ok((StatusCode::CREATED, JsonAnswer(sent)))
}

async fn edit(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    InPath(seq): InPath<Seq>,
    Json(asked): Json<Edit>,
) -> ApiResult<JsonAnswer<Sent>> {
    let say = Say::Edit {
        target: seq,
        body: asked.body,
    };
    let edited = app.rooms().say_and_wait(caller.user.id, &room, say).await?;
    Ok(JsonAnswer(edited))
}

async fn redact(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    InPath(seq): InPath<Seq>,
    OptionalJson(asked): OptionalJson<Redaction>,
) -> ApiResult<JsonAnswer<Sent>> {
    let say = Say::Redact {
        target: seq,
        reason: asked.reason,
    };
    let redacted = app.rooms().say_and_wait(caller.user.id, &room, say).await?;
    Ok(JsonAnswer(redacted))
}

async fn react(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    InPath(seq): InPath<Seq>,
    InPath(Emoji(emoji)): InPath<Emoji>,
) -> ApiResult<JsonAnswer<Sent>> {
    let say = Say::React {
        target: seq,
        emoji,
        remove: false,
    };
    let reacted = app.rooms().say_and_wait(caller.user.id, &room, say).await?;
    Ok(JsonAnswer(reacted))
}

async fn take_reaction_back(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    InPath(seq): InPath<Seq>,
    InPath(Emoji(emoji)): InPath<Emoji>,
) -> ApiResult<JsonAnswer<Sent>> {
    let say = Say::React {
        target: seq,
        emoji,
        remove: true,
    };
    let reacted = app.rooms().say_and_wait(caller.user.id, &room, say).await?;
    Ok(JsonAnswer(reacted))
}

async fn read(
    State(app): State<AppState>,
    SignedIn(caller): SignedIn,
    InPath(room): InPath<RoomId>,
    Json(asked): Json<Reading>,
) -> ApiResult<StatusCode> {
    app.rooms().read(caller.user.id, &room, asked.seq).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page as JSON. Events stand in it as they are stored, byte for byte what a subscriber gets.
fn text_of(page: &Page) -> Vec<u8> {
    let frames = page.events.frames();
    let mut text = Vec::with_capacity(frames.wire().len() + 64);
    text.extend_from_slice(b"{\"events\":[");
    for (index, event) in frames.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&event);
    }
    text.extend_from_slice(
        format!("],\"head\":{},\"first\":{}}}", page.head, page.first).as_bytes(),
    );
    text
}

#[cfg(test)]
mod tests {
    use stack_types::{EventBatch, FramesBuilder};

    use super::*;

    #[test]
    fn events_are_spliced_in_as_they_are() {
        let mut frames = FramesBuilder::default();
        frames.push(br#"{"type":"message","payload":{"x":1.0}}"#);
        frames.push(b"{ }");
        let page = |frames: FramesBuilder| Page {
            events: EventBatch::new(Seq(4), frames.finish()),
            head: Seq(5),
            first: Seq(1),
        };
        assert_eq!(
            text_of(&page(frames)),
            br#"{"events":[{"type":"message","payload":{"x":1.0}},{ }],"head":5,"first":1}"#
        );
        assert_eq!(
            text_of(&page(FramesBuilder::default())),
            br#"{"events":[],"head":5,"first":1}"#
        );
    }
}
