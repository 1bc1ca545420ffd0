//! The Admin interface for programs: with the scope, as long as the key stands, and on record as the bot's.

use std::path::PathBuf;

use serde_json::json;
use stack_gateway::config::Config;
use stack_ipc::service::{Admin as _, AuditQuery, ImportOptions, Start, TraceQuery};
use stack_ipc::{AdminClient, Client, ClientConfig, Delivery};
use stack_testkit::{PATIENCE, Person, TestGateway};
use stack_types::{ErrorCode, Problem, RoomId, Seq, UserId};
use tokio::time::timeout;

use crate::admin::with_admin_and;
use crate::programs::key;

struct Bot {
    client: Client,
    admin: AdminClient,
    key: String,
}

async fn gateway(folder: &tempfile::TempDir) -> (TestGateway, Person, PathBuf) {
    let quick = |config: &mut Config| config.rate_enabled = false;
    let (gateway, admin) = with_admin_and(folder, quick).await;
    (gateway, admin, folder.path().join("data/gateway.sock"))
}

async fn bot(admin: &Person, path: &PathBuf, scopes: &[&str]) -> Bot {
    let made = key(admin, scopes).await;
    let token = made["key"].as_str().unwrap();
    let client = Client::connect(ClientConfig::new(path, token))
        .await
        .unwrap();
    Bot {
        admin: client.admin(),
        client,
        key: made["id"].as_str().unwrap().to_owned(),
    }
}

fn code<T>(result: Result<T, Problem>) -> Option<ErrorCode> {
    result.err().map(|problem| problem.code)
}

/// What each call is refused with; `None` where it is not.
async fn refusals(bot: &Bot, folder: &tempfile::TempDir) -> Vec<Option<ErrorCode>> {
    let admin = &bot.admin;
    let name = || "root".to_owned();
    let general: RoomId = "general".parse().unwrap();
    let asked = TraceQuery {
        room: general.clone(),
        seq: Seq(1),
        user: None,
    };
    vec![
        code(admin.users(None, None).await),
        code(admin.rooms(None, None).await),
        code(admin.sessions(name()).await),
        code(admin.stats().await),
        code(admin.audit(AuditQuery::default()).await),
        code(admin.snapshot(folder.path().join("copy.redb")).await),
        code(admin.trace(asked).await),
        code(admin.tail(general, Start::Live).await),
        code(admin.erasures().await),
        code(admin.revoke("nobody".to_owned(), None).await),
        code(admin.promote(name()).await),
        code(admin.set_disabled(name(), true).await),
        code(admin.recovery_url(name(), false).await),
        code(admin.erase_messages(name(), None).await),
        code(admin.setup_url().await),
        code(admin.reload().await),
        code(admin.export(None).await),
        code(admin.import(ImportOptions::default()).await),
    ]
}

#[tokio::test]
async fn a_bot_looks_after_the_server_by_its_scope_and_never_what_asks_for_a_recent_admin() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, admin, path) = gateway(&folder).await;
    admin.room("general", false).await;
    let reader = bot(&admin, &path, &["read", "send", "rooms", "presence"]).await;
    let refused = refusals(&reader, &folder).await;
    assert_eq!(refused, vec![Some(ErrorCode::Forbidden); refused.len()]);
    assert!(!folder.path().join("copy.redb").exists());

    let keeper = bot(&admin, &path, &["admin"]).await;
    let forbidden = Some(ErrorCode::Forbidden);
    let mut expected = vec![None; 9];
    expected.push(Some(ErrorCode::NotFound));
    expected.extend([forbidden; 8]);
    assert_eq!(refusals(&keeper, &folder).await, expected);
    assert!(folder.path().join("copy.redb").exists());

    let me = keeper.client.who().user_id;
    let log = keeper.admin.audit(AuditQuery::default()).await.unwrap();
    let log: Vec<serde_json::Value> = log
        .entries
        .iter()
        .map(|entry| serde_json::from_str(entry).unwrap())
        .collect();
    let done: Vec<_> = log
        .iter()
        .filter(|entry| entry["actor"] == json!(me) && entry["ip"] == json!(""))
        .map(|entry| (entry["action"].as_str().unwrap(), entry["session"].as_str()))
        .collect();
    let by = Some(keeper.key.as_str());
    let expected = ["room_tailed", "message_traced", "snapshot_made"];
    assert_eq!(done, expected.map(|action| (action, by)));
}

