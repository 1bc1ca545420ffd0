//! Where a connection's bytes go out. Everybody writes here: the hub its batches, the connection its answers, the
//! catch-up its pages. A frame that was begun is finished before anything else is written.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use stack_types::{ConnectionId, Frames, RoomId};
use tokio::sync::Notify;

use crate::Subscription;

/// Takes bytes without blocking. A socket, or anything else that says when it is full.
pub trait Sink: Send + Sync + 'static {
    /// Takes as many of the bytes as it can now and says how many.
    ///
    /// # Errors
    /// `WouldBlock` when it can take none now; anything else means that it never will again.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Ready when [`Sink::try_write`] may take bytes again, or when it has failed for good. Only the task that asked
    /// last is woken, as with a socket.
    ///
    /// # Errors
    /// The sink has failed for good.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// How many bytes it holds of what it took, as one that enciphers does. It takes nothing more before they are
    /// gone, so that they are never more than one write's. Cheap: it is asked after every write.
    fn backlog(&self) -> usize {
        0
    }

    /// Passes on as much of the backlog as it can now.
    ///
    /// # Errors
    /// The sink has failed for good.
    fn try_flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The way to a reader behind another gateway, which has the events from elsewhere: see [`Outlet::relayed`].
pub trait Relay: Send + Sync + 'static {
    /// The reader's subscription to this room is over, and `last` is what it is told, if anything. Called under locks: it
    /// must be quick.
    fn end(&self, room: &RoomId, last: Option<Bytes>);
}

/// What bytes that wait cost beside themselves, about: a place in a queue that doubles, and two allocations. Without it
/// a flood of two-byte pongs would cost fifty times what it counts.
const ENTRY_BYTES: usize = 96;

/// One connection's way out.
pub struct Outlet {
    sink: Box<dyn Sink>,
    relay: Option<Box<dyn Relay>>,
    connection: OnceLock<ConnectionId>,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    /// The rest of a frame that was begun, and answers behind it.
    pending: VecDeque<Bytes>,
    /// What `pending` costs: its bytes, and [`ENTRY_BYTES`] for each entry.
    pending_bytes: usize,
    /// Subscriptions that read from the log.
    behind: VecDeque<Arc<Subscription>>,
    /// Rooms whose subscription somebody else has ended, for the connection to hear of. At most one for each of
    /// its subscriptions.
    ended: Vec<RoomId>,
    /// Bytes that the sink has taken so far.
    written: u64,
    /// Nothing is written any more.
    closed: bool,
}

/// What became of what waits in an outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// It is written.
    All,
    /// Some of it still waits for the sink.
    Some,
    /// The outlet is closed.
    Closed,
}

/// What became of frames offered to an outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// All of them.
    All,
    /// So many of them; the rest has to be read from the log.
    Some(usize),
    /// The outlet is closed.
    Closed,
}

impl Outlet {
    /// An outlet over a sink.
    #[must_use]
    pub fn new(sink: impl Sink) -> Arc<Self> {
        Self::over(sink, None)
    }

    /// An outlet over a sink for everything but events and signals of rooms: those another gateway hands out, which the
    /// relay tells when a subscription ends, and [`Hub::begin_relayed`](crate::Hub::begin_relayed) when one begins.
    #[must_use]
    pub fn relayed(sink: impl Sink, relay: impl Relay) -> Arc<Self> {
        Self::over(sink, Some(Box::new(relay)))
    }

    fn over(sink: impl Sink, relay: Option<Box<dyn Relay>>) -> Arc<Self> {
        Arc::new(Self {
            sink: Box::new(sink),
            relay,
            connection: OnceLock::new(),
            state: Mutex::default(),
            news: Notify::new(),
        })
    }

    /// Says whose way out it is, once that is known: what readers are called by.
    pub fn belongs_to(&self, connection: ConnectionId) {
        // A connection has one id for as long as it lasts.
        let _ = self.connection.set(connection);
    }

    pub(crate) fn connection(&self) -> Option<ConnectionId> {
        self.connection.get().copied()
    }

    /// Whether its events are handed out elsewhere.
    pub(crate) fn relay(&self) -> Option<&dyn Relay> {
        self.relay.as_deref()
    }

