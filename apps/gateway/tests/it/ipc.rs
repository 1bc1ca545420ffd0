//! The local socket: the client of `stack_ipc` against gateways that die, go down and are told to.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack_ipc::service::{Admin as _, Cursor, NewMessage, Start};
use stack_ipc::{Client, ClientConfig, ClientError, Delivery, Subscription};
use stack_testkit::{PASSWORD, PATIENCE, Person, TestGateway};
use stack_types::{ErrorCode, Event, EventBody, RoomId, Seq};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const SCOPES: [&str; 4] = ["read", "send", "rooms", "presence"];

/// A gateway's process, and what it said of where it is.
struct Process {
    child: Child,
    url: String,
    setup: Option<String>,
}

impl Process {
    async fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stack-gateway"))
            .env_clear()
            .env("STACK_RATE_ENABLED", "false")
            .args(["--listen", "127.0.0.1:0", "--data-dir"])
            .arg(folder.join("data"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        let line = line.unwrap().unwrap();
        let (_, rest) = line.split_once("listening on ").unwrap();
        let url = rest.split_whitespace().next().unwrap().to_owned();
        let mut setup = None;
        while let Ok(Ok(Some(line))) = timeout(Duration::from_millis(300), lines.next_line()).await
        {
            setup = line
                .split_once("/setup#")
                .map(|(_, token)| token.to_owned());
            if setup.is_some() {
                break;
            }
        }
        Self { child, url, setup }
    }

    async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Value) -> Value {
        let call = reqwest::Client::new()
            .request(method.parse().unwrap(), format!("{}{path}", self.url))
            .bearer_auth(token)
            .json(&body);
        let answer = call.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.unwrap_or_default()
    }
}

fn room() -> RoomId {
    "general".parse().unwrap()
}

fn says(body: impl Into<String>) -> NewMessage {
    NewMessage {
        body: body.into(),
        ..NewMessage::default()
    }
}

