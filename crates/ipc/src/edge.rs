//! The two ends of an edge, in plain types: the traits that the origin and the edge implement, and what passes between
//! them. What the order of it means is written down in `docs/adr/0009-edges.md`.
//!
//! Both directions are lists of items, in order; each call carries what has come together while the last one was on its
//! way.

mod client;
mod convert;
mod server;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use stack_types::{Frames, RoomId, Seq};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, oneshot};

pub use client::{CallError, Connecting, Connector, EdgeClient, EdgeClientError, EdgeLink, local};
pub(crate) use server::OriginImpl;
pub use server::{EdgeServer, EdgeServerError};

use crate::service::Answer;

/// The version of what passes here. Ends of different versions do not talk.
pub const VERSION: u32 = 1;

/// A connection's bytes, whatever they travel on.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// A client's socket at an edge. An edge never gives one twice.
pub type SocketId = u64;

/// What a client does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Bytes),
    /// A ping, which the edge has answered.
    Ping,
    /// A pong: the client is there.
    Pong,
    /// Nothing more comes.
    Ended(Ending),
    /// So many bytes of what was written have gone to the client.
    Took(u32),
    /// The socket was there when the last link ended.
    Reattach(Reattach),
}

/// Why nothing more comes from a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It has closed the socket, or the socket is broken.
    Gone,
    /// A message over the limit.
    TooLong,
    /// Text that is not UTF-8.
    NotUtf8,
    /// It does not keep to the protocol of WebSockets.
    NotWebSocket,
}

/// A socket that takes up where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reattach {
    /// What the origin said it should show; empty before it has signed in.
    pub standing: Bytes,
    /// The sub-protocol it speaks.
    pub subprotocol: Option<String>,
    /// The rooms it reads, and the last event of each that it was given.
    pub rooms: Vec<(RoomId, Seq)>,
    /// The client's address.
    pub peer: IpAddr,
}

/// What the origin does with a client's socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// Whole frames, to be written.
    Write(Bytes),
    /// A subscription begins; an older one to the room ends with it.
    Begin(Begin),
    /// A subscription is over.
    End {
        /// To which room.
        room: RoomId,
        /// What the client is told.
        last: Option<Bytes>,
    },
    /// So many of its messages have been taken in.
    Took(u32),
    /// The socket has signed in, and shows this when it attaches again.
    Standing(Bytes),
    /// The socket is to be closed, behind everything written.
    Close {
        /// The WebSocket's code.
        code: u16,
        /// For people.
        reason: String,
    },
}

/// The beginning of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// To which room.
    pub room: RoomId,
    /// The first event is the one behind it.
    pub after: Seq,
    /// Whether the client said so. If not, what it has been given already counts, if that is more.
    pub exact: bool,
    /// The answer to the request, in front of the events; empty when none was wanted.
    pub answer: Bytes,
    /// Behind the answer: what cannot be had. Mostly empty.
    pub gap: Bytes,
    /// Where the room stood then.
    pub at: RoomHead,
}

/// Where a room stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomHead {
    /// Its last event.
    pub head: Seq,
    /// The first event that is still there.
    pub first: Seq,
    /// There is no such room, or no more.
    pub gone: bool,
}

/// Events of a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// The number of the first.
    pub from: Seq,
    /// The events.
    pub frames: Frames,
    /// Where the room stood then.
    pub at: RoomHead,
}

/// What an edge keeps by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeLimits {
    /// The longest message of a client.
    pub frame_bytes: usize,
    /// The longest body of a request.
    pub http_body_bytes: usize,
    /// How long a request may take.
    pub http_timeout: Duration,
}

/// A client's request.
#[derive(Debug)]
pub struct HttpRequest {
    /// Where it comes from, as the edge sees it.
    pub peer: SocketAddr,
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Its headers, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The beginning of its body.
    pub body: Bytes,
    /// The rest of its body, if that is still to come.
    pub more: Option<BodySource>,
    /// What its socket is called, if it asks for one.
    pub socket: Option<SocketId>,
}

