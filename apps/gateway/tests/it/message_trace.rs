//! Why a message did not arrive, as admins and the operator are told.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stack_ipc::service::{Admin as _, AuditQuery, TraceQuery};
use stack_ipc::{Client, ClientConfig};
use stack_testkit::{PATIENCE, Person, Socket, TestGateway};
use stack_types::{ErrorCode, Seq};
use tokio::time::timeout;

struct World {
    folder: tempfile::TempDir,
    gateway: TestGateway,
    root: Person,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let gateway = TestGateway::with(|config| config.ipc.path = Some(path)).await;
        let root = gateway.administrator("root").await;
        root.room("general", false).await;
        Self {
            folder,
            gateway,
            root,
        }
    }

    async fn member(&self, name: &str) -> Person {
        let person = self.gateway.person(name).await;
        self.root.bring("general", &person.id).await;
        person
    }

    async fn reading(&self, person: &Person) -> Socket {
        let mut socket = self.gateway.socket(person).await;
        socket.ok("subscribe", json!({ "room": "general" })).await;
        socket
    }

    async fn trace(&self, seq: u64) -> Value {
        self.root.get(&path(seq)).await.expect(200)
    }

    /// Looks until something is as it will be: what follows the end of a socket, or a batch, does so by itself.
    async fn trace_until(&self, seq: u64, is_so: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let found = self.trace(seq).await;
                if is_so(&found) {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, look).await.unwrap()
    }
}

fn path(seq: u64) -> String {
    format!("/api/v1/admin/rooms/general/messages/{seq}/trace")
}

/// What became of it for each person.
fn arrivals(found: &Value) -> BTreeMap<&str, &str> {
    let people = found["people"].as_array().unwrap().iter();
    people
        .map(|person| {
            let name = person["user"]["username"].as_str().unwrap();
            (name, person["arrival"].as_str().unwrap())
        })
        .collect()
}

fn of<'a>(found: &'a Value, list: &str, name: &str) -> Vec<&'a Value> {
    let list = found[list].as_array().unwrap().iter();
    list.filter(|entry| entry["user"]["username"] == name)
        .collect()
}

/// Whether somebody's connection has closed, and how is known.
fn has_ended(found: &Value, name: &str) -> bool {
    let closed = of(found, "closed", name);
    let last = closed.first();
    last.is_some_and(|closed| !closed["ending"].is_null())
}

/// Whether every reader has it, or is not owed it, and none goes by the log: which each may for a moment.
fn has_settled(found: &Value) -> bool {
    let connections = found["connections"].as_array().unwrap();
    let has = |reader: &Value| reader["behind_since"].is_null() && reader["state"] != "on_its_way";
    !found["commit"].is_null() && connections.iter().all(has)
}

