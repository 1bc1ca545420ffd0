//! Idempotency keys: a `send` repeated with the same key is answered with the first one's place.
//!
//! A key is written in the message's own transaction and kept for at least [`KEPT`]; the sweeper takes it later.

use std::time::Duration;

use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};
use stack_types::{Seq, Timestamp};

use crate::{Appended, StoreError, tables};

/// How long a key is kept at least.
pub(crate) const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// Where a walk over the keys goes on.
pub(crate) type KeyCursor = Vec<u8>;

/// The keys, in a transaction that writes. The table stays open: that costs as much as a look into it.
pub(crate) struct Keys<'t> {
    table: Table<'t, &'static [u8], (u64, u64)>,
    at: Vec<u8>,
}

impl<'t> Keys<'t> {
    pub(crate) fn open(tx: &'t WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            table: tx.open_table(tables::KEYS)?,
            at: Vec::new(),
        })
    }

    /// The place of the event that was sent with this key.
    pub(crate) fn find(
        &mut self,
        room: u64,
        sender: &str,
        key: &str,
        now: Timestamp,
    ) -> Result<Option<Appended>, StoreError> {
        lay_out(room, sender, key, &mut self.at);
        let row = self.table.get(self.at.as_slice())?;
        Ok(row.and_then(|row| place(row.value(), now)))
    }

    /// Remembers the key of an event.
    pub(crate) fn remember(
        &mut self,
        room: u64,
        sender: &str,
        key: &str,
        place: (u64, u64),
    ) -> Result<(), StoreError> {
        lay_out(room, sender, key, &mut self.at);
        self.table.insert(self.at.as_slice(), place)?;
        Ok(())
    }

    /// Removes the keys that have expired among the next `most` from `from` on; says how many, and where to go on.
    pub(crate) fn expire(
        &mut self,
        now: Timestamp,
        from: Option<KeyCursor>,
        most: usize,
    ) -> Result<(usize, Option<KeyCursor>), StoreError> {
        let from = from.unwrap_or_default();
        let mut expired = Vec::new();
        let mut seen = 0;
        let mut last = None;
        for entry in self.table.range(from.as_slice()..)?.take(most) {
            let (at, value) = entry?;
            if place(value.value(), now).is_none() {
                expired.push(at.value().to_vec());
            }
            seen += 1;
            last = (seen == most).then(|| at.value().to_vec());
        }
        for at in &expired {
            self.table.remove(at.as_slice())?;
        }
        Ok((expired.len(), last))
    }
}

/// The bytes that a key stands under: the room, so that a room's keys lie together; the sender behind its length; the
/// key. Compared as bytes, which costs a fifth of comparing a tuple of strings.
fn lay_out(room: u64, sender: &str, key: &str, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&room.to_be_bytes());
    // An id has at most 24 bytes.
    out.push(u8::try_from(sender.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(sender.as_bytes());
    out.extend_from_slice(key.as_bytes());
}

/// Schema 2 kept the keys under tuples of strings.
const TUPLES: TableDefinition<(u64, &str, &str), (u64, u64)> = TableDefinition::new("keys");

/// Lays the keys of schema 2 out as they are now.
pub(crate) fn tuples_to_bytes(tx: &WriteTransaction) -> Result<(), StoreError> {
    {
        let tuples = tx.open_table(TUPLES)?;
        let mut keys = Keys::open(tx)?;
        for entry in tuples.iter()? {
            let (at, place) = entry?;
            let (room, sender, key) = at.value();
            keys.remember(room, sender, key, place.value())?;
        }
    }
    tx.delete_table(TUPLES)?;
    Ok(())
}

/// The place that a row tells, while the key is kept.
fn place((seq, ts): (u64, u64), now: Timestamp) -> Option<Appended> {
    (now.since(Timestamp(ts)) <= KEPT).then_some(Appended {
        seq: Seq(seq),
        ts: Timestamp(ts),
    })
}

#[cfg(test)]
mod tests {
    use redb::Database;

    use super::*;
    use crate::schema;

    #[test]
    fn keys_of_an_older_file_are_found() {
        let backend = redb::backends::InMemoryBackend::new();
        let db = Database::builder().create_with_backend(backend).unwrap();
        schema::prepare(&db, &schema::MIGRATIONS[..1]).unwrap();
        let rows = [(1, "anna", "k"), (1, "annak", ""), (2, "anna", "k")];
        let tx = db.begin_write().unwrap();
        {
            let mut tuples = tx.open_table(TUPLES).unwrap();
            for (seq, row) in (1..).zip(rows) {
                tuples.insert(row, (seq, 5)).unwrap();
            }
        }
        tx.commit().unwrap();

        schema::prepare(&db, schema::MIGRATIONS).unwrap();
        let tx = db.begin_write().unwrap();
        let mut keys = Keys::open(&tx).unwrap();
        for (seq, (room, sender, key)) in (1..).map(Seq).zip(rows) {
            let found = keys.find(room, sender, key, Timestamp(6)).unwrap();
            let ts = Timestamp(5);
            assert_eq!(found, Some(Appended { seq, ts }));
        }
        assert_eq!(keys.find(2, "annak", "", Timestamp(6)).unwrap(), None);
    }
}
