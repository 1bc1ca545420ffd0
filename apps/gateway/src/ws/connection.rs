//! One socket from its upgrade to its close: an actor that owns everything of it.

use std::collections::HashMap;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use stack_auth::Caller;
use stack_delivery::{Outlet, Pumped};
use stack_proto::{Request, error};
use stack_storage::Submitted;
use stack_types::trace;
use stack_types::{
    ConnectionId, ErrorCode, EventCodec as _, FramesBuilder, Problem, RoomId, Seq, Signal, UserId,
};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Span;
use tracing::field::Empty;
use tracing::span::EnteredSpan;
use tungstenite::error::CapacityError;
use tungstenite::{Message, Utf8Bytes};

use super::access;
use super::closing::{close, close_relayed};
use super::credentials::Credentials;
use super::dialect::{Asked, ClientFrame, Dialect};
use super::expiry::Expiry;
use super::heartbeat::{Heartbeat, random_fraction};
use super::ingress::Egress;
use super::relayed::Relayed;
use super::replies::{Replies, Reply};
use super::requests::{Answer, Handled, Requests, frame, signed_in};
use super::socket::Socket;
use super::sockets::{Ending, Place, Summons, Way};
use super::translated::Translated;
use crate::app::AppState;
use crate::http::refusals::Refusal;
use crate::http::request_id::RequestId;
use crate::otlp::follow;
use crate::server::Wire;

/// A socket without credentials has so long to send `auth`.
const AUTH_WITHIN: Duration = Duration::from_secs(5);
/// A close frame and what waits in front of it have so long to go out and be answered: less than the second in which
/// the sockets of a revoked session are promised to be closed.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_millis(800);
/// Messages on their way to the disk at most. More are read from the socket when one of them is answered.
const MAX_WAITING: usize = 256;
/// About as long is the answer to a message.
const ANSWER_BYTES: usize = 128;
/// Messages that are taken in before the loop looks again at what comes before them.
const MESSAGES_AT_ONCE: usize = 32;
/// While more than this waits to be written, nothing is read: answers are only made as fast as they are taken.
pub(super) const MAX_PENDING_BYTES: usize = 256 * 1024;
/// Refusals for the rate in a row after which the socket closes: this client does not listen.
const MAX_RATE_REFUSALS: u32 = 100;
/// Clients are told to come back spread over so long, and not before the first of it has passed.
const RECONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Why a socket ends.
pub(super) enum End {
    /// Close it with this code and reason.
    Close(u16, Utf8Bytes),
    /// The client has closed it, or it is broken; nothing is left to say.
    Gone,
}

/// Serves a socket until it ends. All that an idle connection costs is in this future: what runs seldom is boxed, what
/// is made on the way to the loop is made in functions that are not asynchronous, and whatever is kept is kept once.
pub(super) fn serve(
    app: AppState,
    wire: Wire,
    read_ahead: Bytes,
    (credentials, request): (Credentials, RequestId),
    dialect: Dialect,
) -> impl Future<Output = ()> {
    let wire = Arc::new(wire);
    let egress = Egress::new(wire.clone());
    let outlet = match dialect {
        Dialect::Json => Outlet::new(egress),
        Dialect::Capnp => Outlet::new(Translated::new(egress)),
    };
    let most = app.limits().frame_bytes;
    let mut socket = Socket::new(wire.clone(), outlet.clone(), read_ahead, most, dialect);
    let start = Start::Anew(credentials, request);
    async move {
        let mut who = None;
        let end = tokio::select! {
            end = run(&app, &mut socket, &outlet, None, start, &mut who) => end,
            () = app.lifecycle().stopping.cancelled() => End::Close(1001, "the server is going down".into()),
        };
        log_end(who, &end);
        if let End::Close(code, reason) = end {
            // A client that does not take its close frame in time is left behind.
            let closing = close(&mut socket, &outlet, &wire, code, reason);
            let _ = Box::pin(timeout(CLOSE_WITHIN, closing)).await;
        }
        outlet.close();
        wire.say_end();
    }
}

