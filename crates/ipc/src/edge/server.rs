//! The origin's end: what stands behind `Gateway.edge`, and connections of edges that come by another way than the local
//! socket.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use capnp::Error;
use capnp::message::ReaderOptions;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::AsyncReadExt as _;
use futures_util::io::BufReader;
use stack_proto::edge_capnp::{body_sink, body_source, edge, link, origin};
use stack_proto::gateway_capnp::gateway;
use stack_types::{ErrorCode, Problem};
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_util::compat::TokioAsyncReadCompatExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Downs, Link, Origin, Stream, VERSION, convert};
use crate::refusal::exception;
use crate::wire::{Call, Gate, Out, Writer, drive};

/// What is read from a connection at once.
const READ_BYTES: usize = 64 * 1024;
/// The longest message, in bytes: a batch of items with the longest one in it.
pub(super) const MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Connections that have not been taken in yet.
const WAITING: usize = 64;
/// What is on its way has so long to go out when a connection ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How messages of the other end are read.
pub(super) fn reader_options() -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(MESSAGE_BYTES / 8))
        .nesting_limit(16);
    options
}

/// What an edge gets to begin with.
pub(crate) struct OriginImpl {
    origin: Arc<dyn Origin>,
    /// Where the connection stays open for as long as somebody holds a call.
    gate: Option<Rc<Gate>>,
    tasks: TaskTracker,
}

impl OriginImpl {
    pub(crate) fn client(
        origin: Arc<dyn Origin>,
        version: u32,
        gate: Option<Rc<Gate>>,
        tasks: TaskTracker,
    ) -> Result<origin::Client, Problem> {
        if version != VERSION {
            let detail = format!("this gateway speaks version {VERSION} to its edges");
            return Err(Problem::new(ErrorCode::Conflict, detail));
        }
        Ok(capnp_rpc::new_client(Self {
            origin,
            gate,
            tasks,
        }))
    }
}

impl origin::Server for OriginImpl {
    async fn open(
        self: Rc<Self>,
        params: origin::OpenParams,
        mut results: origin::OpenResults,
    ) -> Result<(), Error> {
        let (instance, edge) = {
            let params = params.get()?;
            (params.get_instance()?.to_string()?, params.get_edge()?)
        };
        let down = Downs::default();
        let opened = self.origin.open(instance, down.clone()).await;
        let (link, limits) = opened.map_err(|problem| exception(&problem))?;
        let call = self.gate.as_ref().map(Gate::enter);
        let sending = CancellationToken::new();
        let sent = send_down(edge, down.clone(), call);
        let stop = sending.clone();
        self.tasks.spawn_local(async move {
            tokio::select! {
                () = sent => {}
                () = stop.cancelled() => {}
            }
        });
        let link = LinkImpl {
            link,
            down,
            tasks: self.tasks.clone(),
            _sending: sending.drop_guard(),
        };
        let mut results = results.get();
        results.set_link(capnp_rpc::new_client(link));
        convert::fill_limits(&limits, results.init_limits());
        Ok(())
    }
}

/// Sends what goes down until the link is over. The connection stays for as long as this has a call.
async fn send_down(edge: edge::Client, down: Downs, call: Option<Call>) {
    while let Some(items) = down.take().await {
        let mut rest = &items[..];
        while !rest.is_empty() {
            let (now, later) =
                rest.split_at(convert::batch(rest, |(_, item)| convert::down_bytes(item)));
            rest = later;
            let mut request = edge.down_request();
            let mut list = request.get().init_items(now.len() as u32);
            for ((socket, item), at) in now.iter().zip(0..) {
                convert::fill_down(*socket, item, list.reborrow().get(at));
            }
            if let Err(error) = request.send().await {
                tracing::debug!(%error, "a link to an edge broke: {error}");
                down.close();
                return;
            }
        }
    }
    down.close();
    drop(call);
}

/// The origin's end of a link.
struct LinkImpl {
    link: Arc<dyn Link>,
    down: Downs,
    tasks: TaskTracker,
    _sending: DropGuard,
}

impl Drop for LinkImpl {
    fn drop(&mut self) {
        self.down.close();
    }
}

