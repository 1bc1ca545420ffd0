//! Dropping events for their age and number, as a room's settings say and the server's bounds.
//!
//! It goes in two steps. [`Store::expire_events`] moves `first` of each room past what is no longer kept, to the event:
//! from then on nobody is given it, and a cursor in front of it gets a gap. [`Store::purge_events`] takes the bytes out
//! of the file, in small commits among everybody's: it folds the log as far as it holds such events, removes blocks,
//! and writes the one anew in which `first` stands. A room may be left without any event; its numbers and its time go
//! on by what its record says.

use std::sync::Arc;
use std::time::Duration;

use redb::ReadableTable;
use stack_types::{RoomId, RoomSettings, Seq, Timestamp};

use crate::block::{self, RunRef};
use crate::room::RoomRecord;
use crate::writer::Batch;
use crate::{RoomRef, Store, StoreError, record, room_ops, tables};

/// Blocks, or rows of an index, of one room that one commit removes at most.
const STEP: usize = 200;
/// Rooms whose beginning one commit moves at most.
const ROOMS_PER_COMMIT: usize = 200;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How much of the past is kept: what is older, and what is in front of the newest so many events, goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Days; 0 for ever.
    pub days: u32,
    /// Events; 0 for all.
    pub messages: u32,
}

impl Retention {
    /// What a room keeps on a server with these bounds: the lesser of both.
    fn of(self, room: &RoomSettings) -> Self {
        let lesser = |server: u32, room: u32| match (server, room) {
            (0, one) | (one, 0) => one,
            (server, room) => server.min(room),
        };
        Self {
            days: lesser(self.days, room.retention_days),
            messages: lesser(self.messages, room.retention_messages),
        }
    }

    fn is_bounded(self) -> bool {
        self != Self::default()
    }
}

/// What was taken out of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Blocks that were removed or written anew.
    pub blocks: usize,
    /// Commits that were written to fold the log.
    pub folds: usize,
}

impl Store {
    /// Moves the beginning of every room past what it no longer keeps, and says how many events that were.
    ///
    /// # Errors
    /// The file cannot be read, or a commit failed; what was dropped before stays dropped.
    pub async fn expire_events(&self) -> Result<u64, StoreError> {
        let mut moves = Vec::new();
        let mut dropped = 0;
        for (id, kept) in self.rooms_with_retention().await? {
            if let Some(first) = self.first_kept(&id, kept).await? {
                moves.push((id, kept, first));
            }
            if moves.len() == ROOMS_PER_COMMIT {
                dropped += self.move_first(std::mem::take(&mut moves)).await?;
            }
        }
        if !moves.is_empty() {
            dropped += self.move_first(moves).await?;
        }
        Ok(dropped)
    }

    /// Resolves when a room's owner has changed what it keeps since it did so last. For one task.
    pub async fn retention_changed(&self) {
        self.inner.retention_changed.notified().await;
    }

    async fn rooms_with_retention(&self) -> Result<Vec<(RoomId, Retention)>, StoreError> {
        let bounds = self.inner.retention;
        self.read_blocking(move |tx| {
            let mut found = Vec::new();
            for entry in tx.open_table(tables::ROOMS)?.iter()? {
                let room: RoomRecord = record::decode(entry?.1.value())?;
                let kept = bounds.of(&room.settings);
                if kept.is_bounded() && !room.deleted {
                    found.push((room.id, kept));
                }
            }
            Ok(found)
        })
        .await
    }

    /// Where a room is to begin now; `None` when it begins there already.
    async fn first_kept(&self, id: &RoomId, kept: Retention) -> Result<Option<Seq>, StoreError> {
        let Some(room) = self.glimpse(id).await? else {
            return Ok(None);
        };
        let (old, head) = (room.first(), room.head());
        let mut first = old;
        if kept.messages > 0 {
            first = first.max(Seq((head.0 + 1).saturating_sub(kept.messages.into())));
        }
        if kept.days > 0 && first <= head {
            let since = self.inner.clock.now().minus(DAY * kept.days);
            let before = self.last_until(&room, Timestamp(since.0.saturating_sub(1)));
            first = first.max(before.await?.next());
        }
        Ok((first > old).then_some(first))
    }

    /// A room to look at. One that nobody has asked for is read for this look alone, off the runtime: else every room of
    /// the file would be in memory before long. Nobody but this task moves where a room begins, and what is said
    /// meanwhile is kept.
    async fn glimpse(&self, id: &RoomId) -> Result<Option<RoomRef>, StoreError> {
        if self.inner.cell(id).is_some() {
            return self.room(id);
        }
        let id = id.clone();
        let read = self.read_blocking(move |tx| room_ops::load(tx, &id));
        Ok(read.await?.map(|cell| RoomRef(Arc::new(cell))))
    }

