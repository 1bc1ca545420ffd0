//! The server: a thread with a runtime of its own, since Cap'n Proto's capabilities stay on one.
//!
//! Each connection is a task. What goes wrong in it, be it a stream that is no Cap'n Proto or a panic, ends that
//! connection and nothing else.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::FutureExt as _;
use futures_util::io::BufReader;
use interprocess::local_socket::tokio::Stream;
use stack_proto::gateway_capnp::gateway;
use stack_types::{ErrorCode, Problem, UserId};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::field;

use crate::edge::Origin;
use crate::ledger::{Kept, Ledger};
use crate::listener::{BindError, Socket, may_connect, peer_of};
use crate::refusal::exception;
use crate::rpc::GatewayImpl;
use crate::service::{Peer, Service};
use crate::wire::{Call, Gate, GatedReader, Out, PANICKED, Writer, drive};

/// Messages nest to a depth of six at most: a call's parameters and what is in them.
const NESTING: i32 = 32;
/// What is read from the kernel at once.
const READ_BYTES: usize = 16 * 1024;
/// A connection has so long to log in.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);
/// Wrong tokens that a connection may show.
const LOGIN_FAILURES: u32 = 5;
/// A wrong token is answered after so long: it is never guessed, but a program that repeats it must not cost much.
const LOGIN_PAUSE: Duration = Duration::from_millis(500);
/// Refusals in a row, for the rate or for a token that is good no more, after which a connection ends: this program
/// does not listen.
const MAX_REFUSALS: u32 = 100;
/// Connections that are taken in a second, and at once: one that is begun and ended again and again costs more than
/// anything it could ask.
const ACCEPTS_PER_SECOND: u32 = 50;
const ACCEPTS_AT_ONCE: u32 = 100;
/// Connections over the limit that are told so; more are closed without a word.
const REFUSED_AT_ONCE: usize = 8;
/// What is on its way to one sink at a time, about: enough that a program on another core reads on while its word that it
/// has taken something is on its way back.
const WINDOW_BYTES: usize = 256 * 1024;
/// How long a connection over the limit has to hear of it.
const REFUSED_WITHIN: Duration = Duration::from_secs(1);
/// Pages of history that a connection has on their way at once: each is a thousand times as long as other answers.
const PAGES_AT_ONCE: usize = 4;
/// Sessions, administrations and subscriptions that a connection holds, whosever they are.
const MOST_HANDED: usize = 2048;
/// What is on its way has so long to go out when a connection ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What one connection, and all of them, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpcLimits {
    /// A message, in bytes.
    pub message_bytes: usize,
    /// Calls of one connection that are carried out at the same time. Further ones wait in the socket.
    pub calls_in_flight: usize,
    /// Open connections.
    pub connections: usize,
}

impl Default for IpcLimits {
    fn default() -> Self {
        Self {
            message_bytes: 2 * 1024 * 1024,
            calls_in_flight: 128,
            connections: 256,
        }
    }
}

/// What the server is told at the start.
pub struct ServerConfig {
    /// Where to listen.
    pub path: PathBuf,
    /// What may be taken.
    pub limits: IpcLimits,
    /// What edges get.
    pub origin: Option<Arc<dyn Origin>>,
    /// The gateway goes down: no new connections or calls, and connections end with the calls they have under way.
    pub draining: CancellationToken,
    /// The deadline has passed: everything ends at once.
    pub stopping: CancellationToken,
}

/// The server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The socket cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// There can be no thread or runtime for it.
    #[error("cannot start the thread of the local socket")]
    Thread(#[source] std::io::Error),
}

/// A server that serves.
#[derive(Debug)]
pub struct Server {
    ended: oneshot::Receiver<()>,
}