/// How a socket begins.
pub(crate) enum Start {
    /// It was opened just now, by this request.
    Anew(Credentials, RequestId),
    /// It was opened before: somebody has signed in, and reads these rooms behind these events.
    Again(Box<Caller>, Vec<(RoomId, Seq)>),
}

/// Serves a socket whose client is connected to an edge until it ends.
pub(super) async fn serve_relayed(app: AppState, relayed: Relayed, start: Start, dialect: Dialect) {
    let outlet = Outlet::relayed(relayed.clone(), relayed.clone());
    let mut socket = Socket::relayed(relayed.clone(), dialect);
    let mut who = None;
    let end = tokio::select! {
        end = run(&app, &mut socket, &outlet, Some(relayed), start, &mut who) => end,
        // The edge hears of it by the end of its link, and keeps its socket.
        () = app.lifecycle().stopping.cancelled() => End::Gone,
    };
    log_end(who, &end);
    if let End::Close(code, reason) = end {
        let closing = close_relayed(&mut socket, &outlet, code, reason);
        let _ = timeout(CLOSE_WITHIN, closing).await;
    }
    outlet.close();
}

async fn run(
    app: &AppState,
    socket: &mut Socket,
    outlet: &Arc<Outlet>,
    relayed: Option<Relayed>,
    start: Start,
    who: &mut Option<Who>,
) -> End {
    let (credentials, request, rooms) = match start {
        Start::Anew(credentials, request) => (credentials, Some(request), Vec::new()),
        Start::Again(caller, rooms) => (Credentials::Caller(caller), None, rooms),
    };
    let is_relayed = relayed.is_some();
    let signed_in = Box::pin(authenticate(app, socket, outlet, is_relayed, credentials)).await;
    // Matched where it is made: with a name it would be kept beside the connection for as long as that.
    let mut connection =
        match signed_in.and_then(|(caller, answer)| enter(app, outlet, relayed, caller, answer)) {
            Ok(connection) => connection,
            Err(end) => return end,
        };
    *who = Some(connection.signed_in(request));
    connection.requests.resume(rooms);
    let end = connection.run(socket).await;
    connection.place.ends(Ending::of(&end));
    end
}

/// Gives a client that has signed in its place among the sockets.
fn enter(
    app: &AppState,
    outlet: &Arc<Outlet>,
    relayed: Option<Relayed>,
    caller: Caller,
    answer: Option<Bytes>,
) -> Result<Connection, End> {
    let connection = ConnectionId::generate(app.clock().now());
    let most = app.limits().connections_per_user;
    let user = caller.user.id;
    let way = if relayed.is_some() {
        Way::Edge
    } else {
        Way::Socket
    };
    let place = app
        .sockets()
        .enter(&caller, (connection, way), outlet.clone(), most);
    let Some(place) = place else {
        let detail = format!("a user has at most {most} connections");
        outlet.send(frame(&error(
            None,
            &Problem::new(ErrorCode::LimitExceeded, detail),
        )));
        return Err(End::Close(4008, "too many connections".into()));
    };
    // The session may have been revoked between the check of its token and now; from here on the place hears of it.
    if let Err(problem) = app.auth().recheck(&caller) {
        outlet.send(frame(&error(None, &problem)));
        return Err(End::Close(4001, "the session is over".into()));
    }
    stands(app, relayed.as_ref(), &caller);
    if let Some(answer) = answer {
        outlet.send(answer);
    }
    let now = Instant::now();
    app.measures().sign_ins().ok.inc();
    Ok(Connection {
        connection,
        heartbeat: Heartbeat::new(now),
        expiry: Expiry::of(&caller, app.clock().now()),
        requests: Requests {
            app: app.clone(),
            outlet: outlet.clone(),
            lease: app.presences().connect(user, connection),
            subscriptions: HashMap::new(),
            replies: None,
            relayed,
            caller,
        },
        place,
        waiting: 0,
        in_turn: None,
        rate_refusals: 0,
    })
}

