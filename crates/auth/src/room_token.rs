//! What a room token says of rooms: which, and what may be done there. A token never gives more than its user has.

use serde::{Deserialize, Serialize};
use stack_storage::Scope;
use stack_types::RoomId;

/// Something that a room token allows in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomRight {
    /// Read and subscribe.
    Read,
    /// Send, edit, redact and react.
    Send,
    /// Tell typing and what was read.
    Presence,
}

impl RoomRight {
    /// Every right.
    pub const ALL: [Self; 3] = [Self::Read, Self::Send, Self::Presence];

    /// The right that stands for a scope, where there is one.
    #[must_use]
    pub fn of(scope: Scope) -> Option<Self> {
        match scope {
            Scope::Read => Some(Self::Read),
            Scope::Send => Some(Self::Send),
            Scope::Presence => Some(Self::Presence),
            Scope::Rooms | Scope::ChatToken | Scope::Admin => None,
        }
    }
}

/// What a room token allows in one room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomGrant {
    /// Where.
    pub room: RoomId,
    /// What, each once.
    pub rights: Vec<RoomRight>,
}
