//! What happens in a room. An event is one entry of the room's log; its sequence number and time are given by
//! the log when it is committed.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{RoomId, RoomRole, RoomSettings, Seq, Signal, Timestamp, UserId};

/// Any JSON value, kept exactly as the client wrote it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonValue(pub Box<RawValue>);

impl JsonValue {
    /// The value's JSON text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for JsonValue {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// An event before it has its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// Who caused it.
    pub sender: UserId,
    /// What happened.
    pub body: EventBody,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Where.
    pub room: RoomId,
    /// Its number in the room.
    pub seq: Seq,
    /// When it was committed; never falls as `seq` grows.
    pub ts: Timestamp,
    /// Who caused it.
    pub sender: UserId,
    /// What happened.
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum EventBody {
    /// Somebody said something.
    Message {
        /// The text.
        body: String,
        /// Anything the application wants to send along.
        data: Option<JsonValue>,
        /// The sender's idempotency key.
        key: Option<String>,
        /// The message this one answers.
        reply_to: Option<Seq>,
    },
    /// What is left of a redacted message, at its place.
    Tombstone,
    /// A message has a new text. The original stays as it is.
    Edited {
        /// The message.
        target_seq: Seq,
        /// Its new text; `None` after the message was redacted.
        body: Option<String>,
    },
    /// A message was taken back.
    Redacted {
        /// The message.
        target_seq: Seq,
        /// Why.
        reason: Option<String>,
    },
    /// All that the sender had said up to some point was erased, or some of it where that was too much for one event.
    Erased {
        /// The events that were changed for it, oldest first; at least one.
        targets: Vec<Seq>,
    },
    /// Somebody reacted to a message.
    Reacted {
        /// The message.
        target_seq: Seq,
        /// With what; empty after the reaction was erased.
        emoji: String,
        /// Whether the reaction was taken back.
        remove: bool,
    },
    /// The room itself.
    Room {
        /// What became of it.
        action: RoomAction,
        /// Its title now.
        title: String,
        /// Its settings now.
        settings: RoomSettings,
    },
    /// Somebody's membership.
    Member {
        /// What became of it.
        action: MemberAction,
        /// Whose.
        user_id: UserId,
        /// The role now, with `joined` and `role`.
        role: Option<RoomRole>,
        /// Why, with `removed` and `banned`.
        reason: Option<String>,
    },
}

/// What became of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomAction {
    /// It was made; always the first event.
    Created,
    /// Its title or settings changed.
    Changed,
}

/// What became of a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberAction {
    /// Came in, by itself or put in by somebody.
    Joined,
    /// Went by itself.
    Left,
    /// Was removed.
    Removed,
    /// Was banned.
    Banned,
    /// May come back.
    Unbanned,
    /// May not speak.
    Muted,
    /// May speak again.
    Unmuted,
    /// Has another role.
    Role,
}

/// Turns events into the bytes that clients get and that the log keeps, and back; and signals into bytes.
///
/// Encoding is deterministic: the same event gives the same bytes, for every subscriber and every read.
/// `decode(encode(event)) == event` holds for every event.
pub trait EventCodec: Send + Sync + 'static {
    /// Appends the frame of `event`.
    fn encode(&self, event: &Event, out: &mut Vec<u8>);

    /// Reads a frame that `encode` made.
    ///
    /// # Errors
    /// The bytes are no event's frame: the file is damaged or was written by something else.
    fn decode(&self, frame: &[u8]) -> Result<Event, MalformedEvent>;

    /// The frame of a signal.
    fn signal(&self, signal: &Signal) -> Vec<u8>;
}

/// Bytes that should be an event's frame are not.
#[derive(Debug)]
pub struct MalformedEvent(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for MalformedEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stored event is malformed")
    }
}

impl Error for MalformedEvent {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}
