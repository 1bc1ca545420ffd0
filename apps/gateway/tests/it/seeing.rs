//! What an operator sees of a gateway: its log, its measures, its traces.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::{Value, json};
use stack_gateway::config::{Config, TraceSettings};
use stack_testkit::{PATIENCE, TestGateway, one_time_code};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::admin::with_admin_and;
use crate::process::{output, program};

/// A gateway in a process of its own.
struct Running {
    child: Child,
    url: String,
    setup: String,
}

async fn start(folder: &tempfile::TempDir, settings: &[(&str, &str)]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack-gateway"));
    command
        .env_clear()
        .args(["--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .current_dir(folder.path())
        .envs(settings.iter().copied())
        .env("STACK_RATE_ENABLED", "false")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
        line.unwrap().unwrap()
    };
    let (first, second) = (next().await, next().await);
    let (_, rest) = first.split_once("listening on ").unwrap();
    let url = rest.split_whitespace().next().unwrap().to_owned();
    let (_, setup) = second.split_once('#').unwrap();
    let setup = setup.to_owned();
    Running { child, url, setup }
}

impl Running {
    async fn end(&mut self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = Program::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.unwrap().success());
        let ended = timeout(PATIENCE, self.child.wait()).await.unwrap();
        assert!(ended.unwrap().success());
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = start(&folder, &[("STACK_LOG", "trace")]).await;
    let client = reqwest::Client::new();
    // A pipe holds 64 KiB, and every request writes some hundred bytes.
    let mut longest = Duration::ZERO;
    for _ in 0..800 {
        let begun = Instant::now();
        let answer = client.get(format!("{}/api/v1/registration", gateway.url));
        let answer = timeout(PATIENCE, answer.send()).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        longest = longest.max(begun.elapsed());
    }
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    // Read again, everything that there was room for comes.
    let mut log = gateway.child.stderr.take().unwrap();
    let mut written = String::new();
    let read = log.read_to_string(&mut written);
    let (read, ()) = tokio::join!(timeout(PATIENCE, read), gateway.end());
    read.unwrap().unwrap();
    assert!(written.len() > 128 * 1024, "{}", written.len());
    assert_eq!(written.matches("answered 200").count(), 800);
    assert!(written.contains("the gateway is down"));
}

#[tokio::test]
async fn lines_go_into_files_and_say_who_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("STACK_LOG_DIR", "logs"), ("STACK_LOG_FORMAT", "json")];
    let mut gateway = start(&folder, &settings).await;
    let client = reqwest::Client::new();
    let call = |method: &str, path: &str| {
        let method = method.parse().unwrap();
        client.request(method, format!("{}/api/v1{path}", gateway.url))
    };
    let claim = json!({
        "token": gateway.setup, "username": "root", "password": "correct horse battery staple",
        "token_delivery": "body",
    });
    let admin = call("POST", "/setup/password").json(&claim).send().await;
    let admin: Value = admin.unwrap().json().await.unwrap();
    let token = admin["access_token"].as_str().unwrap();
    let room = json!({ "id": "general", "title": "General" });
    let made = call("POST", "/rooms").bearer_auth(token).json(&room);
    assert_eq!(made.send().await.unwrap().status(), 201);
    let seen = call("GET", "/rooms/general").bearer_auth(token);
    let seen = seen.header("x-request-id", "seen-by-a-test").send().await;
    assert_eq!(seen.unwrap().status(), 200);
    gateway.end().await;
    let mut told = String::new();
    let mut stderr = gateway.child.stderr.take().unwrap();
    stderr.read_to_string(&mut told).await.unwrap();
    assert_eq!(told, "");
    let log = fs::read_to_string(folder.path().join("logs/stack-gateway.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let is_seen = |line: &&Value| line["span"]["request_id"] == "seen-by-a-test";
    let seen = lines.iter().find(is_seen).unwrap();
    assert_eq!(seen["status"], 200);
    assert_eq!(seen["span"]["route"], "/api/v1/rooms/{room}");
    assert_eq!(seen["span"]["room"], "general");
    assert_eq!(seen["span"]["user"], admin["user"]["id"]);
    assert_eq!(seen["spans"], Value::Null);
}

#[tokio::test]
async fn the_lines_of_a_socket_say_whose_it_is_from_its_upgrade_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("STACK_LOG", "debug"),
        ("STACK_LOG_DIR", "logs"),
        ("STACK_LOG_FORMAT", "json"),
    ];
    let mut gateway = start(&folder, &settings).await;
    let claim = json!({
        "token": gateway.setup, "username": "root", "password": "correct horse battery staple",
        "token_delivery": "body",
    });
    let client = reqwest::Client::new();
    let path = format!("{}/api/v1/setup/password", gateway.url);
    let admin = client.post(path).json(&claim).send().await.unwrap();
    let admin: Value = admin.json().await.unwrap();
    let bearer = format!("Bearer {}", admin["access_token"].as_str().unwrap());
    let addr = gateway
        .url
        .strip_prefix("http://")
        .unwrap()
        .parse()
        .unwrap();
    for id in ["goes-by-itself", "is-closed"] {
        let headers = [("authorization", bearer.as_str()), ("x-request-id", id)];
        let mut socket = stack_testkit::Socket::open(addr, "/ws", &headers).await;
        socket.ok("ping", json!({})).await;
        if id == "is-closed" {
            socket.send_text("[]").await;
            socket.closed().await;
        }
    }
    gateway.end().await;
    let log = fs::read_to_string(folder.path().join("logs/stack-gateway.log")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = |what: &str, of: &dyn Fn(&Value) -> bool| {
        let is = |line: &&Value| line["message"].as_str().unwrap().starts_with(what) && of(line);
        let line = lines.iter().find(is);
        line.unwrap_or_else(|| panic!("no {what} in {log}"))
    };
    for (id, end) in [
        ("goes-by-itself", "socket closed: 1002"),
        ("is-closed", "socket closed: 4000"),
    ] {
        let signed_in = said("socket signed in", &|line| line["request_id"] == id);
        assert_eq!(signed_in["span"]["user"], admin["user"]["id"]);
        let connection = &signed_in["span"]["connection"];
        assert!(connection.is_string());
        let ended = said(end, &|line| line["span"]["connection"] == *connection);
        assert_eq!(ended["span"]["user"], admin["user"]["id"]);
    }
}

