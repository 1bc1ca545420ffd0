//! The edge's end: a thread that keeps a link to the origin, and finds another one when it is over.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capnp::Error;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::AsyncReadExt as _;
use futures_util::future::BoxFuture;
use futures_util::io::BufReader;
use interprocess::local_socket::GenericFilePath;
use interprocess::local_socket::tokio::Stream as LocalStream;
use interprocess::local_socket::tokio::prelude::*;
use stack_proto::edge_capnp::{body_sink, body_source, edge, link, origin};
use stack_proto::gateway_capnp::gateway;
use stack_types::{ErrorCode, Problem, RoomId, Seq};
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::server::reader_options;
use super::{
    BodySource, Broken, EdgeEvents, EdgeLimits, HttpRequest, HttpResponse, LogPage, Queue,
    RoomHead, SocketId, Stream, Up, VERSION, convert,
};
use crate::refusal::problem_of;
use crate::wire::{Gate, Out, Writer, drive};

/// What is read from the connection at once.
const READ_BYTES: usize = 64 * 1024;
/// A connection to the origin and the link on it stand within this, or are given up.
const LINKED_WITHIN: Duration = Duration::from_secs(5);
/// The pause before the origin is looked for again, which doubles up to the longest. Short: sockets wait for it.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A link that lasted so long was a good one: the pauses begin anew.
const LASTING: Duration = Duration::from_secs(5);
/// Calls that wait to be made. Whoever makes one more waits.
const WAITING_CALLS: usize = 1024;
/// Parts of an answer that wait for its client.
const WAITING_PARTS: usize = 4;

/// A connection to the origin that is being made.
pub type Connecting = BoxFuture<'static, io::Result<Box<dyn Stream>>>;

/// Makes connections to the origin.
pub type Connector = Arc<dyn Fn() -> Connecting + Send + Sync>;

/// Makes connections to a gateway's local socket.
#[must_use]
pub fn local(path: PathBuf) -> Connector {
    Arc::new(move || {
        let path = path.clone();
        Box::pin(async move {
            let name = path.to_fs_name::<GenericFilePath>()?;
            let stream = LocalStream::connect(name).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    })
}

/// A call came to nothing.
#[derive(Debug, Clone)]
pub enum CallError {
    /// The link is over. Whether the call was carried out is not known.
    Lost,
    /// The origin refused it.
    Refused(Problem),
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost => Self::new(ErrorCode::Unavailable, "the origin is out of reach"),
            CallError::Refused(problem) => problem,
        }
    }
}

enum Call {
    Http(Box<HttpRequest>, Answering<HttpResponse>),
    Page(RoomId, Seq, usize, usize, Answering<LogPage>),
    Heads(Vec<RoomId>, Answering<Vec<RoomHead>>),
}

type Answering<T> = oneshot::Sender<Result<T, CallError>>;

/// A link, from any thread. Cloning shares it.
#[derive(Debug, Clone)]
pub struct EdgeLink(Arc<LinkShared>);

#[derive(Debug)]
struct LinkShared {
    up: Queue<(SocketId, Up)>,
    calls: mpsc::Sender<Call>,
    over: CancellationToken,
}

impl EdgeLink {
    /// Tells what a client does; `false` when the link is over.
    pub fn up(&self, socket: SocketId, item: Up) -> bool {
        self.0.up.push((socket, item))
    }

    /// Gives the link up: the origin does not answer on it.
    pub fn cut(&self) {
        self.0.over.cancel();
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.is_cancelled()
    }