/// Tells an edge what its socket shows when it attaches again.
fn stands(app: &AppState, relayed: Option<&Relayed>, caller: &Caller) {
    let Some(relayed) = relayed else {
        return;
    };
    match app.auth().keep(caller) {
        Ok(standing) => relayed.stands(standing),
        // It will have to sign in again.
        Err(problem) => tracing::error!(%problem, "a caller cannot be written down: {problem}"),
    }
}

/// Finds out who is there: from the upgrade, or else from the first frame.
async fn authenticate(
    app: &AppState,
    socket: &mut Socket,
    outlet: &Outlet,
    is_relayed: bool,
    credentials: Credentials,
) -> Result<(Caller, Option<Bytes>), End> {
    let refused = |id: Option<u64>, problem: &Problem| {
        app.measures().sign_ins().refused.inc();
        outlet.send(frame(&error(id, problem)));
        End::Close(4001, "not signed in".into())
    };
    let ip = match credentials {
        Credentials::Caller(caller) => return Ok((*caller, None)),
        Credentials::Refused(credentials) => {
            let end = refused(None, &credentials.problem);
            if let Some(refusal) = credentials.record {
                refusal.record(app).await;
            }
            return Err(end);
        }
        Credentials::None(ip) => *ip,
    };
    let deadline = Instant::now() + AUTH_WITHIN;
    loop {
        let message = tokio::select! {
            biased;
            () = app.lifecycle().draining.cancelled() => {
                return Err(if is_relayed { End::Gone } else { drain(outlet) });
            }
            () = sleep_until(deadline) => return Err(End::Close(1008, "no auth in time".into())),
            // Pongs and the like go straight to the socket or wait in the outlet, which is not pumped yet.
            flushed = outlet.flushed(), if outlet.pending_bytes() > 0 => match flushed {
                Ok(()) => continue,
                Err(_) => return Err(End::Gone),
            },
            message = socket.next(), if outlet.pending_bytes() < MAX_PENDING_BYTES => message,
        };
        let Some(said) = frame_of(message, socket.dialect())? else {
            continue;
        };
        let (id, request) = read(&said, outlet)?;
        let token = match request {
            Ok(Request::Auth { token }) => token,
            Ok(_) => {
                let problem = Problem::new(ErrorCode::Unauthenticated, "sign in first");
                outlet.send(frame(&error(id, &problem)));
                continue;
            }
            Err(problem) => {
                outlet.send(frame(&error(id, &problem)));
                continue;
            }
        };
        return match app.auth().authenticate(&token) {
            Ok(caller) => {
                let answer = signed_in(id, &caller);
                Ok((caller, answer))
            }
            Err(problem) => {
                let end = refused(id, &problem);
                if let Some(refusal) = Refusal::of_socket(app, ip, &token) {
                    refusal.record(app).await;
                }
                Err(end)
            }
        };
    }
}

/// Whose a socket is, for the log.
#[derive(Clone, Copy)]
struct Who {
    connection: ConnectionId,
    user: UserId,
}

impl Who {
    /// The span of what a socket logs. Made when there is something to log: an idle socket keeps none, and a busy one
    /// enters none.
    fn span(self) -> Span {
        tracing::error_span!(
            "socket",
            connection = %self.connection,
            user = %self.user,
            kind = Empty,
            room = Empty,
        )
    }
}

/// Says how a socket ends; nobody may have signed in on it.
fn log_end(who: Option<Who>, end: &End) {
    let _lines = who.map(|who| who.span().entered());
    match end {
        End::Close(code, reason) => {
            tracing::debug!(code, %reason, "socket closed: {code}, {reason}");
        }
        End::Gone => tracing::debug!("socket gone"),
    }
}

