//! The configuration is read again while the gateway runs: what it says then, what stays, and what a fault does.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;
use stack_gateway::Change;
use stack_gateway::config::{self, Config, Inputs};
use stack_testkit::{Answer, PASSWORD, PATIENCE, TestGateway, clock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Every setting that is said to be applied while the gateway runs. Each is changed by a test: by one of these; those of
/// TLS among the certificates, and `log` by one of the program itself.
const TRIED: [&str; 17] = [
    "auth.refresh_grace_s",
    "auth.registration",
    "cors.origins",
    "limits.connections",
    "limits.connections_per_ip",
    "log",
    "metrics.token",
    "proxy_protocol",
    "rate.enabled",
    "shutdown.deadline_s",
    "tls.cert",
    "tls.client_ca",
    "tls.http2",
    "tls.key",
    "tls.min_version",
    "trace.one_in",
    "trusted_proxies",
];

/// A `stack.toml` that changes.
pub(crate) struct File {
    folder: TempDir,
    path: PathBuf,
}

impl File {
    pub(crate) fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stack.toml");
        let file = Self { folder, path };
        file.write(text);
        file
    }

    pub(crate) fn write(&self, text: &str) {
        std::fs::write(&self.path, text).unwrap();
    }

    pub(crate) fn beside(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) async fn gateway(&self) -> TestGateway {
        self.gateway_with(|_| {}).await
    }

    async fn gateway_with(&self, change: impl FnOnce(&mut Config)) -> TestGateway {
        TestGateway::with(|config| {
            *config = self.over(config.clone());
            change(config);
        })
        .await
    }

    /// What it says, with what a test needs.
    pub(crate) fn over(&self, of_test: Config) -> Config {
        let inputs = Inputs {
            config_file: Some(self.path.clone()),
            ..Inputs::default()
        };
        Config {
            listen: of_test.listen,
            testing: of_test.testing,
            edge: of_test.edge,
            ..Config::load(&inputs).unwrap()
        }
    }
}

pub(crate) fn applied(keys: &[&str]) -> Vec<Change> {
    let change = |key: &&str| Change {
        key: (*key).to_owned(),
        applied: true,
    };
    keys.iter().map(change).collect()
}

async fn register(gateway: &TestGateway, name: &str) -> Answer {
    let body = json!({ "username": name, "password": PASSWORD, "token_delivery": "body" });
    let call = gateway.program().post("/api/v1/auth/register").json(&body);
    call.send().await
}

#[test]
fn what_the_documentation_says_is_applied_is_tried_here() {
    let page = config::reference();
    let mut section = String::new();
    let mut said = BTreeSet::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            let named = heading
                .strip_prefix("`[")
                .map(|name| name.trim_end_matches("]`"));
            section = named.map_or(String::new(), |name| format!("{name}."));
        }
        let cells: Vec<_> = line.split(" | ").collect();
        if let [key, _, _, "yes", _] = cells[..] {
            let key = key.trim_matches(['|', ' ', '`']);
            said.insert(format!("{section}{key}"));
        }
    }
    let tried = TRIED.map(str::to_owned).into();
    assert_eq!(said, tried);
}

