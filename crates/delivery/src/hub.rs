//! The hub: takes committed batches from their source and hands each to the readers of its room.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::RwLock;
use stack_bus::{Bus, Message, Prefix, SubscribeError, Subscription as BusSubscription, Topic};
use stack_storage::{Commits, Committed, StoreError};
use stack_types::trace::{FanOutStep, Trace};
use stack_types::{
    EventBatch, EventCodec, Frames, RoomId, Seq, Signal, Timestamp, UnsubscribeReason, UserId,
};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::catch_up::Pumped;
use crate::log::{Log, Room};
use crate::outlet::Outlet;
use crate::room_hub::{Fanned, RoomHub, Subscription};
use crate::times::{Spread, Times};
use crate::whereabouts::{CommitPart, Departure, HandedOut, Memory, Out, Reader};

/// Pages of catch-up that are read at the same time at most: more would only queue at the disk, and each holds a
/// thread of the blocking pool.
const CONCURRENT_READS: usize = 8;

/// How often the hub compares what it handed out with the log. A batch that the bus lost is otherwise noticed only
/// when the next one of its room comes.
const HEAL_EVERY: Duration = Duration::from_secs(1);

/// Batches that have queued up go out together up to so many bytes: far more than makes a write worth its price, and
/// no more than a socket takes at once.
const RUN_BYTES: usize = 64 * 1024;

/// Messages of the bus that are looked at together at most.
const MESSAGES_AT_ONCE: usize = 256;

/// Where a hub's batches come from.
pub enum Source {
    /// From the store in this process, without loss; each is also published on the bus, for everybody else. The
    /// store waits when the hub is slower than it, so commits grow instead of a queue.
    Commits(Commits),
    /// From the bus, where messages may be lost, repeated or out of order; the log heals it.
    Bus,
}

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HubStats {
    /// Events handed to live readers.
    pub live_deliveries: u64,
    /// Events handed over from the log.
    pub catch_up_deliveries: u64,
    /// How often a live reader fell behind.
    pub fell_behind: u64,
    /// Messages of the bus that were no events.
    pub malformed: u64,
    /// Pages that were read from the log for readers that are behind.
    pub catch_up_pages: u64,
    /// Bytes of events handed over from the log.
    pub catch_up_bytes: u64,
}

/// Who reads now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readers {
    /// Rooms with a reader here.
    pub rooms: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Those of them that read from the log.
    pub behind: u64,
}

pub(crate) struct Shared {
    pub(crate) log: Log,
    pub(crate) codec: Arc<dyn EventCodec>,
    /// Bounds the pages that are read at the same time.
    pub(crate) reads: Semaphore,
    bus: Arc<dyn Bus>,
    rooms: RwLock<HashMap<RoomId, Arc<RoomHub>>>,
    memory: Memory,
    fan_outs: Times,
    live_deliveries: AtomicU64,
    catch_up_deliveries: AtomicU64,
    fell_behind: AtomicU64,
    malformed: AtomicU64,
    catch_up_pages: AtomicU64,
    catch_up_bytes: AtomicU64,
    /// One of its tasks has panicked.
    failed: AtomicBool,
}

impl Shared {
    pub(crate) fn caught_up(&self, events: u64, bytes: u64) {
        self.catch_up_pages.fetch_add(1, Ordering::Relaxed);
        self.catch_up_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.catch_up_deliveries
            .fetch_add(events, Ordering::Relaxed);
    }
}

/// The hub could not be started.
#[derive(Debug, Error)]
pub enum HubError {
    /// The bus is closed.
    #[error("cannot read from the bus")]
    Bus(#[from] SubscribeError),
    /// The hub's thread could not be started.
    #[error("cannot start the hub's thread")]
    Thread(#[source] std::io::Error),
}

/// Held by a task of the hub: dropped by a panic, it says so.
struct Watch {
    task: &'static str,
    shared: Arc<Shared>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.failed.store(true, Ordering::Release);
            tracing::error!(task = self.task, "a task of the hub panicked");
        }
    }
}

/// The hub. Cloning shares it.
#[derive(Clone)]
pub struct Hub(Arc<Shared>);

/// How often the hub looks for further commits before it hands out those it has, giving way in between.
const LOOKS: usize = 4;

