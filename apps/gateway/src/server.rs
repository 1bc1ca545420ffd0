//! The accept loop and the HTTP connections.
//!
//! Connections are served by hyper's own HTTP/1 connection, not through a builder that first finds out the version:
//! that one reads without a time-out, and wraps the stream in a type of its own. HTTP/2 comes with TLS, which names
//! the version before the first byte.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt as _;

use crate::http::Peer;
use crate::lifecycle::Lifecycle;

/// Headers have to be complete by then, and a connection kept alive is closed after being idle for as long. Long
/// enough for a page to reuse its connection, short enough that slow senders of headers do not pile up.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest request head, and the most that one read takes. hyper's default is 400 KiB for each connection.
const MAX_BUFFER_BYTES: usize = 32 * 1024;

/// The pause after an accept that failed for want of file descriptors or memory: without one the loop would spin,
/// since the connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the gateway drains. Each one is a task on `lifecycle.connections`.
pub(crate) async fn serve(listener: TcpListener, router: Service, lifecycle: Lifecycle) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection =
                    serve_connection(stream, Peer(peer), router.clone(), lifecycle.clone());
                lifecycle.connections.spawn(connection);
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "a connection was gone before it was accepted: {error}");
            }
            Err(error) => {
                tracing::error!(%error, "connections cannot be accepted, pausing: {error}");
                tokio::select! {
                    () = lifecycle.draining.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

/// The routes with everything around them.
pub(crate) type Service = Router;

/// Serves requests until the client leaves, the connection is upgraded, or the gateway drains.
async fn serve_connection(stream: TcpStream, peer: Peer, router: Service, lifecycle: Lifecycle) {
    // Answers and frames are written whole; waiting to fill a segment would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone before it was served: {error}");
        return;
    }
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = lifecycle.draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection.as_mut() => served,
                () = lifecycle.stopping.cancelled() => return,
            }
        }
    };
    if let Err(error) = served {
        // Clients that reset, time out or send no HTTP; nothing an operator can do.
        tracing::debug!(%error, "a connection ended early: {error}");
    }
}

/// The TCP stream under an upgraded connection, and what had been read of it already.
///
/// # Errors
/// With the connection, when it is not one of [`serve`].
pub(crate) fn into_stream(upgraded: Upgraded) -> Result<(TcpStream, Bytes), Upgraded> {
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<TcpStream>>()?;
    Ok((io.into_inner(), read_buf))
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}
