//! Dropping events for their age, as a room's `retention_days` says: whole blocks, oldest first. A room's newest block
//! stays, and what is not folded yet; `first` tells readers where the log begins now.

use std::time::Duration;

use redb::ReadableTable;
use stack_types::{RoomId, Seq, Timestamp};

use crate::block::RunRef;
use crate::room::RoomRecord;
use crate::writer::Batch;
use crate::{Store, StoreError, record, tables};

/// Blocks of one room that one commit removes at most.
const STEP: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// Drops what is older than its room keeps, in all rooms, and says how many blocks that were.
    ///
    /// # Errors
    /// The file cannot be read, or a commit failed; what was dropped before stays dropped.
    pub async fn expire_events(&self) -> Result<usize, StoreError> {
        let mut dropped = 0;
        for (room, days) in self.rooms_with_retention().await? {
            let since = self.inner.clock.now().minus(DAY * days);
            loop {
                let id = room.clone();
                let removed = self
                    .write_batch(move |batch| expire(batch, &id, since))
                    .await?;
                dropped += removed;
                if removed < STEP {
                    break;
                }
            }
        }
        Ok(dropped)
    }

    async fn rooms_with_retention(&self) -> Result<Vec<(RoomId, u32)>, StoreError> {
        self.read_blocking(|tx| {
            let mut found = Vec::new();
            for entry in tx.open_table(tables::ROOMS)?.iter()? {
                let room: RoomRecord = record::decode(entry?.1.value())?;
                if room.settings.retention_days > 0 && !room.deleted {
                    found.push((room.id, room.settings.retention_days));
                }
            }
            Ok(found)
        })
        .await
    }
}

fn expire(batch: &mut Batch<'_>, room: &RoomId, since: Timestamp) -> Result<usize, StoreError> {
    let Some(mut staged) = batch.find_room(room)? else {
        return Ok(0);
    };
    let number = staged.cell.number;
    let mut removed = 0;
    let mut first = None;
    {
        let mut blocks = batch.tx.open_table(tables::ROOM_BLOCKS)?;
        while removed < STEP {
            let oldest = {
                let mut range = blocks.range((number, 0)..=(number, u64::MAX))?;
                let oldest = range.next().transpose()?;
                // The newest block tells where the room's numbers go on.
                let is_newest = range.next().transpose()?.is_none();
                match oldest {
                    Some((key, row)) if !is_newest => {
                        let run = RunRef::of(row.value())?;
                        let last = run.len().checked_sub(1).and_then(|last| run.time(last));
                        let start = key.value().1;
                        last.filter(|last| *last < since)
                            .map(|_| (start, start + run.len() as u64))
                    }
                    _ => None,
                }
            };
            let Some((start, next)) = oldest else {
                break;
            };
            blocks.remove((number, start))?;
            first = Some(Seq(next));
            removed += 1;
        }
    }
    if let Some(first) = first {
        let record = staged.record.take();
        let record = record.unwrap_or_else(|| staged.cell.state.read().record.clone());
        staged.record = Some(RoomRecord { first, ..record });
    }
    batch.stage(staged);
    Ok(removed)
}