struct Connection {
    connection: ConnectionId,
    requests: Requests,
    place: Place,
    heartbeat: Heartbeat,
    expiry: Expiry,
    /// Messages on their way to the disk, whose answers come by the replies.
    waiting: usize,
    /// What holds up the requests that come behind it.
    in_turn: Option<BoxFuture<'static, Turn>>,
    rate_refusals: u32,
}

impl Connection {
    /// Says who is there now, and by which request.
    fn signed_in(&self, request: Option<RequestId>) -> Who {
        let caller = &self.requests.caller;
        let who = Who {
            connection: self.connection,
            user: caller.user.id,
        };
        let request_id = request.as_ref().map(RequestId::as_str);
        who.span().in_scope(
            || tracing::debug!(request_id, session = %caller.session_id, "socket signed in"),
        );
        who
    }

    /// The loop. Its order: whatever ends the socket comes first, then what is owed to the client, then what the
    /// client wants, so that a client that floods cannot put off its own end.
    async fn run(&mut self, socket: &mut Socket) -> End {
        let app = self.requests.app.clone();
        let outlet = self.requests.outlet.clone();
        let mut pump = std::pin::pin!(app.hub().pump(&outlet));
        let mut due = std::pin::pin!(sleep_until(self.due()));
        loop {
            // Set anew only when it has moved: each time takes the lock of the timers.
            if due.deadline() != self.due() {
                due.as_mut().reset(self.due());
            }
            let takes_more = self.takes_more();
            tokio::select! {
                biased;
                summons = self.place.summons() => match summons {
                    Summons::Revoked => {
                        outlet.send(frame(&stack_proto::JsonCodec.signal(&Signal::SessionRevoked)));
                        return End::Close(4001, "the session was revoked".into());
                    }
                    Summons::Doubt => {
                        if let Some(end) = self.recheck() {
                            return end;
                        }
                    }
                },
                () = app.lifecycle().draining.cancelled() => {
                    return Box::pin(self.finish(&outlet)).await;
                }
                () = due.as_mut() => {
                    if let Some(end) = self.on_time(socket) {
                        return end;
                    }
                }
                pumped = pump.as_mut() => match pumped {
                    Ok(Pumped::Closed) => return End::Gone,
                    Ok(Pumped::Ended(rooms)) => {
                        self.requests.forget_ended(rooms);
                        pump.set(app.hub().pump(&outlet));
                    }
                    Err(source) => {
                        self.log_span().in_scope(|| {
                            tracing::error!(error = &source as &dyn std::error::Error, "the log cannot be read");
                        });
                        outlet.send(frame(&error(None, &source.into())));
                        return End::Close(4500, "internal error".into());
                    }
                },
                replies = replies(self.requests.replies.as_ref()) => {
                    if let Some(end) = self.answer_all(replies) {
                        return end;
                    }
                }
                turn = in_turn(&mut self.in_turn) => {
                    self.in_turn = None;
                    if let Some((id, answer)) = turn
                        && let Some(end) = self.answer(id, answer)
                    {
                        return end;
                    }
                }
                message = next_unless_full(socket, &outlet), if takes_more => {
                    self.heartbeat.heard(Instant::now());
                    self.requests.lease.renew();
                    if let Err(end) = self.messages(socket, message) {
                        return end;
                    }
                    // Nothing above waits, so a client that floods would keep others from this worker.
                    consume_budget().await;
                }
            }
        }
    }

    /// Whether nothing that was asked for holds up what comes behind it.
    fn takes_more(&self) -> bool {
        self.in_turn.is_none() && self.waiting < MAX_WAITING
    }

    /// Takes in a message, and with it those that have come behind it: the loop goes round once for all of them.
    fn messages(
        &mut self,
        socket: &mut Socket,
        first: Result<Message, tungstenite::Error>,
    ) -> Result<(), End> {
        let mut message = first;
        for taken in 1.. {
            let control = Control::of(&message);
            if let Some(said) = frame_of(message, socket.dialect())? {
                self.frame(&said)?;
            } else {
                match control {
                    Control::Ping => self.ping()?,
                    Control::Close(code) => self.place.ends(Ending::Client { code }),
                    Control::Other => {}
                }
            }
            // Before the next one is taken: what is taken is taken in.
            if taken == MESSAGES_AT_ONCE || !self.takes_more() {
                break;
            }
            match next_unless_full(socket, &self.requests.outlet).now_or_never() {
                Some(next) => message = next,
                None => break,
            }
        }
        Ok(())
    }

