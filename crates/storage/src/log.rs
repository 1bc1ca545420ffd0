//! The log of a room as rows: how one is laid out, and how pages are read.
//!
//! A row is the event's time, 8 bytes little endian, and its frame. The time stands in front so that a search by
//! time reads no JSON.

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use stack_types::{Event, EventBatch, EventCodec, FramesBuilder, Seq, Timestamp};

use crate::{RoomRef, Store, StoreError, tables};

const TS_BYTES: usize = 8;

/// How much a page holds at most. A page holds at least one event, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageLimit {
    /// Events.
    pub events: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

/// Lays out an event's row in `row`, whatever was in it before.
pub(crate) fn encode_row(codec: &dyn EventCodec, event: &Event, row: &mut Vec<u8>) {
    row.clear();
    row.extend_from_slice(&event.ts.0.to_le_bytes());
    codec.encode(event, row);
}

/// The frame in a row.
pub(crate) fn frame_of(row: &[u8]) -> Result<&[u8], StoreError> {
    split(row).map(|(_, frame)| frame)
}

/// The time in a row.
pub(crate) fn ts_of(row: &[u8]) -> Result<Timestamp, StoreError> {
    split(row).map(|(ts, _)| ts)
}

fn split(row: &[u8]) -> Result<(Timestamp, &[u8]), StoreError> {
    let (ts, frame) = row
        .split_first_chunk::<TS_BYTES>()
        .ok_or_else(|| StoreError::damaged("row of the log is too short"))?;
    Ok((Timestamp(u64::from_le_bytes(*ts)), frame))
}

type Events = ReadOnlyTable<(u64, u64), &'static [u8]>;

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
        let room = room.clone();
        self.read_blocking(move |tx| {
            let start = after.next().max(room.first());
            read_forward(
                &tx.open_table(tables::EVENTS)?,
                room.0.number,
                start,
                u64::MAX,
                limit,
            )
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
        let room = room.clone();
        self.read_blocking(move |tx| {
            let events = tx.open_table(tables::EVENTS)?;
            let start = start_before(&events, room.0.number, before, limit)?;
            match start {
                Some(start) => read_forward(
                    &events,
                    room.0.number,
                    start,
                    before.prev().0,
                    PageLimit {
                        events: limit.events,
                        bytes: usize::MAX,
                    },
                ),
                None => Ok(EventBatch::new(before, FramesBuilder::default().finish())),
            }
        })
        .await
    }

    /// The last event whose time is not after `ts`; zero when there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn last_until(&self, room: &RoomRef, ts: Timestamp) -> Result<Seq, StoreError> {
        let room = room.clone();
        self.read_blocking(move |tx| search_by_time(tx, &room, ts))
            .await
    }
}

fn read_forward(
    events: &Events,
    room: u64,
    start: Seq,
    end: u64,
    limit: PageLimit,
) -> Result<EventBatch, StoreError> {
    let mut frames = FramesBuilder::default();
    if start.0 <= end {
        for entry in events.range((room, start.0)..=(room, end))? {
            let (_, row) = entry?;
            let frame = frame_of(row.value())?;
            let full = frames.len() >= limit.events
                || (!frames.is_empty() && frames.bytes() + frame.len() > limit.bytes);
            if full {
                break;
            }
            frames.push(frame);
        }
    }
    Ok(EventBatch::new(start, frames.finish()))
}

/// Where a page that ends in front of `before` starts.
fn start_before(
    events: &Events,
    room: u64,
    before: Seq,
    limit: PageLimit,
) -> Result<Option<Seq>, StoreError> {
    let mut start = None;
    let mut bytes = 0;
    if before > Seq::FIRST {
        for entry in events
            .range((room, 0)..(room, before.0))?
            .rev()
            .take(limit.events)
        {
            let (key, row) = entry?;
            bytes += row.value().len();
            if start.is_some() && bytes > limit.bytes {
                break;
            }
            start = Some(Seq(key.value().1));
        }
    }
    Ok(start)
}

/// Times never fall as numbers grow, so the place of a time is found by halving.
fn search_by_time(tx: &ReadTransaction, room: &RoomRef, ts: Timestamp) -> Result<Seq, StoreError> {
    let events = tx.open_table(tables::EVENTS)?;
    let (mut low, mut high) = (room.first().prev(), room.head());
    while low < high {
        let middle = Seq(low.0 + (high.0 - low.0).div_ceil(2));
        let row = events.get((room.0.number, middle.0))?;
        let row = row.ok_or_else(|| StoreError::damaged("an event is missing from the log"))?;
        if ts_of(row.value())? <= ts {
            low = middle;
        } else {
            high = middle.prev();
        }
    }
    Ok(low)
}

/// The number and time of a room's last event.
pub(crate) fn tail(
    events: &impl ReadableTable<(u64, u64), &'static [u8]>,
    room: u64,
) -> Result<Option<(Seq, Timestamp)>, StoreError> {
    let last = events
        .range((room, 0)..=(room, u64::MAX))?
        .next_back()
        .transpose()?;
    last.map(|(key, row)| Ok((Seq(key.value().1), ts_of(row.value())?)))
        .transpose()
}
