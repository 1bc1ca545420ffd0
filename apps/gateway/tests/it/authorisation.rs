//! Who may do what: every route and every type of frame, asked as everybody, against the table in `docs/SECURITY.md`.
//! That the table has every route and type there is, a test beside the gateway's own table says.

use std::collections::HashMap;

use serde_json::{Value, json};
use stack_testkit::{Answer, Client, PASSWORD, Person, Socket, TestGateway};

use crate::programs;

const PAGE: &str = include_str!("../../../../docs/SECURITY.md");
/// In the order of the table: from those who change nothing in a room to the one who can delete it.
const CALLERS: [&str; 10] = [
    "anonymous",
    "banned",
    "guest",
    "muted",
    "member",
    "bot",
    "room token",
    "admin",
    "moderator",
    "owner",
];

/// A row: what is asked, and who is not refused.
struct Row {
    what: &'static str,
    allowed: HashMap<&'static str, bool>,
}

fn rows(is_row: fn(&str) -> bool) -> Vec<Row> {
    let row = |line: &'static str| {
        let mut cells = line
            .strip_prefix("| `")?
            .trim_end_matches(" |")
            .split(" | ");
        let what = cells.next()?.trim_end_matches('`');
        cells.next()?;
        let allowed: HashMap<_, _> = CALLERS
            .into_iter()
            .zip(cells.map(|cell| cell == "yes"))
            .collect();
        assert_eq!(allowed.len(), CALLERS.len(), "{line}");
        is_row(what).then_some(Row { what, allowed })
    };
    PAGE.lines().filter_map(row).collect()
}

struct World {
    gateway: TestGateway,
    /// One for all of them: making a client takes longer than asking with it.
    program: Client,
    people: HashMap<&'static str, Person>,
    bot: (String, String),
    token: (String, String),
    target: Person,
    rooms: usize,
}

/// A room with everybody in their place, and what they have said there.
struct Place {
    room: String,
    /// By caller: the message that they may edit, if anybody may.
    own: HashMap<&'static str, u64>,
    /// Somebody else's message.
    others: u64,
}

impl World {
    async fn new() -> Self {
        let gateway = TestGateway::with(|config| config.testing.routes = false).await;
        let token = gateway.setup_token().unwrap();
        let claim = json!({ "token": token, "username": "root", "password": PASSWORD });
        let set_up = gateway
            .program()
            .post("/api/v1/setup/password")
            .json(&claim);
        set_up.send().await.expect(201);
        let target = gateway.person("target").await;
        let admin = target.another_device("root").await;
        let scopes = ["read", "send", "rooms", "presence"];
        let key = programs::key(&admin, &scopes).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let shop = programs::key(&admin, &["chat_token"]).await;
        let made = gateway
            .program()
            .post("/api/v1/chat/token")
            .bearer(shop["key"].as_str().unwrap())
            .json(&json!({ "user_id": "customer-1", "ttl_s": 3600 }));
        let made = made.send().await.expect(200);
        let mut people = HashMap::from([("admin", admin)]);
        for name in ["banned", "guest", "muted", "member", "moderator", "owner"] {
            people.insert(name, gateway.person(name).await);
        }
        Self {
            program: gateway.program(),
            token: (text(&made["user"]["id"]), text(&made["token"])),
            bot: (text(&key["user"]["id"]), text(&key["key"])),
            target,
            people,
            gateway,
            rooms: 0,
        }
    }

    fn id(&self, caller: &str) -> &str {
        match caller {
            "bot" => &self.bot.0,
            "room token" => &self.token.0,
            caller => &self.people[caller].id,
        }
    }

    fn token(&self, caller: &str) -> Option<&str> {
        match caller {
            "anonymous" => None,
            "bot" => Some(&self.bot.1),
            "room token" => Some(&self.token.1),
            caller => Some(&self.people[caller].token),
        }
    }

    async fn ask(&self, caller: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut call = self.program.call(method, &format!("/api/v1{path}"));
        if let Some(token) = self.token(caller) {
            call = call.bearer(token);
        }
        match body {
            Some(body) => call.json(&body).send().await,
            None => call.send().await,
        }
    }

    /// The audit log, the oldest entry first.
    async fn on_record(&self) -> Vec<String> {
        let export = self.ask("admin", "GET", "/admin/audit/export", None).await;
        assert_eq!(export.status, 200);
        export.text.lines().rev().map(str::to_owned).collect()
    }

