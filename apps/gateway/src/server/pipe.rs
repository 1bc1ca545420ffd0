//! A stream of HTTP/2 that is read and written like a socket of the kernel: without waiting, by whoever holds it.
//!
//! Between the two stand buffers of a fixed size, as the kernel's are, and a task that moves bytes between them and the
//! stream. Who writes to a reader that stalls finds its buffer full, and nothing more is kept for that reader.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// What waits in either direction at most. HTTP/2 holds some pieces of this size beside.
const PIPE_BYTES: usize = 16 * 1024;

/// What is read of the stream at once.
const PIECE_BYTES: usize = 4 * 1024;

/// How long what was written last may take to go out when nobody holds the pipe any more.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The near end. Dropping it ends the stream, behind what was written.
#[derive(Debug)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Read of the stream, and not taken yet.
    inbound: Vec<u8>,
    /// How much of `inbound` is taken.
    taken: usize,
    /// Written, and not given to the stream yet.
    outbound: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    /// Nothing more will be written.
    finished: bool,
    /// Nobody holds the near end.
    dropped: bool,
    /// The stream is broken.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    mover: Option<Waker>,
    abandoned: Option<Waker>,
}

/// The far end: what moves the bytes.
struct Mover<S> {
    stream: S,
    state: Arc<Mutex<State>>,
    /// What the stream is being given.
    giving: Bytes,
    /// The stream was told that nothing more is written.
    shut: bool,
}

/// A pipe, and what moves its bytes until both sides are through or `stopping`.
pub(super) fn pipe<S>(
    stream: S,
    stopping: CancellationToken,
) -> (Pipe, impl Future<Output = ()> + use<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let state = Arc::new(Mutex::new(State::default()));
    let mut mover = Mover {
        stream,
        state: state.clone(),
        giving: Bytes::new(),
        shut: false,
    };
    let abandoned = abandoned(state.clone());
    let moving = async move {
        tokio::select! {
            () = poll_fn(|cx| mover.poll(cx)) => {}
            () = abandoned => {}
            () = stopping.cancelled() => {}
        }
    };
    (Pipe(state), moving)
}

