//! Whatever comes over the wire is answered, by no fault of ours, and signs nobody in: bodies, headers and queries of
//! any bytes. Each test has one gateway for all its cases.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use stack_testkit::{Answer, Client, PASSWORD, Person, TestGateway};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::{oidc, programs};

/// Statuses of HTTP itself: what is no request at all, or one that is too long.
const NO_REQUEST: [u16; 3] = [400, 414, 431];

fn cases() -> ProptestConfig {
    ProptestConfig::with_cases(256)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Any bytes, and texts made of what means something at this place.
fn bytes_like(pieces: &'static str) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        pieces.prop_map(String::into_bytes),
        any::<String>().prop_map(String::into_bytes),
    ]
}

/// Sends a request as it is written, and gives the status and all of the answer.
async fn send(gateway: &TestGateway, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(gateway.addr()).await.unwrap();
    // Who is told in the middle of a request that it is none may not have sent all of it.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok());
    (
        status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
        answer,
    )
}

/// A request whose last header has this value.
fn with_header(line: &str, headers: &str, name: &str, value: &[u8], body: &str) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
    };
    let head =
        format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}{length}{name}: ");
    [head.as_bytes(), value, b"\r\n\r\n", body.as_bytes()].concat()
}

/// Whether an answer holds a token, or sets a cookie that is not empty.
fn signs_in(answer: &str) -> bool {
    let mut cookies = answer.split("stack_access=").skip(1);
    answer.contains("access_token") || cookies.any(|value| !value.starts_with(';'))
}

#[test]
fn any_authorization_header_signs_nobody_in() {
    let runtime = runtime();
    let gateway = runtime.block_on(TestGateway::start());
    let header =
        bytes_like("(Bearer|bearer|Basic|stk_|e30|eyJ|[ %,=._\\-]|[A-Za-z0-9+/]{1,8}){0,20}");
    proptest!(cases(), |(header in header)| {
        let asked = with_header("GET /api/v1/me", "", "authorization", &header, "");
        let (status, answer) = runtime.block_on(send(&gateway, &asked));
        prop_assert!(status == 401 || NO_REQUEST.contains(&status), "{answer}");
        prop_assert!(!signs_in(&answer), "{answer}");
    });
    runtime.block_on(gateway.shutdown());
}

#[test]
fn any_cookie_signs_nobody_in() {
    let runtime = runtime();
    let gateway = runtime.block_on(TestGateway::start());
    let origin = format!("origin: {}\r\n", gateway.origin());
    let header = bytes_like(
        "((stack_access|stack_refresh|stack_csrf|stack_ceremony|__Host-stack_access)=|[;=, %\"]|[A-Za-z0-9._-]{1,8}){0,20}",
    );
    proptest!(cases(), |(header in header)| {
        for line in ["GET /api/v1/me", "POST /api/v1/auth/refresh"] {
            let asked = with_header(line, &origin, "cookie", &header, "");
            let (status, answer) = runtime.block_on(send(&gateway, &asked));
            prop_assert!(status == 401 || NO_REQUEST.contains(&status), "{line}: {answer}");
            prop_assert!(!signs_in(&answer), "{answer}");
        }
        // Without an origin it is not known who sends it.
        let asked = with_header("POST /api/v1/auth/ticket", "", "cookie", &header, "");
        let (status, answer) = runtime.block_on(send(&gateway, &asked));
        let refused = [401, 403].contains(&status);
        prop_assert!(refused || NO_REQUEST.contains(&status), "{answer}");
    });
    runtime.block_on(gateway.shutdown());
}

#[test]
fn any_forwarded_address_signs_nobody_in() {
    let runtime = runtime();
    let gateway = runtime.block_on(async {
        let gateway = TestGateway::with(|config| {
            config.rate_enabled = true;
            config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        });
        let gateway = gateway.await;
        gateway.person("ann").await;
        gateway
    });
    let header =
        bytes_like("(127\\.0\\.0\\.1|::1|\\[|\\]|[.,: %]|for=|unknown|[0-9a-f]{1,4}){0,20}");
    let body = json!({ "login": "ann", "password": "a wrong password here" }).to_string();
    proptest!(cases(), |(header in header)| {
        for (line, body) in [("GET /api/v1/me", ""), ("POST /api/v1/auth/login", &body)] {
            let asked = with_header(line, "", "x-forwarded-for", &header, body);
            let (status, answer) = runtime.block_on(send(&gateway, &asked));
            let refused = [401, 429].contains(&status);
            prop_assert!(refused || NO_REQUEST.contains(&status), "{line}: {answer}");
            prop_assert!(!signs_in(&answer), "{answer}");
        }
    });
    runtime.block_on(gateway.shutdown());
}

#[test]
fn any_callback_of_a_provider_signs_nobody_in() {
    let runtime = runtime();
    // Nobody is there, which a callback without a state never comes to find out.
    let nowhere = oidc::known(&[("one", "http://localhost:9".to_owned())]);
    let gateway = runtime.block_on(TestGateway::with(|config| config.auth.oauth = nowhere));
    let query = bytes_like(
        "((state|code|error|iss)=|access_denied|[&=%+;#?]|%[0-9a-f]{2}|[A-Za-z0-9_-]{1,44}){0,20}",
    );
    proptest!(cases(), |(query in query)| {
        let line = [b"GET /api/v1/auth/oauth/one/callback?", query.as_slice()].concat();
        let end = b" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let asked = [line.as_slice(), end].concat();
        let (status, answer) = runtime.block_on(send(&gateway, &asked));
        let refused = status == 303 && answer.contains("location: /signin?error=");
        prop_assert!(refused || NO_REQUEST.contains(&status), "{answer}");
        prop_assert!(!signs_in(&answer), "{answer}");
    });
    runtime.block_on(gateway.shutdown());
}

