//! One room's readers, and what a batch does to each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use stack_types::{EventBatch, RoomId, Seq, UnsubscribeReason, UserId};

use crate::log::Room;
use crate::outlet::{Outlet, Taken};
use crate::whereabouts::{self, Departure, Standing};

/// Readers served between two breaks: a write takes some microseconds, and who wants to join a large room or to leave it
/// waits for less than a millisecond or so.
const AT_ONCE: usize = 256;

/// One connection's reading of one room.
#[derive(Debug)]
pub struct Subscription {
    pub(crate) outlet: Arc<Outlet>,
    pub(crate) room: Arc<RoomHub>,
    user: UserId,
    begun: Instant,
    /// The event behind which it began.
    from: Seq,
    /// The last event handed over, while it is behind; a live one's stands in its room's list.
    cursor: AtomicU64,
    /// How many milliseconds after it had begun it fell behind, while it is behind.
    behind_after_ms: AtomicU64,
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

    fn note_behind(&self, since: Instant) {
        let after = since.saturating_duration_since(self.begun).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        self.behind_after_ms.store(after, Ordering::Relaxed);
    }

    /// Where it stands. `live` is what its room's list says.
    fn whereabouts(&self, live: Option<Seq>) -> whereabouts::Reader {
        let behind_after = Duration::from_millis(self.behind_after_ms.load(Ordering::Relaxed));
        whereabouts::Reader {
            user: self.user,
            connection: self.outlet.connection(),
            begun: self.begun,
            from: self.from,
            cursor: live.unwrap_or_else(|| self.cursor()),
            standing: match live {
                _ if self.outlet.relay().is_some() => Standing::Relayed,
                Some(_) => Standing::Live,
                None => Standing::Behind(self.begun + behind_after),
            },
            waiting_bytes: self.outlet.pending_bytes(),
        }
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
    /// Readers that took all of it.
    pub(crate) readers: u64,
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
        state.end(before, End::Replaced)?;
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
            begun: Instant::now(),
            from: after,
            cursor: AtomicU64::new(after.0),
            behind_after_ms: AtomicU64::new(0),
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

    /// Ends a reader. `last` is the last thing it is told. Gives what is to be remembered of it, and whether no reader is
    /// left; `None` when it had ended before.
    pub(crate) fn remove(
        &self,
        subscription: &Subscription,
        last: Option<Bytes>,
        reason: Option<UnsubscribeReason>,
    ) -> Option<(Departure, bool)> {
        let mut state = self.state.lock();
        let departure = state.end(subscription, End::Over(last, reason))?;
        Some((departure, state.readers.is_empty()))
    }

    /// Runs `begin` with the cursor of a reader, unless it has ended; nobody ends it meanwhile.
    pub(crate) fn unless_over(&self, subscription: &Subscription, begin: impl FnOnce(Seq)) {
        let _state = self.state.lock();
        if !subscription.is_over() {
            begin(subscription.cursor());
        }
    }

    /// Ends every reader of whom `which` says so; gives what is to be remembered of them, and whether none is left.
    pub(crate) fn remove_where(
        &self,
        which: impl Fn(&Subscription) -> bool,
        last: &Bytes,
        reason: UnsubscribeReason,
    ) -> (Vec<Departure>, bool) {
        let mut state = self.state.lock();
        let ending: Vec<_> = state
            .readers
            .iter()
            .map(|reader| reader.subscription.clone())
            .filter(|subscription| which(subscription))
            .collect();
        let mut departures = Vec::with_capacity(ending.len());
        for subscription in &ending {
            let end = End::Over(Some(last.clone()), Some(reason));
            if let Some(departure) = state.end(subscription, end) {
                subscription.outlet.note_end(self.room.id());
                departures.push(departure);
            }
        }
        (departures, state.readers.is_empty())
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

    /// Where every reader stands. It holds the room for as long as a batch does, a part of the readers at a time.
    pub(crate) fn whereabouts(&self) -> Vec<whereabouts::Reader> {
        let mut found = Vec::new();
        let mut rest = usize::MAX;
        while rest > 0 {
            // From the end, as a batch is handed out: who is moved meanwhile has been seen already.
            let state = self.state.lock();
            rest = rest.min(state.readers.len());
            let from = rest.saturating_sub(AT_ONCE);
            let readers = state.readers[from..rest].iter();
            found.extend(readers.map(|reader| reader.subscription.whereabouts(reader.live)));
            rest = from;
            MutexGuard::unlock_fair(state);
        }
        found
    }

    /// Whether there are no readers.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().readers.is_empty()
    }

    /// Hands a batch to every live reader: one write each. Who cannot take all of it, or has missed something in
    /// front of it, is behind from `now` on.
    pub(crate) fn fan_out(&self, batch: &EventBatch, now: Instant) -> Fanned {
        let mut fanned = Fanned::default();
        let mut rest = usize::MAX;
        while rest > 0 {
            let mut state = self.state.lock();
            state.head = batch.last().max(state.head);
            // From the end: who leaves meanwhile is replaced by the last of the list, who then has the batch already.
            rest = rest.min(state.readers.len());
            let from = rest.saturating_sub(AT_ONCE);
            hand_out(batch, now, &mut state.readers[from..rest], &mut fanned);
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
fn hand_out(batch: &EventBatch, now: Instant, readers: &mut [Reader], fanned: &mut Fanned) {
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
                fanned.readers += 1;
                reader.live = Some(batch.last());
            }
            Taken::Some(count) => {
                fanned.deliveries += count as u64;
                fanned.fell_behind += 1;
                reader.fall_behind(Seq(cursor.0 + count as u64), now);
            }
            // The connection's own task finds its outlet closed and takes its subscriptions away.
            Taken::Closed => {
                reader.subscription.set_cursor(cursor);
                reader.subscription.note_behind(now);
                reader.live = None;
            }
        }
    }
}

/// How a reader ends.
enum End {
    /// For good, with the last thing it is told, and why if that says so.
    Over(Option<Bytes>, Option<UnsubscribeReason>),
    /// Another takes its place.
    Replaced,
}

impl State {
    /// Sends live readers who have not got everything up to `due` back to the log, unless that was handed out.
    fn heal(&mut self, due: Seq) -> u64 {
        if due <= self.head {
            return 0;
        }
        let (mut healed, now) = (0, Instant::now());
        for reader in &mut self.readers {
            if let Some(cursor) = reader.live.filter(|cursor| *cursor < due) {
                reader.fall_behind(cursor, now);
                healed += 1;
            }
        }
        healed
    }

