//! A sink under the control of a test.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use stack_delivery::Sink;
use stack_types::Seq;
use tokio::sync::Notify;

/// A sink that takes as many bytes as it is allowed to.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Arc<PipeState>);

#[derive(Default)]
struct PipeState {
    inner: Mutex<PipeInner>,
    arrived: Notify,
}

#[derive(Default)]
struct PipeInner {
    allowed: usize,
    taken: Vec<u8>,
    /// How much it takes at once to hold it until it is allowed to pass it on; 0 when it holds nothing.
    chunk: usize,
    held: Vec<u8>,
    broken: bool,
    waker: Option<Waker>,
}

impl Pipe {
    pub(crate) fn open() -> Self {
        let pipe = Self::default();
        pipe.allow(usize::MAX);
        pipe
    }

    /// A pipe that takes so much at once, whether it may pass it on or not.
    pub(crate) fn holding(chunk: usize) -> Self {
        let pipe = Self::default();
        pipe.0.inner.lock().chunk = chunk;
        pipe
    }

    pub(crate) fn allow(&self, bytes: usize) {
        let mut inner = self.0.inner.lock();
        inner.allowed = inner.allowed.saturating_add(bytes);
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Takes nothing more until it is allowed to.
    pub(crate) fn stall(&self) {
        self.0.inner.lock().allowed = 0;
    }

    pub(crate) fn break_off(&self) {
        let mut inner = self.0.inner.lock();
        inner.broken = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// The JSON texts that have arrived whole.
    pub(crate) fn frames(&self) -> Vec<serde_json::Value> {
        let inner = self.0.inner.lock();
        let mut bytes = inner.taken.as_slice();
        let mut frames = Vec::new();
        while let Some((frame, rest)) = split_frame(bytes) {
            frames.push(serde_json::from_slice(frame).unwrap());
            bytes = rest;
        }
        frames
    }

    /// Takes out the texts that have arrived whole since the last call.
    pub(crate) fn take_frames(&self) -> Vec<Vec<u8>> {
        let mut inner = self.0.inner.lock();
        let mut frames = Vec::new();
        let mut rest = inner.taken.as_slice();
        while let Some((frame, behind)) = split_frame(rest) {
            frames.push(frame.to_vec());
            rest = behind;
        }
        let read = inner.taken.len() - rest.len();
        inner.taken.drain(..read);
        frames
    }

    /// Loses the last of what has arrived and was not taken out, as a connection does that breaks.
    pub(crate) fn lose(&self, bytes: usize) {
        let mut inner = self.0.inner.lock();
        let kept = inner.taken.len().saturating_sub(bytes);
        inner.taken.truncate(kept);
    }

    /// Resolves when something arrives after this call.
    pub(crate) fn news(&self) -> impl Future<Output = ()> + '_ {
        self.0.arrived.notified()
    }

    /// The numbers of the events that have arrived.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        self.frames()
            .iter()
            .filter_map(|frame| frame["payload"]["seq"].as_u64())
            .collect()
    }

    /// Waits until the last frame that has arrived satisfies `enough`.
    pub(crate) async fn until(&self, enough: impl Fn(&serde_json::Value) -> bool) {
        loop {
            let arrived = self.0.arrived.notified();
            if self.frames().last().is_some_and(&enough) {
                return;
            }
            arrived.await;
        }
    }

    pub(crate) async fn until_seq(&self, seq: Seq) {
        self.until(|frame| frame["payload"]["seq"] == seq.0).await;
    }
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, len) = match *bytes.get(1)? {
        126 => (
            4,
            u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()) as usize,
        ),
        127 => (
            10,
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
        ),
        short => (2, usize::from(short)),
    };
    assert_eq!(bytes[0], 0x81, "a frame was cut or mixed with another");
    let end = header + len;
    (bytes.len() >= end).then(|| (&bytes[header..end], &bytes[end..]))
}

impl PipeInner {
    fn pass_on(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let taken = bytes.len().min(self.allowed);
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.taken.extend_from_slice(&bytes[..taken]);
        self.allowed -= taken;
        Ok(taken)
    }

    fn pass_on_held(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        match self.pass_on(&held) {
            Ok(passed) => self.held = held[passed..].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.held = held,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Sink for Pipe {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut inner = self.0.inner.lock();
        let taken = if inner.chunk == 0 {
            inner.pass_on(bytes)?
        } else {
            inner.pass_on_held()?;
            if !inner.held.is_empty() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let taken = bytes.len().min(inner.chunk);
            inner.held = bytes[..taken].to_vec();
            inner.pass_on_held()?;
            taken
        };
        self.0.arrived.notify_waiters();
        Ok(taken)
    }

    fn backlog(&self) -> usize {
        self.0.inner.lock().held.len()
    }

    fn try_flush(&self) -> io::Result<()> {
        let flushed = self.0.inner.lock().pass_on_held();
        self.0.arrived.notify_waiters();
        flushed
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.inner.lock();
        if inner.broken || inner.allowed > 0 {
            return Poll::Ready(Ok(()));
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
