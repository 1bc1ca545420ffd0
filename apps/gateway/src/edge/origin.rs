//! The origin's end of links: requests of clients at edges go through the same router as all others, their sockets are
//! served by the same connections.
//!
//! Always holds: an instance of an edge has one link; a new one is begun only when the sockets of the old one are gone. So
//! a socket that attaches again never meets itself, and counts once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use stack_ipc::edge::{
    BodySource, Broken, Down, Downs, EdgeLimits, Ending, HttpRequest, HttpResponse, Link, LogPage,
    Origin, RoomHead, SocketId, Up,
};
use stack_ipc::service::Answer;
use stack_storage::PageLimit;
use stack_types::{ErrorCode, Frames, FramesBuilder, Problem, RoomId, Seq};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tower::ServiceExt as _;

use crate::app::AppState;
use crate::http::Peer;
use crate::ws::{self, Arrival, Arriving, Relayed};

/// An edge asks every second where its rooms stand. One that was silent for so long is gone, and its clients with it.
const SILENT_FOR: Duration = Duration::from_secs(15);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// The sockets of an old link have so long to end before a new one begins.
const OLD_ENDS_WITHIN: Duration = Duration::from_secs(3);
/// So much of an answer goes with its head.
const TOGETHER_BYTES: usize = 64 * 1024;
/// Parts of an answer that wait for the edge.
const WAITING_PARTS: usize = 4;

/// What edges see of this gateway. Cloning shares it.
#[derive(Clone)]
pub(crate) struct EdgeOrigin(Arc<Inner>);

struct Inner {
    app: AppState,
    router: Router,
    runtime: Handle,
    links: Mutex<HashMap<String, Arc<LinkState>>>,
}

impl EdgeOrigin {
    /// To be called in the runtime that serves requests.
    pub(crate) fn new(app: AppState, router: Router) -> Self {
        Self(Arc::new(Inner {
            app,
            router,
            runtime: Handle::current(),
            links: Mutex::default(),
        }))
    }

    async fn begin(
        self,
        instance: String,
        down: Downs,
    ) -> Result<(Arc<dyn Link>, EdgeLimits), Problem> {
        let app = &self.0.app;
        if app.is_draining() {
            return Err(Problem::new(
                ErrorCode::Unavailable,
                "the gateway is going down",
            ));
        }
        let state = Arc::new(LinkState {
            down,
            over: CancellationToken::new(),
            heard: Mutex::new(Instant::now()),
            sockets: Mutex::default(),
            held: TaskTracker::new(),
        });
        let old = self.0.links.lock().insert(instance.clone(), state.clone());
        if let Some(old) = old {
            old.end();
            if timeout(OLD_ENDS_WITHIN, old.gone()).await.is_err() {
                tracing::warn!("sockets of an edge's old link are still there");
            }
        }
        tracing::info!(instance, "an edge is linked: {instance}");
        app.lifecycle()
            .serving
            .spawn(watch(app.clone(), state.clone()));
        let (config, limits) = (app.config(), app.limits());
        let limits = EdgeLimits {
            frame_bytes: limits.frame_bytes,
            http_body_bytes: limits.http_body_bytes,
            http_timeout: config.http.timeout,
        };
        let link = OriginLink {
            origin: self.clone(),
            instance,
            state,
        };
        Ok((Arc::new(link), limits))
    }
}

impl Origin for EdgeOrigin {
    fn open(&self, instance: String, down: Downs) -> Answer<(Arc<dyn Link>, EdgeLimits)> {
        self.on_runtime(self.clone().begin(instance, down))
    }
}

impl EdgeOrigin {
    /// Runs something where requests are served: links have a thread of their own that must not be held up.
    fn on_runtime<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Problem>> {
        let (answer, answered) = oneshot::channel();
        let work = async move {
            // Whoever asked may be gone.
            let _ = answer.send(work.await);
        };
        let lifecycle = self.0.app.lifecycle();
        lifecycle.connections.spawn_on(work, &self.0.runtime);
        let gone = |_| Problem::new(ErrorCode::Unavailable, "the gateway is going down");
        answered.map(move |answer| answer.map_err(gone)?).boxed()
    }
}

/// A link, and its sockets.
struct LinkState {
    down: Downs,
    over: CancellationToken,
    heard: Mutex<Instant>,
    sockets: Mutex<HashMap<SocketId, Relayed>>,
    /// Sockets and requests that are served.
    held: TaskTracker,
}

impl LinkState {
    fn hears(&self) {
        *self.heard.lock() = Instant::now();
    }

