//! The stream under an upgraded connection: plain, enciphered, or one of several of HTTP/2. It is read and written
//! without waiting, by whoever holds it: its reader reads, and the hub writes from a thread of its own.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustls::ServerConnection;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::pipe::Pipe;

/// What is enciphered at once, and so about the most that a reader who stalls makes the gateway hold: one record.
const CHUNK_BYTES: usize = 16 * 1024;

/// A stream.
pub(crate) enum Wire {
    /// Of the kernel.
    Tcp(TcpStream),
    /// Of the kernel, on this machine.
    Unix(UnixStream),
    /// Enciphered.
    Tls(TcpStream, Box<Tls>),
    /// One of several of a connection of HTTP/2.
    Shared(Pipe),
}

/// What TLS adds to a stream.
pub(crate) struct Tls {
    /// Held for one read or write, neither of which waits.
    session: Mutex<Session>,
    /// Ciphertext that the kernel has not taken yet. It changes under the lock of the session only.
    backlog: AtomicUsize,
}

struct Session {
    connection: ServerConnection,
    /// Bytes that are deciphered and not read yet.
    readable: usize,
    /// Nothing more will come.
    ended: bool,
}

impl Wire {
    /// A stream whose handshake is over. What the session has deciphered already is read first.
    ///
    /// # Errors
    /// The client does not keep to the protocol, or the connection is broken.
    pub(super) fn tls(tcp: TcpStream, mut connection: ServerConnection) -> io::Result<Self> {
        let state = connection.process_new_packets().map_err(io::Error::other)?;
        let session = Session {
            connection,
            readable: state.plaintext_bytes_to_read(),
            ended: state.peer_has_closed(),
        };
        let tls = Tls {
            session: Mutex::new(session),
            backlog: AtomicUsize::new(0),
        };
        tls.flush(&tcp, &mut tls.session.lock())?;
        Ok(Self::Tls(tcp, Box::new(tls)))
    }

