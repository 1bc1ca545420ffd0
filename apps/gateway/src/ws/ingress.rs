//! A socket, split the way the gateway uses it: the library reads frames from here, and whatever it wants to write
//! (pongs, the close handshake) goes the same way out as everything else, so that no two frames ever mix.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use stack_delivery::{Outlet, Sink};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The writing half, for the outlet.
pub(super) struct Egress(Arc<TcpStream>);

impl Egress {
    pub(super) fn new(socket: Arc<TcpStream>) -> Self {
        Self(socket)
    }
}

impl Sink for Egress {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Straight to the kernel; the runtime's books matter only when the socket is full, and then it has to see that
        // for itself.
        match send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN) => self.0.try_write(bytes),
            sent => Ok(sent?),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }
}

/// The reading half, for the library.
pub(super) struct Ingress {
    socket: Arc<TcpStream>,
    outlet: Arc<Outlet>,
    /// What came with the upgrade request and belongs to the socket already.
    read_ahead: Bytes,
}

impl Ingress {
    pub(super) fn new(socket: Arc<TcpStream>, outlet: Arc<Outlet>, read_ahead: Bytes) -> Self {
        // As below, and most sockets begin with nothing read ahead.
        let read_ahead = if read_ahead.is_empty() {
            Bytes::new()
        } else {
            read_ahead
        };
        Self {
            socket,
            outlet,
            read_ahead,
        }
    }
}

impl AsyncRead for Ingress {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.read_ahead.is_empty() {
            let taken = self.read_ahead.len().min(buf.remaining());
            buf.put_slice(&self.read_ahead[..taken]);
            self.read_ahead.advance(taken);
            if self.read_ahead.is_empty() {
                // An empty slice would keep the buffer of the HTTP connection for as long as the socket lives.
                self.read_ahead = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Ingress {
    /// Takes everything at once: the outlet holds what the socket does not take now. The connection reads no
    /// further frame while much of it waits there, so a flood of pings does not grow it.
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.outlet.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.outlet.send(Bytes::copy_from_slice(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
