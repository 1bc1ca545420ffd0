//! Folding the log into blocks.
//!
//! A commit writes all its events as one row at the end of the log, since what a commit costs is the pages it
//! touches. Reading back wants each room's events together. So, when the log has grown past what it may hold, every
//! commit also folds a part of its oldest end into the blocks of the rooms concerned: about as much as it adds, so
//! that no commit is much slower than another. A room that is folded is folded with all it has, so that its last
//! block is rewritten seldom.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use redb::{ReadableTable, Table};
use stack_types::{Frames, FramesBuilder, Seq, Timestamp};

use crate::block::{self, RunRef};
use crate::room::RoomCell;
use crate::tail::Tail;
use crate::writer::Batch;
use crate::{StoreError, tables};

/// Bytes that one commit folds at least, when there is something to fold; rewritten ones count.
const FOLD_BYTES: usize = 64 * 1024;
/// Bytes of one room that one commit folds at most.
const FOLD_BYTES_PER_ROOM: usize = 1024 * 1024;

/// A block is full with so many events …
pub(crate) const BLOCK_EVENTS: usize = 64;
/// … or when the next one would make its row longer. The engine gives a row of this size a page of its own whose size
/// is a power of two, 16 KiB at this length; a little more, and half of what is written, kept and read is empty.
pub(crate) const BLOCK_BYTES: usize = 16 * 1024 - 64;

/// A commit whose row is in the log.
#[derive(Debug)]
pub(crate) struct Unfolded {
    pub(crate) commit: u64,
    pub(crate) bytes: usize,
    pub(crate) rooms: Vec<(Arc<RoomCell>, Seq, Seq)>,
    /// Whether the row holds events of rooms that are gone, beside those of `rooms`.
    pub(crate) of_gone_rooms: bool,
}

/// How much stays in the log before it is folded. It is in memory too, and read again when the file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptLog {
    /// Commits.
    pub commits: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

impl Default for KeptLog {
    /// Enough that even rooms with little to say fill blocks before they are folded; read again in a moment.
    fn default() -> Self {
        Self {
            commits: 1024,
            bytes: 8 * 1024 * 1024,
        }
    }
}

/// The commits whose rows are in the log, oldest first.
#[derive(Debug)]
pub(crate) struct Queue {
    kept: KeptLog,
    commits: VecDeque<Unfolded>,
    bytes: usize,
    /// What the last commit added, as a measure for what this one folds.
    last_bytes: usize,
    /// Up to this commit the log is folded however little that is, since it holds what must not be kept.
    due: Cell<Option<u64>>,
}

/// A room as a fold leaves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folded {
    /// The last event that stands in a block.
    pub(crate) through: Seq,
    /// The first event of the last block, when the next fold may go on with it.
    pub(crate) open_block: Option<Seq>,
}

/// What a fold has done, to be made visible after its commit.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) rooms: HashMap<u64, (Arc<RoomCell>, Folded)>,
    commits: usize,
    bytes: usize,
}

impl Queue {
    /// An empty log.
    pub(crate) fn new(kept: KeptLog) -> Self {
        Self {
            kept,
            commits: VecDeque::new(),
            bytes: 0,
            last_bytes: 0,
            due: Cell::new(None),
        }
    }

    /// Notes that the log is to be folded as far as it holds events that are no longer kept, behind what `step` has
    /// folded. Says whether it holds any.
    pub(crate) fn fold_what_is_gone(&self, step: &Step) -> bool {
        let is_gone = |(cell, first, _): &(Arc<RoomCell>, Seq, Seq)| {
            let state = cell.state.read();
            state.record.deleted || *first < state.record.first
        };
        let mut commits = self.commits.iter().skip(step.commits).rev();
        let last = commits.find(|commit| commit.of_gone_rooms || commit.rooms.iter().any(is_gone));
        self.due.set(last.map(|commit| commit.commit));
        last.is_some()
    }

    /// How much stays in the log.
    pub(crate) fn kept(&self) -> KeptLog {
        self.kept
    }

    /// A commit is in the log now.
    pub(crate) fn push(&mut self, commit: Unfolded) {
        self.bytes += commit.bytes;
        self.last_bytes = commit.bytes;
        self.commits.push_back(commit);
    }

    /// The commit whose row holds an event, if `step` has left it in the log.
    pub(crate) fn commit_of(&self, room: u64, seq: Seq, step: &Step) -> Option<u64> {
        let holds = |commit: &&Unfolded| {
            let mut rooms = commit.rooms.iter();
            rooms.any(|(cell, first, last)| cell.number == room && (*first..=*last).contains(&seq))
        };
        self.commits
            .iter()
            .skip(step.commits)
            .find(holds)
            .map(|commit| commit.commit)
    }

    /// The step is committed.
    pub(crate) fn done(&mut self, step: &Step) {
        self.commits.drain(..step.commits);
        self.bytes -= step.bytes;
    }