#[tokio::test]
async fn log_files_are_for_those_who_serve() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    let data = folder.path().join("data");
    let program = |arguments: &[&str], log_dir: &std::path::Path| {
        let mut command = program(arguments);
        command
            .arg("--data-dir")
            .arg(&data)
            .env("STACK_LOG_DIR", log_dir);
        command
    };
    let listed = output(&mut program(&["keys", "list"], &logs)).await;
    // There is no database yet.
    assert!(!listed.stderr.is_empty() && !logs.exists(), "{listed:?}");
    // A start that fails says why in the file, too.
    fs::write(folder.path().join("taken"), "").unwrap();
    let taken = format!("unix:{}", folder.path().join("nowhere/x.sock").display());
    let failing = [
        "--listen",
        taken.as_str(),
        "--public-url",
        "http://localhost",
    ];
    let failed = output(&mut program(&failing, &logs)).await;
    let told = String::from_utf8(failed.stderr).unwrap();
    assert!(
        told.starts_with("stack-gateway: ") && told.lines().count() == 1,
        "{told}"
    );
    let log = fs::read_to_string(logs.join("stack-gateway.log")).unwrap();
    let reason = told.trim_end().strip_prefix("stack-gateway: ").unwrap();
    assert!(log.contains("ERROR") && log.contains(reason), "{log}");
    // An edge beside its gateway does not write into the same file.
    let edge = ["edge", "--origin", "unix:/nowhere.sock"];
    let failed = output(&mut program(&edge, &logs)).await;
    assert!(!failed.status.success());
    let log = fs::read_to_string(logs.join("stack-edge.log")).unwrap();
    assert!(log.contains("ERROR"), "{log}");
    // A folder that is none is named, with the setting.
    let failed = output(&mut program(&["serve"], &folder.path().join("taken"))).await;
    let told = String::from_utf8(failed.stderr).unwrap();
    assert!(
        told.contains("log_dir") && told.contains("/taken: "),
        "{told}"
    );
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn lines_that_find_no_room_on_the_disk_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("logs")).unwrap();
    let log = folder.path().join("logs/stack-gateway.log");
    std::os::unix::fs::symlink("/dev/full", log).unwrap();
    let mut gateway = start(&folder, &[("STACK_LOG_DIR", "logs")]).await;
    let client = reqwest::Client::new();
    let lost = async {
        loop {
            client
                .get(format!("{}/api/v1/registration", gateway.url))
                .send()
                .await
                .unwrap();
            let text = client.get(format!("{}/metrics", gateway.url)).send().await;
            let text = text.unwrap().text().await.unwrap();
            if sample(&text, "stack_log_lines_dropped_total").unwrap() >= 1.0 {
                return;
            }
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
    gateway.end().await;
}

/// Everything that must never be in a log, by what it is.
type Secrets = Vec<(&'static str, String)>;

/// Sends whatever a gateway takes, each with something secret in it, and gives what was secret.
async fn say_everything(url: &str, setup: &str, local: &Path) -> Secrets {
    let client = reqwest::Client::builder()
        .cookie_store(true)
        .build()
        .unwrap();
    let plain = reqwest::Client::new();
    let secrets = std::cell::RefCell::new(Vec::new());
    let hush = |what: &'static str, text: &str| {
        assert!(text.len() >= 6, "{what}: {text}");
        secrets.borrow_mut().push((what, text.to_owned()));
        text.to_owned()
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let call = async |token: &str, method: &str, path: &str, body: Value| -> Value {
        let address = format!("{url}/api/v1{path}");
        let request = plain.request(method.parse().unwrap(), address);
        let request = match token {
            "" => request,
            token => request.bearer_auth(token),
        };
        let request = match body {
            Value::Null => request,
            body => request.json(&body),
        };
        let answer = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str(&answer).unwrap_or(Value::Null)
    };
    let nothing = Value::Null;

    hush("setup token", setup);
    let password = hush("password", "hush-password-of-the-admin");
    let email = hush("e-mail", "hush-mail@secret.example");
    let claim = json!({
        "token": setup, "username": "root", "password": password, "email": email,
        "token_delivery": "body",
    });
    let wrong = json!({
        "token": hush("wrong setup token", &"W".repeat(43)), "username": "x", "password": password,
    });
    call("", "POST", "/setup/password", wrong).await;
    let admin = call("", "POST", "/setup/password", claim).await;
    let token = hush("access token", &text(&admin["access_token"]));
    let refresh = hush("refresh token", &text(&admin["refresh_token"]));

    // Signing in: right, wrong, as a browser, with a second factor.
    for (login, shown) in [
        ("root", password.as_str()),
        ("root", "hush-wrong-password"),
        (email.as_str(), "hush-wrong-password"),
        ("hush-nobody@secret.example", "hush-wrong-password"),
    ] {
        let asked = json!({ "login": login, "password": shown, "token_delivery": "body" });
        call("", "POST", "/auth/login", asked).await;
    }
    hush("wrong password", "hush-wrong-password");
    hush("unknown e-mail", "hush-nobody@secret.example");
    let in_browser = json!({ "login": "root", "password": password });
    let address = format!("{url}/api/v1/auth/login");
    let signed = client.post(&address).header("origin", url);
    let signed = signed.json(&in_browser).send().await.unwrap();
    for cookie in signed.headers().get_all("set-cookie") {
        let pair = cookie.to_str().unwrap().split(';').next().unwrap();
        hush("cookie", pair.split_once('=').unwrap().1);
    }
    let me = client.get(format!("{url}/api/v1/me")).send().await;
    assert_eq!(me.unwrap().status(), 200);
    let forged = client.post(format!("{url}/api/v1/auth/logout"));
    let forged = forged
        .header("origin", "https://hush-evil.example")
        .header("x-csrf-token", hush("CSRF token", "hush-csrf-token"));
    forged.send().await.unwrap();
    let again = call(
        "",
        "POST",
        "/auth/refresh",
        json!({ "refresh_token": refresh }),
    )
    .await;
    hush("second refresh token", &text(&again["refresh_token"]));
    let token = match text(&again["access_token"]) {
        fresh if fresh.is_empty() => token,
        fresh => hush("second access token", &fresh),
    };
    call(
        "",
        "POST",
        "/auth/refresh",
        json!({ "refresh_token": "hush-no-such-refresh-token" }),
    )
    .await;
    hush("unknown refresh token", "hush-no-such-refresh-token");
    call("hush-no-such-access-token", "GET", "/me", nothing.clone()).await;
    hush("unknown access token", "hush-no-such-access-token");
    call("stk_hush-no-such-api-key", "GET", "/me", nothing.clone()).await;
    hush("unknown API key", "stk_hush-no-such-api-key");

    // Programs, tickets, invitations, links.
    let key = json!({ "name": "Backend", "scopes": ["read", "send", "chat_token"] });
    let key = call(&token, "POST", "/api-keys", key).await;
    let key = hush("API key", &text(&key["key"]));
    let minted = call(&key, "POST", "/chat/token", json!({ "user_id": "7" })).await;
    hush("room token", &text(&minted["token"]));
    let invite = call(&token, "POST", "/invites", json!({})).await;
    let invite = text(&invite["url"]);
    let invite = hush("invitation", invite.rsplit(['#', '/']).next().unwrap());
    call("", "POST", "/invites/look", json!({ "invite": invite })).await;
    let other = json!({
        "username": "bob", "password": hush("new password", "hush-password-of-bob"),
        "email": hush("new e-mail", "hush-bob@secret.example"), "token_delivery": "body",
        "invite": invite,
    });
    let bob = call("", "POST", "/auth/register", other).await;
    hush("other access token", &text(&bob["access_token"]));
    let path = format!("/admin/users/{}/recovery", text(&bob["user"]["id"]));
    let link = text(&call(&token, "POST", &path, json!({})).await["url"]);
    let link = hush("recovery link", link.rsplit(['#', '/']).next().unwrap());
    call("", "POST", "/auth/recover/look", json!({ "token": link })).await;
    let changed =
        json!({ "token": link, "new_password": hush("third password", "hush-third-password") });
    call("", "POST", "/auth/recover", changed).await;

    // A second factor.
    let enrolled = call(&token, "POST", "/auth/totp/enroll", json!({})).await;
    let secret = hush("TOTP secret", &text(&enrolled["secret"]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let code = one_time_code(&secret, now.as_secs());
    let codes = call(
        &token,
        "POST",
        "/auth/totp/confirm",
        json!({ "code": code }),
    )
    .await;
    for code in codes["recovery_codes"].as_array().unwrap() {
        hush("recovery code", &text(code));
    }
    let asked = json!({ "login": "root", "password": password });
    let waiting = call("", "POST", "/auth/login", asked).await;
    let waiting = hush("ticket of a sign-in", &text(&waiting["ticket"]));
    let shown = text(&codes["recovery_codes"][0]);
    let asked = json!({ "ticket": waiting, "code": "hush-wrong-code" });
    call("", "POST", "/auth/login/second-factor", asked).await;
    hush("wrong code", "hush-wrong-code");
    let asked = json!({ "ticket": waiting, "code": shown, "token_delivery": "body" });
    call("", "POST", "/auth/login/second-factor", asked).await;

    // Rooms and messages, whole, broken and too long.
    let room = json!({ "id": "general", "title": "General", "settings": { "public": true } });
    call(&token, "POST", "/rooms", room).await;
    let messages = "/rooms/general/messages";
    let body = json!({
        "body": hush("message", "hush-message-by-http"),
        "data": { "k": hush("data", "hush-data-by-http") },
    });
    call(&token, "POST", messages, body).await;
    call(
        &token,
        "PATCH",
        "/rooms/general/messages/2",
        json!({ "body": hush("edit", "hush-edited") }),
    )
    .await;
    let reason = json!({ "reason": hush("reason", "hush-reason") });
    call(&token, "DELETE", "/rooms/general/messages/2", reason).await;
    call(
        &token,
        "GET",
        "/rooms/general/messages?after=hush-query-of-history",
        nothing.clone(),
    )
    .await;
    call(
        &token,
        "GET",
        "/users?username=hush-query-of-users",
        nothing.clone(),
    )
    .await;
    call(
        &token,
        "GET",
        "/hush-unknown-path?hush-unknown-query=1",
        nothing.clone(),
    )
    .await;
    call(
        &token,
        "POST",
        messages,
        json!({ "body": 7, "hush-unknown-field": 1 }),
    )
    .await;
    hush("query", "hush-query-of-history");
    hush("query", "hush-query-of-users");
    hush("path", "hush-unknown-path");
    hush("query", "hush-unknown-query");
    hush("field", "hush-unknown-field");
    let broken = plain
        .post(format!("{url}/api/v1{messages}"))
        .bearer_auth(&token)
        .header("content-type", "application/json")
        .header("x-hush-header", hush("header", "hush-header"))
        .body("{\"body\": \"hush-broken-body");
    broken.send().await.unwrap();
    hush("broken body", "hush-broken-body");

    // Sockets: by header, by ticket, by frame, with good frames and bad ones.
    let addr = url.strip_prefix("http://").unwrap().parse().unwrap();
    let ticket = call(&token, "POST", "/auth/ticket", json!({})).await;
    let ticket = hush("ticket of a socket", &text(&ticket["ticket"]));
    let path = format!("/ws?ticket={ticket}");
    drop(stack_testkit::Socket::try_open(addr, &path, &[]).await);
    let path = "/ws?ticket=hush-no-such-ticket";
    drop(stack_testkit::Socket::try_open(addr, path, &[]).await);
    hush("unknown ticket", "hush-no-such-ticket");
    let mut unknown = stack_testkit::Socket::open(addr, "/ws", &[]).await;
    let frame = json!({ "type": "auth", "id": 1, "payload": { "token": "hush-token-in-a-frame" } });
    unknown.send_text(&frame.to_string()).await;
    unknown.closed().await;
    hush("token in a frame", "hush-token-in-a-frame");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    let mut socket = stack_testkit::Socket::open(addr, "/ws", &headers).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let said = json!({
        "room": "general", "body": hush("message in a frame", "hush-message-by-frame"),
        "key": hush("key", "hush-idempotency-key"),
    });
    socket.ok("send", said).await;
    let status = json!({ "status": "away", "text": hush("status", "hush-status-text") });
    socket.ok("presence", status).await;
    let refused = json!({ "room": "general", "body": "x".repeat(20_000) + "hush-too-long" });
    socket.refused("send", refused).await;
    socket
        .refused("hush-unknown-frame", json!({ "hush-payload": 1 }))
        .await;
    hush("long message", "hush-too-long");
    hush("unknown frame", "hush-unknown-frame");
    socket
        .send_text("{\"type\":\"send\",\"payload\":{\"body\":\"hush-broken-frame")
        .await;
    socket.closed().await;
    hush("broken frame", "hush-broken-frame");

    // A token among the sub-protocols, as browsers without headers send it, and bytes that are no frame.
    let offered = ["stack.v1.json", "hush-token-among-protocols"];
    drop(stack_testkit::Native::offering(addr, None, &offered).await);
    hush("token among protocols", "hush-token-among-protocols");
    let mut native = stack_testkit::Native::open(addr, Some(&token)).await;
    native
        .send_bytes("hush-bytes-that-are-no-frame".to_owned())
        .await;
    hush("bytes that are no frame", "hush-bytes-that-are-no-frame");

    // Sign-in elsewhere: what comes back, and a provider that cannot be reached.
    for path in [
        "/auth/oauth/acme/start",
        "/auth/oauth/acme/callback?code=hush-oauth-code&state=hush-oauth-state",
        "/auth/oauth/hush-no-provider/callback?code=hush-oauth-code&state=hush-oauth-state",
    ] {
        call("", "GET", path, nothing.clone()).await;
    }
    hush("code of a provider", "hush-oauth-code");
    hush("state of a sign-in elsewhere", "hush-oauth-state");

    // Passkeys: what an authenticator says.
    for step in ["login", "signup", "register", "reauthenticate"] {
        let path = format!("/auth/passkeys/{step}/begin");
        let person = json!({ "username": "hush-new-name", "display_name": "hush-new-name" });
        let begun = call(&token, "POST", &path, person).await;
        let ticket = text(&begun["ticket"]);
        let answer = json!({
            "ticket": ticket, "name": "hush-passkey-name",
            "credential": { "id": "hush-passkey-id", "response": { "signature": "hush-signature" } },
        });
        call(
            &token,
            "POST",
            &format!("/auth/passkeys/{step}/finish"),
            answer,
        )
        .await;
        if ticket.len() >= 6 {
            hush("ticket of a passkey", &ticket);
        }
    }
    hush("answer of a passkey", "hush-signature");

    // The local socket.
    let bot = stack_ipc::ClientConfig {
        connect_within: Some(PATIENCE),
        ..stack_ipc::ClientConfig::new(local, "stk_hush-no-such-bot-token")
    };
    assert!(stack_ipc::Client::connect(bot).await.is_err());
    hush("token of a bot", "stk_hush-no-such-bot-token");
    let bot = stack_ipc::ClientConfig::new(local, &key);
    drop(stack_ipc::Client::connect(bot).await);

    let new = json!({ "current_password": password, "new_password": hush("changed password", "hush-changed-password") });
    call(&token, "POST", "/auth/password", new).await;
    secrets.into_inner()
}

#[tokio::test]
async fn what_is_secret_is_in_no_line_at_any_level() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let settings = [
            ("STACK_LOG", "trace"),
            ("STACK_LOG_FORMAT", format),
            ("STACK_LOG_DIR", "logs"),
            (
                "AUTH_JWT_SECRET",
                "hush-signing-secret-of-32-bytes-and-more",
            ),
            // Nobody is there.
            ("STACK_AUTH_OAUTH_ACME_ISSUER", "http://127.0.0.1:9"),
            ("STACK_AUTH_OAUTH_ACME_CLIENT_ID", "stack"),
            ("STACK_AUTH_OAUTH_ACME_CLIENT_SECRET", "hush-client-secret"),
        ];
        let mut gateway = start(&folder, &settings).await;
        let local = folder.path().join("data/gateway.sock");
        let secrets = say_everything(&gateway.url, &gateway.setup, &local).await;
        gateway.end().await;
        let log = fs::read_to_string(folder.path().join("logs/stack-gateway.log")).unwrap();
        assert!(
            log.contains("answered 200") && log.contains("socket"),
            "{log}"
        );
        assert!(secrets.len() > 50, "{}", secrets.len());
        for (what, secret) in secrets {
            let line = log.lines().find(|line| line.contains(&secret));
            assert_eq!(line, None, "{what}");
        }
        let marked = log.lines().find(|line| line.contains("hush"));
        assert_eq!(marked, None);
    }
}

/// A gateway that has done a little of everything, and what it measures.
async fn measured() -> String {
    let gateway = TestGateway::with(|config| config.rate_enabled = true).await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let mut socket = gateway.socket(&alice).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let said = json!({ "room": "general", "body": "hello" });
    // Its answer and the event may come in either order.
    socket.begin("send", said.clone()).await;
    socket.next_of("message").await;
    let mut late = gateway.socket(&alice).await;
    let from_the_log = json!({ "room": "general", "after": 0 });
    late.ok("subscribe", from_the_log).await;
    late.next_of("message").await;
    drop(late);
    // Ten in a burst are let through, and then one a second.
    let mut sender = gateway.socket(&alice).await;
    for _ in 0..30 {
        sender.begin("send", said.clone()).await;
    }
    sender.next_of("error").await;
    drop(sender);
    let unknown = gateway.program().get("/api/v1/nowhere/7").send().await;
    assert_eq!(unknown.status, 404);
    let wrong = json!({ "login": "alice", "password": "not this one" });
    let refused = gateway.program().post("/api/v1/auth/login").json(&wrong);
    refused.send().await.problem(401, "invalid_credentials");
    let counted = async {
        loop {
            let text = gateway.program().get("/metrics").send().await.text;
            // What is written is counted a moment later, and sockets are told that their clients have gone.
            if sample(&text, "stack_live_deliveries_total").unwrap() >= 1.0
                && sample(&text, "stack_catch_up_deliveries_total").unwrap() >= 1.0
                && sample(&text, "stack_fan_out_seconds_count").unwrap() >= 1.0
            {
                return text;
            }
        }
    };
    timeout(PATIENCE, counted).await.unwrap()
}

/// The sample of a name with its labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(' ')?.parse().ok()
}

#[tokio::test]
async fn what_happens_is_measured() {
    let text = measured().await;
    for (name, least) in [
        (
            r#"stack_http_requests_total{method="POST",route="/api/v1/rooms",status="201"}"#,
            1.0,
        ),
        (
            r#"stack_http_requests_total{method="POST",route="/api/v1/auth/login",status="401"}"#,
            1.0,
        ),
        (
            r#"stack_http_request_duration_seconds_count{method="POST",route="/api/v1/rooms"}"#,
            1.0,
        ),
        (
            r#"stack_auth_events_total{event="register",outcome="ok"}"#,
            1.0,
        ),
        (
            r#"stack_auth_events_total{event="login",outcome="refused"}"#,
            1.0,
        ),
        (r#"stack_rate_limited_total{kind="api"}"#, 0.0),
        (r#"stack_rate_limited_total{kind="message"}"#, 1.0),
        (r#"stack_storage_cache_lookups_total{result="hit"}"#, 1.0),
        ("stack_commit_seconds_count", 3.0),
        ("stack_commit_sync_seconds_count", 3.0),
        ("stack_commit_events_sum", 2.0),
        ("stack_rooms", 1.0),
        ("stack_subscriptions", 1.0),
        ("stack_sockets", 1.0),
        ("stack_socket_sign_ins_total", 1.0),
        ("stack_readers_behind", 0.0),
        ("stack_live_deliveries_total", 1.0),
        ("stack_catch_up_deliveries_total", 1.0),
        ("stack_catch_up_pages_total", 1.0),
        ("stack_catch_up_bytes_total", 1.0),
        ("stack_fan_out_seconds_count", 1.0),
        (r#"stack_fan_out_seconds_bucket{le="+Inf"}"#, 1.0),
        ("stack_storage_file_bytes", 0.0),
        ("stack_log_lines_dropped_total", 0.0),
        ("stack_trace_spans_lost_total", 0.0),
        ("stack_relayed_sockets", 0.0),
    ] {
        let value = sample(&text, name);
        assert!(
            value.is_some_and(|value| value >= least),
            "{name}: {value:?}\n{text}"
        );
    }
    if cfg!(target_os = "linux") {
        assert!(sample(&text, "process_resident_memory_bytes").unwrap() > 1e6);
        assert!(sample(&text, "process_threads").unwrap() >= 2.0);
    }
    assert!(!text.contains("nowhere"), "a path is a label:\n{text}");
}

#[tokio::test]
async fn refusals_for_the_rate_are_counted_by_kind() {
    let gateway = TestGateway::with(|config| config.rate_enabled = true).await;
    let wrong = json!({ "login": "nobody", "password": "not this one" });
    for _ in 0..11 {
        let program = gateway.program();
        program.post("/api/v1/auth/login").json(&wrong).send().await;
    }
    let text = gateway.program().get("/metrics").send().await.text;
    let refused = sample(&text, r#"stack_rate_limited_total{kind="login"}"#);
    assert_eq!(refused, Some(1.0), "{text}");
}

#[tokio::test]
async fn prometheus_finds_nothing_wrong_with_names_and_texts() {
    let text = measured().await;
    let mut promtool = Program::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, of Debian's package prometheus, is installed by scripts/test");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
}

/// Measures of a gateway that speaks TLS or makes backups, which the tests of those see.
const OF_OTHERS: [&str; 9] = [
    "stack_backup_duration_seconds",
    "stack_backup_failures_total",
    "stack_backup_last_success_timestamp_seconds",
    "stack_backup_size_bytes",
    "stack_backups_total",
    "stack_tls_handshakes_failed_total",
    "stack_tls_certificate_not_after_seconds",
    "stack_tls_reload_failures_total",
    "stack_tls_reloads_total",
];

/// Words of a query that are names, or of `by (…)` and matchers.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |char: char| char.is_ascii_alphanumeric() || char == '_';
    text.split(move |char| !is_name(char))
        .filter(|word| !word.is_empty())
}

/// The labels that a query and what is written beside it speak of, but for those that Prometheus adds.
fn labels_of<'a>(query: &'a str, legend: &'a str) -> Vec<&'a str> {
    let matchers = query.split('{').skip(1).flat_map(|rest| {
        let (inside, _) = rest.split_once('}').unwrap();
        inside
            .split(',')
            .map(|matcher| words(matcher).next().unwrap())
    });
    let by = query.split("by (").skip(1);
    let by = by.flat_map(|rest| words(rest.split_once(')').unwrap().0));
    let told = legend.split("{{").skip(1);
    let told = told.map(|rest| rest.split_once("}}").unwrap().0);
    let labels = matchers.chain(by).chain(told);
    labels
        .filter(|label| !["job", "instance"].contains(label))
        .collect()
}

#[tokio::test]
async fn every_measure_of_the_dashboard_is_there_with_its_labels() {
    const DASHBOARD: &str = include_str!("../../../../docs/grafana/stack.json");
    let text = measured().await;
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let (mut names, mut labels) = (0, 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let of_query = labels_of(query, legend);
            let is_measure =
                |word: &&str| word.starts_with("stack_") || word.starts_with("process_");
            for name in words(query).filter(is_measure) {
                if OF_OTHERS.contains(&name) {
                    continue;
                }
                names += 1;
                let samples: Vec<_> = text
                    .lines()
                    .filter_map(|line| line.strip_prefix(name))
                    .filter(|rest| rest.starts_with(['{', ' ']))
                    .collect();
                assert!(
                    !samples.is_empty(),
                    "{name} is in the dashboard and is not measured"
                );
                for label in &of_query {
                    labels += 1;
                    let has = |sample: &&str| words(sample).any(|word| word == *label);
                    assert!(samples.iter().any(has), "{name} has no {label}: {query}");
                }
            }
        }
    }
    assert!(names > 30 && labels > 20, "{names} {labels}");
}

#[tokio::test]
async fn every_measure_is_in_the_manual_and_none_that_is_not_there() {
    const MANUAL: &str = include_str!("../../../../docs/OPERATIONS.md");
    let text = measured().await;
    let families: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|rest| rest.split(' ').next().unwrap())
        .chain(OF_OTHERS)
        .collect();
    assert!(families.len() > 35, "{families:?}");
    for family in &families {
        let told = [format!("`{family}`"), format!("`{family}{{")];
        assert!(told.iter().any(|told| MANUAL.contains(told)), "{family}");
    }
    // What stands in its tables and queries.
    let known = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"].iter();
        let whole = parts.filter_map(|part| word.strip_suffix(part));
        whole.chain([word]).any(|name| families.contains(&name))
    };
    for word in words(MANUAL).filter(|word| word.starts_with("stack_") && word.ends_with("_total"))
    {
        assert!(known(word), "{word} is in the manual and is not measured");
    }
}

#[tokio::test]
async fn admins_see_what_the_gateway_does() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin_and(&folder, |_| {}).await;
    let member = gateway.person("someone").await;
    let path = "/api/v1/admin/stats";
    member.get(path).await.problem(403, "forbidden");
    gateway
        .program()
        .get(path)
        .send()
        .await
        .problem(401, "unauthenticated");
    admin.room("general", true).await;
    let mut socket = gateway.socket(&admin).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let stats = admin.get(path).await.expect(200);
    for (what, least) in [
        (&stats["now"]["connections"], 1.0),
        (&stats["now"]["sockets"], 1.0),
        (&stats["now"]["rooms"], 1.0),
        (&stats["now"]["subscriptions"], 1.0),
        (&stats["now"]["storage_bytes"], 4096.0),
        (&stats["totals"]["commits"], 2.0),
        (&stats["totals"]["events"], 1.0),
        (&stats["started_at"], 1.7e12),
    ] {
        assert!(what.as_f64().is_some_and(|is| is >= least), "{stats}");
    }
    assert_eq!(stats["step_s"], 5);
    assert!(stats["samples"].is_array());
}

/// Stands in for a collector: takes batches of spans by OTLP, and hands them on.
async fn collector(tasks: &mut JoinSet<()>) -> (String, mpsc::UnboundedReceiver<Span>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (told, spans) = mpsc::unbounded_channel();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = BufReader::new(stream);
            // One connection after the other will do: the gateway keeps one.
            while let Some(body) = request(&mut stream).await {
                let batch = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
                for of_resource in batch.resource_spans {
                    let resource = of_resource.resource.unwrap();
                    let is_named = |key: &str| resource.attributes.iter().any(|is| is.key == key);
                    assert!(is_named("service.name"));
                    for span in of_resource.scope_spans.into_iter().flat_map(|of| of.spans) {
                        let _ = told.send(span);
                    }
                }
            }
        }
    });
    (format!("http://{addr}/v1/traces"), spans)
}

