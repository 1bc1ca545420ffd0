//! Rate limits, which are on unless somebody turns them off.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;
use stack_testkit::{PASSWORD, TestGateway, clock};
use stack_types::ManualClock;

/// A gateway that limits, by a clock that only the test moves.
async fn limited(clock: Arc<ManualClock>) -> TestGateway {
    TestGateway::with(|config| {
        config.rate_enabled = true;
        config.testing.clock = Some(clock);
    })
    .await
}

#[tokio::test]
async fn a_caller_has_so_many_calls_and_gets_more_with_time() {
    let clock = clock();
    let gateway = limited(clock.clone()).await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    for _ in 0..300 {
        assert_eq!(alice.get("/api/v1/auth/providers").await.status, 200);
    }
    let refused = alice.get("/api/v1/auth/providers").await;
    let after_ms = refused.problem(429, "rate_limited")["retry_after_ms"]
        .as_u64()
        .unwrap();
    assert!((1..=10_000).contains(&after_ms), "{after_ms}");
    assert_eq!(
        refused.header("retry-after"),
        after_ms.div_ceil(1000).to_string()
    );
    assert_eq!(
        bob.get("/api/v1/me").await.status,
        200,
        "others are not held up"
    );
    clock.advance(Duration::from_millis(after_ms));
    assert_eq!(alice.get("/api/v1/auth/providers").await.status, 200);
}

#[tokio::test]
async fn signing_in_counts_by_address() {
    let clock = clock();
    let proxy: IpNet = "127.0.0.0/8".parse().unwrap();
    let gateway = TestGateway::with(|config| {
        config.rate_enabled = true;
        config.testing.clock = Some(clock);
        config.trusted_proxies = vec![proxy];
    })
    .await;
    gateway.person("alice").await;
    let login = |from: &str| {
        let body = json!({ "login": "alice", "password": PASSWORD });
        gateway
            .program()
            .post("/api/v1/auth/login")
            .header("x-forwarded-for", from)
            .json(&body)
            .send()
    };
    for _ in 0..10 {
        login("203.0.113.7").await.expect(200);
    }
    login("203.0.113.7").await.problem(429, "rate_limited");
    login("198.51.100.9").await.expect(200);
    login("2001:db8::1").await.expect(200);
}

#[tokio::test]
async fn an_address_is_not_believed_from_a_stranger() {
    let gateway = limited(clock()).await;
    let mut statuses = Vec::new();
    for number in 0..11 {
        let body = json!({ "login": format!("nobody{number}"), "password": PASSWORD });
        let call = gateway.program().post("/api/v1/auth/login").json(&body);
        let answer = call
            .header("x-forwarded-for", &format!("203.0.113.{number}"))
            .send()
            .await;
        statuses.push(answer.status);
    }
    assert_eq!(
        statuses.pop(),
        Some(429),
        "all of them came from the same machine"
    );
    assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
}

#[tokio::test]
async fn a_session_refreshes_so_often() {
    let gateway = limited(clock()).await;
    let mut token = gateway.person("alice").await.refresh_token;
    let refresh = |token: String| {
        let body = json!({ "refresh_token": token });
        gateway
            .program()
            .post("/api/v1/auth/refresh")
            .json(&body)
            .send()
    };
    for _ in 0..30 {
        token = refresh(token).await.expect(200)["refresh_token"]
            .as_str()
            .unwrap()
            .to_owned();
    }
    refresh(token).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn messages_are_limited_by_user_and_room() {
    let gateway = limited(clock()).await;
    let alice = gateway.person("alice").await;
    alice.room("one", true).await;
    alice.room("two", true).await;
    let say = async |room: &str| {
        let path = format!("/api/v1/rooms/{room}/messages");
        alice.post(&path, json!({ "body": "x" })).await
    };
    for _ in 0..10 {
        say("one").await.expect(201);
    }
    let refused = say("one").await;
    refused.problem(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    say("two").await.expect(201);
}

#[tokio::test]
async fn a_member_begins_so_many_ceremonies() {
    let gateway = limited(clock()).await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    let begin = "/api/v1/auth/passkeys/register/begin";
    let again = "/api/v1/auth/passkeys/reauthenticate/begin";
    for _ in 0..10 {
        alice.post(begin, json!({})).await.expect(200);
    }
    for path in [begin, again] {
        let refused = alice.post(path, json!({})).await;
        refused.problem(429, "rate_limited");
    }
    bob.post(begin, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_member_shows_so_many_passwords() {
    let gateway = limited(clock()).await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    let again = "/api/v1/auth/reauthenticate";
    let password = json!({ "password": PASSWORD });
    for _ in 0..10 {
        let shown = alice.post(again, password.clone()).await;
        assert_eq!(shown.status, 204);
    }
    let refused = alice.post(again, password.clone()).await;
    refused.problem(429, "rate_limited");
    let change = json!({ "current_password": PASSWORD, "new_password": "another long password" });
    let refused = alice.post("/api/v1/auth/password", change).await;
    refused.problem(429, "rate_limited");
    let refused = alice.call("DELETE", "/api/v1/auth/totp").json(&password);
    refused.send().await.problem(429, "rate_limited");
    assert_eq!(bob.post(again, password).await.status, 204);
}

#[tokio::test]
async fn looks_and_links_spend_no_sign_ins_and_passwords_stop_no_passkeys() {
    let gateway = limited(clock()).await;
    gateway.person("alice").await;
    let program = gateway.program();
    let status = async |path: &str, body: &serde_json::Value| {
        program.post(path).json(body).send().await.status
    };
    for _ in 0..20 {
        let look = status("/api/v1/invites/look", &json!({ "invite": "none" })).await;
        assert_ne!(look, 429);
        let look = status("/api/v1/auth/recover/look", &json!({ "token": "none" })).await;
        assert_ne!(look, 429);
    }
    let token = json!({ "token": "none", "new_password": PASSWORD });
    for _ in 0..10 {
        assert_ne!(status("/api/v1/auth/recover", &token).await, 429);
    }
    assert_eq!(status("/api/v1/auth/recover", &token).await, 429);
    let setup = json!({ "token": "none", "username": "ann", "password": PASSWORD });
    assert_eq!(status("/api/v1/setup/password", &setup).await, 429);

    let login = json!({ "login": "alice", "password": PASSWORD });
    for _ in 0..10 {
        assert_eq!(status("/api/v1/auth/login", &login).await, 200);
    }
    assert_eq!(status("/api/v1/auth/login", &login).await, 429);
    let begin = status("/api/v1/auth/passkeys/login/begin", &json!({})).await;
    assert_eq!(begin, 200);
    let answer = json!({ "ceremony": "none", "credential": {} });
    let finish = status("/api/v1/auth/passkeys/login/finish", &answer).await;
    assert_eq!(finish, 401);
}
