//! What was taken from a caller while the body of their request was on its way.

use serde_json::{Value, json};
use stack_testkit::{PASSWORD, Person, TestGateway, clock, one_time_code};
use stack_types::Clock as _;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::admin::with_admin_and;
use crate::passkeys::device;

/// A request whose head was let in and whose body is held back.
struct Held {
    stream: BufReader<TcpStream>,
    body: String,
}

impl Held {
    /// Sends the head, and waits until the gateway asks for the body: by then it has looked at the caller.
    async fn begin(
        gateway: &TestGateway,
        person: &Person,
        method: &str,
        path: &str,
        body: Value,
    ) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(gateway.addr()).await.unwrap());
        let body = body.to_string();
        let head = format!(
            "{method} /api/v1{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n",
            person.token,
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut asked = String::new();
        while !asked.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut asked).await.unwrap() > 0, "{asked}");
        }
        assert!(asked.starts_with("HTTP/1.1 100 "), "{path}: {asked}");
        Self { stream, body }
    }

    /// Sends the body, and gives the status and the problem's code.
    async fn finish(mut self) -> (String, String) {
        self.stream.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn refused(status: &str, code: &str) -> (String, String) {
    (status.to_owned(), code.to_owned())
}

#[tokio::test]
async fn a_revocation_reaches_requests_whose_body_is_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, root) = with_admin_and(&folder, |config| config.rate_enabled = false).await;
    let (eve, mate) = (gateway.person("eve").await, gateway.person("mate").await);
    let of_eve = format!("/api/v1/admin/users/{}", eve.id);
    let change = |body: Value| root.patch(&of_eve, body);
    let recovery = format!("/admin/users/{}/recovery", root.id);
    let of_mate = format!("/admin/users/{}", mate.id);
    let asked = [
        (
            "POST",
            "/admin/users",
            json!({ "username": "backdoor", "role": "admin" }),
        ),
        (
            "POST",
            "/api-keys",
            json!({ "name": "k", "scopes": ["admin"] }),
        ),
        ("POST", "/invites", json!({ "role": "admin" })),
        ("PATCH", of_mate.as_str(), json!({ "role": "admin" })),
        (
            "POST",
            recovery.as_str(),
            json!({ "reset_second_factor": true }),
        ),
    ];
    for (taken, status, code) in [
        (json!({ "role": "member" }), "403", "forbidden"),
        (json!({ "disabled": true }), "401", "unauthenticated"),
    ] {
        change(json!({ "role": "admin" })).await.expect(200);
        let mut held = Vec::new();
        for (method, path, body) in asked.clone() {
            held.push(Held::begin(&gateway, &eve, method, path, body).await);
        }
        change(taken).await.expect(200);
        for held in held {
            assert_eq!(held.finish().await, refused(status, code));
        }
    }
    let users = root.get("/api/v1/admin/users").await.expect(200);
    assert_eq!(users["users"].as_array().unwrap().len(), 3);
    let keys = root.get("/api/v1/api-keys").await.expect(200);
    assert_eq!(keys["api_keys"], json!([]));
    let invites = root.get("/api/v1/invites").await.expect(200);
    assert_eq!(invites["invites"], json!([]));
}

#[tokio::test]
async fn a_stolen_session_adds_no_way_in_after_a_password_change() {
    let clock = clock();
    let gateway = TestGateway::with(|config| config.testing.clock = Some(clock.clone())).await;
    let alice = gateway.person("alice").await;
    let thief = alice.another_device("alice").await;
    let begun = thief.post("/api/v1/auth/passkeys/register/begin", json!({}));
    let begun = begun.await.expect(200);
    let answer = json!({
        "ceremony": begun["ceremony"],
        "credential": device(&gateway).make(&begun["publicKey"]),
    });
    let secret = thief.post("/api/v1/auth/totp/enroll", json!({})).await;
    let secret = secret.expect(200)["secret"].as_str().unwrap().to_owned();
    let code = json!({ "code": one_time_code(&secret, clock.now().0 / 1000) });
    let held = [
        Held::begin(
            &gateway,
            &thief,
            "POST",
            "/auth/passkeys/register/finish",
            answer,
        )
        .await,
        Held::begin(&gateway, &thief, "POST", "/auth/totp/confirm", code).await,
    ];
    let new = format!("{PASSWORD} again");
    let change = json!({ "current_password": PASSWORD, "new_password": new });
    let changed = alice.post("/api/v1/auth/password", change).await;
    assert_eq!(changed.status, 204);
    for held in held {
        assert_eq!(held.finish().await, refused("401", "unauthenticated"));
    }
    let passkeys = alice.get("/api/v1/auth/passkeys").await.expect(200);
    assert_eq!(passkeys["passkeys"], json!([]));
    let factor = alice.get("/api/v1/auth/totp").await.expect(200);
    assert_eq!(factor["enabled"], false);
}
