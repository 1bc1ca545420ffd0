//! Room tokens: how little they show, and when they end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stack_testkit::{Closed, Person, Socket, TestGateway};

use crate::admin::with_admin_and;
use crate::programs::{calls, key, socket};

const TOKEN: &str = "/api/v1/chat/token";

async fn with_admin(folder: &tempfile::TempDir) -> (TestGateway, Person) {
    with_admin_and(folder, |config| config.rate_enabled = false).await
}

async fn mint(gateway: &TestGateway, key: &Value, asked: Value) -> String {
    let key = key["key"].as_str().unwrap();
    let minted = calls(gateway, key, "POST", TOKEN, Some(asked)).await;
    let minted = minted.expect(200);
    minted["token"].as_str().unwrap().to_owned()
}

/// A change of an account closes this socket with its word, and does so within a second.
async fn closes(admin: &Person, account: &str, change: Value, socket: &mut Socket, state: bool) {
    let begun = Instant::now();
    let path = format!("/api/v1/admin/users/{account}");
    admin.patch(&path, change).await.expect(200);
    if state {
        assert_eq!(socket.next_of("session").await["state"], "revoked");
    }
    assert_eq!(socket.closed().await, Closed::Code(4001));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn disabling_a_bot_closes_its_room_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["chat_token"]).await;
    let other = key(&admin, &["chat_token"]).await;
    let token = mint(&gateway, &made, json!({ "user_id": "7" })).await;
    let mut ended = socket(&gateway, &token).await;
    let kept = mint(&gateway, &other, json!({ "user_id": "8" })).await;
    let mut kept = socket(&gateway, &kept).await;
    ended.ok("ping", json!({})).await;
    kept.ok("ping", json!({})).await;
    let bot = made["user"]["id"].as_str().unwrap();
    closes(&admin, bot, json!({ "disabled": true }), &mut ended, false).await;
    kept.ok("ping", json!({})).await;
    calls(&gateway, &token, "GET", "/api/v1/me", None)
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn disabling_a_backends_user_closes_its_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let made = key(&admin, &["chat_token"]).await;
    let token = mint(&gateway, &made, json!({ "user_id": "7" })).await;
    let mut ended = socket(&gateway, &token).await;
    ended.ok("ping", json!({})).await;
    // Nobody for whom a token is made becomes an admin behind an open socket.
    admin
        .patch("/api/v1/admin/users/7", json!({ "role": "admin" }))
        .await
        .problem(409, "conflict");
    closes(&admin, "7", json!({ "disabled": true }), &mut ended, true).await;
}

#[tokio::test]
async fn a_key_makes_tokens_only_while_its_maker_is_an_admin() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let other = gateway.person("other").await;
    let id = other.id.clone();
    let path = format!("/api/v1/admin/users/{id}");
    for (user, change) in [
        ("7", json!({ "role": "member" })),
        ("8", json!({ "disabled": true })),
    ] {
        let asked = json!({ "user_id": user });
        admin
            .patch(&path, json!({ "role": "admin" }))
            .await
            .expect(200);
        let made = key(&other, &["read", "chat_token"]).await;
        let text = made["key"].as_str().unwrap().to_owned();
        let token = mint(&gateway, &made, asked.clone()).await;
        let mut ended = socket(&gateway, &token).await;
        ended.ok("ping", json!({})).await;
        let mut bot = socket(&gateway, &text).await;
        bot.ok("ping", json!({})).await;
        closes(&admin, &id, change, &mut ended, false).await;
        calls(&gateway, &token, "GET", "/api/v1/me", None)
            .await
            .problem(401, "unauthenticated");
        calls(&gateway, &text, "POST", TOKEN, Some(asked.clone()))
            .await
            .problem(403, "forbidden");
        // What is not an admin's to give stays.
        bot.ok("ping", json!({})).await;
        calls(&gateway, &text, "GET", "/api/v1/me", None)
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn a_bound_token_hears_of_its_rooms_only() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    for room in ["one", "two"] {
        admin.room(room, true).await;
    }
    let made = key(&admin, &["chat_token"]).await;
    let asked = json!({ "user_id": "7", "rooms": ["one", "two"] });
    let wide = mint(&gateway, &made, asked).await;
    let asked = json!({ "user_id": "7", "rooms": [{ "room": "one", "rights": ["read"] }] });
    let narrow = mint(&gateway, &made, asked).await;
    let mut bound = socket(&gateway, &narrow).await;
    bound.ok("ping", json!({})).await;
    for room in ["two", "one"] {
        let path = format!("/api/v1/rooms/{room}/read");
        let read = calls(&gateway, &wide, "PUT", &path, Some(json!({ "seq": 1 }))).await;
        assert_eq!(read.status / 100, 2, "{}", read.text);
    }
    assert_eq!(bound.next_of("read").await["room"], "one");

    // A socket that signs in again hears what the new token may.
    bound.ok("auth", json!({ "token": wide })).await;
    let path = "/api/v1/rooms/two/read";
    calls(&gateway, &wide, "PUT", path, Some(json!({ "seq": 2 }))).await;
    assert_eq!(bound.next_of("read").await["room"], "two");
}