impl Server {
    /// Starts the server: when this returns it accepts connections.
    ///
    /// # Errors
    /// The socket cannot be listened on.
    pub fn start(config: ServerConfig, service: Arc<dyn Service>) -> Result<Self, ServerError> {
        let (started, start) = std::sync::mpsc::sync_channel(1);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("ipc".into())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .max_blocking_threads(4)
                    .thread_name("ipc-read")
                    .build();
                let runtime = match runtime {
                    Ok(runtime) => runtime,
                    Err(source) => {
                        let _ = started.send(Err(ServerError::Thread(source)));
                        return;
                    }
                };
                let bound = {
                    let _in_runtime = runtime.enter();
                    Socket::bind(&config.path)
                };
                match bound {
                    Ok(socket) => {
                        let _ = started.send(Ok(()));
                        let serve = serve(socket, config, service);
                        LocalSet::new().block_on(&runtime, serve);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error.into()));
                    }
                }
                // A page that is being read must not hold up the end.
                runtime.shutdown_background();
                let _ = end.send(());
            })
            .map_err(ServerError::Thread)?;
        match start.recv() {
            Ok(started) => started.map(|()| Self { ended }),
            Err(_) => Err(ServerError::Thread(std::io::Error::other(
                "the thread ended before it began",
            ))),
        }
    }

    /// Waits until every connection has ended, after `draining` or `stopping` was cancelled.
    pub async fn ended(self) {
        // Dropped without a word it has ended too.
        let _ = self.ended.await;
    }
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) origin: Option<Arc<dyn Origin>>,
    limits: IpcLimits,
    draining: CancellationToken,
    stopping: CancellationToken,
    pub(crate) tasks: TaskTracker,
    open: Cell<usize>,
    refusing: Cell<usize>,
    /// Connections since the start, by which the log calls each.
    taken: Cell<u64>,
}

async fn serve(socket: Socket, config: ServerConfig, service: Arc<dyn Service>) {
    let shared = Rc::new(Shared {
        service,
        origin: config.origin,
        limits: config.limits,
        draining: config.draining.clone(),
        stopping: config.stopping.clone(),
        tasks: TaskTracker::new(),
        open: Cell::new(0),
        refusing: Cell::new(0),
        taken: Cell::new(0),
    });
    let mut pace = Pace::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.draining.cancelled() => break,
            () = shared.stopping.cancelled() => break,
            accepted = async {
                pace.turn().await;
                socket.accept().await
            } => accepted,
        };
        match accepted {
            Ok(stream) => take(&shared, stream),
            Err(error) => {
                tracing::warn!(%error, "a connection to the local socket was not accepted: {error}");
                // Out of file descriptors, most likely: that does not change at once.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    socket.close();
    shared.tasks.close();
    tokio::select! {
        () = shared.tasks.wait() => {}
        () = shared.stopping.cancelled() => {}
    }
}

/// Takes in a connection.
fn take(shared: &Rc<Shared>, stream: Stream) {
    let peer = match peer_of(&stream) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it was looked at: {error}");
            return;
        }
    };
    if !may_connect(&peer) {
        tracing::warn!(
            uid = peer.uid,
            "a connection to the local socket was refused: another user's"
        );
        return;
    }
    let is_full = shared.open.get() >= shared.limits.connections;
    let places = if is_full {
        &shared.refusing
    } else {
        &shared.open
    };
    if is_full && places.get() >= REFUSED_AT_ONCE {
        return;
    }
    places.set(places.get() + 1);
    let place = Place {
        shared: shared.clone(),
        is_full,
    };
    let connection = connection(shared.clone(), stream, peer, is_full);
    shared.tasks.spawn_local(async move {
        let _place = place;
        connection.await;
    });
}

/// A connection's place among the open ones. Given back also when its task panics.
struct Place {
    shared: Rc<Shared>,
    is_full: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = if self.is_full {
            &self.shared.refusing
        } else {
            &self.shared.open
        };
        places.set(places.get() - 1);
        if std::thread::panicking() {
            tracing::error!("a connection of the local socket panicked and was ended");
        }
    }
}

