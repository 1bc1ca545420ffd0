//! The first run over HTTP.

use serde_json::json;
use stack_gateway::config::{Config, Inputs};
use stack_testkit::{PASSWORD, TestGateway};

use crate::passkeys::{FORMS, device, post};

#[tokio::test]
async fn a_browser_sets_the_server_up_with_a_passkey() {
    let gateway = TestGateway::start().await;
    let token = gateway.setup_token().unwrap();
    let browser = gateway.browser();
    let look = browser.get("/api/v1/setup").send().await.expect(200);
    assert_eq!(look, json!({ "open": true, "passkeys": true }));
    let first = json!({ "token": token, "username": "root", "display_name": "The Root" });
    let begun = post(&browser, "/api/v1/setup/passkey/begin", first.clone())
        .await
        .expect(200);
    let made = json!({
        "token": token,
        "ceremony": begun["ceremony"],
        "credential": device(&gateway).make(&begun["publicKey"]),
    });
    let finish = "/api/v1/setup/passkey/finish";
    let admin = post(&browser, finish, made.clone()).await.expect(201);
    assert_eq!(admin["user"]["role"], "admin");
    assert_eq!(admin["user"]["display_name"], "The Root");
    browser
        .get("/api/v1/admin/rate-counters")
        .send()
        .await
        .expect(200);

    let look = browser.get("/api/v1/setup").send().await.expect(200);
    assert_eq!(look["open"], false);
    post(&browser, finish, made)
        .await
        .problem(422, "invalid_field");
    post(&browser, "/api/v1/setup/passkey/begin", first)
        .await
        .problem(409, "conflict");
    let second = json!({ "token": token, "username": "other", "password": PASSWORD });
    post(&browser, "/api/v1/setup/password", second)
        .await
        .problem(409, "conflict");
}

#[tokio::test]
async fn the_setup_takes_the_browsers_answer_as_it_is() {
    for form in FORMS {
        let gateway = TestGateway::start().await;
        let token = gateway.setup_token().unwrap();
        let browser = gateway.browser();
        let first = json!({ "token": token, "username": "root" });
        let begun = post(&browser, "/api/v1/setup/passkey/begin", first).await;
        let begun = begun.expect(200);
        let made = form(&begun, device(&gateway).make(&begun["publicKey"]));
        let admin = post(&browser, "/api/v1/setup/passkey/finish", made).await;
        assert_eq!(admin.expect(201)["user"]["role"], "admin");
    }
}

/// † Tuwunel #318, #331: the first account of a server is nobody's crown.
#[tokio::test]
async fn nobody_becomes_admin_by_being_first() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    let registered = browser.register("alice").await.expect(201);
    assert_eq!(registered["user"]["role"], "member");
    browser
        .get("/api/v1/admin/rate-counters")
        .send()
        .await
        .problem(403, "forbidden");
    let claim = |token: &str| json!({ "token": token, "username": "root", "password": PASSWORD });
    for wrong in ["", "root", &"A".repeat(43)] {
        let refused = post(&browser, "/api/v1/setup/password", claim(wrong)).await;
        assert_eq!(refused.problem(403, "forbidden")["field"], "token");
    }
    // That somebody has an account already does not close the setup.
    let token = gateway.setup_token().unwrap();
    let set_up = post(&gateway.program(), "/api/v1/setup/password", claim(token)).await;
    assert_eq!(set_up.expect(201)["user"]["role"], "admin");
}

#[tokio::test]
async fn on_an_ip_address_there_is_a_password_and_the_reason() {
    let gateway = TestGateway::with(|config| {
        let inputs = Inputs {
            env: vec![("STACK_PUBLIC_URL".into(), "https://192.0.2.7".into())],
            ..Inputs::default()
        };
        config.public_url = Config::load(&inputs).unwrap().public_url;
    })
    .await;
    let program = gateway.program();
    let look = program.get("/api/v1/setup").send().await.expect(200);
    assert_eq!(
        look,
        json!({ "open": true, "passkeys": false, "reason": "ip_address" })
    );
    let token = gateway.setup_token().unwrap();
    let first = json!({ "token": token, "username": "root", "password": PASSWORD });
    let refused = post(&program, "/api/v1/setup/passkey/begin", first.clone()).await;
    refused.problem(409, "conflict");
    let login = post(&program, "/api/v1/auth/passkeys/login/begin", json!({})).await;
    login.problem(409, "conflict");
    post(&program, "/api/v1/setup/password", first)
        .await
        .expect(201);
}

#[tokio::test]
async fn bodies_of_any_kind_are_answered() {
    let gateway = TestGateway::start().await;
    let token = gateway.setup_token().unwrap();
    let browser = gateway.browser();
    for path in ["password", "passkey/begin", "passkey/finish"] {
        for body in [
            json!(null),
            json!([]),
            json!({ "token": token }),
            json!({ "token": token, "username": "\u{0}", "password": "" }),
            json!({ "token": [token], "username": "root" }),
            json!({ "token": "x".repeat(10_000), "username": "root", "password": PASSWORD }),
            json!({ "token": token, "username": "root", "password": "short" }),
            json!({ "ceremony": "A".repeat(43), "credential": { "response": {} } }),
            json!({ "token": token, "response": { "clientDataJSON": "e30" } }),
            json!({ "token": token, "response": { "clientDataJSON": "bm9uc2Vuc2U" } }),
        ] {
            let answer = post(&browser, &format!("/api/v1/setup/{path}"), body.clone()).await;
            assert!(
                answer.status < 500 && answer.status != 201,
                "{path} {body}: {answer:?}"
            );
        }
    }
    let look = browser.get("/api/v1/setup").send().await.expect(200);
    assert_eq!(look["open"], true);
}