#[tokio::test]
async fn a_fault_anywhere_changes_nothing() {
    let file = File::of("[auth]\nregistration = \"open\"\n");
    let gateway = file.gateway().await;
    file.write("colour = 1\n[auth]\nregistration = \"closed\"\n[limits]\npage_events = 0\n");
    let faults = gateway.reload().await.unwrap_err();
    let keys: Vec<_> = faults.0.iter().map(|fault| &*fault.key).collect();
    assert_eq!(keys, ["colour", "limits.page_events"]);
    register(&gateway, "alice").await.expect(201);
    // A file that was there and is gone is a fault as well: nobody means the defaults by it.
    std::fs::remove_file(&file.path).unwrap();
    assert!(gateway.reload().await.is_err());
    file.write("[auth]\nregistration = \"closed\"\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["auth.registration"]));
    register(&gateway, "bob").await.problem(403, "forbidden");
}

#[tokio::test]
async fn what_cannot_change_while_it_runs_is_told_until_there_is_a_restart() {
    let file = File::of("");
    let secret = file.beside("secret", "0123456789abcdef0123456789abcdef");
    let gateway = file.gateway().await;
    assert_eq!(gateway.reload().await.unwrap(), []);
    file.write(&format!(
        "listen = \"127.0.0.1:1\"\ndata_dir = \"/elsewhere\"\nsite_name = \"Ours\"\nlog_format = \"json\"\n\
         [auth]\nregistration = \"invite\"\njwt_secret_file = {secret:?}\n[http]\ntimeout_s = 11\n[limits]\nframe_bytes = 131072\n\
         [presence]\nlease_s = 61\n[storage]\ncache_mib = 65\n[bus]\nurl = \"nng+ipc:///nowhere\"\n\
         [auth.oauth.github]\npreset = \"github\"\nclient_id = \"a\"\nclient_secret = \"b\"\n"
    ));
    let mut expected = vec![
        "listen",
        "data_dir",
        "log_format",
        "site_name",
        "bus.url",
        "auth.registration",
        "auth.jwt_secret",
        "http.timeout_s",
        "limits.frame_bytes",
        "presence.lease_s",
        "storage.cache_mib",
        "auth.oauth.github.client_id",
        "auth.oauth.github.client_secret",
        "auth.oauth.github.preset",
    ];
    let told = |changes: &[Change]| -> Vec<_> {
        let keys = changes.iter().map(|change| change.key.clone());
        keys.collect()
    };
    let changes = gateway.reload().await.unwrap();
    assert_eq!(told(&changes), expected);
    let is_applied = |change: &&Change| change.applied;
    let now: Vec<_> = changes.iter().filter(is_applied).cloned().collect();
    assert_eq!(now, applied(&["auth.registration"]));
    let version = gateway.program().get("/version").send().await.expect(200);
    assert_eq!(version["limits"]["frame_bytes"], 65_536);

    expected.retain(|key| *key != "auth.registration");
    let again = gateway.reload().await.unwrap();
    assert_eq!(told(&again), expected);
    file.write("[auth]\nregistration = \"invite\"\n");
    assert_eq!(gateway.reload().await.unwrap(), []);
}

#[tokio::test]
async fn limits_of_rate_come_and_go() {
    let file = File::of("[rate]\nenabled = false\n");
    let clock = clock();
    let gateway = file
        .gateway_with(|config| config.testing.clock = Some(clock))
        .await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let say = async || {
        let said = json!({ "body": "hello" });
        alice.post("/api/v1/rooms/general/messages", said).await
    };
    let login = async || {
        let body = json!({ "login": "alice", "password": PASSWORD });
        let call = gateway.program().post("/api/v1/auth/login").json(&body);
        call.send().await.status
    };
    for _ in 0..11 {
        assert_eq!((say().await.status, login().await), (201, 200));
    }
    file.write("[rate]\nenabled = true\n");
    assert_eq!(gateway.reload().await.unwrap(), applied(&["rate.enabled"]));
    for _ in 0..10 {
        assert_eq!((say().await.status, login().await), (201, 200));
    }
    say().await.problem(429, "rate_limited");
    assert_eq!(login().await, 429);
    // Those of accounts, which outlive a restart.
    let wrong = json!({ "current_password": "not this one", "new_password": PASSWORD });
    let mut last = 0;
    for _ in 0..6 {
        last = alice
            .post("/api/v1/auth/password", wrong.clone())
            .await
            .status;
    }
    assert_eq!(last, 429);
    file.write("[rate]\nenabled = false\n");
    gateway.reload().await.unwrap();
    assert_eq!((say().await.status, login().await), (201, 200));
    let unlimited = alice.post("/api/v1/auth/password", wrong).await.status;
    assert_ne!(unlimited, 429);
}

#[tokio::test]
async fn origins_of_other_pages_come_and_go() {
    let file = File::of("");
    let gateway = file.gateway().await;
    let origin = "https://app.example";
    let allowed = async || {
        let call = gateway.program().call("OPTIONS", "/api/v1/me");
        let call = call.header("origin", origin);
        let answer = call.header("access-control-request-method", "GET");
        let answer = answer.send().await;
        answer.header("access-control-allow-origin") == origin
    };
    assert!(!allowed().await);
    file.write(&format!("[cors]\norigins = [{origin:?}]\n"));
    assert_eq!(gateway.reload().await.unwrap(), applied(&["cors.origins"]));
    assert!(allowed().await);
    file.write("");
    gateway.reload().await.unwrap();
    assert!(!allowed().await);
}

/// Where the gateway says that somebody comes from who comes by this stream.
async fn seen(gateway: &TestGateway, ahead: &[u8], name: &str) -> Option<String> {
    let ask = async |head: &str, body: &str| {
        let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
        stream.write_all(ahead).await.unwrap();
        let request = format!(
            "{head}\r\nhost: localhost\r\nconnection: close\r\nx-forwarded-for: 203.0.113.7\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // What is closed without an answer may be reset.
        let _ = timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str::<serde_json::Value>(body).ok()
    };
    let person = json!({ "username": name, "password": PASSWORD, "token_delivery": "body" });
    let head = "POST /api/v1/auth/register HTTP/1.1";
    let answer = ask(head, &person.to_string()).await?;
    let token = answer["access_token"].as_str()?;
    let head = format!("GET /api/v1/auth/sessions HTTP/1.1\r\nauthorization: Bearer {token}");
    let sessions = ask(&head, "").await?;
    Some(sessions["sessions"][0]["ip"].as_str()?.to_owned())
}

#[tokio::test]
async fn proxies_come_and_go() {
    let file = File::of("");
    let gateway = file.gateway().await;
    let seen = async |ahead: &str, name| seen(&gateway, ahead.as_bytes(), name).await;
    assert_eq!(seen("", "alice").await.as_deref(), Some("127.0.0.1"));
    file.write("trusted_proxies = [\"127.0.0.0/8\"]\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["trusted_proxies"]));
    assert_eq!(seen("", "bob").await.as_deref(), Some("203.0.113.7"));
    file.write("proxy_protocol = [\"127.0.0.1\"]\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["trusted_proxies", "proxy_protocol"]));
    assert_eq!(seen("", "carol").await, None);
    let ahead = "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n";
    assert_eq!(seen(ahead, "dave").await.as_deref(), Some("192.0.2.7"));
    file.write("");
    gateway.reload().await.unwrap();
    assert_eq!(seen("", "erin").await.as_deref(), Some("127.0.0.1"));
}

/// A connection that has asked something, and may go on asking.
async fn held(gateway: &TestGateway, ahead: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    let request = format!("{ahead}GET /ping HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let first = timeout(PATIENCE, stream.read_u8()).await.unwrap();
    first.is_ok().then_some(stream)
}

#[tokio::test]
async fn places_for_connections_come_and_go() {
    let file = File::of("proxy_protocol = [\"127.0.0.1\"]\n");
    let gateway = file.gateway().await;
    let from = |client: u8| format!("PROXY TCP4 192.0.2.{client} 10.0.0.1 56324 443\r\n");
    let _first = held(&gateway, &from(1)).await.unwrap();
    let limits = |total: usize, per_ip: usize| {
        format!(
            "proxy_protocol = [\"127.0.0.1\"]\n[limits]\nconnections = {total}\nconnections_per_ip = {per_ip}\n"
        )
    };
    file.write(&limits(16_384, 1));
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["limits.connections_per_ip"]));
    assert!(held(&gateway, &from(1)).await.is_none());
    let _second = held(&gateway, &from(2)).await.unwrap();
    file.write(&limits(2, 9));
    let changes = gateway.reload().await.unwrap();
    let both = ["limits.connections", "limits.connections_per_ip"];
    assert_eq!(changes, applied(&both));
    assert!(held(&gateway, &from(1)).await.is_none());
    file.write(&limits(3, 9));
    gateway.reload().await.unwrap();
    assert!(held(&gateway, &from(1)).await.is_some());
}

#[tokio::test]
async fn a_spent_refresh_token_is_good_for_as_long_as_it_says_now() {
    let file = File::of("[rate]\nenabled = false\n");
    let gateway = file.gateway().await;
    let refresh = async |token: &str| {
        let call = gateway.program().post("/api/v1/auth/refresh");
        let call = call.json(&json!({ "refresh_token": token }));
        call.send().await
    };
    let alice = gateway.person("alice").await;
    refresh(&alice.refresh_token).await.expect(200);
    refresh(&alice.refresh_token).await.expect(200);
    file.write("[rate]\nenabled = false\n[auth]\nrefresh_grace_s = 0\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["auth.refresh_grace_s"]));
    let bob = gateway.person("bob").await;
    refresh(&bob.refresh_token).await.expect(200);
    let refused = refresh(&bob.refresh_token).await;
    assert_eq!(refused.status, 401, "{refused:?}");
}

#[tokio::test]
async fn more_is_traced_and_less() {
    let trace = |one_in: u64| {
        format!("[trace]\notlp_endpoint = \"http://127.0.0.1:1/v1/traces\"\none_in = {one_in}\n")
    };
    let file = File::of(&trace(1_000_000_000));
    let gateway = file.gateway().await;
    // The lower half of its id is in the middle of the range: traced where all is, or one in two.
    let parent = "00-0af7651916cd43dd0ff0000000000000-b7ad6b7169203331-01";
    let traced = async || {
        let call = gateway.program().get("/api/v1/registration");
        let answer = call.header("traceparent", parent).send().await;
        answer.headers.contains_key("traceparent")
    };
    assert!(!traced().await);
    file.write(&trace(1));
    assert_eq!(gateway.reload().await.unwrap(), applied(&["trace.one_in"]));
    assert!(traced().await);
}

#[tokio::test]
async fn a_shutdown_waits_for_as_long_as_it_says_now() {
    let file = File::of("[shutdown]\ndeadline_s = 600\n[http]\ntimeout_s = 600\n");
    let gateway = file.gateway().await;
    let mut stuck = held(&gateway, "").await.unwrap();
    let mut rest = vec![0; 1024];
    let _ = stuck.read(&mut rest).await.unwrap();
    stuck
        .write_all(b"GET /api/v1/testing/never HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    file.write("[shutdown]\ndeadline_s = 0\n[http]\ntimeout_s = 600\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(changes, applied(&["shutdown.deadline_s"]));
    let down = timeout(PATIENCE, gateway.shutdown()).await;
    assert!(down.is_ok(), "it waits for the old deadline");
}

#[tokio::test]
async fn measures_have_addresses_of_their_own_and_a_token() {
    let file = File::of("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let gateway = file.gateway().await;
    for method in ["GET", "POST"] {
        let call = gateway.program().call(method, "/metrics");
        // A browser that navigates there is not shown the client.
        let answer = call.header("accept", "text/html").send().await;
        answer.problem(404, "not_found");
    }
    let listening = gateway.listening();
    let url = listening[1].strip_suffix("/metrics").unwrap().to_owned();
    let own = stack_testkit::Client::program(url);
    let told = own.get("/metrics").send().await;
    assert_eq!(told.status, 200);
    assert!(told.header("content-type").starts_with("text/plain"));
    assert!(
        told.text.contains("\nstack_http_connections "),
        "{}",
        told.text
    );
    for path in ["/", "/healthz", "/api/v1/me", "/ws"] {
        let answer = own.get(path).send().await;
        answer.problem(404, "not_found");
    }

    let token = file.beside("token", "0123456789abcdef0123456789abcdef\n");
    file.write(&format!(
        "[metrics]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n"
    ));
    assert_eq!(gateway.reload().await.unwrap(), applied(&["metrics.token"]));
    let refused = own.get("/metrics").send().await;
    refused.problem(401, "unauthenticated");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let wrong = own.get("/metrics").bearer("0123456789abcdef").send().await;
    wrong.problem(401, "unauthenticated");
    let right = own
        .get("/metrics")
        .bearer("0123456789abcdef0123456789abcdef");
    assert_eq!(right.send().await.status, 200);
}

#[tokio::test]
async fn measures_where_everything_is_may_want_a_token_too() {
    let token = "0123456789abcdef0123456789abcdef";
    let file = File::of(&format!("[metrics]\ntoken = {token:?}\n"));
    let gateway = file.gateway().await;
    let metrics = || gateway.program().get("/metrics");
    metrics().send().await.problem(401, "unauthenticated");
    assert_eq!(metrics().bearer(token).send().await.status, 200);
    file.write("");
    gateway.reload().await.unwrap();
    assert_eq!(metrics().send().await.status, 200);
    // Whether they have addresses of their own is for a restart.
    file.write("[metrics]\nlisten = \"127.0.0.1:0\"\n");
    let changes = gateway.reload().await.unwrap();
    assert_eq!(
        (&*changes[0].key, changes[0].applied),
        ("metrics.listen", false)
    );
    assert_eq!(metrics().send().await.status, 200);
}
