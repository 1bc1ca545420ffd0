//! Health, readiness and what the gateway is.

use stack_testkit::TestGateway;

#[tokio::test]
async fn the_gateway_says_how_it_is() {
    let gateway = TestGateway::start().await;
    let program = gateway.program();
    assert_eq!(program.get("/healthz").send().await.text, "ok");
    assert_eq!(program.get("/ping").send().await.text, "pong");
    let health = program.get("/health").send().await.expect(200);
    assert_eq!(health["status"], "ok");
    let ready = program.get("/readyz").send().await.expect(200);
    assert_eq!(ready["status"], "ready");
    for check in ["storage", "bus", "delivery", "accepting"] {
        assert_eq!(ready["checks"][check], "ok", "{ready}");
        assert_eq!(health["checks"][check], "ok", "{health}");
    }
}

#[tokio::test]
async fn the_version_tells_protocols_and_limits() {
    let gateway = TestGateway::with(|config| config.limits.connections_per_user = 7).await;
    let version = gateway.program().get("/version").send().await.expect(200);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version["commit"].is_string());
    assert_eq!(
        version["protocols"],
        serde_json::json!(["stack.v1.json", "stack.v1.capnp"])
    );
    assert_eq!(version["limits"]["connections_per_user"], 7);
    assert_eq!(version["limits"]["frame_bytes"], 65_536);
    assert_eq!(version["limits"]["body_bytes"], 16_384);
}

#[tokio::test]
async fn health_is_never_limited() {
    let gateway = TestGateway::with(|config| config.rate_enabled = true).await;
    for _ in 0..400 {
        assert_eq!(gateway.program().get("/ping").send().await.status, 200);
    }
}