/// Bodies of any bytes, and JSON in the shapes that are read: by itself, and in place of what is right in `good`.
fn bodies(good: Value, names: &'static str, known: Vec<String>) -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        6 => prop::sample::select(known).prop_map(Value::from),
        1 => any::<Option<bool>>().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => (0_u64..4000).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<String>().prop_map(Value::from),
    ]
    .boxed();
    let pairs = move |value: BoxedStrategy<Value>, most: usize| {
        let pairs = prop::collection::vec((names, value), 0..=most);
        pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect()))
    };
    let nested = leaf.clone().prop_recursive(3, 16, 4, move |value| {
        let list = prop::collection::vec(value.clone(), 0..4);
        prop_oneof![list.prop_map(Value::from), pairs(value, 3)]
    });
    let value = prop_oneof![2 => leaf, 1 => nested].boxed();
    let changed = move |change: Value| {
        let mut body = good.clone();
        for (name, value) in change.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body
    };
    prop_oneof![
        4 => pairs(value.clone(), 2)
            .prop_map(move |change| changed(change).to_string().into_bytes()),
        2 => pairs(value, 6).prop_map(|body| body.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

async fn post(program: &Client, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
    let mut call = program.post(path);
    if let Some(token) = token {
        call = call.bearer(token);
    }
    let call = call.header("content-type", "application/json");
    call.body(body.to_vec()).send().await
}

/// A gateway with an admin who has just signed in, and somebody else.
async fn with_admin() -> (TestGateway, Person, Person) {
    let gateway = TestGateway::start().await;
    let token = gateway.setup_token().unwrap();
    let claim = json!({ "token": token, "username": "root", "password": PASSWORD });
    let set_up = gateway.program().post("/api/v1/setup/password");
    set_up.json(&claim).send().await.expect(201);
    let ann = gateway.person("ann").await;
    let admin = ann.another_device("root").await;
    (gateway, admin, ann)
}

#[test]
fn any_body_for_an_api_key_is_answered() {
    let runtime = runtime();
    let (gateway, admin, ann) = runtime.block_on(with_admin());
    let known = ["read", "admin", &ann.id, &admin.id];
    let known = known.map(str::to_owned).to_vec();
    let good = json!({ "name": "Ours", "scopes": ["read"] });
    let body = bodies(
        good,
        "(name|scopes|expires_at|bot|user_id|username|display_name|more)",
        known,
    );
    let program = gateway.program();
    let path = "/api/v1/api-keys";
    proptest!(cases(), |(body in body)| {
        runtime.block_on(async {
            let made = post(&program, path, Some(&admin.token), &body).await;
            assert!((200..500).contains(&made.status), "{made:?}");
            if made.status == 201 {
                // It is a bot's, and nobody else's.
                let made = made.json();
                let bot = made["user"]["id"].as_str().unwrap();
                assert!(bot != ann.id && bot != admin.id, "{made}");
                assert_eq!(made["user"]["role"], "member");
            }
            for (token, status) in [(None, 401), (Some(ann.token.as_str()), 403)] {
                let refused = post(&program, path, token, &body).await;
                assert_eq!(refused.status, status, "{refused:?}");
            }
        });
    });
    runtime.block_on(gateway.shutdown());
}

#[test]
fn any_body_for_a_room_token_is_answered() {
    let runtime = runtime();
    let (gateway, admin, ann) = runtime.block_on(with_admin());
    let shop = runtime.block_on(programs::key(&admin, &["chat_token"]));
    let key = shop["key"].as_str().unwrap();
    let bot = shop["user"]["id"].as_str().unwrap();
    let people = HashSet::from([ann.id.as_str(), &admin.id, bot]);
    let known = ["read", "general", &ann.id, &admin.id, bot];
    let known = known.map(str::to_owned).to_vec();
    let good = json!({ "user_id": "customer-1", "ttl_s": 60 });
    let body = bodies(
        good,
        "(user_id|display_name|rooms|ttl_s|room|rights|more)",
        known,
    );
    let program = gateway.program();
    let path = "/api/v1/chat/token";
    proptest!(cases(), |(body in body)| {
        runtime.block_on(async {
            let made = post(&program, path, Some(key), &body).await;
            assert!((200..500).contains(&made.status), "{made:?}");
            if made.status == 200 {
                // It is for one of the backend's own.
                let made = made.json();
                assert!(!people.contains(made["user"]["id"].as_str().unwrap()), "{made}");
            }
            for (token, status) in [(None, 401), (Some(admin.token.as_str()), 403)] {
                let refused = post(&program, path, token, &body).await;
                assert_eq!(refused.status, status, "{refused:?}");
            }
        });
    });
    runtime.block_on(gateway.shutdown());
}
