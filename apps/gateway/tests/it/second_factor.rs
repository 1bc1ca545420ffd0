//! The second factor over HTTP, and what failed sign-ins tell.

use serde_json::{Value, json};
use stack_testkit::{Answer, Client, PASSWORD, Person, TestGateway, clock, one_time_code};
use stack_types::{Clock as _, ManualClock};

const LOGIN: &str = "/api/v1/auth/login";
const SECOND: &str = "/api/v1/auth/login/second-factor";

async fn login(client: &Client, login: &str, password: &str) -> Answer {
    let body = json!({ "login": login, "password": password, "token_delivery": "body" });
    client.post(LOGIN).json(&body).send().await
}

async fn second(client: &Client, ticket: &Value, code: &str) -> Answer {
    let body = json!({ "ticket": ticket, "code": code });
    client.post(SECOND).json(&body).send().await
}

/// Turns a second factor on, and gives its secret and the recovery codes.
async fn enroll(person: &Person, clock: &ManualClock) -> (String, Vec<Value>) {
    let asked = person.post("/api/v1/auth/totp/enroll", json!({})).await;
    let asked = asked.expect(200);
    let secret = asked["secret"].as_str().unwrap().to_owned();
    assert!(
        asked["otpauth_uri"]
            .as_str()
            .unwrap()
            .starts_with("otpauth://totp/Stack:alice?"),
        "{asked}"
    );
    let code = one_time_code(&secret, clock.now().0 / 1000);
    let confirm = json!({ "code": code });
    let codes = person.post("/api/v1/auth/totp/confirm", confirm).await;
    let codes = codes.expect(200)["recovery_codes"]
        .as_array()
        .unwrap()
        .clone();
    clock.advance(std::time::Duration::from_secs(60));
    (secret, codes)
}

