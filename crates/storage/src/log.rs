//! Reading a room's log: its blocks, and behind them the tail in memory, as one line of events.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use stack_types::{EventBatch, Frames, FramesBuilder, Seq, Timestamp};

use crate::block::{self, RunRef};
use crate::tail::{Tail, frame_in, replaced};
use crate::{RoomRef, Store, StoreError, commit_row, tables};

/// How much a page holds at most. A page holds at least one event, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events.
    pub events: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

impl Store {
    /// The events behind `after`, oldest first, as much as `limit` allows. Empty when there are none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn page_after(
        &self,
        room: &RoomRef,
        after: Seq,
        limit: PageLimit,
    ) -> Result<EventBatch, StoreError> {
        let start = after.next().max(room.first());
        let mut page = Page::new(start, limit);
        // The tail comes first: what leaves it while the blocks are read stands in them already.
        let (in_tail, tail) = tail_from(room, start, limit.events);
        if in_tail {
            page.take_all(&tail);
            return Ok(page.finish());
        }
        let number = room.0.number;
        self.read_blocking(move |tx| {
            page.take_blocks(tx, number)?;
            page.take_all(&tail);
            Ok(page.finish())
        })
        .await
    }

    /// The newest events in front of `before`, oldest first, as much as `limit` allows. Empty when there are none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn page_before(
        &self,
        room: &RoomRef,
        before: Seq,
        limit: PageLimit,
    ) -> Result<EventBatch, StoreError> {
        let mut page = PageBack::new(before.prev().min(room.head()), room.first(), limit);
        // As above: the tail first.
        let tail = room.0.state.read().tail.clone();
        page.take_tail(&tail);
        if page.is_done() {
            return Ok(page.finish());
        }
        let number = room.0.number;
        self.read_blocking(move |tx| {
            page.take_blocks(tx, number)?;
            Ok(page.finish())
        })
        .await
    }

    /// The last event whose time is not after `ts`; zero when there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_until(&self, room: &RoomRef, ts: Timestamp) -> Result<Seq, StoreError> {
        let number = room.0.number;
        // As above: the tail first. Retention may drop blocks before the snapshot is taken; then `first` has moved.
        let (tail, first, head) = {
            let state = room.0.state.read();
            (state.tail.clone(), state.record.first, state.head)
        };
        let room = room.clone();
        // Times never fall as numbers grow, so the place of a time is found by halving.
        self.read_blocking(move |tx| {
            let (mut low, mut high) = (first.max(room.first()).prev(), head);
            while low < high {
                let middle = Seq(low.0 + (high.0 - low.0).div_ceil(2));
                match time_at(tx, number, &tail, middle)? {
                    Some(time) if time > ts => high = middle.prev(),
                    // Dropped for its age meanwhile: older than anything that is left.
                    None if middle < room.first() => low = middle,
                    Some(_) => low = middle,
                    None => return Err(StoreError::damaged("an event is missing from the log")),
                }
            }
            Ok(low)
        })
        .await
    }
}

/// Whether an event stands in the tail, and the tail from it on.
fn tail_from(room: &RoomRef, start: Seq, events: usize) -> (bool, Vec<(Seq, Frames)>) {
    let state = room.0.state.read();
    let in_tail = state.tail.first().is_some_and(|first| first <= start) || start > state.head;
    (in_tail, state.tail.from(start, events))
}

/// A page that is being put together, strictly in order.
struct Page {
    first: Seq,
    next: Seq,
    limit: PageLimit,
    frames: FramesBuilder,
    full: bool,
}

impl Page {
    fn new(first: Seq, limit: PageLimit) -> Self {
        Self {
            first,
            next: first,
            limit,
            frames: FramesBuilder::default(),
            full: false,
        }
    }

    fn events_left(&self) -> usize {
        self.limit.events - self.frames.len()
    }