/// The answer to a client's request.
#[derive(Debug)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Its headers, in order.
    pub headers: Vec<(String, Bytes)>,
    /// The beginning of the body.
    pub body: Bytes,
    /// The rest of the body, if there is one.
    pub rest: Option<mpsc::Receiver<Result<Bytes, Broken>>>,
}

/// Asked for the next part of a body, by a place to put it: `None` behind the last.
pub type BodySource = mpsc::Sender<oneshot::Sender<Option<Result<Bytes, Broken>>>>;

/// The rest of a body does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct Broken;

/// The origin, as edges see it. Called on a thread that must not be held up.
pub trait Origin: Send + Sync + 'static {
    /// Begins a link. A link of the same instance is ended first, with all of its sockets.
    fn open(&self, instance: String, down: Downs) -> Answer<(Arc<dyn Link>, EdgeLimits)>;
}

/// The origin's end of a link. Dropping it ends the link and its sockets.
pub trait Link: Send + Sync + 'static {
    /// What clients do, in order.
    fn up(&self, items: Vec<(SocketId, Up)>);

    /// Serves a request as if its client were connected here.
    fn http(&self, request: HttpRequest) -> Answer<HttpResponse>;

    /// Events of a room behind `after`, at most so many and about so many bytes of them.
    fn page(&self, room: RoomId, after: Seq, events: usize, bytes: usize) -> Answer<LogPage>;

    /// Where rooms stand now, in the order asked for.
    fn heads(&self, rooms: Vec<RoomId>) -> Answer<Vec<RoomHead>>;
}

/// What goes down a link.
pub type Downs = Arc<Queue<(SocketId, Down)>>;

/// The edge, as its link sees it: called on the link's thread, in order; it must be quick.
pub trait EdgeEvents: Send + Sync + 'static {
    /// There is a link.
    fn linked(&self, link: EdgeLink, limits: EdgeLimits);

    /// What the origin does with sockets, in order.
    fn down(&self, items: Vec<(SocketId, Down)>);

    /// The link is over. Another one is being looked for.
    fn lost(&self);
}

/// What waits to be sent. It has no bound of its own: what a socket may have in it is bounded by what the other end has
/// said that it took.
pub struct Queue<T> {
    state: Mutex<QueueState<T>>,
    news: Notify,
}

struct QueueState<T> {
    waiting: Vec<T>,
    over: Over,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    No,
    /// Once what waits is sent.
    Soon,
    Now,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(QueueState {
                waiting: Vec::new(),
                over: Over::No,
            }),
            news: Notify::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Adds an item; `false` when the link is over.
    pub fn push(&self, item: T) -> bool {
        let mut state = self.state.lock();
        if state.over != Over::No {
            return false;
        }
        state.waiting.push(item);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.news.notify_one();
        }
        true
    }

    /// Ends the link once what waits is sent.
    pub fn finish(&self) {
        self.end(Over::Soon);
    }

    /// Ends the link. What waits is dropped.
    pub fn close(&self) {
        self.end(Over::Now);
    }

    /// Whether the link is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.lock().over == Over::Now
    }

    fn end(&self, over: Over) {
        let mut state = self.state.lock();
        if over == Over::Now {
            state.waiting = Vec::new();
        }
        if state.over != Over::Now {
            state.over = over;
        }
        drop(state);
        self.news.notify_one();
    }

    /// All that waits, at least one; `None` at the end. Cancel safe. For one task.
    pub(crate) async fn take(&self) -> Option<Vec<T>> {
        loop {
            {
                let mut state = self.state.lock();
                if !state.waiting.is_empty() {
                    return Some(std::mem::take(&mut state.waiting));
                }
                if state.over != Over::No {
                    return None;
                }
            }
            self.news.notified().await;
        }
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