    async fn move_first(&self, moves: Vec<(RoomId, Retention, Seq)>) -> Result<u64, StoreError> {
        let bounds = self.inner.retention;
        self.write_batch(move |batch| {
            let mut dropped = 0;
            for (id, kept, first) in moves {
                let Some(mut room) = batch.find_room(&id)? else {
                    continue;
                };
                let (old, last_ts) = (room.first(), room.last_ts);
                let first = first.min(room.head.next());
                let record = room.record_mut();
                // The owner may have thought better of it meanwhile.
                if first > old && !record.deleted && bounds.of(&record.settings) == kept {
                    (record.first, record.last_ts) = (first, last_ts);
                    dropped += first.0 - old.0;
                }
                batch.stage(room);
            }
            Ok(dropped)
        })
        .await
    }

    /// Takes what rooms no longer keep out of the file, and what is left in the log of rooms that were deleted. `stop`
    /// is asked between two commits.
    ///
    /// # Errors
    /// The file cannot be read, or a commit failed; what was removed before stays removed.
    pub async fn purge_events(&self, stop: impl Fn() -> bool) -> Result<Purged, StoreError> {
        let mut purged = Purged::default();
        // Each of these commits folds a piece; the next one says whether there is more.
        while !stop()
            && self
                .write_batch(|batch| Ok(batch.fold_what_is_gone()))
                .await?
        {
            purged.folds += 1;
        }
        for id in self.rooms_to_purge().await? {
            loop {
                if stop() {
                    return Ok(purged);
                }
                let room = id.clone();
                let removed = self.write_batch(move |batch| purge(batch, &room)).await?;
                purged.blocks += removed.blocks;
                if !removed.more {
                    break;
                }
            }
        }
        Ok(purged)
    }

    /// Rooms with blocks of events in front of their first.
    async fn rooms_to_purge(&self) -> Result<Vec<RoomId>, StoreError> {
        self.read_blocking(|tx| {
            let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
            let mut found = Vec::new();
            for entry in tx.open_table(tables::ROOMS)?.iter()? {
                let (number, row) = entry?;
                let room: RoomRecord = record::decode(row.value())?;
                if room.deleted || room.first <= Seq::FIRST {
                    continue;
                }
                let number = number.value();
                let mut gone = blocks.range((number, 0)..(number, room.first.0))?;
                if gone.next().transpose()?.is_some() {
                    found.push(room.id);
                }
            }
            Ok(found)
        })
        .await
    }
}

impl Batch<'_> {
    /// Lets the commits from the next one on fold the log as far as it holds what is no longer kept; says whether it
    /// holds any.
    fn fold_what_is_gone(&self) -> bool {
        self.queue.fold_what_is_gone(&self.folded)
    }
}

struct Removed {
    blocks: usize,
    more: bool,
}

/// Takes some of what is in front of a room's first event out of its blocks.
fn purge(batch: &mut Batch<'_>, room: &RoomId) -> Result<Removed, StoreError> {
    let Some(room) = batch.find_room(room)? else {
        return Ok(Removed {
            blocks: 0,
            more: false,
        });
    };
    let (number, first) = (room.cell.number, room.first());
    let open_block = batch.folded.of_room(&room.cell).open_block;
    let mut removed = 0;
    let mut now_open = open_block;
    {
        let mut blocks = batch.tx.open_table(tables::ROOM_BLOCKS)?;
        while removed < STEP {
            let (start, kept) = {
                let mut range = blocks.range((number, 0)..(number, first.0))?;
                let Some((key, row)) = range.next().transpose()? else {
                    break;
                };
                let (start, run) = (key.value().1, RunRef::of(row.value())?);
                (Seq(start), kept_of(run, Seq(start), first)?)
            };
            blocks.remove((number, start.0))?;
            if let Some(row) = &kept {
                blocks.insert((number, first.0), row.as_slice())?;
            }
            if open_block == Some(start) {
                now_open = kept.is_some().then_some(first);
            }
            removed += 1;
        }
    }
    if now_open != open_block {
        batch.folded.reopen(&room.cell, now_open);
    }
    let edits = forget_edits(batch, number, first)?;
    batch.stage(room);
    Ok(Removed {
        blocks: removed,
        more: removed == STEP || edits == STEP,
    })
}

/// What is left of a block that starts at `start` when everything in front of `first` goes; `None` when nothing is.
fn kept_of(run: RunRef<'_>, start: Seq, first: Seq) -> Result<Option<Vec<u8>>, StoreError> {
    let gone = usize::try_from(first.0 - start.0).unwrap_or(usize::MAX);
    if gone >= run.len() {
        return Ok(None);
    }
    let frames = run.frames(gone, usize::MAX, usize::MAX)?;
    let times: Vec<_> = (gone..run.len())
        .filter_map(|index| run.time(index))
        .collect();
    let mut row = Vec::with_capacity(block::encoded_len(&frames));
    block::encode(&frames, &times, &mut row);
    Ok(Some(row))
}

