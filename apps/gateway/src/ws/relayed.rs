//! A socket whose client is connected to an edge: the origin's end of it. Its connection is an actor like every other; what
//! it reads comes up the link, what it writes goes down, and the events of its subscriptions are handed out by the edge.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use parking_lot::Mutex;
use stack_delivery::{Relay, Sink};
use stack_ipc::edge::{Begin, Down, Downs, Ending, SocketId, Up};
use stack_types::RoomId;
use tungstenite::Message;
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::protocol::CloseFrame;

/// What is on its way to a client at most before nothing more is taken: far above what a connection lets wait for its
/// answers, so that only what may be lost ever meets it.
const MAX_ON_ITS_WAY: usize = 2 * 1024 * 1024;

/// A socket at an edge. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Relayed(Arc<Inner>);

struct Inner {
    id: SocketId,
    down: Downs,
    inbox: Mutex<Inbox>,
    /// Bytes that went down and have not gone to the client yet.
    on_their_way: AtomicUsize,
    /// There is no client any more: nobody takes what is written.
    gone: AtomicBool,
    writer: Mutex<Option<Waker>>,
    /// The origin goes on without it: what ends now does not end for the client.
    let_go: AtomicBool,
}

#[derive(Default)]
struct Inbox {
    come: VecDeque<Message>,
    ended: Option<Ending>,
    reader: Option<Waker>,
}

impl Relayed {
    /// The socket that the edge calls `id`.
    pub(crate) fn new(id: SocketId, down: Downs) -> Self {
        Self(Arc::new(Inner {
            id,
            down,
            inbox: Mutex::default(),
            on_their_way: AtomicUsize::new(0),
            gone: AtomicBool::new(false),
            writer: Mutex::default(),
            let_go: AtomicBool::new(false),
        }))
    }

    /// Takes in what came up the link for it.
    pub(crate) fn take_in(&self, item: Up) {
        match item {
            Up::Text(text) => self.come(Message::Text(text.into())),
            Up::Binary(bytes) => self.come(Message::Binary(bytes)),
            Up::Ping => self.come(Message::Ping(Bytes::new())),
            Up::Pong => self.come(Message::Pong(Bytes::new())),
            Up::Ended(ending) => self.end(ending),
            Up::Took(bytes) => self.took(bytes as usize),
            // The link makes a socket of it.
            Up::Reattach(_) => {}
        }
    }

    fn come(&self, message: Message) {
        let mut inbox = self.0.inbox.lock();
        inbox.come.push_back(message);
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&self, ending: Ending) {
        {
            let mut inbox = self.0.inbox.lock();
            inbox.ended.get_or_insert(ending);
            if let Some(reader) = inbox.reader.take() {
                reader.wake();
            }
        }
        if ending == Ending::Gone {
            // Nobody takes anything any more, and nobody will say so: what is written from here on must not hold up the
            // reader, who finds the end.
            self.0.gone.store(true, Ordering::Release);
            self.wake_writer();
        }
    }

    fn took(&self, bytes: usize) {
        let before =
            self.0
                .on_their_way
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |on_their_way| {
                    Some(on_their_way.saturating_sub(bytes))
                });
        if before.is_ok_and(|before| before <= bytes) {
            self.wake_writer();
        }
    }

    fn wake_writer(&self) {
        if let Some(writer) = self.0.writer.lock().take() {
            writer.wake();
        }
    }

    /// The next message.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let mut inbox = self.0.inbox.lock();
        if let Some(message) = inbox.come.pop_front() {
            drop(inbox);
            self.0.down.push((self.0.id, Down::Took(1)));
            return Poll::Ready(Ok(message));
        }
        if let Some(ending) = inbox.ended {
            // Told once; behind it there is only the end.
            inbox.ended = Some(Ending::Gone);
            return Poll::Ready(Err(error_of(ending)));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Closes the client's socket, behind everything written.
    pub(super) fn close(&self, frame: &CloseFrame) -> Result<(), Error> {
        let close = Down::Close {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        };
        if self.0.down.push((self.0.id, close)) {
            Ok(())
        } else {
            Err(Error::ConnectionClosed)
        }
    }

    /// Tells the edge what this socket shows when it attaches again.
    pub(super) fn stands(&self, standing: Vec<u8>) {
        let standing = Down::Standing(standing.into());
        self.0.down.push((self.0.id, standing));
    }

    /// From here on nothing more is told of subscriptions that end.
    pub(super) fn let_go(&self) {
        self.0.let_go.store(true, Ordering::Release);
    }

    /// Begins a subscription at the edge.
    pub(super) fn begin(&self, begin: Begin) {
        self.0.down.push((self.0.id, Down::Begin(begin)));
    }

    /// Tells the edge that a subscription is over which it still has.
    pub(super) fn tell_end(&self, room: RoomId, last: Bytes) {
        let last = Some(last);
        self.0.down.push((self.0.id, Down::End { room, last }));
    }
}

