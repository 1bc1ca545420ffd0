//! A connection's bytes.
//!
//! The RPC library keeps queues without a bound and flushes after every message. Here it is held back from both: nothing
//! is read while too many calls are under way or while the peer does not take what is written, and what was written
//! during one turn of a connection's task goes out in one piece at its end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use capnp_rpc::RpcSystem;
use capnp_rpc::rpc_twoparty_capnp::Side;
use futures_util::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What is collected before it is written, at most.
const BUFFER_BYTES: usize = 64 * 1024;
/// What a connection ends with in which a call panicked.
pub(crate) const PANICKED: &str = "a call panicked";
/// The library has so long to notice that its peer has gone.
const NOTICES_WITHIN: Duration = Duration::from_secs(1);
/// While more than this is on its way to a peer, nothing long is made ready for it.
const MOST_OWED: usize = 512 * 1024;
/// After so many reads without a pause the others on the thread have a turn.
const READS_AT_ONCE: u32 = 64;

/// Whether a connection may be read.
pub(crate) struct Gate {
    /// Calls under way.
    calls: Cell<usize>,
    most_calls: usize,
    /// The peer does not take what is written.
    blocked: Cell<bool>,
    /// Bytes of long answers and events that may not be written yet, about.
    owed: Cell<usize>,
    /// Writing has failed: there is no peer any more.
    dead: Cell<bool>,
    /// Bytes that were read and not asked for yet.
    read: Cell<usize>,
    reader: RefCell<Option<Waker>>,
    /// Told when the peer takes bytes again, and when the last call has ended.
    news: Notify,
}

impl Gate {
    pub(crate) fn new(most_calls: usize) -> Rc<Self> {
        Rc::new(Self {
            calls: Cell::new(0),
            most_calls,
            blocked: Cell::new(false),
            owed: Cell::new(0),
            dead: Cell::new(false),
            read: Cell::new(0),
            reader: RefCell::default(),
            news: Notify::new(),
        })
    }

    /// A call begins. It ends when this is dropped.
    pub(crate) fn enter(self: &Rc<Self>) -> Call {
        self.calls.set(self.calls.get() + 1);
        Call(self.clone())
    }

    /// Waits until the peer takes what is written, and not much waits for it. To be called in front of what is long.
    pub(crate) async fn writable(&self) {
        while self.blocked.get() || self.owed.get() >= MOST_OWED {
            self.news.notified().await;
        }
    }

    /// So many bytes are on their way to the peer.
    pub(crate) fn owe(&self, bytes: usize) {
        self.owed.set(self.owed.get() + bytes);
    }

    /// How many bytes were read since this was asked before.
    pub(crate) fn take_read(&self) -> usize {
        self.read.take()
    }

    /// Everything that was on its way is written.
    fn settled(&self) {
        if self.owed.replace(0) >= MOST_OWED {
            self.told();
        }
    }

    /// Waits until no call is under way.
    pub(crate) async fn idle(&self) {
        while self.calls.get() > 0 {
            self.news.notified().await;
        }
    }

    /// Lets the library see that there is no peer any more, by what it reads: only so does it end everything that
    /// waits for the peer, and let go of what the peer holds.
    fn die(&self) {
        self.dead.set(true);
        self.blocked.set(false);
        self.owed.set(0);
        self.told();
    }

    async fn died(&self) {
        while !self.dead.get() {
            self.news.notified().await;
        }
    }

    fn is_open(&self) -> bool {
        self.calls.get() < self.most_calls && !self.blocked.get()
    }

    fn set_blocked(&self, blocked: bool) {
        if self.blocked.replace(blocked) && !blocked {
            self.told();
        }
    }

    fn told(&self) {
        self.news.notify_waiters();
        if let Some(reader) = self.reader.borrow_mut().take() {
            reader.wake();
        }
    }
}

/// A call under way.
pub(crate) struct Call(Rc<Gate>);

impl Drop for Call {
    fn drop(&mut self) {
        let left = self.0.calls.get() - 1;
        self.0.calls.set(left);
        if left == 0 || left + 1 == self.0.most_calls {
            self.0.told();
        }
    }
}

/// Reads while the gate is open.
pub(crate) struct GatedReader<R> {
    inner: R,
    gate: Rc<Gate>,
    reads: u32,
}

