//! What browsers are told: security headers, CORS, caching, compression, and the address without a version.

use serde_json::json;
use stack_gateway::config::{Config, Inputs};
use stack_testkit::{PASSWORD, TestGateway};

fn set(config: &mut Config, variables: &[(&str, &str)]) {
    let inputs = Inputs {
        env: variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        ..Inputs::default()
    };
    let read = Config::load(&inputs).unwrap();
    config.public_url = read.public_url;
    config.cors_origins = read.cors_origins;
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let gateway = TestGateway::start().await;
    for path in [
        "/",
        "/healthz",
        "/api/v1/nope",
        "/api/v1/me",
        "/api/v1/testing/panic",
    ] {
        let answer = gateway.program().get(path).send().await;
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'self'; "),
            "{path}: {policy}"
        );
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        assert!(
            policy.contains(&format!("ws://127.0.0.1:{}", gateway.addr().port())),
            "{policy}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(
            answer.header("strict-transport-security"),
            "",
            "{path}: not under plain HTTP"
        );
    }
}

#[tokio::test]
async fn under_tls_browsers_are_told_to_stay_there() {
    let gateway =
        TestGateway::with(|config| set(config, &[("STACK_PUBLIC_URL", "https://chat.example")]))
            .await;
    let answer = gateway.program().get("/healthz").send().await;
    assert!(
        answer
            .header("strict-transport-security")
            .starts_with("max-age=31536000")
    );
    assert!(
        answer
            .header("content-security-policy")
            .contains("connect-src 'self' wss://chat.example;")
    );
    let body = json!({ "username": "alice", "password": PASSWORD });
    let signed_in = gateway
        .program()
        .post("/api/v1/auth/register")
        .json(&body)
        .send()
        .await;
    let cookies = signed_in.header_values("set-cookie");
    assert!(
        cookies[0].starts_with("__Host-stack_access=") && cookies[0].contains("; Secure; Path=/;"),
        "{cookies:?}"
    );
    assert!(
        cookies[1].starts_with("__Secure-stack_refresh=") && cookies[1].contains("SameSite=Strict"),
        "{cookies:?}"
    );
}

#[tokio::test]
async fn answers_of_the_api_are_not_kept() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    for path in ["/api/v1/me", "/api/v1/rooms", "/api/v1/nope", "/readyz"] {
        assert_eq!(
            alice.get(path).await.header("cache-control"),
            "no-store",
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_address_without_a_version_means_the_newest() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    assert_eq!(
        alice.get("/api/me").await.expect(200),
        alice.get("/api/v1/me").await.expect(200)
    );
    alice.room("general", true).await;
    let page = alice
        .get("/api/rooms/general/messages?limit=1")
        .await
        .expect(200);
    assert_eq!(page["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_listed_origin_may_call_with_credentials_and_no_other() {
    let gateway =
        TestGateway::with(|config| set(config, &[("STACK_CORS_ORIGINS", "https://app.example")]))
            .await;
    let own = gateway.origin();
    for (origin, allowed) in [
        ("https://app.example", true),
        (own.as_str(), true),
        ("https://app.example.evil.example", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let preflight = gateway
            .program()
            .call("OPTIONS", "/api/v1/rooms")
            .header("origin", origin);
        let preflight = preflight
            .header("access-control-request-method", "POST")
            .send()
            .await;
        let errors_too = gateway
            .program()
            .get("/api/v1/me")
            .header("origin", origin)
            .send()
            .await;
        errors_too.problem(401, "unauthenticated");
        for answer in [&preflight, &errors_too] {
            let told = if allowed { origin } else { "" };
            assert_eq!(
                answer.header("access-control-allow-origin"),
                told,
                "{origin}"
            );
            assert!(
                answer
                    .header("vary")
                    .to_ascii_lowercase()
                    .contains("origin"),
                "{answer:?}"
            );
        }
        assert_eq!(preflight.header("access-control-allow-credentials"), "true");
        assert!(
            preflight
                .header("access-control-allow-methods")
                .contains("PATCH")
        );
        assert!(
            preflight
                .header("access-control-allow-headers")
                .contains("x-csrf-token")
        );
        assert!(
            errors_too
                .header("access-control-expose-headers")
                .contains("x-request-id")
        );
    }
}

#[tokio::test]
async fn large_answers_are_compressed_and_small_ones_are_not() {
    let gateway = TestGateway::start().await;
    let alice = gateway.person("alice").await;
    alice.room("general", true).await;
    let small = alice
        .call("GET", "/api/v1/me")
        .header("accept-encoding", "br, gzip")
        .send()
        .await;
    assert_eq!(small.header("content-encoding"), "");
    alice.say("general", &"again ".repeat(1000)).await;
    let page = |accepted: &str| {
        let call = alice.call("GET", "/api/v1/rooms/general/messages");
        call.header("accept-encoding", accepted).send()
    };
    let whole = page("identity").await.text.len();
    for encoding in ["br", "gzip"] {
        let answer = page(encoding).await;
        assert_eq!(answer.header("content-encoding"), encoding);
        assert!(
            answer.header("vary").contains("accept-encoding"),
            "{answer:?}"
        );
        assert!(
            answer.text.len() < whole / 4,
            "{} of {whole}",
            answer.text.len()
        );
    }
}
