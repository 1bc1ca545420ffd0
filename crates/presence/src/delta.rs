//! The frame that tells of one change.

use serde::Serialize;
use stack_bus::{Message, Topic};
use stack_types::{PresenceStatus, RoomId, UserId};

#[derive(Serialize)]
struct Frame<'a> {
    r#type: &'static str,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    room: &'a RoomId,
    user_id: UserId,
    status: PresenceStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    version: u64,
}

/// The change as it goes to the room's readers.
pub(crate) fn message(
    room: &RoomId,
    user_id: UserId,
    status: PresenceStatus,
    text: Option<&str>,
    version: u64,
) -> Message {
    let frame = Frame {
        r#type: "presence",
        payload: Payload {
            room,
            user_id,
            status,
            text,
            version,
        },
    };
    let json = serde_json::to_vec(&frame).expect("text and numbers are always JSON");
    Message::one(Topic::presence(room), &json)
}
