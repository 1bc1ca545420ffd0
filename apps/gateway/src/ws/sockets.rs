//! The open sockets of this gateway by user and by session: to bound how many one user has, to close those of a
//! revoked session, and to tell a user's devices something.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stack_auth::{Caller, Credential};
use stack_bus::{Bus, Message, Prefix, SubscribeError, Subscription};
use stack_delivery::Outlet;
use stack_types::{ConnectionId, Frames, RoomId, SessionId, UserId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::revocation::{self, SessionsRevoked};

/// The open sockets. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sockets(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    by_user: HashMap<UserId, Vec<Arc<Seat>>>,
    /// How those ended that are not open any more, the last of them.
    gone: VecDeque<(ConnectionId, Gone)>,
}

/// How many closed sockets are remembered: as many as a restart of a busy room closes at once. They take less than
/// 1 MiB.
const REMEMBERED: usize = 4096;

/// What the registry and a socket know of each other.
#[derive(Debug)]
struct Seat {
    outlet: Arc<Outlet>,
    connection: ConnectionId,
    way: Way,
    standing: Mutex<Standing>,
    /// Told with every change of `standing.summons`.
    summoned: Notify,
}

#[derive(Debug)]
struct Standing {
    session: SessionId,
    /// Whether it was opened with an API key or a room token.
    program: bool,
    /// The rooms of a room token that is bound to some.
    rooms: Option<Vec<RoomId>>,
    summons: Option<Summons>,
    /// How the socket ends, once that is known.
    ending: Option<Ending>,
}

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// By a WebSocket of this gateway.
    Socket,
    /// By a WebSocket of an edge, which hands out its events.
    Edge,
    /// As a program at the local socket.
    Local,
}

/// How a socket ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub(crate) enum Ending {
    /// The gateway closes it.
    Server {
        /// The code of the close frame.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The client closes it.
    Client {
        /// The code of its close frame, if there is one in it.
        code: Option<u16>,
    },
    /// Nobody says so: the connection is broken, or nothing is heard of the client any more.
    Nobody,
}

/// An open socket, as admins see it.
#[derive(Debug, Clone)]
pub(crate) struct Open {
    pub(crate) connection: ConnectionId,
    pub(crate) session: SessionId,
    pub(crate) way: Way,
}

/// A socket that was open.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    pub(crate) session: SessionId,
    pub(crate) way: Way,
    /// `None` when it went with the gateway's own end of it.
    pub(crate) ending: Option<Ending>,
}

/// As much of a signal as says where it belongs.
#[derive(Deserialize)]
struct Somewhere {
    payload: Payload,
}

#[derive(Deserialize)]
struct Payload {
    room: Option<RoomId>,
}

/// What a socket has to hear of at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Summons {
    /// The session behind it was revoked.
    Revoked,
    /// What the socket was opened with may be good no more: something on the bus was lost, or somebody's power has
    /// changed.
    Doubt,
}

/// A socket's place among the open ones. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    sockets: Sockets,
    user: UserId,
    seat: Arc<Seat>,
}

impl Sockets {
    /// Listens to the bus for revoked sessions and for what users' devices are told.
    pub(crate) async fn listen(
        &self,
        bus: &dyn Bus,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), SubscribeError> {
        let controls = bus.subscribe(Prefix::controls()).await?;
        let users = bus.subscribe(Prefix::users()).await?;
        tasks.spawn(
            self.clone()
                .run(controls, stop.clone(), Self::control, Self::doubt_all),
        );
        tasks.spawn(self.clone().run(users, stop, Self::tell, |_| {}));
        Ok(())
    }

    /// Takes a place for a new socket; `None` when the user has `most` already.
    pub(crate) fn enter(
        &self,
        caller: &Caller,
        (connection, way): (ConnectionId, Way),
        outlet: Arc<Outlet>,
        most: usize,
    ) -> Option<Place> {
        let user = caller.user.id;
        let mut registry = self.0.lock();
        let seats = registry.by_user.entry(user).or_default();
        if seats.len() >= most {
            return None;
        }
        outlet.belongs_to(connection);
        let seat = Arc::new(Seat {
            outlet,
            connection,
            way,
            standing: Mutex::new(Standing::of(caller)),
            summoned: Notify::new(),
        });
        seats.push(seat.clone());
        Some(Place {
            sockets: self.clone(),
            user,
            seat,
        })
    }

    /// The open sockets of all of these users.
    pub(crate) fn of(&self, users: &HashSet<UserId>) -> HashMap<UserId, Vec<Open>> {
        let registry = self.0.lock();
        let of_user = |user: &UserId| {
            let seats = registry.by_user.get(user)?;
            Some((*user, seats.iter().map(|seat| seat.told()).collect()))
        };
        users.iter().filter_map(of_user).collect()
    }

    /// How these ended, as far as it is remembered.
    pub(crate) fn gone(&self, connections: &HashSet<ConnectionId>) -> HashMap<ConnectionId, Gone> {
        let registry = self.0.lock();
        let which = registry.gone.iter();
        which
            .filter(|(connection, _)| connections.contains(connection))
            .cloned()
            .collect()
    }

