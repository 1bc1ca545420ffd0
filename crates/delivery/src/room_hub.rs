//! One room's readers, and what a batch does to each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use stack_types::{EventBatch, RoomId, Seq, UserId};

use crate::log::Room;
use crate::outlet::{Outlet, Taken};

/// Readers served between two breaks: a write takes some microseconds, and who wants to join a large room or to leave it
/// waits for less than a millisecond or so.
const AT_ONCE: usize = 256;

/// One connection's reading of one room.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) room: Arc<RoomHub>,
    user: UserId,
    /// The last event handed over, while it is behind; a live one's stands in its room's list.
    cursor: AtomicU64,
    over: AtomicBool,
    /// Where it stands in its room's list; changed under the room's lock alone.
    slot: AtomicUsize,
}

impl Subscription {
    /// The room.
    #[must_use]
    pub fn room(&self) -> &RoomId {
        self.room.room.id()
    }

    /// Whose it is.
    #[must_use]
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Whether it has ended: nothing more comes of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(crate) fn cursor(&self) -> Seq {
        Seq(self.cursor.load(Ordering::Acquire))
    }

    pub(crate) fn set_cursor(&self, cursor: Seq) {
        self.cursor.store(cursor.0, Ordering::Release);
    }
}

/// A room with at least one reader here.
#[derive(Debug)]
pub(crate) struct RoomHub {
    pub(crate) room: Room,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last event that was handed to the readers here.
    head: Seq,
    /// The room's last event when [`RoomHub::heal`] last looked.
    seen: Seq,
    readers: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    subscription: Arc<Subscription>,
    /// The last event handed over, while it is live; `None` while it is behind.
    live: Option<Seq>,
}

/// How a batch went out.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Fanned {
    pub(crate) deliveries: u64,
    pub(crate) fell_behind: u64,
}

impl RoomHub {
    /// A room without readers. `head` is what its log holds when the room is already listed for batches.
    pub(crate) fn new(room: Room) -> Self {
        let head = room.head();
        Self {
            room,
            state: Mutex::new(State {
                head,
                seen: Seq::ZERO,
                readers: Vec::new(),
            }),
        }
    }

    /// Adds a reader that is behind, at `after`. It gets nothing until it is pumped or [`RoomHub::rejoin`]s.
    pub(crate) fn add(
        self: &Arc<Self>,
        outlet: Arc<Outlet>,
        user: UserId,
        after: Seq,
    ) -> Arc<Subscription> {
        self.add_locked(&mut self.state.lock(), outlet, user, after)
    }

    /// Puts a new reader in an old one's place, at what `after` says once the old one gets nothing more. `None` when
    /// that had ended. Whoever ends readers meanwhile meets one of the two.
    pub(crate) fn renew(
        self: &Arc<Self>,
        before: &Subscription,
        after: impl FnOnce() -> Seq,
    ) -> Option<Arc<Subscription>> {
        let mut state = self.state.lock();
        // What begins in its place ends it for a relay, too.
        if !state.end(before, End::Replaced) {
            return None;
        }
        let outlet = before.outlet.clone();
        Some(self.add_locked(&mut state, outlet, before.user, after()))
    }

