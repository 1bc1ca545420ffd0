//! What is told and not kept, or kept beside the log: typing and read cursors.

use stack_bus::{Message, Topic};
use stack_rate::Quota;
use stack_types::{Problem, RoomId, Seq, Signal, UserId};

use crate::Rooms;
use crate::rights::Action;
use crate::rooms::check_cursor;

impl Rooms {
    /// Tells the room's readers that somebody writes, or has stopped.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub fn typing(&self, user: UserId, room: &RoomId, on: bool) -> Result<(), Problem> {
        self.check(&user, room, Action::Speak)?;
        if self.0.config.messages != Quota::UNLIMITED {
            let turn = self.0.typing.check(&(user, room.clone()));
            turn.map_err(|after| Problem::rate_limited(after.0))?;
        }
        self.tell(
            Topic::presence(room),
            &Signal::Typing {
                room: room.clone(),
                user_id: user,
                on,
            },
        );
        Ok(())
    }

    /// Moves the caller's read cursor forward, and tells the caller's devices.
    ///
    /// # Errors
    /// `not_found`, `forbidden`; `invalid_field` for what has not happened yet; `unavailable` when it cannot be kept.
    pub async fn read(&self, user: UserId, room: &RoomId, seq: Seq) -> Result<(), Problem> {
        let (found, _) = self.check(&user, room, Action::Read)?;
        check_cursor("seq", seq, found.head())?;
        if seq <= self.0.store.read_cursor(&user, &found)? {
            return Ok(());
        }
        let read_seq = self.0.store.set_read(user, &found, seq).await?;
        self.tell(
            Topic::user(user),
            &Signal::Read {
                room: room.clone(),
                user_id: user,
                read_seq,
            },
        );
        Ok(())
    }

    fn tell(&self, topic: Topic, signal: &Signal) {
        let frame = self.0.codec.signal(signal);
        // Signals may be lost; the bus is closed only when the gateway ends.
        let _ = self.0.bus.publish(Message::one(topic, &frame));
    }
}
