//! A room as it is kept in memory: what every send and every read asks for, without a look at the file.
//!
//! The writer thread alone changes it, after the commit that made the change durable. It is loaded from the file
//! the first time somebody asks for the room.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::tail::Tail;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use stack_types::{RoomId, RoomRole, RoomSettings, Seq, Timestamp, UserId};

/// Something of people, by their ids. Ids are made here, so that the map needs no defence against chosen keys; it is
/// asked twice for every message.
pub(crate) type ByUser<T> = HashMap<UserId, T, RandomState>;

/// Somebody's place in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// What they may do.
    pub role: RoomRole,
    /// Since when they are in.
    pub joined_at: Timestamp,
    /// The room's last event when they came; with history `joined` they read what is behind it.
    pub joined_seq: Seq,
}

/// Somebody who may not come in or, as a mute, not speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// Who.
    pub user_id: UserId,
    /// Who banned or muted them.
    pub by: UserId,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when; `None` until it is lifted.
    pub expires_at: Option<Timestamp>,
}

impl Ban {
    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|until| now < until)
    }
}

/// A room as it stands in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pub(crate) id: RoomId,
    pub(crate) title: String,
    pub(crate) settings: RoomSettings,
    pub(crate) created_at: Timestamp,
    /// The first event that is still there; behind the last one when there is none.
    pub(crate) first: Seq,
    pub(crate) deleted: bool,
    /// The time of the last event when `first` moved: no later one is earlier, though it may be gone itself.
    pub(crate) last_ts: Timestamp,
}

/// What can change about a room in memory.
#[derive(Debug, Clone)]
pub(crate) struct RoomState {
    pub(crate) record: RoomRecord,
    /// Whether the commit that made it is through.
    pub(crate) born: bool,
    pub(crate) head: Seq,
    pub(crate) last_ts: Timestamp,
    /// The last event that stands in a block.
    pub(crate) folded: Seq,
    /// The events behind it, and perhaps some in front: a run leaves the tail as a whole.
    pub(crate) tail: Tail,
    /// The first event of the last block, when the next fold may go on with it.
    pub(crate) open_block: Option<Seq>,
    pub(crate) members: ByUser<Membership>,
    pub(crate) bans: ByUser<Ban>,
    pub(crate) mutes: ByUser<Ban>,
}

/// A room in memory.
#[derive(Debug)]
pub(crate) struct RoomCell {
    pub(crate) number: u64,
    pub(crate) id: RoomId,
    pub(crate) state: RwLock<RoomState>,
}

/// A room that exists. Cloning shares it; what it tells is always the latest committed.
#[derive(Debug, Clone)]
pub struct RoomRef(pub(crate) Arc<RoomCell>);

impl RoomRef {
    /// The room's slug.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.0.id
    }

    /// The room's title.
    #[must_use]
    pub fn title(&self) -> String {
        self.0.state.read().record.title.clone()
    }

    /// The room's settings.
    #[must_use]
    pub fn settings(&self) -> RoomSettings {
        self.0.state.read().record.settings
    }

    /// When the room was made.
    #[must_use]
    pub fn created_at(&self) -> Timestamp {
        self.0.state.read().record.created_at
    }

    /// The first event that is still there.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.0.state.read().record.first
    }

    /// The last event.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.0.state.read().head
    }

    /// The time of the last event, which may be gone itself.
    #[must_use]
    pub fn last_ts(&self) -> Timestamp {
        self.0.state.read().last_ts
    }

    /// Whether the room is gone. Its log is no longer read then.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.0.state.read().record.deleted
    }

    /// Somebody's place in the room.
    #[must_use]
    pub fn member(&self, user: &UserId) -> Option<Membership> {
        self.0.state.read().members.get(user).copied()
    }

    /// Everybody in the room, in the order they came.
    #[must_use]
    pub fn members(&self) -> Vec<(UserId, Membership)> {
        let mut members: Vec<_> = {
            let state = self.0.state.read();
            state
                .members
                .iter()
                .map(|(user, member)| (*user, *member))
                .collect()
        };
        members.sort_by_key(|(user, member)| (member.joined_at, *user));
        members
    }

    /// The ban that holds against somebody at `now`.
    #[must_use]
    pub fn ban(&self, user: &UserId, now: Timestamp) -> Option<Ban> {
        let state = self.0.state.read();
        state.bans.get(user).filter(|ban| ban.holds(now)).cloned()
    }

    /// The bans that hold at `now`, oldest first.
    #[must_use]
    pub fn bans(&self, now: Timestamp) -> Vec<Ban> {
        that_hold(&self.0.state.read().bans, now)
    }

    /// The mute that holds against somebody at `now`.
    #[must_use]
    pub fn mute(&self, user: &UserId, now: Timestamp) -> Option<Ban> {
        let state = self.0.state.read();
        state
            .mutes
            .get(user)
            .filter(|mute| mute.holds(now))
            .cloned()
    }

    /// The mutes that hold at `now`, oldest first.
    #[must_use]
    pub fn mutes(&self, now: Timestamp) -> Vec<Ban> {
        that_hold(&self.0.state.read().mutes, now)
    }
}

fn that_hold(all: &ByUser<Ban>, now: Timestamp) -> Vec<Ban> {
    let mut held: Vec<_> = all.values().filter(|ban| ban.holds(now)).cloned().collect();
    held.sort_by_key(|ban| (ban.created_at, ban.user_id));
    held
}