    fn add_locked(
        self: &Arc<Self>,
        state: &mut State,
        outlet: Arc<Outlet>,
        user: UserId,
        after: Seq,
    ) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            outlet,
            room: self.clone(),
            user,
            cursor: AtomicU64::new(after.0),
            over: AtomicBool::new(false),
            slot: AtomicUsize::new(state.readers.len()),
        });
        state.readers.push(Reader {
            subscription: subscription.clone(),
            live: None,
        });
        subscription
    }

    /// Makes a reader live again if nothing that was handed out is behind its cursor.
    pub(crate) fn rejoin(&self, subscription: &Subscription) -> bool {
        let mut state = self.state.lock();
        if subscription.is_over() {
            return true;
        }
        let cursor = subscription.cursor();
        if cursor < state.head || cursor < self.room.head() {
            return false;
        }
        let slot = subscription.slot.load(Ordering::Relaxed);
        state.readers[slot].live = Some(cursor);
        true
    }

    /// Ends a reader. `last` is the last thing it is told, if it had not ended before.
    pub(crate) fn remove(&self, subscription: &Subscription, last: Option<Bytes>) -> bool {
        let mut state = self.state.lock();
        let ended = state.end(subscription, End::Over(last));
        ended && state.readers.is_empty()
    }

    /// Ends a reader without a word; gives the last event that was handed over, and whether no reader is left. `None`
    /// when it had ended before. Only for the task that pumps its outlet: a page that is just being handed over would not
    /// be counted.
    pub(crate) fn take(&self, subscription: &Subscription) -> Option<(Seq, bool)> {
        let mut state = self.state.lock();
        let slot = subscription.slot.load(Ordering::Relaxed);
        let live = (!subscription.is_over()).then(|| state.readers[slot].live)?;
        let cursor = live.unwrap_or_else(|| subscription.cursor());
        state.end(subscription, End::Over(None));
        Some((cursor, state.readers.is_empty()))
    }

    /// Runs `begin` with the cursor of a reader, unless it has ended; nobody ends it meanwhile.
    pub(crate) fn unless_over(&self, subscription: &Subscription, begin: impl FnOnce(Seq)) {
        let _state = self.state.lock();
        if !subscription.is_over() {
            begin(subscription.cursor());
        }
    }

    /// Ends every reader of whom `which` says so; gives how many, and whether none is left.
    pub(crate) fn remove_where(
        &self,
        which: impl Fn(&Subscription) -> bool,
        last: &Bytes,
    ) -> (usize, bool) {
        let mut state = self.state.lock();
        let ending: Vec<_> = state
            .readers
            .iter()
            .map(|reader| reader.subscription.clone())
            .filter(|subscription| which(subscription))
            .collect();
        for subscription in &ending {
            if state.end(subscription, End::Over(Some(last.clone()))) {
                subscription.outlet.note_end(self.room.id());
            }
        }
        (ending.len(), state.readers.is_empty())
    }

    /// Readers, and those of them that are behind. Without those at other gateways, where they are counted and live.
    pub(crate) fn count(&self) -> (u64, u64) {
        let state = self.state.lock();
        let is_here = |reader: &&Reader| reader.subscription.outlet.relay().is_none();
        let (mut readers, mut behind) = (0, 0);
        for reader in state.readers.iter().filter(is_here) {
            readers += 1;
            behind += u64::from(reader.live.is_none());
        }
        (readers, behind)
    }

    /// Whether there are no readers.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().readers.is_empty()
    }

    /// Hands a batch to every live reader: one write each. Who cannot take all of it, or has missed something in
    /// front of it, is behind from here on.
    pub(crate) fn fan_out(&self, batch: &EventBatch) -> Fanned {
        let mut fanned = Fanned::default();
        let mut rest = usize::MAX;
        while rest > 0 {
            let mut state = self.state.lock();
            state.head = batch.last().max(state.head);
            // From the end: who leaves meanwhile is replaced by the last of the list, who then has the batch already.
            rest = rest.min(state.readers.len());
            let from = rest.saturating_sub(AT_ONCE);
            hand_out(batch, &mut state.readers[from..rest], &mut fanned);
            rest = from;
            MutexGuard::unlock_fair(state);
        }
        fanned
    }

    /// Sends live readers back to the log when what was in the room at the last look has not been handed out yet: its
    /// batch was lost. What has come since may still be on its way.
    pub(crate) fn heal(&self) -> u64 {
        let mut state = self.state.lock();
        let due = std::mem::replace(&mut state.seen, self.room.head());
        state.heal(due)
    }

    /// Sends live readers back to the log when what the room is known to hold has not been handed out yet, without a
    /// second look.
    pub(crate) fn heal_at_once(&self) -> u64 {
        let mut state = self.state.lock();
        let due = self.room.head();
        state.heal(due)
    }

    /// Tells every reader something that may be lost.
    pub(crate) fn signal(&self, bytes: &Bytes) {
        let mut rest = usize::MAX;
        while rest > 0 {
            // In goes and from the end, as a batch is handed out: who is moved meanwhile has it already.
            let state = self.state.lock();
            rest = rest.min(state.readers.len());
            let from = rest.saturating_sub(AT_ONCE);
            for reader in &state.readers[from..rest] {
                let outlet = &reader.subscription.outlet;
                if outlet.relay().is_none() {
                    outlet.offer_lossy(bytes.clone());
                }
            }
            rest = from;
            MutexGuard::unlock_fair(state);
        }
    }
}

/// Hands a batch to those of the readers who are live.
fn hand_out(batch: &EventBatch, readers: &mut [Reader], fanned: &mut Fanned) {
    for reader in readers {
        let Some(cursor) = reader.live else {
            continue;
        };
        let index = batch.index_after(cursor);
        let frames = batch.frames();
        if index == frames.len() {
            continue;
        }
        let outlet = &reader.subscription.outlet;
        let missed = batch.first() > cursor.next();
        // The room's lock is held, so the subscription cannot end meanwhile.
        let taken = if missed {
            Taken::Some(0)
        } else {
            outlet.offer(frames, index, || false)
        };
        match taken {
            Taken::All => {
                fanned.deliveries += (frames.len() - index) as u64;
                reader.live = Some(batch.last());
            }
            Taken::Some(count) => {
                fanned.deliveries += count as u64;
                fanned.fell_behind += 1;
                reader.fall_behind(Seq(cursor.0 + count as u64));
            }
            // The connection's own task finds its outlet closed and takes its subscriptions away.
            Taken::Closed => reader.live = None,
        }
    }
}

/// How a reader ends.
enum End {
    /// For good, with the last thing it is told.
    Over(Option<Bytes>),
    /// Another takes its place.
    Replaced,
}

impl State {
    /// Sends live readers who have not got everything up to `due` back to the log, unless that was handed out.
    fn heal(&mut self, due: Seq) -> u64 {
        if due <= self.head {
            return 0;
        }
        let mut healed = 0;
        for reader in &mut self.readers {
            if let Some(cursor) = reader.live.filter(|cursor| *cursor < due) {
                reader.fall_behind(cursor);
                healed += 1;
            }
        }
        healed
    }

    fn end(&mut self, subscription: &Subscription, end: End) -> bool {
        // Under the outlet's lock too: a page of this subscription is either written before, or never.
        let ended = subscription
            .outlet
            .between_writes(|| !subscription.over.swap(true, Ordering::AcqRel));
        if !ended {
            return false;
        }
        subscription.outlet.forget(subscription);
        if let End::Over(last) = end {
            match (subscription.outlet.relay(), last) {
                (Some(relay), last) => relay.end(subscription.room(), last),
                (None, Some(last)) => subscription.outlet.send(last),
                (None, None) => {}
            }
        }
        let slot = subscription.slot.load(Ordering::Relaxed);
        self.readers.swap_remove(slot);
        if let Some(moved) = self.readers.get(slot) {
            moved.subscription.slot.store(slot, Ordering::Relaxed);
        }
        true
    }
}

impl Reader {
    fn fall_behind(&mut self, cursor: Seq) {
        self.live = None;
        self.subscription.set_cursor(cursor);
        self.subscription
            .outlet
            .fell_behind(self.subscription.clone());
    }
}