    /// What is to be remembered of it; `None` when it had ended before.
    fn end(&mut self, subscription: &Subscription, end: End) -> Option<Departure> {
        // Under the outlet's lock too: a page of this subscription is either written before, or never.
        let ended = subscription
            .outlet
            .between_writes(|| !subscription.over.swap(true, Ordering::AcqRel));
        if !ended {
            return None;
        }
        subscription.outlet.forget(subscription);
        let mut why = None;
        if let End::Over(last, reason) = end {
            why = reason;
            match (subscription.outlet.relay(), last) {
                (Some(relay), last) => relay.end(subscription.room(), last),
                (None, Some(last)) => subscription.outlet.send(last),
                (None, None) => {}
            }
        }
        let slot = subscription.slot.load(Ordering::Relaxed);
        let reader = self.readers.swap_remove(slot);
        if let Some(moved) = self.readers.get(slot) {
            moved.subscription.slot.store(slot, Ordering::Relaxed);
        }
        Some(Departure {
            user: subscription.user,
            connection: subscription.outlet.connection(),
            begun: subscription.begun,
            from: subscription.from,
            cursor: reader.live.unwrap_or_else(|| subscription.cursor()),
            is_relayed: subscription.outlet.relay().is_some(),
            ended: Instant::now(),
            reason: why,
        })
    }
}

impl Reader {
    fn fall_behind(&mut self, cursor: Seq, now: Instant) {
        self.live = None;
        self.subscription.note_behind(now);
        self.subscription.set_cursor(cursor);
        self.subscription
            .outlet
            .fell_behind(self.subscription.clone());
    }
}
