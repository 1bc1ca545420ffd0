//! Going down: nothing new, what runs is finished, and what was acknowledged is there afterwards.

use std::time::Duration;

use stack_gateway::ClientFile;
use stack_testkit::{PATIENCE, TestGateway};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let start = || {
        TestGateway::with(|config| {
            config.testing.in_memory = false;
            config.data_dir = path.clone();
        })
    };
    let gateway = start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let seq = alice.say("general", "remember me").await;
    gateway.shutdown().await;

    let gateway = start().await;
    // The token survives as well: its key is in the folder.
    let me = gateway
        .program()
        .get("/api/v1/me")
        .bearer(&alice.token)
        .send()
        .await;
    assert_eq!(me.expect(200)["username"], "alice");
    let page = gateway
        .program()
        .get("/api/v1/rooms/general/messages")
        .bearer(&alice.token)
        .send()
        .await;
    let page = page.expect(200);
    assert_eq!(page["head"], serde_json::json!(seq));
    assert_eq!(page["events"][1]["payload"]["body"], "remember me");
    gateway.shutdown().await;
}

#[tokio::test]
async fn idle_connections_end_and_no_new_ones_begin() {
    let gateway = TestGateway::start().await;
    let addr = gateway.addr();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 16];
    idle.read_exact(&mut answer).await.unwrap();
    let silent = TcpStream::connect(addr).await.unwrap();

    gateway.shutdown().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.ends_with(b"pong"));
    assert!(TcpStream::connect(addr).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn a_download_that_nobody_reads_does_not_hold_it_up() {
    let gateway = TestGateway::with(|config| {
        config.shutdown_deadline = PATIENCE * 3;
        config.testing.client_files = Some(|_| {
            Some(ClientFile {
                content: vec![b'x'; 16 * 1024 * 1024].into(),
                media_type: "image/png".into(),
                hash: [1; 32],
            })
        });
    })
    .await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stalled = socket.connect(gateway.addr()).await.unwrap();
    stalled
        .write_all(b"GET /large.png HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(stalled.read_u8().await.unwrap(), b'H');
    timeout(PATIENCE, gateway.shutdown()).await.unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_off_at_the_deadline() {
    let gateway = TestGateway::with(|config| {
        config.shutdown_deadline = Duration::from_millis(50);
        config.http.timeout = Duration::from_secs(600);
    })
    .await;
    let mut stuck = TcpStream::connect(gateway.addr()).await.unwrap();
    stuck
        .write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut answer = vec![0; 16];
    stuck.read_exact(&mut answer).await.unwrap();
    stuck
        .write_all(b"GET /api/v1/testing/never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    gateway.shutdown().await;
    let mut rest = Vec::new();
    // Closed or reset, but not waited for.
    let _ = stuck.read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1 504"));
}