    fn take_blocks(&mut self, tx: &ReadTransaction, room: u64) -> Result<(), StoreError> {
        let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
        let Some(start) = block_of(&blocks, room, self.next)? else {
            return Ok(());
        };
        for entry in blocks.range(start..=(room, u64::MAX))? {
            let (key, row) = entry?;
            let (run, first) = (RunRef::of(row.value())?, Seq(key.value().1));
            let from = usize::try_from(self.next.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
            if first > self.next || from >= run.len() {
                break;
            }
            let bytes = self.limit.bytes.saturating_sub(self.frames.bytes());
            let wanted = self.events_left().min(run.len() - from);
            let frames = run.frames(from, wanted, bytes)?;
            if !self.frames.is_empty() && frames.wire().len() > bytes {
                self.full = true;
                break;
            }
            self.take(&frames, 0, frames.len());
            self.full |= frames.len() < wanted;
            if self.full {
                break;
            }
        }
        Ok(())
    }

    fn take_all(&mut self, tail: &[(Seq, Frames)]) {
        for (first, frames) in tail {
            let from = usize::try_from(self.next.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
            if self.full || *first > self.next {
                return;
            }
            let most = frames.len().min(from.saturating_add(self.events_left()));
            let bytes = self.limit.bytes.saturating_sub(self.frames.bytes());
            let fits = match frames.split_at(from, bytes) {
                (0, _) if self.frames.is_empty() => from + 1,
                (whole, _) => from + whole,
            };
            self.full = fits < most || self.events_left() == 0;
            self.take(frames, from, most.min(fits));
        }
    }

    fn take(&mut self, frames: &Frames, from: usize, to: usize) {
        if from < to {
            self.frames.extend(frames, from..to);
            self.next = Seq(self.first.0 + self.frames.len() as u64);
            self.full |= self.events_left() == 0;
        }
    }

    fn finish(self) -> EventBatch {
        EventBatch::new(self.first, self.frames.finish())
    }
}

/// A page that is put together from its end backwards.
struct PageBack {
    /// The event in front of what is taken so far.
    last: Seq,
    first: Seq,
    left: PageLimit,
    /// Newest first.
    parts: Vec<(Frames, Range<usize>)>,
    full: bool,
}

impl PageBack {
    fn new(last: Seq, first: Seq, limit: PageLimit) -> Self {
        Self {
            last,
            first,
            left: limit,
            parts: Vec::new(),
            full: false,
        }
    }

    fn is_done(&self) -> bool {
        self.full || self.left.events == 0 || self.last < self.first
    }

    fn take_tail(&mut self, tail: &Tail) {
        for run in tail.runs_back() {
            if self.is_done() {
                return;
            }
            self.take(run.first, run.run.frames.clone());
        }
    }

    fn take_blocks(&mut self, tx: &ReadTransaction, room: u64) -> Result<(), StoreError> {
        let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
        for entry in blocks.range((room, 0)..=(room, self.last.0))?.rev() {
            if self.is_done() {
                break;
            }
            let (key, row) = entry?;
            let (first, run) = (Seq(key.value().1), RunRef::of(row.value())?);
            self.take(first, run.frames(0, usize::MAX, usize::MAX)?);
        }
        Ok(())
    }

    /// Takes what it can of a run that starts at `first`, from the end.
    fn take(&mut self, first: Seq, frames: Frames) {
        let Some(end) = self
            .last
            .next()
            .0
            .checked_sub(first.0)
            .filter(|end| *end > 0)
        else {
            return;
        };
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        if end > frames.len() {
            // A hole: nothing in front of it belongs to this page.
            self.full = true;
            return;
        }
        let readable = usize::try_from(self.last.next().0 - self.first.0.max(first.0)).unwrap_or(0);
        let ends: Vec<usize> = frames.ends().map(|end| end as usize).collect();
        let start_of = |index: usize| index.checked_sub(1).map_or(0, |before| ends[before]);
        let mut start = end;
        while end - start < readable.min(self.left.events) {
            let bytes = ends[end - 1] - start_of(start - 1);
            let is_first = start == end && self.parts.is_empty();
            if bytes > self.left.bytes && !is_first {
                self.full = true;
                break;
            }
            start -= 1;
        }
        if start < end {
            self.left.events -= end - start;
            self.left.bytes = self
                .left
                .bytes
                .saturating_sub(ends[end - 1] - start_of(start));
            self.last = Seq(first.0 + start as u64).prev();
            self.parts.push((frames, start..end));
        }
    }

    fn finish(self) -> EventBatch {
        let mut builder = FramesBuilder::default();
        for (frames, range) in self.parts.into_iter().rev() {
            builder.extend(&frames, range);
        }
        EventBatch::new(self.last.next(), builder.finish())
    }
}

type Blocks<'a> = &'a dyn BlockTable;

/// Where a block starts, and its row.
type Block<'a> = (u64, redb::AccessGuard<'a, &'static [u8]>);

/// The table of blocks, in a snapshot or in the writer's transaction.
pub(crate) trait BlockTable {
    /// The last block that starts in the range.
    fn last_in(&self, range: RangeInclusive<(u64, u64)>) -> Result<Option<Block<'_>>, StoreError>;
}

impl<T: ReadableTable<(u64, u64), &'static [u8]>> BlockTable for T {
    fn last_in(&self, range: RangeInclusive<(u64, u64)>) -> Result<Option<Block<'_>>, StoreError> {
        let last = self.range(range)?.next_back().transpose()?;
        Ok(last.map(|(key, row)| (key.value().1, row)))
    }
}