impl<R> GatedReader<R> {
    pub(crate) fn new(inner: R, gate: Rc<Gate>) -> Self {
        Self {
            inner,
            gate,
            reads: 0,
        }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for GatedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.gate.dead.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !self.gate.is_open() {
            *self.gate.reader.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.reads += 1;
        if self.reads > READS_AT_ONCE {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        match &read {
            Poll::Pending => self.reads = 0,
            Poll::Ready(Ok(bytes)) => self.gate.read.set(self.gate.read.get() + bytes),
            Poll::Ready(Err(_)) => {}
        }
        read
    }
}

/// What waits to be written. The library writes into it, the connection's task passes it on.
pub(crate) struct Out<W> {
    inner: W,
    bytes: Vec<u8>,
    /// So many of them are written.
    written: usize,
    /// Who waits for room. The socket itself wakes the connection's task alone.
    writer: Option<Waker>,
    gate: Rc<Gate>,
}

impl<W: AsyncWrite + Unpin> Out<W> {
    pub(crate) fn new(inner: W, gate: Rc<Gate>) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            inner,
            bytes: Vec::new(),
            written: 0,
            writer: None,
            gate,
        }))
    }

    /// Writes what waits. A failure shows in what is read.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.written < self.bytes.len() && !self.gate.dead.get() {
            let rest = &self.bytes[self.written..];
            match Pin::new(&mut self.inner).poll_write(cx, rest) {
                Poll::Ready(Ok(more)) if more > 0 => self.written += more,
                Poll::Ready(_) => self.gate.die(),
                Poll::Pending => {
                    self.gate.set_blocked(true);
                    return Poll::Pending;
                }
            }
        }
        self.written = 0;
        self.bytes.clear();
        self.gate.set_blocked(false);
        match self.writer.take() {
            Some(writer) => writer.wake(),
            None => self.gate.settled(),
        }
        Poll::Ready(())
    }

    /// Waits until everything is written.
    fn poll_empty(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.bytes.is_empty() {
            return Poll::Ready(());
        }
        self.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// The library's end of an [`Out`].
pub(crate) struct Writer<W>(pub(crate) Rc<RefCell<Out<W>>>);

impl<W: AsyncWrite + Unpin> AsyncWrite for Writer<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut out = self.0.borrow_mut();
        if out.gate.dead.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if out.bytes.len() >= BUFFER_BYTES {
            ready!(out.poll_empty(cx));
        }
        let taken = buf.len().min(BUFFER_BYTES);
        out.bytes.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    /// Ready at once: what was written goes out at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut out = self.0.borrow_mut();
        ready!(out.poll_empty(cx));
        Pin::new(&mut out.inner).poll_close(cx)
    }
}

/// Runs a connection until it ends, and writes what it says. A call that panics ends with [`PANICKED`], and the
/// connection can be run on until it is ended in order.
pub(crate) async fn drive<W: AsyncWrite + Unpin>(
    rpc: &mut RpcSystem<Side>,
    out: &Rc<RefCell<Out<W>>>,
) -> Result<(), capnp::Error> {
    let mut rpc = pin!(rpc);
    let gate = out.borrow().gate.clone();
    let run = poll_fn(|cx| {
        let turn = catch_unwind(AssertUnwindSafe(|| rpc.as_mut().poll(cx)));
        let turn =
            turn.unwrap_or_else(|_| Poll::Ready(Err(capnp::Error::failed(PANICKED.to_owned()))));
        // When it is not ready the task is woken by the socket.
        let _ = out.borrow_mut().poll_drain(cx);
        turn
    });
    let lost = async {
        gate.died().await;
        sleep(NOTICES_WITHIN).await;
    };
    tokio::select! {
        ended = run => ended?,
        () = lost => return Err(capnp::Error::disconnected("the peer has gone".to_owned())),
    }
    poll_fn(|cx| out.borrow_mut().poll_drain(cx)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::AsyncReadExt as _;
    use futures_util::io::Cursor;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn nothing_is_read_while_too_many_calls_are_under_way() {
        let gate = Gate::new(2);
        let mut reader = GatedReader::new(Cursor::new(vec![1, 2, 3]), gate.clone());
        let mut byte = [0];
        let first = gate.enter();
        assert_eq!(reader.read(&mut byte).await.unwrap(), 1);
        let second = gate.enter();
        let read = timeout(Duration::from_millis(20), reader.read(&mut byte)).await;
        assert!(read.is_err(), "read with the gate closed");
        drop(first);
        assert_eq!(reader.read(&mut byte).await.unwrap(), 1);
        drop(second);
        timeout(Duration::from_secs(5), gate.idle()).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_to_read_is_woken_by_the_end_of_a_call() {
        let gate = Gate::new(1);
        let call = gate.enter();
        let mut reader = GatedReader::new(Cursor::new(vec![7]), gate);
        let mut byte = [0];
        let (read, ()) = tokio::join!(reader.read(&mut byte), async { drop(call) });
        assert_eq!((read.unwrap(), byte), (1, [7]));
    }
}
