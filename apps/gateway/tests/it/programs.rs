//! Programs: API keys, the bots behind them, and tokens for a backend's users.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack_testkit::{Answer, Closed, Person, Socket, TestGateway};

use crate::admin::with_admin_and;

const KEYS: &str = "/api/v1/api-keys";
const TOKEN: &str = "/api/v1/chat/token";

pub(crate) async fn calls(
    gateway: &TestGateway,
    token: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let call = gateway.program().call(method, path).bearer(token);
    match body {
        Some(body) => call.json(&body).send().await,
        None => call.send().await,
    }
}

pub(crate) async fn socket(gateway: &TestGateway, token: &str) -> Socket {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    Socket::open(gateway.addr(), "/ws", &headers).await
}

pub(crate) async fn key(admin: &Person, scopes: &[&str]) -> Value {
    let asked = json!({ "name": "Our backend", "scopes": scopes });
    admin.post(KEYS, asked).await.expect(201)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn with_admin(folder: &tempfile::TempDir) -> (TestGateway, Person) {
    with_admin_and(folder, |config| config.rate_enabled = false).await
}

#[tokio::test]
async fn an_api_key_acts_as_a_bot_within_its_scopes() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    admin.room("general", true).await;
    let made = key(&admin, &["read", "send"]).await;
    let token = text(&made["key"]);
    assert!(token.starts_with("stk_"));
    assert_eq!(made["user"]["username"], "bot-ourbackend");
    assert_eq!(made["user"]["role"], "member");

    let me = calls(&gateway, &token, "GET", "/api/v1/me", None).await;
    assert_eq!(me.expect(200)["username"], "bot-ourbackend");
    // Not a member yet, and without the scope to become one.
    let join = format!(
        "/api/v1/rooms/general/members/{}",
        text(&made["user"]["id"])
    );
    let role = json!({ "role": "member" });
    calls(&gateway, &token, "PUT", &join, Some(role.clone()))
        .await
        .problem(403, "forbidden");
    admin.put(&join, role).await.expect(200);
    let said = json!({ "body": "beep" });
    let path = "/api/v1/rooms/general/messages";
    calls(&gateway, &token, "POST", path, Some(said))
        .await
        .expect(201);
    let mut bot = socket(&gateway, &token).await;
    bot.ok("subscribe", json!({ "room": "general" })).await;
    bot.ok("send", json!({ "room": "general", "body": "boop" }))
        .await;
    for (kind, payload) in [
        ("presence", json!({ "status": "away" })),
        ("join", json!({ "room": "general" })),
    ] {
        assert_eq!(bot.refused(kind, payload).await["code"], "forbidden");
    }
    for path in ["/api/v1/auth/sessions", "/api/v1/admin/users", KEYS] {
        calls(&gateway, &token, "GET", path, None)
            .await
            .problem(403, "forbidden");
    }

    let listed = admin.get(KEYS).await.expect(200);
    assert_eq!(listed["api_keys"][0]["id"], made["id"]);
    assert!(listed["api_keys"][0].get("key").is_none());
}

#[tokio::test]
async fn a_revoked_key_closes_its_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    admin.room("general", true).await;
    let made = key(&admin, &["read", "chat_token"]).await;
    let token = text(&made["key"]);
    let asked = json!({ "user_id": "42", "rooms": ["general"] });
    let minted = calls(&gateway, &token, "POST", TOKEN, Some(asked)).await;
    let room_token = text(&minted.expect(200)["token"]);
    let mut sockets = [
        socket(&gateway, &token).await,
        socket(&gateway, &room_token).await,
    ];
    let mut other = gateway.socket(&admin).await;
    for socket in sockets.iter_mut().chain([&mut other]) {
        socket.ok("ping", json!({})).await;
    }
    let begun = Instant::now();
    let path = format!("{KEYS}/{}", text(&made["id"]));
    admin.delete(&path).await.expect(204);
    for socket in &mut sockets {
        assert_eq!(socket.next_of("session").await["state"], "revoked");
        assert_eq!(socket.closed().await, Closed::Code(4001));
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    other.ok("ping", json!({})).await;
    for token in [&token, &room_token] {
        calls(&gateway, token, "GET", "/api/v1/me", None)
            .await
            .problem(401, "unauthenticated");
    }
    admin.delete(&path).await.problem(404, "not_found");
}