    /// Has a request served.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, CallError> {
        self.call(|answer| Call::Http(Box::new(request), answer))
            .await
    }

    /// Reads events of a room.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn page(
        &self,
        room: &RoomId,
        after: Seq,
        events: usize,
        bytes: usize,
    ) -> Result<LogPage, CallError> {
        self.call(|answer| Call::Page(room.clone(), after, events, bytes, answer))
            .await
    }

    /// Asks where rooms stand; answered in the order asked for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn heads(&self, rooms: Vec<RoomId>) -> Result<Vec<RoomHead>, CallError> {
        self.call(|answer| Call::Heads(rooms, answer)).await
    }

    async fn call<T>(&self, make: impl FnOnce(Answering<T>) -> Call) -> Result<T, CallError> {
        let (answer, answered) = oneshot::channel();
        let called = self.0.calls.send(make(answer)).await;
        called.map_err(|_| CallError::Lost)?;
        tokio::select! {
            biased;
            answer = answered => answer.unwrap_or(Err(CallError::Lost)),
            () = self.0.over.cancelled() => Err(CallError::Lost),
        }
    }
}

/// The client's thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread of the link")]
pub struct EdgeClientError(#[from] io::Error);

/// Keeps a link to the origin until it is dropped.
#[derive(Debug)]
pub struct EdgeClient {
    stop: DropGuard,
    ended: oneshot::Receiver<()>,
}

impl EdgeClient {
    /// Looks for the origin, again and again. `instance` names this process.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(
        connector: Connector,
        instance: String,
        events: Arc<dyn EdgeEvents>,
    ) -> Result<Self, EdgeClientError> {
        let stop = CancellationToken::new();
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let stopped = stop.clone();
        std::thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                let keep = async {
                    tokio::select! {
                        () = keep(&connector, &instance, &events) => {}
                        () = stopped.cancelled() => {}
                    }
                };
                LocalSet::new().block_on(&runtime, keep);
                runtime.shutdown_background();
                let _ = end.send(());
            })?;
        Ok(Self {
            stop: stop.drop_guard(),
            ended,
        })
    }

    /// Ends the link.
    pub async fn shutdown(self) {
        drop(self.stop);
        let _ = self.ended.await;
    }
}

