//! Passkeys over HTTP, with an authenticator in software.

use std::time::Duration;

use serde_json::{Value, json};
use stack_testkit::{Answer, Client, Closed, Socket, TestGateway, clock};

use crate::authenticator::Authenticator;

const BASE: &str = "/api/v1/auth/passkeys";

/// An authenticator that a browser on the gateway's public origin uses.
pub(crate) fn device(gateway: &TestGateway) -> Authenticator {
    let mut device = Authenticator::new();
    device.origin = format!("http://localhost:{}", gateway.addr().port());
    device
}

pub(crate) async fn post(client: &Client, path: &str, body: Value) -> Answer {
    client.post(path).json(&body).send().await
}

/// The ways to answer: the ceremony named, not named, and the browser's answer itself as the body.
pub(crate) const FORMS: [fn(&Value, Value) -> Value; 3] = [
    |begun, answer| json!({ "ceremony": begun["ceremony"], "credential": answer }),
    |_, answer| json!({ "credential": answer }),
    |_, answer| answer,
];

async fn sign_up(client: &Client, username: &str, device: &mut Authenticator) -> Answer {
    let asked = json!({ "username": username });
    let begun = post(client, &format!("{BASE}/signup/begin"), asked)
        .await
        .expect(200);
    let made = json!({
        "ceremony": begun["ceremony"],
        "name": "Key ring",
        "credential": device.make(&begun["publicKey"]),
    });
    post(client, &format!("{BASE}/signup/finish"), made).await
}

async fn show(client: &Client, device: &mut Authenticator, delivery: &str) -> Answer {
    let begun = post(client, &format!("{BASE}/login/begin"), json!({}))
        .await
        .expect(200);
    assert_eq!(begun.get("mediation"), None);
    let shown = json!({
        "ceremony": begun["ceremony"],
        "credential": device.show(&begun["publicKey"]),
        "token_delivery": delivery,
    });
    post(client, &format!("{BASE}/login/finish"), shown).await
}

#[tokio::test]
async fn a_browser_signs_up_out_and_in() {
    let gateway = TestGateway::start().await;
    let (browser, mut device) = (gateway.browser(), device(&gateway));
    let signed_up = sign_up(&browser, "alice", &mut device).await;
    let user = signed_up.expect(201)["user"].clone();
    // Nobody becomes an admin by being first.
    assert_eq!(user["role"], "member");
    assert!(browser.cookie("/", "stack_ceremony").is_some());
    assert_eq!(
        browser.get("/api/v1/me").send().await.expect(200)["id"],
        user["id"]
    );
    let listed = browser.get(BASE).send().await.expect(200);
    assert_eq!(listed["passkeys"][0]["name"], "Key ring");
    assert_eq!(listed["passkeys"][0]["backed_up"], false);

    browser.post("/api/v1/auth/logout").send().await.expect(204);
    browser
        .get("/api/v1/me")
        .send()
        .await
        .problem(401, "unauthenticated");
    let signed_in = show(&browser, &mut device, "cookie").await.expect(200);
    assert_eq!(signed_in["user"]["id"], user["id"]);
    browser.get("/api/v1/me").send().await.expect(200);
}