#[tokio::test]
async fn a_bots_tail_ends_with_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, admin, path) = gateway(&folder).await;
    // The bot is not in it, and nobody lets it in.
    admin.room("board", false).await;
    let keeper = bot(&admin, &path, &["admin"]).await;
    let board = "board".parse().unwrap();
    let mut tail = keeper
        .admin
        .follow(&board, Start::After(Seq::ZERO))
        .await
        .unwrap();
    assert_eq!((tail.first().0, tail.head().0), (1, 1));
    for body in ["one", "two"] {
        admin.say("board", body).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match timeout(PATIENCE, tail.next()).await.unwrap().unwrap() {
            Delivery::Events(events) => seen.extend(events.iter().map(|event| event.seq.0)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [1, 2, 3]);

    let revoked = admin
        .delete(&format!("/api/v1/api-keys/{}", keeper.key))
        .await;
    assert_eq!(revoked.status, 204);
    let ended = timeout(PATIENCE, tail.next()).await.unwrap();
    let Some(Delivery::Ended { reason }) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(reason, "revoked");
    let late = keeper.admin.users(None, None).await;
    assert_eq!(code(late), Some(ErrorCode::Unauthenticated));
}

#[tokio::test]
async fn lists_come_in_pages_and_bad_cursors_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (gateway, admin, path) = gateway(&folder).await;
    for name in ["ann", "bob"] {
        gateway.person(name).await;
    }
    for room in ["a", "b", "c"] {
        admin.room(room, true).await;
    }
    let operator = Client::operator(&path).await.unwrap();
    let mut users: Vec<UserId> = Vec::new();
    let mut cursor = None;
    let mut pages = 0;
    loop {
        let page = operator.users(cursor, Some(2)).await.unwrap();
        users.extend(page.users.iter().map(|user| user.id));
        pages += 1;
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((pages, users.len()), (2, 3));
    assert!(users.is_sorted());
    let first = operator.rooms(None, Some(2)).await.unwrap();
    let second = operator.rooms(first.next.clone(), Some(2)).await.unwrap();
    let ids: Vec<_> = first
        .rooms
        .iter()
        .chain(&second.rooms)
        .map(|room| room.id.as_str())
        .collect();
    assert_eq!((ids.as_slice(), second.next), (&["a", "b", "c"][..], None));

    let fields = [
        operator
            .users(Some("not an id".to_owned()), None)
            .await
            .err(),
        operator.rooms(Some("No Room".to_owned()), None).await.err(),
        operator.users(None, Some(501)).await.err(),
        operator
            .revoke("ann".to_owned(), Some("?".to_owned()))
            .await
            .err(),
        operator.snapshot("copy.redb".into()).await.err(),
        operator.snapshot(folder.path().join("no/copy")).await.err(),
        operator.promote("No Name".to_owned()).await.err(),
    ]
    .map(|problem| problem.unwrap().field.unwrap().into_owned());
    let expected = [
        "cursor",
        "cursor",
        "limit",
        "session_id",
        "path",
        "path",
        "username",
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn a_bot_that_asks_too_fast_is_told_so_and_the_operator_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, admin) = with_admin_and(&folder, |_| {}).await;
    let path = folder.path().join("data/gateway.sock");
    let keeper = bot(&admin, &path, &["admin"]).await;
    let operator = Client::operator(&path).await.unwrap();
    let mut refused = None;
    for _ in 0..20_000 {
        refused = code(keeper.admin.rooms(None, None).await);
        if refused.is_some() {
            break;
        }
    }
    assert_eq!(refused, Some(ErrorCode::RateLimited));
    for _ in 0..1000 {
        operator.rooms(None, None).await.unwrap();
    }
}
