//! The accept loop and the HTTP connections.
//!
//! A connection has one of a bounded number of places ([`places`]) and is given up when its client does not take what
//! it asked for ([`watched`]), so that answers nobody reads are bounded in number and in time.
//!
//! Under TLS a connection is shaken hands with in its own task, at its own place and within a time.
//!
//! Which HTTP a connection speaks is agreed on in the handshake: HTTP/1 without one. HTTP/1 is served by hyper's own
//! connection, not through a builder that first finds out the version: that one reads without a time-out, and wraps
//! the stream in a type of its own.

mod h2;
mod listener;
mod pipe;
mod places;
mod proxy_protocol;
pub(crate) mod redirect;
mod watched;
mod wire;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
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
use prometheus::IntCounter;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::http::Peer;
use crate::lifecycle::Lifecycle;
use crate::metrics::TlsMetrics;
use crate::networks::Networks;
use crate::tls::{CHALLENGE, H2, Tls};

pub(crate) use h2::{Crowded, Extended};
pub(crate) use listener::{Listener, bind_tcp};
pub(crate) use places::{Place, Places};
pub(crate) use wire::Wire;

use listener::Accepted;
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

/// Connections of programs that look after the gateway: several of them, with some left over from before.
const FEW: usize = 64;

/// What serves connections. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Server {
    /// What those of TCP are enciphered with. Whoever comes by a Unix socket is on this machine, and speaks plainly.
    pub(crate) tls: Option<(Tls, TlsMetrics)>,
    pub(crate) router: Service,
    pub(crate) places: Places,
    /// Who says by the PROXY protocol whose a connection is.
    pub(crate) proxies: Networks,
    pub(crate) lifecycle: Lifecycle,
}

/// The routes with everything around them.
pub(crate) type Service = Router;

/// Serves all of these, on `lifecycle.serving`; `redirect` is what those speak that send plain HTTP on to TLS.
pub(crate) fn serve_all(
    listeners: Vec<Listener>,
    redirects: Vec<Listener>,
    server: Server,
    redirect: Service,
) {
    let serving = server.lifecycle.serving.clone();
    for listener in redirects {
        let server = Server {
            tls: None,
            router: redirect.clone(),
            ..server.clone()
        };
        serving.spawn(serve(listener, server));
    }
    for listener in listeners {
        serving.spawn(serve(listener, server.clone()));
    }
}

/// Serves what is for the operator's own programs, plainly, to a few at a time, whatever is going on elsewhere.
pub(crate) fn serve_few(
    listeners: Vec<Listener>,
    router: Service,
    refused: IntCounter,
    lifecycle: &Lifecycle,
) {
    let server = Server {
        tls: None,
        router,
        places: Places::few(FEW, refused),
        proxies: Networks::default(),
        lifecycle: lifecycle.clone(),
    };
    for listener in listeners {
        lifecycle.serving.spawn(serve(listener, server.clone()));
    }
}