    /// Ready when [`Wire::try_read`] may have something. Only the task that asked last is woken.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
            Self::Tls(tcp, tls) => {
                let session = tls.session.lock();
                // The kernel will not tell of what has left it.
                if session.readable > 0 || session.ended {
                    return Poll::Ready(Ok(()));
                }
                drop(session);
                tcp.poll_read_ready(cx)
            }
            Self::Shared(pipe) => pipe.poll_read_ready(cx),
        }
    }

    /// Ready when [`Wire::try_write`] and [`Wire::try_flush`] may get on. Only the task that asked last is woken.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) | Self::Tls(tcp, _) => tcp.poll_write_ready(cx),
            Self::Unix(unix) => unix.poll_write_ready(cx),
            Self::Shared(pipe) => pipe.poll_write_ready(cx),
        }
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there; anything else when the connection is broken, or the client does not keep to
    /// the protocol.
    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.try_read(buf),
            Self::Unix(unix) => unix.try_read(buf),
            Self::Tls(tcp, tls) => tls.try_read(tcp, buf),
            Self::Shared(pipe) => pipe.try_read(buf),
        }
    }

    /// Takes as many of the bytes as it can now. Under TLS what is taken may stay here as [`Wire::backlog`].
    ///
    /// # Errors
    /// `WouldBlock` when it can take none; anything else when the connection is broken.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => send_now(tcp, bytes),
            Self::Unix(unix) => unix.try_write(bytes),
            Self::Tls(tcp, tls) => tls.try_write(tcp, bytes),
            Self::Shared(pipe) => pipe.try_write(bytes),
        }
    }

    /// How many bytes of what was taken wait for the kernel. What a pipe holds is on its way, as what the kernel does.
    pub(crate) fn backlog(&self) -> usize {
        match self {
            Self::Tls(_, tls) => tls.backlog.load(Ordering::Acquire),
            Self::Tcp(_) | Self::Unix(_) | Self::Shared(_) => 0,
        }
    }

    /// Hands the kernel as much of the backlog as it takes.
    ///
    /// # Errors
    /// The connection is broken.
    pub(crate) fn try_flush(&self) -> io::Result<()> {
        match self {
            Self::Tls(tcp, tls) => tls.flush(tcp, &mut tls.session.lock()),
            Self::Tcp(_) | Self::Unix(_) | Self::Shared(_) => Ok(()),
        }
    }

    /// Says that nothing more will be written, as far as the kernel takes it: a stream that ends without that looks
    /// cut off. Plain TCP has no such word.
    pub(crate) fn say_end(&self) {
        match self {
            Self::Tcp(_) | Self::Unix(_) => {}
            Self::Tls(tcp, tls) => {
                let mut session = tls.session.lock();
                session.connection.send_close_notify();
                // Who takes no more will not miss it.
                let _ = tls.flush(tcp, &mut session);
            }
            Self::Shared(pipe) => pipe.finish(),
        }
    }

    /// Writes nothing more, and reads what still comes until the other side ends too. What comes is thrown away as it
    /// is, without being deciphered.
    pub(crate) async fn end(&self) {
        self.say_end();
        let shut = match self {
            Self::Tcp(tcp) | Self::Tls(tcp, _) => SockRef::from(tcp).shutdown(Shutdown::Write),
            Self::Unix(unix) => SockRef::from(unix).shutdown(Shutdown::Write),
            Self::Shared(_) => Ok(()),
        };
        if shut.is_err() {
            return;
        }
        let mut rest = [0; 1024];
        loop {
            let (ready, read) = match self {
                Self::Tls(tcp, _) => (tcp.readable().await, tcp.try_read(&mut rest)),
                _ => (
                    poll_fn(|cx| self.poll_read_ready(cx)).await,
                    self.try_read(&mut rest),
                ),
            };
            match (ready, read) {
                (Ok(()), Ok(1..)) => {}
                (Ok(()), Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

impl Tls {
    fn try_read(&self, tcp: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        if session.readable == 0 && !session.ended {
            self.receive(tcp, &mut session)?;
        }
        match session.connection.reader().read(buf) {
            Ok(read) => {
                session.readable = session.readable.saturating_sub(read);
                Ok(read)
            }
            // The stream was cut off. Whether anything is missing the WebSocket knows, as it does over plain TCP.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            // Nothing more will come.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && session.ended => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Reads once from the kernel and deciphers what that completes.
    fn receive(&self, tcp: &TcpStream, session: &mut Session) -> io::Result<()> {
        let read = session.connection.read_tls(&mut Kernel::new(tcp))?;
        match session.connection.process_new_packets() {
            Ok(state) => {
                session.readable = state.plaintext_bytes_to_read();
                session.ended = read == 0 || state.peer_has_closed();
                Ok(())
            }
            Err(error) => {
                session.ended = true;
                // The alert that says why, if the kernel takes it.
                let _ = self.flush(tcp, session);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    fn try_write(&self, tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        self.flush(tcp, &mut session)?;
        if session.connection.wants_write() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let chunk = &bytes[..bytes.len().min(CHUNK_BYTES)];
        let taken = session.connection.writer().write(chunk)?;
        self.flush(tcp, &mut session)?;
        Ok(taken)
    }

    /// Hands the kernel what is enciphered, as far as it takes it.
    fn flush(&self, tcp: &TcpStream, session: &mut Session) -> io::Result<()> {
        let mut kernel = Kernel::new(tcp);
        while session.connection.wants_write() {
            match session.connection.write_tls(&mut kernel) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.backlog.store(kernel.left, Ordering::Release);
        Ok(())
    }
}

/// The kernel's side of a session, which counts what it has left of what it was offered.
struct Kernel<'a> {
    tcp: &'a TcpStream,
    left: usize,
}

impl<'a> Kernel<'a> {
    fn new(tcp: &'a TcpStream) -> Self {
        Self { tcp, left: 0 }
    }
}

impl io::Read for Kernel<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.tcp.try_read(buf)
    }
}

impl io::Write for Kernel<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.left = slices.iter().map(|slice| slice.len()).sum();
        let Some(first) = slices.iter().find(|slice| !slice.is_empty()) else {
            return Ok(0);
        };
        let taken = send_now(self.tcp, first)?;
        self.left -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Straight to the kernel; the runtime's books matter only when the socket is full, and then it has to see that for
/// itself.
fn send_now(tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match send(tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN) => tcp.try_write(bytes),
        sent => Ok(sent?),
    }
}