/// The key of the block that holds an event, or would if it were there.
fn block_of(blocks: Blocks<'_>, room: u64, seq: Seq) -> Result<Option<(u64, u64)>, StoreError> {
    let found = blocks.last_in((room, 0)..=(room, seq.0))?;
    Ok(found.map(|(first, _)| (room, first)))
}

/// The frame of an event that stands in a block.
pub(crate) fn frame_in_blocks(
    blocks: Blocks<'_>,
    room: u64,
    seq: Seq,
) -> Result<Option<Bytes>, StoreError> {
    let Some((first, row)) = blocks.last_in((room, 0)..=(room, seq.0))? else {
        return Ok(None);
    };
    let run = RunRef::of(row.value())?;
    let index = usize::try_from(seq.0 - first).unwrap_or(usize::MAX);
    if index >= run.len() {
        return Ok(None);
    }
    let frames = run.frames(index, 1, usize::MAX)?;
    frame_in(&frames, seq, seq).map(Some)
}

fn time_at(
    tx: &ReadTransaction,
    room: u64,
    tail: &Tail,
    seq: Seq,
) -> Result<Option<Timestamp>, StoreError> {
    if let Some(ts) = tail.time(seq) {
        return Ok(Some(ts));
    }
    let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
    let found = (&blocks as Blocks<'_>).last_in((room, 0)..=(room, seq.0))?;
    match found {
        Some((first, row)) => {
            let index = usize::try_from(seq.0 - first).unwrap_or(usize::MAX);
            Ok(RunRef::of(row.value())?.time(index))
        }
        None => Ok(None),
    }
}

/// Where a room's blocks end.
pub(crate) struct End {
    pub(crate) last: Seq,
    pub(crate) last_ts: Timestamp,
    /// The first event of the last block. The next fold goes on with it if it is not full.
    pub(crate) open_block: Option<Seq>,
}

/// The end of a room's blocks; `None` when it has none.
pub(crate) fn end_of_blocks(blocks: Blocks<'_>, room: u64) -> Result<Option<End>, StoreError> {
    let Some((first, row)) = blocks.last_in((room, 0)..=(room, u64::MAX))? else {
        return Ok(None);
    };
    let run = RunRef::of(row.value())?;
    let last = run.len().checked_sub(1);
    let last = last.ok_or_else(|| StoreError::damaged("a block of events is empty"))?;
    Ok(Some(End {
        last: Seq(first + last as u64),
        last_ts: run.time(last).unwrap_or_default(),
        open_block: Some(Seq(first)),
    }))
}

/// Replaces an event's frame in its block.
pub(crate) fn rewrite_block(
    tx: &WriteTransaction,
    room: u64,
    seq: Seq,
    json: &[u8],
) -> Result<(), StoreError> {
    let mut blocks = tx.open_table(tables::ROOM_BLOCKS)?;
    let (first, run) = {
        let found = (&blocks as Blocks<'_>).last_in((room, 0)..=(room, seq.0))?;
        let (first, row) = found.ok_or_else(|| StoreError::damaged("an event is missing"))?;
        (Seq(first), RunRef::of(row.value())?.to_run()?)
    };
    let mut row = Vec::new();
    block::encode(
        &replaced(&run.frames, first, seq, json),
        &run.times,
        &mut row,
    );
    blocks.insert((room, first.0), row.as_slice())?;
    Ok(())
}

/// Replaces an event's frame in the row of its commit.
pub(crate) fn rewrite_commit(
    tx: &WriteTransaction,
    commit: u64,
    room: u64,
    seq: Seq,
    json: &[u8],
) -> Result<(), StoreError> {
    let mut log = tx.open_table(tables::LOG)?;
    let mut row = Vec::new();
    {
        let old = log.get(commit)?;
        let old = old.ok_or_else(|| StoreError::damaged("a commit is missing from the log"))?;
        for section in commit_row::sections(old.value()) {
            let section = section?;
            let run = section.run.to_run()?;
            let frames = if section.room == room {
                replaced(&run.frames, section.first, seq, json)
            } else {
                run.frames
            };
            commit_row::push(section.room, section.first, &frames, &run.times, &mut row);
        }
    }
    log.insert(commit, row.as_slice())?;
    Ok(())
}