#[tokio::test]
async fn a_bound_token_finds_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    admin.room("one", true).await;
    let made = key(&admin, &["chat_token"]).await;
    let asked = json!({ "user_id": "7", "rooms": ["one"] });
    let token = mint(&gateway, &made, asked).await;
    for path in [
        "/api/v1/users?username=root".to_owned(),
        format!("/api/v1/users/{}", admin.id),
    ] {
        calls(&gateway, &token, "GET", &path, None)
            .await
            .problem(403, "forbidden");
    }
    let me = calls(&gateway, &token, "GET", "/api/v1/me", None).await;
    let me = me.expect(200);
    assert_eq!((&me["id"], &me["settings"]), (&json!("7"), &json!({})));
    assert_eq!(me["email"], Value::Null);
    calls(&gateway, &token, "GET", "/api/v1/rooms/one/members", None)
        .await
        .expect(200);
}

#[tokio::test]
async fn presence_is_told_with_the_right_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    admin.room("one", true).await;
    let made = key(&admin, &["chat_token"]).await;
    for (rights, allowed) in [(["read"].as_slice(), false), (&["read", "presence"], true)] {
        let asked = json!({ "user_id": "7", "rooms": [{ "room": "one", "rights": rights }] });
        let token = mint(&gateway, &made, asked).await;
        let mut seven = socket(&gateway, &token).await;
        let status = json!({ "status": "busy", "text": "at lunch" });
        if allowed {
            seven.ok("presence", status).await;
        } else {
            assert_eq!(seven.refused("presence", status).await["code"], "forbidden");
        }
    }
}

#[tokio::test]
async fn a_place_that_is_there_needs_nobody_to_give_it() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let bob = gateway.person("bob").await;
    bob.room("bobs", false).await;
    let made = key(&admin, &["chat_token"]).await;
    mint(&gateway, &made, json!({ "user_id": "7" })).await;
    mint(&gateway, &made, json!({ "user_id": "8" })).await;
    let role = json!({ "role": "member" });
    bob.put("/api/v1/rooms/bobs/members/7", role)
        .await
        .expect(200);
    let asked = |user: &str| json!({ "user_id": user, "rooms": ["bobs"] });
    let token = mint(&gateway, &made, asked("7")).await;
    let path = "/api/v1/rooms/bobs/messages";
    calls(&gateway, &token, "GET", path, None).await.expect(200);
    let text = made["key"].as_str().unwrap();
    calls(&gateway, text, "POST", TOKEN, Some(asked("8")))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn a_socket_that_may_less_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    for room in ["one", "two"] {
        admin.room(room, true).await;
    }
    let made = key(&admin, &["chat_token"]).await;
    let asked = json!({ "user_id": "7", "rooms": ["one", "two"] });
    let wide = mint(&gateway, &made, asked).await;
    let asked = json!({ "user_id": "7", "rooms": ["one"] });
    let narrow = mint(&gateway, &made, asked).await;
    let mut watching = gateway.socket(&admin).await;
    watching.ok("subscribe", json!({ "room": "two" })).await;
    let mut seven = socket(&gateway, &wide).await;
    for room in ["one", "two"] {
        seven.ok("subscribe", json!({ "room": room })).await;
    }
    let mut becomes = async |status: &str| loop {
        let presence = watching.next_of("presence").await;
        if presence["user_id"] == "7" && presence["status"] == status {
            break;
        }
    };
    becomes("online").await;
    seven.tell("auth", json!({ "token": narrow })).await;
    let ended = seven.next_of("unsubscribed").await;
    assert_eq!(
        (&ended["room"], &ended["reason"]),
        (&json!("two"), &json!("removed"))
    );
    becomes("offline").await;
    // It may come back when the token allows it.
    let refused = seven.refused("subscribe", json!({ "room": "two" })).await;
    assert_eq!(refused["code"], "forbidden");
    seven.ok("auth", json!({ "token": wide })).await;
    seven.ok("subscribe", json!({ "room": "two" })).await;
    becomes("online").await;
}

#[tokio::test]
async fn a_bad_key_at_a_socket_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let entries = async || {
        let path = "/api/v1/admin/audit?action=api_key_refused";
        let log = admin.get(path).await.expect(200);
        log["entries"].as_array().unwrap().clone()
    };
    let bad = "stk_nothing_that_is_good";
    let mut upgraded = socket(&gateway, bad).await;
    assert_eq!(upgraded.closed().await, Closed::Code(4001));
    assert_eq!(entries().await.len(), 1);
    let mut first = Socket::open(gateway.addr(), "/ws", &[]).await;
    first.tell("auth", json!({ "token": bad })).await;
    assert_eq!(first.closed().await, Closed::Code(4001));
    let entries = entries().await;
    assert_eq!(entries.len(), 2);
    for entry in entries {
        assert_eq!(
            (&entry["target"], &entry["outcome"]),
            (&json!("GET /ws"), &json!("refused"))
        );
        assert!(!entry["ip"].as_str().unwrap().is_empty());
    }
}
