//! Who is here. A user is present in a room while one of its connections is in it.
//!
//! Every connection holds a [`Lease`]. Heartbeats renew it, dropping it ends it, and a sweeper ends what was neither
//! renewed nor dropped; so nobody stays present whose connection is gone. What changes is told on the bus topic
//! `presence.<room id>`, and [`Presences::room`] gives the whole. Nothing of it is durable, except when a user was
//! last seen: after a restart everybody is present again who connects again.
//!
//! Always holds:
//! - The version of a room grows by one with every change of its presence, told or not; it never falls, also not
//!   across restarts. Who sees a version that is not the next has missed something and asks for the whole.
//! - In rooms with more present users than [`PresenceConfig::count_only_above`] nobody is told and only counted.

mod delta;
mod last_seen;
mod lease;
mod state;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use stack_bus::{Bus, Message};
use stack_types::{Clock, ConnectionId, Presence, RoomId, UserId};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use last_seen::{LastSeen, Recording, Seen};
pub use lease::{Lease, MAX_TEXT_BYTES};

use state::State;

/// The most users that one write of last-seen times carries, so that it never holds up the messages beside it.
const SEEN_PER_WRITE: usize = 1000;

/// How presence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresenceConfig {
    /// How long a connection counts as present without a heartbeat.
    pub lease: Duration,
    /// How often leases are looked through.
    pub sweep_every: Duration,
    /// Rooms with more present users than this are only counted: telling everybody of everybody grows with the
    /// square of the room, and nobody reads a list that long.
    pub count_only_above: usize,
    /// How often the last-seen time of a connected user is written. It is also written when the user goes.
    pub last_seen_every: Duration,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            // Three of the slowest heartbeats (25 s and 20 % jitter): one lost is no absence.
            lease: Duration::from_secs(90),
            sweep_every: Duration::from_secs(5),
            count_only_above: 200,
            last_seen_every: Duration::from_secs(5 * 60),
        }
    }
}

/// Who is in a room, at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomPresence {
    /// The users, in the order of their ids; none when there are too many to tell.
    pub users: Vec<Presence>,
    /// How many users are present.
    pub count: usize,
    /// Grows by one with every change.
    pub version: u64,
}

/// Everybody's presence. Cloning it gives another handle on the same.
#[derive(Clone)]
pub struct Presences {
    inner: Arc<Inner>,
}

struct Inner {
    config: PresenceConfig,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    last_seen: Option<Arc<dyn LastSeen>>,
    state: Mutex<State>,
}

impl Presences {
    /// Presence without a sweeper: whoever makes it calls [`Self::sweep`].
    #[must_use]
    pub fn new(
        config: PresenceConfig,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        last_seen: Option<Arc<dyn LastSeen>>,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                config,
                bus,
                clock,
                last_seen,
                state: Mutex::new(State::new(config.count_only_above)),
            }),
        }
    }

    /// Presence with a sweeper, which hangs on `tracker` and ends by `stop`. Its last act is to write when those
    /// still connected were last seen, so it is stopped after the sockets and before the store.
    #[must_use]
    pub fn spawn(
        config: PresenceConfig,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        last_seen: Option<Arc<dyn LastSeen>>,
        tracker: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let presences = Self::new(config, bus, clock, last_seen);
        tracker.spawn(presences.clone().run(stop));
        presences
    }

    async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(self.inner.config.sweep_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.sweep().await,
            }
        }
        self.record_everybody().await;
    }

    /// Gives a new connection its lease. It is in no room yet.
    pub fn connect(&self, user: UserId, connection: ConnectionId) -> Lease {
        let id = self
            .inner
            .state
            .lock()
            .connect(user, self.inner.clock.now());
        Lease::new(self.clone(), id, connection)
    }

    /// Who is in the room now.
    #[must_use]
    pub fn room(&self, room: &RoomId) -> RoomPresence {
        self.inner
            .state
            .lock()
            .snapshot(room, self.inner.clock.now())
    }

    /// Whether the user has a connection, in any room or none.
    #[must_use]
    pub fn is_connected(&self, user: UserId) -> bool {
        self.inner.state.lock().is_connected(user)
    }

    /// One step of the sweeper: ends the leases that were not renewed in time, and writes when people were last
    /// seen. A write that fails is logged and made up for by a later step.
    pub async fn sweep(&self) {
        self.change(|state, told| {
            let ended = state.expire(self.inner.clock.now(), self.inner.config.lease, told);
            if ended > 0 {
                tracing::info!(ended, "presence leases expired without a heartbeat");
            }
        });
        if let Some(sink) = &self.inner.last_seen {
            let every = self.inner.config.last_seen_every;
            let seen = self.inner.state.lock().take_seen(every, SEEN_PER_WRITE);
            self.record(&**sink, seen).await;
        }
    }

    /// Writes when everybody was last seen whose time is not written yet.
    async fn record_everybody(&self) {
        let Some(sink) = &self.inner.last_seen else {
            return;
        };
        loop {
            let seen = self
                .inner
                .state
                .lock()
                .take_seen(Duration::ZERO, SEEN_PER_WRITE);
            if seen.is_empty() || !self.record(&**sink, seen).await {
                return;
            }
        }
    }

    async fn record(&self, sink: &dyn LastSeen, seen: Vec<Seen>) -> bool {
        if seen.is_empty() {
            return true;
        }
        match sink.record(seen.clone()).await {
            Ok(()) => true,
            Err(error) => {
                let users = seen.len();
                let error: &dyn std::error::Error = &error;
                tracing::warn!(
                    users,
                    error,
                    "last-seen times could not be written, will retry"
                );
                self.inner.state.lock().give_back(seen);
                false
            }
        }
    }

    /// Changes the state and tells what changed. Told under the lock, so that the bus has the versions of a room in
    /// their order; publishing never waits.
    fn change<R>(&self, change: impl FnOnce(&mut State, &mut Vec<Message>) -> R) -> R {
        let mut told = Vec::new();
        let mut state: MutexGuard<'_, State> = self.inner.state.lock();
        let result = change(&mut state, &mut told);
        for message in told {
            // A closed bus means that the gateway is going down, and every reader of this with it.
            let _closed = self.inner.bus.publish(message);
        }
        result
    }
}

impl fmt::Debug for Presences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presences")
            .field("config", &self.inner.config)
            .finish_non_exhaustive()
    }
}