    async fn place(&mut self) -> Place {
        self.rooms += 1;
        let room = format!("room-{}", self.rooms);
        let owner = &self.people["owner"];
        owner.room(&room, true).await;
        for (who, role) in [
            (self.id("guest"), "guest"),
            (self.id("muted"), "member"),
            (self.id("member"), "member"),
            (self.id("room token"), "member"),
            (self.id("bot"), "member"),
            (self.id("moderator"), "moderator"),
            (&self.target.id, "member"),
        ] {
            let path = format!("/api/v1/rooms/{room}/members/{who}");
            owner.put(&path, json!({ "role": role })).await.expect(200);
        }
        let path = format!("/api/v1/rooms/{room}/bans/{}", self.id("banned"));
        owner.put(&path, json!({})).await.expect(200);
        let mut own = HashMap::new();
        for caller in ["muted", "member", "bot", "room token", "moderator", "owner"] {
            let path = format!("/rooms/{room}/messages");
            let said = self.ask(caller, "POST", &path, Some(json!({ "body": "mine" })));
            own.insert(caller, said.await.expect(201)["seq"].as_u64().unwrap());
        }
        let path = format!("/api/v1/rooms/{room}/mutes/{}", self.id("muted"));
        owner.put(&path, json!({})).await.expect(200);
        let others = self.target.say(&room, "theirs").await;
        Place { room, own, others }
    }
}

/// What is sent along, so that nothing but a missing right can refuse it early.
fn body(what: &str, world: &World) -> Option<Value> {
    Some(match what {
        "POST /rooms" => json!({ "title": "One more" }),
        "PATCH /rooms/{room}" => json!({ "title": "Another" }),
        "PUT /rooms/{room}/members/{user_id}" => json!({ "role": "guest" }),
        "POST /rooms/{room}/owner" => json!({ "user_id": world.target.id }),
        "POST /rooms/{room}/messages" => json!({ "body": "hello" }),
        "PATCH /rooms/{room}/messages/{seq}" => json!({ "body": "hello again" }),
        "PUT /rooms/{room}/read" => json!({ "seq": 1 }),
        _ if what.starts_with("GET ") || what.starts_with("DELETE ") => return None,
        _ => json!({}),
    })
}

/// Somebody is refused when it is not known who they are, or when they may not. For the routes that anybody may use
/// 401 is about what they have sent.
fn is_refused(answer: &Answer, for_anybody: bool) -> bool {
    match answer.status {
        401 => !for_anybody,
        403 => true,
        // Whatever else is wrong with it, the fault must not be ours.
        status => {
            assert!(status < 500, "{}", answer.text);
            false
        }
    }
}

