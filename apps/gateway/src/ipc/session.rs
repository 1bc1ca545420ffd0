//! A bot that has logged in at the local socket. It is to the gateway what a socket of that bot is: it has a place among
//! them, so that a revocation reaches it, and a lease of presence.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::ready;
use parking_lot::{Mutex, RwLock};
use stack_auth::{Caller, Scope};
use stack_delivery::Outlet;
use stack_ipc::service::{
    Account, Admin, Answer, Cursor, Fed, NewMessage, Page, Place, Room, RoomPresence, Say, Session,
    Start, Subscribed,
};
use stack_presence::Lease;
use stack_rooms::{PageQuery, Say as RoomsSay, SendMessage, Sent};
use stack_storage::Submitted;
use stack_types::{
    ConnectionId, ErrorCode, GapReason, Problem, RoomId, RoomRole, Seq, Signal, UserId,
};
use tokio::sync::{Mutex as InTurn, oneshot};
use tokio::time::{Instant, interval, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::admin::{AdminActor, AdminService};
use super::feed::RoomFeed;
use super::memory::Memory;
use crate::app::AppState;
use crate::ws::{Place as Seat, Summons, Way};

/// Its presence is renewed so many times while it would last. That its process is there, the socket tells.
const RENEWALS: u32 = 3;

/// A bot's session.
pub(super) struct BotSession {
    app: AppState,
    connection: ConnectionId,
    standing: Arc<Standing>,
    lease: Arc<Held>,
    /// How many subscriptions there are.
    subscriptions: Arc<AtomicUsize>,
    turn: Arc<Turn>,
    _stop: DropGuard,
}

/// How the bot stands with what it has shown.
struct Standing {
    caller: RwLock<Caller>,
    /// It is good no more.
    ended: CancellationToken,
}

/// The lease, and the rooms that it is in, by subscriptions.
struct Held {
    lease: Lease,
    rooms: Mutex<HashMap<RoomId, usize>>,
}

/// The presence in a room that a subscription brings, for as long as this is held.
pub(super) struct Presence {
    held: Arc<Held>,
    room: RoomId,
    subscriptions: Arc<AtomicUsize>,
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        let mut rooms = self.held.rooms.lock();
        if let Some(count) = rooms.get_mut(&self.room) {
            *count -= 1;
            if *count == 0 {
                rooms.remove(&self.room);
                self.held.lease.leave(&self.room);
            }
        }
    }
}

/// Keeps what is said in its order while the writer's queue is full.
#[derive(Default)]
struct Turn {
    waiting: AtomicUsize,
    line: InTurn<()>,
}

/// Somebody in the line.
struct InLine(Arc<Turn>);