    /// When there is something to do without anybody asking.
    fn due(&self) -> Instant {
        self.expiry.next().min(self.heartbeat.due)
    }

    /// Does what is due: warns of the session's end or ends with it, and pings.
    fn on_time(&mut self, socket: &mut Socket) -> Option<End> {
        let now = Instant::now();
        let outlet = &self.requests.outlet;
        if now >= self.expiry.next() {
            let Some(expires_at) = self.expiry.reached() else {
                return Some(End::Close(4001, "the session has expired".into()));
            };
            let signal = Signal::SessionExpiring { expires_at };
            outlet.send(frame(&stack_proto::JsonCodec.signal(&signal)));
        }
        if now >= self.heartbeat.due {
            // An edge looks after its sockets itself.
            let is_here = self.requests.relayed.is_none();
            if is_here && !self.heartbeat.is_alive(now, outlet.written_bytes()) {
                return Some(End::Gone);
            }
            socket.ping();
            self.heartbeat.pinged(now, outlet.written_bytes());
        }
        None
    }

    /// Takes in a ping, which the library has answered: it counts as any frame does.
    fn ping(&mut self) -> Result<(), End> {
        let (app, user) = (&self.requests.app, self.requests.caller.user.id);
        match app.rates().frame(user) {
            Ok(()) => Ok(()),
            Err(refused) => self.answer(None, Err(refused.into())).map_or(Ok(()), Err),
        }
    }

    /// Takes in one frame.
    fn frame(&mut self, said: &ClientFrame) -> Result<(), End> {
        let (id, request) = read(said, &self.requests.outlet)?;
        let (app, user) = (&self.requests.app, self.requests.caller.user.id);
        if let Err(refused) = app.rates().frame(user) {
            return self.answer(id, Err(refused.into())).map_or(Ok(()), Err);
        }
        let request = match request {
            Ok(request) => request,
            Err(problem) => return self.answer(id, Err(problem)).map_or(Ok(()), Err),
        };
        let _lines = self.log_lines(&request);
        let (kind, _) = access::of(&request);
        // What is queued meanwhile takes the trace along.
        let traced = app.tracer().and_then(|tracer| tracer.frame(kind));
        let _traced = traced.clone().map(|traced| trace::enter(traced));
        let (answer, begins) = match self.requests.handle(id, request) {
            Handled::Done(answer) => (answer, None),
            Handled::Subscribed(answer, begins) => (answer, Some(begins)),
            Handled::SignedIn(caller, answer) => {
                self.place.change_caller(&caller);
                self.expiry = Expiry::of(&caller, self.requests.app.clock().now());
                stands(&self.requests.app, self.requests.relayed.as_ref(), &caller);
                self.requests.caller = *caller;
                // As at the first sign-in: a revocation in between would have found the session before.
                if let Some(end) = self.recheck() {
                    return Err(end);
                }
                (answer, None)
            }
            Handled::Said(submitted) => {
                self.waiting += 1;
                if let Submitted::Waiting(place) = submitted {
                    self.in_turn = Some(Box::pin(async move {
                        place.await;
                        None
                    }));
                }
                return Ok(());
            }
            Handled::InTurn(work) => {
                let work = match traced {
                    Some(traced) => follow(traced, work).boxed(),
                    None => work,
                };
                self.in_turn = Some(Box::pin(async move { Some((id, work.await)) }));
                return Ok(());
            }
        };
        if let (Some(begins), Ok(answer), Some(relayed)) =
            (&begins, &answer, &self.requests.relayed)
        {
            self.rate_refusals = 0;
            let answer = answer.clone().unwrap_or_default();
            self.requests.begin_relayed(relayed, begins, answer);
            return Ok(());
        }
        if let Some(end) = self.answer(id, answer) {
            return Err(end);
        }
        if let Some(begins) = begins {
            if let Some(gap) = begins.gap {
                self.requests.outlet.send(gap);
            }
            self.requests.app.hub().begin(&begins.subscription);
        }
        Ok(())
    }

