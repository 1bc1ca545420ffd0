//! Edges: an origin and edges in one process, on a bus that outlives both and can be told to lose what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use stack_bus::{Bus, MemBus, Message, Prefix, PublishError, Subscribing};
use stack_gateway::config::{Config, OriginUrl};
use stack_gateway::{RunningEdge, StartError};
use stack_testkit::{Client, Closed, PATIENCE, Person, Socket, TestGateway};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::reload::File;

/// What lies between the gateways. It is closed with the test, not with a gateway.
#[derive(Clone, Default)]
struct Between {
    inner: MemBus,
    loses_events: Arc<AtomicBool>,
}

impl Bus for Between {
    fn publish(&self, message: Message) -> Result<(), PublishError> {
        let is_lost = self.loses_events.load(Ordering::Relaxed);
        if is_lost && message.topic.room_id().is_some() {
            return Ok(());
        }
        self.inner.publish(message)
    }

    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_> {
        self.inner.subscribe(prefix)
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn close(&self) {}
}

struct World {
    folder: tempfile::TempDir,
    bus: Between,
    edge: RunningEdge,
}

impl World {
    /// An origin, and an edge that has found it.
    async fn new() -> (Self, TestGateway) {
        let folder = tempfile::tempdir().unwrap();
        let bus = Between::default();
        let edge = RunningEdge::start(edge_config(&folder, &bus))
            .await
            .unwrap();
        let world = Self { folder, bus, edge };
        let origin = world.origin().await;
        world.linked().await;
        (world, origin)
    }

    /// The origin, started where the edge looks for it.
    async fn origin(&self) -> TestGateway {
        self.origin_with(|_| {}).await
    }

    async fn origin_with(&self, change: impl FnOnce(&mut Config)) -> TestGateway {
        TestGateway::with(|config| {
            config.testing.in_memory = false;
            config.testing.bus = Some(Arc::new(self.bus.clone()));
            config.data_dir = self.folder.path().join("data");
            config.ipc.path = Some(self.folder.path().join("gateway.sock"));
            // Everybody comes from one address, and a test is quick.
            config.public_url = Some(stack_gateway::config::Origin::http("localhost", 18_080));
            change(config);
        })
        .await
    }

    /// The origin, started where the edge does not find it.
    async fn origin_elsewhere(&self) -> TestGateway {
        let path = self.folder.path().join("elsewhere.sock");
        self.origin_with(|config| config.ipc.path = Some(path))
            .await
    }

    async fn linked(&self) {
        timeout(PATIENCE, self.edge.linked()).await.unwrap();
    }

    fn program(&self) -> Client {
        Client::program(format!("http://{}", self.edge.addr()))
    }

