//! A client's socket at an edge: it speaks the WebSocket's protocol, hands out events, and passes on the rest.
//!
//! Always holds: events go out only while the origin knows of the socket. When the link is lost every subscription stops at
//! the event it has reached, and goes on behind it once the origin has let it in again; in between nobody is told anything
//! that they may not hear any more.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use stack_delivery::{Outlet, Pumped, RemoteRoom, Room, RoomHead, Subscription};
use stack_ipc::edge::{Begin, Down, EdgeLink, Ending, Reattach, Up};
use stack_proto::{Incoming, Request, error};
use stack_types::{ErrorCode, Problem, RoomId, Seq, UserId};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep_until, timeout};
use tungstenite::error::{CapacityError, Error};
use tungstenite::{Message, Utf8Bytes};

use super::answers::{answered, with_head};
use super::closing::close;
use super::connection::{CLOSE_WITHIN, End, MAX_PENDING_BYTES, drain, frame_of, next_unless_full};
use super::dialect::{ClientFrame, Dialect};
use super::heartbeat::Heartbeat;
use super::ingress::Egress;
use super::requests::frame;
use super::socket::Socket;
use super::translated::Translated;
use crate::edge::{Entered, News, Node};
use crate::server::Wire;

/// Messages and bytes of one client that the origin has not taken in yet, at most. More are read when it has.
const MAX_UNTAKEN: usize = 64;
const MAX_UNTAKEN_BYTES: usize = 256 * 1024;
/// Requests of one client that are not answered, at most: more than a connection lets be under way. Of those before them
/// the client is not told when the link is lost.
const MAX_ASKED: usize = 1024;
/// What was written counts as gone to the client when so little waits here.
const LITTLE_BYTES: usize = 16 * 1024;
/// Clients are told so when the origin is away: it comes back within seconds.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a socket at an edge begins with.
pub(crate) struct Opened {
    pub(crate) entered: Entered,
    pub(crate) link: EdgeLink,
    /// What was chosen at the origin.
    pub(crate) subprotocol: Option<String>,
    /// Whether the upgrade said who it is. Without the origin nobody can say that again.
    pub(crate) has_credentials: bool,
    /// The client's address.
    pub(crate) ip: IpAddr,
    /// The longest message.
    pub(crate) frame_bytes: usize,
}

/// The refusal of what needs the origin while that is away.
pub(crate) fn away() -> Problem {
    let mut problem = Problem::new(
        ErrorCode::Unavailable,
        "the gateway cannot be reached from here right now",
    );
    problem.retry_after = Some(RETRY_AFTER);
    problem
}

/// Serves a socket until it ends.
pub(crate) async fn serve(node: Node, wire: Wire, read_ahead: Bytes, opened: Opened) {
    let wire = Arc::new(wire);
    let dialect = super::dialect::named(opened.subprotocol.as_deref());
    let egress = Egress::new(wire.clone());
    let outlet = match dialect {
        Dialect::Json => Outlet::new(egress),
        Dialect::Capnp => Outlet::new(Translated::new(egress)),
    };
    let mut socket = Socket::new(
        wire.clone(),
        outlet.clone(),
        read_ahead,
        opened.frame_bytes,
        dialect,
    );
    let stopping = node.lifecycle().stopping.clone();
    // Who it is the origin knows; its lines have the id of the same request.
    let number = opened.entered.id();
    let mut client = Client::new(node, outlet.clone(), opened);
    let end = tokio::select! {
        end = client.run(&mut socket) => end,
        () = stopping.cancelled() => End::Close(1001, "the server is going down".into()),
    };
    match &end {
        End::Close(code, reason) => {
            tracing::debug!(socket = number, code, %reason, "socket closed: {code}, {reason}");
        }
        End::Gone => tracing::debug!(socket = number, "socket gone"),
    }
    if let End::Close(code, reason) = end {
        let closing = close(&mut socket, &outlet, &wire, code, reason);
        let _ = timeout(CLOSE_WITHIN, closing).await;
    }
    outlet.close();
    wire.say_end();
}

/// A subscription of the client.
enum Reading {
    /// It is given events.
    On(Arc<Subscription>),
    /// It waits for the origin, behind this event.
    Held(Seq),
}

