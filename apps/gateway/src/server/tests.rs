//! Connections over a pipe, with a clock that runs ahead while nothing happens.

use std::sync::Arc;
use std::time::Duration;

use axum::routing::{connect, get};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::watched::{STALLED_AFTER, STALLED_AFTER_DRAINING};
use super::*;
use crate::config::Config;
use crate::tls::Tls;

const ANSWER_BYTES: usize = 1024 * 1024;

/// What the pipe holds, as a socket's buffers would.
const PIPE_BYTES: usize = 16 * 1024;

struct Served {
    client: DuplexStream,
    draining: CancellationToken,
    connection: tokio::task::JoinSet<()>,
}

const REQUEST: &[u8] = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";

fn place() -> Place {
    let refused = prometheus::IntCounter::new("refused", "refused").unwrap();
    let places = Places::new(&Config::default(), refused);
    places.take([127, 0, 0, 1].into()).unwrap()
}

/// Both ends of a pipe, the gateway's one watched.
fn pipe(draining: &CancellationToken) -> (DuplexStream, Watched<DuplexStream>) {
    let (client, server) = tokio::io::duplex(PIPE_BYTES);
    let watched = Watched::new(server, place(), draining.clone(), |_| ());
    (client, watched)
}

/// Serves answers of this length.
fn serving<S>(stream: S, answer: usize, draining: CancellationToken) -> tokio::task::JoinSet<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = Router::new().route("/large", get(move || async move { vec![b'x'; answer] }));
    let mut connection = tokio::task::JoinSet::new();
    connection.spawn(async move {
        let peer = Peer(([127, 0, 0, 1], 1).into());
        let stopping = CancellationToken::new();
        serve_connection(stream, peer, router, &draining, &stopping).await;
    });
    connection
}

/// A connection whose client has asked for a large answer.
async fn asked() -> Served {
    let draining = CancellationToken::new();
    let (mut client, server) = pipe(&draining);
    let connection = serving(server, ANSWER_BYTES, draining.clone());
    client.write_all(REQUEST).await.unwrap();
    Served {
        client,
        draining,
        connection,
    }
}

impl Served {
    /// How long it takes until the connection has ended.
    async fn ends(&mut self) -> Duration {
        let start = Instant::now();
        let ended = tokio::time::timeout(STALLED_AFTER * 10, self.connection.join_next()).await;
        ended.expect("it ends").unwrap().unwrap();
        start.elapsed()
    }
}

/// A certificate, and who trusts it.
fn certificate() -> (Tls, TlsConnector) {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(pair.cert.der().clone()).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = Tls::load(&cert, &key).unwrap();
    (tls, TlsConnector::from(Arc::new(client)))
}

#[tokio::test(start_paused = true)]
async fn under_tls_an_answer_that_nobody_reads_is_given_up() {
    // The shorter one fits into the session, so that hyper is through with it before the client is.
    for answer in [PIPE_BYTES * 2, ANSWER_BYTES] {
        let (tls, connector) = certificate();
        let draining = CancellationToken::new();
        let (client, server) = pipe(&draining);
        let name = "localhost".try_into().unwrap();
        let (server, client) = tokio::join!(
            shake_hands(tls.acceptor(), server, &draining),
            connector.connect(name, client),
        );
        let mut connection = serving(server.unwrap(), answer, draining);
        let mut client = client.unwrap();
        client.write_all(REQUEST).await.unwrap();
        client.flush().await.unwrap();
        let start = Instant::now();
        let ended = timeout(STALLED_AFTER * 10, connection.join_next()).await;
        ended.expect("it ends").unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), STALLED_AFTER.as_secs());
    }
}

