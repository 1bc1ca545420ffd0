//! Idempotency keys: a `send` repeated with the same key is answered with the first one's place.
//!
//! A key is written in the message's own transaction and kept for at least [`KEPT`]; the sweeper takes it later.

use std::time::Duration;

use redb::{ReadableTable, Table, WriteTransaction};
use stack_types::{Event, Seq, Timestamp, UserId};

use crate::{Appended, StoreError, tables};

/// How long a key is kept at least.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a walk over the keys goes on: room, sender and key.
pub(crate) type KeyCursor = (u64, String, String);

/// The keys, in a transaction that writes. The table stays open: that costs as much as a look into it.
pub(crate) struct Keys<'t>(Table<'t, (u64, &'static str, &'static str), (u64, u64)>);

impl<'t> Keys<'t> {
    pub(crate) fn open(tx: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self(tx.open_table(tables::KEYS)?))
    }

    /// The place of the event that was sent with this key.
    pub(crate) fn find(
        &self,
        room: u64,
        sender: &UserId,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Appended>, StoreError> {
        let row = self.0.get((room, sender.as_str(), key))?;
        Ok(row.and_then(|row| place(row.value(), now)))
    }

    /// Remembers the key of an event.
    pub(crate) fn remember(
        &mut self,
        room: u64,
        event: &Event,
        key: &str,
    ) -> Result<(), StoreError> {
        self.0.insert(
            (room, event.sender.as_str(), key),
            (event.seq.0, event.ts.0),
        )?;
        Ok(())
    }

    /// Removes the keys that have expired among the next `most` from `from` on; says how many, and where to go on.
    pub(crate) fn expire(
        &mut self,
        now: Timestamp,
        from: Option<KeyCursor>,
        most: usize,
    ) -> Result<(usize, Option<KeyCursor>), StoreError> {
        let (room, sender, key) = from.unwrap_or_default();
        let mut expired = Vec::new();
        let mut seen = 0;
        let mut last = None;
        let range = self.0.range((room, sender.as_str(), key.as_str())..)?;
        for entry in range.take(most) {
            let (at, value) = entry?;
            let (room, sender, key) = at.value();
            let at = (room, sender.to_owned(), key.to_owned());
            if place(value.value(), now).is_none() {
                expired.push(at.clone());
            }
            last = Some(at);
            seen += 1;
        }
        for (room, sender, key) in &expired {
            self.0.remove((*room, sender.as_str(), key.as_str()))?;
        }
        Ok((expired.len(), last.filter(|_| seen == most)))
    }
}

/// The place that a row tells, while the key is kept.
fn place((seq, ts): (u64, u64), now: Timestamp) -> Option<Appended> {
    (now.since(Timestamp(ts)) <= KEPT).then_some(Appended {
        seq: Seq(seq),
        ts: Timestamp(ts),
    })
}