#[tokio::test]
async fn a_second_factor_is_turned_on_asked_for_and_turned_off() {
    let clock = clock();
    let gateway = TestGateway::with(|config| config.testing.clock = Some(clock.clone())).await;
    let alice = gateway.person("alice").await;
    let off = json!({ "enabled": false, "confirmed_at": null, "recovery_codes_left": 0 });
    assert_eq!(alice.get("/api/v1/auth/totp").await.expect(200), off);
    let (secret, codes) = enroll(&alice, &clock).await;
    assert_eq!(codes.len(), 10);

    let program = gateway.program();
    let waiting = login(&program, "alice", PASSWORD).await;
    let waiting = waiting.problem(401, "second_factor_required");
    assert!(waiting["ticket"].as_str().unwrap().len() >= 40, "{waiting}");
    let wrong = second(&program, &waiting["ticket"], "000000").await;
    wrong.problem(401, "invalid_credentials");
    let code = one_time_code(&secret, clock.now().0 / 1000);
    let got = second(&program, &waiting["ticket"], &code)
        .await
        .expect(200);
    assert_eq!(got["user"]["username"], "alice");
    assert!(
        got["refresh_token"].is_string(),
        "delivered as the login asked"
    );
    let spent = second(&program, &waiting["ticket"], &code).await;
    spent.problem(401, "unauthenticated");

    // A browser gets cookies, as at every other sign-in.
    let browser = gateway.browser();
    let waiting = browser.login("alice").await;
    let waiting = waiting.problem(401, "second_factor_required");
    let code = codes[0].as_str().unwrap().to_uppercase();
    let got = second(&browser, &waiting["ticket"], &code).await;
    assert_eq!(got.expect(200).get("refresh_token"), None);
    browser.get("/api/v1/me").send().await.expect(200);

    let view = alice.get("/api/v1/auth/totp").await.expect(200);
    assert_eq!(
        (&view["enabled"], &view["recovery_codes_left"]),
        (&json!(true), &json!(9))
    );
    let new = alice.post("/api/v1/auth/recovery-codes", json!({})).await;
    assert_eq!(
        new.expect(200)["recovery_codes"].as_array().unwrap().len(),
        10
    );
    let remove = |body: Value| alice.call("DELETE", "/api/v1/auth/totp").json(&body).send();
    let missing = remove(json!({})).await.problem(422, "invalid_field");
    assert_eq!(missing["field"], "password");
    assert_eq!(remove(json!({ "password": PASSWORD })).await.status, 204);
    login(&program, "alice", PASSWORD).await.expect(200);
    remove(json!({ "password": PASSWORD }))
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn an_old_sign_in_has_to_be_shown_again() {
    let clock = clock();
    let gateway = TestGateway::with(|config| {
        config.testing.clock = Some(clock.clone());
        config.auth.access_token_ttl = std::time::Duration::from_secs(3600);
    })
    .await;
    let alice = gateway.person("alice").await;
    clock.advance(std::time::Duration::from_secs(601));
    let enroll = || alice.post("/api/v1/auth/totp/enroll", json!({}));
    let refused = enroll().await.problem(403, "forbidden");
    assert_eq!(refused["field"], "reauthenticate");
    let again = |body: Value| alice.post("/api/v1/auth/reauthenticate", body);
    again(json!({ "password": "wrong horse battery staple" }))
        .await
        .problem(401, "invalid_credentials");
    again(json!({})).await.problem(422, "invalid_field");
    assert_eq!(again(json!({ "password": PASSWORD })).await.status, 204);
    enroll().await.expect(200);
}

#[tokio::test]
async fn a_second_step_is_rationed() {
    let gateway = TestGateway::with(|config| config.rate_enabled = true).await;
    let program = gateway.program();
    let ticket = json!("A".repeat(43));
    for _ in 0..3 {
        let refused = second(&program, &ticket, "000000").await;
        refused.problem(401, "unauthenticated");
    }
    let limited = second(&program, &ticket, "000000").await;
    limited.problem(429, "rate_limited");
}

#[tokio::test]
async fn a_code_counts_by_user_wherever_it_is_tried() {
    let clock = clock();
    let gateway = TestGateway::with(|config| {
        config.rate_enabled = true;
        config.testing.clock = Some(clock.clone());
    })
    .await;
    let alice = gateway.person("alice").await;
    enroll(&alice, &clock).await;
    let program = gateway.program();
    let ticket = async || {
        let waiting = login(&program, "alice", PASSWORD).await;
        waiting.problem(401, "second_factor_required")["ticket"].clone()
    };
    for _ in 0..3 {
        let wrong = second(&program, &ticket().await, "000000").await;
        wrong.problem(401, "invalid_credentials");
    }
    let limited = second(&program, &ticket().await, "000000").await;
    limited.problem(429, "rate_limited");
    let again = json!({ "password": PASSWORD, "code": "000000" });
    let limited = alice.post("/api/v1/auth/reauthenticate", again).await;
    limited.problem(429, "rate_limited");
    let confirm = json!({ "code": "000000" });
    let limited = alice.post("/api/v1/auth/totp/confirm", confirm).await;
    limited.problem(429, "rate_limited");
    clock.advance(std::time::Duration::from_secs(10));
    let wrong = second(&program, &ticket().await, "000000").await;
    wrong.problem(401, "invalid_credentials");
}

#[tokio::test]
async fn failed_logins_are_equal_in_status_and_body() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = crate::admin::with_admin_and(&folder, |config| {
        config.rate_enabled = false;
    })
    .await;
    let off = gateway.person("off").await;
    let path = format!("/api/v1/admin/users/{}", off.id);
    admin
        .patch(&path, json!({ "disabled": true }))
        .await
        .expect(200);
    // An account that an admin made has no password until its owner sets one.
    let made = json!({ "username": "key", "email": "key@example.org" });
    admin.post("/api/v1/admin/users", made).await.expect(201);

    let program = gateway.program();
    let mut answers = Vec::new();
    for (name, password) in [
        ("root", "wrong horse battery staple"),
        ("nobody", PASSWORD),
        ("nobody@example.org", PASSWORD),
        ("off", PASSWORD),
        ("key", PASSWORD),
        ("key@example.org", PASSWORD),
        ("no login at all", PASSWORD),
        ("", ""),
    ] {
        let answer = login(&program, name, password).await;
        let mut problem = answer.problem(401, "invalid_credentials");
        problem["request_id"] = Value::Null;
        let mut headers: Vec<_> = answer
            .headers
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "x-request-id" | "date"))
            .map(|(name, value)| (name.to_string(), value.clone()))
            .collect();
        headers.sort_by(|one, other| one.0.cmp(&other.0));
        answers.push((problem, headers));
    }
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}
