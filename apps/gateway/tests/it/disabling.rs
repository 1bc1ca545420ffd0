//! Accounts under an admin's hand, and how fast somebody is out.

use std::time::{Duration, Instant};

use serde_json::json;
use stack_testkit::{Closed, PASSWORD};

use crate::admin::with_admin_and;

const USERS: &str = "/api/v1/admin/users";

#[tokio::test]
async fn disabling_closes_sockets_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, |config| config.rate_enabled = false).await;
    let alice = gateway.person("alice").await;
    let laptop = alice.another_device("alice").await;
    let bob = gateway.person("bob").await;
    let mut sockets = [gateway.socket(&alice).await, gateway.socket(&laptop).await];
    let mut other = gateway.socket(&bob).await;
    for socket in sockets.iter_mut().chain([&mut other]) {
        socket.ok("ping", json!({})).await;
    }
    let path = format!("{USERS}/{}", alice.id);
    let begun = Instant::now();
    let disabled = admin.patch(&path, json!({ "disabled": true })).await;
    assert_eq!(disabled.expect(200)["disabled"], true);
    for socket in &mut sockets {
        assert_eq!(socket.next_of("session").await["state"], "revoked");
        assert_eq!(socket.closed().await, Closed::Code(4001));
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    other.ok("ping", json!({})).await;
    alice
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
    gateway
        .browser()
        .login("alice")
        .await
        .problem(401, "invalid_credentials");

    let enabled = admin.patch(&path, json!({ "disabled": false })).await;
    assert_eq!(enabled.expect(200)["disabled"], false);
    gateway.browser().login("alice").await.expect(200);
    alice
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn ending_the_other_sessions_closes_their_sockets() {
    let gateway = stack_testkit::TestGateway::start().await;
    let phone = gateway.person("alice").await;
    let laptop = phone.another_device("alice").await;
    let (mut ended, mut stays) = (gateway.socket(&phone).await, gateway.socket(&laptop).await);
    ended.ok("ping", json!({})).await;
    stays.ok("ping", json!({})).await;
    assert_eq!(
        laptop.delete("/api/v1/auth/sessions/others").await.status,
        204
    );
    assert_eq!(ended.closed().await, Closed::Code(4001));
    stays.ok("ping", json!({})).await;
    let sessions = laptop.get("/api/v1/auth/sessions").await.expect(200);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn accounts_are_listed_for_admins_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, |config| config.rate_enabled = false).await;
    let alice = gateway.person("alice").await;
    let list = admin
        .get(&format!("{USERS}?q=ALI&limit=5"))
        .await
        .expect(200);
    let found = &list["users"][0];
    assert_eq!(
        (&found["id"], &found["kind"]),
        (&json!(alice.id), &json!("person"))
    );
    assert_eq!(
        found["factors"],
        json!({ "password": true, "passkeys": 0, "links": 0, "totp": false })
    );
    for member in ["username", "display_name", "role", "created_at", "disabled"] {
        assert!(!found[member].is_null(), "{found}");
    }
    assert!(found.get("email").is_some() && found.get("last_seen_at").is_some());
    assert!(!list.to_string().contains("argon2"));
    for query in ["limit=0", "limit=x", "after=..."] {
        admin
            .get(&format!("{USERS}?{query}"))
            .await
            .problem(422, "invalid_field");
    }
    alice.get(USERS).await.problem(403, "forbidden");
    let path = format!("{USERS}/{}", alice.id);
    alice
        .patch(&path, json!({ "disabled": false }))
        .await
        .problem(403, "forbidden");
    admin
        .patch(&format!("{USERS}/nobody"), json!({}))
        .await
        .problem(404, "not_found");
    admin
        .patch(&path, json!({ "disabled": "yes" }))
        .await
        .problem(422, "invalid_field");
    let role = async |role: &str| admin.patch(&path, json!({ "role": role })).await;
    assert_eq!(role("admin").await.expect(200)["role"], "admin");
    alice.get(USERS).await.expect(200);
    assert_eq!(role("member").await.expect(200)["role"], "member");
    alice.get(USERS).await.problem(403, "forbidden");
    role("owner").await.problem(422, "invalid_field");
    let mine = admin.get("/api/v1/me").await.expect(200);
    let mine = format!("{USERS}/{}", mine["id"].as_str().unwrap());
    admin
        .patch(&mine, json!({ "disabled": true }))
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn a_new_password_closes_the_other_sockets_within_a_second() {
    let gateway = stack_testkit::TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let laptop = alice.another_device("alice").await;
    let (mut stays, mut ended) = (gateway.socket(&alice).await, gateway.socket(&laptop).await);
    stays.ok("ping", json!({})).await;
    ended.ok("ping", json!({})).await;
    let body = json!({ "current_password": PASSWORD, "new_password": "seven ferries came early" });
    let begun = Instant::now();
    let changed = alice.post("/api/v1/auth/password", body).await;
    assert_eq!(changed.status, 204);
    assert_eq!(ended.closed().await, Closed::Code(4001));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    stays.ok("ping", json!({})).await;
}

#[tokio::test]
async fn a_reused_refresh_token_closes_its_sockets_within_a_second() {
    let clock = stack_testkit::clock();
    let change = |config: &mut stack_gateway::config::Config| {
        config.testing.clock = Some(clock.clone());
    };
    let gateway = stack_testkit::TestGateway::with(change).await;
    let alice = gateway.person("alice").await;
    let mut socket = gateway.socket(&alice).await;
    socket.ok("ping", json!({})).await;
    let program = gateway.program();
    let body = json!({ "refresh_token": alice.refresh_token });
    let refresh = || program.post("/api/v1/auth/refresh").json(&body).send();
    refresh().await.expect(200);
    clock.advance(Duration::from_secs(16));
    let begun = Instant::now();
    refresh().await.problem(401, "token_reused");
    assert_eq!(socket.closed().await, Closed::Code(4001));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}
