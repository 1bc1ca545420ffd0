//! Whatever goes wrong is a problem, with a request id and without anything internal.

use std::time::Duration;

use reqwest::header::HeaderValue;
use stack_testkit::TestGateway;

#[tokio::test]
async fn an_unknown_address_is_not_found() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    for path in [
        "/api/v1/nope",
        "/api/nope",
        "/api/v2/rooms",
        "/api/v1",
        "/api",
        "/ws/nope",
        "/assets/nope.js",
    ] {
        program.get(path).send().await.problem(404, "not_found");
    }
    program.post("/nope").send().await.problem(404, "not_found");
}

#[tokio::test]
async fn a_wrong_method_says_which_are_right() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let expected = [
        ("DELETE", "/api/v1/auth/login", vec!["POST"]),
        ("PUT", "/api/v1/rooms", vec!["GET", "HEAD", "POST"]),
        ("POST", "/healthz", vec!["GET", "HEAD"]),
        (
            "PATCH",
            "/api/v1/rooms/general/messages",
            vec!["GET", "HEAD", "POST"],
        ),
    ];
    for (method, path, allowed) in expected {
        let answer = program.call(method, path).send().await;
        answer.problem(405, "method_not_allowed");
        let mut told: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
        told.sort_unstable();
        assert_eq!(told, allowed, "{method} {path}");
    }
}

#[tokio::test]
async fn a_route_without_a_row_is_refused() {
    let gateway = TestGateway::start().await;
    let ann = gateway.person("ann").await;
    let unlisted = "/api/v1/testing/unlisted";
    let answer = gateway.program().get(unlisted).send().await;
    answer.problem(403, "forbidden");
    ann.get(unlisted).await.problem(403, "forbidden");
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_sane_and_always_told() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let longest = "x".repeat(64);
    for sane in ["a", "Trace_1-b", longest.as_str()] {
        let answer = program
            .get("/api/v1/me")
            .header("x-request-id", sane)
            .send()
            .await;
        assert_eq!(answer.problem(401, "unauthenticated")["request_id"], sane);
        assert_eq!(
            program
                .get("/ping")
                .header("x-request-id", sane)
                .send()
                .await
                .header("x-request-id"),
            sane
        );
    }
    let too_long = "x".repeat(65);
    for odd in [
        b"".as_slice(),
        b"a b",
        b"a\xe4",
        b"<script>",
        too_long.as_bytes(),
    ] {
        let value = HeaderValue::from_bytes(odd).unwrap();
        let answer = program
            .get("/nope.txt")
            .header_value("x-request-id", value)
            .send()
            .await;
        answer.problem(404, "not_found");
        assert_eq!(answer.header("x-request-id").len(), 24, "{answer:?}");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_gateway_goes_on() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    for _ in 0..3 {
        let answer = program.get("/api/v1/testing/panic").send().await;
        answer.problem(500, "internal");
        assert!(
            !answer.text.contains("4711") && !answer.text.contains("panic"),
            "{answer:?}"
        );
    }
    assert_eq!(program.get("/ping").send().await.text, "pong");
}

#[tokio::test]
async fn what_takes_too_long_is_a_time_out() {
    let gateway = TestGateway::with(|config| config.http.timeout = Duration::from_millis(20)).await;
    let answer = gateway.program().get("/api/v1/testing/never").send().await;
    answer.problem(504, "timeout");
}

#[tokio::test]
async fn what_is_too_much_is_shed() {
    let gateway = TestGateway::with(|config| config.http.concurrent_requests = 1).await;
    let program = gateway.program();
    let holds_the_only_place = program.get("/api/v1/testing/never").send();
    let others = async {
        loop {
            let answer = program.get("/api/v1/auth/providers").send().await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let shed = tokio::select! {
        _ = holds_the_only_place => panic!("never answers"),
        shed = others => shed,
    };
    assert_eq!(shed.problem(503, "unavailable")["retry_after_ms"], 1000);
    assert_eq!(shed.header("retry-after"), "1");
    assert_eq!(
        program.get("/healthz").send().await.text,
        "ok",
        "health is never shed"
    );
}

/// † GHSA-xmf8-cvqr-rfgj: a header that cannot be decoded is a header without a caller, and no exception.
#[tokio::test]
async fn an_odd_authorization_header_is_unauthenticated() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    let long = format!("Bearer {}", "a".repeat(20_000));
    let odd: [&[u8]; 14] = [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer  ",
        b"Basic YTpi",
        b"Bearer a b",
        b"Bearer a.b.c",
        b"Bearer %",
        b"Bearer %ff",
        b"Bearer %E0%A4%A",
        b"Bearer stk_%_%",
        b"Bearer \xff\xfe",
        b"\xff",
        long.as_bytes(),
    ];
    for value in odd {
        let value = HeaderValue::from_bytes(value).unwrap();
        let answer = program
            .get("/api/v1/me")
            .header_value("authorization", value.clone())
            .send()
            .await;
        answer.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        // Where nobody need be known it harms nothing.
        let open = program.get("/api/v1/auth/providers");
        let open = open.header_value("authorization", value).send().await;
        open.expect(200);
    }
}

#[tokio::test]
async fn a_query_at_fault_names_its_field() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let page = "/api/v1/rooms/general/messages";
    for (query, field) in [
        ("limit=x", "limit"),
        ("after=-1", "after"),
        ("after_ts=1.5", "after_ts"),
        ("before=", "before"),
    ] {
        let problem = alice
            .get(&format!("{page}?{query}"))
            .await
            .problem(422, "invalid_field");
        assert_eq!(problem["field"], field, "{problem}");
    }
}