async fn keep(connector: &Connector, instance: &str, events: &Arc<dyn EdgeEvents>) {
    let mut pause = SHORTEST_PAUSE;
    let mut told = false;
    loop {
        let began = Instant::now();
        match run(connector, instance, events).await {
            Ok(()) => {}
            Err(error) if told => tracing::debug!(%error, "no link to the origin: {error}"),
            Err(error) => tracing::warn!(%error, "no link to the origin: {error}"),
        }
        told = began.elapsed() < LASTING;
        if !told {
            pause = SHORTEST_PAUSE;
        }
        sleep(pause.mul_f64(0.5 + random_fraction())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A number from 0 to 1, so that edges do not come back in step.
fn random_fraction() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    let random = RandomState::new().hash_one(0);
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

/// One link, from the connection to its end.
async fn run(
    connector: &Connector,
    instance: &str,
    events: &Arc<dyn EdgeEvents>,
) -> Result<(), Error> {
    let too_late = |_| Error::disconnected("the origin did not answer in time".into());
    let stream = timeout(LINKED_WITHIN, connector())
        .await
        .map_err(too_late)??;
    let (reading, writing) = stream.compat().split();
    let out = Out::new(writing, Gate::new(usize::MAX));
    let network = twoparty::VatNetwork::new(
        BufReader::with_capacity(READ_BYTES, reading),
        Writer(out.clone()),
        Side::Client,
        reader_options(),
    );
    let mut rpc = RpcSystem::new(Box::new(network), None);
    let bootstrap: gateway::Client = rpc.bootstrap(Side::Server);
    tokio::select! {
        biased;
        linked = link_up(bootstrap, instance, events) => linked,
        ended = drive(&mut rpc, &out) => ended,
    }
}

/// Ends a link however its task ends: who waits is told.
struct Ends<'a> {
    shared: &'a LinkShared,
    events: &'a Arc<dyn EdgeEvents>,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.shared.up.close();
        self.shared.over.cancel();
        self.events.lost();
    }
}

async fn link_up(
    gateway: gateway::Client,
    instance: &str,
    events: &Arc<dyn EdgeEvents>,
) -> Result<(), Error> {
    let sinks = Rc::new(EdgeImpl {
        events: events.clone(),
        linked: Cell::new(false),
        early: std::cell::RefCell::default(),
    });
    let opening = async {
        let mut request = gateway.edge_request();
        request.get().set_version(VERSION);
        let answer = request.send().promise.await?;
        let origin: origin::Client = answer.get()?.get_origin().get_as_capability()?;
        let mut request = origin.open_request();
        request.get().set_instance(instance);
        request
            .get()
            .set_edge(capnp_rpc::new_client_from_rc(sinks.clone()));
        let answer = request.send().promise.await?;
        let answer = answer.get()?;
        let limits = convert::limits_of(answer.get_limits()?);
        Ok::<(link::Client, EdgeLimits), Error>((answer.get_link()?, limits))
    };
    let (link, limits) = timeout(LINKED_WITHIN, opening)
        .await
        .map_err(|_| Error::disconnected("the origin did not answer in time".into()))??;
    let (calls, mut called) = mpsc::channel(WAITING_CALLS);
    let shared = Arc::new(LinkShared {
        up: Queue::default(),
        calls,
        over: CancellationToken::new(),
    });
    events.linked(EdgeLink(shared.clone()), limits);
    let _ends = Ends {
        shared: &shared,
        events,
    };
    sinks.begin();
    let tasks = TaskTracker::new();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let calling = async {
        while let Some(call) = called.recv().await {
            let carried_out = carry_out(link.clone(), call);
            let stop = stop.clone();
            tasks.spawn_local(async move {
                tokio::select! {
                    () = carried_out => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    };
    tokio::select! {
        sent = send_up(&link, &shared.up) => sent,
        () = calling => Ok(()),
        () = shared.over.cancelled() => {
            Err(Error::disconnected("the origin did not answer any more".into()))
        }
    }
}

async fn send_up(link: &link::Client, up: &Queue<(SocketId, Up)>) -> Result<(), Error> {
    while let Some(items) = up.take().await {
        let mut rest = &items[..];
        while !rest.is_empty() {
            let (now, later) =
                rest.split_at(convert::batch(rest, |(_, item)| convert::up_bytes(item)));
            rest = later;
            let mut request = link.up_request();
            let mut list = request.get().init_items(now.len() as u32);
            for ((socket, item), at) in now.iter().zip(0..) {
                convert::fill_up(*socket, item, list.reborrow().get(at))?;
            }
            request.send().await?;
        }
    }
    Ok(())
}

async fn carry_out(link: link::Client, call: Call) {
    // Whoever asked may be gone.
    match call {
        Call::Http(request, answer) => drop(answer.send(told(http(&link, &request).await))),
        Call::Page(room, after, events, bytes, answer) => {
            drop(answer.send(told(page(&link, &room, after, events, bytes).await)));
        }
        Call::Heads(rooms, answer) => drop(answer.send(told(heads(&link, &rooms).await))),
    }
}

fn told<T>(answer: Result<T, Error>) -> Result<T, CallError> {
    answer.map_err(|error| match problem_of(&error) {
        Some(problem) => CallError::Refused(problem),
        None => {
            tracing::debug!(%error, "a call to the origin failed: {error}");
            CallError::Lost
        }
    })
}

async fn http(link: &link::Client, request: &HttpRequest) -> Result<HttpResponse, Error> {
    let (parts, rest) = mpsc::channel(WAITING_PARTS + 1);
    let broken = parts.clone().try_reserve_owned().ok();
    let mut call = link.http_request();
    convert::fill_request(request, call.get().init_request())?;
    let sink = BodyImpl {
        parts,
        broken: Cell::new(broken),
    };
    call.get().set_rest(capnp_rpc::new_client(sink));
    if let Some(more) = &request.more {
        let source = SourceImpl { more: more.clone() };
        call.get().set_body(capnp_rpc::new_client(source));
    }
    let answer = call.send().promise.await?;
    let (mut response, more) = convert::response_of(answer.get()?.get_response()?)?;
    response.rest = more.then_some(rest);
    Ok(response)
}

async fn page(
    link: &link::Client,
    room: &RoomId,
    after: Seq,
    events: usize,
    bytes: usize,
) -> Result<LogPage, Error> {
    let mut call = link.page_request();
    let mut params = call.get();
    params.set_room(room.as_str());
    params.set_after(after.0);
    let most = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    params.set_events(most(events));
    params.set_bytes(most(bytes));
    let answer = call.send().promise.await?;
    convert::page_of(answer.get()?.get_page()?)
}

async fn heads(link: &link::Client, rooms: &[RoomId]) -> Result<Vec<RoomHead>, Error> {
    let mut call = link.heads_request();
    let mut list = call.get().init_rooms(rooms.len() as u32);
    for (room, at) in rooms.iter().zip(0..) {
        list.set(at, room.as_str());
    }
    let answer = call.send().promise.await?;
    let heads = answer.get()?.get_heads()?;
    Ok(heads.iter().map(convert::head_of).collect())
}

/// The edge, as the origin sees it.
struct EdgeImpl {
    events: Arc<dyn EdgeEvents>,
    linked: Cell<bool>,
    /// What came before the link was known of here.
    early: std::cell::RefCell<Vec<(SocketId, super::Down)>>,
}

impl EdgeImpl {
    fn begin(&self) {
        self.linked.set(true);
        let early = self.early.take();
        if !early.is_empty() {
            self.events.down(early);
        }
    }

    fn take_in(&self, params: &edge::DownParams) -> Result<(), Error> {
        let items = params.get()?.get_items()?;
        let items = items.iter().map(convert::down_of);
        let items = items.collect::<Result<Vec<_>, Error>>()?;
        if self.linked.get() {
            self.events.down(items);
        } else {
            self.early.borrow_mut().extend(items);
        }
        Ok(())
    }
}

impl edge::Server for EdgeImpl {
    /// Taken in at once: calls are made in the order of the messages, futures may be polled in another.
    fn down(
        self: Rc<Self>,
        params: edge::DownParams,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        std::future::ready(self.take_in(&params))
    }
}

/// Gives the rest of a request's body.
struct SourceImpl {
    more: BodySource,
}

impl body_source::Server for SourceImpl {
    async fn next(
        self: Rc<Self>,
        _: body_source::NextParams,
        mut results: body_source::NextResults,
    ) -> Result<(), Error> {
        let gone = || Error::disconnected("the client has gone".into());
        let (place, part) = oneshot::channel();
        self.more.send(place).await.map_err(|_| gone())?;
        let mut results = results.get();
        match part.await.map_err(|_| gone())? {
            Some(Ok(part)) => results.set_bytes(&part),
            Some(Err(_)) => return Err(gone()),
            None => results.set_last(true),
        }
        Ok(())
    }
}

/// Takes the rest of an answer.
struct BodyImpl {
    parts: mpsc::Sender<Result<Bytes, Broken>>,
    /// A place for the word that it broke off, however much waits in front of it. Given up when it is complete.
    broken: Cell<Option<OwnedPermit<Result<Bytes, Broken>>>>,
}

impl body_sink::Server for BodyImpl {
    async fn chunk(self: Rc<Self>, params: body_sink::ChunkParams) -> Result<(), Error> {
        let part = Bytes::copy_from_slice(params.get()?.get_bytes()?);
        let sent = self.parts.send(Ok(part)).await;
        sent.map_err(|_| Error::disconnected("the client has gone".into()))
    }

    async fn done(
        self: Rc<Self>,
        _: body_sink::DoneParams,
        _: body_sink::DoneResults,
    ) -> Result<(), Error> {
        self.broken.take();
        Ok(())
    }
}

impl Drop for BodyImpl {
    fn drop(&mut self) {
        if let Some(broken) = self.broken.take() {
            broken.send(Err(Broken));
        }
    }
}
