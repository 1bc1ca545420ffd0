//! A WebSocket as its connection reads it.
//!
//! The library is used in its synchronous form. Nothing here waits to write, so all it needs to be told is when there
//! is something to read; its asynchronous form keeps wakers for both beside every socket.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use stack_delivery::Outlet;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::dialect::Dialect;
use super::ingress::Ingress;
use super::relayed::Relayed;
use crate::server::Wire;

/// What the library holds of a socket's bytes between reads. An idle socket must not cost a page; a longer frame gets
/// its own room.
const READ_BUFFER_BYTES: usize = 256;
/// The socket of a connection.
pub(super) struct Socket(Way, Dialect);

/// Where its client is connected.
#[expect(
    clippy::large_enum_variant,
    reason = "most sockets are here, and those at edges cost little otherwise"
)]
enum Way {
    /// Here.
    Here(WebSocket<Ingress>),
    /// To an edge, which speaks the protocol with it.
    Relayed(Relayed),
}

impl Socket {
    /// The server's end of an upgraded stream. `read_ahead` came with the upgrade request and is the socket's already.
    pub(super) fn new(
        wire: Arc<Wire>,
        outlet: Arc<Outlet>,
        read_ahead: Bytes,
        max_message_bytes: usize,
        dialect: Dialect,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let ingress = Ingress::new(wire, outlet, read_ahead);
        let socket = WebSocket::from_raw_socket(ingress, Role::Server, Some(config));
        Self(Way::Here(socket), dialect)
    }

    /// The origin's end of a socket at an edge.
    pub(super) fn relayed(relayed: Relayed, dialect: Dialect) -> Self {
        Self(Way::Relayed(relayed), dialect)
    }

    /// How its frames are written.
    pub(super) fn dialect(&self) -> Dialect {
        self.1
    }

    /// The next message. Cancel safe.
    ///
    /// # Errors
    /// The socket is closed, it is broken, or the client does not keep to the protocol.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Socket::next`], for who waits for other things too.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        let socket = match &mut self.0 {
            Way::Here(socket) => socket,
            Way::Relayed(relayed) => return relayed.poll_next(cx),
        };
        loop {
            match socket.read() {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    shrink(socket);
                }
                read => return Poll::Ready(read),
            }
            ready!(socket.get_mut().poll_readable(cx))?;
        }
    }

    /// Sends a ping. A failure shows as a closed outlet.
    pub(super) fn ping(&mut self) {
        // An edge pings for itself.
        if let Way::Here(socket) = &mut self.0 {
            let _ = socket.send(Message::Ping(Bytes::new()));
        }
    }

    /// Sends a close frame.
    ///
    /// # Errors
    /// The socket is closed or broken.
    pub(super) fn close(&mut self, frame: CloseFrame) -> Result<(), Error> {
        match &mut self.0 {
            Way::Here(socket) => socket.close(Some(frame)),
            Way::Relayed(relayed) => relayed.close(&frame),
        }
    }
}

/// Gives back the room that a long frame took: the library would keep it for as long as the socket lives. It starts
/// anew when it has taken in all that it was given, in whole messages, and has nothing of its own to say.
fn shrink(socket: &mut WebSocket<Ingress>) {
    if socket.get_ref().is_between_after_long() && socket.can_write() {
        let config = *socket.get_config();
        let ingress = socket.get_mut().renewed();
        *socket = WebSocket::from_raw_socket(ingress, Role::Server, Some(config));
    }
}
