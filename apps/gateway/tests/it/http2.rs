//! HTTP/2: requests, WebSockets on its streams, and clients who abuse it.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use stack_testkit::{Closed, PASSWORD, PATIENCE, Socket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{Enciphered, all_hear, trusting};

/// A connection of HTTP/2, and what carries its bytes.
struct Connection {
    requests: SendRequest<Bytes>,
    carriers: JoinSet<()>,
}

async fn tls(world: &Enciphered) -> TlsStream<TcpStream> {
    tls_behind(world, b"").await
}

/// TLS behind what a proxy says.
async fn tls_behind(world: &Enciphered, ahead: &[u8]) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(trusting(&world.cert)));
    let mut stream = TcpStream::connect(world.gateway.addr()).await.unwrap();
    stream.write_all(ahead).await.unwrap();
    // HTTP/2 writes a lot of small frames.
    stream.set_nodelay(true).unwrap();
    let name = "localhost".try_into().unwrap();
    let stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

impl Connection {
    async fn open(world: &Enciphered) -> Self {
        Self::over(tls(world).await).await
    }

    async fn over(stream: TlsStream<TcpStream>) -> Self {
        // As browsers do it: a stream that is not read keeps no other from being read.
        let handshake = h2::client::Builder::new()
            .initial_window_size(64 * 1024)
            .initial_connection_window_size(16 * 1024 * 1024)
            .handshake(stream);
        let (requests, connection) = handshake.await.unwrap();
        let mut carriers = JoinSet::new();
        carriers.spawn(async move {
            let _ = connection.await;
        });
        Self { requests, carriers }
    }

    /// The answer to a request, its body whole.
    async fn ask(&mut self, request: Request<()>, body: &str) -> http::Response<String> {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let (answer, mut stream) = requests.send_request(request, body.is_empty()).unwrap();
        if !body.is_empty() {
            stream.send_data(body.to_owned().into(), true).unwrap();
        }
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        let (head, mut body) = answer.into_parts();
        let mut text = Vec::new();
        while let Some(piece) = timeout(PATIENCE, body.data()).await.unwrap() {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            text.extend_from_slice(&piece);
        }
        http::Response::from_parts(head, String::from_utf8(text).unwrap())
    }

    /// Opens a WebSocket on a stream, or gives the status of the refusal. It reads ahead no more than a few KiB.
    async fn try_socket(&mut self, request: Request<()>) -> Result<Socket, StatusCode> {
        let mut requests = self.requests.clone().ready().await.unwrap();
        // The gateway's settings say that it can be asked for.
        while !requests.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (answer, mut sending) = requests.send_request(request, false).unwrap();
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        if answer.status() != StatusCode::OK {
            return Err(answer.status());
        }
        let mut receiving = answer.into_body();
        let (near, far) = tokio::io::duplex(4096);
        let (mut from_near, mut to_near) = tokio::io::split(far);
        self.carriers.spawn(async move {
            while let Some(Ok(piece)) = receiving.data().await {
                if to_near.write_all(&piece).await.is_err() {
                    return;
                }
                let _ = receiving.flow_control().release_capacity(piece.len());
            }
            let _ = to_near.shutdown().await;
        });
        self.carriers.spawn(async move {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = from_near.read(&mut piece).await {
                if sending
                    .send_data(Bytes::copy_from_slice(&piece[..read]), false)
                    .is_err()
                {
                    return;
                }
            }
            let _ = sending.send_data(Bytes::new(), true);
        });
        Ok(Socket::upgraded(near).await)
    }

    /// A socket that signs in with its first frame.
    async fn socket(&mut self, world: &Enciphered, token: &str) -> Socket {
        let mut socket = self.try_socket(extended(world)).await.unwrap();
        socket.ok("auth", json!({ "token": token })).await;
        socket
    }
}

fn request(world: &Enciphered, method: Method, path: &str) -> Request<()> {
    let port = world.gateway.addr().port();
    Request::builder()
        .method(method)
        .uri(format!("https://localhost:{port}{path}"))
        .body(())
        .unwrap()
}

/// The request that opens a WebSocket.
fn extended(world: &Enciphered) -> Request<()> {
    let mut request = request(world, Method::CONNECT, "/ws");
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let headers = request.headers_mut();
    headers.insert("sec-websocket-version", "13".parse().unwrap());
    headers.insert("sec-websocket-protocol", "stack.v1.json".parse().unwrap());
    request
}

#[tokio::test]
async fn requests_are_answered_like_those_of_http_1() {
    let world = Enciphered::start().await;
    let mut connection = Connection::open(&world).await;
    let answer = connection
        .ask(request(&world, Method::GET, "/ping"), "")
        .await;
    assert_eq!(answer.body(), "pong");
    assert!(answer.headers().contains_key("strict-transport-security"));

    // A body whose length nobody has told is one all the same: it has to be JSON.
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    let mut register = request(&world, Method::POST, "/api/v1/auth/register");
    let answer = connection.ask(register.clone(), &body).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let headers = register.headers_mut();
    headers.insert("content-type", "application/json".parse().unwrap());
    let answer = connection.ask(register, &body).await;
    assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.body());

    // Cookies come one by one; and a route that looks at the host finds one.
    let mut me = request(&world, Method::GET, "/api/v1/me");
    me.headers_mut()
        .append("cookie", "other=1".parse().unwrap());
    for cookie in answer.headers().get_all("set-cookie") {
        let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
        me.headers_mut().append("cookie", cookie.parse().unwrap());
    }
    let answer = connection.ask(me, "").await;
    let me: Value = serde_json::from_str(answer.body()).unwrap();
    assert_eq!(me["username"], "alice");
}

