//! What opening the file rebuilds: the tails of the rooms whose newest events stand in the log only.

use std::collections::HashMap;
use std::sync::Arc;

use redb::ReadableTable;
use stack_types::{FramesBuilder, Seq};

use crate::block::Run;
use crate::commit_row::{self, Section};
use crate::fold::{KeptLog, Queue, Unfolded};
use crate::room::RoomCell;
use crate::store::Inner;
use crate::tail::TailRun;
use crate::writer::Log;
use crate::{StoreError, room_ops, tables};

/// Reads the log and gives every room in it its tail.
pub(crate) fn recover(inner: &Inner, kept: KeptLog) -> Result<Log, StoreError> {
    let tx = tables::snapshot(&inner.db)?;
    let rooms = tx.open_table(tables::ROOMS)?;
    let mut cells: HashMap<u64, Option<Arc<RoomCell>>> = HashMap::new();
    let mut log = Log {
        queue: Queue::new(kept),
        next_commit: 0,
    };
    for entry in tx.open_table(tables::LOG)?.iter()? {
        let (commit, row) = entry?;
        let mut unfolded = Unfolded {
            commit: commit.value(),
            bytes: 0,
            rooms: Vec::new(),
        };
        for section in commit_row::sections(row.value()) {
            let section = section?;
            let cell = match cells.get(&section.room) {
                Some(cell) => cell.clone(),
                None => {
                    let id = room_ops::room_id(&rooms, section.room)?;
                    let room = id.map(|id| inner.room(&id)).transpose()?.flatten();
                    // A deleted room has no tail; the sweeper takes its rows.
                    let cell = room.map(|room| room.0);
                    cells.insert(section.room, cell.clone());
                    cell
                }
            };
            if let Some(cell) = cell {
                let last = append(&cell, &section, &mut unfolded.bytes)?;
                unfolded.rooms.push((cell, section.first, last));
            }
        }
        log.next_commit = unfolded.commit + 1;
        log.queue.push(unfolded, 0);
    }
    Ok(log)
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
    }
    Ok(last)
}