    /// Under which the lines of a frame stand, where lines are written that say so little that others need none.
    fn log_lines(&self, request: &Request) -> Option<EnteredSpan> {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return None;
        }
        let span = self.log_span();
        let (kind, room) = access::of(request);
        span.record("kind", kind);
        if let Some(room) = room {
            span.record("room", tracing::field::display(room));
        }
        Some(span.entered())
    }

    /// The span of what this socket logs.
    fn log_span(&self) -> Span {
        let who = Who {
            connection: self.connection,
            user: self.requests.caller.user.id,
        };
        who.span()
    }

    /// Answers a request, and says whether that was the last of this socket.
    fn answer(&mut self, id: Option<u64>, answer: Answer) -> Option<End> {
        match answer {
            Ok(bytes) => {
                self.rate_refusals = 0;
                self.requests.outlet.send(bytes.unwrap_or_default());
                None
            }
            Err(problem) => {
                self.requests.outlet.send(frame(&error(id, &problem)));
                self.refused(&problem)
            }
        }
    }

    /// Answers all messages that a commit has settled in one write.
    fn answer_all(&mut self, replies: Vec<Reply>) -> Option<End> {
        self.waiting -= replies.len();
        let mut together = FramesBuilder::with_capacity(replies.len() * ANSWER_BYTES);
        let mut json = Vec::with_capacity(ANSWER_BYTES);
        let mut end = None;
        for (id, sent) in replies {
            match (id, sent) {
                (Some(id), Ok(sent)) => {
                    json.clear();
                    stack_proto::push_sent(id, &sent.room, sent.seq, sent.ts, &mut json);
                    together.push(&json);
                    self.rate_refusals = 0;
                }
                (None, Ok(_)) => self.rate_refusals = 0,
                (id, Err(problem)) => {
                    together.push(&error(id, &problem));
                    end = self.refused(&problem).or(end);
                }
            }
        }
        self.requests.outlet.send(together.finish().wire().clone());
        end
    }

    /// Notes a refusal, and says whether it was the last of this socket.
    fn refused(&mut self, problem: &Problem) -> Option<End> {
        if let Some(cause) = problem.cause() {
            let _lines = self.log_span().entered();
            tracing::error!(error = cause as &dyn std::error::Error, code = %problem.code, "request failed");
        }
        if problem.code != ErrorCode::RateLimited {
            return None;
        }
        self.rate_refusals += 1;
        let too_many = self.rate_refusals >= MAX_RATE_REFUSALS;
        too_many.then_some(End::Close(4029, "rate limited repeatedly".into()))
    }

    /// Looks whether the session still stands, and says how the socket ends if not.
    fn recheck(&self) -> Option<End> {
        let problem = self
            .requests
            .app
            .auth()
            .recheck(&self.requests.caller)
            .err()?;
        self.requests.outlet.send(frame(&error(None, &problem)));
        Some(End::Close(4001, "the session is over".into()))
    }

    /// Says goodbye: tells the client when to come back, and answers what is still on its way to the disk.
    async fn finish(&mut self, outlet: &Outlet) -> End {
        // A client at an edge stays there until the origin is back.
        let is_relayed = self.requests.relayed.is_some();
        let end = if is_relayed { End::Gone } else { drain(outlet) };
        if let Some(in_turn) = self.in_turn.take()
            && let Some((id, answer)) = in_turn.await
            && let Some(end) = self.answer(id, answer)
        {
            return end;
        }
        while self.waiting > 0 {
            let replies = replies(self.requests.replies.as_ref()).await;
            if let Some(end) = self.answer_all(replies) {
                return end;
            }
        }
        end
    }
}