impl LinkImpl {
    fn check(&self) -> Result<(), Error> {
        if self.down.is_closed() {
            return Err(Error::disconnected("this link is over".into()));
        }
        Ok(())
    }

    fn take_in(&self, params: &link::UpParams) -> Result<(), Error> {
        self.check()?;
        let items = params.get()?.get_items()?;
        let items = items.iter().map(convert::up_of);
        self.link.up(items.collect::<Result<_, Error>>()?);
        Ok(())
    }
}

impl link::Server for LinkImpl {
    /// Taken in at once: calls are made in the order of the messages, futures may be polled in another.
    fn up(
        self: Rc<Self>,
        params: link::UpParams,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        std::future::ready(self.take_in(&params))
    }

    async fn http(
        self: Rc<Self>,
        params: link::HttpParams,
        mut results: link::HttpResults,
    ) -> Result<(), Error> {
        self.check()?;
        let params = params.get()?;
        let mut request = convert::request_of(params.get_request()?)?;
        if params.get_request()?.get_more() {
            let (more, asked) = mpsc::channel(1);
            request.more = Some(more);
            self.tasks
                .spawn_local(fetch_rest(params.get_body()?, asked));
        }
        let sink = params.get_rest()?;
        let response = self.link.http(request).await;
        let mut response = response.map_err(|problem| exception(&problem))?;
        convert::fill_response(&response, results.get().init_response())?;
        if let Some(rest) = response.rest.take() {
            self.tasks.spawn_local(async move {
                // Dropping the sink without a word is what tells that the answer broke off.
                if let Err(error) = send_rest(rest, sink).await {
                    tracing::debug!(%error, "an answer broke off: {error}");
                }
            });
        }
        Ok(())
    }

    async fn page(
        self: Rc<Self>,
        params: link::PageParams,
        mut results: link::PageResults,
    ) -> Result<(), Error> {
        self.check()?;
        let params = params.get()?;
        let room = convert::room_of(params.get_room()?)?;
        let (events, bytes) = (params.get_events() as usize, params.get_bytes() as usize);
        let after = stack_types::Seq(params.get_after());
        let page = self.link.page(room, after, events, bytes).await;
        let page = page.map_err(|problem| exception(&problem))?;
        convert::fill_page(&page, results.get().init_page())
    }

    async fn heads(
        self: Rc<Self>,
        params: link::HeadsParams,
        mut results: link::HeadsResults,
    ) -> Result<(), Error> {
        self.check()?;
        let rooms = params.get()?.get_rooms()?;
        let rooms = rooms.iter().map(|room| convert::room_of(room?));
        let heads = self.link.heads(rooms.collect::<Result<_, Error>>()?).await;
        let heads = heads.map_err(|problem| exception(&problem))?;
        let mut list = results.get().init_heads(heads.len() as u32);
        for (head, at) in heads.iter().zip(0..) {
            convert::fill_head(head, list.reborrow().get(at));
        }
        Ok(())
    }
}

/// Fetches the rest of a request's body as it is asked for.
async fn fetch_rest(source: body_source::Client, mut asked: Asked) {
    let mut is_last = false;
    while let Some(asked) = asked.recv().await {
        if is_last {
            let _ = asked.send(None);
            continue;
        }
        let part = async {
            let answer = source.next_request().send().promise.await?;
            let answer = answer.get()?;
            let part = bytes::Bytes::copy_from_slice(answer.get_bytes()?);
            Ok::<_, Error>((part, answer.get_last()))
        };
        let part = part.await.map(|(part, last)| {
            is_last = last;
            part
        });
        // Whoever asked may be gone.
        let _ = asked.send(Some(part.map_err(|_| super::Broken)));
    }
}

type Asked = mpsc::Receiver<oneshot::Sender<Option<Result<bytes::Bytes, super::Broken>>>>;

type Rest = mpsc::Receiver<Result<bytes::Bytes, super::Broken>>;

async fn send_rest(mut rest: Rest, sink: body_sink::Client) -> Result<(), Error> {
    while let Some(chunk) = rest.recv().await {
        let chunk = chunk.map_err(|broken| Error::failed(broken.to_string()))?;
        for part in chunk.chunks(convert::BATCH_BYTES) {
            let mut request = sink.chunk_request();
            request.get().set_bytes(part);
            request.send().await?;
        }
    }
    sink.done_request().send().promise.await?;
    Ok(())
}

