//! Sockets where they meet HTTP: how they are opened, what one side sees of the other, and how they end.

use futures_util::future::join_all;
use serde_json::json;
use stack_testkit::{Closed, Socket, TestGateway};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn room() -> (TestGateway, stack_testkit::Person) {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    (gateway, alice)
}

#[tokio::test]
async fn what_is_said_over_http_arrives_as_it_stands_in_a_page() {
    let (gateway, alice) = room().await;
    let mut socket = gateway.socket(&alice).await;
    let subscribed = socket
        .ok("subscribe", json!({ "room": "general", "after": 0 }))
        .await;
    assert_eq!(
        (&subscribed["head"], &subscribed["role"]),
        (&json!(1), &json!("owner"))
    );
    alice.say("general", "over HTTP").await;
    let sent = socket
        .ok(
            "send",
            json!({ "room": "general", "body": "over the socket" }),
        )
        .await;
    assert_eq!(sent["seq"], 3);

    let mut resumed = gateway.socket(&alice).await;
    resumed
        .tell("subscribe", json!({ "room": "general", "after": 0 }))
        .await;
    let page = alice
        .get("/api/v1/rooms/general/messages?after=0")
        .await
        .text;
    for seq in 1..=3 {
        let frame = resumed.text().await.unwrap();
        assert!(
            frame.contains(&format!("\"seq\":{seq},")) && page.contains(&frame),
            "{frame} in {page}"
        );
    }
}

#[tokio::test]
async fn signing_out_closes_the_sockets_of_that_session_alone() {
    let (gateway, alice) = room().await;
    let laptop = alice.another_device("alice").await;
    let (mut ended, mut other) = (gateway.socket(&alice).await, gateway.socket(&laptop).await);
    ended.ok("ping", json!({})).await;
    other.ok("ping", json!({})).await;
    assert_eq!(
        alice
            .call("POST", "/api/v1/auth/logout")
            .send()
            .await
            .status,
        204
    );
    assert_eq!(ended.next_of("session").await["state"], "revoked");
    assert_eq!(ended.closed().await, Closed::Code(4001));
    other.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_ticket_opens_one_socket() {
    let (gateway, alice) = room().await;
    let ticket = alice
        .call("POST", "/api/v1/auth/ticket")
        .send()
        .await
        .expect(200);
    let path = format!("/ws?ticket={}", ticket["ticket"].as_str().unwrap());
    let mut first = Socket::open(gateway.addr(), &path, &[]).await;
    first.ok("ping", json!({})).await;
    let mut second = Socket::open(gateway.addr(), &path, &[]).await;
    assert_eq!(second.next_of("error").await["code"], "unauthenticated");
    assert_eq!(second.closed().await, Closed::Code(4001));
}

#[tokio::test]
async fn a_cookie_opens_a_socket_for_a_page_of_ours_alone() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let cookie = format!(
        "stack_access={}",
        browser.cookie("/ws", "stack_access").unwrap()
    );
    let open = async |origin: Option<&str>| {
        let cookie = ("cookie", cookie.as_str());
        let headers: Vec<_> = [cookie]
            .into_iter()
            .chain(origin.map(|origin| ("origin", origin)))
            .collect();
        Socket::try_open(gateway.addr(), "/ws", &headers).await
    };
    assert_eq!(open(None).await.unwrap_err(), 403);
    assert_eq!(open(Some("https://evil.example")).await.unwrap_err(), 403);
    assert_eq!(open(Some("null")).await.unwrap_err(), 403);
    let mut socket = open(Some(&gateway.origin())).await.unwrap();
    socket.ok("ping", json!({})).await;
}

#[tokio::test]
async fn what_is_no_upgrade_is_told_so() {
    let gateway = TestGateway::start().await;
    gateway
        .program()
        .get("/ws")
        .send()
        .await
        .problem(400, "bad_request");
    gateway
        .program()
        .post("/ws")
        .send()
        .await
        .problem(405, "method_not_allowed");
}

#[tokio::test]
async fn who_is_connected_is_present_until_the_socket_ends() {
    let (gateway, alice) = room().await;
    let mut watching = gateway.socket(&alice).await;
    watching.ok("subscribe", json!({ "room": "general" })).await;
    let bob = gateway.person("bob").await;
    let place = format!("/api/v1/rooms/general/members/{}", bob.id);
    bob.put(&place, json!({ "role": "member" }))
        .await
        .expect(200);
    let mut coming = gateway.socket(&bob).await;
    coming.ok("subscribe", json!({ "room": "general" })).await;
    loop {
        let presence = watching.next_of("presence").await;
        if presence["user_id"] == json!(bob.id) && presence["status"] == "online" {
            break;
        }
    }
    let seen = alice
        .get("/api/v1/rooms/general/presence")
        .await
        .expect(200);
    assert_eq!(seen["count"], 2, "{seen}");
    drop(coming);
    loop {
        let presence = watching.next_of("presence").await;
        if presence["user_id"] == json!(bob.id) && presence["status"] == "offline" {
            break;
        }
    }
}

#[tokio::test]
async fn going_down_is_told_and_sockets_are_closed_before_the_store() {
    let (gateway, alice) = room().await;
    let mut socket = gateway.socket(&alice).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let down = gateway.shutdown();
    let told = async {
        assert!(socket.next_of("drain").await["reconnect_in_ms"].is_u64());
        socket.closed().await
    };
    let ((), closed) = tokio::join!(down, told);
    assert_eq!(closed, Closed::Code(1001));
}

/// A connection that has been answered, or none when it was closed at once.
async fn connection(gateway: &TestGateway) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let asked = stream
        .write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let answered = stream.read_u8().await;
    asked.and(answered).ok().map(|_| stream)
}

#[tokio::test]
async fn sockets_count_among_the_open_connections_until_they_end() {
    let gateway = TestGateway::with(|config| config.connections.total = 16).await;
    let alice = gateway.person("alice").await;
    let sockets = join_all((0..10).map(|_| gateway.socket(&alice))).await;
    let mut held = Vec::new();
    while let Some(stream) = connection(&gateway).await {
        held.push(stream);
    }
    // Those that Alice's client keeps open count as well.
    assert!((1..=5).contains(&held.len()), "{}", held.len());
    held.pop();
    let metrics = alice.get("/metrics").await.text;
    let refused = "stack_connections_refused_total ";
    let refused = metrics.lines().find_map(|line| line.strip_prefix(refused));
    assert_ne!(refused.unwrap(), "0");

    let places = held.len() + sockets.len();
    drop(sockets);
    while held.len() < places {
        held.extend(connection(&gateway).await);
    }
}
