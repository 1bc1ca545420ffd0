//! Rooms, members and bans as the protocol shows them.

use serde::Serialize;
use stack_storage::{Ban, RoomRef};
use stack_types::{RoomId, RoomRole, RoomSettings, Seq, Timestamp, User, UserId};

/// A room as somebody sees it.
#[derive(Debug, Clone, Serialize)]
pub struct Room {
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// The caller's role; `None` for a non-member.
    pub role: Option<RoomRole>,
    /// The first event that is there for the caller.
    pub first: Seq,
    /// The last event.
    pub head: Seq,
    /// How far the caller has read; zero before any reading.
    pub read_seq: Seq,
    /// When it was made.
    pub created_at: Timestamp,
}

impl Room {
    pub(crate) fn of(room: &RoomRef, user: &UserId, first: Seq, read_seq: Seq) -> Self {
        Self {
            id: room.id().clone(),
            title: room.title(),
            settings: room.settings(),
            role: room.member(user).map(|member| member.role),
            first,
            head: room.head(),
            read_seq,
            created_at: room.created_at(),
        }
    }
}

/// Somebody's place in a room.
#[derive(Debug, Clone, Serialize)]
pub struct Member {
    /// Who.
    pub user: User,
    /// What they may do.
    pub role: RoomRole,
    /// Since when they are in.
    pub joined_at: Timestamp,
    /// When they were last connected, as of the last time it was written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_at: Option<Timestamp>,
}

/// A ban.
#[derive(Debug, Clone, Serialize)]
pub struct BanView {
    /// Who.
    pub user_id: UserId,
    /// Who banned them.
    pub by: UserId,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when; absent until it is lifted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl From<Ban> for BanView {
    fn from(ban: Ban) -> Self {
        Self {
            user_id: ban.user_id,
            by: ban.by,
            reason: ban.reason,
            created_at: ban.created_at,
            expires_at: ban.expires_at,
        }
    }
}