impl Pipe {
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.taken < state.inbound.len() || state.ended || state.broken {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.reader, cx);
        Poll::Pending
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        if state.outbound.len() < PIPE_BYTES || state.broken {
            return Poll::Ready(Ok(()));
        }
        keep(&mut state.writer, cx);
        Poll::Pending
    }

    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        let there = &state.inbound[state.taken..];
        if there.is_empty() {
            return match (state.ended, state.broken) {
                (true, _) => Ok(0),
                (false, true) => Err(io::ErrorKind::ConnectionReset.into()),
                (false, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let read = there.len().min(buf.len());
        buf[..read].copy_from_slice(&there[..read]);
        state.taken += read;
        if state.taken == state.inbound.len() {
            // An idle socket keeps no buffer.
            state.inbound = Vec::new();
            state.taken = 0;
            wake(&mut state.mover);
        }
        Ok(read)
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if state.broken || state.finished {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = PIPE_BYTES.saturating_sub(state.outbound.len());
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = room.min(bytes.len());
        state.outbound.extend_from_slice(&bytes[..taken]);
        wake(&mut state.mover);
        Ok(taken)
    }

    /// Nothing more will be written.
    pub(super) fn finish(&self) {
        let mut state = self.0.lock();
        state.finished = true;
        wake(&mut state.mover);
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.finished = true;
        state.dropped = true;
        wake(&mut state.mover);
        wake(&mut state.abandoned);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Mover<S> {
    /// Ready when there is nothing left to move.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = self.poll_in(cx).and_then(|()| self.poll_out(cx));
        let mut state = self.state.lock();
        if outcome.is_err() {
            state.broken = true;
            state.outbound = Vec::new();
            wake(&mut state.reader);
            wake(&mut state.writer);
            return Poll::Ready(());
        }
        if self.shut && (state.ended || state.dropped) {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Reads while there is room. The near end is asked about first, so that its waker is there before it looks.
    fn poll_in(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut piece = [0; PIECE_BYTES];
        loop {
            {
                let mut state = self.state.lock();
                keep(&mut state.mover, cx);
                if state.ended || state.dropped || state.inbound.len() + PIECE_BYTES > PIPE_BYTES {
                    return Ok(());
                }
            }
            let mut read = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => return Ok(()),
                Poll::Ready(outcome) => outcome?,
            }
            let mut state = self.state.lock();
            if read.filled().is_empty() {
                state.ended = true;
            } else {
                state.inbound.extend_from_slice(read.filled());
            }
            wake(&mut state.reader);
        }
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.giving.is_empty() {
                let mut state = self.state.lock();
                if state.outbound.is_empty() {
                    if !state.finished || self.shut {
                        return Ok(());
                    }
                    drop(state);
                    return self.poll_shut(cx);
                }
                self.giving = std::mem::take(&mut state.outbound).into();
                wake(&mut state.writer);
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.giving) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.giving.advance(written?),
            }
        }
    }

    /// Says that nothing more is written, which may take as long as writing does.
    fn poll_shut(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if let Poll::Ready(shut) = Pin::new(&mut self.stream).poll_shutdown(cx) {
            shut?;
            self.shut = true;
        }
        Ok(())
    }
}

/// Ends when nobody has held the near end for long enough.
async fn abandoned(state: Arc<Mutex<State>>) {
    poll_fn(|cx| {
        let mut state = state.lock();
        if state.dropped {
            return Poll::Ready(());
        }
        keep(&mut state.abandoned, cx);
        Poll::Pending
    })
    .await;
    sleep(LAST_GRACE).await;
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

fn wake(slot: &mut Option<Waker>) {
    if let Some(waker) = slot.take() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinSet;

    use super::*;

    /// A pipe over a stream that holds so much, its other side, and what moves its bytes.
    fn over(bytes: usize) -> (Pipe, DuplexStream, JoinSet<()>) {
        let (far, stream) = duplex(bytes);
        let (near, moving) = pipe(stream, CancellationToken::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(moving);
        (near, far, tasks)
    }

    async fn write_all(pipe: &Pipe, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            poll_fn(|cx| pipe.poll_write_ready(cx)).await.unwrap();
            match pipe.try_write(bytes) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    async fn read_all(pipe: &Pipe) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; 1000];
        loop {
            poll_fn(|cx| pipe.poll_read_ready(cx)).await.unwrap();
            match pipe.try_read(&mut piece) {
                Ok(0) => return all,
                Ok(read) => all.extend(&piece[..read]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[tokio::test]
    async fn bytes_come_through_in_order_both_ways_and_so_does_the_end() {
        let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let (near, far, mut tasks) = over(700);
        let (mut from, mut to) = tokio::io::split(far);
        let mut taken = Vec::new();
        let (read, ..) = tokio::join!(
            read_all(&near),
            async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            },
            async {
                write_all(&near, &sent).await;
                near.finish();
                assert!(near.try_write(b"more").is_err());
            },
            async { from.read_to_end(&mut taken).await.unwrap() },
        );
        assert!(read == sent && taken == sent);
        tasks.join_next().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_who_stalls_is_kept_a_bounded_piece_and_given_up_with_the_near_end() {
        let (near, _far, mut tasks) = over(10);
        let mut taken = 0;
        // Until nothing moves any more.
        for _ in 0..100 {
            taken += near.try_write(&[0; 4096]).unwrap_or(0);
            sleep(Duration::from_millis(1)).await;
        }
        assert!(taken <= 2 * PIPE_BYTES + 10, "{taken}");
        drop(near);
        let start = tokio::time::Instant::now();
        tasks.join_next().await.unwrap().unwrap();
        assert_eq!(start.elapsed(), LAST_GRACE);
    }

    #[tokio::test]
    async fn what_was_written_last_goes_out_when_the_near_end_is_dropped() {
        let (near, mut far, _tasks) = over(10);
        assert_eq!(near.try_write(b"a last word of some length").unwrap(), 26);
        drop(near);
        let mut word = Vec::new();
        far.read_to_end(&mut word).await.unwrap();
        assert_eq!(word, b"a last word of some length");
    }

    #[tokio::test]
    async fn a_broken_stream_is_told_to_both_sides_of_the_near_end() {
        let (near, far, mut tasks) = over(10);
        near.try_write(&[0; 100]).unwrap();
        drop(far);
        tasks.join_next().await.unwrap().unwrap();
        poll_fn(|cx| near.poll_write_ready(cx)).await.unwrap();
        assert!(near.try_write(b"x").is_err());
    }
}
