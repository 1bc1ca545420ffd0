//! A connection that is given up when its client does not take what is written to it.
//!
//! hyper waits for a write without an end, and holds the rest of the answer meanwhile. What is a client's affair on a
//! WebSocket, whose reader costs a cursor, is memory here: so a write has to get on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::CancellationToken;

use super::places::Place;

/// How long a write may take to get on by [`PROGRESS_BYTES`]. As long as for the head of a request: the worst mobile
/// connection is silent for some seconds, not for half a minute.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(30);

/// The same while the gateway goes down: whoever takes nothing for so long shall not hold all others up.
pub(super) const STALLED_AFTER_DRAINING: Duration = Duration::from_secs(2);

/// What counts as getting on. Less, and a byte now and then would keep an answer for ever; this is half a KiB a second,
/// which a modem did.
const PROGRESS_BYTES: usize = 16 * 1024;

/// A stream whose writes fail with [`io::ErrorKind::TimedOut`] when they do not get on. It holds its place among the
/// open connections.
pub(super) struct Watched<S> {
    stream: S,
    place: Place,
    draining: CancellationToken,
    /// Called before a write is failed.
    give_up: fn(&S),
    stall: Option<Stall>,
}

/// A write that had to wait, and has not got on since.
struct Stall {
    given_up: Pin<Box<Sleep>>,
    written: usize,
    draining: bool,
}

impl<S> Watched<S> {
    pub(super) fn new(
        stream: S,
        place: Place,
        draining: CancellationToken,
        give_up: fn(&S),
    ) -> Self {
        Self {
            stream,
            place,
            draining,
            give_up,
            stall: None,
        }
    }

    /// The stream, watched no more, and its place.
    pub(super) fn into_parts(self) -> (S, Place) {
        (self.stream, self.place)
    }

    /// Looks at how a write went. The drain is not waited for here: whoever polls the connection does so when it
    /// begins.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        outcome: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &outcome
            && let Some(stall) = &mut self.stall
        {
            stall.written += written;
            if stall.written >= PROGRESS_BYTES {
                self.stall = None;
            }
        }
        if outcome.is_ready() {
            return outcome;
        }
        let stall = self.stall.get_or_insert_with(|| Stall {
            given_up: Box::pin(sleep(STALLED_AFTER)),
            written: 0,
            draining: false,
        });
        if !stall.draining && self.draining.is_cancelled() {
            stall.draining = true;
            let soon = Instant::now() + STALLED_AFTER_DRAINING;
            let at = stall.given_up.deadline().min(soon);
            stall.given_up.as_mut().reset(at);
        }
        ready!(stall.given_up.as_mut().poll(cx));
        (self.give_up)(&self.stream);
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client does not take what is sent",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has handed over all it has, so that nothing waits any more.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stall = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
