//! How a reader that is behind reads on: one page of the log at a time, only when its outlet can take it.

use std::sync::Arc;

use bytes::Bytes;
use stack_storage::{PageLimit, StoreError};
use stack_types::{EventBatch, Frames, GapReason, RoomId, Seq, Signal};

use crate::hub::Shared;
use crate::log::Room;
use crate::outlet::{Flushed, Outlet, Taken};
use crate::room_hub::Subscription;

/// How much is read at once. It is the most that a catch-up holds in memory, and it holds it only while it writes;
/// a reader that stalls holds the rest of one frame.
const PAGE: PageLimit = PageLimit {
    events: 1024,
    bytes: 64 * 1024,
};

/// Why the pump stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pumped {
    /// The outlet is closed, by its connection or because its sink failed.
    Closed,
    /// Somebody else has ended the subscriptions to these rooms, and the reader was told. Pump on.
    Ended(Vec<RoomId>),
}

impl Outlet {
    /// Finishes begun frames, writes answers that had to wait, and serves the subscriptions that are behind, in
    /// turn. Not cancel safe: a subscription whose page is being read would be forgotten.
    pub(crate) async fn pump(&self, shared: &Shared) -> Result<Pumped, StoreError> {
        let mut full = false;
        loop {
            let ended = self.take_ended();
            if !ended.is_empty() {
                return Ok(Pumped::Ended(ended));
            }
            match self.flush() {
                Flushed::Closed => return Ok(Pumped::Closed),
                Flushed::All => {}
                Flushed::Some => full = true,
            }
            if full {
                // Waiting comes before reading: a page is in memory only while somebody takes it.
                full = !self.writable_or_news().await;
            } else if let Some(subscription) = self.next_behind() {
                // Boxed: every idle connection keeps room for what is not.
                full = Box::pin(serve(&subscription, shared)).await?;
            } else {
                self.news().await;
            }
        }
    }
}

/// Hands over one page, or rejoins the live stream when there is nothing left to read. Says whether the outlet is
/// full.
async fn serve(subscription: &Arc<Subscription>, shared: &Shared) -> Result<bool, StoreError> {
    if subscription.is_over() {
        return Ok(false);
    }
    let room = &subscription.room.room;
    if room.is_deleted() {
        // Its end is on the way; its log is being removed.
        return Ok(false);
    }
    if subscription.room.rejoin(subscription) {
        return Ok(false);
    }
    let mut full = false;
    let cursor = subscription.cursor();
    let first = room.first();
    if cursor.next() < first {
        tell_gap(subscription, shared, cursor, first);
    } else {
        let page = match room {
            Room::Stored(_) => read(shared, room, cursor).await?,
            // The log may be out of reach for long; what else the reader is owed does not wait for it.
            Room::Remote(_) => {
                let reading = read(shared, room, cursor);
                match subscription.outlet.flush_during(reading).await {
                    Some(page) => page?,
                    None => return Ok(false),
                }
            }
        };
        let frames = page.frames();
        if !frames.is_empty() && page.first() == cursor.next() {
            full = hand_over(subscription, shared, cursor, frames);
        }
    }
    subscription.outlet.fell_behind(subscription.clone());
    Ok(full)
}

async fn read(shared: &Shared, room: &Room, cursor: Seq) -> Result<EventBatch, StoreError> {
    let _turn = shared.reads.acquire().await;
    shared.log.page_after(room, cursor, PAGE).await
}

fn tell_gap(subscription: &Subscription, shared: &Shared, cursor: Seq, first: Seq) {
    let gap = Signal::Gap {
        room: subscription.room().clone(),
        from: cursor.next(),
        to: first.prev(),
        reason: GapReason::Retention,
    };
    let frame: Bytes = Frames::one(&shared.codec.signal(&gap)).wire().clone();
    // In one with the write: nothing follows the end of a subscription.
    let sent = subscription
        .outlet
        .send_unless(frame, || subscription.is_over());
    if sent {
        subscription.set_cursor(first.prev());
    }
}

/// Offers a page and moves the cursor by what was taken. Says whether the outlet is full.
fn hand_over(subscription: &Subscription, shared: &Shared, cursor: Seq, frames: &Frames) -> bool {
    let taken = subscription
        .outlet
        .offer(frames, 0, || subscription.is_over());
    let count = match taken {
        Taken::All => frames.len(),
        Taken::Some(count) => count,
        Taken::Closed => 0,
    };
    shared.caught_up(count as u64, frames.wire_range(0..count).len() as u64);
    subscription.set_cursor(Seq(cursor.0 + count as u64));
    matches!(taken, Taken::Some(_))
}