/// A connection, as its calls see it.
pub(crate) struct Conn {
    pub(crate) shared: Rc<Shared>,
    pub(crate) peer: Peer,
    /// What the log calls it.
    number: u64,
    pub(crate) gate: Rc<Gate>,
    pub(crate) ledger: Rc<Ledger>,
    /// Bounds the pages that are on their way.
    pub(crate) pages: Semaphore,
    /// There is no place for it: every call is refused.
    is_full: bool,
    has_entered: Cell<bool>,
    refusals: Cell<u32>,
    login_failures: Cell<u32>,
    /// What was handed out and is still held.
    handed: Cell<usize>,
    /// Ends the connection.
    end: CancellationToken,
}

async fn connection(shared: Rc<Shared>, stream: Stream, peer: Peer, is_full: bool) {
    let (reading, writing) = tokio::io::split(stream);
    let gate = Gate::new(shared.limits.calls_in_flight);
    let out = Out::new(writing.compat_write(), gate.clone());
    let reader = BufReader::with_capacity(READ_BYTES, reading.compat());
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(shared.limits.message_bytes / 8))
        .nesting_limit(NESTING);
    let mut network = twoparty::VatNetwork::new(
        GatedReader::new(reader, gate.clone()),
        Writer(out.clone()),
        Side::Server,
        options,
    );
    network.set_window_size(WINDOW_BYTES);
    let ledger = Ledger::new(gate.clone());
    let network = Kept::new(network, ledger.clone());
    let number = shared.taken.get() + 1;
    shared.taken.set(number);
    let conn = Rc::new(Conn {
        shared: shared.clone(),
        peer,
        number,
        gate: gate.clone(),
        ledger,
        pages: Semaphore::new(PAGES_AT_ONCE),
        is_full,
        has_entered: Cell::new(false),
        refusals: Cell::new(0),
        login_failures: Cell::new(0),
        handed: Cell::new(0),
        end: CancellationToken::new(),
    });
    let bootstrap: gateway::Client = capnp_rpc::new_client(GatewayImpl(conn.clone()));
    let mut rpc = RpcSystem::new(Box::new(network), Some(bootstrap.client));
    let disconnector = rpc.get_disconnector();
    let ended = tokio::select! {
        ended = drive(&mut rpc, &out) => Some(ended),
        () = too_late(&conn) => None,
        () = conn.end.cancelled() => None,
        () = drained(&shared, &gate) => None,
        () = shared.stopping.cancelled() => return,
    };
    let ended = match ended {
        Some(Err(error)) if error.extra == PANICKED => {
            tracing::error!("a connection of the local socket panicked and is ended");
            None
        }
        ended => ended,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::debug!(%error, uid = peer.uid, "a connection of the local socket broke: {error}");
        }
        None => {
            let last = async { tokio::join!(drive(&mut rpc, &out), disconnector) };
            // Who does not take their last answer in time is left behind.
            let _ = timeout(LAST_WORDS, last).await;
        }
    }
}

/// Ends when a connection has not logged in in time.
async fn too_late(conn: &Conn) {
    sleep(if conn.is_full {
        REFUSED_WITHIN
    } else {
        LOGIN_WITHIN
    })
    .await;
    if conn.has_entered.get() {
        std::future::pending::<()>().await;
    }
}

/// Ends when the gateway goes down and no call is under way.
async fn drained(shared: &Shared, gate: &Gate) {
    shared.draining.cancelled().await;
    gate.idle().await;
}

impl Conn {
    /// A call begins.
    pub(crate) fn begin(&self) -> Result<Call, capnp::Error> {
        if self.is_full {
            let most = self.shared.limits.connections;
            let detail = format!("the local socket has at most {most} connections");
            return Err(exception(&Problem::new(ErrorCode::LimitExceeded, detail)));
        }
        if self.shared.draining.is_cancelled() {
            let problem = Problem::new(ErrorCode::Unavailable, "the gateway is going down");
            return Err(exception(&problem));
        }
        Ok(self.gate.enter())
    }