#[tokio::test]
async fn a_room_token_stays_in_its_rooms() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    for room in ["general", "news", "other"] {
        admin.room(room, true).await;
    }
    let token = text(&key(&admin, &["chat_token"]).await["key"]);
    let asked = json!({ "user_id": "customer-7", "display_name": "Ann", "ttl_s": 60,
        "rooms": ["general", { "room": "news", "rights": ["read"] }] });
    let minted = calls(&gateway, &token, "POST", TOKEN, Some(asked))
        .await
        .expect(200);
    assert_eq!(
        (&minted["token_type"], &minted["expires_in_s"]),
        (&json!("Bearer"), &json!(60))
    );
    assert_eq!(minted["user"]["id"], "customer-7");
    assert_eq!(minted["user"]["display_name"], "Ann");
    let token = text(&minted["token"]);

    let mut ann = Socket::open(gateway.addr(), "/ws", &[]).await;
    let known = ann.ok("auth", json!({ "token": token })).await;
    assert_eq!(known["user_id"], "customer-7");
    ann.ok("subscribe", json!({ "room": "general" })).await;
    ann.ok("send", json!({ "room": "general", "body": "hello" }))
        .await;
    ann.ok("subscribe", json!({ "room": "news" })).await;
    for (kind, payload) in [
        ("send", json!({ "room": "news", "body": "hello" })),
        ("subscribe", json!({ "room": "other" })),
        ("history", json!({ "room": "other" })),
        ("join", json!({ "room": "other" })),
        ("leave", json!({ "room": "general" })),
    ] {
        assert_eq!(
            ann.refused(kind, payload).await["code"],
            "forbidden",
            "{kind}"
        );
    }

    let get = async |path: &str| calls(&gateway, &token, "GET", path, None).await;
    let listed = get("/api/v1/rooms").await.expect(200);
    let rooms: Vec<&Value> = listed["rooms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|room| &room["id"])
        .collect();
    assert_eq!(rooms, ["general", "news"]);
    get("/api/v1/rooms/general/messages").await.expect(200);
    for path in [
        "/api/v1/rooms/other",
        "/api/v1/rooms/other/messages",
        "/api/v1/rooms/%6fther",
        "/api/v1/auth/sessions",
    ] {
        get(path).await.problem(403, "forbidden");
    }
    calls(&gateway, &token, "POST", "/api/v1/auth/ticket", None)
        .await
        .problem(403, "forbidden");
    // A token does not make the next one.
    let again = json!({ "user_id": "customer-7" });
    calls(&gateway, &token, "POST", TOKEN, Some(again))
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn a_backend_vouches_for_nobody_but_its_own_users() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["chat_token"]).await;
    let token = text(&made["key"]);
    let bob = gateway.person("bob").await;
    bob.room("bobs", false).await;
    let mint = async |asked: Value| calls(&gateway, &token, "POST", TOKEN, Some(asked)).await;
    mint(json!({ "user_id": admin.id }))
        .await
        .problem(403, "forbidden");
    mint(json!({ "user_id": made["user"]["id"] }))
        .await
        .problem(403, "forbidden");
    // Nor may it speak as somebody who signs in here.
    mint(json!({ "user_id": bob.id }))
        .await
        .problem(403, "forbidden");
    // Neither the bot nor the admin may bring people into a private room of somebody else's.
    mint(json!({ "user_id": "7", "rooms": ["bobs"] }))
        .await
        .problem(404, "not_found");
    for (field, asked) in [
        ("ttl_s", json!({ "user_id": "7", "ttl_s": 3601 })),
        ("ttl_s", json!({ "user_id": "7", "ttl_s": 9 })),
        ("rooms", json!({ "user_id": "7", "rooms": [7] })),
        (
            "rooms",
            json!({ "user_id": "7", "rooms": [{ "room": "a", "rights": [] }] }),
        ),
        ("rooms", json!({ "user_id": "7", "rooms": ["a", "a"] })),
        ("user_id", json!({ "user_id": "not an id" })),
    ] {
        assert_eq!(
            mint(asked).await.problem(422, "invalid_field")["field"],
            field
        );
    }
    // What was refused has made nobody.
    admin.get("/api/v1/users/7").await.problem(404, "not_found");
    bob.post(TOKEN, json!({ "user_id": "7" }))
        .await
        .problem(403, "forbidden");
}