/// Nobody takes a message back that is gone: which edits it had need not be known.
fn forget_edits(batch: &Batch<'_>, room: u64, first: Seq) -> Result<usize, StoreError> {
    let mut edits = batch.tx.open_table(tables::EDITS)?;
    let gone = edits
        .range((room, 0, 0)..(room, first.0, 0))?
        .take(STEP)
        .map(|entry| Ok(entry?.0.value()))
        .collect::<Result<Vec<_>, StoreError>>()?;
    for edit in &gone {
        edits.remove(*edit)?;
    }
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use stack_proto::JsonCodec;
    use stack_types::{EventBody, EventDraft, ManualClock, UserId};

    use super::*;
    use crate::{CreateRoom, RoomTx, StoreConfig};

    #[tokio::test]
    async fn what_a_room_no_longer_keeps_is_not_in_memory_either() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let open = || {
            let config = StoreConfig {
                location: crate::Location::File(folder.path().join("file.redb")),
                ..StoreConfig::default()
            };
            Store::open(config, Arc::new(JsonCodec), clock.clone()).unwrap()
        };
        let in_memory = |store: &Store| {
            let cell = store.inner.cell(&"general".parse().unwrap()).unwrap();
            let state = cell.state.read();
            state.tail.first()
        };
        let (store, handle, _commits) = open();
        let owner: UserId = "owner".parse().unwrap();
        let create = CreateRoom {
            id: "general".parse().unwrap(),
            title: "General".to_owned(),
            settings: RoomSettings {
                retention_days: 1,
                ..RoomSettings::default()
            },
            owner,
        };
        let room = store.create_room(create).await.unwrap().unwrap();
        let say = async |store: &Store| {
            let op = move |tx: &mut RoomTx<'_, '_>| {
                let body = EventBody::Tombstone;
                Ok(tx.append(EventDraft {
                    sender: owner,
                    body,
                }))
            };
            store.room_op(room.id(), op).await.unwrap();
        };
        say(&store).await;
        assert_eq!(in_memory(&store), Some(Seq(1)));
        clock.advance(DAY * 2);
        assert_eq!(store.expire_events().await.unwrap(), 2);
        assert_eq!(in_memory(&store), None);
        say(&store).await;
        assert_eq!(in_memory(&store), Some(Seq(3)));
        // Its row is still in the log.
        handle.shutdown().await;
        drop(store);
        let (store, _handle, _commits) = open();
        assert_eq!(in_memory(&store), Some(Seq(3)));
    }

    #[tokio::test]
    async fn a_look_at_what_rooms_keep_brings_none_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let open = || {
            let config = StoreConfig {
                location: crate::Location::File(folder.path().join("file.redb")),
                kept_log: crate::KeptLog {
                    commits: 0,
                    bytes: 0,
                },
                ..StoreConfig::default()
            };
            Store::open(config, Arc::new(JsonCodec), clock.clone()).unwrap()
        };
        let (store, handle, _commits) = open();
        // The last one's row is still in the log when the file is opened, with which it comes into memory.
        for name in ["general", "last"] {
            let create = CreateRoom {
                id: name.parse().unwrap(),
                title: "Room".to_owned(),
                settings: RoomSettings {
                    retention_days: 1,
                    ..RoomSettings::default()
                },
                owner: "owner".parse().unwrap(),
            };
            store.create_room(create).await.unwrap().unwrap();
        }
        handle.shutdown().await;
        drop(store);
        let (store, _handle, _commits) = open();
        let general: RoomId = "general".parse().unwrap();
        assert!(store.inner.cell(&general).is_none());
        assert_eq!(store.expire_events().await.unwrap(), 0);
        assert!(store.inner.cell(&general).is_none());
        clock.advance(DAY * 2);
        assert_eq!(store.expire_events().await.unwrap(), 2);
        assert_eq!(store.room(&general).unwrap().unwrap().first(), Seq(2));
    }

    #[test]
    fn the_lesser_of_what_server_and_room_keep_counts() {
        let bounds = |days, messages| Retention { days, messages };
        let room = RoomSettings {
            retention_days: 30,
            ..RoomSettings::default()
        };
        assert_eq!(bounds(0, 0).of(&room), bounds(30, 0));
        assert_eq!(bounds(7, 50).of(&room), bounds(7, 50));
        assert_eq!(bounds(90, 0).of(&room), bounds(30, 0));
        assert!(!bounds(0, 0).of(&RoomSettings::default()).is_bounded());
    }
}
