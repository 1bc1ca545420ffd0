//! The gateway under TLS: requests, sockets, readers who stall, and clients who do not keep to it.

use std::sync::Arc;

use serde_json::{Value, json};
use stack_gateway::Tls;
use stack_testkit::{Closed, PASSWORD, PATIENCE, Socket, TestGateway};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A gateway with a certificate of its own, and a client that trusts no other and speaks HTTP/1.
pub(crate) struct Enciphered {
    pub(crate) gateway: TestGateway,
    connector: TlsConnector,
    /// Whom the client trusts.
    pub(crate) cert: CertificateDer<'static>,
}

impl Enciphered {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut stack_gateway::config::Config)) -> Self {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        std::fs::write(&cert, pair.cert.pem()).unwrap();
        std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let tls = Tls::load(&cert, &key).unwrap();
        let gateway = TestGateway::with(|config| {
            config.tls = Some(tls);
            change(config);
        })
        .await;
        let mut client = trusting(pair.cert.der());
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(client));
        Self {
            gateway,
            connector,
            cert: pair.cert.der().clone(),
        }
    }

    /// A stream whose handshake is over, or none when it was closed instead.
    async fn try_connect(&self) -> Option<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.gateway.addr()).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let shaken = timeout(PATIENCE, self.connector.connect(name, stream)).await;
        shaken.unwrap().ok()
    }

    /// A stream whose handshake is over, with a receive buffer as the system has it or a small one.
    pub(crate) async fn connect(&self, receive_bytes: Option<u32>) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(self.gateway.addr()).await.unwrap();
        let name = "localhost".try_into().unwrap();
        let shaken = timeout(PATIENCE, self.connector.connect(name, stream)).await;
        shaken.unwrap().unwrap()
    }

    /// The answer to a request, head and body, read until the gateway says that it is over.
    pub(crate) async fn request(&self, head: &str, body: &str) -> String {
        let mut stream = self.connect(None).await;
        let request = format!(
            "{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // An end without a close_notify would be an error here.
        let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.unwrap().unwrap();
        answer
    }

    pub(crate) async fn register(&self, username: &str) -> String {
        let body = json!({ "username": username, "password": PASSWORD, "token_delivery": "body" });
        let answer = self
            .request("POST /api/v1/auth/register", &body.to_string())
            .await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Value = serde_json::from_str(body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn room(&self, token: &str) {
        let body = json!({ "id": "general", "title": "x", "settings": { "public": true } });
        let head = "POST /api/v1/rooms HTTP/1.1\r\nauthorization: Bearer ";
        let mut stream = self.connect(None).await;
        let body = body.to_string();
        let request = format!(
            "{head}{token}\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }

    /// A socket that signs in with its first frame.
    pub(crate) async fn socket(&self, token: &str, receive_bytes: Option<u32>) -> Socket {
        let stream = self.connect(receive_bytes).await;
        let mut socket = Socket::over(stream, self.gateway.addr(), "/ws", &[])
            .await
            .unwrap();
        socket.ok("auth", json!({ "token": token })).await;
        socket
    }
}

/// Sends messages, each larger than one record, in the room; every reader hears them in order.
pub(crate) async fn all_hear(sender: &mut Socket, readers: &mut [Socket]) {
    let data = "x".repeat(30_000);
    for seq in 2..=20 {
        let sent = sender
            .ok(
                "send",
                json!({ "room": "general", "body": format!("{seq}"), "data": data }),
            )
            .await;
        assert_eq!(sent["seq"], seq);
    }
    for reader in readers {
        for seq in 2..=20 {
            let message = reader.next_of("message").await;
            assert_eq!(message["seq"], seq);
            assert_eq!(message["data"], data);
        }
    }
}

/// A client that trusts this certificate alone.
pub(crate) fn trusting(cert: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(cert.clone()).unwrap();
    let provider = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[tokio::test]
async fn requests_are_answered_and_the_url_is_https() {
    let world = Enciphered::start().await;
    let stream = world.connect(None).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = world.request("GET /ping", "").await;
    assert!(answer.ends_with("\r\n\r\npong"), "{answer}");
    let headers = answer.to_ascii_lowercase();
    assert!(
        headers.contains("strict-transport-security: max-age"),
        "{headers}"
    );
    let port = world.gateway.addr().port();
    assert!(
        headers.contains(&format!("wss://localhost:{port}")),
        "{headers}"
    );

    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    let answer = world.request("POST /api/v1/auth/register", &body).await;
    assert!(
        answer.contains("set-cookie: __Host-stack_access="),
        "{answer}"
    );
}

#[tokio::test]
async fn a_socket_sends_and_every_other_hears_it() {
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    world.room(&token).await;
    let mut sender = world.socket(&token, None).await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = world.socket(&token, None).await;
        reader.ok("subscribe", json!({ "room": "general" })).await;
        readers.push(reader);
    }
    all_hear(&mut sender, &mut readers).await;
}

#[tokio::test]
async fn a_reader_who_stalls_holds_up_nobody_and_later_gets_everything_in_order() {
    const MESSAGES: u64 = 600;
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    world.room(&token).await;
    let mut stalled = world.socket(&token, Some(4096)).await;
    stalled.ok("subscribe", json!({ "room": "general" })).await;
    let mut quick = world.socket(&token, None).await;
    quick.ok("subscribe", json!({ "room": "general" })).await;
    let mut sender = world.socket(&token, None).await;
    // More than the kernel's buffers hold of one connection: several megabytes.
    let data = "x".repeat(20_000);
    for seq in 2..MESSAGES + 2 {
        let message = json!({ "room": "general", "body": "hello", "data": data });
        assert_eq!(sender.ok("send", message).await["seq"], seq);
        assert_eq!(quick.next_of("message").await["seq"], seq);
    }
    for seq in 2..MESSAGES + 2 {
        let message = stalled.next_of("message").await;
        assert_eq!(message["seq"], seq);
        assert_eq!(message["data"], data);
    }
    // And it is live again.
    sender
        .ok("send", json!({ "room": "general", "body": "more" }))
        .await;
    assert_eq!(stalled.next_of("message").await["seq"], MESSAGES + 2);
    stalled.ok("ping", json!({})).await;
}

/// A frame as a client sends it, masked with zeros.
fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    let mut frame = vec![0x80 | opcode, 0x80 | len, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// An upgraded stream, its head read, with whatever is sent along with the request.
async fn upgraded(world: &Enciphered, ahead: &[u8]) -> TlsStream<TcpStream> {
    let mut stream = world.connect(None).await;
    let mut request =
        b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            .to_vec();
    request.extend_from_slice(ahead);
    stream.write_all(&request).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    stream
}

async fn rest(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    read.unwrap().map(|_| rest)
}

#[tokio::test]
async fn frames_that_come_with_the_upgrade_request_are_read() {
    let world = Enciphered::start().await;
    // Too many for what hyper reads at once, so that some are left in the session.
    let mut ahead = Vec::new();
    for _ in 0..3000 {
        ahead.extend(frame(9, b""));
    }
    ahead.extend(frame(1, br#"{"type":"ping","id":7}"#));
    ahead.extend(frame(8, &1000_u16.to_be_bytes()));
    let mut stream = upgraded(&world, &ahead).await;
    let answer = rest(&mut stream).await.unwrap();
    let pongs = answer.chunks_exact(2).take_while(|pong| *pong == [0x8a, 0]);
    assert_eq!(pongs.count(), 3000);
    let text = String::from_utf8_lossy(&answer[6000..]);
    assert!(text.contains("\"id\":7"), "{text}");
    assert!(answer.ends_with(&[0x88, 2, 0x03, 0xe8]), "{text}");
}

#[tokio::test]
async fn both_sides_may_close_and_the_stream_ends_in_order() {
    let world = Enciphered::start().await;
    // The client begins.
    let mut stream = upgraded(&world, b"").await;
    stream
        .write_all(&frame(8, &1000_u16.to_be_bytes()))
        .await
        .unwrap();
    assert_eq!(rest(&mut stream).await.unwrap(), [0x88, 2, 0x03, 0xe8]);
    // The gateway begins: this is no JSON.
    let mut stream = upgraded(&world, &frame(1, b"{")).await;
    stream
        .write_all(&frame(8, &4000_u16.to_be_bytes()))
        .await
        .unwrap();
    let answer = rest(&mut stream).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("malformed"));
    // The gateway begins, and reads no frames any more: this one is not masked.
    let mut stream = upgraded(&world, &[0x81, 0]).await;
    let answer = rest(&mut stream).await.unwrap();
    assert_eq!(answer[2..4], 1002_u16.to_be_bytes());
    // The client ends the stream below, and the place is free again.
    let mut stream = upgraded(&world, b"").await;
    stream.shutdown().await.unwrap();
    let _ = rest(&mut stream).await.unwrap();
}

#[tokio::test]
async fn a_new_key_in_the_middle_of_the_stream_is_followed() {
    let world = Enciphered::start().await;
    let mut stream = upgraded(&world, b"").await;
    for _ in 0..3 {
        stream.get_mut().1.refresh_traffic_keys().unwrap();
        stream.write_all(&frame(9, b"key")).await.unwrap();
        let mut pong = [0; 5];
        timeout(PATIENCE, stream.read_exact(&mut pong))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&pong, b"\x8a\x03key");
    }
}

#[tokio::test]
async fn a_record_that_is_none_ends_a_socket_with_an_alert() {
    let world = Enciphered::start().await;
    let mut stream = upgraded(&world, b"").await;
    let raw = stream.get_mut().0;
    raw.write_all(b"\x17\x03\x03\x00\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
        .await
        .unwrap();
    let error = rest(&mut stream).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[tokio::test]
async fn who_stalls_in_the_handshake_has_a_place_and_holds_up_nobody() {
    let world = Enciphered::with(|config| config.connections.total = 4).await;
    let addr = world.gateway.addr();
    let silent = TcpStream::connect(addr).await.unwrap();
    let mut halfway = TcpStream::connect(addr).await.unwrap();
    // The head of a ClientHello that never goes on.
    halfway
        .write_all(b"\x16\x03\x01\x02\x00\x01")
        .await
        .unwrap();
    let held = world.connect(None).await;
    let fourth = world.connect(None).await;
    let mut refused = TcpStream::connect(addr).await.unwrap();
    assert!(!matches!(
        timeout(PATIENCE, refused.read(&mut [0])).await.unwrap(),
        Ok(1..)
    ));
    // Whoever gives up gives the place back.
    drop((held, silent));
    while world.try_connect().await.is_none() {}
    drop((fourth, halfway));
}

#[tokio::test]
async fn what_is_no_tls_is_turned_away() {
    let world = Enciphered::start().await;
    for garbage in [
        &b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        &[0xff; 600],
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut stream = TcpStream::connect(world.gateway.addr()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        // An alert, or a reset in place of it; nothing of HTTP.
        assert!(
            read.is_err() || answer.is_empty() || answer[0] == 0x15,
            "{answer:?}"
        );
    }
    assert!(world.request("GET /ping", "").await.ends_with("pong"));
}

#[tokio::test]
async fn going_down_is_told_and_ends_the_stream_in_order() {
    let world = Enciphered::start().await;
    let token = world.register("alice").await;
    let mut socket = world.socket(&token, None).await;
    let _silent = TcpStream::connect(world.gateway.addr()).await.unwrap();
    let told = async {
        assert!(socket.next_of("drain").await["reconnect_in_ms"].is_u64());
        socket.closed().await
    };
    let ((), closed) = tokio::join!(world.gateway.shutdown(), told);
    assert_eq!(closed, Closed::Code(1001));
}
