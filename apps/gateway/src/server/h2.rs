//! Connections of HTTP/2: several requests at once, and WebSockets beside them (RFC 8441).
//!
//! A connection has one place; a WebSocket on it has another, and so has each request beside the first, so that places
//! bound what is held however clients spread their requests. What one connection can make the gateway hold is bounded
//! too: so many streams, a window for what it sends, each answer that it does not take, and each for so long. Streams
//! that are asked for and taken back in a flood end the connection.

use std::cell::Cell;
use std::convert::Infallible;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::ext::Protocol;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::pipe::pipe;
use super::places::{Beside, Place};
use super::watched::{STALLED_AFTER, STALLED_AFTER_DRAINING};
use super::wire::Wire;
use super::{HEADER_READ_TIMEOUT, MAX_BUFFER_BYTES, Service};
use crate::http::Peer;
use crate::lifecycle::Lifecycle;

/// Requests of one connection at once. A page has some dozen; RFC 9113 asks for a hundred.
const MAX_STREAMS: u32 = 100;

/// What a client may send before it is read: of one stream, as HTTP/2 begins with, and of all together.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;

/// Streams that the client has taken back and that are not looked at yet, and streams that the gateway has reset for
/// what was wrong with them. More of either is an attack (CVE-2023-44487, CVE-2025-8671), and ends the connection.
const MAX_RESET_STREAMS: usize = 20;
const MAX_FAULTY_STREAMS: usize = 64;

/// Compresses headers; both sides keep a table of this size.
const HEADER_TABLE_BYTES: u32 = 4096;

/// So often the client is asked whether it is still there, and has so long to answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that was told to end because nothing happened on it has so long for it.
const LAST_GRACE: Duration = Duration::from_secs(10);

/// What HTTP/2 is given of an answer at once: so much it may hold of one that is not taken, beside the answer itself.
const PIECE_BYTES: usize = 16 * 1024;

tokio::task_local! {
    /// How the answer on the stream of this task gets on.
    static PROGRESS: Arc<Progress>;
}

/// Stands in a request that opens a WebSocket on a stream.
#[derive(Clone)]
pub(crate) struct Extended {
    beside: Beside,
    lifecycle: Lifecycle,
}

/// Stands in a request that found no place.
#[derive(Clone, Copy)]
pub(crate) struct Crowded;

impl Extended {
    /// A place for the WebSocket, if there is one.
    pub(crate) fn place(&self) -> Option<Place> {
        self.beside.take()
    }

    /// The stream as a wire.
    pub(crate) fn into_wire(self, upgraded: Upgraded) -> Wire {
        let stopping = self.lifecycle.stopping.clone();
        let (pipe, moving) = pipe(TokioIo::new(upgraded), stopping);
        self.lifecycle.streams.spawn(moving);
        Wire::Shared(pipe)
    }
}

/// Serves a connection until the client leaves or does nothing for a while, or the gateway drains.
pub(super) async fn serve<S>(
    stream: S,
    peer: Peer,
    router: Service,
    beside: Beside,
    lifecycle: &Lifecycle,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let seats = Seats {
        first: Arc::default(),
        beside: beside.clone(),
    };
    let extended = Extended {
        beside,
        lifecycle: lifecycle.clone(),
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = like_http1(request.map(Body::new), peer, &extended);
        let seat = seats.take();
        if seat.is_none() {
            request.extensions_mut().insert(Crowded);
        }
        let router = router.clone();
        async move {
            let response = router.oneshot(request).await?;
            let progress = PROGRESS.try_with(Arc::clone).unwrap_or_default();
            Ok::<_, Infallible>(response.map(|body| Paced::new(body, progress, seat)))
        }
    });
    let streams = Streams {
        tasks: lifecycle.streams.clone(),
        draining: lifecycle.draining.clone(),
        stopping: lifecycle.stopping.clone(),
        open: Arc::default(),
    };
    let open = streams.open.clone();
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(MAX_FAULTY_STREAMS)
        .max_header_list_size(MAX_BUFFER_BYTES as u32)
        .header_table_size(HEADER_TABLE_BYTES)
        .max_send_buf_size(PIECE_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let was_idle = tokio::select! {
        served = connection.as_mut() => return ended(served),
        () = lifecycle.draining.cancelled() => false,
        () = open.idle(HEADER_READ_TIMEOUT) => true,
    };
    // What is asked for already is answered; nothing new is taken.
    connection.as_mut().graceful_shutdown();
    // A client may never acknowledge that it was told so. With nothing left to answer it is not waited for.
    let nothing_left = async {
        lifecycle.draining.cancelled().await;
        open.idle(STALLED_AFTER_DRAINING).await;
    };
    let out_of_time = async {
        tokio::select! {
            () = sleep(LAST_GRACE), if was_idle => {}
            () = nothing_left => {}
        }
    };
    tokio::select! {
        served = connection.as_mut() => ended(served),
        () = lifecycle.stopping.cancelled() => {}
        () = out_of_time => {}
    }
}

fn ended(served: hyper::Result<()>) {
    if let Err(error) = served {
        // Clients that go away, or do not keep to the protocol; nothing an operator can do.
        tracing::debug!(%error, "a connection of HTTP/2 ended early: {error}");
    }
}

/// A request as everything behind knows it: with a path for an address, a host among its headers, one line of cookies,
/// and a sign that a body comes.
fn like_http1(request: Request<Body>, peer: Peer, extended: &Extended) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(peer);
    if parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_some() {
        parts.extensions.insert(extended.clone());
    }
    let headers = &mut parts.headers;
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        headers.insert(header::HOST, host);
    }
    let cookies: Vec<_> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
    if !body.is_end_stream() && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    if let Some(path) = parts.uri.path_and_query() {
        parts.uri = Uri::from(path.clone());
    }
    Request::from_parts(parts, body)
}