#[tokio::test]
async fn every_ceremony_takes_the_browsers_answer_as_it_is() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    for (form, username) in FORMS.into_iter().zip(["ann", "bob", "cleo"]) {
        let (browser, mut device) = (gateway.browser(), device(&gateway));
        let begin = async |pair: &str, asked: Value| {
            let begun = post(&browser, &format!("{BASE}/{pair}/begin"), asked).await;
            let begun = begun.expect(200);
            // What `navigator.credentials` is given.
            assert_eq!(begun["publicKey"]["challenge"], begun["ceremony"]);
            assert!(begun.get("public_key").is_none());
            begun
        };
        let finish = async |pair: &str, body: &Value| {
            post(&browser, &format!("{BASE}/{pair}/finish"), body.clone()).await
        };

        let begun = begin("signup", json!({ "username": username })).await;
        let mut made = form(&begun, device.make(&begun["publicKey"]));
        made["name"] = json!("Key ring");
        finish("signup", &made).await.expect(201);
        let again = finish("signup", &made).await;
        again.problem(422, "invalid_field");

        let begun = begin("register", json!({})).await;
        let mut second = self::device(&gateway);
        let mut made = form(&begun, second.make(&begun["publicKey"]));
        made["name"] = json!("Phone");
        let added = finish("register", &made).await.expect(201);
        assert_eq!(added["name"], "Phone");
        let listed = browser.get(BASE).send().await.expect(200);
        assert_eq!(listed["passkeys"][0]["name"], "Key ring");

        let begun = begin("reauthenticate", json!({})).await;
        let shown = form(&begun, device.show(&begun["publicKey"]));
        finish("reauthenticate", &shown).await.expect(204);

        for asked in [
            json!({}),
            json!({ "login": username }),
            json!({ "mediation": "conditional" }),
        ] {
            let begun = begin("login", asked.clone()).await;
            assert_eq!(begun.get("mediation"), asked.get("mediation"));
            let mut shown = form(&begun, second.show(&begun["publicKey"]));
            shown["token_delivery"] = json!("body");
            // Another's answer is refused, and uses the question up.
            if asked.get("login").is_some() {
                let path = format!("{BASE}/login/finish");
                let stolen = post(&program, &path, shown.clone()).await;
                stolen.problem(401, "invalid_credentials");
            } else {
                let signed_in = finish("login", &shown).await.expect(200);
                assert!(signed_in["refresh_token"].is_string());
            }
            let again = finish("login", &shown).await;
            again.problem(401, "invalid_credentials");
        }
    }
}

#[tokio::test]
async fn a_program_needs_no_cookie() {
    let gateway = TestGateway::start().await;
    let (program, mut device) = (gateway.program(), device(&gateway));
    let path = format!("{BASE}/signup/begin");
    let begun = post(&program, &path, json!({ "username": "alice" })).await;
    assert_eq!(begun.header("set-cookie"), "");
    sign_up(&program, "alice", &mut device).await.expect(201);
    let signed_in = show(&program, &mut device, "body").await.expect(200);
    assert!(signed_in["refresh_token"].is_string());
}