/// What a request that holds up others ends with; `None` when its answer comes by the replies.
type Turn = Option<(Option<u64>, Answer)>;

async fn in_turn(work: &mut Option<BoxFuture<'static, Turn>>) -> Turn {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// The next message, as soon as there is one and not too much waits to be written. That is looked at whenever the
/// connection is woken: what waits is written by the pump, which does not end a turn of the loop.
pub(super) async fn next_unless_full(
    socket: &mut Socket,
    outlet: &Outlet,
) -> Result<Message, tungstenite::Error> {
    poll_fn(|cx| {
        if outlet.pending_bytes() < MAX_PENDING_BYTES {
            socket.poll_next(cx)
        } else {
            Poll::Pending
        }
    })
    .await
}

async fn replies(replies: Option<&Arc<Replies>>) -> Vec<Reply> {
    match replies {
        Some(replies) => replies.take().await,
        None => pending().await,
    }
}

pub(super) fn drain(outlet: &Outlet) -> End {
    let reconnect_in = RECONNECT_WITHIN.mul_f64(0.1 + 0.9 * random_fraction());
    let signal = Signal::Drain {
        reconnect_in_ms: u64::try_from(reconnect_in.as_millis()).unwrap_or(0),
    };
    outlet.send(frame(&stack_proto::JsonCodec.signal(&signal)));
    End::Close(1001, "the server is going down".into())
}

fn read(said: &ClientFrame, outlet: &Outlet) -> Result<Asked, End> {
    said.read().map_err(|malformed| {
        let problem = Problem::new(ErrorCode::BadRequest, malformed);
        outlet.send(frame(&error(None, &problem)));
        End::Close(4000, "malformed frame".into())
    })
}

/// What the library has dealt with, as far as the connection cares.
enum Control {
    Ping,
    /// The client closes the socket, with this code.
    Close(Option<u16>),
    Other,
}

impl Control {
    fn of(message: &Result<Message, tungstenite::Error>) -> Self {
        match message {
            Ok(Message::Ping(_)) => Self::Ping,
            Ok(Message::Close(frame)) => Self::Close(frame.as_ref().map(|frame| frame.code.into())),
            _ => Self::Other,
        }
    }
}

impl Ending {
    fn of(end: &End) -> Self {
        match end {
            End::Close(code, reason) => Self::Server {
                code: *code,
                reason: reason.to_string(),
            },
            End::Gone => Self::Nobody,
        }
    }
}

/// The frame in a message; `None` for a ping or pong, which the library has dealt with.
pub(super) fn frame_of(
    message: Result<Message, tungstenite::Error>,
    dialect: Dialect,
) -> Result<Option<ClientFrame>, End> {
    match (message, dialect) {
        (Ok(Message::Text(text)), Dialect::Json) => Ok(Some(ClientFrame::Json(text))),
        (Ok(Message::Binary(bytes)), Dialect::Capnp) => Ok(Some(ClientFrame::Capnp(bytes))),
        (Ok(Message::Binary(_)), Dialect::Json) => {
            Err(End::Close(4000, "malformed frame: binary".into()))
        }
        (Ok(Message::Text(_)), Dialect::Capnp) => {
            Err(End::Close(4000, "malformed frame: text".into()))
        }
        (Ok(_), _) => Ok(None),
        (Err(tungstenite::Error::Capacity(CapacityError::MessageTooLong { .. })), _) => {
            Err(End::Close(1009, "the frame is over the limit".into()))
        }
        (Err(tungstenite::Error::Utf8(_)), _) => {
            Err(End::Close(1007, "the text is not UTF-8".into()))
        }
        (Err(tungstenite::Error::Protocol(_)), _) => {
            Err(End::Close(1002, "this is not WebSocket".into()))
        }
        (Err(_), _) => Err(End::Gone),
    }
}