    /// Closes the sockets of these sessions, and all of a user who is out; lets those of programs look again.
    fn revoke(&self, revoked: &SessionsRevoked) {
        let registry = self.0.lock();
        for (user, seats) in &registry.by_user {
            for seat in seats {
                if revoked.programs {
                    seat.summon_if(Summons::Doubt, |standing| standing.program);
                }
                seat.summon_if(Summons::Revoked, |standing| {
                    revoked.user == Some(*user) || revoked.sessions.contains(&standing.session)
                });
            }
        }
    }

    fn control(&self, message: &Message) {
        if message.topic.control_kind() != Some(revocation::KIND) {
            return;
        }
        for frame in message.frames.iter() {
            match serde_json::from_slice::<SessionsRevoked>(&frame) {
                Ok(revocation) => self.revoke(&revocation),
                Err(error) => {
                    tracing::error!(%error, "a revocation on the bus cannot be read: {error}")
                }
            }
        }
    }

    fn tell(&self, message: &Message) {
        let Some(user) = message.topic.user_id() else {
            return;
        };
        let registry = self.0.lock();
        for seat in registry.by_user.get(&user).into_iter().flatten() {
            match &seat.standing.lock().rooms {
                None => seat.outlet.offer_lossy(message.frames.wire().clone()),
                // Frame by frame: its holder is told of the token's rooms only.
                Some(rooms) => {
                    for frame in message
                        .frames
                        .iter()
                        .filter(|frame| is_within(frame, rooms))
                    {
                        seat.outlet.offer_lossy(Frames::one(&frame).wire().clone());
                    }
                }
            }
        }
    }

    async fn run(
        self,
        mut messages: Subscription,
        stop: CancellationToken,
        act: fn(&Self, &Message),
        lost: fn(&Self),
    ) {
        let mut dropped = 0;
        loop {
            let message = tokio::select! {
                () = stop.cancelled() => None,
                message = messages.recv() => message,
            };
            let Some(message) = message else {
                return;
            };
            act(&self, &message);
            if messages.dropped() > dropped {
                dropped = messages.dropped();
                lost(&self);
            }
        }
    }

    /// Lets every socket look at its session again.
    fn doubt_all(&self) {
        tracing::warn!(
            "a control message was lost on the bus, every socket looks at its session again"
        );
        for seat in self.0.lock().by_user.values().flatten() {
            seat.summon_if(Summons::Doubt, |_| true);
        }
    }
}

impl Standing {
    fn of(caller: &Caller) -> Self {
        let rooms = caller.rooms();
        Self {
            session: caller.session_id,
            program: !matches!(caller.credential, Credential::Session { .. }),
            rooms: rooms.map(|grants| grants.iter().map(|grant| grant.room.clone()).collect()),
            summons: None,
            ending: None,
        }
    }
}

/// Whether a frame is about one of these rooms. One that cannot be read is not.
fn is_within(frame: &[u8], rooms: &[RoomId]) -> bool {
    let read = serde_json::from_slice::<Somewhere>(frame);
    let room = read.ok().and_then(|frame| frame.payload.room);
    room.is_some_and(|room| rooms.contains(&room))
}

impl Seat {
    fn gone(&self) -> Gone {
        let standing = self.standing.lock();
        Gone {
            session: standing.session,
            way: self.way,
            ending: standing.ending.clone(),
        }
    }

    fn told(&self) -> Open {
        Open {
            connection: self.connection,
            session: self.standing.lock().session,
            way: self.way,
        }
    }

    /// Summons the socket if it is one of these.
    fn summon_if(&self, summons: Summons, which: impl FnOnce(&Standing) -> bool) {
        let mut standing = self.standing.lock();
        if which(&standing) {
            // A revocation that has not been heard yet is more than a doubt.
            if standing.summons != Some(Summons::Revoked) {
                standing.summons = Some(summons);
            }
            self.summoned.notify_one();
        }
    }
}

impl Place {
    /// Ends when there is something to hear. Cancel safe.
    pub(crate) async fn summons(&self) -> Summons {
        loop {
            if let Some(summons) = self.seat.standing.lock().summons.take() {
                return summons;
            }
            self.seat.summoned.notified().await;
        }
    }

    /// The socket belongs to another session or token of the same user from now on.
    pub(super) fn change_caller(&self, caller: &Caller) {
        let mut standing = self.seat.standing.lock();
        *standing = Standing {
            summons: standing.summons,
            ending: standing.ending.take(),
            ..Standing::of(caller)
        };
    }

    /// Notes how the socket ends. The first that is said of it holds.
    pub(super) fn ends(&self, ending: Ending) {
        self.seat.standing.lock().ending.get_or_insert(ending);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.sockets.0.lock();
        let gone = self.seat.gone();
        if registry.gone.len() == REMEMBERED {
            registry.gone.pop_front();
        }
        registry.gone.push_back((self.seat.connection, gone));
        if let Some(seats) = registry.by_user.get_mut(&self.user) {
            seats.retain(|seat| !Arc::ptr_eq(seat, &self.seat));
            if seats.is_empty() {
                registry.by_user.remove(&self.user);
            }
        }
    }
}