/// Takes what a subscription gives, up to this event.
async fn take_until(subscription: &mut Subscription, last: Seq) -> Vec<Event> {
    let mut taken: Vec<Event> = Vec::new();
    while taken.last().is_none_or(|event| event.seq < last) {
        match timeout(PATIENCE, subscription.next()).await.unwrap() {
            Some(Delivery::Events(events)) => taken.extend(events),
            other => panic!("{other:?} after {} events", taken.len()),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_outlives_its_gateway_again_and_again() {
    const MESSAGES: usize = 3000;
    const KILLS: usize = 4;
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = Process::start(folder.path()).await;
    let setup = gateway.setup.take().unwrap();
    let body = json!({
        "token": setup, "username": "root", "password": PASSWORD, "token_delivery": "body",
    });
    let root = gateway
        .call("", "POST", "/api/v1/setup/password", body)
        .await;
    let root = root["access_token"].as_str().unwrap().to_owned();
    let asked = json!({ "name": "bot", "scopes": SCOPES });
    let bot = gateway.call(&root, "POST", "/api/v1/api-keys", asked).await;
    let made = json!({ "id": "general", "title": "General" });
    gateway.call(&root, "POST", "/api/v1/rooms", made).await;
    let member = format!(
        "/api/v1/rooms/general/members/{}",
        bot["user"]["id"].as_str().unwrap()
    );
    gateway
        .call(&root, "PUT", &member, json!({ "role": "member" }))
        .await;

    let path = folder.path().join("data/gateway.sock");
    let config = ClientConfig::new(&path, bot["key"].as_str().unwrap());
    let client = Client::connect(config).await.unwrap();
    let mut subscription = client
        .subscribe(&room(), Start::After(Seq::ZERO))
        .await
        .unwrap();
    let mut reader = tokio::task::JoinSet::new();
    reader.spawn(async move {
        let mut seen: Vec<Event> = Vec::new();
        let mut messages = HashSet::new();
        while messages.len() < MESSAGES {
            match timeout(PATIENCE, subscription.next()).await.unwrap() {
                Some(Delivery::Events(events)) => {
                    for event in events {
                        if let EventBody::Message { body, .. } = &event.body {
                            assert!(messages.insert(body.clone()), "{body} came twice");
                        }
                        seen.push(event);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        seen
    });

    let acknowledged = Arc::new(AtomicUsize::new(0));
    let mut sends = JoinSet::new();
    sends.spawn({
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        async move {
            let turns = Arc::new(Semaphore::new(48));
            let mut under_way = JoinSet::new();
            for n in 0..MESSAGES {
                let turn = turns.clone().acquire_owned().await.unwrap();
                let (client, acknowledged) = (client.clone(), acknowledged.clone());
                under_way.spawn(async move {
                    let place = client.send(&room(), says(format!("message {n}"))).await;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    drop(turn);
                    (n, place.unwrap().seq)
                });
            }
            under_way.join_all().await
        }
    });
    for kill in 1..=KILLS {
        let deadline = Instant::now() + PATIENCE;
        while acknowledged.load(Ordering::Relaxed) < kill * MESSAGES / (KILLS + 1) {
            assert!(Instant::now() < deadline, "nothing goes on");
            sleep(Duration::from_millis(2)).await;
        }
        gateway.kill().await;
        gateway = Process::start(folder.path()).await;
    }
    let places = sends.join_next().await.unwrap().unwrap();
    let seen = reader.join_next().await.unwrap().unwrap();
    for (index, event) in seen.iter().enumerate() {
        assert_eq!(event.seq, Seq(index as u64 + 1));
    }
    for (n, seq) in places {
        let event = &seen[usize::try_from(seq.0).unwrap() - 1];
        match &event.body {
            EventBody::Message { body, .. } => assert_eq!(*body, format!("message {n}")),
            other => panic!("{seq} is {other:?}"),
        }
    }
    gateway.kill().await;
}

/// A gateway in this process with a local socket, its administrator, and a bot in the room `general`.
async fn with_bot(
    folder: &tempfile::TempDir,
    change: impl FnOnce(&mut stack_gateway::config::Config),
) -> (TestGateway, Person, ClientConfig, stack_testkit::Bot) {
    let path = folder.path().join("gateway.sock");
    let gateway = TestGateway::with(|config| {
        config.ipc.path = Some(path.clone());
        change(config);
    })
    .await;
    let root = gateway.administrator("root").await;
    root.room("general", false).await;
    let bot = root.bot("beeper", &SCOPES).await;
    root.bring("general", &bot.id).await;
    let config = ClientConfig::new(path, &bot.token);
    (gateway, root, config, bot)
}

#[tokio::test]
async fn who_does_not_read_holds_up_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _root, config, _bot) = with_bot(&folder, |_| {}).await;
    let client = Client::connect(config).await.unwrap();
    let start = client.subscribe(&room(), Start::Live).await.unwrap().head();
    let mut stalled = client
        .subscribe(&room(), Start::After(start))
        .await
        .unwrap();
    let mut reading = client
        .subscribe(&room(), Start::After(start))
        .await
        .unwrap();
    let body = "x".repeat(8000);
    let mut last = start;
    for _ in 0..400 {
        last = client.send(&room(), says(&*body)).await.unwrap().seq;
    }
    let read = take_until(&mut reading, last).await;
    let late = take_until(&mut stalled, last).await;
    assert_eq!(read.len(), 400);
    assert_eq!(read, late);
    drop(client);
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_revoked_token_is_the_end_of_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, root, config, bot) = with_bot(&folder, |_| {}).await;
    let client = Client::connect(config.clone()).await.unwrap();
    assert_eq!(client.who().user_id.as_str(), bot.id);
    let mut subscription = client.subscribe(&room(), Start::Live).await.unwrap();
    root.delete(&format!("/api/v1/api-keys/{}", bot.key_id))
        .await
        .expect(204);
    let ended = timeout(Duration::from_secs(1), subscription.next()).await;
    let revoked = Delivery::Ended {
        reason: "revoked".to_owned(),
    };
    assert_eq!(ended.unwrap(), Some(revoked));
    assert_eq!(subscription.next().await, None);
    let refused = client.rooms().await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated));
    let refused = Client::connect(config).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::Unauthenticated));
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_gateway_that_goes_down_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let on_file = |config: &mut stack_gateway::config::Config| {
        config.testing.in_memory = false;
        config.data_dir = folder.path().join("data");
    };
    let (gateway, _root, config, _bot) = with_bot(&folder, on_file).await;
    let client = Client::connect(config.clone()).await.unwrap();
    let mut subscription = client
        .subscribe(&room(), Start::After(Seq::ZERO))
        .await
        .unwrap();
    let before = client.send(&room(), says("before")).await.unwrap().seq;
    gateway.shutdown().await;
    assert!(!config.path.exists());
    let waiting = client.clone();
    let mut sends = JoinSet::new();
    sends.spawn(async move { waiting.send(&room(), says("meanwhile")).await });
    let gateway = TestGateway::with(|again| {
        again.ipc.path = Some(config.path.clone());
        on_file(again);
    })
    .await;
    let after = sends.join_next().await.unwrap().unwrap().unwrap().seq;
    assert_eq!(after, before.next());
    let taken = take_until(&mut subscription, after).await;
    let seqs: Vec<u64> = taken.iter().map(|event| event.seq.0).collect();
    assert_eq!(seqs, (1..=after.0).collect::<Vec<_>>());
    gateway.shutdown().await;
}