/// Accepts connections until the gateway drains. Each one is a task on `lifecycle.connections`.
pub(crate) async fn serve(listener: Listener, server: Server) {
    let lifecycle = &server.lifecycle;
    loop {
        let accepted = tokio::select! {
            biased;
            () = lifecycle.draining.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                // Closed without a word: whoever floods would be owed one answer each.
                let Some(place) = server.places.take(peer.ip()) else {
                    continue;
                };
                match stream {
                    Accepted::Tcp(stream) => {
                        let connection = serve_tcp(stream, place, peer, server.clone());
                        lifecycle.connections.spawn(connection);
                    }
                    Accepted::Unix(stream) => {
                        let connection = serve_unix(stream, place, peer, server.clone());
                        lifecycle.connections.spawn(connection);
                    }
                }
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

async fn serve_tcp(mut stream: TcpStream, mut place: Place, mut peer: SocketAddr, server: Server) {
    // Answers and frames are written whole; waiting to fill a segment would only delay them.
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| bound_unsent(&stream, true));
    if let Err(error) = prepared {
        tracing::debug!(%error, "a connection was gone before it was served: {error}");
        return;
    }
    if server.is_of_proxy(peer.ip()) {
        match Box::pin(server.behind_proxy(&mut stream, place, peer)).await {
            Some(client) => (place, peer) = client,
            None => return,
        }
    }
    let lifecycle = &server.lifecycle;
    let (draining, stopping) = (&lifecycle.draining, &lifecycle.stopping);
    let beside = place.beside(peer.ip());
    let stream = Watched::new(stream, place, draining.clone(), discard_unsent::<TcpStream>);
    let peer = Peer(peer);
    let Some((tls, metrics)) = &server.tls else {
        return serve_connection(stream, peer, server.router, draining, stopping).await;
    };
    // Boxed, so that a connection keeps no room for a handshake that is over, and a plain one none for TLS.
    let shaken = Box::pin(shake_hands(tls.acceptor(), stream, draining)).await;
    if shaken.is_none() && !draining.is_cancelled() {
        metrics.handshake_failed();
    }
    if let Some(stream) = shaken {
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => {
                Box::pin(h2::serve(stream, peer, server.router, beside, lifecycle)).await;
            }
            // An authority has seen what it wanted to see.
            Some(CHALLENGE) => {}
            _ => {
                let router = server.router;
                Box::pin(serve_connection(stream, peer, router, draining, stopping)).await;
            }
        }
    }
}

async fn serve_unix(
    mut stream: UnixStream,
    mut place: Place,
    mut peer: SocketAddr,
    server: Server,
) {
    if server.is_of_proxy(peer.ip()) {
        match Box::pin(server.behind_proxy(&mut stream, place, peer)).await {
            Some(client) => (place, peer) = client,
            None => return,
        }
    }
    let (draining, stopping) = (&server.lifecycle.draining, &server.lifecycle.stopping);
    let stream = Watched::new(
        stream,
        place,
        draining.clone(),
        discard_unsent::<UnixStream>,
    );
    serve_connection(stream, Peer(peer), server.router, draining, stopping).await;
}

impl Server {
    fn is_of_proxy(&self, peer: IpAddr) -> bool {
        self.proxies.contains(peer)
    }

    /// Whose connection it is that a proxy has opened, and that one's place.
    async fn behind_proxy<S>(
        &self,
        stream: &mut S,
        place: Place,
        proxy: SocketAddr,
    ) -> Option<(Place, SocketAddr)>
    where
        S: AsyncRead + Unpin,
    {
        let read = tokio::select! {
            () = self.lifecycle.draining.cancelled() => return None,
            read = timeout(HANDSHAKE_TIMEOUT, proxy_protocol::read(stream)) => read,
        };
        match read {
            Ok(Ok(Some(client))) => Some((place.of(client.ip())?, client)),
            Ok(Ok(None)) => Some((place, proxy)),
            Ok(Err(error)) => {
                // This one is configured on both sides, so that somebody can put it right.
                tracing::warn!(%error, %proxy, "{proxy} does not speak the PROXY protocol: {error}");
                None
            }
            Err(_) => {
                tracing::debug!(%proxy, "{proxy} took too long to say whose a connection is");
                None
            }
        }
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

/// The stream under an upgraded connection of HTTP/1, what had been read of it already, and its place among the open
/// connections, to be kept for as long as the stream.
///
/// # Errors
/// The connection is broken, or it is not one of [`serve`].
pub(crate) fn into_wire(upgraded: Upgraded) -> io::Result<(Wire, Bytes, Place)> {
    let upgraded = match upgraded.downcast::<TokioIo<Watched<TcpStream>>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let (stream, place) = io.into_inner().into_parts();
            bound_unsent(&stream, false)?;
            return Ok((Wire::Tcp(stream), read_buf, place));
        }
        Err(upgraded) => upgraded,
    };
    let upgraded = match upgraded.downcast::<TokioIo<TlsStream<Watched<TcpStream>>>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let (stream, session) = io.into_inner().into_inner();
            let (stream, place) = stream.into_parts();
            bound_unsent(&stream, false)?;
            return Ok((Wire::tls(stream, session)?, read_buf, place));
        }
        Err(upgraded) => upgraded,
    };
    let Parts { io, read_buf, .. } = upgraded
        .downcast::<TokioIo<Watched<UnixStream>>>()
        .map_err(|_| {
            tracing::error!("an upgraded connection is not one of this server's");
            io::Error::from(io::ErrorKind::Unsupported)
        })?;
    let (stream, place) = io.into_inner().into_parts();
    Ok((Wire::Unix(stream), read_buf, place))
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
fn discard_unsent<S: AsFd>(stream: &S) {
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
