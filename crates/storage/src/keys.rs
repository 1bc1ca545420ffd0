//! Idempotency keys: a `send` repeated with the same key is answered with the first one's place.
//!
//! A key is written in the message's own transaction and kept for at least [`KEPT`]; the sweeper takes it later.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use stack_types::{Event, Seq, Timestamp, UserId};

use crate::{Appended, StoreError, tables};

/// How long a key is kept at least.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The place of the event that was sent with this key.
pub(crate) fn find(
    tx: &WriteTransaction,
    room: u64,
    sender: &UserId,
    key: &str,
    now: Timestamp,
) -> Result<Option<Appended>, StoreError> {
    let table = tx.open_table(tables::KEYS)?;
    let row = table.get((room, sender.as_str(), key))?;
    Ok(row.and_then(|row| place(row.value(), now)))
}

/// The place that a row tells, while the key is kept.
fn place((seq, ts): (u64, u64), now: Timestamp) -> Option<Appended> {
    (now.since(Timestamp(ts)) <= KEPT).then_some(Appended {
        seq: Seq(seq),
        ts: Timestamp(ts),
    })
}

/// Remembers the key of an event.
pub(crate) fn remember(
    tx: &WriteTransaction,
    room: u64,
    event: &Event,
    key: &str,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(tables::KEYS)?;
    table.insert(
        (room, event.sender.as_str(), key),
        (event.seq.0, event.ts.0),
    )?;
    Ok(())
}