#[tokio::test]
async fn calls_are_answered_as_they_are_over_http() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, root, config, bot) = with_bot(&folder, |_| {}).await;
    let client = Client::connect(config.clone()).await.unwrap();
    let first = client
        .send(
            &room(),
            NewMessage {
                body: "one".into(),
                data: Some(serde_json::from_str(r#"{"a": 1}"#).unwrap()),
                key: Some("k".into()),
                reply_to: None,
            },
        )
        .await
        .unwrap();
    client.edit(&room(), first.seq, "uno").await.unwrap();
    client.react(&room(), first.seq, "👍", false).await.unwrap();
    let reason = Some("a mistake");
    client.redact(&room(), first.seq, reason).await.unwrap();
    let page = client
        .history(&room(), Cursor::After(first.seq.prev()), Some(10))
        .await
        .unwrap();
    let told = root.log("general").await;
    let frames: Vec<Value> = page
        .events
        .iter()
        .map(|event| serde_json::from_slice(&stack_ipc::event_json(event)).unwrap())
        .collect();
    assert_eq!(frames, told[told.len() - 4..]);
    let rooms = client.rooms().await.unwrap();
    assert_eq!((rooms.len(), rooms[0].head), (1, page.head));
    client.read(&room(), page.head).await.unwrap();
    assert_eq!(client.rooms().await.unwrap()[0].read_seq, page.head);
    let user = client.user(bot.id.parse().unwrap()).await.unwrap();
    assert!(user.bot && user.username.starts_with("bot-"));
    for (code, refused) in [
        (
            ErrorCode::NotFound,
            client.presence(&"nowhere".parse().unwrap()).await.err(),
        ),
        (
            ErrorCode::PayloadTooLarge,
            client.send(&room(), says("x".repeat(20_000))).await.err(),
        ),
        (
            ErrorCode::InvalidField,
            client
                .subscribe(&room(), Start::After(Seq(1000)))
                .await
                .err(),
        ),
    ] {
        assert_eq!(refused.unwrap().code(), Some(code));
    }
    let refused = client.admin().stats().await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    let operator = Client::operator(&config.path).await.unwrap();
    assert!(!operator.stats().await.unwrap().is_empty());
    let nowhere = Client::operator(folder.path().join("none")).await;
    assert!(matches!(nowhere, Err(ClientError::Unreachable(_))));
    gateway.shutdown().await;
}

#[tokio::test]
async fn a_socket_of_another_gateway_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, _root, config, _bot) = with_bot(&folder, |_| {}).await;
    let mut other = stack_testkit::config();
    other.ipc.path = Some(config.path.clone());
    let refused = stack_gateway::Gateway::start(other).await.unwrap_err();
    let told = std::error::Error::source(&refused).map(ToString::to_string);
    assert!(
        told.unwrap_or_default().contains("another gateway listens"),
        "{refused}"
    );
    Client::connect(config).await.unwrap();
    gateway.shutdown().await;
}