/// † Tuwunel #318, #331: nor through a bot.
#[tokio::test]
async fn a_bot_is_never_admin() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["admin"]).await;
    let token = text(&made["key"]);
    calls(&gateway, &token, "GET", "/api/v1/admin/users", None)
        .await
        .expect(200);
    let bot = format!("/api/v1/admin/users/{}", text(&made["user"]["id"]));
    admin
        .patch(&bot, json!({ "role": "admin" }))
        .await
        .problem(409, "conflict");
    // What gives power to somebody asks for a person.
    let asked = json!({ "name": "Another", "scopes": ["read"] });
    calls(&gateway, &token, "POST", KEYS, Some(asked))
        .await
        .problem(403, "forbidden");
    // The key has its power from its maker, and loses it with them.
    let other = gateway.person("other").await;
    let path = format!("/api/v1/admin/users/{}", other.id);
    admin
        .patch(&path, json!({ "role": "admin" }))
        .await
        .expect(200);
    let path = format!("/api/v1/admin/users/{}", admin.id);
    other
        .patch(&path, json!({ "role": "member" }))
        .await
        .expect(200);
    calls(&gateway, &token, "GET", "/api/v1/admin/users", None)
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn an_invitation_ends_with_the_key_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["admin"]).await;
    let token = text(&made["key"]);
    let invite = async |token: &str| {
        let made = calls(&gateway, token, "POST", "/api/v1/invites", Some(json!({}))).await;
        let url = text(&made.expect(201)["url"]);
        url.split_once('#').unwrap().1.to_owned()
    };
    let look = async |invite: &str| {
        let call = gateway.program().post("/api/v1/invites/look");
        call.json(&json!({ "invite": invite })).send().await
    };
    let first = invite(&token).await;
    look(&first).await.expect(200);
    let path = format!("{KEYS}/{}", text(&made["id"]));
    admin.delete(&path).await.expect(204);
    let refused = look(&first).await.problem(403, "forbidden");
    assert_eq!(refused["field"], "invite");
    let asked =
        json!({ "username": "ann", "password": "correct horse battery staple 9", "invite": first });
    let call = gateway.program().post("/api/v1/auth/register");
    call.json(&asked).send().await.problem(403, "forbidden");

    // And with the power of whoever made the key.
    let other = gateway.person("other").await;
    let path = format!("/api/v1/admin/users/{}", other.id);
    admin
        .patch(&path, json!({ "role": "admin" }))
        .await
        .expect(200);
    let token = text(&key(&other, &["admin"]).await["key"]);
    let second = invite(&token).await;
    look(&second).await.expect(200);
    admin
        .patch(&path, json!({ "role": "member" }))
        .await
        .expect(200);
    look(&second).await.problem(403, "forbidden");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, admin) = with_admin(&folder).await;
    let path = format!("/api/v1/admin/users/{}", admin.id);
    admin
        .patch(&path, json!({ "role": "member" }))
        .await
        .problem(409, "conflict");
    admin.get("/api/v1/admin/users").await.expect(200);
}

#[tokio::test]
async fn a_malformed_api_key_is_a_401() {
    let gateway = TestGateway::start().await;
    for token in [
        "stk_",
        "stk__",
        "stk_a_b",
        "stk_€_x",
        &format!("stk_7_{}", "A".repeat(43)),
        &format!("stk_{}", "_".repeat(600)),
    ] {
        let call = gateway.program().get("/api/v1/me");
        let value = http::HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).unwrap();
        call.header_value("authorization", value)
            .send()
            .await
            .problem(401, "unauthenticated");
    }
}

#[tokio::test]
async fn tokens_can_be_checked_by_others() {
    let gateway = TestGateway::with(|config| {
        config.auth.signing = stack_gateway::config::Signing::Eddsa;
    })
    .await;
    let alice = gateway.person("alice").await;
    alice.get("/api/v1/me").await.expect(200);
    let keys = gateway.program().get("/.well-known/jwks.json").send().await;
    assert_eq!(keys.header("cache-control"), "public, max-age=300");
    let keys = keys.expect(200);
    assert_eq!(keys["keys"][0]["crv"], "Ed25519");
    assert!(keys["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn the_audit_log_is_searched_and_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["read"]).await;
    let alice = gateway.person("alice").await;
    let get = async |query: &str| admin.get(&format!("/api/v1/admin/audit{query}")).await;
    let entries = get("?action=api_key_made").await.expect(200);
    assert_eq!(entries["entries"].as_array().unwrap().len(), 1);
    assert_eq!(entries["entries"][0]["target"], made["id"]);
    assert_eq!(entries["entries"][0]["actor"], json!(admin.id));
    let of_alice = get(&format!("?actor={}", alice.id)).await.expect(200);
    assert_eq!(of_alice["entries"][0]["action"], "register");

    // Page by page it is the same as at once.
    let whole = get("").await.expect(200)["entries"]
        .as_array()
        .unwrap()
        .clone();
    let mut pages = Vec::new();
    let mut before = String::new();
    loop {
        let page = get(&format!("?limit=1{before}")).await.expect(200);
        pages.extend(page["entries"].as_array().unwrap().clone());
        match page.get("next") {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    assert_eq!(pages, whole);
    let export = get("/export").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = export
        .text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines, whole);
    assert!(!export.text.contains(made["key"].as_str().unwrap()));
    assert_eq!(
        get("?limit=0").await.problem(422, "invalid_field")["field"],
        "limit"
    );
    alice
        .get("/api/v1/admin/audit")
        .await
        .problem(403, "forbidden");
}