#[tokio::test]
async fn sockets_on_one_connection_hear_each_other() {
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    world.room(&token).await;
    let mut connection = Connection::open(&world).await;
    let mut sender = connection.socket(&world, &token).await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = connection.socket(&world, &token).await;
        reader.ok("subscribe", json!({ "room": "general" })).await;
        readers.push(reader);
    }
    // And one that came by HTTP/1.
    let mut reader = world.socket(&token, None).await;
    reader.ok("subscribe", json!({ "room": "general" })).await;
    readers.push(reader);
    all_hear(&mut sender, &mut readers).await;
}

#[tokio::test]
async fn a_stream_that_stalls_holds_up_no_other_and_later_gets_everything_in_order() {
    const MESSAGES: u64 = 200;
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    world.room(&token).await;
    let mut connection = Connection::open(&world).await;
    let mut stalled = connection.socket(&world, &token).await;
    stalled.ok("subscribe", json!({ "room": "general" })).await;
    let mut quick = Connection::open(&world).await;
    let mut quick_reader = quick.socket(&world, &token).await;
    quick_reader
        .ok("subscribe", json!({ "room": "general" }))
        .await;
    let mut sender = connection.socket(&world, &token).await;
    let data = "x".repeat(20_000);
    for seq in 2..MESSAGES + 2 {
        let message = json!({ "room": "general", "body": "hello", "data": data });
        assert_eq!(sender.ok("send", message).await["seq"], seq);
        assert_eq!(quick_reader.next_of("message").await["seq"], seq);
    }
    let metrics = connection.ask(request(&world, Method::GET, "/metrics"), "");
    let metrics = metrics.await.into_body();
    let behind = metrics
        .lines()
        .find_map(|line| line.strip_prefix("stack_fell_behind_total "));
    assert_ne!(
        behind,
        Some("0"),
        "the one that stalls is behind, not buffered"
    );
    for seq in 2..MESSAGES + 2 {
        let message = stalled.next_of("message").await;
        assert_eq!(message["seq"], seq);
        assert_eq!(message["data"], data);
    }
    sender
        .ok("send", json!({ "room": "general", "body": "more" }))
        .await;
    assert_eq!(stalled.next_of("message").await["seq"], MESSAGES + 2);
    stalled.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_stream_that_is_no_socket_is_refused() {
    let world = Enciphered::start().await;
    let mut connection = Connection::open(&world).await;
    let mut other = extended(&world);
    other.extensions_mut().insert(Protocol::from_static("echo"));
    assert_eq!(
        connection.try_socket(other).await.err(),
        Some(StatusCode::BAD_REQUEST)
    );
    let mut old = extended(&world);
    old.headers_mut()
        .insert("sec-websocket-version", "8".parse().unwrap());
    assert_eq!(
        connection.try_socket(old).await.err(),
        Some(StatusCode::BAD_REQUEST)
    );
    let mut foreign = extended(&world);
    foreign
        .headers_mut()
        .insert("origin", "https://evil.example".parse().unwrap());
    assert_eq!(
        connection.try_socket(foreign).await.err(),
        Some(StatusCode::FORBIDDEN)
    );
    for path in ["/", "/api/v1/me", "/nowhere"] {
        let mut elsewhere = request(&world, Method::CONNECT, path);
        elsewhere
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let refused = connection.try_socket(elsewhere).await.err().unwrap();
        assert!(refused.is_client_error(), "{path}: {refused}");
    }
    // The connection lives.
    let ping = connection.ask(request(&world, Method::GET, "/ping"), "");
    assert_eq!(ping.await.body(), "pong");
}

#[tokio::test]
async fn a_socket_takes_a_place_and_gives_it_back() {
    // Two connections and one socket.
    let world = Enciphered::with(|config| config.connections.total = 3).await;
    let token = world.register("alice").await;
    let mut connection = Connection::open(&world).await;
    let _second = Connection::open(&world).await;
    let mut socket = connection.socket(&world, &token).await;
    assert_eq!(
        connection.try_socket(extended(&world)).await.err(),
        Some(StatusCode::SERVICE_UNAVAILABLE)
    );
    socket.send_text("this is no frame").await;
    assert!(matches!(socket.closed().await, Closed::Code(_)));
    drop(socket);
    while connection.try_socket(extended(&world)).await.is_err() {}
}

#[tokio::test]
async fn a_request_beside_another_takes_a_place_and_gives_it_back() {
    // A connection, and two requests beside its first.
    let world = Enciphered::with(|config| config.connections.total = 3).await;
    let mut connection = Connection::open(&world).await;
    let mut requests = connection.requests.clone().ready().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let never = request(&world, Method::GET, "/api/v1/testing/never");
        held.push(requests.send_request(never, true).unwrap());
        requests = requests.ready().await.unwrap();
    }
    let ping = connection.ask(request(&world, Method::GET, "/ping"), "");
    let refused = ping.await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("x-request-id"));
    let problem: Value = serde_json::from_str(refused.body()).unwrap();
    assert_eq!(problem["code"], "unavailable");
    assert!(TcpStream::connect(world.gateway.addr()).await.is_ok());
    // Taken back; the first one is no other than the rest.
    for (_, mut stream) in held.drain(..1) {
        stream.send_reset(h2::Reason::CANCEL);
    }
    loop {
        let ping = connection.ask(request(&world, Method::GET, "/ping"), "");
        if ping.await.body() == "pong" {
            break;
        }
    }
}

