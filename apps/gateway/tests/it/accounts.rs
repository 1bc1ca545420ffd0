//! Accounts: making one, signing in, and one's own profile.

use serde_json::json;
use stack_gateway::config::Registration;
use stack_testkit::{PASSWORD, TestGateway};

#[tokio::test]
async fn a_browser_registers_and_is_signed_in_by_cookie() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    let body = json!({ "username": "Alice", "password": PASSWORD, "email": "Al@Example.com", "display_name": "Alice A." });
    let answer = browser
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await;
    let told = answer.expect(201);
    assert_eq!(told["token_type"], "Bearer");
    assert_eq!(told["expires_in_s"], 600);
    assert_eq!(told["user"]["username"], "alice");
    assert_eq!(told["user"]["display_name"], "Alice A.");
    assert_eq!(
        told["user"]["role"], "member",
        "nobody becomes an administrator by being first"
    );
    assert!(
        told["user"]["email"]
            .as_str()
            .unwrap()
            .eq_ignore_ascii_case("al@example.com")
    );
    assert_eq!(told.get("refresh_token"), None);

    let cookies = answer.header_values("set-cookie");
    assert_eq!(cookies.len(), 3, "{cookies:?}");
    assert!(
        cookies[0].starts_with("stack_access=")
            && cookies[0].contains("; HttpOnly; SameSite=Lax; Path=/;"),
        "{cookies:?}"
    );
    assert!(cookies[1].starts_with("stack_refresh="), "{cookies:?}");
    assert!(
        cookies[1].contains("; HttpOnly; SameSite=Strict; Path=/api/v1/auth/refresh;"),
        "{cookies:?}"
    );
    assert!(
        cookies[2].starts_with("stack_csrf=") && !cookies[2].contains("HttpOnly"),
        "{cookies:?}"
    );

    let me = browser.get("/api/v1/me").send().await.expect(200);
    assert_eq!(me["id"], told["user"]["id"]);
    assert_eq!(me["settings"], json!({}));
}

#[tokio::test]
async fn a_program_gets_its_tokens_in_the_body_and_no_cookie() {
    let gateway = TestGateway::start().await;
    let body = json!({ "username": "bot", "password": PASSWORD, "token_delivery": "body" });
    let answer = gateway
        .program()
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await;
    let told = answer.expect(201);
    assert!(answer.header_values("set-cookie").is_empty());
    assert!(told["refresh_token"].is_string());
    let me = gateway
        .program()
        .get("/api/v1/me")
        .bearer(told["access_token"].as_str().unwrap());
    assert_eq!(me.send().await.expect(200)["username"], "bot");
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let gateway = TestGateway::start().await;
    gateway.person("alice").await;
    let body = json!({ "username": "ALICE", "password": PASSWORD });
    let taken = gateway
        .program()
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await;
    assert_eq!(taken.problem(409, "conflict")["field"], "username");
}

#[tokio::test]
async fn who_cannot_sign_in_is_told_the_same() {
    let gateway = TestGateway::start().await;
    gateway.person("alice").await;
    let login = |login: &str, password: &str| {
        let body = json!({ "login": login, "password": password });
        gateway
            .program()
            .post("/api/v1/auth/login")
            .json(&body)
            .send()
    };
    let wrong = login("alice", "wrong horse battery staple")
        .await
        .problem(401, "invalid_credentials");
    let unknown = login("nobody", PASSWORD)
        .await
        .problem(401, "invalid_credentials");
    assert_eq!(wrong["detail"], unknown["detail"]);
    assert_eq!(
        login("Alice", PASSWORD).await.expect(200)["user"]["username"],
        "alice"
    );
}

#[tokio::test]
async fn registration_can_be_closed() {
    let gateway = TestGateway::with(|config| config.auth.registration = Registration::Closed).await;
    let body = json!({ "username": "alice", "password": PASSWORD });
    gateway
        .program()
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await
        .problem(403, "forbidden");
}

#[tokio::test]
async fn a_profile_is_changed_in_part() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let named = alice
        .patch("/api/v1/me", json!({ "display_name": "Al" }))
        .await
        .expect(200);
    assert_eq!(named["display_name"], "Al");
    let set = alice
        .patch("/api/v1/me", json!({ "settings": { "theme": "dark" } }))
        .await
        .expect(200);
    assert_eq!(
        (&set["display_name"], &set["settings"]["theme"]),
        (&json!("Al"), &json!("dark"))
    );
    assert_eq!(alice.get("/api/v1/me").await.expect(200), set);
    let refused = alice.patch("/api/v1/me", json!({ "settings": [] })).await;
    assert_eq!(refused.problem(422, "invalid_field")["field"], "settings");
}

#[tokio::test]
async fn others_see_the_public_side_of_an_account() {
    let gateway = TestGateway::start().await;
    let (alice, bob) = (gateway.person("alice").await, gateway.person("bob").await);
    let seen = bob
        .get(&format!("/api/v1/users/{}", alice.id))
        .await
        .expect(200);
    assert_eq!(seen["username"], "alice");
    assert_eq!(seen.get("email"), None);
    bob.get("/api/v1/users/1111111111111111111111")
        .await
        .problem(404, "not_found");
    bob.get("/api/v1/users/no%20id")
        .await
        .problem(404, "not_found");
    let nobody = gateway
        .program()
        .get(&format!("/api/v1/users/{}", alice.id))
        .send()
        .await;
    nobody.problem(401, "unauthenticated");
}

#[tokio::test]
async fn no_providers_are_configured() {
    let gateway = TestGateway::start().await;
    let answer = gateway
        .program()
        .get("/api/v1/auth/providers")
        .send()
        .await
        .expect(200);
    assert_eq!(answer, json!({ "providers": [] }));
}
