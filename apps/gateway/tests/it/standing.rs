//! What was taken from a caller while the body of their request was on its way, or the answer to it.

use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use stack_proto::JsonCodec;
use stack_storage::{AuditAction, AuditEntry, AuditOutcome, Location, Store, StoreConfig};
use stack_testkit::{PASSWORD, Person, TestGateway, clock, one_time_code};
use stack_types::{Clock as _, SystemClock};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use crate::admin::{on_file, with_admin_and};
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
        // No transaction looks again at who makes a room: it is the look behind the body alone that refuses it.
        let body = json!({ "id": format!("made-{status}"), "title": "Made" });
        let room = Held::begin(&gateway, &eve, "POST", "/rooms", body).await;
        change(taken).await.expect(200);
        for held in held {
            assert_eq!(held.finish().await, refused(status, code));
        }
        let made = match status {
            "401" => refused(status, code),
            // Members make rooms, too.
            _ => ("201".to_owned(), String::new()),
        };
        assert_eq!(room.finish().await, made);
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

/// As many entries as one piece of an export has, each so long that a piece is more than the sockets between here and
/// there hold.
async fn fill_audit_log(folder: &tempfile::TempDir) {
    let config = StoreConfig {
        location: Location::File(folder.path().join("data/stack.redb")),
        ..StoreConfig::default()
    };
    let opened = Store::open(config, Arc::new(JsonCodec), Arc::new(SystemClock));
    let (store, handle, _commits) = opened.unwrap();
    let entry = || AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action: AuditAction::Login,
        target: Some("x".repeat(24 * 1024)),
        outcome: AuditOutcome::Refused,
    };
    try_join_all((0..500).map(|_| store.audit(entry())))
        .await
        .unwrap();
    drop(store);
    handle.shutdown().await;
}

/// Begins an export of the audit log, and reads the head of the answer.
async fn begin_export(gateway: &TestGateway, person: &Person) -> BufReader<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = BufReader::new(socket.connect(gateway.addr()).await.unwrap());
    let head = format!(
        "GET /api/v1/admin/audit/export HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         connection: close\r\n\r\n",
        person.token
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).await.unwrap() > 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    stream
}

/// The rest of an answer, and whether it came to its end.
async fn rest_of(mut stream: BufReader<TcpStream>) -> (String, bool) {
    let mut rest = Vec::new();
    // An answer that is cut off may end by a reset.
    let _ = stream.read_to_end(&mut rest).await;
    let rest = String::from_utf8_lossy(&rest).into_owned();
    let is_whole = rest.ends_with("\r\n0\r\n\r\n");
    (rest, is_whole)
}

#[tokio::test]
async fn an_export_of_the_audit_log_ends_with_the_right_to_it() {
    const OLDEST: &str = "\"action\":\"register\"";
    let folder = tempfile::tempdir().unwrap();
    let (gateway, root) = with_admin_and(&folder, |config| config.rate_enabled = false).await;
    let eve = gateway.person("eve").await;
    let path = format!("/api/v1/admin/users/{}", eve.id);
    let admin = json!({ "role": "admin" });
    root.patch(&path, admin).await.expect(200);
    gateway.shutdown().await;
    fill_audit_log(&folder).await;
    let gateway = TestGateway::with(|config| {
        on_file(config, &folder);
        config.rate_enabled = false;
    })
    .await;
    let root = root.at(&gateway);

    let (whole, is_whole) = rest_of(begin_export(&gateway, &eve).await).await;
    assert!(is_whole && whole.contains(OLDEST));

    // While the first piece is on its way she is made a member; the second one is not read for her.
    let export = begin_export(&gateway, &eve).await;
    let member = json!({ "role": "member" });
    root.patch(&path, member).await.expect(200);
    let (rest, is_whole) = rest_of(export).await;
    assert!(!is_whole && !rest.contains(OLDEST));
}
