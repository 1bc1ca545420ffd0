//! How a socket is closed from this side.

use std::time::Duration;

use stack_delivery::Outlet;
use tokio::time::timeout;
use tungstenite::Utf8Bytes;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use super::socket::Socket;
use crate::server::Wire;

/// What waits for a client at an edge has so long to go down in front of the close.
const HANDED_OVER_WITHIN: Duration = Duration::from_millis(100);

/// Has the edge close the socket, and waits until the client is gone. The edge is told whatever the client takes: it would
/// go on giving out events.
pub(super) async fn close_relayed(
    socket: &mut Socket,
    outlet: &Outlet,
    code: u16,
    reason: Utf8Bytes,
) {
    let close = CloseFrame {
        code: CloseCode::from(code),
        reason,
    };
    let _ = timeout(HANDED_OVER_WITHIN, outlet.handed_over()).await;
    if socket.close(close).is_err() {
        return;
    }
    while socket.next().await.is_ok() {}
}

/// Sends the close frame behind everything that waits, and reads until the client has answered it and gone.
pub(super) async fn close(
    socket: &mut Socket,
    outlet: &Outlet,
    wire: &Wire,
    code: u16,
    reason: Utf8Bytes,
) {
    let close = CloseFrame {
        code: CloseCode::from(code),
        reason,
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
