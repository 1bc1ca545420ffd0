//! The accept loop and the HTTP connections.
//!
//! A connection has one of a bounded number of places ([`places`]) and is given up when its client does not take what
//! it asked for ([`watched`]), so that answers nobody reads are bounded in number and in time.
//!
//! Under TLS a connection is shaken hands with in its own task, at its own place and within a time.
//!
//! Connections are served by hyper's own HTTP/1 connection, not through a builder that first finds out the version:
//! that one reads without a time-out, and wraps the stream in a type of its own.

mod places;
mod watched;
mod wire;

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
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::http::Peer;
use crate::lifecycle::Lifecycle;

pub(crate) use places::{Place, Places};
pub(crate) use wire::Wire;

use watched::Watched;

/// Headers have to be complete by then, and a connection kept alive is closed after being idle for as long. Long
/// enough for a page to reuse its connection, short enough that slow senders of headers do not pile up.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A handshake is three flights; as long as a browser waits for an answer on a bad mobile connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest request head, and the most that one read takes. hyper's default is 400 KiB for each connection.
const MAX_BUFFER_BYTES: usize = 32 * 1024;

/// What the kernel takes of an answer beyond what is on its way. Its own buffer grows to megabytes, and says that it has
/// room only when a third of that is free: a slow reader would look like one who has stopped.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT_BYTES: u32 = 64 * 1024;

/// The pause after an accept that failed for want of file descriptors or memory: without one the loop would spin,
/// since the connection stays in the backlog.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the gateway drains. Each one is a task on `lifecycle.connections`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Service,
    places: Places,
    lifecycle: Lifecycle,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Closed without a word: whoever floods would be owed one answer each.
                let Some(place) = places.take(peer.ip()) else {
                    continue;
                };
                let connection = serve_tcp(
                    stream,
                    tls.clone(),
                    place,
                    Peer(peer),
                    router.clone(),
                    lifecycle.clone(),
                );
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

async fn serve_tcp(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    place: Place,
    peer: Peer,
    router: Service,
    lifecycle: Lifecycle,
) {
    // Answers and frames are written whole; waiting to fill a segment would only delay them.
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| bound_unsent(&stream, true));
    if let Err(error) = prepared {
        tracing::debug!(%error, "a connection was gone before it was served: {error}");
        return;
    }
    let draining = lifecycle.draining.clone();
    let stream = Watched::new(stream, place, draining, discard_unsent);
    let (draining, stopping) = (&lifecycle.draining, &lifecycle.stopping);
    let Some(tls) = tls else {
        return serve_connection(stream, peer, router, draining, stopping).await;
    };
    // Both boxed, so that a connection keeps no room for a handshake that is over, and a plain one none for TLS.
    if let Some(stream) = Box::pin(shake_hands(tls, stream, draining)).await {
        Box::pin(serve_connection(stream, peer, router, draining, stopping)).await;
    }
}

/// The enciphered stream, unless the client does not come to it in time or the gateway drains: nothing has been asked
/// for yet.
async fn shake_hands<S>(
    tls: TlsAcceptor,
    stream: S,
    draining: &CancellationToken,
) -> Option<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let shaken = tokio::select! {
        () = draining.cancelled() => return None,
        shaken = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => shaken,
    };
    match shaken {
        Ok(Ok(stream)) => Some(stream),
        // Scanners, clients that do not trust the certificate or speak no TLS; nothing an operator can do.
        Ok(Err(error)) => {
            tracing::debug!(%error, "a handshake failed: {error}");
            None
        }
        Err(_) => {
            tracing::debug!("a handshake took too long");
            None
        }
    }
}

/// Serves requests until the client leaves or takes nothing any more, the connection is upgraded, or the gateway
/// drains.
async fn serve_connection<S>(
    stream: S,
    peer: Peer,
    router: Service,
    draining: &CancellationToken,
    stopping: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    // What is not HTTP at all gets a bare 400, 414 or 431 from hyper, without a problem or a request id: hyper writes
    // it itself, has no hook for it, and the service never hears of the request.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                served = connection.as_mut() => served,
                () = stopping.cancelled() => return,
            }
        }
    };
    if let Err(error) = served {
        // Clients that reset, time out or send no HTTP; nothing an operator can do.
        tracing::debug!(%error, "a connection ended early: {error}");
    }
}

/// The stream under an upgraded connection, what had been read of it already, and its place among the open
/// connections, to be kept for as long as the stream.
///
/// # Errors
/// The connection is broken, or it is not one of [`serve`].
pub(crate) fn into_wire(upgraded: Upgraded) -> io::Result<(Wire, Bytes, Place)> {
    let (stream, session, read_ahead) = match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(Parts { io, read_buf, .. }) => (io.into_inner(), None, read_buf),
        Err(upgraded) => {
            let Parts { io, read_buf, .. } = upgraded
                .downcast::<TokioIo<TlsStream<Watched<TcpStream>>>>()
                .map_err(|_| {
                    tracing::error!("an upgraded connection is not one of this server's");
                    io::Error::from(io::ErrorKind::Unsupported)
                })?;
            let (stream, session) = io.into_inner().into_inner();
            (stream, Some(session), read_buf)
        }
    };
    let (stream, place) = stream.into_parts();
    bound_unsent(&stream, false)?;
    let wire = match session {
        None => Wire::plain(stream),
        Some(session) => Wire::tls(stream, session)?,
    };
    Ok((wire, read_ahead, place))
}

/// Whether the kernel holds [`UNSENT_BYTES`] at most, or as much as it wants.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn bound_unsent(stream: &TcpStream, bound: bool) -> io::Result<()> {
    // 0 is the system's default.
    SockRef::from(stream).set_tcp_notsent_lowat(if bound { UNSENT_BYTES } else { 0 })
}

/// Other systems have buffers small enough.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn bound_unsent(_: &TcpStream, _: bool) -> io::Result<()> {
    Ok(())
}

/// Closing the stream will throw away what the client has not taken, where the kernel would go on offering it for
/// minutes.
fn discard_unsent(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a stalled connection cannot be reset: {error}");
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
