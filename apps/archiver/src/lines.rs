//! Gathers a subscription's deliveries into lines for the archive.

use std::io::{self, Write as _};

use stack_types::{Event, RoomId, Seq};

use crate::archive::Lines;

/// So much text is written at once; more is no better compressed and only takes memory.
const FULL: usize = 1 << 20;

/// Lines that are not in the archive yet, in order and without a hole.
#[derive(Debug)]
pub(crate) struct Gathered {
    text: Vec<u8>,
    first: Seq,
    /// Everything up to here was gathered.
    last: Seq,
}

impl Gathered {
    /// Nothing yet, behind what the archive has.
    pub(crate) fn behind(seq: Seq) -> Self {
        Self {
            text: Vec::new(),
            first: seq.next(),
            last: seq,
        }
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether it is time to write.
    pub(crate) fn is_full(&self) -> bool {
        self.text.len() >= FULL
    }

    /// Adds an event, as the frame that a WebSocket gets; `false` when it does not follow what was gathered.
    #[must_use]
    pub(crate) fn event(&mut self, event: &Event) -> bool {
        if event.seq != self.last.next() {
            return false;
        }
        self.text.extend_from_slice(&stack_ipc::event_json(event));
        self.text.push(b'\n');
        self.last = event.seq;
        true
    }

    /// Adds what cannot be had, as the frame that a WebSocket gets; `false` when it does not follow what was gathered.
    ///
    /// # Errors
    /// None that is known; writing to memory is infallible.
    pub(crate) fn gap(
        &mut self,
        room: &RoomId,
        from: Seq,
        to: Seq,
        reason: &str,
    ) -> io::Result<bool> {
        if from != self.last.next() || to < from {
            return Ok(false);
        }
        let frame = serde_json::json!({
            "type": "gap",
            "payload": { "room": room, "from": from, "to": to, "reason": reason },
        });
        writeln!(self.text, "{frame}")?;
        self.last = to;
        Ok(true)
    }

    /// Compresses what there is, and is empty then.
    ///
    /// # Errors
    /// None that is known; writing to memory is infallible.
    pub(crate) fn take(&mut self) -> io::Result<Option<Lines>> {
        if self.is_empty() {
            return Ok(None);
        }
        let lines = Lines::compress(self.first, self.last, &self.text)?;
        self.text.clear();
        self.first = self.last.next();
        Ok(Some(lines))
    }
}

#[cfg(test)]
mod tests {
    use stack_types::{EventBody, Timestamp, UserId};

    use super::*;

    fn event(seq: u64) -> Event {
        Event {
            room: "general".parse().unwrap(),
            seq: Seq(seq),
            ts: Timestamp(5),
            sender: "u1".parse::<UserId>().unwrap(),
            body: EventBody::Tombstone,
        }
    }

    #[test]
    fn lines_follow_each_other_without_a_hole() {
        let room = "general".parse().unwrap();
        let mut gathered = Gathered::behind(Seq(3));
        assert_eq!(gathered.take().unwrap(), None);
        assert!(!gathered.event(&event(3)));
        assert!(!gathered.event(&event(5)));
        assert!(gathered.event(&event(4)));
        assert!(!gathered.gap(&room, Seq(6), Seq(9), "retention").unwrap());
        assert!(gathered.gap(&room, Seq(5), Seq(9), "retention").unwrap());
        assert!(gathered.event(&event(10)));
        let lines = gathered.take().unwrap().unwrap();
        assert_eq!((lines.first, lines.last), (Seq(4), Seq(10)));
        assert!(gathered.is_empty());
        assert!(!gathered.event(&event(10)));
        assert!(gathered.event(&event(11)));
        let lines = gathered.take().unwrap().unwrap();
        assert_eq!((lines.first, lines.last), (Seq(11), Seq(11)));
    }
}