/// The body of the next request of a connection, which is answered.
async fn request(stream: &mut BufReader<tokio::net::TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut first = None;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        first.get_or_insert_with(|| line.clone());
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if let Some(value) = line.strip_prefix("content-type:") {
            assert_eq!(value.trim(), "application/x-protobuf");
        }
        if line.is_empty() {
            break;
        }
    }
    assert_eq!(first?, "post /v1/traces http/1.1");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer).await.ok()?;
    Some(body)
}

/// Every request is traced, and the spans are sent there.
fn all_to(endpoint: &str) -> TraceSettings {
    TraceSettings {
        endpoint: endpoint.parse().unwrap(),
        one_in: 1,
        service_name: "of a test".to_owned(),
        trust: Vec::new(),
    }
}

/// A gateway that traces all, and the spans that it has sent when it has ended, by trace.
struct TracedGateway {
    gateway: TestGateway,
    spans: mpsc::UnboundedReceiver<Span>,
    tasks: JoinSet<()>,
}

impl TracedGateway {
    async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Config, &mut TraceSettings)) -> Self {
        let mut tasks = JoinSet::new();
        let (endpoint, spans) = collector(&mut tasks).await;
        let gateway = TestGateway::with(|config| {
            let mut trace = all_to(&endpoint);
            change(config, &mut trace);
            config.trace = Some(trace);
        })
        .await;
        Self {
            gateway,
            spans,
            tasks,
        }
    }

    async fn end(mut self) -> HashMap<Vec<u8>, Vec<Span>> {
        self.gateway.shutdown().await;
        self.tasks.shutdown().await;
        let mut traces: HashMap<_, Vec<_>> = HashMap::new();
        while let Some(span) = self.spans.recv().await {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        traces
    }
}

