//! What somebody is told who asks where a message is. The names are those of the answer.

use std::collections::BTreeMap;

use serde::Serialize;
use stack_types::{
    ConnectionId, RoomId, RoomRole, Seq, SessionId, Timestamp, UnsubscribeReason, UserId, Username,
};

use crate::ws::{Ending, Way};

/// Where a message is.
#[derive(Debug, Serialize)]
pub(crate) struct MessageTrace {
    /// When this was found out.
    pub(super) at: Timestamp,
    pub(super) room: Room,
    pub(super) message: Message,
    /// `null` when it is not remembered.
    pub(super) commit: Option<Commit>,
    /// Since when commits, and connections that have closed, are remembered at best.
    pub(super) remembered_since: Timestamp,
    pub(super) people_by_arrival: BTreeMap<Arrival, usize>,
    pub(super) connections_by_state: BTreeMap<State, usize>,
    pub(super) people: Vec<Person>,
    pub(super) connections: Vec<Connection>,
    pub(super) closed: Vec<Closed>,
    /// How many more there are than the lists have.
    pub(super) not_listed: NotListed,
}

#[derive(Debug, Serialize)]
pub(super) struct Room {
    pub(super) id: RoomId,
    pub(super) title: String,
    pub(super) first: Seq,
    pub(super) head: Seq,
    pub(super) members: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) seq: Seq,
    pub(super) state: Kept,
    /// Such as `message` or `member`; `null` when it was dropped, as what follows.
    pub(super) r#type: Option<String>,
    pub(super) sender: Option<Named>,
    pub(super) ts: Option<Timestamp>,
    /// Bytes of its frame.
    pub(super) bytes: Option<usize>,
}

/// What is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kept {
    Stored,
    /// Its place in the room.
    Redacted,
    /// Nothing: the room keeps events for a shorter time.
    Dropped,
}

#[derive(Debug, Serialize)]
pub(super) struct Commit {
    /// The events of the room that were committed together.
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) committed_at: Timestamp,
    /// From the end of the commit until it was on the bus.
    pub(super) published_us: u64,
    /// From the end of the commit until it had been written for every live reader.
    pub(super) handed_us: u64,
    /// Live readers that took what went out with it, and those that fell behind.
    pub(super) readers: u64,
    pub(super) fell_behind: u64,
}

/// What became of it for somebody. Of several connections the one counts whose state comes last here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Arrival {
    /// Their subscription begins behind it.
    Later,
    /// Their subscription ended before it was handed over.
    Missed,
    /// Their connection reads from the log, and is not there yet.
    Behind,
    /// They read live, and its turn has not come yet.
    OnItsWay,
    /// They are connected, and no connection of theirs subscribes to the room.
    NotSubscribed,
    /// They have no connection.
    Away,
    /// The room's history is theirs from a later event on.
    NotTheirs,
    /// They are no member, and have no connection.
    NotInRoom,
    /// They are connected to an edge, which hands it out and knows how far it is.
    AtEdge,
    /// It was handed over to the writer of a socket of theirs.
    Handed,
    /// Their read marker is at it or behind it.
    Read,
    /// They have sent it.
    Sent,
}

#[derive(Debug, Serialize)]
pub(super) struct Person {
    pub(super) user: Named,
    pub(super) arrival: Arrival,
    /// `null` for who is no member.
    pub(super) role: Option<RoomRole>,
    /// How far they have read.
    pub(super) read_seq: Seq,
    /// The first event that is there for them.
    pub(super) first: Seq,
    /// Open connections, to any room.
    pub(super) connections: usize,
    /// Their subscriptions to the room.
    pub(super) subscriptions: usize,
    pub(super) last_seen_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize)]
pub(super) struct Named {
    pub(super) id: UserId,
    /// `null` when there is no such account.
    pub(super) username: Option<Username>,
    pub(super) display_name: Option<String>,
}

/// By what a connection was opened.
#[derive(Debug, Serialize)]
pub(super) struct By {
    pub(super) id: Option<ConnectionId>,
    pub(super) way: Option<Way>,
    /// The session, or the API key.
    pub(super) session: Option<SessionId>,
    pub(super) device: Option<String>,
    /// From where the session signed in or refreshed last.
    pub(super) ip: Option<String>,
}

/// A subscription to the room.
#[derive(Debug, Serialize)]
pub(super) struct Connection {
    pub(super) user: Named,
    pub(super) connection: By,
    pub(super) state: State,
    pub(super) subscribed_at: Timestamp,
    /// It asked for what lies behind this event.
    pub(super) from: Seq,
    /// The last event that was handed over; `null` at an edge.
    pub(super) cursor: Option<Seq>,
    /// Since when it reads from the log; `null` while it reads live.
    pub(super) behind_since: Option<Timestamp>,
    /// Bytes that its socket has not taken yet.
    pub(super) waiting_bytes: usize,
}

/// What a subscription has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It reads from the log, and is not there yet.
    Behind,
    /// It reads live, and its turn has not come yet.
    OnItsWay,
    /// It begins behind it.
    Later,
    /// An edge hands it out, and knows how far it is.
    AtEdge,
    /// It was handed over to the socket's writer.
    Handed,
}

/// A subscription to the room that has ended.
#[derive(Debug, Serialize)]
pub(super) struct Closed {
    pub(super) user: Named,
    pub(super) connection: By,
    pub(super) state: Had,
    pub(super) subscribed_at: Timestamp,
    pub(super) ended_at: Timestamp,
    pub(super) from: Seq,
    /// At least up to here everything was handed over; `null` at an edge.
    pub(super) cursor: Option<Seq>,
    /// Why the subscription ended, where the client was told.
    pub(super) reason: Option<UnsubscribeReason>,
    /// Whether the socket is still open.
    pub(super) is_open: bool,
    /// How the socket ended, if that is remembered.
    pub(super) ending: Option<Ending>,
}

/// What a subscription that has ended had of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Had {
    /// It ended behind the commit, and before it was handed over.
    Missed,
    /// It ended before the commit.
    Before,
    /// It began behind it.
    Later,
    /// An edge handed it out, or did not.
    AtEdge,
    /// It was handed over to the socket's writer.
    Handed,
}

#[derive(Debug, Serialize)]
pub(super) struct NotListed {
    pub(super) people: usize,
    pub(super) connections: usize,
    pub(super) closed: usize,
}
