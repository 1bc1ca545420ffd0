//! What is wrong with a body is told apart: its type, its size, its JSON, its fields.

use serde_json::json;
use stack_testkit::{PASSWORD, TestGateway};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const REGISTER: &str = "/api/v1/auth/register";

#[tokio::test]
async fn a_body_says_that_it_is_json() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json-patch+json",
        "json",
    ] {
        let answer = program
            .post(REGISTER)
            .header("content-type", media)
            .body(body.clone())
            .send()
            .await;
        answer.problem(415, "unsupported_media_type");
    }
    program
        .post(REGISTER)
        .body(body.clone())
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let with_charset = program
        .post(REGISTER)
        .header("content-type", "Application/JSON; charset=utf-8");
    with_charset.body(body).send().await.expect(201);
}

#[tokio::test]
async fn without_a_body_no_type_is_needed() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice
        .call("POST", "/api/v1/auth/ticket")
        .send()
        .await
        .expect(200);
    gateway
        .program()
        .post("/api/v1/auth/refresh")
        .send()
        .await
        .problem(401, "unauthenticated");
    gateway
        .program()
        .post(REGISTER)
        .send()
        .await
        .problem(400, "bad_request");
}

#[tokio::test]
async fn malformed_json_is_a_bad_request() {
    let gateway = TestGateway::start().await;
    for body in [
        "{",
        "nonsense",
        "[]",
        "null",
        "\"x\"",
        "{\"username\":\"alice\"}}",
    ] {
        let call = gateway
            .program()
            .post(REGISTER)
            .header("content-type", "application/json");
        call.body(body).send().await.problem(400, "bad_request");
    }
    let not_utf8 = b"{\"username\":\"\xff\"}".to_vec();
    let call = gateway
        .program()
        .post(REGISTER)
        .header("content-type", "application/json");
    call.body(not_utf8).send().await.problem(400, "bad_request");
}

#[tokio::test]
async fn a_field_at_fault_is_named() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let cases = [
        (json!({}), "username"),
        (json!({ "username": "alice" }), "password"),
        (json!({ "username": 7, "password": PASSWORD }), "username"),
        (
            json!({ "username": "a b", "password": PASSWORD }),
            "username",
        ),
        (
            json!({ "username": "alice", "password": "short" }),
            "password",
        ),
        (
            json!({ "username": "alice", "password": PASSWORD, "email": "nonsense" }),
            "email",
        ),
        (
            json!({ "username": "alice", "password": PASSWORD, "token_delivery": "pigeon" }),
            "token_delivery",
        ),
    ];
    for (body, field) in cases {
        let problem = program
            .post(REGISTER)
            .json(&body)
            .send()
            .await
            .problem(422, "invalid_field");
        assert_eq!(problem["field"], field, "{body}: {problem}");
        assert!(
            !problem["detail"]
                .as_str()
                .unwrap()
                .contains("correct horse"),
            "{problem}"
        );
    }
    let unknown = json!({ "username": "alice", "password": PASSWORD, "colour": "red" });
    program
        .post(REGISTER)
        .json(&unknown)
        .send()
        .await
        .expect(201);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_comes() {
    let gateway = TestGateway::start().await;
    let large = format!("{{\"username\":\"{}\"}}", "a".repeat(2 * 1024 * 1024));
    let call = || {
        gateway
            .program()
            .post(REGISTER)
            .header("content-type", "application/json")
    };
    call()
        .body(large.clone())
        .send()
        .await
        .problem(413, "payload_too_large");

    // Without an announced length the body is measured while it is read.
    let chunks = large
        .into_bytes()
        .chunks(64 * 1024)
        .map(<[u8]>::to_vec)
        .collect::<Vec<_>>();
    let chunks = chunks.into_iter().map(Ok::<_, std::io::Error>);
    let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    call()
        .body(stream)
        .send()
        .await
        .problem(413, "payload_too_large");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    let limit = 1024 * 1024;
    let padded = |bytes: usize| format!("{{\"display_name\":\"Al\"{}}}", " ".repeat(bytes - 21));
    let send = |body: String| {
        alice
            .call("PATCH", "/api/v1/me")
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    assert_eq!(padded(limit).len(), limit);
    assert_eq!(send(padded(limit)).await.expect(200)["display_name"], "Al");
    send(padded(limit + 1))
        .await
        .problem(413, "payload_too_large");
}

/// Sends a request's head and, in a second step, its body; gives the answer's head after the first.
async fn refused_before_the_body(
    gateway: &TestGateway,
    head: &str,
    body: &str,
) -> (String, BufReader<TcpStream>) {
    let mut stream = BufReader::new(TcpStream::connect(gateway.addr()).await.unwrap());
    let head = format!("{head}host: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_answer(&mut stream).await;
    (answer, stream)
}

async fn read_answer(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(
            stream.read_line(&mut head).await.unwrap() > 0,
            "the connection ended: {head}"
        );
    }
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test]
async fn a_refusal_leaves_the_connection_usable_or_says_that_it_ends() {
    let gateway = TestGateway::start().await;
    for head in [
        "POST /api/v1/rooms HTTP/1.1\r\ncontent-type: text/plain\r\n",
        "POST /api/v1/rooms HTTP/1.1\r\ncontent-type: application/json\r\n",
        "POST /nope HTTP/1.1\r\n",
        "PUT /api/v1/rooms HTTP/1.1\r\n",
    ] {
        // The body is held back until the answer is there, so that it cannot be read in front of it.
        let (answer, mut stream) = refused_before_the_body(&gateway, head, "{}").await;
        assert!(answer.contains("connection: close"), "{answer}");
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());

        let mut stream = BufReader::new(TcpStream::connect(gateway.addr()).await.unwrap());
        let whole = format!("{head}host: x\r\ncontent-length: 2\r\n\r\n{{}}");
        for _ in 0..3 {
            stream.write_all(whole.as_bytes()).await.unwrap();
            let answer = read_answer(&mut stream).await;
            assert!(!answer.contains("connection: close"), "{answer}");
        }
    }
}

/// A request that sends its head and holds its body back.
async fn held_back(gateway: &TestGateway) -> BufReader<TcpStream> {
    let mut stream = BufReader::new(TcpStream::connect(gateway.addr()).await.unwrap());
    let head = format!(
        "POST {REGISTER} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_that_are_held_back_take_nobodys_turn() {
    let gateway = TestGateway::with(|config| config.http.concurrent_requests = 2).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(held_back(&gateway).await);
    }
    // As many as there are turns may be slow; one more is told to come back.
    let answers = held.iter_mut().map(|stream| Box::pin(read_answer(stream)));
    let (answer, refused, _) = futures_util::future::select_all(answers).await;
    assert!(answer.starts_with("http/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 2"), "{answer}");
    drop(held.remove(refused));
    // Who is quick has a turn all the while.
    gateway
        .program()
        .get("/api/v1/setup")
        .send()
        .await
        .expect(200);
    gateway.person("alice").await;
    for mut stream in held {
        stream.write_all(b"}").await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("http/1.1 422 "), "{answer}");
    }
}