    /// Writes frames that must not be lost: an answer, or the end of a subscription. What the sink does not take
    /// now waits here; whoever calls this bounds how much, by [`Outlet::pending_bytes`].
    pub fn send(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        self.send_locked(&mut state, bytes);
    }

    /// [`Outlet::send`], unless `over`, which is asked under the lock. Says whether it was sent.
    pub(crate) fn send_unless(&self, bytes: Bytes, over: impl Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        if state.closed || over() {
            return false;
        }
        self.send_locked(&mut state, bytes);
        true
    }

    /// Writes frames that may be lost: when the sink is full they are dropped.
    pub fn offer_lossy(&self, bytes: Bytes) {
        let mut state = self.state.lock();
        if state.closed || !state.pending.is_empty() {
            return;
        }
        let written = self.write_now(&mut state, &bytes);
        if (1..bytes.len()).contains(&written) && !state.closed {
            state.push(bytes.slice(written..));
            self.news.notify_one();
        } else {
            self.note_backlog();
        }
    }

    /// How much memory it takes, about, what waits here and in the sink: never less than its bytes, and 0 when nothing
    /// waits.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.state.lock().pending_bytes + self.sink.backlog()
    }

    /// How many bytes the sink has passed on so far: whether a slow reader still takes any shows in it.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        let written = self.state.lock().written;
        written.saturating_sub(self.sink.backlog() as u64)
    }

    /// Ends the outlet: what waits is dropped, nothing is written any more.
    pub fn close(&self) {
        self.close_locked(&mut self.state.lock());
    }

    /// Whether it was closed, or its sink has failed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until everything that waits here has been written. Not for use beside the pump, which does this too.
    ///
    /// # Errors
    /// The outlet is closed or its sink has failed.
    pub async fn flushed(&self) -> io::Result<()> {
        loop {
            match self.flush() {
                Flushed::All => return Ok(()),
                Flushed::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
                Flushed::Some => {
                    self.writable_or_news().await;
                }
            }
        }
    }

    /// Waits until the sink has taken everything that waits here, passed on or not. Not for use beside the pump.
    ///
    /// # Errors
    /// The outlet is closed or its sink has failed.
    pub async fn handed_over(&self) -> io::Result<()> {
        loop {
            match self.flush() {
                Flushed::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
                _ if self.state.lock().pending.is_empty() => return Ok(()),
                _ => {
                    self.writable_or_news().await;
                }
            }
        }
    }

    /// Writes what waits here, as far as the sink takes it.
    pub(crate) fn flush(&self) -> Flushed {
        let mut state = self.state.lock();
        self.flush_now(&mut state);
        if state.closed {
            Flushed::Closed
        } else if state.pending.is_empty() && self.sink.backlog() == 0 {
            Flushed::All
        } else {
            Flushed::Some
        }
    }

    /// Writes frames from `index` on, or as many of them as the sink takes; `over` is asked under the lock.
    pub(crate) fn offer(&self, frames: &Frames, index: usize, over: impl Fn() -> bool) -> Taken {
        let mut state = self.state.lock();
        if state.closed || over() {
            return Taken::Closed;
        }
        if !state.pending.is_empty() {
            return Taken::Some(0);
        }
        let wire = frames.wire_from(index);
        let written = self.write_now(&mut state, wire);
        if state.closed {
            return Taken::Closed;
        }
        if written == wire.len() {
            self.note_backlog();
            return Taken::All;
        }
        let (whole, cut) = frames.split_at(index, written);
        match cut {
            None => {
                self.note_backlog();
                Taken::Some(whole)
            }
            Some(end) => {
                // A copy: a slice would keep the whole batch alive for as long as this reader stalls.
                state.push(Bytes::copy_from_slice(&wire[written..end]));
                self.news.notify_one();
                Taken::Some(whole + 1)
            }
        }
    }

    /// Queues a subscription for the pump.
    pub(crate) fn fell_behind(&self, subscription: Arc<Subscription>) {
        let mut state = self.state.lock();
        if !state.closed {
            state.behind.push_back(subscription);
            self.news.notify_one();
        }
    }

    /// Lets the connection know that its subscription to a room is over.
    pub(crate) fn note_end(&self, room: &RoomId) {
        let mut state = self.state.lock();
        if !state.closed {
            state.ended.push(room.clone());
            self.news.notify_one();
        }
    }

    /// The rooms whose subscription somebody else has ended since the last call.
    pub(crate) fn take_ended(&self) -> Vec<RoomId> {
        std::mem::take(&mut self.state.lock().ended)
    }

    /// The next subscription that is behind.
    pub(crate) fn next_behind(&self) -> Option<Arc<Subscription>> {
        self.state.lock().behind.pop_front()
    }

    /// Runs `act` when nothing is being written, so that what it changes has a definite place between writes.
    pub(crate) fn between_writes<R>(&self, act: impl FnOnce() -> R) -> R {
        let _state = self.state.lock();
        act()
    }

    /// Takes a subscription that has ended out of the queue: it must not wait there for a reader that stalls.
    pub(crate) fn forget(&self, subscription: &Subscription) {
        let mut state = self.state.lock();
        state
            .behind
            .retain(|behind| !std::ptr::eq(&**behind, subscription));
    }

    /// How many subscriptions read from the log now.
    #[must_use]
    pub fn behind(&self) -> usize {
        self.state.lock().behind.len()
    }

    /// Waits for `reading`, and writes meanwhile what waits here. `None` when the outlet is closed first.
    pub(crate) async fn flush_during<T>(&self, reading: impl Future<Output = T>) -> Option<T> {
        let mut reading = std::pin::pin!(reading);
        loop {
            let full = match self.flush() {
                Flushed::Closed => return None,
                Flushed::All => false,
                Flushed::Some => true,
            };
            let more = async {
                if full {
                    self.writable_or_news().await;
                } else {
                    self.news().await;
                }
            };
            tokio::select! {
                biased;
                read = reading.as_mut() => return Some(read),
                () = more => {}
            }
        }
    }

    /// Waits for something to do.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// Waits until the sink may take bytes, or until there is something else to look at; says which it was.
    pub(crate) async fn writable_or_news(&self) -> bool {
        tokio::select! {
            biased;
            writable = std::future::poll_fn(|cx| self.sink.poll_writable(cx)) => {
                if writable.is_err() {
                    self.close();
                }
                true
            }
            () = self.news() => false,
        }
    }

    fn send_locked(&self, state: &mut State, bytes: Bytes) {
        if state.closed {
            return;
        }
        let written = if state.pending.is_empty() {
            self.write_now(state, &bytes)
        } else {
            0
        };
        if written < bytes.len() && !state.closed {
            state.push(bytes.slice(written..));
            self.news.notify_one();
        } else {
            self.note_backlog();
        }
    }

    /// Lets the pump know of what the sink holds: whoever wrote it does not wait for it.
    #[inline]
    fn note_backlog(&self) {
        if self.sink.backlog() > 0 {
            self.news.notify_one();
        }
    }

    fn flush_now(&self, state: &mut State) {
        if self.sink.backlog() > 0 && self.sink.try_flush().is_err() {
            return self.close_locked(state);
        }
        while let Some(bytes) = state.pop() {
            let written = self.write_now(state, &bytes);
            if written < bytes.len() && !state.closed {
                let rest = bytes.slice(written..);
                state.pending_bytes += rest.len() + ENTRY_BYTES;
                state.pending.push_front(rest);
                return;
            }
        }
    }

    /// Writes what the sink takes and says how much that was. A failure closes the outlet.
    #[inline]
    fn write_now(&self, state: &mut State, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.sink.try_write(&bytes[written..]) {
                Ok(0) => break,
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.close_locked(state);
                    break;
                }
            }
        }
        state.written += written as u64;
        written
    }

    fn close_locked(&self, state: &mut State) {
        *state = State {
            closed: true,
            written: state.written,
            ..State::default()
        };
        self.news.notify_one();
    }
}

impl State {
    fn push(&mut self, bytes: Bytes) {
        self.pending_bytes += bytes.len() + ENTRY_BYTES;
        self.pending.push_back(bytes);
    }

    fn pop(&mut self) -> Option<Bytes> {
        let bytes = self.pending.pop_front()?;
        self.pending_bytes -= bytes.len() + ENTRY_BYTES;
        if self.pending.is_empty() {
            // A connection that once was slow must not keep the queue's memory.
            self.pending = VecDeque::new();
        }
        Some(bytes)
    }
}

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Outlet")
            .field("pending_bytes", &state.pending_bytes)
            .field("behind", &state.behind.len())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