/// What shakes hands with a client that says so much and no more.
fn half_shaken(said: &'static [u8], draining: CancellationToken) -> impl Future<Output = bool> {
    let (tls, _) = certificate();
    async move {
        let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
        client.write_all(said).await.unwrap();
        let shaken = shake_hands(tls.acceptor(), server, &draining).await;
        drop(client);
        shaken.is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_get_on_is_given_up() {
    for said in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let handshake = half_shaken(said, CancellationToken::new());
        let start = Instant::now();
        assert!(!handshake.await);
        assert_eq!(start.elapsed().as_secs(), HANDSHAKE_TIMEOUT.as_secs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_hold_a_drain_up() {
    let draining = CancellationToken::new();
    let handshake = half_shaken(b"", draining.clone());
    draining.cancel();
    let start = Instant::now();
    assert!(!handshake.await);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up() {
    let mut served = asked().await;
    assert_eq!(served.ends().await.as_secs(), STALLED_AFTER.as_secs());
    let mut taken = Vec::new();
    served.client.read_to_end(&mut taken).await.unwrap();
    assert!(taken.len() < ANSWER_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_keep_an_answer() {
    let Served {
        mut client,
        mut connection,
        ..
    } = asked().await;
    let start = Instant::now();
    let reads = async {
        loop {
            client.read_u8().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = reads => {}
        ended = connection.join_next() => ended.unwrap().unwrap(),
    }
    assert_eq!(start.elapsed().as_secs(), STALLED_AFTER.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_its_answer() {
    let mut served = asked().await;
    let (start, mut taken, mut piece) = (Instant::now(), 0, [0; 4096]);
    while taken < ANSWER_BYTES {
        let read = served.client.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "cut off after {taken} bytes");
        taken += read;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(start.elapsed() > STALLED_AFTER * 10);
    // The rest was slow as well, and the connection lives.
    served
        .client
        .write_all(b"GET /large HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut rest = Vec::new();
    served.client.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() > ANSWER_BYTES);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_does_not_hold_a_drain_up() {
    let mut served = asked().await;
    // Until the pipe is full.
    tokio::time::sleep(Duration::from_secs(1)).await;
    served.draining.cancel();
    let took = served.ends().await;
    assert_eq!(took.as_secs(), STALLED_AFTER_DRAINING.as_secs());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_is_finished_during_a_drain() {
    let mut served = asked().await;
    // It has begun.
    assert_eq!(served.client.read_u8().await.unwrap(), b'H');
    served.draining.cancel();
    let mut answer = Vec::new();
    served.client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > ANSWER_BYTES);
    served.ends().await;
}

/// A connection of HTTP/2 over a pipe, and its client.
async fn multiplexed(
    window: u32,
) -> (
    ::h2::client::SendRequest<bytes::Bytes>,
    tokio::task::JoinSet<()>,
    CancellationToken,
) {
    let lifecycle = Lifecycle::default();
    let draining = lifecycle.draining.clone();
    let (client, server) = pipe(&draining);
    let beside = place().beside([127, 0, 0, 1].into());
    let answer = get(|| async { vec![b'x'; ANSWER_BYTES] });
    let router = Router::new()
        .route("/large", answer)
        .route("/ws", connect(echo));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let peer = Peer(([127, 0, 0, 1], 1).into());
        h2::serve(server, peer, router, beside, &lifecycle).await;
    });
    let (requests, connection) = ::h2::client::Builder::new()
        .initial_window_size(window)
        // As browsers do it: it is the stream's that counts.
        .initial_connection_window_size(16 * 1024 * 1024)
        .handshake(client)
        .await
        .unwrap();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    (requests.ready().await.unwrap(), tasks, draining)
}

/// Gives back what comes on a stream of its own.
async fn echo(mut request: Request<Body>) -> http::Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio_util::task::TaskTracker::new().spawn(async move {
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        let _ = tokio::io::copy(&mut from, &mut to).await;
    });
    http::Response::new(Body::empty())
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_its_own_keeps_its_connection_and_may_be_silent() {
    let (mut requests, mut tasks, _) = multiplexed(65_535).await;
    while !requests.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let mut request = http::Request::connect("https://x/ws").body(()).unwrap();
    let protocol = ::h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let (answer, mut stream) = requests.send_request(request, false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    tokio::time::sleep(HEADER_READ_TIMEOUT * 10).await;
    stream.send_data("hello".into(), false).unwrap();
    assert_eq!(body.data().await.unwrap().unwrap(), "hello");
    // Without it the connection is one on which nothing happens.
    stream.send_data("".into(), true).unwrap();
    let start = Instant::now();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), HEADER_READ_TIMEOUT.as_secs());
}

fn large() -> http::Request<()> {
    http::Request::get("https://x/large").body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn on_a_stream_an_answer_that_nobody_reads_is_given_up() {
    // With no window at all, with one that takes the beginning, and with those that take all but the end: all of it
    // could be given away when a byte of the last piece fits.
    let answer = ANSWER_BYTES as u32;
    for window in [0, 20_000, answer - 10_000, answer - 100, answer - 1] {
        let (mut requests, _tasks, _) = multiplexed(window).await;
        let (answer, _) = requests.send_request(large(), true).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let start = Instant::now();
        // Read, but never released.
        let reset = loop {
            match body.data().await.unwrap() {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(start.elapsed().as_secs(), STALLED_AFTER.as_secs());
        assert!(reset.is_reset() && reset.is_remote(), "{reset}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_stream_a_slow_reader_gets_its_answer() {
    let (mut requests, _tasks, _) = multiplexed(65_535).await;
    let (answer, _) = requests.send_request(large(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let start = Instant::now();
    let mut taken = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        taken += piece.len();
        // A piece of 16 KiB in ten seconds, in however many frames it comes.
        tokio::time::sleep(Duration::from_micros(610) * piece.len() as u32).await;
        body.flow_control().release_capacity(piece.len()).unwrap();
    }
    assert_eq!(taken, ANSWER_BYTES);
    assert!(start.elapsed() > STALLED_AFTER * 5);
}

#[tokio::test(start_paused = true)]
async fn a_connection_of_http_2_without_streams_ends_and_a_stalled_one_holds_no_drain_up() {
    let (_requests, mut tasks, _) = multiplexed(65_535).await;
    let start = Instant::now();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), HEADER_READ_TIMEOUT.as_secs());

    let (mut requests, mut tasks, draining) = multiplexed(0).await;
    let (answer, _) = requests.send_request(large(), true).unwrap();
    let _answer = answer.await.unwrap();
    let start = Instant::now();
    draining.cancel();
    tasks.join_next().await.unwrap().unwrap();
    assert_eq!(start.elapsed().as_secs(), STALLED_AFTER_DRAINING.as_secs());
}

/// Client and task of a connection of HTTP/2 that has no answer to anything, and says so much.
async fn silent(said: &[u8]) -> (DuplexStream, tokio::task::JoinSet<()>, CancellationToken) {
    let lifecycle = Lifecycle::default();
    let draining = lifecycle.draining.clone();
    let (mut client, server) = pipe(&draining);
    let beside = place().beside([127, 0, 0, 1].into());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let peer = Peer(([127, 0, 0, 1], 1).into());
        h2::serve(server, peer, Router::new(), beside, &lifecycle).await;
    });
    client.write_all(said).await.unwrap();
    (client, tasks, draining)
}

#[tokio::test(start_paused = true)]
async fn a_client_of_http_2_that_acknowledges_nothing_holds_no_drain_up() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // Before it is told to end for being idle, and afterwards.
    for (said, pause) in [(&b""[..], 1), (PREFACE, 1), (PREFACE, 33)] {
        let (_client, mut tasks, draining) = silent(said).await;
        tokio::time::sleep(Duration::from_secs(pause)).await;
        draining.cancel();
        let start = Instant::now();
        let ended = timeout(STALLED_AFTER * 10, tasks.join_next()).await;
        ended.expect("it ends").unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), STALLED_AFTER_DRAINING.as_secs());
    }
}