#[tokio::test]
async fn an_answer_from_another_browser_is_refused() {
    let gateway = TestGateway::start().await;
    let (browser, mut device) = (gateway.browser(), device(&gateway));
    sign_up(&browser, "alice", &mut device).await.expect(201);
    let other = gateway.browser();
    other.register("mallory").await.expect(201);
    for other in [&other, &gateway.program()] {
        let begun = post(&browser, &format!("{BASE}/login/begin"), json!({}))
            .await
            .expect(200);
        let shown = json!({
            "ceremony": begun["ceremony"],
            "credential": device.show(&begun["publicKey"]),
        });
        let finish = format!("{BASE}/login/finish");
        post(other, &finish, shown.clone())
            .await
            .problem(401, "invalid_credentials");
        // It was used up by that.
        post(&browser, &finish, shown)
            .await
            .problem(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_second_tab_does_not_end_what_the_first_has_begun() {
    let gateway = TestGateway::start().await;
    let (browser, mut device) = (gateway.browser(), device(&gateway));
    sign_up(&browser, "alice", &mut device).await.expect(201);
    let begin = format!("{BASE}/login/begin");
    let first = post(&browser, &begin, json!({})).await.expect(200);
    let conditional = json!({ "mediation": "conditional" });
    let second = post(&browser, &begin, conditional).await.expect(200);
    assert_eq!(second["mediation"], "conditional");
    for begun in [second, first] {
        let shown = json!({
            "ceremony": begun["ceremony"],
            "credential": device.show(&begun["publicKey"]),
        });
        post(&browser, &format!("{BASE}/login/finish"), shown)
            .await
            .expect(200);
    }
}

#[tokio::test]
async fn passkeys_are_added_named_and_removed() {
    let gateway = TestGateway::start().await;
    let (browser, mut first) = (gateway.browser(), device(&gateway));
    sign_up(&browser, "alice", &mut first).await.expect(201);
    let mut second = device(&gateway);
    let begun = post(&browser, &format!("{BASE}/register/begin"), json!({}))
        .await
        .expect(200);
    let options = &begun["publicKey"];
    assert_eq!(options["excludeCredentials"].as_array().unwrap().len(), 1);
    assert_eq!(
        options["authenticatorSelection"]["residentKey"],
        "preferred"
    );
    let made = json!({ "ceremony": begun["ceremony"], "credential": second.make(options) });
    let added = post(&browser, &format!("{BASE}/register/finish"), made)
        .await
        .expect(201);
    let path = format!("{BASE}/{}", added["id"].as_str().unwrap());
    let renamed = browser
        .patch(&path)
        .json(&json!({ "name": "Phone" }))
        .send()
        .await;
    assert_eq!(renamed.expect(200)["name"], "Phone");
    browser.delete(&path).send().await.expect(204);
    browser.delete(&path).send().await.problem(404, "not_found");
    browser
        .delete(&format!("{BASE}/nonsense"))
        .send()
        .await
        .problem(404, "not_found");
    show(&browser, &mut second, "cookie")
        .await
        .problem(401, "invalid_credentials");

    let listed = browser.get(BASE).send().await.expect(200);
    let last = format!("{BASE}/{}", listed["passkeys"][0]["id"].as_str().unwrap());
    browser.delete(&last).send().await.problem(409, "conflict");
    show(&browser, &mut first, "cookie").await.expect(200);
}

#[tokio::test]
async fn an_old_sign_in_shows_itself_again_by_passkey() {
    let clock = clock();
    let gateway = TestGateway::with(|config| config.testing.clock = Some(clock.clone())).await;
    let (browser, mut device) = (gateway.browser(), device(&gateway));
    sign_up(&browser, "alice", &mut device).await.expect(201);
    clock.advance(Duration::from_secs(10 * 60 + 1));
    browser
        .post("/api/v1/auth/refresh")
        .send()
        .await
        .expect(200);
    let register = format!("{BASE}/register/begin");
    let refused = post(&browser, &register, json!({}))
        .await
        .problem(403, "forbidden");
    assert_eq!(refused["field"], "reauthenticate");
    let again = format!("{BASE}/reauthenticate/begin");
    let begun = post(&browser, &again, json!({})).await.expect(200);
    let shown = json!({
        "ceremony": begun["ceremony"],
        "credential": device.show(&begun["publicKey"]),
    });
    let again = format!("{BASE}/reauthenticate/finish");
    post(&browser, &again, shown).await.expect(204);
    post(&browser, &register, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_copied_passkey_is_caught_and_its_owners_sockets_are_closed() {
    let gateway = TestGateway::start().await;
    let (program, mut device) = (gateway.program(), device(&gateway));
    sign_up(&program, "alice", &mut device).await.expect(201);
    let signed_in = show(&program, &mut device, "body").await.expect(200);
    let token = signed_in["access_token"].as_str().unwrap();
    let bearer = format!("Bearer {token}");
    let mut socket = Socket::open(gateway.addr(), "/ws", &[("authorization", &bearer)]).await;
    socket.ok("ping", json!({})).await;
    device.counter = 1;
    show(&program, &mut device, "body")
        .await
        .problem(401, "invalid_credentials");
    assert_eq!(socket.closed().await, Closed::Code(4001));
    device.counter = 1000;
    show(&program, &mut device, "body")
        .await
        .problem(401, "invalid_credentials");
}

#[tokio::test]
async fn bodies_of_any_kind_are_answered() {
    let gateway = TestGateway::start().await;
    let browser = gateway.browser();
    browser.register("alice").await.expect(201);
    for path in [
        "register/finish",
        "signup/begin",
        "signup/finish",
        "login/begin",
        "login/finish",
        "reauthenticate/begin",
        "reauthenticate/finish",
    ] {
        for body in [
            json!(null),
            json!([]),
            json!({ "ceremony": 1, "credential": null }),
            json!({ "ceremony": "x", "credential": {} }),
            json!({ "ceremony": "A".repeat(43), "credential": { "id": "x", "response": [] } }),
            json!({ "id": "x", "rawId": "x", "type": "public-key", "response": {} }),
            json!({ "response": { "clientDataJSON": "%" } }),
            json!({ "response": { "clientDataJSON": "bm9uc2Vuc2U" } }),
            json!({ "response": { "clientDataJSON": "e30" } }),
            json!({ "response": { "clientDataJSON": ["e30"] } }),
            json!({ "credential": { "response": { "clientDataJSON": "e30" } } }),
            json!({ "username": "\u{0}", "login": ["x"], "mediation": "loud" }),
        ] {
            let answer = post(&browser, &format!("{BASE}/{path}"), body.clone()).await;
            assert!(
                (200..500).contains(&answer.status),
                "{path} {body}: {answer:?}"
            );
        }
    }
}