#[tokio::test]
async fn everybody_whom_a_message_concerns_is_named_with_what_became_of_it() {
    let world = World::new().await;
    let ann = world.member("ann").await;
    let bob = world.member("bob").await;
    let cay = world.member("cay").await;
    let dan = world.member("dan").await;
    let eve = world.member("eve").await;
    let fay = world.member("fay").await;
    let (mut bobs, mut cays) = (world.reading(&bob).await, world.reading(&cay).await);
    let (dans, mut eves) = (world.reading(&dan).await, world.reading(&eve).await);
    let _fays = world.gateway.socket(&fay).await;
    // Gone before it is said.
    dans.close(4321).await;
    let head = world.root.log("general").await.len() as u64;
    world
        .trace_until(head, |found| has_settled(found) && has_ended(found, "dan"))
        .await;

    let seq = ann.say("general", "hello").await;
    for socket in [&mut bobs, &mut cays, &mut eves] {
        assert_eq!(socket.next_of("message").await["seq"], seq);
    }
    bobs.ok("read", json!({ "room": "general", "seq": seq }))
        .await;
    // Gone behind it.
    eves.ok("unsubscribe", json!({ "room": "general" })).await;
    let gus = world.member("gus").await;
    let _guss = world.reading(&gus).await;

    let found = world.trace_until(seq, has_settled).await;
    assert_eq!(
        arrivals(&found),
        BTreeMap::from([
            ("root", "away"),
            ("ann", "sent"),
            ("bob", "read"),
            ("cay", "handed"),
            ("dan", "away"),
            ("eve", "handed"),
            ("fay", "not_subscribed"),
            ("gus", "later"),
        ])
    );
    let message = &found["message"];
    assert_eq!(
        (
            &message["state"],
            &message["type"],
            &message["sender"]["username"]
        ),
        (&json!("stored"), &json!("message"), &json!("ann"))
    );
    assert!(!found.to_string().contains("hello"), "no text is shown");
    let commit = &found["commit"];
    assert!(commit["first"].as_u64().unwrap() <= seq && commit["last"].as_u64().unwrap() >= seq);
    assert!(commit["published_us"].as_u64() <= commit["handed_us"].as_u64());
    assert_eq!(
        (&commit["readers"], &commit["fell_behind"]),
        (&json!(3), &json!(0))
    );
    assert!(commit["committed_at"].as_u64() >= message["ts"].as_u64());

    let bobs = of(&found, "connections", "bob");
    assert_eq!((bobs.len(), &bobs[0]["state"]), (1, &json!("handed")));
    let connection = &bobs[0]["connection"];
    assert_eq!(
        (&connection["way"], &connection["ip"]),
        (&json!("socket"), &json!("127.0.0.1"))
    );
    assert_eq!(bobs[0]["behind_since"], Value::Null);
    let gus = of(&found, "connections", "gus")[0];
    assert_eq!(gus["state"], "later");
    assert!(gus["from"].as_u64().unwrap() >= seq);
    assert_eq!(of(&found, "people", "fay")[0]["connections"], 1);
    assert_eq!(of(&found, "people", "bob")[0]["read_seq"], seq);

    let dan = of(&found, "closed", "dan")[0];
    assert_eq!(
        (&dan["state"], &dan["is_open"]),
        (&json!("before"), &json!(false))
    );
    assert_eq!(dan["ending"], json!({ "by": "client", "code": 4321 }));
    let eve = of(&found, "closed", "eve")[0];
    assert_eq!(
        (&eve["state"], &eve["is_open"]),
        (&json!("handed"), &json!(true))
    );

    let only = world
        .root
        .get(&format!("{}?user=Bob", path(seq)))
        .await
        .expect(200);
    assert_eq!(arrivals(&only), BTreeMap::from([("bob", "read")]));
    assert_eq!(only["connections"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_reader_that_stalls_is_named_as_behind_and_missed_it_when_it_goes() {
    let world = World::new().await;
    let (ann, bob, cay) = (
        world.member("ann").await,
        world.member("bob").await,
        world.member("cay").await,
    );
    let (mut bobs, stalled) = (world.reading(&bob).await, world.reading(&cay).await);
    // Until the system takes no more for the one that does not read.
    let data = "x".repeat(20_000);
    let seq = loop {
        let message = json!({ "body": "long", "data": data });
        let sent = ann.post("/api/v1/rooms/general/messages", message).await;
        let seq = sent.expect(201)["seq"].as_u64().unwrap();
        while bobs.next_of("message").await["seq"] != seq {}
        let found = world.trace(seq).await;
        if of(&found, "connections", "cay")[0]["state"] == "behind" {
            break seq;
        }
    };
    let found = world
        .trace_until(seq, |found| arrivals(found)["bob"] == "handed")
        .await;
    let arrived = arrivals(&found);
    assert_eq!((arrived["bob"], arrived["cay"]), ("handed", "behind"));
    let cays = of(&found, "connections", "cay")[0];
    assert!(cays["cursor"].as_u64().unwrap() < seq, "{cays}");
    assert!(cays["waiting_bytes"].as_u64().unwrap() > 0, "{cays}");
    assert!(cays["behind_since"].as_u64() >= cays["subscribed_at"].as_u64());
    assert!(cays["behind_since"].as_u64() <= found["at"].as_u64());

    drop(stalled);
    let found = world
        .trace_until(seq, |found| has_ended(found, "cay"))
        .await;
    assert_eq!(arrivals(&found)["cay"], "missed");
    let cays = of(&found, "closed", "cay")[0];
    assert_eq!(cays["state"], "missed");
    assert_eq!(cays["ending"], json!({ "by": "nobody" }));
    assert!(cays["cursor"].as_u64().unwrap() < seq);
}

#[tokio::test]
async fn what_ends_a_reader_is_told_with_it() {
    let world = World::new().await;
    let bob = world.member("bob").await;
    let cay = world.member("cay").await;
    let (mut bobs, mut cays) = (world.reading(&bob).await, world.reading(&cay).await);
    let seq = world.root.say("general", "hello").await;
    for socket in [&mut bobs, &mut cays] {
        assert_eq!(socket.next_of("message").await["seq"], seq);
    }
    world.trace_until(seq, has_settled).await;
    let banned = format!("/api/v1/rooms/general/bans/{}", bob.id);
    world.root.put(&banned, json!({})).await.expect(200);
    bobs.next_of("unsubscribed").await;
    cay.post("/api/v1/auth/logout", json!({})).await.expect(204);
    cays.closed().await;
    let found = world
        .trace_until(seq, |found| has_ended(found, "cay"))
        .await;
    let bobs = of(&found, "closed", "bob")[0];
    assert_eq!(
        (&bobs["reason"], &bobs["is_open"]),
        (&json!("banned"), &json!(true))
    );
    let ending = &of(&found, "closed", "cay")[0]["ending"];
    assert_eq!(
        (&ending["by"], &ending["code"]),
        (&json!("server"), &json!(4001))
    );
    // Who is no member any more is not among the people, unless asked for.
    assert!(!arrivals(&found).contains_key("bob"));
    let only = world
        .root
        .get(&format!("{}?user={}", path(seq), bob.id))
        .await;
    assert_eq!(
        arrivals(&only.expect(200)),
        BTreeMap::from([("bob", "handed")])
    );
    let stranger = world.gateway.person("stranger").await;
    let only = world
        .root
        .get(&format!("{}?user={}", path(seq), stranger.id))
        .await;
    assert_eq!(
        arrivals(&only.expect(200)),
        BTreeMap::from([("stranger", "not_in_room")])
    );
}

#[tokio::test]
async fn whose_history_begins_behind_it_is_not_owed_it_and_what_was_taken_back_says_so() {
    let world = World::new().await;
    let settings = json!({ "settings": { "history": "joined" } });
    world
        .root
        .patch("/api/v1/rooms/general", settings)
        .await
        .expect(200);
    let seq = world.root.say("general", "secret").await;
    world.member("late").await;
    let taken_back = format!("/api/v1/rooms/general/messages/{seq}");
    world.root.delete(&taken_back).await.expect(200);
    let found = world.trace(seq).await;
    assert_eq!(
        arrivals(&found),
        BTreeMap::from([("root", "sent"), ("late", "not_theirs")])
    );
    assert_eq!(found["message"]["state"], "redacted");
    let late = of(&found, "people", "late")[0];
    assert!(late["first"].as_u64().unwrap() > seq);
}

#[tokio::test]
async fn what_the_room_does_not_keep_any_more_is_dropped_and_no_missing_event() {
    let world = World::new().await;
    let ann = world.member("ann").await;
    let seq = ann.say("general", "hello").await;
    for _ in 0..9 {
        world.root.say("general", "more").await;
    }
    let less = json!({ "settings": { "retention_messages": 5 } });
    world
        .root
        .patch("/api/v1/rooms/general", less)
        .await
        .expect(200);
    let found = world
        .trace_until(seq, |found| {
            found["message"]["state"] != "stored" && !found["commit"].is_null()
        })
        .await;
    let message = &found["message"];
    assert_eq!(
        (&message["state"], &message["sender"]),
        (&json!("dropped"), &Value::Null)
    );
    assert!(found["room"]["first"].as_u64().unwrap() > seq);
    // How it went out is remembered all the same, and nobody is told that it never was theirs.
    assert!(!found["commit"].is_null());
    assert_eq!(
        arrivals(&found),
        BTreeMap::from([("root", "away"), ("ann", "away")])
    );
}

#[tokio::test]
async fn a_look_is_for_admins_and_what_is_not_there_is_told() {
    let world = World::new().await;
    let ann = world.member("ann").await;
    ann.get(&path(1)).await.problem(403, "forbidden");
    let nobody = world.gateway.program().get(&path(1)).send().await;
    nobody.problem(401, "unauthenticated");
    let told =
        |answer: stack_testkit::Answer| answer.problem(404, "not_found")["detail"].to_string();
    let detail = told(world.root.get(&path(99)).await);
    assert!(
        detail.contains("no event 99") && detail.contains("its last is 2"),
        "{detail}"
    );
    told(world.root.get(&path(0)).await);
    told(
        world
            .root
            .get("/api/v1/admin/rooms/nowhere/messages/1/trace")
            .await,
    );
    let unknown = told(world.root.get(&format!("{}?user=nobody", path(1))).await);
    assert!(unknown.contains("no such user"), "{unknown}");
}

#[tokio::test]
async fn the_operator_and_programs_with_the_scope_are_told_the_same_and_it_is_on_record() {
    let world = World::new().await;
    let seq = world.root.say("general", "hello").await;
    let bot = world.root.bot("reader", &["read"]).await;
    world.root.bring("general", &bot.id).await;
    let keeper = world.root.bot("keeper", &["admin"]).await;
    let socket = world.folder.path().join("gateway.sock");
    let asked = |seq| TraceQuery {
        room: "general".parse().unwrap(),
        seq: Seq(seq),
        user: None,
    };
    // A program at the local socket is a reader like others.
    let reader = Client::connect(ClientConfig::new(&socket, &*bot.token))
        .await
        .unwrap();
    let start = stack_ipc::service::Start::After(Seq(seq - 1));
    let mut feed = reader
        .subscribe(&"general".parse().unwrap(), start)
        .await
        .unwrap();
    feed.next().await.unwrap();
    world.trace_until(seq, has_settled).await;
    let operator = Client::operator(&socket).await.unwrap();
    let found: Value = serde_json::from_str(&operator.trace(asked(seq)).await.unwrap()).unwrap();
    let [only] = found["connections"].as_array().unwrap().as_slice() else {
        panic!("{found}");
    };
    assert_eq!(
        (&only["user"]["id"], &only["state"]),
        (&json!(bot.id), &json!("handed"))
    );
    assert_eq!(only["connection"]["way"], "local");
    let refused = reader.admin().trace(asked(seq)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Forbidden);
    let programs = Client::connect(ClientConfig::new(&socket, &*keeper.token))
        .await
        .unwrap();
    programs.admin().trace(asked(seq)).await.unwrap();
    world.trace(seq).await;
    let of_bot = TraceQuery {
        user: Some(bot.id.clone()),
        ..asked(seq)
    };
    operator.trace(of_bot).await.unwrap();
    let missing = operator.trace(asked(seq + 9)).await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);

    let query = AuditQuery {
        action: Some("message_traced".to_owned()),
        ..AuditQuery::default()
    };
    let log = operator.audit(query).await.unwrap().entries;
    let log: Vec<Value> = log
        .iter()
        .map(|entry| serde_json::from_str(entry).unwrap())
        .collect();
    let mut by: Vec<_> = log.iter().map(|entry| entry["actor"].clone()).collect();
    by.dedup();
    // Newest first; the operator has no account.
    let (root, keeper) = (json!(world.root.id), json!(keeper.id));
    assert_eq!(by, [Value::Null, root.clone(), keeper, Value::Null, root]);
    let refused: Vec<_> = log
        .iter()
        .filter(|entry| entry["outcome"] == "refused")
        .map(|entry| entry["target"].as_str().unwrap())
        .collect();
    assert_eq!(refused, [format!("general {}", seq + 9)]);
    let whose = format!("general {seq} {}", bot.id);
    let targets: Vec<_> = log.iter().map(|entry| &entry["target"]).collect();
    // The operator's second look was at one person, which was the last that found something.
    assert_eq!(targets[1], &json!(whose));
}