    /// Something is handed out that the peer holds until it lets it go.
    pub(crate) fn hand_out(self: &Rc<Self>) -> Result<Handed, capnp::Error> {
        if self.handed.get() >= MOST_HANDED {
            let detail = format!(
                "a connection holds at most {MOST_HANDED} sessions, administrations and subscriptions"
            );
            return Err(exception(&Problem::new(ErrorCode::LimitExceeded, detail)));
        }
        self.handed.set(self.handed.get() + 1);
        Ok(Handed(self.clone()))
    }

    /// The connection has shown what it is for.
    pub(crate) fn entered(&self) {
        self.has_entered.set(true);
        self.refusals.set(0);
    }

    /// A wrong token was shown: waits a little, and ends a connection that shows many.
    pub(crate) async fn login_failed(&self) {
        sleep(LOGIN_PAUSE).await;
        let failures = self.login_failures.get() + 1;
        self.login_failures.set(failures);
        if failures >= LOGIN_FAILURES {
            self.end_soon();
        }
    }

    /// What a call is answered.
    pub(crate) fn settle<T>(&self, answer: Result<T, Problem>) -> Result<T, capnp::Error> {
        self.settle_for(None, answer)
    }

    /// The same of a call of a program that has logged in.
    pub(crate) fn settle_for<T>(
        &self,
        user: Option<UserId>,
        answer: Result<T, Problem>,
    ) -> Result<T, capnp::Error> {
        match answer {
            Ok(answer) => {
                self.refusals.set(0);
                Ok(answer)
            }
            Err(problem) => Err(self.refuse(user, &problem)),
        }
    }

    /// What a refused call is told.
    pub(crate) fn refuse(&self, user: Option<UserId>, problem: &Problem) -> capnp::Error {
        if let Some(cause) = problem.cause() {
            tracing::error!(
                connection = self.number,
                user = user.map(field::display),
                error = cause as &dyn std::error::Error,
                code = %problem.code,
                "a call failed"
            );
        }
        if matches!(
            problem.code,
            ErrorCode::RateLimited | ErrorCode::Unauthenticated
        ) {
            let refusals = self.refusals.get() + 1;
            self.refusals.set(refusals);
            if refusals >= MAX_REFUSALS {
                self.end_soon();
            }
        }
        exception(problem)
    }

    /// Ends the connection, once what it was told is on its way.
    pub(crate) fn end_soon(&self) {
        self.end.cancel();
    }
}

/// Something that a peer holds.
pub(crate) struct Handed(Rc<Conn>);

impl Drop for Handed {
    fn drop(&mut self) {
        self.0.handed.set(self.0.handed.get() - 1);
    }
}

/// How fast connections are accepted.
struct Pace {
    left: u32,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self {
            left: ACCEPTS_AT_ONCE,
            since: Instant::now(),
        }
    }

    /// Waits for the next one's turn.
    async fn turn(&mut self) {
        const EACH: Duration = Duration::from_millis(1000 / ACCEPTS_PER_SECOND as u64);
        loop {
            let new = self.since.elapsed().as_millis() / EACH.as_millis();
            let new = u32::try_from(new).unwrap_or(ACCEPTS_AT_ONCE);
            self.since += EACH * new;
            self.left = self.left.saturating_add(new).min(ACCEPTS_AT_ONCE);
            if self.left > 0 {
                self.left -= 1;
                return;
            }
            sleep(EACH).await;
        }
    }
}

/// Runs `work` of a connection; ends the connection when it panics.
pub(crate) async fn guarded(conn: Rc<Conn>, work: impl Future<Output = ()>) {
    let work = std::panic::AssertUnwindSafe(work).catch_unwind();
    if work.await.is_err() {
        tracing::error!("a subscription of the local socket panicked, its connection was ended");
        conn.end_soon();
    }
}