#[tokio::test]
async fn what_is_on_a_connection_counts_for_the_client_behind_the_proxy() {
    const PROXIED: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    let world = Enciphered::with(|config| {
        config.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
        config.connections.per_ip = 2;
    })
    .await;
    let mut connection = Connection::over(tls_behind(&world, PROXIED).await).await;
    let held = connection.try_socket(extended(&world)).await;
    assert!(held.is_ok());
    let second = connection.try_socket(extended(&world)).await;
    assert_eq!(second.err(), Some(StatusCode::SERVICE_UNAVAILABLE));
    // Others have their own share.
    let other = b"PROXY TCP4 192.0.2.8 10.0.0.1 56324 443\r\n";
    let mut other = Connection::over(tls_behind(&world, other).await).await;
    assert!(other.try_socket(extended(&world)).await.is_ok());
}

#[tokio::test]
async fn going_down_is_told_on_every_stream() {
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    let mut connection = Connection::open(&world).await;
    let mut socket = connection.socket(&world, &token).await;
    let told = async {
        assert!(socket.next_of("drain").await["reconnect_in_ms"].is_u64());
        socket.closed().await
    };
    let ((), closed) = tokio::join!(world.gateway.shutdown(), told);
    assert_eq!(closed, Closed::Code(1001));
}

/// A frame of HTTP/2 as it stands on the wire.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `GET` of a path, without a body.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x87, 0x41, 9];
    head.extend(b"localhost");
    head.extend([0x44, u8::try_from(path.len()).unwrap()]);
    head.extend(path.as_bytes());
    frame(1, 0x05, stream, &head)
}

/// A connection that is spoken to frame by frame.
async fn raw(world: &Enciphered) -> TlsStream<TcpStream> {
    let mut stream = tls(world).await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream
}

/// The next frame of a kind: its stream and its payload.
async fn next_of(stream: &mut TlsStream<TcpStream>, kind: u8) -> (u32, Vec<u8>) {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            return (stream, payload);
        }
    }
}

const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 11];

#[tokio::test]
async fn streams_that_are_reset_in_a_flood_end_the_connection() {
    let world = Enciphered::start().await;
    let mut stream = raw(&world).await;
    let mut flood = Vec::new();
    for number in 0..500 {
        flood.extend(get(2 * number + 1, "/ping"));
        flood.extend(frame(RST_STREAM, 0, 2 * number + 1, &[0, 0, 0, 8]));
    }
    let _ = stream.write_all(&flood).await;
    let told = timeout(PATIENCE, next_of(&mut stream, GOAWAY)).await;
    let (_, payload) = told.unwrap();
    assert_eq!(payload[4..8], ENHANCE_YOUR_CALM, "{payload:?}");
    let mut other = Connection::open(&world).await;
    let ping = other.ask(request(&world, Method::GET, "/ping"), "").await;
    assert_eq!(ping.body(), "pong");
}

#[tokio::test]
async fn a_connection_has_no_more_than_so_many_streams() {
    let world = Enciphered::start().await;
    let mut stream = raw(&world).await;
    let mut all = Vec::new();
    for number in 0..110 {
        all.extend(get(2 * number + 1, "/api/v1/testing/never"));
    }
    stream.write_all(&all).await.unwrap();
    let mut refused = 0;
    while refused < 10 {
        let reset = timeout(PATIENCE, next_of(&mut stream, RST_STREAM)).await;
        let (number, reason) = reset.unwrap();
        assert!(number > 200, "{number}");
        assert_eq!(reason, REFUSED_STREAM);
        refused += 1;
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_its_connection_lives() {
    let world = Enciphered::start().await;
    let mut connection = Connection::open(&world).await;
    let mut large = request(&world, Method::GET, "/ping");
    for number in 0..10 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        large
            .headers_mut()
            .insert(name, "x".repeat(4000).parse().unwrap());
    }
    let mut requests = connection.requests.clone().ready().await.unwrap();
    let (answer, _) = requests.send_request(large, true).unwrap();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let ping = connection.ask(request(&world, Method::GET, "/ping"), "");
    assert_eq!(ping.await.body(), "pong");
}
