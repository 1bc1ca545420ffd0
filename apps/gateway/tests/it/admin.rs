//! Administrators: how one is made, and what one may look at.

use serde_json::json;
use stack_gateway::config::Config;
use stack_gateway::{Gateway, offline};
use stack_testkit::{Person, TestGateway};

/// A gateway on a file, since an administrator is made while it is down.
pub(crate) fn on_file(config: &mut Config, folder: &tempfile::TempDir) {
    config.testing.in_memory = false;
    config.data_dir = folder.path().join("data");
    config.rate_enabled = true;
}

async fn with_admin(folder: &tempfile::TempDir) -> (TestGateway, Person) {
    let (gateway, admin) = with_admin_and(folder, |_| {}).await;
    gateway.person("someone").await;
    (gateway, admin)
}

/// A gateway with something different, and its admin.
pub(crate) async fn with_admin_and(
    folder: &tempfile::TempDir,
    change: impl FnOnce(&mut Config),
) -> (TestGateway, Person) {
    let gateway = TestGateway::with(|config| on_file(config, folder)).await;
    let root = gateway.person("root").await;
    gateway.shutdown().await;
    let mut config = stack_testkit::config();
    on_file(&mut config, folder);
    let user = offline::promote(&config, "Root").await.unwrap();
    assert_eq!(user.username.as_str(), "root");
    let gateway = TestGateway::with(|config| {
        on_file(config, folder);
        change(config);
    })
    .await;
    let admin = root.at(&gateway).another_device("root").await;
    (gateway, admin)
}

#[tokio::test]
async fn an_administrator_is_made_while_the_gateway_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, admin) = with_admin(&folder).await;
    assert_eq!(admin.get("/api/v1/me").await.expect(200)["role"], "admin");

    let mut config = stack_testkit::config();
    on_file(&mut config, &folder);
    let running = offline::promote(&config, "root")
        .await
        .unwrap_err()
        .to_string();
    assert!(running.contains("a gateway is running"), "{running}");
    let second = Gateway::start(config).await.unwrap_err();
    assert_eq!(second.to_string(), "cannot open the store");
}

#[tokio::test]
async fn promoting_needs_a_file_and_a_user() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = stack_testkit::config();
    on_file(&mut config, &folder);
    let missing = offline::promote(&config, "root")
        .await
        .unwrap_err()
        .to_string();
    assert!(missing.contains("there is no database"), "{missing}");
    assert!(!config.data_dir.exists());
    let gateway = TestGateway::with(|config| on_file(config, &folder)).await;
    gateway.shutdown().await;
    let unknown = offline::promote(&config, "root")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(unknown, "there is no user root");
    assert!(offline::promote(&config, "no name").await.is_err());
}

#[tokio::test]
async fn counters_are_for_administrators() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let body = json!({ "login": "root", "password": "wrong horse battery staple" });
    gateway
        .program()
        .post("/api/v1/auth/login")
        .json(&body)
        .send()
        .await
        .problem(401, "invalid_credentials");

    let counters = admin
        .get("/api/v1/admin/rate-counters?prefix=login:")
        .await
        .expect(200);
    let counter = &counters["counters"][0];
    assert_eq!(
        (&counter["key"], &counter["count"]),
        (&json!("login:root"), &json!(1))
    );
    assert_eq!(
        admin
            .delete("/api/v1/admin/rate-counters/login%3Aroot")
            .await
            .status,
        204
    );
    admin
        .delete("/api/v1/admin/rate-counters/login%3Aroot")
        .await
        .problem(404, "not_found");

    let member = gateway.person("member").await;
    member
        .get("/api/v1/admin/rate-counters")
        .await
        .problem(403, "forbidden");
    member
        .delete("/api/v1/admin/rate-counters/x")
        .await
        .problem(403, "forbidden");
    gateway
        .program()
        .get("/api/v1/admin/rate-counters")
        .send()
        .await
        .problem(401, "unauthenticated");
    let odd = admin
        .get("/api/v1/admin/rate-counters?limit=many")
        .await
        .problem(422, "invalid_field");
    assert_eq!(odd["field"], "limit");
}

#[tokio::test]
async fn a_change_that_is_refused_in_part_gives_nobody_more() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin) = with_admin(&folder).await;
    let other = gateway.person("other").await;
    let of = |person: &Person| format!("/api/v1/admin/users/{}", person.id);
    let role = json!({ "role": "admin" });
    admin.patch(&of(&other), role).await.expect(200);
    // Nobody disables themselves; that they would be no admin any more has not happened then either.
    let both = json!({ "role": "member", "disabled": true });
    admin
        .patch(&of(&admin), both.clone())
        .await
        .problem(409, "conflict");
    admin.get("/api/v1/admin/users").await.expect(200);
    let out = admin.patch(&of(&other), both).await.expect(200);
    assert_eq!(
        (&out["role"], &out["disabled"]),
        (&json!("member"), &json!(true))
    );
    let back = json!({ "role": "admin", "disabled": false });
    let back = admin.patch(&of(&other), back).await.expect(200);
    assert_eq!(
        (&back["role"], &back["disabled"]),
        (&json!("admin"), &json!(false))
    );
}