struct Client {
    node: Node,
    outlet: Arc<Outlet>,
    entered: Entered,
    link: Option<EdgeLink>,
    subprotocol: Option<String>,
    has_credentials: bool,
    ip: IpAddr,
    /// What it shows when it attaches again.
    standing: Bytes,
    rooms: HashMap<RoomId, Reading>,
    /// Requests that the origin has not answered.
    asked: VecDeque<u64>,
    /// How long the messages are that the origin has not taken in.
    untaken: VecDeque<usize>,
    untaken_bytes: usize,
    /// What came down to be written, and is not yet said to have gone to the client.
    unsaid: usize,
    /// Nothing more is read; this is how it ends if the origin does not say.
    ended: Option<End>,
    heartbeat: Heartbeat,
    draining: bool,
}

impl Client {
    fn new(node: Node, outlet: Arc<Outlet>, opened: Opened) -> Self {
        Self {
            node,
            outlet,
            entered: opened.entered,
            link: Some(opened.link),
            subprotocol: opened.subprotocol,
            has_credentials: opened.has_credentials,
            ip: opened.ip,
            standing: Bytes::new(),
            rooms: HashMap::new(),
            asked: VecDeque::new(),
            untaken: VecDeque::new(),
            untaken_bytes: 0,
            unsaid: 0,
            ended: None,
            heartbeat: Heartbeat::new(Instant::now()),
            draining: false,
        }
    }

    /// The loop. What the origin says comes before what the client wants, as in a connection there.
    async fn run(&mut self, socket: &mut Socket) -> End {
        let node = self.node.clone();
        let outlet = self.outlet.clone();
        let inbox = self.entered.inbox();
        let draining = node.lifecycle().draining.clone();
        let mut pump = std::pin::pin!(node.hub().pump(&outlet));
        let mut due = std::pin::pin!(sleep_until(self.heartbeat.due));
        loop {
            if self.draining && self.asked.is_empty() {
                return End::Close(1001, "the server is going down".into());
            }
            if due.deadline() != self.heartbeat.due {
                due.as_mut().reset(self.heartbeat.due);
            }
            let (takes_more, owes_word) = (self.takes_more(), self.unsaid > 0);
            tokio::select! {
                biased;
                () = draining.cancelled(), if !self.draining => {
                    // Its close frame follows when what it has asked for is answered.
                    drain(&outlet);
                    self.draining = true;
                }
                news = inbox.recv() => {
                    for news in news {
                        if let Some(end) = self.hear(news) {
                            return end;
                        }
                    }
                }
                () = due.as_mut() => {
                    if let Some(end) = self.on_time(socket) {
                        return end;
                    }
                }
                pumped = pump.as_mut() => match pumped {
                    Ok(Pumped::Closed) => return End::Gone,
                    Ok(Pumped::Ended(_)) => pump.set(node.hub().pump(&outlet)),
                    Err(source) => {
                        tracing::error!(error = &source as &dyn std::error::Error, "the log cannot be read");
                        return End::Close(4500, "internal error".into());
                    }
                },
                // Behind the pump, which is what lets it get on.
                () = has_little(&outlet), if owes_word => self.say_taken(),
                message = next_unless_full(socket, &outlet), if takes_more => {
                    self.heartbeat.heard(Instant::now());
                    if let Some(end) = self.message(message, socket.dialect()) {
                        return end;
                    }
                    consume_budget().await;
                }
            }
        }
    }

    fn takes_more(&self) -> bool {
        self.ended.is_none()
            && !self.draining
            && self.untaken.len() < MAX_UNTAKEN
            && self.untaken_bytes < MAX_UNTAKEN_BYTES
    }

    /// Tells the origin what the client does. Without a link it is not told.
    fn tell(&self, item: Up) {
        if let Some(link) = &self.link {
            link.up(self.entered.id(), item);
        }
    }

    fn on_time(&mut self, socket: &mut Socket) -> Option<End> {
        let now = Instant::now();
        if now >= self.heartbeat.due {
            if !self.heartbeat.is_alive(now, self.outlet.written_bytes()) {
                return Some(End::Gone);
            }
            socket.ping();
            self.heartbeat.pinged(now, self.outlet.written_bytes());
        }
        None
    }

