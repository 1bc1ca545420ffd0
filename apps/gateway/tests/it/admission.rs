//! Who gets in: by invitation, by an admin's hand, by a recovery link.

use serde_json::{Value, json};
use stack_gateway::config::{Config, Registration};
use stack_gateway::offline;
use stack_testkit::{Answer, Client, PASSWORD, TestGateway};

use crate::admin::with_admin_and;

const INVITES: &str = "/api/v1/invites";

fn mode(mode: Registration) -> impl FnOnce(&mut Config) {
    move |config| {
        config.auth.registration = mode;
        config.rate_enabled = false;
    }
}

/// What stands behind the `#` of a link: it never reaches a server as part of an address.
fn fragment(url: &Value, path: &str) -> String {
    let (before, secret) = url.as_str().unwrap().split_once('#').unwrap();
    assert!(before.ends_with(path), "{url}");
    secret.to_owned()
}

async fn register(client: &Client, name: &str, invite: Option<&str>) -> Answer {
    let body = json!({ "username": name, "password": PASSWORD, "invite": invite });
    client
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await
}

#[tokio::test]
async fn an_invitation_lets_in_and_into_its_rooms() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, mode(Registration::Invite)).await;
    admin.room("den", false).await;
    let program = gateway.program();
    let registration = program.get("/api/v1/registration").send().await.expect(200);
    assert_eq!(registration["mode"], "invite");
    assert_eq!(registration["password"]["min_chars"], 15);
    assert!(registration["passkeys"].is_boolean());

    let refused = register(&program, "alice", None)
        .await
        .problem(403, "forbidden");
    assert_eq!(refused["field"], "invite");
    let none = json!({ "rooms": [{ "room": "nowhere" }] });
    let none = admin
        .post(INVITES, none)
        .await
        .problem(422, "invalid_field");
    assert_eq!(none["field"], "rooms");
    let asked = json!({ "rooms": [{ "room": "den", "role": "moderator" }], "note": "Alice" });
    let made = admin.post(INVITES, asked).await.expect(201);
    let text = fragment(&made["url"], "/invite");
    let look = program.post("/api/v1/invites/look");
    let look = look
        .json(&json!({ "invite": text }))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&look["invited_by"], &look["role"]),
        (&json!("root"), &json!("member"))
    );

    let browser = gateway.browser();
    register(&browser, "alice", Some(&text)).await.expect(201);
    let den = browser.get("/api/v1/rooms/den").send().await.expect(200);
    assert_eq!(den["role"], "moderator");
    let again = register(&program, "bob", Some(&text))
        .await
        .problem(403, "forbidden");
    assert_eq!(again["field"], "invite");

    let list = admin.get(INVITES).await.expect(200);
    assert_eq!(
        (&list["invites"][0]["uses"], &list["invites"][0]["open"]),
        (&json!(1), &json!(false))
    );
    assert!(!list.to_string().contains(text.split_once('.').unwrap().1));
    let open = admin
        .post(INVITES, json!({ "max_uses": 5 }))
        .await
        .expect(201);
    let path = format!("{INVITES}/{}", open["id"].as_str().unwrap());
    assert_eq!(admin.delete(&path).await.status, 204);
    admin.delete(&path).await.problem(404, "not_found");
    browser.get(INVITES).send().await.problem(403, "forbidden");
    let forged = json!({ "invite": "x" });
    let forged = program
        .post("/api/v1/invites/look")
        .json(&forged)
        .send()
        .await;
    forged.problem(403, "forbidden");
}

#[tokio::test]
async fn where_registration_is_closed_admins_make_accounts() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, mode(Registration::Closed)).await;
    let program = gateway.program();
    register(&program, "alice", None)
        .await
        .problem(403, "forbidden");
    let asked = json!({ "username": "alice", "display_name": "Alice B" });
    let made = admin.post("/api/v1/admin/users", asked).await.expect(201);
    let token = fragment(&made["url"], "/recover");
    assert_eq!(made["user"]["username"], "alice");
    assert_eq!(made["user"]["factors"]["password"], false);

    let look = program.post("/api/v1/auth/recover/look");
    let look = look
        .json(&json!({ "token": token }))
        .send()
        .await
        .expect(200);
    assert_eq!(
        (&look["username"], &look["min_chars"]),
        (&json!("alice"), &json!(15))
    );
    let browser = gateway.browser();
    let recover = |password: &str| {
        let body = json!({ "token": token, "new_password": password });
        browser.post("/api/v1/auth/recover").json(&body).send()
    };
    let weak = recover("short").await.problem(422, "invalid_field");
    assert_eq!(weak["field"], "new_password");
    recover(PASSWORD).await.expect(200);
    recover(PASSWORD).await.problem(410, "gone");
    assert_eq!(
        browser.get("/api/v1/me").send().await.expect(200)["display_name"],
        "Alice B"
    );
    gateway.browser().login("alice").await.expect(200);
}

#[tokio::test]
async fn a_recovery_link_ends_what_was_open() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, mode(Registration::Open)).await;
    let alice = gateway.person("alice").await;
    let mut socket = gateway.socket(&alice).await;
    socket.ok("ping", json!({})).await;
    let path = format!("/api/v1/admin/users/{}/recovery", alice.id);
    alice
        .call("POST", &path)
        .send()
        .await
        .problem(403, "forbidden");
    let link = admin.call("POST", &path).send().await.expect(201);
    let token = fragment(&link["url"], "/recover");
    let body = json!({ "token": token, "new_password": "seven ferries came early" });
    let recovered = gateway
        .browser()
        .post("/api/v1/auth/recover")
        .json(&body)
        .send()
        .await;
    recovered.expect(200);
    assert_eq!(socket.closed().await, stack_testkit::Closed::Code(4001));
    alice
        .get("/api/v1/me")
        .await
        .problem(401, "unauthenticated");
}

#[tokio::test]
async fn odd_bodies_are_refused() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    for (path, body) in [
        ("/api/v1/invites/look", json!({ "invite": 7 })),
        ("/api/v1/auth/recover/look", json!({})),
        (
            "/api/v1/auth/recover",
            json!({ "token": null, "new_password": [] }),
        ),
        (
            "/api/v1/auth/login/second-factor",
            json!({ "ticket": {}, "code": 1 }),
        ),
        (
            "/api/v1/auth/register",
            json!({ "username": "a", "password": PASSWORD, "invite": 1 }),
        ),
    ] {
        let refused = program.post(path).json(&body).send().await;
        refused.problem(422, "invalid_field");
    }
}

#[tokio::test]
async fn the_operator_lets_an_admin_back_in() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, mode(Registration::Closed)).await;
    gateway.shutdown().await;
    let mut config = stack_testkit::config();
    crate::admin::on_file(&mut config, &folder);
    let url = offline::recovery_url(&config, "Root", true).await.unwrap();
    let token = fragment(&json!(url), "/recover");
    let nobody = offline::recovery_url(&config, "nobody", false).await;
    assert_eq!(nobody.unwrap_err().to_string(), "there is no user nobody");
    let last = offline::set_disabled(&config, "root", true).await;
    assert!(last.unwrap_err().to_string().contains("last admin"));

    let gateway = TestGateway::with(|config| crate::admin::on_file(config, &folder)).await;
    let body = json!({ "token": token, "new_password": "seven ferries came early" });
    let browser = gateway.browser();
    let recovered = browser
        .post("/api/v1/auth/recover")
        .json(&body)
        .send()
        .await;
    assert_eq!(recovered.expect(200)["user"]["role"], "admin");
    let old = admin.at(&gateway).get("/api/v1/me").await;
    old.problem(401, "unauthenticated");
}