/// Ends the hub's tasks, also when it is dropped.
#[derive(Debug)]
pub struct HubHandle {
    cancel: DropGuard,
    tasks: TaskTracker,
}

impl HubHandle {
    /// Stops taking batches and waits for the tasks to end. Call it after the store has ended, so that the last
    /// commit is still handed out and published.
    pub async fn shutdown(self) {
        drop(self.cancel);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Hub {
    /// Starts a hub.
    ///
    /// # Errors
    /// The bus is closed, or there can be no more threads.
    pub async fn spawn(
        log: impl Into<Log>,
        bus: Arc<dyn Bus>,
        codec: Arc<dyn EventCodec>,
        source: Source,
    ) -> Result<(Self, HubHandle), HubError> {
        let shared = Arc::new(Shared {
            log: log.into(),
            codec,
            reads: Semaphore::new(CONCURRENT_READS),
            bus: bus.clone(),
            rooms: RwLock::default(),
            memory: Memory::default(),
            fan_outs: Times::default(),
            live_deliveries: AtomicU64::new(0),
            catch_up_deliveries: AtomicU64::new(0),
            fell_behind: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            catch_up_pages: AtomicU64::new(0),
            catch_up_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
        });
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let hub = Self(shared);
        let signals = bus.subscribe(Prefix::presences()).await?;
        tasks.spawn(hub.clone().run_signals(signals, cancel.clone()));
        match source {
            Source::Commits(commits) => {
                // On a thread of its own: a large room keeps it in the kernel for milliseconds, and meanwhile the
                // runtime serves those who send.
                let run = hub.clone().run_commits(commits, cancel.clone());
                let (runtime, running) = (Handle::current(), tasks.token());
                // None of the runtime's: that one would wait for it when it is dropped.
                std::thread::Builder::new()
                    .name("hub".into())
                    .spawn(move || {
                        runtime.block_on(run);
                        drop(running);
                    })
                    .map_err(HubError::Thread)?;
            }
            Source::Bus => {
                let events = bus.subscribe(Prefix::rooms()).await?;
                tasks.spawn(hub.clone().run_bus(events, cancel.clone()));
            }
        }
        tasks.spawn(hub.clone().run_healing(cancel.clone()));
        let cancel = cancel.drop_guard();
        Ok((hub, HubHandle { cancel, tasks }))
    }

    /// Adds a reader of a room, which has seen everything up to `after`. It is silent until [`Hub::begin`], so
    /// that the answer to the request comes first.
    #[must_use]
    pub fn subscribe(
        &self,
        outlet: &Arc<Outlet>,
        room: impl Into<Room>,
        user: UserId,
        after: Seq,
    ) -> Arc<Subscription> {
        let room = room.into();
        // The list stays locked until the reader is in, or else the room could be dropped as empty in between.
        let mut rooms = self.0.rooms.write();
        let hub = rooms
            .entry(room.id().clone())
            .or_insert_with(|| Arc::new(RoomHub::new(room)));
        hub.add(outlet.clone(), user, after)
    }

    /// [`Hub::subscribe`] in the place of a subscription, whose last event is out before `after` is asked where the new
    /// one begins. `None`, and nothing has changed, when the old one has ended already.
    #[must_use]
    pub fn renew(
        &self,
        before: &Subscription,
        after: impl FnOnce() -> Seq,
    ) -> Option<Arc<Subscription>> {
        before.room.renew(before, after)
    }

    /// Lets a new reader have its events: from the log what is behind its cursor, then live.
    pub fn begin(&self, subscription: &Arc<Subscription>) {
        if !subscription.room.rejoin(subscription) {
            subscription.outlet.fell_behind(subscription.clone());
        }
    }

    /// [`Hub::begin`] for a reader whose outlet is a relay: `begin` says so to whoever hands out the events, with the
    /// cursor, unless the reader has ended already. Nobody ends it before `begin` is through.
    pub fn begin_relayed(&self, subscription: &Subscription, begin: impl FnOnce(Seq)) {
        subscription.room.unless_over(subscription, begin);
    }

    /// Ends a reader without a word; gives the last event that it was handed. `None` when it had ended before. For the
    /// task alone that pumps its outlet.
    pub fn take(&self, subscription: &Subscription) -> Option<Seq> {
        let (departure, empty) = subscription.room.remove(subscription, None, None)?;
        let cursor = departure.cursor;
        self.departed(subscription.room(), departure, empty);
        Some(cursor)
    }

    /// The room as the readers here share it, if it has any.
    #[must_use]
    pub fn room_of(&self, room: &RoomId) -> Option<Room> {
        self.room(room).map(|hub| hub.room.clone())
    }

    /// Every room that has readers here.
    #[must_use]
    pub fn rooms(&self) -> Vec<Room> {
        let rooms = self.0.rooms.read();
        rooms.values().map(|hub| hub.room.clone()).collect()
    }

    /// Ends a reader; with a reason it is told.
    pub fn unsubscribe(&self, subscription: &Subscription, reason: Option<UnsubscribeReason>) {
        let last = reason.map(|reason| self.unsubscribed(subscription.room(), reason));
        if let Some((departure, empty)) = subscription.room.remove(subscription, last, reason) {
            self.departed(subscription.room(), departure, empty);
        }
    }

    fn departed(&self, room: &RoomId, departure: Departure, empty: bool) {
        self.0.memory.note_departure(room.clone(), departure);
        if empty {
            self.forget_if_empty(room);
        }
    }

    /// Ends every reader of a room of whom `which` says so, and tells them why.
    pub fn end(
        &self,
        room: &RoomId,
        reason: UnsubscribeReason,
        which: impl Fn(&Subscription) -> bool,
    ) {
        let Some(hub) = self.room(room) else {
            return;
        };
        let (departures, empty) = hub.remove_where(which, &self.unsubscribed(room, reason), reason);
        let ended = departures.len();
        for departure in departures {
            self.0.memory.note_departure(room.clone(), departure);
        }
        tracing::debug!(%room, ended, ?reason, "subscriptions ended");
        if empty {
            self.forget_if_empty(room);
        }
    }

    /// Writes what a connection owes its reader: the rest of begun frames, answers that had to wait, and the events
    /// of subscriptions that are behind. A connection's task runs it beside its reading; see [`Pumped`] for when it
    /// returns. Not cancel safe: poll it until it returns, or drop it with its outlet.
    ///
    /// # Errors
    /// The log cannot be read; the connection has to end.
    pub fn pump(&self, outlet: &Outlet) -> impl Future<Output = Result<Pumped, StoreError>> {
        outlet.pump(&self.0)
    }

    /// Whether one of its tasks has panicked. Readers may get nothing any more, or late, until the process is started
    /// again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire)
    }

    /// Notes it if the task that holds this panics.
    fn watch(&self, task: &'static str) -> Watch {
        Watch {
            task,
            shared: self.0.clone(),
        }
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> HubStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HubStats {
            live_deliveries: load(&self.0.live_deliveries),
            catch_up_deliveries: load(&self.0.catch_up_deliveries),
            fell_behind: load(&self.0.fell_behind),
            malformed: load(&self.0.malformed),
            catch_up_pages: load(&self.0.catch_up_pages),
            catch_up_bytes: load(&self.0.catch_up_bytes),
        }
    }

    /// How long it took to hand the events of a room to those who read it, a write to each.
    #[must_use]
    pub fn fan_outs(&self) -> Spread {
        self.0.fan_outs.spread()
    }

    /// Who reads now. It looks at every room in turn: for whoever measures, every few seconds.
    #[must_use]
    pub fn readers(&self) -> Readers {
        let rooms: Vec<_> = self.0.rooms.read().values().cloned().collect();
        let mut readers = Readers::default();
        for room in rooms {
            let (subscriptions, behind) = room.count();
            readers.rooms += u64::from(subscriptions > 0);
            readers.subscriptions += subscriptions;
            readers.behind += behind;
        }
        readers
    }

    /// Where every reader of a room stands. It looks at all of them: for whoever asks where an event is.
    #[must_use]
    pub fn whereabouts(&self, room: &RoomId) -> Vec<Reader> {
        self.room(room)
            .map(|hub| hub.whereabouts())
            .unwrap_or_default()
    }

    /// Subscriptions to a room that have ended lately, newest first.
    #[must_use]
    pub fn departures(&self, room: &RoomId) -> Vec<Departure> {
        self.0.memory.departures(room)
    }

    /// How the commit that an event came with went out, if that is remembered.
    #[must_use]
    pub fn handed_out(&self, room: &RoomId, seq: Seq) -> Option<HandedOut> {
        self.0.memory.commit_of(room, seq)
    }

    /// Since when every commit and every subscription that has ended is remembered; `None` while that is since the start.
    #[must_use]
    pub fn remembers_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.memory.since(now)
    }

