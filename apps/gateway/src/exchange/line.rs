//! The lines of an export that are no events. A line is told from an event by its member `line`, which comes first.
//!
//! What is added later is a member that a reader of today may pass over; what it may not is a new kind of line, or a new
//! version, and is refused by it.

use serde::{Deserialize, Serialize};
use stack_storage::{Ban, Membership};
use stack_types::{RoomId, RoomRole, RoomSettings, Seq, Timestamp, UserId, Username};

/// What the header says.
pub(crate) const FORMAT: &str = "stack-rooms";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// The longest line that is read. An event is a third of it at most, unless most of it needs escapes.
pub(crate) const LINE_BYTES: usize = 512 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
pub(crate) enum Line {
    Header(Header),
    User(UserLine),
    Room(RoomLine),
    Member(MemberLine),
    Ban(BanLine),
    Mute(BanLine),
    RoomEnd(RoomEnd),
    Trailer(Trailer),
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: String,
    pub(crate) version: u32,
    pub(crate) made_at: Timestamp,
    /// By which program.
    #[serde(default)]
    pub(crate) by: String,
}

/// Somebody who is named further down.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserLine {
    pub(crate) id: UserId,
    pub(crate) username: Username,
    pub(crate) display_name: String,
    /// Whether it is a program's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bot: bool,
}

/// A room begins; what follows up to its end is of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RoomLine {
    pub(crate) id: RoomId,
    pub(crate) title: String,
    pub(crate) settings: RoomSettings,
    pub(crate) created_at: Timestamp,
    /// The number of its first event.
    pub(crate) first: Seq,
    /// Where no event is left, the time of the last that was there: what is said next is not earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_ts: Option<Timestamp>,
}

/// Somebody who is in the room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberLine {
    pub(crate) user_id: UserId,
    pub(crate) role: RoomRole,
    pub(crate) joined_at: Timestamp,
    /// The room's last event when they came.
    pub(crate) joined_seq: Seq,
}

impl MemberLine {
    pub(crate) fn of(user_id: UserId, member: Membership) -> Self {
        let Membership {
            role,
            joined_at,
            joined_seq,
        } = member;
        Self {
            user_id,
            role,
            joined_at,
            joined_seq,
        }
    }
}

/// Somebody who may not come in or, as a mute, not speak.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BanLine {
    pub(crate) user_id: UserId,
    pub(crate) by: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    pub(crate) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
}

impl From<Ban> for BanLine {
    fn from(ban: Ban) -> Self {
        let Ban {
            user_id,
            by,
            reason,
            created_at,
            expires_at,
        } = ban;
        Self {
            user_id,
            by,
            reason,
            created_at,
            expires_at,
        }
    }
}

/// A room has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RoomEnd {
    pub(crate) id: RoomId,
    pub(crate) events: u64,
}

/// The last line: without it a file is cut off.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trailer {
    pub(crate) rooms: u64,
    pub(crate) users: u64,
    pub(crate) events: u64,
}

/// Adds a line.
pub(crate) fn write(line: &Line, out: &mut Vec<u8>) {
    // Strings and numbers into memory: it cannot fail.
    let _ = serde_json::to_writer(&mut *out, line);
    out.push(b'\n');
}

/// Whether a line is an event rather than one of these.
pub(crate) fn is_event(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "type", borrow, default)]
        kind: Option<std::borrow::Cow<'a, str>>,
    }

    line.starts_with(b"{\"type\":")
        || serde_json::from_slice::<Kind<'_>>(line).is_ok_and(|line| line.kind.is_some())
}