    /// Folds as much of the oldest end as one commit should.
    pub(crate) fn step(&self, batch: &Batch<'_>) -> Result<Step, StoreError> {
        let mut step = Step::default();
        let mut left = FOLD_BYTES.max(self.last_bytes + self.last_bytes / 2);
        let mut log = None;
        let mut blocks = None;
        for commit in &self.commits {
            let within = self.commits.len() - step.commits <= self.kept.commits
                && self.bytes - step.bytes <= self.kept.bytes;
            let due = self.due.get().is_some_and(|due| commit.commit <= due);
            if (within && !due) || left == 0 {
                break;
            }
            for (cell, _, last) in &commit.rooms {
                if left > 0 && !step.is_through(cell, *last) {
                    if blocks.is_none() {
                        blocks = Some(batch.tx.open_table(tables::ROOM_BLOCKS)?);
                    }
                    if let Some(blocks) = blocks.as_mut() {
                        let most = FOLD_BYTES_PER_ROOM.min(left);
                        left = left.saturating_sub(step.fold_room(blocks, cell, most)?);
                    }
                }
            }
            if !commit
                .rooms
                .iter()
                .all(|(cell, _, last)| step.is_through(cell, *last))
            {
                break;
            }
            if log.is_none() {
                log = Some(batch.tx.open_table(tables::LOG)?);
            }
            if let Some(log) = log.as_mut() {
                log.remove(commit.commit)?;
            }
            step.commits += 1;
            step.bytes += commit.bytes;
        }
        Ok(step)
    }
}

impl Step {
    /// Whether a room's events up to `last` stand in blocks, or need not any more.
    fn is_through(&self, cell: &RoomCell, last: Seq) -> bool {
        if let Some((_, folded)) = self.rooms.get(&cell.number) {
            return folded.through >= last;
        }
        let state = cell.state.read();
        state.record.deleted || state.folded >= last || state.record.first > last
    }

    /// Where a room's blocks end, as this step leaves them.
    pub(crate) fn of_room(&self, cell: &RoomCell) -> Folded {
        if let Some((_, folded)) = self.rooms.get(&cell.number) {
            return *folded;
        }
        let state = cell.state.read();
        Folded {
            through: state.folded,
            open_block: state.open_block,
        }
    }

    /// The fold goes on with another block of this room, or with a new one.
    pub(crate) fn reopen(&mut self, cell: &Arc<RoomCell>, open_block: Option<Seq>) {
        let folded = Folded {
            open_block,
            ..self.of_room(cell)
        };
        self.rooms.insert(cell.number, (cell.clone(), folded));
    }

    /// Moves about `most` bytes of a room's tail into its blocks, at least one event, and says how many bytes it wrote.
    fn fold_room(
        &mut self,
        blocks: &mut Table<'_, (u64, u64), &'static [u8]>,
        cell: &Arc<RoomCell>,
        most: usize,
    ) -> Result<usize, StoreError> {
        let before = self.of_room(cell);
        let (tail, first) = {
            let state = cell.state.read();
            (state.tail.clone(), state.record.first)
        };
        // What is no longer kept is left out, and then the last block does not go on.
        let start = before.through.next().max(first);
        let open_block = before.open_block.filter(|_| start == before.through.next());
        let mut writer = BlockWriter::open(blocks, cell.number, open_block, start)?;
        let folded = writer.take(&tail, start, most)?;
        let (open_block, written) = writer.finish()?;
        let through = Seq(start.0 + folded as u64).prev();
        self.rooms.insert(
            cell.number,
            (
                cell.clone(),
                Folded {
                    through,
                    open_block,
                },
            ),
        );
        Ok(written)
    }
}

/// Whether one more event fits into a block of so many, when its frames then have so many bytes.
pub(crate) fn fits_block(events: usize, bytes: usize) -> bool {
    events < BLOCK_EVENTS && block::len(events + 1, bytes) <= BLOCK_BYTES
}

/// Writes a room's blocks, one behind the other.
struct BlockWriter<'a, 't> {
    blocks: &'a mut Table<'t, (u64, u64), &'static [u8]>,
    room: u64,
    first: Seq,
    frames: FramesBuilder,
    times: Vec<Timestamp>,
    row: Vec<u8>,
    written: usize,
}

impl<'a, 't> BlockWriter<'a, 't> {
    /// Goes on with the last block unless it is full, and else with a new one at `start`.
    fn open(
        blocks: &'a mut Table<'t, (u64, u64), &'static [u8]>,
        room: u64,
        open_block: Option<Seq>,
        start: Seq,
    ) -> Result<Self, StoreError> {
        let mut frames = FramesBuilder::default();
        let mut times = Vec::new();
        if let Some(first) = open_block {
            let row = blocks.get((room, first.0))?;
            let row = row.ok_or_else(|| StoreError::damaged("a block of events is missing"))?;
            let run = RunRef::of(row.value())?.to_run()?;
            frames.extend(&run.frames, 0..run.frames.len());
            times = run.times.to_vec();
        }
        let mut writer = Self {
            blocks,
            room,
            first: open_block.unwrap_or(start),
            frames,
            times,
            row: Vec::new(),
            written: 0,
        };
        if writer.is_full() {
            writer.first = start;
            writer.frames = FramesBuilder::default();
            writer.times.clear();
        }
        Ok(writer)
    }