impl InLine {
    fn enter(turn: &Arc<Turn>) -> Self {
        turn.waiting.fetch_add(1, Ordering::AcqRel);
        Self(turn.clone())
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl BotSession {
    /// Gives a bot that has shown its key its place among the sockets.
    ///
    /// # Errors
    /// `limit_exceeded` when it has too many connections, `unauthenticated` when its key has just been revoked.
    pub(super) fn begin(app: AppState, caller: Caller) -> Result<Arc<dyn Session>, Problem> {
        let most = app.limits().connections_per_user;
        // Nothing is told to a bot that is not about a room, so that nothing is ever written to this.
        let aside = Outlet::new(Memory::new(Arc::default()));
        aside.close();
        let connection = ConnectionId::generate(app.clock().now());
        let sockets = app.sockets();
        let seat = sockets.enter(&caller, (connection, Way::Local), aside, most);
        let seat = seat.ok_or_else(|| {
            let detail = format!("a user has at most {most} connections");
            Problem::new(ErrorCode::LimitExceeded, detail)
        })?;
        // The key may have been revoked between the look at it and now; from here on the seat hears of it.
        app.auth().recheck(&caller)?;
        let held = Arc::new(Held {
            lease: app.presences().connect(caller.user.id, connection),
            rooms: Mutex::default(),
        });
        let standing = Arc::new(Standing {
            caller: RwLock::new(caller),
            ended: CancellationToken::new(),
        });
        let stop = CancellationToken::new();
        let watch = watch(
            app.clone(),
            seat,
            standing.clone(),
            held.clone(),
            stop.clone(),
        );
        app.lifecycle().sockets.spawn(watch);
        Ok(Arc::new(Self {
            app,
            connection,
            standing,
            lease: held,
            subscriptions: Arc::default(),
            turn: Arc::default(),
            _stop: stop.drop_guard(),
        }))
    }

    /// Lets a call pass, and says whose it is.
    fn pass(&self, may: impl FnOnce(&Caller) -> Result<(), Problem>) -> Result<UserId, Problem> {
        if self.standing.ended.is_cancelled() {
            let detail = "the bot's token is good no more";
            return Err(Problem::new(ErrorCode::Unauthenticated, detail));
        }
        let caller = self.standing.caller.read();
        self.app.rates().frame(caller.user.id)?;
        may(&caller)?;
        Ok(caller.user.id)
    }

    fn pass_in(&self, scope: Scope, room: &RoomId) -> Result<UserId, Problem> {
        self.pass(|caller| caller.require_in_room(scope, room))
    }

    fn begin_subscription(&self, room: RoomId, start: Start) -> Result<Subscribed, Problem> {
        let user = self.pass_in(Scope::Read, &room)?;
        let most = self.app.limits().subscriptions_per_connection;
        if self.subscriptions.load(Ordering::Relaxed) >= most {
            let detail = format!("a connection has at most {most} subscriptions");
            return Err(Problem::new(ErrorCode::LimitExceeded, detail));
        }
        let memory = Memory::new(self.subscriptions.clone());
        let outlet = Outlet::new(memory.clone());
        outlet.belongs_to(self.connection);
        let after = match start {
            Start::Live => None,
            Start::After(seq) => Some(seq),
        };
        let rooms = self.app.rooms();
        let subscribed = rooms.subscribe(user, &room, after, &outlet, None)?;
        let presence = self.be_present(room);
        let answer = subscribed.answer;
        let feed = RoomFeed::begin(
            self.app.clone(),
            outlet,
            memory,
            subscribed.subscription,
            subscribed.gap.and_then(gap),
            self.standing.ended.clone(),
            presence,
        );
        Ok(Subscribed {
            head: answer.head,
            first: answer.first,
            role: answer.role,
            read_seq: answer.read_seq,
            feed: Box::new(feed),
        })
    }

    fn be_present(&self, room: RoomId) -> Presence {
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let mut rooms = self.lease.rooms.lock();
        let count = rooms.entry(room.clone()).or_default();
        *count += 1;
        if *count == 1 {
            self.lease.lease.enter(&room);
        }
        drop(rooms);
        Presence {
            held: self.lease.clone(),
            room,
            subscriptions: self.subscriptions.clone(),
        }
    }
}

/// Watches over a session: that its key stands, and that it is present.
async fn watch(
    app: AppState,
    seat: Seat,
    standing: Arc<Standing>,
    held: Arc<Held>,
    stop: CancellationToken,
) {
    let expires_at = standing.caller.read().expires_at;
    let left = expires_at.since(app.clock().now());
    // A key that does not end, ends in some centuries.
    let end = Instant::now().checked_add(left);
    let end = end.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
    let mut renew = interval(app.config().presence.lease / RENEWALS);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = app.lifecycle().stopping.cancelled() => return,
            summons = seat.summons() => {
                let still = match summons {
                    Summons::Revoked => None,
                    Summons::Doubt => {
                        let caller = standing.caller.read().clone();
                        app.auth().current(&caller).ok()
                    }
                };
                match still {
                    Some(caller) => *standing.caller.write() = caller,
                    None => break,
                }
            }
            () = sleep_until(end) => break,
            _ = renew.tick() => held.lease.renew(),
        }
    }
    standing.ended.cancel();
}

fn gap(signal: Signal) -> Option<Fed> {
    match signal {
        Signal::Gap {
            from, to, reason, ..
        } => Some(Fed::Gap {
            from,
            to,
            reason: match reason {
                GapReason::Retention => "retention".to_owned(),
                GapReason::Joined => "joined".to_owned(),
            },
        }),
        _ => None,
    }
}

fn place(sent: Sent) -> Place {
    Place {
        room: sent.room,
        seq: sent.seq,
        ts: sent.ts,
    }
}

fn rooms_say(say: Say) -> RoomsSay {
    match say {
        Say::Message(NewMessage {
            body,
            data,
            key,
            reply_to,
        }) => RoomsSay::Message(SendMessage {
            body,
            data,
            key,
            reply_to,
        }),
        Say::Edit { seq, body } => RoomsSay::Edit { target: seq, body },
        Say::Redact { seq, reason } => RoomsSay::Redact {
            target: seq,
            reason,
        },
        Say::React { seq, emoji, remove } => RoomsSay::React {
            target: seq,
            emoji,
            remove,
        },
    }
}

fn refused<T: Send + 'static>(problem: Problem) -> Answer<T> {
    ready(Err(problem)).boxed()
}

