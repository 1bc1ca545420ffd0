//! How a socket is closed from this side.

use stack_delivery::Outlet;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::socket::Socket;
use crate::server::Wire;

/// Sends the close frame behind everything that waits, and reads until the client has answered it and gone.
pub(super) async fn close(
    socket: &mut Socket,
    outlet: &Outlet,
    wire: &Wire,
    code: u16,
    reason: &'static str,
) {
    let close = CloseFrame {
        code: CloseCode::from(code),
        reason: Utf8Bytes::from_static(reason),
    };
    if socket.close(close).is_err() || outlet.flushed().await.is_err() {
        return;
    }
    if !matches!(code, 1002 | 1007 | 1009) {
        // The client's answer ends this; then it is the server that closes the connection.
        while socket.next().await.is_ok() {}
        return;
    }
    // Here the library has stopped in the middle of what the client sends. The rest is read all the same: closing a
    // socket with bytes unread resets it, and the client might never see why.
    wire.end().await;
}