/// The span of this name, which stands under the other.
fn under<'a>(spans: &'a [Span], name: &str, parent: &[u8]) -> &'a Span {
    let found = spans.iter().find(|span| span.name == name);
    let span = found.unwrap_or_else(|| panic!("no span {name} in {spans:#?}"));
    assert_eq!(span.parent_span_id, parent, "{name}");
    assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    span
}

#[tokio::test]
async fn a_trace_goes_from_the_frame_through_the_commit_to_the_readers() {
    let traced = TracedGateway::start().await;
    let gateway = &traced.gateway;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let mut socket = gateway.socket(&alice).await;
    socket.ok("subscribe", json!({ "room": "general" })).await;
    let said = json!({ "room": "general", "body": "a-body-that-no-span-holds" });
    // Its answer and the event may come in either order.
    socket.begin("send", said).await;
    socket.next_of("message").await;
    drop(socket);
    let traces = traced.end().await;
    let of_frame = |spans: &&Vec<Span>| spans.iter().any(|span| span.name == "frame send");
    let spans = traces.values().find(of_frame).unwrap();
    let frame = under(spans, "frame send", &[]);
    let commit = under(spans, "commit", &frame.span_id);
    let fan_out = under(spans, "fan-out", &commit.span_id);
    assert!(commit.end_time_unix_nano <= fan_out.start_time_unix_nano);
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let all = format!("{traces:?}");
    assert!(!all.contains("a-body-that-no-span-holds"));
}