/// What is told of a capability for edges alone.
struct ForEdges {
    origin: Arc<dyn Origin>,
    gate: Rc<Gate>,
    tasks: TaskTracker,
}

impl gateway::Server for ForEdges {
    async fn edge(
        self: Rc<Self>,
        params: gateway::EdgeParams,
        mut results: gateway::EdgeResults,
    ) -> Result<(), Error> {
        let version = params.get()?.get_version();
        let gate = Some(self.gate.clone());
        let origin = OriginImpl::client(self.origin.clone(), version, gate, self.tasks.clone())
            .map_err(|problem| exception(&problem))?;
        let mut client = results.get().init_origin();
        client.set_as_capability(origin.client.hook);
        Ok(())
    }
}

/// The thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread of edges")]
pub struct EdgeServerError(#[from] std::io::Error);

/// Serves connections of edges that somebody else has accepted, and has found out who they are. Cloning shares it.
#[derive(Debug, Clone)]
pub struct EdgeServer {
    streams: mpsc::Sender<Box<dyn Stream>>,
}

impl std::fmt::Debug for dyn Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl EdgeServer {
    /// Starts the server's thread. `draining` ends connections when their links are over, `stopping` at once. What comes
    /// with it ends when every connection has.
    ///
    /// # Errors
    /// There can be no more threads.
    pub fn start(
        origin: Arc<dyn Origin>,
        draining: CancellationToken,
        stopping: CancellationToken,
    ) -> Result<(Self, impl Future<Output = ()> + Send + use<>), EdgeServerError> {
        let (streams, mut come) = mpsc::channel::<Box<dyn Stream>>(WAITING);
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        std::thread::Builder::new()
            .name("edges".into())
            .spawn(move || {
                let tasks = TaskTracker::new();
                let serve = async {
                    loop {
                        let stream = tokio::select! {
                            () = draining.cancelled() => break,
                            () = stopping.cancelled() => break,
                            stream = come.recv() => stream,
                        };
                        let Some(stream) = stream else { break };
                        tasks.spawn_local(serve(
                            stream,
                            origin.clone(),
                            draining.clone(),
                            stopping.clone(),
                        ));
                    }
                    tasks.close();
                    tokio::select! {
                        () = tasks.wait() => {}
                        () = stopping.cancelled() => {}
                    }
                };
                LocalSet::new().block_on(&runtime, serve);
                runtime.shutdown_background();
                let _ = end.send(());
            })?;
        let ended = async move {
            // Dropped without a word it has ended too.
            let _ = ended.await;
        };
        Ok((Self { streams }, ended))
    }

    /// Serves a connection. While many wait to be served it is dropped.
    pub fn take(&self, stream: impl Stream) {
        if self.streams.try_send(Box::new(stream)).is_err() {
            tracing::warn!("a connection of an edge was not served: too many wait");
        }
    }
}

async fn serve(
    stream: Box<dyn Stream>,
    origin: Arc<dyn Origin>,
    draining: CancellationToken,
    stopping: CancellationToken,
) {
    let (reading, writing) = stream.compat().split();
    let gate = Gate::new(usize::MAX);
    let out = Out::new(writing, gate.clone());
    let network = twoparty::VatNetwork::new(
        BufReader::with_capacity(READ_BYTES, reading),
        Writer(out.clone()),
        Side::Server,
        reader_options(),
    );
    let tasks = TaskTracker::new();
    let bootstrap: gateway::Client = capnp_rpc::new_client(ForEdges {
        origin,
        gate: gate.clone(),
        tasks,
    });
    let mut rpc = RpcSystem::new(Box::new(network), Some(bootstrap.client));
    let disconnector = rpc.get_disconnector();
    let drained = async {
        draining.cancelled().await;
        gate.idle().await;
    };
    let ended = tokio::select! {
        ended = drive(&mut rpc, &out) => Some(ended),
        () = drained => None,
        () = stopping.cancelled() => return,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%error, "a connection of an edge broke: {error}"),
        None => {
            let last = async { tokio::join!(drive(&mut rpc, &out), disconnector) };
            let _ = timeout(LAST_WORDS, last).await;
        }
    }
}