impl Session for BotSession {
    fn say(&self, room: RoomId, say: Say) -> Answer<Place> {
        let user = match self.pass_in(Scope::Send, &room) {
            Ok(user) => user,
            Err(problem) => return refused(problem),
        };
        let gone = |_| Problem::new(ErrorCode::Unavailable, "the gateway is going down");
        let rooms = self.app.rooms().clone();
        let say = rooms_say(say);
        if self.turn.waiting.load(Ordering::Acquire) > 0 {
            let in_line = InLine::enter(&self.turn);
            return async move {
                let turn = in_line.0.clone();
                let line = turn.line.lock().await;
                let (reply, answer) = oneshot::channel();
                let said = rooms.say(user, &room, say, |sent| drop(reply.send(sent)))?;
                said.queued().await;
                drop(line);
                drop(in_line);
                answer.await.map_err(gone)?.map(place)
            }
            .boxed();
        }
        let (reply, answer) = oneshot::channel();
        match rooms.say(user, &room, say, |sent| drop(reply.send(sent))) {
            Err(problem) => refused(problem),
            Ok(Submitted::Queued) => async move { answer.await.map_err(gone)?.map(place) }.boxed(),
            Ok(said) => {
                let in_line = InLine::enter(&self.turn);
                async move {
                    let turn = in_line.0.clone();
                    let line = turn.line.lock().await;
                    said.queued().await;
                    drop(line);
                    drop(in_line);
                    answer.await.map_err(gone)?.map(place)
                }
                .boxed()
            }
        }
    }

    fn history(&self, room: RoomId, cursor: Cursor, limit: Option<u32>) -> Answer<Page> {
        let user = match self.pass_in(Scope::Read, &room) {
            Ok(user) => user,
            Err(problem) => return refused(problem),
        };
        let rooms = self.app.rooms().clone();
        let mut query = PageQuery {
            limit: limit.map(u64::from),
            ..PageQuery::default()
        };
        match cursor {
            Cursor::Newest => {}
            Cursor::After(seq) => query.after = Some(seq),
            Cursor::Before(seq) => query.before = Some(seq),
            Cursor::AfterTs(ts) => query.after_ts = Some(ts),
        }
        async move {
            let page = rooms.history(user, &room, query).await?;
            Ok(Page {
                events: page.events.frames().clone(),
                head: page.head,
                first: page.first,
            })
        }
        .boxed()
    }

    fn subscribe(&self, room: RoomId, start: Start) -> Answer<Subscribed> {
        ready(self.begin_subscription(room, start)).boxed()
    }

    fn presence(&self, room: RoomId) -> Answer<RoomPresence> {
        let presence = self.pass_in(Scope::Read, &room).and_then(|user| {
            self.app.rooms().may_read(user, &room)?;
            let presence = self.app.presences().room(&room);
            Ok(RoomPresence {
                users: presence.users,
                count: presence.count as u64,
                version: presence.version,
            })
        });
        ready(presence).boxed()
    }

    fn rooms(&self) -> Answer<Vec<Room>> {
        let user = match self.pass(|caller| caller.require_scope(Scope::Read)) {
            Ok(user) => user,
            Err(problem) => return refused(problem),
        };
        let rooms = self.app.rooms().clone();
        async move {
            let rooms = rooms.list(user).await?;
            let room = |room: stack_rooms::Room| Room {
                id: room.id,
                title: room.title,
                settings: room.settings,
                role: room.role,
                first: room.first,
                head: room.head,
                read_seq: room.read_seq,
                created_at: room.created_at,
            };
            Ok(rooms.into_iter().map(room).collect())
        }
        .boxed()
    }

    fn join(&self, room: RoomId) -> Answer<RoomRole> {
        match self.pass(|caller| caller.require_scope(Scope::Rooms)) {
            Ok(user) => {
                let rooms = self.app.rooms().clone();
                async move { rooms.join(user, &room).await }.boxed()
            }
            Err(problem) => refused(problem),
        }
    }

    fn leave(&self, room: RoomId) -> Answer<()> {
        match self.pass(|caller| caller.require_scope(Scope::Rooms)) {
            Ok(user) => {
                let rooms = self.app.rooms().clone();
                async move { rooms.leave(user, &room).await }.boxed()
            }
            Err(problem) => refused(problem),
        }
    }

    fn read(&self, room: RoomId, seq: Seq) -> Answer<()> {
        match self.pass_in(Scope::Presence, &room) {
            Ok(user) => {
                let rooms = self.app.rooms().clone();
                async move { rooms.read(user, &room, seq).await }.boxed()
            }
            Err(problem) => refused(problem),
        }
    }

    fn user(&self, id: UserId) -> Answer<Account> {
        let account = self
            .pass(|caller| caller.require_scope(Scope::Read))
            .and_then(|_| Ok(self.app.store().account(id)?))
            .and_then(|found| found.ok_or_else(|| Problem::not_found("there is no such user")));
        ready(account.map(super::admin::account)).boxed()
    }

    fn admin(&self) -> Result<Arc<dyn Admin>, Problem> {
        self.pass(|caller| caller.require_scope(Scope::Admin))?;
        let caller = self.standing.caller.read().clone();
        AdminService::of_gateway(self.app.clone(), AdminActor::Bot(caller))
    }
}