#[tokio::test]
async fn a_callers_trace_goes_on_here_and_is_told_to_the_caller() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    let traced = TracedGateway::start().await;
    let gateway = &traced.gateway;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let mut reader = gateway.socket(&alice).await;
    reader.ok("subscribe", json!({ "room": "general" })).await;
    let call = gateway.program().post("/api/v1/rooms/general/messages");
    let answer = call
        .bearer(&alice.token)
        .header("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-01"))
        .json(&json!({ "body": "hello" }))
        .send()
        .await;
    let told = answer.headers["traceparent"].to_str().unwrap().to_owned();
    reader.next_of("message").await;
    drop(reader);
    let traces = traced.end().await;
    let trace = u128::from_str_radix(TRACE, 16).unwrap().to_be_bytes();
    let spans = &traces[&trace.to_vec()];
    let parent = 0xb7ad_6b71_6920_3331_u64.to_be_bytes();
    let request = under(spans, "POST /api/v1/rooms/{room}/messages", &parent);
    let commit = under(spans, "commit", &request.span_id);
    under(spans, "fan-out", &commit.span_id);
    let id: String = request
        .span_id
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(told, format!("00-{TRACE}-{id}-01"));
}

/// A trace whose id is the lowest there is: a ratio of whatever size would take it.
const LOW: &str = "0af7651916cd43dd0000000000000001";

