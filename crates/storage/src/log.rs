//! Reading a room's log: its blocks, and behind them the tail in memory, as one line of events.

use std::ops::{Range, RangeInclusive};
use std::time::Instant;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable};
use stack_types::{EventBatch, Frames, FramesBuilder, Seq, Timestamp};

use crate::block::RunRef;
use crate::fold::BLOCK_EVENTS;
use crate::tail::frame_in;
use crate::{RoomRef, Store, StoreError, tables};

/// How much a page holds at most. A page holds at least one event, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events.
    pub events: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

/// Pages of more events are read off the runtime.
const BRIEF_EVENTS: usize = 2 * BLOCK_EVENTS;
/// Blocks that are read on the runtime for one page at most. So few of them hold a page of common messages; the rest
/// of another page is read off the runtime.
const BRIEF_BLOCKS: usize = 8;

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
        let head = room.head();
        let start = after.next().max(room.first());
        let mut page = Page::new(start, limit);
        // The tail comes first: what leaves it while the blocks are read stands in them already.
        let (in_tail, tail) = tail_from(room, start, limit.events);
        if !in_tail {
            let number = room.0.number;
            page = self
                .read_page(page, limit, move |page, tx, most| {
                    page.take_blocks(tx, number, most)
                })
                .await?;
        }
        page.take_all(&tail);
        let found = page.finish();
        let is_whole = head < start || (!found.frames().is_empty() && found.first() == start);
        if !is_whole {
            self.check_hole(room, start).await?;
        }
        Ok(found)
    }

    /// An event that was there is missing: well and good if the room is deleted or its beginning has moved past it.
    /// Else whoever reads on from here would ask for it for ever.
    async fn check_hole(&self, room: &RoomRef, missing: Seq) -> Result<(), StoreError> {
        let is_gone = || room.is_deleted() || missing < room.first();
        if is_gone() {
            return Ok(());
        }
        // What a commit has removed from the file shows in memory only a moment later: before the next commit.
        self.write(|_, _| Ok(())).await?;
        if is_gone() {
            return Ok(());
        }
        Err(StoreError::damaged(format!(
            "event {missing} is missing in the log"
        )))
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
        // As above: the tail first.
        let (last, first, tail) = {
            let state = room.0.state.read();
            let last = before.prev().min(state.head);
            let tail = state.tail.back_from(last, limit.events);
            (last, state.record.first, tail)
        };
        let mut page = PageBack::new(last, first, limit);
        page.take_tail(tail);
        if !page.is_done() {
            let number = room.0.number;
            page = self
                .read_page(page, limit, move |page, tx, most| {
                    page.take_blocks(tx, number, most)
                })
                .await?;
        }
        Ok(page.finish())
    }

    /// Reads a page on with `take`, which is told how many blocks it may read and says whether it is done. What is
    /// brief is read here and now, unless the file is slow; everything else off the runtime.
    async fn read_page<P, F>(&self, mut page: P, limit: PageLimit, take: F) -> Result<P, StoreError>
    where
        P: Send + 'static,
        F: Fn(&mut P, &ReadTransaction, usize) -> Result<bool, StoreError> + Send + 'static,
    {
        let pace = &self.inner.pace;
        let began = Instant::now();
        if limit.events <= BRIEF_EVENTS && pace.is_quick(began) {
            let done = self.read(|tx| take(&mut page, tx, BRIEF_BLOCKS))?;
            pace.took(began, Instant::now());
            if done {
                return Ok(page);
            }
        }
        self.read_blocking(move |tx| {
            take(&mut page, tx, usize::MAX)?;
            Ok(page)
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
        let (first, last) = {
            let state = room.0.state.read();
            if let Some(last) = state.tail.last_until(ts) {
                return Ok(last);
            }
            let last = state.tail.first().map_or(state.head, Seq::prev);
            (state.record.first, last)
        };
        let room = room.clone();
        // Times never fall as numbers grow, so the place of a time is found by halving.
        self.read_blocking(move |tx| {
            let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
            let (mut low, mut high) = (first.max(room.first()).prev(), last);
            while low < high {
                let middle = Seq(low.0 + (high.0 - low.0).div_ceil(2));
                match time_at(&blocks, number, middle)? {
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

/// Some frames of a run.
type Part = (Frames, Range<usize>);

/// The frames of a page's parts, oldest first.
fn joined(parts: &[Part]) -> Frames {
    if let [(frames, range)] = parts
        && *range == (0..frames.len())
    {
        return frames.clone();
    }
    let bytes = parts.iter().map(|(frames, range)| wire_len(frames, range));
    let mut builder = FramesBuilder::with_capacity(bytes.sum());
    for (frames, range) in parts {
        builder.extend(frames, range.clone());
    }
    builder.finish()
}

/// How many bytes the frames of a range have.
fn wire_len(frames: &Frames, range: &Range<usize>) -> usize {
    end_in(frames, range.end) - end_in(frames, range.start)
}

/// Where the first `events` frames end.
fn end_in(frames: &Frames, events: usize) -> usize {
    let last = events
        .checked_sub(1)
        .and_then(|last| frames.ends().nth(last));
    last.map_or(0, |end| end as usize)
}

/// A page that is being put together, strictly in order.
struct Page {
    first: Seq,
    next: Seq,
    left: PageLimit,
    parts: Vec<Part>,
    full: bool,
}

impl Page {
    fn new(first: Seq, limit: PageLimit) -> Self {
        Self {
            first,
            next: first,
            left: limit,
            parts: Vec::new(),
            full: false,
        }
    }

    /// Takes what it can of at most `most` blocks, and says whether there is nothing left to take.
    fn take_blocks(
        &mut self,
        tx: &ReadTransaction,
        room: u64,
        most: usize,
    ) -> Result<bool, StoreError> {
        let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
        let mut found = (&blocks as Blocks<'_>).last_in((room, 0)..=(room, self.next.0))?;
        for _ in 0..most {
            let Some((first, row)) = found else {
                return Ok(true);
            };
            let run = RunRef::of(row.value())?;
            let from = usize::try_from(self.next.0 - first).unwrap_or(usize::MAX);
            if from >= run.len() {
                return Ok(true);
            }
            let wanted = self.left.events.min(run.len() - from);
            let frames = run.frames(from, wanted, self.left.bytes)?;
            if !self.parts.is_empty() && frames.wire().len() > self.left.bytes {
                return Ok(self.fill());
            }
            let len = frames.len();
            self.take(frames, 0..len);
            if self.full || len < wanted {
                return Ok(self.fill());
            }
            // Blocks stand one behind the other.
            let next = blocks.get((room, self.next.0))?;
            found = next.map(|row| (self.next.0, row));
        }
        Ok(false)
    }

    fn fill(&mut self) -> bool {
        self.full = true;
        true
    }

    fn take_all(&mut self, tail: &[(Seq, Frames)]) {
        for (first, frames) in tail {
            let from = usize::try_from(self.next.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
            if self.full || *first > self.next {
                return;
            }
            let most = frames.len().min(from.saturating_add(self.left.events));
            let fits = match frames.split_at(from, self.left.bytes) {
                (0, _) if self.parts.is_empty() => from + 1,
                (whole, _) => from + whole,
            };
            self.full = fits < most;
            self.take(frames.clone(), from..most.min(fits));
        }
    }

    fn take(&mut self, frames: Frames, range: Range<usize>) {
        if !range.is_empty() {
            let bytes = wire_len(&frames, &range);
            self.left.bytes = self.left.bytes.saturating_sub(bytes);
            self.left.events -= range.len();
            self.next = Seq(self.next.0 + range.len() as u64);
            self.parts.push((frames, range));
        }
        self.full |= self.left.events == 0;
    }

    fn finish(self) -> EventBatch {
        EventBatch::new(self.first, joined(&self.parts))
    }
}

/// A page that is put together from its end backwards.
struct PageBack {
    /// The event in front of what is taken so far.
    last: Seq,
    first: Seq,
    left: PageLimit,
    /// Newest first.
    parts: Vec<Part>,
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

    /// Takes what it can of the tail, which comes newest first.
    fn take_tail(&mut self, tail: Vec<(Seq, Frames)>) {
        for (first, frames) in tail {
            if self.is_done() {
                return;
            }
            let range = self.range_of(first, frames.len(), |events| end_in(&frames, events));
            if !range.is_empty() {
                self.parts.push((frames, range));
            }
        }
    }

    /// Takes what it can of at most `most` blocks, and says whether there is nothing left to take.
    fn take_blocks(
        &mut self,
        tx: &ReadTransaction,
        room: u64,
        most: usize,
    ) -> Result<bool, StoreError> {
        let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
        let mut rows = blocks.range((room, 0)..=(room, self.last.0))?.rev();
        for _ in 0..most {
            if self.is_done() {
                return Ok(true);
            }
            let Some(entry) = rows.next() else {
                return Ok(true);
            };
            let (key, row) = entry?;
            let (first, run) = (Seq(key.value().1), RunRef::of(row.value())?);
            let range = self.range_of(first, run.len(), |events| run.end_of(events));
            if !range.is_empty() {
                let frames = run.frames(range.start, range.len(), usize::MAX)?;
                let len = frames.len();
                self.parts.push((frames, 0..len));
            }
        }
        Ok(self.is_done())
    }

    /// What is taken of a run of `len` events that starts at `first`, from the end; `end_of` says where so many of its
    /// events end.
    fn range_of(
        &mut self,
        first: Seq,
        len: usize,
        end_of: impl Fn(usize) -> usize,
    ) -> Range<usize> {
        let behind = self.last.next().0.saturating_sub(first.0);
        let end = usize::try_from(behind).unwrap_or(usize::MAX);
        if end > len {
            // A hole: nothing in front of it belongs to this page.
            self.full = true;
            return 0..0;
        }
        let unreadable =
            usize::try_from(self.first.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        let lowest = unreadable.max(end.saturating_sub(self.left.events));
        let mut start = end;
        let mut bytes = 0;
        while start > lowest {
            // Nothing is sure of a damaged block; taking its frames out will tell.
            let more = end_of(end).saturating_sub(end_of(start - 1));
            let is_first = start == end && self.parts.is_empty();
            if more > self.left.bytes && !is_first {
                self.full = true;
                break;
            }
            start -= 1;
            bytes = more;
        }
        self.left.events -= end - start;
        self.left.bytes = self.left.bytes.saturating_sub(bytes);
        self.last = Seq(first.0 + start as u64).prev();
        start..end
    }

    fn finish(mut self) -> EventBatch {
        self.parts.reverse();
        EventBatch::new(self.last.next(), joined(&self.parts))
    }
}

pub(crate) type Blocks<'a> = &'a dyn BlockTable;

/// Where a block starts, and its row.
pub(crate) type Block<'a> = (u64, redb::AccessGuard<'a, &'static [u8]>);

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

fn time_at(blocks: Blocks<'_>, room: u64, seq: Seq) -> Result<Option<Timestamp>, StoreError> {
    match blocks.last_in((room, 0)..=(room, seq.0))? {
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
