//! What opening the file rebuilds: the tails of the rooms whose newest events stand in the log only.

use std::collections::HashMap;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableTable};
use stack_types::{FramesBuilder, RoomId, Seq};

use crate::block::Run;
use crate::commit_row::{self, Section};
use crate::engine::Health;
use crate::fold::{KeptLog, Queue, Unfolded};
use crate::room::RoomCell;
use crate::store::Inner;
use crate::tail::TailRun;
use crate::writer::Log;
use crate::{StoreError, room_ops, tables};

/// Reads what is in memory of the rooms anew: every room that is in memory already, and every room in the log with
/// its tail. At the start there are none of the former; after the file was opened again their holders go on with them,
/// whatever became of the commit that failed.
pub(crate) fn recover(inner: &Inner, kept: KeptLog) -> Result<Log, StoreError> {
    let tx = inner.engine.snapshot()?;
    let rooms = tx.open_table(tables::ROOMS)?;
    let mut loaded = Loaded::default();
    for cell in inner.all_rooms() {
        loaded.load(&tx, cell.number, &cell.id)?;
        loaded.known.insert(cell.number, cell);
    }
    let mut log = Log {
        health: Health::default(),
        queue: Queue::new(kept),
        next_commit: 0,
    };
    for entry in tx.open_table(tables::LOG)?.iter()? {
        let (commit, row) = entry?;
        let mut unfolded = Unfolded {
            commit: commit.value(),
            bytes: 0,
            rooms: Vec::new(),
            of_gone_rooms: false,
        };
        for section in commit_row::sections(row.value()) {
            let section = section?;
            if !loaded.rooms.contains_key(&section.room)
                && let Some(id) = room_ops::room_id(&rooms, section.room)?
            {
                loaded.load(&tx, section.room, &id)?;
            }
            // A deleted room has no tail; the sweeper takes its rows.
            if let Some(cell) = loaded.rooms.get(&section.room)
                && !cell.state.read().record.deleted
            {
                let last = append(cell, &section, &mut unfolded.bytes)?;
                unfolded
                    .rooms
                    .push((loaded.home_of(section.room, cell), section.first, last));
            } else {
                unfolded.of_gone_rooms = true;
            }
        }
        log.next_commit = unfolded.commit + 1;
        log.queue.push(unfolded);
    }
    loaded.publish(inner);
    Ok(log)
}

/// Rooms as the file has them.
#[derive(Default)]
struct Loaded {
    /// The cells that their holders know.
    known: HashMap<u64, Arc<RoomCell>>,
    rooms: HashMap<u64, Arc<RoomCell>>,
}

impl Loaded {
    fn load(&mut self, tx: &ReadTransaction, number: u64, id: &RoomId) -> Result<(), StoreError> {
        if let Some(cell) = room_ops::load(tx, id)? {
            self.rooms.insert(number, Arc::new(cell));
        }
        Ok(())
    }

    /// Where a room's state will be.
    fn home_of(&self, number: u64, cell: &Arc<RoomCell>) -> Arc<RoomCell> {
        self.known.get(&number).unwrap_or(cell).clone()
    }

    fn publish(self, inner: &Inner) {
        for (number, cell) in self.rooms {
            match self.known.get(&number) {
                Some(known) => *known.state.write() = cell.state.read().clone(),
                None => inner.remember(cell),
            }
        }
    }
}

/// Adds what a fold has not reached yet to the room's tail.
fn append(cell: &RoomCell, section: &Section<'_>, bytes: &mut usize) -> Result<Seq, StoreError> {
    let run = section.run.to_run()?;
    let last = Seq(section.first.0 + run.times.len() as u64).prev();
    *bytes += run.frames.wire().len();
    let mut state = cell.state.write();
    let skip =
        usize::try_from(state.head.next().0.saturating_sub(section.first.0)).unwrap_or(usize::MAX);
    if section.first > state.head.next() {
        return Err(StoreError::damaged(
            "the log has a hole in front of a commit",
        ));
    }
    if skip < run.times.len() {
        let mut frames = FramesBuilder::default();
        frames.extend(&run.frames, skip..run.frames.len());
        let times: Arc<[_]> = run.times[skip..].into();
        state.last_ts = times.last().copied().unwrap_or(state.last_ts);
        let first = state.head.next();
        state.head = last;
        state.tail.push(TailRun {
            first,
            run: Run {
                frames: frames.finish(),
                times,
            },
        });
        let gone = state.record.first.prev();
        state.tail.drop_through(gone);
    }
    Ok(last)
}
