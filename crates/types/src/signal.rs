//! What the server tells a socket beside the events of a log: it has no number, is not kept, and some of it may
//! be lost.

use serde::{Deserialize, Serialize};

use crate::{RoomId, Seq, Timestamp, UnsubscribeReason, UserId};

/// Why events cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// They were dropped for their age.
    Retention,
    /// They are from before the reader's time, in a room whose history is for those who were there.
    Joined,
}

/// Something to tell sockets now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// Somebody writes, or has stopped.
    Typing {
        /// Where.
        room: RoomId,
        /// Who.
        user_id: UserId,
        /// Whether they write.
        on: bool,
    },
    /// Somebody has read up to here on another device.
    Read {
        /// Where.
        room: RoomId,
        /// Who.
        user_id: UserId,
        /// How far.
        read_seq: Seq,
    },
    /// This subscription is over.
    Unsubscribed {
        /// Which.
        room: RoomId,
        /// Why.
        reason: UnsubscribeReason,
    },
    /// These events cannot be had any more.
    Gap {
        /// Where.
        room: RoomId,
        /// The first that is missing.
        from: Seq,
        /// The last that is missing.
        to: Seq,
        /// Why.
        reason: GapReason,
    },
    /// The session ends soon unless the client signs in again.
    SessionExpiring {
        /// When.
        expires_at: Timestamp,
    },
    /// The session was revoked; the socket closes.
    SessionRevoked,
    /// The server goes down; come back after this delay.
    Drain {
        /// In milliseconds.
        reconnect_in_ms: u64,
    },
}