    /// Takes events until about `most` bytes are written, and says how many events.
    fn take(&mut self, tail: &Tail, start: Seq, most: usize) -> Result<usize, StoreError> {
        let mut taken = 0;
        for run in tail.runs().filter(|run| run.last() >= start) {
            let mut index = usize::try_from(start.0.saturating_sub(run.first.0)).unwrap_or(0);
            let len = run.run.frames.len();
            while index < len && (taken == 0 || self.written + self.frames.bytes() < most) {
                let end = self.block_end(&run.run.frames, index);
                self.frames.extend(&run.run.frames, index..end);
                self.times.extend_from_slice(&run.run.times[index..end]);
                taken += end - index;
                index = end;
                if index < len || self.is_full() {
                    self.flush()?;
                }
            }
        }
        Ok(taken)
    }

    /// Where the frames end that still go into the block. An empty block takes at least one.
    fn block_end(&self, frames: &Frames, from: usize) -> usize {
        let (mut events, mut bytes) = (self.times.len(), self.frames.bytes());
        let mut end = from;
        while end < frames.len() {
            bytes += frames.wire_range(end..end + 1).len();
            if !fits_block(events, bytes) && events > 0 {
                break;
            }
            (events, end) = (events + 1, end + 1);
        }
        end
    }

    fn is_full(&self) -> bool {
        !fits_block(self.times.len(), self.frames.bytes())
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let frames = std::mem::take(&mut self.frames).finish();
        self.row.clear();
        block::encode(&frames, &self.times, &mut self.row);
        self.written += self.row.len();
        self.blocks
            .insert((self.room, self.first.0), self.row.as_slice())?;
        self.first = Seq(self.first.0 + self.times.len() as u64);
        self.times.clear();
        Ok(())
    }

    /// Writes the last block; says where it starts, if it is not full, and how many bytes were written in all.
    fn finish(mut self) -> Result<(Option<Seq>, usize), StoreError> {
        if self.times.is_empty() {
            return Ok((None, self.written));
        }
        let first = self.first;
        self.flush()?;
        Ok((Some(first), self.written))
    }
}

#[cfg(test)]
mod tests {
    use redb::ReadableDatabase;

    use super::*;
    use crate::block::Run;
    use crate::tail::TailRun;

    fn run(first: u64, sizes: &[usize]) -> TailRun {
        let mut frames = FramesBuilder::default();
        for size in sizes {
            frames.push(&vec![b'x'; *size]);
        }
        let times = (0..sizes.len() as u64)
            .map(|index| Timestamp(first + index))
            .collect();
        let run = Run {
            frames: frames.finish(),
            times,
        };
        TailRun {
            first: Seq(first),
            run,
        }
    }

    #[test]
    fn a_block_grows_to_its_bound_and_not_beyond() {
        let backend = redb::backends::InMemoryBackend::new();
        let db = redb::Database::builder()
            .create_with_backend(backend)
            .unwrap();
        let mut sizes = vec![250; 100];
        sizes.extend([40_000, 3, BLOCK_BYTES, 3]);
        sizes.extend([3; 100]);
        let mut tail = Tail::default();
        let (mut next, mut open) = (Seq(1), None);
        // In three steps, two of which go on with the block that the one before has left open.
        for part in [&sizes[..30], &sizes[30..90], &sizes[90..]] {
            tail.push(run(next.0, part));
            let tx = db.begin_write().unwrap();
            {
                let mut blocks = tx.open_table(tables::ROOM_BLOCKS).unwrap();
                let mut writer = BlockWriter::open(&mut blocks, 7, open, next).unwrap();
                let taken = writer.take(&tail, next, usize::MAX).unwrap();
                assert_eq!(taken, part.len());
                open = writer.finish().unwrap().0;
            }
            tx.commit().unwrap();
            next = Seq(next.0 + part.len() as u64);
        }
        let tx = db.begin_read().unwrap();
        let blocks = tx.open_table(tables::ROOM_BLOCKS).unwrap();
        let (mut read, mut firsts) = (Vec::new(), Vec::new());
        for entry in blocks.iter().unwrap() {
            let (key, row) = entry.unwrap();
            let row = row.value();
            let run = RunRef::of(row).unwrap().to_run().unwrap();
            assert!(run.times.len() == 1 || row.len() <= BLOCK_BYTES);
            assert_eq!(key.value().1, read.len() as u64 + 1);
            firsts.push(key.value().1);
            read.extend(run.frames.iter().map(|frame| frame.len()));
        }
        assert_eq!(read, sizes);
        // 61 events of 250 bytes, with header and entry, fill a block; 64 of any size do.
        assert_eq!(firsts, [1, 62, 101, 102, 103, 104, 168]);
    }
}