    /// Ends the link and its sockets.
    fn end(&self) {
        self.over.cancel();
        self.down.close();
        for socket in self.sockets.lock().values() {
            socket.end(Ending::Gone);
        }
    }

    /// Waits until nothing of it is served any more.
    async fn gone(&self) {
        self.held.close();
        self.held.wait().await;
    }

    /// A new socket, until what is given with it is dropped. `None` when the link is over.
    fn arrive(self: &Arc<Self>, id: SocketId) -> Option<Arrival> {
        let socket = Relayed::new(id, self.down.clone());
        let mut sockets = self.sockets.lock();
        if self.over.is_cancelled() {
            return None;
        }
        sockets.insert(id, socket.clone());
        let place = Held {
            link: self.clone(),
            id,
            _token: self.held.token(),
        };
        Some(Arrival {
            socket,
            place: Box::new(place),
        })
    }
}

/// A socket's place on its link.
struct Held {
    link: Arc<LinkState>,
    id: SocketId,
    _token: TaskTrackerToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody else tells the edge, and nobody would end what the client hears there.
            let close = Down::Close {
                code: 4500,
                reason: "internal error".to_owned(),
            };
            self.link.down.push((self.id, close));
        }
        self.link.sockets.lock().remove(&self.id);
    }
}

/// Ends a link whose edge is silent; when the gateway goes down, once its sockets have been told what they are owed.
async fn watch(app: AppState, state: Arc<LinkState>) {
    let lifecycle = app.lifecycle();
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            () = state.over.cancelled() => return,
            () = lifecycle.stopping.cancelled() => return state.end(),
            () = lifecycle.draining.cancelled() => break,
            _ = looks.tick() => {
                let silent = state.heard.lock().elapsed();
                if silent > SILENT_FOR {
                    tracing::warn!("an edge says nothing any more, its link ends");
                    return state.end();
                }
            }
        }
    }
    tokio::select! {
        () = state.gone() => state.down.finish(),
        () = lifecycle.stopping.cancelled() => {}
        () = state.over.cancelled() => {}
    }
    state.over.cancel();
}

struct OriginLink {
    origin: EdgeOrigin,
    instance: String,
    state: Arc<LinkState>,
}

impl Drop for OriginLink {
    fn drop(&mut self) {
        self.state.end();
        let mut links = self.origin.0.links.lock();
        if links
            .get(&self.instance)
            .is_some_and(|link| Arc::ptr_eq(link, &self.state))
        {
            links.remove(&self.instance);
            tracing::info!(
                instance = self.instance,
                "an edge's link is over: {}",
                self.instance
            );
        }
    }
}

impl Link for OriginLink {
    fn up(&self, items: Vec<(SocketId, Up)>) {
        self.state.hears();
        for (id, item) in items {
            if let Up::Reattach(reattach) = item {
                if let Some(arrived) = self.state.arrive(id) {
                    let origin = &self.origin.0;
                    ws::reattach(&origin.app, &origin.runtime, arrived, reattach);
                }
                continue;
            }
            let socket = self.state.sockets.lock().get(&id).cloned();
            // One that is not there any more has been closed, which is on its way down.
            if let Some(socket) = socket {
                socket.take_in(item);
            }
        }
    }

    fn http(&self, request: HttpRequest) -> Answer<HttpResponse> {
        let (origin, state) = (self.origin.clone(), self.state.clone());
        let (answer, answered) = oneshot::channel();
        let work = async move {
            let _held = state.held.token();
            serve(&origin.0.router, &state, request, answer).await;
        };
        let lifecycle = self.origin.0.app.lifecycle();
        lifecycle.connections.spawn_on(work, &self.origin.0.runtime);
        let gone = |_| Problem::new(ErrorCode::Unavailable, "the gateway is going down");
        answered.map(move |answer| answer.map_err(gone)?).boxed()
    }

    fn page(&self, room: RoomId, after: Seq, events: usize, bytes: usize) -> Answer<LogPage> {
        let app = self.origin.0.app.clone();
        self.origin.on_runtime(async move {
            let gone = LogPage {
                from: after.next(),
                frames: nothing(),
                at: RoomHead {
                    gone: true,
                    ..RoomHead::default()
                },
            };
            let Some(found) = app.store().room(&room)? else {
                return Ok(gone);
            };
            let limit = PageLimit { events, bytes };
            // Before the page: an edge keeps it as one that has all up to there.
            let head = found.head();
            let page = app.store().page_after(&found, after, limit).await?;
            Ok(LogPage {
                from: page.first(),
                frames: page.frames().clone(),
                at: RoomHead {
                    head,
                    first: found.first(),
                    gone: found.is_deleted(),
                },
            })
        })
    }