    /// What the origin is told has gone to the client, so that it sends more.
    fn say_taken(&mut self) {
        let taken = std::mem::take(&mut self.unsaid);
        self.tell(Up::Took(u32::try_from(taken).unwrap_or(u32::MAX)));
    }

    /// Takes in what the client sends.
    fn message(&mut self, message: Result<Message, Error>, dialect: Dialect) -> Option<End> {
        if self.link.is_none() {
            return self.refuse(message, dialect);
        }
        let (item, len) = match message {
            Ok(Message::Text(text)) => {
                // There is no answer to `typing`.
                let said = Incoming::parse(&text).ok();
                let asks = said.filter(|said| said.kind != "typing");
                self.asks(asks.and_then(|said| said.id));
                let len = text.len();
                (Up::Text(text.as_str().to_owned()), len)
            }
            Ok(Message::Binary(bytes)) => {
                let said = ClientFrame::Capnp(bytes.clone()).read().ok();
                let asks =
                    said.filter(|(_, request)| !matches!(request, Ok(Request::Typing { .. })));
                self.asks(asks.and_then(|(id, _)| id));
                let len = bytes.len();
                (Up::Binary(bytes), len)
            }
            Ok(Message::Ping(_)) => (Up::Ping, 0),
            Ok(Message::Pong(_)) => (Up::Pong, 0),
            Ok(_) => return None,
            Err(error) => return self.broken(error, dialect),
        };
        self.untaken.push_back(len);
        self.untaken_bytes += len;
        self.tell(item);
        None
    }

    /// Notes a request that the origin will answer.
    fn asks(&mut self, id: Option<u64>) {
        self.asked.extend(id);
        if self.asked.len() > MAX_ASKED {
            self.asked.pop_front();
        }
    }

