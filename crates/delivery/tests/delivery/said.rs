//! What was said, as the model has it.

use stack_types::{Event, EventBody, EventDraft, RoomId, Timestamp, UserId};

pub(crate) const ROOMS: usize = 3;

/// An event of the model: what was said, and what is left of it.
pub(crate) struct Said {
    pub(crate) ts: Timestamp,
    first: EventBody,
    pub(crate) now: EventBody,
}

impl Said {
    /// What was on its way when it was taken back may still come as it was.
    pub(crate) fn is(&self, event: &Event) -> bool {
        event.ts == self.ts && (event.body == self.first || event.body == self.now)
    }
}

impl Said {
    pub(crate) fn now(ts: Timestamp, body: EventBody) -> Self {
        Self {
            ts,
            first: body.clone(),
            now: body,
        }
    }
}

pub(crate) fn said(text: &str) -> EventBody {
    EventBody::Message {
        body: text.to_owned(),
        data: None,
        key: None,
        reply_to: None,
    }
}

pub(crate) fn id(room: usize) -> RoomId {
    format!("room-{room}").parse().unwrap()
}

pub(crate) fn alice() -> UserId {
    "alice".parse().unwrap()
}

pub(crate) fn draft(body: EventBody) -> EventDraft {
    let sender = alice();
    EventDraft { sender, body }
}

pub(crate) fn room_of(name: &serde_json::Value) -> usize {
    (0..ROOMS)
        .find(|room| id(*room).as_str() == name.as_str().unwrap())
        .unwrap()
}
