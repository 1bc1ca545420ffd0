//! Where a subscription's outlet writes: a bounded piece of memory, from which the subscription's feed takes whole
//! frames. When it is full the subscription is behind, as that of a socket which is full.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;
use stack_delivery::Sink;
use stack_types::Frames;
use tokio::sync::Notify;

/// What waits of one subscription, at most.
const MOST_BYTES: usize = 256 * 1024;
/// What waits of all subscriptions of a session, about.
const SESSION_BYTES: usize = 1024 * 1024;
/// What each has all the same, however many there are.
const LEAST_BYTES: usize = 8 * 1024;

/// The memory of one subscription. Cloning shares it.
#[derive(Clone)]
pub(super) struct Memory(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    news: Notify,
    /// How many subscriptions the session has.
    shares: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    bytes: BytesMut,
    writer: Option<Waker>,
}

impl Memory {
    pub(super) fn new(shares: Arc<AtomicUsize>) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            news: Notify::new(),
            shares,
        }))
    }

    /// The whole frames that wait; `None` when there are none.
    pub(super) fn take(&self) -> Option<Frames> {
        let mut state = self.0.state.lock();
        let ends = whole_frames(&state.bytes);
        let wire = state.bytes.split_to(*ends.last()? as usize).freeze();
        if state.bytes.is_empty() {
            // What was split off keeps the memory only until it is passed on.
            state.bytes = BytesMut::new();
        }
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Frames::from_wire(wire, ends)
    }

    /// Waits until something was written. Cancel safe.
    pub(super) async fn news(&self) {
        self.0.news.notified().await;
    }

    fn room(&self, state: &State) -> usize {
        let shares = self.0.shares.load(Ordering::Relaxed).max(1);
        let most = (SESSION_BYTES / shares).clamp(LEAST_BYTES, MOST_BYTES);
        most.saturating_sub(state.bytes.len())
    }
}

impl Sink for Memory {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        let taken = self.room(&state).min(bytes.len());
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.bytes.extend_from_slice(&bytes[..taken]);
        drop(state);
        self.0.news.notify_one();
        Ok(taken)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state.lock();
        if self.room(&state) > 0 {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Where the frames end that are there as a whole. What was written are unmasked frames of ours.
fn whole_frames(wire: &[u8]) -> Vec<u32> {
    let mut ends = Vec::new();
    let mut at = 0;
    while let Some(length) = frame_length(&wire[at..]) {
        at += length;
        if at > wire.len() {
            break;
        }
        // What waits is far below 4 GiB.
        ends.push(at as u32);
    }
    ends
}

/// How long the frame is that begins here, header included; `None` while its header is not all there.
fn frame_length(wire: &[u8]) -> Option<usize> {
    let short = usize::from(*wire.get(1)? & 0x7f);
    Some(match short {
        126 => 4 + usize::from(u16::from_be_bytes(wire.get(2..4)?.try_into().ok()?)),
        127 => {
            let length = u64::from_be_bytes(wire.get(2..10)?.try_into().ok()?);
            10 + usize::try_from(length).ok()?
        }
        _ => 2 + short,
    })
}

#[cfg(test)]
mod tests {
    use stack_types::FramesBuilder;

    use super::*;

    fn memory() -> Memory {
        Memory::new(Arc::new(AtomicUsize::new(1)))
    }

    #[test]
    fn frames_come_out_whole_however_they_were_written() {
        let mut builder = FramesBuilder::with_capacity(0);
        for length in [0, 1, 125, 126, 1000, 70_000] {
            builder.push(&vec![b'x'; length]);
        }
        let frames = builder.finish();
        for chunk in [1, 2, 3, 7, 1000, usize::MAX] {
            let memory = memory();
            let mut out = Vec::new();
            for part in frames.wire().chunks(chunk.min(frames.wire().len())) {
                assert_eq!(memory.try_write(part).unwrap(), part.len());
                if let Some(taken) = memory.take() {
                    out.extend(taken.iter());
                }
            }
            assert_eq!(out, frames.iter().collect::<Vec<_>>(), "by {chunk}");
            assert!(memory.take().is_none());
        }
    }

    #[tokio::test]
    async fn it_is_full_at_its_bound_and_says_when_it_is_not_any_more() {
        let memory = memory();
        let frames = Frames::one(&vec![b'x'; 100_000]);
        while memory.try_write(frames.wire()).is_ok() {}
        let held = memory.0.state.lock().bytes.len();
        assert_eq!(held, MOST_BYTES);
        let writable = std::future::poll_fn(|cx| memory.poll_writable(cx));
        let (writable, taken) = tokio::join!(writable, async { memory.take() });
        assert!(writable.is_ok());
        assert_eq!(taken.unwrap().len(), 2);
    }

    #[test]
    fn many_share_what_a_session_has() {
        let shares = Arc::new(AtomicUsize::new(64));
        let memory = Memory::new(shares);
        let frame = Frames::one(&vec![b'x'; 100_000]);
        assert_eq!(memory.try_write(frame.wire()).unwrap(), SESSION_BYTES / 64);
    }
}
