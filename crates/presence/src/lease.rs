//! The presence of one connection.

use std::fmt;

use stack_types::{ConnectionId, PresenceStatus, Problem, RoomId};

use crate::Presences;
use crate::state::LeaseId;

/// The longest text beside a status, in bytes.
pub const MAX_TEXT_BYTES: usize = 128;

/// The presence of one connection, for as long as it is held: dropping it takes the connection out of its rooms.
///
/// Everything done with a lease renews it. One that has expired is not lost: the next heartbeat makes the
/// connection present again in the rooms it was in.
#[must_use = "dropping a lease ends the presence"]
pub struct Lease {
    presences: Presences,
    id: LeaseId,
    connection: ConnectionId,
}

impl Lease {
    pub(crate) fn new(presences: Presences, id: LeaseId, connection: ConnectionId) -> Self {
        Self {
            presences,
            id,
            connection,
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// A heartbeat: the connection is still there.
    pub fn renew(&self) {
        let now = self.presences.inner.clock.now();
        self.presences
            .change(|state, told| state.renew(self.id, now, told));
    }

    /// The connection is in the room from now on. Entering again changes nothing.
    pub fn enter(&self, room: &RoomId) {
        let now = self.presences.inner.clock.now();
        self.presences.change(|state, told| {
            state.renew(self.id, now, told);
            state.enter(self.id, room, now, told);
        });
    }

    /// The connection is not in the room any more. Leaving again changes nothing.
    pub fn leave(&self, room: &RoomId) {
        let now = self.presences.inner.clock.now();
        self.presences.change(|state, told| {
            state.renew(self.id, now, told);
            state.leave(self.id, room, told);
        });
    }

    /// The user says on this connection how it is here. Of what a user says on several connections the latest
    /// counts, for as long as its connection is there. An empty text is none.
    ///
    /// # Errors
    /// `invalid_field` for `offline`, which only the server says, and for a text of more than 128 bytes.
    pub fn set_status(&self, status: PresenceStatus, text: Option<String>) -> Result<(), Problem> {
        if status == PresenceStatus::Offline {
            return Err(Problem::invalid_field(
                "status",
                "a status is online, away or busy",
            ));
        }
        let text = text.filter(|text| !text.is_empty());
        if text
            .as_ref()
            .is_some_and(|text| text.len() > MAX_TEXT_BYTES)
        {
            return Err(Problem::invalid_field(
                "text",
                "the text of a status is at most 128 bytes",
            ));
        }
        let now = self.presences.inner.clock.now();
        self.presences.change(|state, told| {
            state.renew(self.id, now, told);
            state.say(self.id, status, text, told);
        });
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.presences
            .change(|state, told| state.release(self.id, told));
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
