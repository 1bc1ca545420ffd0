//! People: an account, its global role, and its presence.

use serde::{Deserialize, Serialize};

use crate::{Timestamp, UserId, Username};

/// What a person may do on the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GlobalRole {
    /// Uses rooms.
    Member,
    /// Also looks after the server.
    Admin,
}

/// An account as others may see it. Its e-mail and settings are for its owner and stand elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Opaque, never reused.
    pub id: UserId,
    /// Unique, in lower case.
    pub username: Username,
    /// What people see; at most 64 characters.
    pub display_name: String,
    /// The role on the whole server.
    pub role: GlobalRole,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// What a person says of being here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStatus {
    /// Here.
    Online,
    /// Connected, but not at the keyboard.
    Away,
    /// Connected, and wants quiet.
    Busy,
    /// Not connected. Only the server says this.
    Offline,
}

/// One person's presence in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Who.
    pub user_id: UserId,
    /// How.
    pub status: PresenceStatus,
    /// What the person says of it, at most 128 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When the person was last heard of.
    pub last_seen_at: Timestamp,
}