#[tokio::test]
async fn every_route_keeps_the_table() {
    let mut world = World::new().await;
    let on_record = world.on_record().await;
    let rows = rows(|what| what.contains(" /"));
    assert!(rows.len() > 80, "{}", rows.len());
    let mut wrong = Vec::new();
    for row in rows {
        let (method, pattern) = row.what.split_once(' ').unwrap();
        if pattern.starts_with("/testing/") {
            continue;
        }
        let place = match pattern.contains("{room}") {
            true => Some(world.place().await),
            false => None,
        };
        for caller in CALLERS {
            let room = place.as_ref().map_or("", |place| &place.room);
            let seq = place.as_ref().map_or(1, |place| match method {
                "PATCH" => place.own.get(caller).copied().unwrap_or(place.others),
                _ => place.others,
            });
            let path = pattern
                .replace("{room}", room)
                .replace("{seq}", &seq.to_string())
                .replace("{emoji}", "+1")
                .replace("{user_id}", &world.target.id)
                .replace("{provider}", "nobody");
            // Ids of nothing: who may is told that there is none.
            let path = path
                .replace("{session_id}", "none")
                .replace("{passkey_id}", "none")
                .replace("{link_id}", "none")
                .replace("{invite_id}", "none")
                .replace("{key_id}", "none")
                .replace("{key}", "none");
            let path = match path.as_str() {
                "/users" => "/users?username=target".to_owned(),
                _ => path,
            };
            if pattern == "/auth/logout" && !matches!(caller, "anonymous" | "bot" | "room token") {
                // The session is needed below.
                let name = if caller == "admin" { "root" } else { caller };
                let other = world.people[caller].another_device(name).await;
                other
                    .post("/api/v1/auth/logout", json!({}))
                    .await
                    .expect(204);
                continue;
            }
            let answer = world
                .ask(caller, method, &path, body(row.what, &world))
                .await;
            let for_anybody = CALLERS.iter().all(|caller| row.allowed[caller]);
            let refused = is_refused(&answer, for_anybody);
            if refused == row.allowed[caller] {
                wrong.push(format!(
                    "{} as {caller}: {} {}",
                    row.what, answer.status, answer.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And nobody has changed or taken away what was on record.
    assert!(world.on_record().await.starts_with(&on_record));
}

#[tokio::test]
async fn every_frame_keeps_the_table() {
    let mut world = World::new().await;
    let on_record = world.on_record().await;
    let rows = rows(|what| !what.contains([' ', '/']));
    assert!(rows.len() >= 14, "{}", rows.len());
    let mut sockets: HashMap<&str, Socket> = HashMap::new();
    for caller in &CALLERS[1..] {
        let token = world.token(caller).unwrap();
        sockets.insert(caller, programs::socket(&world.gateway, token).await);
    }
    let mut wrong = Vec::new();
    for row in rows {
        let place = world.place().await;
        let room = &place.room;
        for caller in CALLERS {
            let own = place.own.get(caller).copied().unwrap_or(place.others);
            let payload = match row.what {
                "auth" => json!({ "token": world.token(caller).unwrap_or("nothing") }),
                "ping" => json!({}),
                "send" => json!({ "room": room, "body": "hello" }),
                "edit" => json!({ "room": room, "seq": own, "body": "hello again" }),
                "redact" => json!({ "room": room, "seq": place.others }),
                "react" => json!({ "room": room, "seq": place.others, "emoji": "+1" }),
                "read" => json!({ "room": room, "seq": 1 }),
                "typing" => json!({ "room": room, "on": true }),
                "presence" => json!({ "status": "away" }),
                "subscribe" | "unsubscribe" | "history" | "join" | "leave" => {
                    json!({ "room": room })
                }
                unknown => panic!("the test does not know {unknown}"),
            };
            let refused = match sockets.get_mut(caller) {
                Some(socket) => is_refused_on(socket, row.what, payload).await,
                None if row.what == "auth" => continue,
                None => {
                    let mut socket = Socket::open(world.gateway.addr(), "/ws", &[]).await;
                    is_refused_on(&mut socket, row.what, payload).await
                }
            };
            if refused == row.allowed[caller] {
                wrong.push(format!("{} as {caller}: refused {refused}", row.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(world.on_record().await.starts_with(&on_record));
}

/// Nothing but an error answers `typing`, so that something else is asked behind it.
async fn is_refused_on(socket: &mut Socket, kind: &str, payload: Value) -> bool {
    let asked = socket.begin(kind, payload).await;
    let behind = match kind {
        "typing" => Some(socket.begin("ping", json!({})).await),
        _ => None,
    };
    loop {
        let frame = socket.frame().await;
        if frame["id"] == asked {
            let code = frame["payload"]["code"].as_str().unwrap_or("ok");
            assert_ne!(code, "internal", "{kind}");
            return matches!(code, "forbidden" | "unauthenticated");
        }
        if behind.is_some_and(|behind| frame["id"] == behind) {
            return frame["type"] == "error";
        }
    }
}

#[tokio::test]
async fn a_muted_member_reads_and_does_not_speak() {
    let mut world = World::new().await;
    let place = world.place().await;
    let mutes = format!("/rooms/{}/mutes", place.room);
    let member = format!("{mutes}/{}", world.id("member"));
    let reason = json!({ "reason": "loud" });
    let muted = world.ask("moderator", "PUT", &member, Some(reason)).await;
    assert_eq!(muted.expect(200)["reason"], "loud");
    let said = json!({ "body": "but" });
    let messages = format!("/rooms/{}/messages", place.room);
    let refused = world
        .ask("member", "POST", &messages, Some(said.clone()))
        .await;
    refused.problem(403, "forbidden");
    let page = world
        .ask("member", "GET", &messages, None)
        .await
        .expect(200);
    let last = page["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["payload"]["action"], "muted");
    // Leaving and coming back does not help, and a moderator mutes no owner.
    let own = format!("/rooms/{}/members/{}", place.room, world.id("member"));
    world.ask("member", "DELETE", &own, None).await.expect(204);
    let role = json!({ "role": "member" });
    world
        .ask("member", "PUT", &own, Some(role))
        .await
        .expect(200);
    let refused = world
        .ask("member", "POST", &messages, Some(said.clone()))
        .await;
    refused.problem(403, "forbidden");
    let owner = format!("{mutes}/{}", world.id("owner"));
    let refused = world.ask("moderator", "PUT", &owner, Some(json!({}))).await;
    refused.problem(403, "forbidden");

    let listed = world
        .ask("moderator", "GET", &mutes, None)
        .await
        .expect(200);
    // The one that everybody finds there, and this one.
    assert_eq!(listed["mutes"].as_array().unwrap().len(), 2);
    world
        .ask("moderator", "DELETE", &member, None)
        .await
        .expect(204);
    world
        .ask("member", "POST", &messages, Some(said))
        .await
        .expect(201);
    let again = world.ask("moderator", "DELETE", &member, None).await;
    again.problem(404, "not_found");
    let log = world
        .ask("admin", "GET", "/admin/audit?action=muted", None)
        .await
        .expect(200);
    let target = format!("{} {}", world.id("member"), place.room);
    assert_eq!(log["entries"][0]["target"], target);
}

#[tokio::test]
async fn a_room_changes_hands_at_once() {
    let mut world = World::new().await;
    let place = world.place().await;
    let path = format!("/rooms/{}/owner", place.room);
    let to = |id: &str| Some(json!({ "user_id": id }));
    let stranger = world
        .ask("owner", "POST", &path, to(world.id("admin")))
        .await;
    stranger.problem(404, "not_found");
    let oneself = world
        .ask("owner", "POST", &path, to(world.id("owner")))
        .await;
    oneself.problem(409, "conflict");
    world
        .ask("owner", "POST", &path, to(world.id("member")))
        .await
        .expect(204);
    let show = format!("/rooms/{}", place.room);
    for (caller, role) in [("owner", "moderator"), ("member", "owner")] {
        let room = world.ask(caller, "GET", &show, None).await.expect(200);
        assert_eq!(room["role"], role);
    }
}

#[tokio::test]
async fn refusals_go_on_record_and_do_not_fill_it() {
    let world = World::new().await;
    let entries = async |action: &str| {
        let path = format!("/admin/audit?action={action}");
        let log = world.ask("admin", "GET", &path, None).await.expect(200);
        log["entries"].as_array().unwrap().clone()
    };
    for _ in 0..20 {
        let refused = world.ask("member", "GET", "/admin/users", None).await;
        refused.problem(403, "forbidden");
        let bad = world.program.call("GET", "/api/v1/rooms");
        let bad = bad.bearer("stk_nothing_that_is_good").send().await;
        bad.problem(401, "unauthenticated");
    }
    let refused = entries("access_refused").await;
    assert_eq!(refused.len(), 3);
    assert_eq!(refused[0]["actor"], world.id("member"));
    assert_eq!(refused[0]["target"], "GET /admin/users");
    assert_eq!(refused[0]["outcome"], "refused");
    let keys = entries("api_key_refused").await;
    assert_eq!(keys.len(), 3);
    assert_eq!(keys[0]["target"], "GET /rooms");
    // What an admin has to sign in again for is no refusal of this kind, and what anybody may see is none at all.
    world.ask("guest", "GET", "/rooms", None).await.expect(200);
    assert_eq!(entries("access_refused").await.len(), 3);
}

#[tokio::test]
async fn an_export_of_the_audit_log_is_in_it() {
    let world = World::new().await;
    let exported = world.ask("admin", "GET", "/admin/audit/export", None).await;
    assert_eq!(exported.status, 200);
    let path = "/admin/audit?action=audit_exported";
    let log = world.ask("admin", "GET", path, None).await.expect(200);
    assert_eq!(log["entries"].as_array().unwrap().len(), 1);
    assert_eq!(log["entries"][0]["actor"], world.id("admin"));
}

#[tokio::test]
async fn what_is_done_in_a_room_is_on_record_with_who_and_where() {
    let mut world = World::new().await;
    let place = world.place().await;
    let member = format!("/rooms/{}/members/{}", place.room, world.target.id);
    let role = Some(json!({ "role": "owner" }));
    world.ask("owner", "PUT", &member, role).await.expect(200);
    let room = format!("/rooms/{}", place.room);
    world.ask("owner", "DELETE", &room, None).await.expect(204);
    for (action, target) in [
        (
            "room_role_changed",
            format!("{} {} owner", world.target.id, place.room),
        ),
        ("room_deleted", place.room),
    ] {
        let path = format!("/admin/audit?action={action}");
        let log = world.ask("admin", "GET", &path, None).await.expect(200);
        let entry = &log["entries"][0];
        assert_eq!(entry["target"], target);
        assert_eq!(entry["actor"], world.id("owner"));
        assert!(entry["session"].is_string());
        assert_eq!(entry["ip"], "127.0.0.1");
    }
}