    fn heads(&self, rooms: Vec<RoomId>) -> Answer<Vec<RoomHead>> {
        self.state.hears();
        let app = self.origin.0.app.clone();
        self.origin.on_runtime(async move {
            let head = |room: &RoomId| {
                let found = app.store().room(room)?;
                let gone = RoomHead {
                    gone: true,
                    ..RoomHead::default()
                };
                Ok(found.map_or(gone, |found| RoomHead {
                    head: found.head(),
                    first: found.first(),
                    gone: found.is_deleted(),
                }))
            };
            rooms.iter().map(head).collect()
        })
    }
}

fn nothing() -> Frames {
    FramesBuilder::default().finish()
}

type Answering = oneshot::Sender<Result<HttpResponse, Problem>>;

/// Serves a request as one of a client that is connected here.
async fn serve(router: &Router, link: &Arc<LinkState>, request: HttpRequest, answer: Answering) {
    let request = match request_of(link, request) {
        Ok(request) => request,
        Err(problem) => {
            let _ = answer.send(Err(problem));
            return;
        }
    };
    let response = match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    let (parts, mut body) = response.into_parts();
    let mut response = HttpResponse {
        status: parts.status.as_u16(),
        headers: parts
            .headers
            .iter()
            .map(|(name, value)| {
                let value = Bytes::copy_from_slice(value.as_bytes());
                (name.as_str().to_owned(), value)
            })
            .collect(),
        body: Bytes::new(),
        rest: None,
    };
    let mut beginning = Vec::new();
    let mut broken = false;
    let mut is_whole = false;
    while !is_whole && !broken && beginning.len() < TOGETHER_BYTES {
        match next_part(&mut body).await {
            Some(Ok(part)) => beginning.extend_from_slice(&part),
            Some(Err(_)) => broken = true,
            None => is_whole = true,
        }
    }
    response.body = beginning.into();
    if is_whole {
        let _ = answer.send(Ok(response));
        return;
    }
    let (parts, rest) = mpsc::channel(WAITING_PARTS);
    response.rest = Some(rest);
    if answer.send(Ok(response)).is_err() {
        return;
    }
    if broken {
        let _ = parts.send(Err(Broken)).await;
        return;
    }
    while let Some(part) = next_part(&mut body).await {
        // A client that has gone needs no more of it.
        if parts.send(part.map_err(|_| Broken)).await.is_err() {
            return;
        }
    }
}

async fn next_part(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                // What is no data are trailers, which nothing here has.
                if let Ok(part) = frame.into_data() {
                    return Some(Ok(part));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "an answer broke off: {error}");
                return Some(Err(error));
            }
        }
    }
}

/// A request's body: its beginning, and what comes when it is asked for.
fn body_of(beginning: Bytes, more: Option<BodySource>) -> Body {
    let Some(more) = more else {
        return Body::from(beginning);
    };
    let first = (!beginning.is_empty()).then_some(Ok(beginning));
    let parts = stream::unfold((first, more), |(first, more)| async move {
        let part = match first {
            Some(part) => Some(part),
            None => {
                let (place, part) = oneshot::channel();
                let asked = more.send(place).await;
                match asked {
                    Ok(()) => part.await.unwrap_or(Some(Err(Broken))),
                    Err(_) => Some(Err(Broken)),
                }
            }
        };
        part.map(|part| (part, (None, more)))
    });
    Body::from_stream(parts)
}

fn request_of(link: &Arc<LinkState>, request: HttpRequest) -> Result<Request<Body>, Problem> {
    let malformed = || Problem::new(ErrorCode::BadRequest, "an edge sent no request");
    let mut made = Request::builder()
        .method(request.method.as_bytes())
        .uri(&request.target)
        .body(body_of(request.body, request.more))
        .map_err(|_| malformed())?;
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_maybe_shared(value.clone()).map_err(|_| malformed())?;
        made.headers_mut().append(name, value);
    }
    made.extensions_mut().insert(Peer(request.peer));
    if let Some(socket) = request.socket {
        let gone = || Problem::new(ErrorCode::Unavailable, "the link is over");
        let arrival = link.arrive(socket).ok_or_else(gone)?;
        made.extensions_mut().insert(Arriving::new(arrival));
    }
    Ok(made)
}
