//! The CSRF rule, as a matrix: what a request carries, and whether it is carried out.

use serde_json::json;
use stack_gateway::config::{Config, Inputs};
use stack_testkit::{Call, Client, PASSWORD, TestGateway};

const ME: &str = "/api/v1/me";

fn change(browser: &Client) -> Call {
    browser.patch(ME).json(&json!({ "display_name": "Al" }))
}

async fn signed_in(gateway: &TestGateway) -> (Client, String) {
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    let token = browser.cookie(ME, "stack_csrf").unwrap();
    (browser.without_origin(), token)
}

#[tokio::test]
async fn a_cookie_needs_one_proof() {
    let gateway = TestGateway::start().await;
    let (browser, token) = signed_in(&gateway).await;
    let own = gateway.origin();

    change(&browser).send().await.problem(403, "csrf_failed");
    change(&browser)
        .header("sec-fetch-site", "none")
        .send()
        .await
        .problem(403, "csrf_failed");
    change(&browser)
        .header("x-csrf-token", "nonsense")
        .send()
        .await
        .problem(403, "csrf_failed");
    change(&browser)
        .header("x-csrf-token", "")
        .send()
        .await
        .problem(403, "csrf_failed");

    change(&browser)
        .header("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(200);
    change(&browser)
        .header("origin", &own)
        .send()
        .await
        .expect(200);
    change(&browser)
        .header("x-csrf-token", &token)
        .send()
        .await
        .expect(200);
    let by_hand = change(&browser).header("sec-fetch-site", "none");
    by_hand
        .header("x-csrf-token", &token)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn whatever_comes_from_elsewhere_is_refused_whatever_else_it_proves() {
    let gateway = TestGateway::start().await;
    let (browser, token) = signed_in(&gateway).await;
    for foreign in [
        "https://evil.example",
        "null",
        "http://127.0.0.1:1",
        "http://localhost",
    ] {
        change(&browser)
            .header("origin", foreign)
            .send()
            .await
            .problem(403, "csrf_failed");
        let with_token = change(&browser)
            .header("origin", foreign)
            .header("x-csrf-token", &token);
        with_token.send().await.problem(403, "csrf_failed");
        let contradictory = change(&browser)
            .header("origin", foreign)
            .header("sec-fetch-site", "same-origin");
        contradictory.send().await.problem(403, "csrf_failed");
    }
    for foreign in ["cross-site", "same-site", "nonsense"] {
        let with_all = change(&browser)
            .header("sec-fetch-site", foreign)
            .header("x-csrf-token", &token);
        with_all
            .header("origin", &gateway.origin())
            .send()
            .await
            .problem(403, "csrf_failed");
    }
}

#[tokio::test]
async fn a_token_of_another_session_proves_nothing() {
    let gateway = TestGateway::start().await;
    let (browser, _) = signed_in(&gateway).await;
    let other = gateway.browser();
    other.register("mallory").await.expect(201);
    let planted = other.cookie(ME, "stack_csrf").unwrap();
    // An attacker who can plant a cookie can plant one of their own session; the jar sends the first of the two.
    let own = browser.cookie(ME, "stack_access").unwrap();
    let call = gateway
        .program()
        .patch(ME)
        .json(&json!({ "display_name": "M" }));
    let call = call.header(
        "cookie",
        &format!("stack_access={own}; stack_csrf={planted}"),
    );
    call.header("x-csrf-token", &planted)
        .send()
        .await
        .problem(403, "csrf_failed");
}

#[tokio::test]
async fn reading_needs_no_proof_and_neither_does_a_bearer_token() {
    let gateway = TestGateway::start().await;
    let (browser, _) = signed_in(&gateway).await;
    browser
        .get(ME)
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .expect(200);

    let program = gateway.person("bob").await;
    let from_elsewhere = program
        .call("PATCH", ME)
        .header("origin", "https://evil.example");
    from_elsewhere
        .json(&json!({ "display_name": "Bob" }))
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn signing_in_is_refused_to_pages_from_elsewhere() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let body = json!({ "username": "alice", "password": PASSWORD, "login": "alice" });
    for path in ["/api/v1/auth/register", "/api/v1/auth/login"] {
        let call = || program.post(path).json(&body);
        call()
            .header("origin", "https://evil.example")
            .send()
            .await
            .problem(403, "csrf_failed");
        call()
            .header("origin", "null")
            .send()
            .await
            .problem(403, "csrf_failed");
        call()
            .header("sec-fetch-site", "cross-site")
            .send()
            .await
            .problem(403, "csrf_failed");
        call()
            .header("sec-fetch-site", "same-site")
            .send()
            .await
            .problem(403, "csrf_failed");
    }
    program
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await
        .expect(201);
    program
        .post("/api/v1/auth/login")
        .json(&body)
        .send()
        .await
        .expect(200);
    let page = program
        .post("/api/v1/auth/login")
        .json(&body)
        .header("origin", &gateway.origin());
    page.header("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn signing_in_again_with_a_cookie_in_hand_needs_a_proof() {
    let gateway = TestGateway::start().await;
    let (browser, token) = signed_in(&gateway).await;
    let body = json!({ "login": "alice", "password": PASSWORD });
    let login = || browser.post("/api/v1/auth/login").json(&body);
    login().send().await.problem(403, "csrf_failed");
    login()
        .header("x-csrf-token", &token)
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn a_csrf_token_can_be_asked_for() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    let before = browser.get("/api/v1/auth/csrf").send().await.expect(200);
    assert_eq!(
        browser.cookie("/", "stack_csrf").as_deref(),
        before["csrf_token"].as_str()
    );
    let body = json!({ "username": "alice", "password": PASSWORD });
    let silent = browser.without_origin();
    let register = silent.post("/api/v1/auth/register").json(&body);
    register
        .header("x-csrf-token", before["csrf_token"].as_str().unwrap())
        .send()
        .await
        .expect(201);

    let bound = browser.get("/api/v1/auth/csrf").send().await.expect(200);
    assert_ne!(bound, before, "a session has a token of its own");
    let again = browser.get("/api/v1/auth/csrf").send().await.expect(200);
    assert_eq!(again, bound, "a token that is good is told again");
    change(&silent)
        .header("x-csrf-token", bound["csrf_token"].as_str().unwrap())
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn an_allowed_origin_counts_as_ours() {
    let inputs = Inputs {
        env: vec![("STACK_CORS_ORIGINS".into(), "https://app.example".into())],
        ..Inputs::default()
    };
    let allowed = Config::load(&inputs).unwrap().cors_origins;
    let gateway = TestGateway::with(|config| config.cors_origins = allowed).await;
    let (browser, _) = signed_in(&gateway).await;
    let call = change(&browser).header("origin", "https://app.example");
    call.header("sec-fetch-site", "cross-site")
        .send()
        .await
        .expect(200);
}

#[tokio::test]
async fn an_export_of_the_audit_log_is_begun_by_no_page_from_elsewhere() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    let token = gateway.setup_token().unwrap();
    let claim = json!({ "token": token, "username": "root", "password": PASSWORD });
    let set_up = browser.post("/api/v1/setup/password").json(&claim);
    set_up.send().await.expect(201);
    let export = |site: &str| {
        let call = browser.get("/api/v1/admin/audit/export");
        call.header("sec-fetch-site", site).send()
    };
    for site in ["cross-site", "same-site"] {
        export(site).await.problem(403, "csrf_failed");
    }
    for site in ["same-origin", "none"] {
        assert_eq!(export(site).await.status, 200);
    }
    let exported = browser.get("/api/v1/admin/audit?action=audit_exported");
    let exported = exported.send().await.expect(200);
    assert_eq!(exported["entries"].as_array().unwrap().len(), 2);
}