    async fn run_commits(self, mut commits: Commits, cancel: CancellationToken) {
        let _watch = self.watch("commits");
        loop {
            // Commits first: what is committed goes out, also while the hub is told to end.
            let commit = tokio::select! {
                biased;
                commit = commits.next() => commit,
                () = cancel.cancelled() => None,
            };
            let Some(mut queued) = commit else {
                return;
            };
            // What was committed while the last batch went out goes with this one, and what is about to be: where one
            // core does everything, those who send and the writer come first. A write to every reader costs much more
            // than another look.
            for _ in 0..LOOKS {
                let before = queued.len();
                while let Some(more) = now(commits.next()).await {
                    queued.extend(more);
                }
                if queued.len() == before && before > 1 {
                    break;
                }
                std::thread::yield_now();
            }
            for committed in &queued {
                let message = Message::new(
                    Topic::room(&committed.room),
                    committed.batch.frames().clone(),
                );
                // Closed only when the gateway ends; the log has the events.
                let _ = self.0.bus.publish(message);
            }
            self.hand_out(queued);
        }
    }

    /// Hands out batches that have queued up and are published, one write per reader for those that follow each other.
    fn hand_out(&self, queued: Vec<Committed>) {
        let published = Instant::now();
        let mut parts = Vec::with_capacity(queued.len());
        let runs = self.runs(queued, &mut parts);
        let mut outs = Vec::with_capacity(runs.len());
        let mut now = published;
        for run in &runs {
            let fanned;
            (fanned, now) = self.hand_out_run(run, now);
            outs.push(Out {
                published,
                handed: now,
                readers: fanned.readers,
                fell_behind: fanned.fell_behind,
            });
        }
        let out = |run: Option<usize>| run.map_or(Out::to_nobody(published), |run| outs[run]);
        let entries = parts.into_iter().map(|(part, run)| part.went(out(run)));
        self.0.memory.note(entries);
    }