    async fn socket(&self, person: &Person) -> Socket {
        socket_at(self.edge.addr(), person).await
    }
}

fn edge_config(folder: &tempfile::TempDir, bus: &Between) -> Config {
    let mut config = stack_testkit::config();
    config.testing.bus = Some(Arc::new(bus.clone()));
    config.edge.origin = Some(OriginUrl::Local(folder.path().join("gateway.sock")));
    config
}

async fn socket_at(addr: SocketAddr, person: &Person) -> Socket {
    let authorization = format!("Bearer {}", person.token);
    Socket::open(addr, "/ws", &[("authorization", authorization.as_str())]).await
}

/// Reads on to the event with this number; every one behind `after` has to come, once and in order.
async fn reads_to(socket: &mut Socket, after: u64, last: u64) {
    let mut seen = after;
    while seen < last {
        let frame = socket.frame().await;
        if let Some(seq) = frame["payload"]["seq"]
            .as_u64()
            .filter(|_| frame.get("id").is_none())
        {
            assert_eq!(seq, seen + 1, "{frame}");
            seen = seq;
        }
    }
}

/// Sends again and again while the origin is away.
async fn sent(socket: &mut Socket, body: &str) -> u64 {
    let key = body.replace(' ', "-");
    loop {
        let payload = json!({ "room": "general", "body": body, "key": key });
        let answer = socket.ask("send", payload).await;
        match answer["payload"]["code"].as_str() {
            None => return answer["payload"]["seq"].as_u64().unwrap(),
            Some(code) => assert_eq!(code, "unavailable"),
        }
        tokio::task::yield_now().await;
    }
}

async fn join(person: &Person, room: &str) {
    let place = format!("/api/v1/rooms/{room}/members/{}", person.id);
    let joined = person.put(&place, json!({ "role": "member" })).await;
    assert_eq!(joined.status, 200, "{}", joined.text);
}

fn at(after: u64) -> Value {
    json!({ "room": "general", "after": after })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_at_an_edge_and_at_the_origin_is_one_history() {
    let (world, origin) = World::new().await;
    let alice = Person::register(world.program(), "alice").await;
    alice.room("general", true).await;
    let (mut here, mut there) = (world.socket(&alice).await, origin.socket(&alice).await);
    let subscribed = here.ok("subscribe", at(0)).await;
    assert_eq!(
        (&subscribed["head"], &subscribed["role"]),
        (&json!(1), &json!("owner"))
    );
    there.ok("subscribe", at(1)).await;
    for round in 0..10 {
        there
            .tell(
                "send",
                json!({ "room": "general", "body": format!("there {round}") }),
            )
            .await;
        here.tell(
            "send",
            json!({ "room": "general", "body": format!("here {round}") }),
        )
        .await;
    }
    reads_to(&mut here, 0, 21).await;
    reads_to(&mut there, 1, 21).await;
    let page = here
        .ok("history", json!({ "room": "general", "after": 0 }))
        .await;
    assert_eq!(page["events"].as_array().unwrap().len(), 21);
    // Repeated without a cursor it is live from the answer's head on.
    let again = here.ok("subscribe", json!({ "room": "general" })).await;
    assert_eq!(again["head"], 21);
    there
        .ok("send", json!({ "room": "general", "body": "next" }))
        .await;
    reads_to(&mut here, 21, 22).await;
    here.ok("unsubscribe", json!({ "room": "general" })).await;
    there
        .ok("send", json!({ "room": "general", "body": "unheard" }))
        .await;
    let pong = here.ask("ping", json!({})).await;
    assert_eq!(pong["type"], "ok");
}

/// The sample of a name with its labels, or nothing.
async fn sample(program: &Client, name: &str) -> Option<f64> {
    let text = program.get("/metrics").send().await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line?.strip_prefix(' ')?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_readers_are_counted_once_where_they_are() {
    let (world, origin) = World::new().await;
    let alice = Person::register(world.program(), "alice").await;
    alice.room("general", true).await;
    let (mut here, mut there) = (world.socket(&alice).await, origin.socket(&alice).await);
    here.ok("subscribe", at(0)).await;
    there.ok("subscribe", at(0)).await;
    reads_to(&mut here, 0, 1).await;
    reads_to(&mut there, 0, 1).await;
    for (name, at_origin, at_edge) in [
        ("stack_sockets", 1.0, 1.0),
        ("stack_relayed_sockets", 1.0, 0.0),
        ("stack_subscriptions", 1.0, 1.0),
        ("stack_rooms", 1.0, 1.0),
        ("stack_readers_behind", 0.0, 0.0),
    ] {
        for (program, expected) in [(origin.program(), at_origin), (world.program(), at_edge)] {
            // Who has just read the log is live a moment after the last of it is out.
            let counted = async {
                while sample(&program, name).await != Some(expected) {
                    tokio::task::yield_now().await;
                }
            };
            let counted = timeout(PATIENCE, counted).await;
            assert!(
                counted.is_ok(),
                "{name}: {:?}",
                sample(&program, name).await
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_counts_what_it_answers_itself() {
    const AWAY: &str = r#"stack_http_requests_total{method="GET",route="-",status="503"}"#;
    const FORWARDED: &str = r#"stack_http_requests_total{method="GET",route="-",status="404"}"#;
    let (world, origin) = World::new().await;
    let unknown = world.program().get("/api/v1/nowhere").send().await;
    assert_eq!(unknown.status, 404);
    assert_eq!(sample(&world.program(), AWAY).await, None);
    origin.shutdown().await;
    let refused = world.program().get("/api/v1/nowhere").send().await;
    assert_eq!(refused.status, 503);
    assert_eq!(sample(&world.program(), AWAY).await, Some(1.0));
    // The origin has counted that one.
    assert_eq!(sample(&world.program(), FORWARDED).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_bus_loses_comes_from_the_log() {
    let (world, _origin) = World::new().await;
    let alice = Person::register(world.program(), "alice").await;
    alice.room("general", true).await;
    let mut socket = world.socket(&alice).await;
    socket.ok("subscribe", at(0)).await;
    reads_to(&mut socket, 0, 1).await;
    world.bus.loses_events.store(true, Ordering::Relaxed);
    for round in 0..5 {
        alice.say("general", &format!("lost {round}")).await;
    }
    // Nothing comes behind it that would show the loss.
    reads_to(&mut socket, 1, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_origin_is_away_sockets_stay_and_requests_are_unavailable() {
    let (world, origin) = World::new().await;
    let alice = Person::register(world.program(), "alice").await;
    alice.room("general", true).await;
    let mut socket = world.socket(&alice).await;
    socket.ok("subscribe", at(0)).await;
    reads_to(&mut socket, 0, 1).await;
    let mut sender = world.socket(&alice).await;
    sender.ok("ping", json!({})).await;

    origin.shutdown().await;
    let refused = socket
        .refused("send", json!({ "room": "general", "body": "no" }))
        .await;
    assert_eq!(refused["code"], "unavailable");
    assert_eq!(refused["retryable"], true);
    assert!(refused["retry_after_ms"].as_u64().unwrap() > 0);
    let answer = alice.get("/api/v1/me").await;
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (503, &json!("unavailable"))
    );
    assert_eq!(world.program().get("/readyz").send().await.status, 503);
    assert_eq!(world.program().get("/healthz").send().await.status, 200);

    let _origin = world.origin().await;
    // By another socket: an event may come in front of the answer.
    let seq = sent(&mut sender, "back again").await;
    // No subscription was asked for a second time.
    reads_to(&mut socket, 1, seq).await;
    assert_eq!(alice.get("/api/v1/me").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_while_the_edge_was_alone_holds_when_it_is_not() {
    let (world, origin) = World::new().await;
    let alice = Person::register(world.program(), "alice").await;
    let bob = Person::register(world.program(), "bob").await;
    let carol = Person::register(world.program(), "carol").await;
    for room in ["general", "other", "doomed"] {
        alice.room(room, true).await;
        join(&bob, room).await;
    }
    let (mut hers, mut his) = (world.socket(&carol).await, world.socket(&bob).await);
    hers.ok("ping", json!({})).await;
    for room in ["general", "other", "doomed"] {
        his.ok("subscribe", json!({ "room": room })).await;
    }
    origin.shutdown().await;

    let origin = world.origin_elsewhere().await;
    let alice = alice.at(&origin);
    let banned = format!("/api/v1/rooms/other/bans/{}", bob.id);
    assert_eq!(alice.put(&banned, json!({})).await.status, 200);
    assert_eq!(alice.delete("/api/v1/rooms/doomed").await.status, 204);
    assert_eq!(
        carol
            .at(&origin)
            .post("/api/v1/auth/logout", json!({}))
            .await
            .status,
        204
    );
    alice.say("general", "while he was alone").await;
    alice.say("other", "not for him").await;
    let head = alice.get("/api/v1/rooms/general").await.json()["head"]
        .as_u64()
        .unwrap();
    origin.shutdown().await;

    let _origin = world.origin().await;
    assert_eq!(hers.closed().await, Closed::Code(4001));
    let mut ended = Vec::new();
    let mut heard = false;
    while ended.len() < 2 || !heard {
        let frame = his.frame().await;
        let payload = &frame["payload"];
        if frame["type"] == "unsubscribed" {
            ended.push((payload["room"].clone(), payload["reason"].clone()));
        } else if frame["type"] == "message" {
            assert_eq!(payload["room"], "general", "{frame}");
            heard = payload["seq"] == head;
        }
    }
    ended.sort_by_key(|(room, _)| room.to_string());
    let expected = [("doomed", "deleted"), ("other", "banned")];
    assert_eq!(
        ended,
        expected.map(|(room, reason)| (json!(room), json!(reason)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_and_a_removed_member_are_told_at_once() {
    let (world, origin) = World::new().await;
    let alice = Person::register(origin.program(), "alice").await;
    let bob = Person::register(world.program(), "bob").await;
    alice.room("general", true).await;
    join(&bob, "general").await;
    let mut socket = world.socket(&bob).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let removed = format!("/api/v1/rooms/general/members/{}", bob.id);
    assert_eq!(alice.delete(&removed).await.status, 204);
    assert_eq!(socket.next_of("unsubscribed").await["reason"], "removed");
    for round in 0..3 {
        alice.say("general", &format!("not for bob {round}")).await;
    }
    let pong = socket.begin("ping", json!({})).await;
    assert_eq!(socket.frame().await["id"], pong);
    let closing = async {
        bob.post("/api/v1/auth/logout", json!({})).await;
        assert_eq!(socket.next_of("session").await["state"], "revoked");
        assert_eq!(socket.closed().await, Closed::Code(4001));
    };
    timeout(Duration::from_secs(2), closing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_goes_down_says_so_to_its_clients() {
    let (world, origin) = World::new().await;
    let alice = Person::register(origin.program(), "alice").await;
    let mut socket = world.socket(&alice).await;
    socket.ok("ping", json!({})).await;
    let World { edge, .. } = world;
    let (_, ()) = tokio::join!(edge.shutdown(), async {
        assert!(
            socket.next_of("drain").await["reconnect_in_ms"]
                .as_u64()
                .unwrap()
                > 0
        );
        assert_eq!(socket.closed().await, Closed::Code(1001));
    });
    // The origin has its place back.
    let mut sockets = Vec::new();
    for _ in 0..Config::default().limits.connections_per_user {
        let mut socket = origin.socket(&alice).await;
        socket.ok("ping", json!({})).await;
        sockets.push(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_during_its_upgrade_leaves_no_place_taken() {
    let (world, origin) = World::new().await;
    let alice = Person::register(origin.program(), "alice").await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         authorization: Bearer {}\r\n\r\n",
        alice.token
    );
    let most = Config::default().limits.connections_per_user;
    for _ in 0..2 * most {
        let mut stream = TcpStream::connect(world.edge.addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    // The places are back as soon as the origin has heard of it.
    let mut sockets = Vec::new();
    let all = async {
        while sockets.len() < most {
            let mut socket = origin.socket(&alice).await;
            socket.begin("ping", json!({})).await;
            // Whoever has no place is told so instead.
            if socket.frame().await["type"] == "ok" {
                sockets.push(socket);
            }
        }
    };
    timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_socket_is_told_as_by_the_origin() {
    let (world, origin) = World::new().await;
    let alice = Person::register(origin.program(), "alice").await;
    let long = "x".repeat(Config::default().limits.frame_bytes + 1);
    for (text, code) in [(long.as_str(), 1009), ("[]", 4000), ("{", 4000)] {
        let mut ends = Vec::new();
        for addr in [world.edge.addr(), origin.addr()] {
            let mut socket = socket_at(addr, &alice).await;
            socket.ok("ping", json!({})).await;
            socket.send_text(text).await;
            ends.push(socket.closed().await);
        }
        assert_eq!(ends, [Closed::Code(code); 2]);
    }
    let parts = futures_util::stream::iter([Ok::<_, std::io::Error>("{}")]);
    world
        .program()
        .post("/api/v1/auth/register")
        .header("content-type", "text/plain")
        .body(reqwest::Body::wrap_stream(parts))
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let refused = Socket::try_open(world.edge.addr(), "/ws", &[("origin", "http://elsewhere")]);
    assert_eq!(refused.await.unwrap_err(), 403);
}

#[tokio::test]
async fn an_edge_needs_an_origin_and_a_bus() {
    let config = stack_testkit::config();
    let started = RunningEdge::start(config.clone()).await;
    assert!(matches!(started, Err(StartError::DeafEdge)));
    let mut config = config;
    config.testing.bus = Some(Arc::new(MemBus::default()));
    let started = RunningEdge::start(config).await;
    assert!(matches!(started, Err(StartError::NoOrigin)));
}

#[tokio::test]
async fn an_edge_reads_its_configuration_again_and_has_measures_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let of_metrics = "[metrics]\nlisten = \"127.0.0.1:0\"\n";
    let file = File::of(of_metrics);
    let config = file.over(edge_config(&folder, &Between::default()));
    // No origin is there: all of this is the edge's own.
    let edge = RunningEdge::start(config).await.unwrap();
    let everything = Client::program(format!("http://{}", edge.addr()));
    let elsewhere = everything.get("/metrics").send().await;
    elsewhere.problem(404, "not_found");
    let url = edge.listening()[1].strip_suffix("/metrics").unwrap();
    let own = Client::program(url.to_owned());
    let told = own.get("/metrics").send().await;
    assert!(told.text.contains("\nstack_sockets 0\n"), "{}", told.text);

    let token = "0123456789abcdef0123456789abcdef";
    file.write(&format!(
        "{of_metrics}token = {token:?}\n[auth]\nregistration = \"closed\"\n"
    ));
    let changes = edge.reload().await.unwrap();
    let applied: Vec<_> = changes
        .iter()
        .map(|change| (&*change.key, change.applied))
        .collect();
    // Who may make an account is for the origin to say.
    let expected = [("auth.registration", false), ("metrics.token", true)];
    assert_eq!(applied, expected);
    let refused = own.get("/metrics").send().await;
    refused.problem(401, "unauthenticated");
    let told = own.get("/metrics").bearer(token).send().await;
    assert_eq!(told.status, 200);
    edge.shutdown().await;
}