/// A socket at an edge, and what it holds there for as long as it is served.
pub(crate) struct Arrival {
    pub(crate) socket: Relayed,
    pub(crate) place: Box<dyn Send>,
}

/// A request that stands for an upgrade at an edge carries this: taken, the socket is served.
#[derive(Clone)]
pub(crate) struct Arriving(Arc<Mutex<Option<Arrival>>>);

impl Arriving {
    pub(crate) fn new(arrival: Arrival) -> Self {
        Self(Arc::new(Mutex::new(Some(arrival))))
    }

    pub(super) fn take(&self) -> Option<Arrival> {
        self.0.lock().take()
    }
}

/// What the library would have said, had it read the socket here.
fn error_of(ending: Ending) -> Error {
    match ending {
        Ending::Gone => Error::ConnectionClosed,
        Ending::TooLong => Error::Capacity(CapacityError::MessageTooLong {
            size: 0,
            max_size: 0,
        }),
        Ending::NotUtf8 => Error::Utf8(String::new()),
        Ending::NotWebSocket => Error::Protocol(ProtocolError::HandshakeIncomplete),
    }
}

impl Sink for Relayed {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.gone.load(Ordering::Acquire) {
            return Ok(bytes.len());
        }
        if self.0.on_their_way.load(Ordering::Acquire) >= MAX_ON_ITS_WAY {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // All of it or nothing: what is written at once is whole frames, and the edge writes between them.
        self.0.on_their_way.fetch_add(bytes.len(), Ordering::AcqRel);
        let frames = Bytes::copy_from_slice(bytes);
        if !self.0.down.push((self.0.id, Down::Write(frames))) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(bytes.len())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.0.writer.lock();
        if self.backlog() == 0 {
            return Poll::Ready(Ok(()));
        }
        *writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn backlog(&self) -> usize {
        if self.0.gone.load(Ordering::Acquire) {
            return 0;
        }
        self.0.on_their_way.load(Ordering::Acquire)
    }
}

impl Relay for Relayed {
    fn end(&self, room: &RoomId, last: Option<Bytes>) {
        if self.0.let_go.load(Ordering::Acquire) {
            return;
        }
        let room = room.clone();
        self.0.down.push((self.0.id, Down::End { room, last }));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;
    use stack_delivery::Outlet;

    use super::*;

    #[test]
    fn a_client_that_has_gone_holds_up_nobody() {
        let relayed = Relayed::new(7, Downs::default());
        let outlet = Outlet::relayed(relayed.clone(), relayed.clone());
        relayed.take_in(Up::Text("{}".into()));
        let long = Bytes::from(vec![0; MAX_ON_ITS_WAY]);
        outlet.send(long.clone());
        outlet.send(long.clone());
        assert!(outlet.pending_bytes() > MAX_ON_ITS_WAY);
        relayed.take_in(Up::Ended(Ending::Gone));
        assert!(outlet.flushed().now_or_never().unwrap().is_ok());
        // What it had asked for is answered all the same.
        outlet.send(long);
        assert_eq!(outlet.pending_bytes(), 0);
        let next = || poll_fn(|cx| relayed.poll_next(cx)).now_or_never();
        assert!(matches!(next(), Some(Ok(Message::Text(_)))));
        assert!(matches!(next(), Some(Err(Error::ConnectionClosed))));
    }
}
