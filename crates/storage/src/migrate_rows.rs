//! Schema 1 kept one row per event: (room, seq) → time (8 bytes, little endian) and frame. Schema 2 keeps blocks.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use stack_types::{Frames, FramesBuilder, Seq, Timestamp};

use crate::fold::fits_block;
use crate::{StoreError, block, tables};

const EVENTS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("events");

/// Turns the rows into blocks.
pub(crate) fn rows_to_blocks(tx: &WriteTransaction) -> Result<(), StoreError> {
    {
        let rows = tx.open_table(EVENTS)?;
        let mut blocks = tx.open_table(tables::ROOM_BLOCKS)?;
        let mut open = Open::default();
        for entry in rows.iter()? {
            let (key, row) = entry?;
            let (room, seq) = key.value();
            let (ts, frame) = row
                .value()
                .split_first_chunk::<8>()
                .ok_or_else(|| StoreError::damaged("row of the log is too short"))?;
            if !open.fits(frame) || open.next() != (room, Seq(seq)) {
                open.write(&mut blocks)?;
                (open.room, open.first) = (room, Seq(seq));
            }
            open.frames.push(frame);
            open.times.push(Timestamp(u64::from_le_bytes(*ts)));
        }
        open.write(&mut blocks)?;
    }
    tx.delete_table(EVENTS)?;
    Ok(())
}

/// The block that is being put together.
#[derive(Default)]
struct Open {
    room: u64,
    first: Seq,
    frames: FramesBuilder,
    times: Vec<Timestamp>,
}

impl Open {
    fn next(&self) -> (u64, Seq) {
        (self.room, Seq(self.first.0 + self.times.len() as u64))
    }

    fn fits(&self, frame: &[u8]) -> bool {
        let bytes = self.frames.bytes() + Frames::one(frame).wire().len();
        fits_block(self.times.len(), bytes)
    }

    fn write(
        &mut self,
        blocks: &mut redb::Table<'_, (u64, u64), &'static [u8]>,
    ) -> Result<(), StoreError> {
        let times = std::mem::take(&mut self.times);
        let frames = std::mem::take(&mut self.frames).finish();
        if !times.is_empty() {
            let mut row = Vec::new();
            block::encode(&frames, &times, &mut row);
            blocks.insert((self.room, self.first.0), row.as_slice())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase};

    use super::*;
    use crate::block::RunRef;
    use crate::schema;

    #[test]
    fn rows_of_an_older_file_become_blocks() {
        let backend = redb::backends::InMemoryBackend::new();
        let db = Database::builder().create_with_backend(backend).unwrap();
        schema::prepare(&db, &[]).unwrap();
        let tx = db.begin_write().unwrap();
        {
            let mut rows = tx.open_table(EVENTS).unwrap();
            for (room, count) in [(1u64, 130u64), (2, 3)] {
                for seq in 1..=count {
                    let mut row = (seq * 10).to_le_bytes().to_vec();
                    row.extend_from_slice(format!("{{\"seq\":{seq}}}").as_bytes());
                    rows.insert((room, seq), row.as_slice()).unwrap();
                }
            }
        }
        tx.commit().unwrap();

        schema::prepare(&db, schema::MIGRATIONS).unwrap();
        let tx = db.begin_read().unwrap();
        let blocks = tx.open_table(tables::ROOM_BLOCKS).unwrap();
        let mut found = Vec::new();
        for entry in blocks.iter().unwrap() {
            let (key, row) = entry.unwrap();
            let run = RunRef::of(row.value()).unwrap().to_run().unwrap();
            let (room, first) = key.value();
            for (index, frame) in run.frames.iter().enumerate() {
                let seq = first + index as u64;
                assert_eq!(frame, format!("{{\"seq\":{seq}}}"));
                assert_eq!(run.times[index], Timestamp(seq * 10));
            }
            found.push((room, first, run.frames.len()));
        }
        assert_eq!(found, [(1, 1, 64), (1, 65, 64), (1, 129, 2), (2, 1, 3)]);
        assert!(tx.open_table(EVENTS).is_err());
    }
}