    /// What goes out in one write per reader: batches of one room that follow each other, of rooms with readers here. What
    /// is to be remembered goes into `parts`, with the run that it is in.
    fn runs(
        &self,
        queued: Vec<Committed>,
        parts: &mut Vec<(CommitPart, Option<usize>)>,
    ) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut last: HashMap<RoomId, usize> = HashMap::new();
        for Committed {
            room,
            batch,
            moment,
            traces,
        } in queued
        {
            let part = moment.map(|moment| CommitPart::of(&room, &batch, moment));
            let Some(hub) = self.room(&room) else {
                parts.extend(part.map(|part| (part, None)));
                continue;
            };
            let bytes = batch.frames().wire().len();
            let open = last.get(&room).copied();
            let open = open.filter(|&at| runs[at].takes(&batch));
            let at = open.unwrap_or(runs.len());
            if open.is_some() {
                let run = &mut runs[at];
                run.bytes += bytes;
                run.batches.push(batch);
                run.traces.extend(traces);
            } else {
                last.insert(room, at);
                runs.push(Run {
                    hub,
                    batches: vec![batch],
                    bytes,
                    traces,
                });
            }
            parts.extend(part.map(|part| (part, Some(at))));
        }
        runs
    }

    async fn run_bus(self, mut events: BusSubscription, cancel: CancellationToken) {
        let _watch = self.watch("bus");
        loop {
            let message = tokio::select! {
                () = cancel.cancelled() => None,
                message = events.recv() => message,
            };
            let Some(message) = message else {
                return;
            };
            // What has come while the last ones went out goes with this one.
            let mut queued = Vec::new();
            self.take_in(&message, &mut queued);
            for _ in 1..MESSAGES_AT_ONCE {
                let Some(more) = events.try_recv() else {
                    break;
                };
                self.take_in(&more, &mut queued);
            }
            self.hand_out(queued);
        }
    }

    fn take_in(&self, message: &Message, queued: &mut Vec<Committed>) {
        match self.batch_of(message) {
            Some((room, batch)) => queued.push(Committed {
                room,
                batch,
                moment: None,
                traces: Vec::new(),
            }),
            None => {
                self.0.malformed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn run_signals(self, mut signals: BusSubscription, cancel: CancellationToken) {
        let _watch = self.watch("signals");
        loop {
            let message = tokio::select! {
                () = cancel.cancelled() => None,
                message = signals.recv() => message,
            };
            let Some(message) = message else {
                return;
            };
            if let Some(hub) = message
                .topic
                .presence_room_id()
                .and_then(|room| self.room(&room))
            {
                hub.signal(message.frames.wire());
            }
        }
    }

    async fn run_healing(self, cancel: CancellationToken) {
        let _watch = self.watch("healing");
        let mut ticks = tokio::time::interval(HEAL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = ticks.tick() => self.heal(),
            }
        }
    }

    /// Sends readers back to the log where a batch was lost: one that is missing at two calls.
    pub fn heal(&self) {
        let rooms: Vec<_> = self.0.rooms.read().values().cloned().collect();
        for room in rooms {
            let healed = room.heal();
            if healed > 0 {
                self.0.fell_behind.fetch_add(healed, Ordering::Relaxed);
            }
        }
    }

    /// Sends readers of a room back to the log at once where they have not got what it is known to hold: for one that was
    /// listed for batches only after somebody had looked where it stands.
    pub fn heal_at_once(&self, room: &RoomId) {
        if let Some(room) = self.room(room) {
            let healed = room.heal_at_once();
            self.0.fell_behind.fetch_add(healed, Ordering::Relaxed);
        }
    }

    /// Hands a run out, from `began` to the end that it gives, and tells those who trace what is in it.
    fn hand_out_run(&self, run: &Run, began: Instant) -> (Fanned, Instant) {
        let batch = EventBatch::joined(&run.batches);
        let fanned = self.fan_out(&run.hub, &batch, began);
        let ended = Instant::now();
        let took = ended - began;
        self.0.fan_outs.note(took);
        let step = FanOutStep {
            began,
            took,
            deliveries: fanned.deliveries,
            fell_behind: fanned.fell_behind,
        };
        for trace in &run.traces {
            trace.handed_out(&step);
        }
        (fanned, ended)
    }

    fn fan_out(&self, hub: &RoomHub, batch: &EventBatch, began: Instant) -> Fanned {
        let fanned = hub.fan_out(batch, began);
        self.0
            .live_deliveries
            .fetch_add(fanned.deliveries, Ordering::Relaxed);
        self.0
            .fell_behind
            .fetch_add(fanned.fell_behind, Ordering::Relaxed);
        fanned
    }

    /// Reads a bus message as a batch: consecutive events of the room its topic names.
    fn batch_of(&self, message: &Message) -> Option<(RoomId, EventBatch)> {
        let room = message.topic.room_id()?;
        let first = message.frames.iter().next()?;
        let first = self.0.codec.decode(&first).ok()?;
        (first.room == room).then(|| (room, EventBatch::new(first.seq, message.frames.clone())))
    }

    fn room(&self, room: &RoomId) -> Option<Arc<RoomHub>> {
        self.0.rooms.read().get(room).cloned()
    }

    fn forget_if_empty(&self, room: &RoomId) {
        let mut rooms = self.0.rooms.write();
        if rooms.get(room).is_some_and(|hub| hub.is_empty()) {
            rooms.remove(room);
        }
    }

    fn unsubscribed(&self, room: &RoomId, reason: UnsubscribeReason) -> Bytes {
        let signal = Signal::Unsubscribed {
            room: room.clone(),
            reason,
        };
        Frames::one(&self.0.codec.signal(&signal)).wire().clone()
    }
}

/// Batches for the readers of a room, one behind the other.
struct Run {
    hub: Arc<RoomHub>,
    batches: Vec<EventBatch>,
    bytes: usize,
    /// Those of the requests behind it that are traced.
    traces: Vec<Arc<dyn Trace>>,
}

impl Run {
    fn takes(&self, batch: &EventBatch) -> bool {
        self.bytes + batch.frames().wire().len() <= RUN_BYTES
            && self
                .batches
                .last()
                .is_some_and(|last| last.last().next() == batch.first())
    }
}

/// What a future gives at once, if it does.
async fn now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::select! {
        biased;
        output = future => output,
        () = std::future::ready(()) => None,
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