    /// Nothing more can be read. Why that ends the socket is the origin's to say.
    fn broken(&mut self, error: Error, dialect: Dialect) -> Option<End> {
        let ending = match &error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Ending::TooLong,
            Error::Utf8(_) => Ending::NotUtf8,
            Error::Protocol(_) => Ending::NotWebSocket,
            _ => return Some(End::Gone),
        };
        self.tell(Up::Ended(ending));
        self.ended = frame_of(Err(error), dialect).err();
        None
    }

    /// Answers for the origin while that is away.
    fn refuse(&mut self, message: Result<Message, Error>, dialect: Dialect) -> Option<End> {
        let said = match frame_of(message, dialect) {
            Ok(Some(said)) => said,
            Ok(None) => return None,
            Err(end) => return Some(end),
        };
        match said.read() {
            Ok((id, _)) => {
                self.outlet.send(frame(&error_frame(id)));
                None
            }
            Err(malformed) => {
                let problem = Problem::new(ErrorCode::BadRequest, malformed);
                self.outlet.send(frame(&error(None, &problem)));
                Some(End::Close(4000, "malformed frame".into()))
            }
        }
    }

    /// Takes in what the link brings.
    fn hear(&mut self, news: News) -> Option<End> {
        match news {
            News::Down(item) => return self.obey(item),
            News::Linked(link) => self.linked(link),
            News::Lost => return self.lost(),
        }
        None
    }

    fn obey(&mut self, item: Down) -> Option<End> {
        match item {
            Down::Write(frames) => {
                self.unsaid += frames.len();
                self.write(frames);
                if self.outlet.pending_bytes() <= LITTLE_BYTES {
                    self.say_taken();
                }
            }
            Down::Begin(begin) => self.begin(begin),
            Down::End { room, last } => {
                if let Some(Reading::On(subscription)) = self.rooms.remove(&room) {
                    self.node.hub().take(&subscription);
                }
                if let Some(last) = last {
                    self.outlet.send(last);
                }
            }
            Down::Took(count) => {
                for _ in 0..count {
                    self.untaken_bytes -= self.untaken.pop_front().unwrap_or(0);
                }
            }
            Down::Standing(standing) => self.standing = standing,
            Down::Close { code, reason } => {
                return Some(End::Close(code, Utf8Bytes::from(reason)));
            }
        }
        None
    }

    /// Writes frames, and notes what they answer.
    fn write(&mut self, frames: Bytes) {
        for id in answered(&frames) {
            if let Some(at) = self.asked.iter().position(|asked| *asked == id) {
                self.asked.remove(at);
            }
        }
        self.outlet.send(frames);
    }

    fn begin(&mut self, begin: Begin) {
        let hub = self.node.hub();
        // What the client has of it already: the events may have been quicker than the answer.
        let had = match self.rooms.remove(&begin.room) {
            Some(Reading::On(subscription)) => hub.take(&subscription),
            Some(Reading::Held(cursor)) => Some(cursor),
            None => None,
        };
        let (mut after, mut answer) = (begin.after, begin.answer);
        if let Some(had) = had {
            if had > begin.at.head {
                tracing::debug!(room = %begin.room, "the events were quicker than the answer");
                answer = with_head(&answer, had);
            }
            if !begin.exact {
                after = after.max(had);
            }
        }
        if !answer.is_empty() {
            self.write(answer);
        }
        if !begin.gap.is_empty() {
            self.outlet.send(begin.gap);
        }
        let hub = self.node.hub();
        let at = RoomHead {
            head: begin.at.head,
            first: begin.at.first,
            gone: begin.at.gone,
        };
        let known = hub.room_of(&begin.room);
        let is_new = known.is_none();
        let room = match known {
            Some(Room::Remote(room)) => room,
            _ => RemoteRoom::new(begin.room.clone(), at),
        };
        room.learn(at);
        let subscription = hub.subscribe(&self.outlet, &room, reader(), after);
        hub.begin(&subscription);
        if is_new {
            // What came between the answer and now was for nobody here.
            self.node.look_at(begin.room.clone());
        }
        self.rooms.insert(begin.room, Reading::On(subscription));
    }

    fn linked(&mut self, link: EdgeLink) {
        let held = self
            .rooms
            .iter()
            .filter_map(|(room, reading)| match reading {
                Reading::Held(cursor) => Some((room.clone(), *cursor)),
                Reading::On(_) => None,
            });
        let reattach = Reattach {
            standing: self.standing.clone(),
            subprotocol: self.subprotocol.clone(),
            rooms: held.collect(),
            peer: self.ip,
        };
        self.link = Some(link);
        self.tell(Up::Reattach(reattach));
    }

    fn lost(&mut self) -> Option<End> {
        self.link = None;
        self.untaken.clear();
        self.untaken_bytes = 0;
        self.unsaid = 0;
        let hub = self.node.hub();
        self.rooms.retain(|_, reading| {
            if let Reading::On(subscription) = reading {
                let Some(cursor) = hub.take(subscription) else {
                    return false;
                };
                *reading = Reading::Held(cursor);
            }
            true
        });
        for id in self.asked.drain(..) {
            self.outlet.send(frame(&error_frame(Some(id))));
        }
        if let Some(end) = self.ended.take() {
            return Some(end);
        }
        if self.standing.is_empty() && self.has_credentials {
            // The origin never said who it is, and what the upgrade showed may be good only once.
            return Some(End::Close(1001, "the server is going down".into()));
        }
        None
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for reading in self.rooms.values() {
            if let Reading::On(subscription) = reading {
                self.node.hub().unsubscribe(subscription, None);
            }
        }
    }
}

fn error_frame(id: Option<u64>) -> Vec<u8> {
    error(id, &away())
}

/// Ends when little waits in an outlet. That is looked at whenever the connection is woken, as by its pump.
async fn has_little(outlet: &Outlet) {
    poll_fn(|_| {
        if outlet.pending_bytes() <= LITTLE_BYTES {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// Whose subscriptions here are: the origin alone knows, and ends them.
fn reader() -> UserId {
    static READER: std::sync::LazyLock<UserId> =
        std::sync::LazyLock::new(|| "edge".parse().expect("it is an id"));
    *READER
}

const _: () = assert!(LITTLE_BYTES < MAX_PENDING_BYTES);
