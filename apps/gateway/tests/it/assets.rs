//! The web client: its files, its page for every address of its own, and a page in its stead when it was not built.

use std::borrow::Cow;

use stack_gateway::ClientFile;
use stack_testkit::{Answer, TestGateway};

fn built(path: &str) -> Option<ClientFile> {
    let (content, media_type): (&'static str, _) = match path {
        "index.html" => ("<!doctype html><title>Stack</title>", "text/html"),
        "assets/app-1a2b.js" => ("let long = 'x';\n", "text/javascript"),
        "favicon.svg" => ("<svg/>", "image/svg+xml"),
        _ => return None,
    };
    Some(ClientFile {
        content: Cow::Borrowed(content.as_bytes()),
        media_type: media_type.into(),
        hash: [7; 32],
    })
}

async fn with_client() -> TestGateway {
    TestGateway::with(|config| config.testing.client_files = Some(built)).await
}

async fn page(gateway: &TestGateway, path: &str) -> Answer {
    gateway
        .program()
        .get(path)
        .header("accept", "text/html,*/*;q=0.8")
        .send()
        .await
}

#[tokio::test]
async fn addresses_of_the_client_get_its_page() {
    let gateway = with_client().await;
    for path in [
        "/",
        "/index.html",
        "/rooms/general",
        "/settings?tab=1",
        "/wsx",
        "/apiary",
    ] {
        let answer = page(&gateway, path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "text/html", "{path}");
        assert_eq!(answer.header("cache-control"), "no-cache", "{path}");
        assert!(answer.text.contains("<title>Stack"), "{path}");
    }
}

#[tokio::test]
async fn what_is_not_a_page_is_not_answered_with_one() {
    let gateway = with_client().await;
    for path in ["/api/nope", "/api", "/ws/x", "/assets/gone.js"] {
        page(&gateway, path).await.problem(404, "not_found");
    }
    let picture = gateway
        .program()
        .get("/gone.png")
        .header("accept", "image/avif,image/png");
    picture.send().await.problem(404, "not_found");
    gateway
        .program()
        .post("/rooms/general")
        .send()
        .await
        .problem(404, "not_found");
    for path in [
        "/../Cargo.toml",
        "/%2e%2e/Cargo.toml",
        "/assets/..%2f..%2fCargo.toml",
    ] {
        let answer = gateway
            .program()
            .get(path)
            .header("accept", "image/png")
            .send()
            .await;
        answer.problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_program_gets_the_page_at_the_root_alone() {
    let gateway = with_client().await;
    assert_eq!(gateway.program().get("/").send().await.status, 200);
    gateway
        .program()
        .get("/rooms")
        .send()
        .await
        .problem(404, "not_found");
}

#[tokio::test]
async fn hashed_files_are_kept_for_ever_and_others_asked_for_again() {
    let gateway = with_client().await;
    let hashed = gateway.program().get("/assets/app-1a2b.js").send().await;
    assert_eq!(hashed.header("content-type"), "text/javascript");
    assert_eq!(
        hashed.header("cache-control"),
        "public, max-age=31536000, immutable"
    );
    let icon = gateway.program().get("/favicon.svg").send().await;
    assert_eq!(icon.header("cache-control"), "no-cache");
    let unchanged = gateway
        .program()
        .get("/favicon.svg")
        .header("if-none-match", icon.header("etag"));
    let unchanged = unchanged.send().await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    let changed = gateway
        .program()
        .get("/favicon.svg")
        .header("if-none-match", "W/\"other\"");
    assert_eq!(changed.send().await.status, 200);
    let head = gateway.program().call("HEAD", "/favicon.svg").send().await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn without_a_client_a_page_says_how_to_build_it() {
    let gateway = TestGateway::with(|config| config.testing.client_files = Some(|_| None)).await;
    let answer = page(&gateway, "/").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.text.contains("./scripts/run") && answer.text.contains("npm ci"),
        "{answer:?}"
    );
    page(&gateway, "/api/nope").await.problem(404, "not_found");
}
