//! Sessions: refreshing, ending, and what is left of them.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use stack_testkit::{PASSWORD, Person, TestGateway, clock};

const REFRESH: &str = "/api/v1/auth/refresh";

async fn refresh(gateway: &TestGateway, token: &str) -> stack_testkit::Answer {
    gateway
        .program()
        .post(REFRESH)
        .json(&json!({ "refresh_token": token }))
        .send()
        .await
}

#[tokio::test]
async fn fifty_refreshes_at_once_are_one() {
    let gateway = TestGateway::with(|config| config.rate_enabled = true).await;
    let alice = gateway.person("alice").await;
    let answers = join_all((0..50).map(|_| refresh(&gateway, &alice.refresh_token))).await;
    let successor = answers[0].expect(200)["refresh_token"].clone();
    for answer in &answers {
        assert_eq!(answer.expect(200)["refresh_token"], successor);
    }
    refresh(&gateway, successor.as_str().unwrap())
        .await
        .expect(200);
    assert_eq!(
        alice.get("/api/v1/me").await.status,
        200,
        "nobody is signed out"
    );
}

#[tokio::test]
async fn a_token_used_again_after_the_grace_ends_the_session() {
    let clock = clock();
    let gateway = TestGateway::with(|config| config.testing.clock = Some(clock.clone())).await;
    let alice = gateway.person("alice").await;
    let next = refresh(&gateway, &alice.refresh_token).await.expect(200);
    clock.advance(Duration::from_secs(16));
    refresh(&gateway, &alice.refresh_token)
        .await
        .problem(401, "token_reused");
    refresh(&gateway, next["refresh_token"].as_str().unwrap())
        .await
        .problem(401, "unauthenticated");
    alice
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_access_token_ends_and_is_renewed_by_cookie() {
    let clock = clock();
    let gateway = TestGateway::with(|config| config.testing.clock = Some(clock.clone())).await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let csrf = browser.cookie("/", "stack_csrf").unwrap();
    clock.advance(Duration::from_secs(601));
    browser
        .get("/api/v1/me")
        .send()
        .await
        .problem(401, "token_expired");
    // Without any other proof than the token, the client still has to learn that it should refresh …
    let silent = browser.without_origin();
    let change = || {
        silent
            .patch("/api/v1/me")
            .json(&json!({ "display_name": "Al" }))
    };
    let cue = change().header("x-csrf-token", &csrf).send().await;
    cue.problem(401, "token_expired");
    // … and may do so.
    silent
        .post(REFRESH)
        .send()
        .await
        .problem(403, "csrf_failed");
    let refreshed = silent
        .post(REFRESH)
        .header("x-csrf-token", &csrf)
        .send()
        .await;
    assert_eq!(
        refreshed.expect(200).get("refresh_token"),
        None,
        "delivered as the old one was"
    );
    change()
        .header("x-csrf-token", &csrf)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_cookie_that_is_worth_nothing_is_cleared() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let access = browser.cookie("/", "stack_access").unwrap();
    let logout = gateway
        .program()
        .post("/api/v1/auth/logout")
        .bearer(&access)
        .send()
        .await;
    assert_eq!(logout.status, 204);
    let answer = browser.post(REFRESH).send().await;
    answer.problem(401, "unauthenticated");
    let cleared = answer.header_values("set-cookie");
    assert_eq!(cleared.len(), 3, "{answer:?}");
    assert!(
        cleared.iter().all(|cookie| cookie.contains("Max-Age=0")),
        "{cleared:?}"
    );
    assert_eq!(browser.cookie(REFRESH, "stack_refresh"), None);
}

#[tokio::test]
async fn signing_out_ends_the_session_and_clears_the_cookies() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let access = browser.cookie("/", "stack_access").unwrap();
    let answer = browser.post("/api/v1/auth/logout").send().await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header_values("set-cookie").len(), 3);
    assert_eq!(browser.cookie("/", "stack_access"), None);
    gateway
        .program()
        .get("/api/v1/me")
        .bearer(&access)
        .send()
        .await
        .problem(401, "unauthenticated");
    browser
        .post("/api/v1/auth/logout")
        .send()
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn sessions_are_listed_and_revoked_one_by_one() {
    let gateway = TestGateway::start().await;
    let phone = gateway.person("alice").await;
    let laptop = phone.another_device("alice").await;
    let list = |person: Person| async move {
        let answer = person.get("/api/v1/auth/sessions").await.expect(200);
        answer["sessions"].as_array().unwrap().clone()
    };
    let sessions = list(laptop.clone()).await;
    assert_eq!(sessions.len(), 2);
    let (current, other) = (&sessions[1], &sessions[0]);
    assert_eq!(
        (&current["current"], &other["current"]),
        (&json!(true), &json!(false))
    );
    for member in ["id", "device", "ip", "created_at", "last_seen_at"] {
        assert!(!current[member].is_null(), "{current}");
    }
    let path = format!("/api/v1/auth/sessions/{}", other["id"].as_str().unwrap());
    assert_eq!(laptop.delete(&path).await.status, 204);
    laptop.delete(&path).await.problem(404, "not_found");
    phone
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
    assert_eq!(list(laptop.clone()).await.len(), 1);

    let mallory = gateway.person("mallory").await;
    let mine = format!("/api/v1/auth/sessions/{}", current["id"].as_str().unwrap());
    mallory.delete(&mine).await.problem(404, "not_found");
    assert_eq!(laptop.delete(&mine).await.status, 204);
    laptop
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let other = alice.another_device("alice").await;
    let change = |current: &str, new: &str| {
        alice.post(
            "/api/v1/auth/password",
            json!({ "current_password": current, "new_password": new }),
        )
    };
    change("wrong horse battery staple", "another good password")
        .await
        .problem(401, "invalid_credentials");
    let weak = change(PASSWORD, "short")
        .await
        .problem(422, "invalid_field");
    assert_eq!(weak["field"], "new_password");
    assert_eq!(change(PASSWORD, "another good password").await.status, 204);
    other
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
    alice.get("/api/v1/me").await.expect(200);
    gateway
        .browser()
        .login("alice")
        .await
        .problem(401, "invalid_credentials");
}

#[tokio::test]
async fn a_ticket_is_given_to_who_is_signed_in() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let ticket = alice
        .call("POST", "/api/v1/auth/ticket")
        .send()
        .await
        .expect(200);
    assert_eq!(ticket["expires_in_s"], 30);
    assert!(ticket["ticket"].as_str().unwrap().len() >= 40);
    gateway
        .program()
        .post("/api/v1/auth/ticket")
        .send()
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_refresh_token_stays_where_it_was_given() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let taken = browser.cookie(REFRESH, "stack_refresh").unwrap();
    refresh(&gateway, &taken)
        .await
        .problem(401, "unauthenticated");
    let bob = gateway.person("bob").await;
    let cookie = format!("stack_refresh={}", bob.refresh_token);
    let call = gateway.program().post(REFRESH).header("cookie", &cookie);
    let call = call.header("sec-fetch-site", "same-origin");
    call.send().await.problem(401, "unauthenticated");
    // Neither is spent by that.
    browser.post(REFRESH).send().await.expect(200);
    refresh(&gateway, &bob.refresh_token).await.expect(200);
}