/// Runs the streams of a connection, and counts them.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    draining: CancellationToken,
    stopping: CancellationToken,
    open: Arc<Open>,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let progress = Arc::new(Progress::default());
        let counted = Counted::new(self.open.clone());
        let (draining, stopping) = (self.draining.clone(), self.stopping.clone());
        self.tasks.spawn(async move {
            // Dropping a stream before its end resets it.
            tokio::select! {
                () = PROGRESS.scope(progress.clone(), stream) => {}
                () = progress.stalled(&draining) => {
                    tracing::debug!("a stream was given up: the client does not take what it asked for");
                }
                () = stopping.cancelled() => {}
            }
            drop(counted);
        });
    }
}

/// The places of a connection's requests: one at a time has that of the connection, each beside it one of its own.
struct Seats {
    first: Arc<AtomicBool>,
    beside: Beside,
}

/// The place of a request.
enum Seat {
    OfConnection(Arc<AtomicBool>),
    OfItsOwn { _place: Place },
}

impl Seats {
    fn take(&self) -> Option<Seat> {
        if self.first.swap(true, Ordering::AcqRel) {
            let _place = self.beside.take()?;
            return Some(Seat::OfItsOwn { _place });
        }
        Some(Seat::OfConnection(self.first.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Self::OfConnection(first) = self {
            first.store(false, Ordering::Release);
        }
    }
}

/// How many streams a connection has.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    changed: Notify,
}

impl Open {
    /// Ends when there has been no stream for so long.
    async fn idle(&self, time: Duration) {
        loop {
            if *self.count.lock() > 0 {
                self.changed.notified().await;
                continue;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep(time) => return,
            }
        }
    }
}

/// A stream that counts.
struct Counted(Arc<Open>);

impl Counted {
    fn new(open: Arc<Open>) -> Self {
        let mut count = open.count.lock();
        *count += 1;
        if *count == 1 {
            open.changed.notify_one();
        }
        drop(count);
        Self(open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut count = self.0.count.lock();
        *count -= 1;
        if *count == 0 {
            self.0.changed.notify_one();
        }
    }
}

/// Since when the client is waited for to take the piece of its answer that it was given last.
#[derive(Default)]
struct Progress {
    since: Mutex<Option<Instant>>,
    begun: Notify,
}

impl Progress {
    /// A piece was given out.
    fn given(&self) {
        let mut since = self.since.lock();
        if since.replace(Instant::now()).is_none() {
            self.begun.notify_one();
        }
    }

    /// It is not the client who is waited for.
    fn waiting(&self) {
        *self.since.lock() = None;
    }

    /// Ends when the client has not taken a piece for too long.
    async fn stalled(&self, draining: &CancellationToken) {
        let drained_at = Cell::new(None);
        loop {
            let Some(since) = *self.since.lock() else {
                self.begun.notified().await;
                continue;
            };
            let mut due = since + STALLED_AFTER;
            if let Some(drained_at) = drained_at.get() {
                due = due.min(since.max(drained_at) + STALLED_AFTER_DRAINING);
            }
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                () = draining.cancelled(), if drained_at.get().is_none() => {
                    drained_at.set(Some(Instant::now()));
                }
            }
        }
    }
}

/// An answer in pieces, which notes how it gets on.
///
/// Its last byte is a piece of its own. HTTP/2 takes a piece as soon as a byte of it may go out, and nobody watches the
/// stream any more when it has the last one: held back until then, that one is a byte, and not the end of an answer with
/// all of it behind. So the last byte of a piece waits for the next piece: nothing here sends now and then.
struct Paced {
    body: Body,
    /// What is left of a frame. Its last byte waits for what comes behind it.
    rest: Bytes,
    /// What comes behind it.
    behind: Option<Behind>,
    progress: Arc<Progress>,
    _seat: Option<Seat>,
}

/// A frame, or the end.
type Behind = Option<Result<Frame<Bytes>, axum::Error>>;

impl Paced {
    /// The client is waited for from the first piece on: none is asked for before it takes one.
    fn new(body: Body, progress: Arc<Progress>, seat: Option<Seat>) -> Self {
        progress.given();
        Self {
            body,
            rest: Bytes::new(),
            behind: None,
            progress,
            _seat: seat,
        }
    }

    fn give(&self, piece: Bytes) -> Poll<Behind> {
        self.progress.given();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Behind> {
        let this = &mut *self;
        loop {
            if this.rest.len() > 1 {
                let most = (this.rest.len() - 1).min(PIECE_BYTES);
                let piece = this.rest.split_to(most);
                return this.give(piece);
            }
            let behind = match this.behind.take() {
                Some(behind) => behind,
                None => {
                    this.progress.waiting();
                    match Pin::new(&mut this.body).poll_frame(cx) {
                        Poll::Ready(behind) => behind,
                        Poll::Pending => return Poll::Pending,
                    }
                }
            };
            let last = mem::take(&mut this.rest);
            match behind.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() => {
                    this.rest = last;
                    continue;
                }
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(trailers))) => this.behind = Some(Some(Ok(trailers))),
                Some(Err(error)) => this.behind = Some(Some(Err(error))),
                None => this.behind = Some(None),
            }
            if !last.is_empty() {
                // Copied, since it would hold all that it was part of.
                return this.give(Bytes::copy_from_slice(&last));
            }
            if let Some(behind) = this.behind.take() {
                return Poll::Ready(behind);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_last = match &self.behind {
            Some(behind) => behind.is_none(),
            None => self.body.is_end_stream(),
        };
        self.rest.is_empty() && is_last
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(hint.lower() + rest);
        hint
    }
}
