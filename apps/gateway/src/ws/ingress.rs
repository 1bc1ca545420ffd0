//! A socket, split the way the gateway uses it: the library reads frames from here, and whatever it wants to write
//! (pongs, the close handshake) goes the same way out as everything else, so that no two frames ever mix.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use stack_delivery::{Outlet, Sink};

use crate::server::Wire;

/// What is taken from the kernel at once. All sockets of a thread share it; what the library does not take of it is
/// kept by its socket until it does.
const SCRATCH_BYTES: usize = 8 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// The writing half, for the outlet.
pub(super) struct Egress(Arc<Wire>);

impl Egress {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self(wire)
    }
}

impl Sink for Egress {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn backlog(&self) -> usize {
        self.0.backlog()
    }

    fn try_flush(&self) -> io::Result<()> {
        self.0.try_flush()
    }
}

/// The reading half, for the library. It reads nothing before [`Ingress::poll_readable`] has said that it may: asking
/// the runtime each time is what lets other tasks have their turn.
pub(super) struct Ingress {
    wire: Arc<Wire>,
    outlet: Arc<Outlet>,
    /// What is read already: what came with the upgrade request, and what the library did not take.
    ahead: Bytes,
    /// The socket may be read once.
    readable: bool,
}

impl Ingress {
    pub(super) fn new(wire: Arc<Wire>, outlet: Arc<Outlet>, read_ahead: Bytes) -> Self {
        Self {
            wire,
            outlet,
            ahead: unless_empty(read_ahead),
            readable: false,
        }
    }

    /// Ready when there is something to read, or the socket is broken.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_read_ready(cx))?;
        self.readable = true;
        Poll::Ready(Ok(()))
    }
}

impl io::Read for Ingress {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.len());
            buf[..taken].copy_from_slice(&self.ahead[..taken]);
            self.ahead.advance(taken);
            self.ahead = unless_empty(std::mem::take(&mut self.ahead));
            return Ok(taken);
        }
        if !std::mem::take(&mut self.readable) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let read = self.wire.try_read(scratch)?;
            let taken = read.min(buf.len());
            buf[..taken].copy_from_slice(&scratch[..taken]);
            self.ahead = Bytes::copy_from_slice(&scratch[taken..read]);
            Ok(taken)
        })
    }
}

impl io::Write for Ingress {
    /// Takes everything at once: the outlet holds what the socket does not take now. The connection reads no
    /// further frame while much of it waits there, so a flood of pings does not grow it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.outlet.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.outlet.send(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same bytes. An empty slice would keep the buffer it was cut from for as long as the socket lives.
fn unless_empty(bytes: Bytes) -> Bytes {
    if bytes.is_empty() {
        Bytes::new()
    } else {
        bytes
    }
}
