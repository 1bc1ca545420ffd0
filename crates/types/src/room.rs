//! Rooms: roles, settings, and why a subscription ends.

use serde::{Deserialize, Serialize};

/// What a person may do in a room, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomRole {
    /// Reads and subscribes, never sends.
    Guest,
    /// Reads and sends.
    Member,
    /// Also redacts others' messages, removes and bans.
    Moderator,
    /// Also changes and deletes the room and gives roles.
    Owner,
}

/// How much of the past a member may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryVisibility {
    /// All of it.
    #[default]
    Members,
    /// From the member's own joining on.
    Joined,
}

/// The settings of a room, typed and stored flat in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomSettings {
    /// Other signed-in users see the room and may join it.
    pub public: bool,
    /// How much of the past a member may read.
    pub history: HistoryVisibility,
    /// Events older than this many days are dropped; 0 keeps them for ever.
    pub retention_days: u32,
    /// Only the newest so many events are kept; 0 keeps them all.
    pub retention_messages: u32,
    /// The largest `body` of a message here, in bytes; 0 means the server's own limit.
    pub max_message_bytes: u32,
    /// The least time between two messages of one member, in seconds; moderators are exempt.
    pub slow_mode_s: u32,
    /// In a public room, signed-in users who are not members read and subscribe, as `guest`.
    pub allow_guests: bool,
    /// Messages one member may send here in ten seconds; 0 means the server's own limit.
    pub messages_per_10s: u32,
}

impl Default for RoomSettings {
    fn default() -> Self {
        Self {
            public: false,
            history: HistoryVisibility::Members,
            retention_days: 0,
            retention_messages: 0,
            max_message_bytes: 0,
            slow_mode_s: 0,
            allow_guests: false,
            messages_per_10s: 0,
        }
    }
}

/// A change of some settings; what is absent stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RoomSettingsPatch {
    /// See [`RoomSettings::public`].
    pub public: Option<bool>,
    /// See [`RoomSettings::history`].
    pub history: Option<HistoryVisibility>,
    /// See [`RoomSettings::retention_days`].
    pub retention_days: Option<u32>,
    /// See [`RoomSettings::retention_messages`].
    pub retention_messages: Option<u32>,
    /// See [`RoomSettings::max_message_bytes`].
    pub max_message_bytes: Option<u32>,
    /// See [`RoomSettings::slow_mode_s`].
    pub slow_mode_s: Option<u32>,
    /// See [`RoomSettings::allow_guests`].
    pub allow_guests: Option<bool>,
    /// See [`RoomSettings::messages_per_10s`].
    pub messages_per_10s: Option<u32>,
}

impl RoomSettings {
    /// These settings with the change applied.
    #[must_use]
    pub fn with(self, patch: &RoomSettingsPatch) -> Self {
        Self {
            public: patch.public.unwrap_or(self.public),
            history: patch.history.unwrap_or(self.history),
            retention_days: patch.retention_days.unwrap_or(self.retention_days),
            retention_messages: patch.retention_messages.unwrap_or(self.retention_messages),
            max_message_bytes: patch.max_message_bytes.unwrap_or(self.max_message_bytes),
            slow_mode_s: patch.slow_mode_s.unwrap_or(self.slow_mode_s),
            allow_guests: patch.allow_guests.unwrap_or(self.allow_guests),
            messages_per_10s: patch.messages_per_10s.unwrap_or(self.messages_per_10s),
        }
    }
}

/// Why a subscription is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnsubscribeReason {
    /// The subscriber left.
    Left,
    /// Somebody removed the subscriber.
    Removed,
    /// Somebody banned the subscriber.
    Banned,
    /// The room was made private and the subscriber was a guest.
    Private,
    /// The room is gone.
    Deleted,
}
