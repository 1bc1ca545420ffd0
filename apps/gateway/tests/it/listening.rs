//! Where the gateway listens, and whose a connection is that a proxy has opened.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};
use stack_gateway::config::Endpoint;
use stack_testkit::{PASSWORD, PATIENCE, Socket, TestGateway};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::tls::Enciphered;

fn any_port() -> Endpoint {
    SocketAddr::from(([127, 0, 0, 1], 0)).into()
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), head: &str, body: &str) -> String {
    let request = format!(
        "{head}\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // What is closed without an answer may be reset.
    let _ = timeout(PATIENCE, stream.read_to_string(&mut answer))
        .await
        .unwrap();
    answer
}

#[tokio::test]
async fn every_address_and_socket_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.sock");
    let start = || {
        let path = path.clone();
        TestGateway::with(move |config| {
            config.listen = vec![any_port(), Endpoint::Unix(path), any_port()];
        })
    };
    let gateway = start().await;
    let listening = gateway.listening().to_vec();
    assert_eq!(listening.len(), 3);
    assert_eq!(listening[1], format!("unix:{}", path.display()));
    for at in [&listening[0], &listening[2]] {
        let addr = at.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let answer = ask(&mut stream, "GET /ping HTTP/1.1", "").await;
        assert!(answer.ends_with("pong"), "{answer}");
    }
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let answer = ask(&mut stream, "GET /ping HTTP/1.1", "").await;
    assert!(answer.ends_with("pong"), "{answer}");

    // A WebSocket by either, in one room.
    let alice = gateway.person("alice").await;
    let authorization = format!("Bearer {}", alice.token);
    let headers = [("authorization", &*authorization)];
    let stream = UnixStream::connect(&path).await.unwrap();
    let mut near = Socket::over(stream, gateway.addr(), "/ws", &headers)
        .await
        .unwrap();
    let mut far = gateway.socket(&alice).await;
    let room = json!({ "id": "general", "title": "x" }).to_string();
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let head = format!("POST /api/v1/rooms HTTP/1.1\r\nauthorization: {authorization}");
    let answer = ask(&mut stream, &head, &room).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    near.ok("subscribe", json!({ "room": "general" })).await;
    far.ok("send", json!({ "room": "general", "body": "hello" }))
        .await;
    assert_eq!(near.next_of("message").await["body"], "hello");
    // The socket ends in order too, when it is the gateway who has had enough.
    near.send_text("no frame").await;
    near.closed().await;
    drop(far);
    gateway.shutdown().await;
    assert!(!path.exists());

    // What a gateway that was killed has left behind is no hindrance; one that lives is.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let gateway = start().await;
    assert!(answers(&path).await);
    let mut config = stack_testkit::config();
    config.listen = vec![Endpoint::Unix(path.clone())];
    let refused = stack_gateway::Gateway::start(config).await.unwrap_err();
    assert!(refused.to_string().contains("stack.sock"), "{refused}");
    assert!(answers(&path).await);
    gateway.shutdown().await;
}

#[tokio::test]
async fn every_address_of_both_families_may_be_listened_on_side_by_side() {
    // A machine without IPv6 has nothing to show here.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let four = SocketAddr::from(([0, 0, 0, 0], port));
    let six = SocketAddr::new("::".parse().unwrap(), port);
    let _gateway = TestGateway::with(|config| {
        config.listen = vec![four.into(), six.into()];
    })
    .await;
    for addr in ["127.0.0.1", "::1"] {
        let mut stream = TcpStream::connect((addr, port)).await.unwrap();
        let answer = ask(&mut stream, "GET /ping HTTP/1.1", "").await;
        assert!(answer.ends_with("pong"), "{addr}");
    }
}

async fn answers(path: &Path) -> bool {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let answer = ask(&mut stream, "GET /ping HTTP/1.1", "").await;
    answer.ends_with("pong")
}

/// Where a session of somebody who registers over this stream is said to come from.
async fn seen_as(gateway: &TestGateway, ahead: &[u8], name: &str) -> Option<String> {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(ahead).await.unwrap();
    let body = json!({ "username": name, "password": PASSWORD, "token_delivery": "body" });
    let head = "POST /api/v1/auth/register HTTP/1.1";
    let answer = ask(&mut stream, head, &body.to_string()).await;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    let token = body["access_token"].as_str()?;
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    stream.write_all(ahead).await.unwrap();
    let head = format!("GET /api/v1/auth/sessions HTTP/1.1\r\nauthorization: Bearer {token}");
    let answer = ask(&mut stream, &head, "").await;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["sessions"][0]["ip"].as_str()?.to_owned())
}

const VERSION_1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
const VERSION_2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x0a\0\0\x01\x12\x34\0\x50";

#[tokio::test]
async fn a_configured_proxy_says_whose_a_connection_is() {
    let gateway = TestGateway::with(|config| {
        config.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    for (ahead, name, ip) in [
        (VERSION_1, "alice", "192.0.2.7"),
        (VERSION_2, "bob", "192.0.2.8"),
    ] {
        assert_eq!(seen_as(&gateway, ahead, name).await.as_deref(), Some(ip));
    }
    // It has to say it.
    assert_eq!(seen_as(&gateway, b"", "carol").await, None);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let gateway = TestGateway::with(|config| {
        config.proxy_protocol = vec!["10.0.0.0/8".parse().unwrap()];
    })
    .await;
    assert_eq!(
        seen_as(&gateway, b"", "alice").await.as_deref(),
        Some("127.0.0.1")
    );
    for ahead in [VERSION_1, VERSION_2] {
        assert_eq!(seen_as(&gateway, ahead, "bob").await, None);
    }
}

#[tokio::test]
async fn the_share_of_an_address_is_that_of_the_client_behind_the_proxy() {
    let gateway = TestGateway::with(|config| {
        config.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
        config.connections.per_ip = 1;
    })
    .await;
    let mut held = TcpStream::connect(gateway.addr()).await.unwrap();
    held.write_all(VERSION_1).await.unwrap();
    held.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(held.read_u8().await.unwrap(), b'H');
    let mut second = TcpStream::connect(gateway.addr()).await.unwrap();
    second.write_all(VERSION_1).await.unwrap();
    assert_eq!(ask(&mut second, "GET /ping HTTP/1.1", "").await, "");
    let mut other = TcpStream::connect(gateway.addr()).await.unwrap();
    other.write_all(VERSION_2).await.unwrap();
    let answer = ask(&mut other, "GET /ping HTTP/1.1", "").await;
    assert!(answer.ends_with("pong"));
}

#[tokio::test]
async fn plain_http_is_sent_on_to_the_public_url_and_nowhere_else() {
    let world = Enciphered::with(|config| config.tls_redirects = vec![any_port()]).await;
    let gateway = &world.gateway;
    let plain = gateway.listening()[1].strip_prefix("http://").unwrap();
    let public = format!("https://localhost:{}", gateway.addr().port());
    for (head, location) in [
        ("GET /a/b?c=d HTTP/1.1", "/a/b?c=d"),
        ("POST //evil.example/ HTTP/1.1", "//evil.example/"),
        ("GET http://evil.example/x HTTP/1.1", "/x"),
    ] {
        let mut stream = TcpStream::connect(plain).await.unwrap();
        let answer = ask(&mut stream, head, "").await;
        assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
        let expected = format!("location: {public}{location}\r\n");
        assert!(answer.contains(&expected), "{answer}");
    }
}