/// Whether a request is traced, by what its answer says.
async fn is_traced(gateway: &TestGateway, flag: &str) -> bool {
    let call = gateway.program().get("/api/v1/registration");
    let parent = format!("00-{LOW}-b7ad6b7169203331-{flag}");
    let answer = call.header("traceparent", &parent).send().await;
    assert_eq!(answer.status, 200);
    answer.headers.contains_key("traceparent")
}

#[tokio::test]
async fn callers_do_not_decide_what_is_traced() {
    let traced = TracedGateway::start_with(|config, trace| {
        trace.one_in = 1_000_000_000;
        // A plain proxy passes on what whoever is behind it says.
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    for flag in ["00", "01"] {
        assert!(!is_traced(&traced.gateway, flag).await, "{flag}");
    }
    assert_eq!(traced.end().await, HashMap::new());
}

#[tokio::test]
async fn whom_the_configuration_trusts_decides_what_is_traced() {
    for (one_in, flag, traces) in [(1_000_000_000, "01", true), (1, "00", false)] {
        let traced = TracedGateway::start_with(|_, trace| {
            trace.one_in = one_in;
            trace.trust = vec!["127.0.0.1/32".parse().unwrap()];
        })
        .await;
        assert_eq!(is_traced(&traced.gateway, flag).await, traces, "{flag}");
        let trace = u128::from_str_radix(LOW, 16).unwrap().to_be_bytes();
        assert_eq!(traced.end().await.contains_key(trace.as_slice()), traces);
    }
}

/// As many requests as make a batch of spans.
async fn fill_a_batch(gateway: &TestGateway) {
    for _ in 0..600 {
        let answer = gateway.program().get("/api/v1/registration").send().await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn spans_that_nobody_takes_are_counted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // Nobody is there any more.
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let gateway = TestGateway::with(|config| config.trace = Some(all_to(&endpoint))).await;
    fill_a_batch(&gateway).await;
    let lost = async {
        loop {
            let text = gateway.program().get("/metrics").send().await.text;
            match sample(&text, "stack_trace_spans_lost_total") {
                Some(lost) if lost >= 500.0 => return,
                Some(_) => tokio::task::yield_now().await,
                None => panic!("{text}"),
            }
        }
    };
    timeout(PATIENCE, lost).await.unwrap();
}

#[tokio::test]
async fn a_collector_that_never_answers_does_not_keep_the_gateway_from_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let gateway = TestGateway::with(|config| config.trace = Some(all_to(&endpoint))).await;
    fill_a_batch(&gateway).await;
    let (mut asked, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    timeout(PATIENCE, gateway.shutdown()).await.unwrap();
    // Nothing of it is left behind.
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, asked.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.starts_with(b"POST /v1/traces "));
}
