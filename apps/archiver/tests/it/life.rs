//! How it begins and ends: arguments, tokens, rooms that come later, a gateway that goes away, signals.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use stack_testkit::TestGateway;

use crate::support::{World, lines, reaches};

#[tokio::test]
async fn it_follows_all_rooms_of_its_bot_also_later_ones() {
    let world = World::new().await;
    world.room("general").await;
    world.admin.room("not-ours", true).await;
    let dir = world.path("archive");
    let archiver = world.archiver(&dir, &["--look-every", "1s", "--gather", "0s"]);
    world.is_kept(&dir, "general").await;
    world.room("later").await;
    world.admin.say("later", "hello").await;
    world.is_kept(&dir, "later").await;
    assert!(!dir.join("not-ours").exists());
    let (code, log) = archiver.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn it_follows_the_rooms_that_it_is_told_and_writes_what_it_has_gathered_at_the_end() {
    let world = World::new().await;
    for room in ["general", "news"] {
        world.room(room).await;
    }
    let dir = world.path("archive");
    let mut archiver = world.archiver(
        &dir,
        &["--room", "news", "--gather", "1h", "--log", "debug"],
    );
    archiver.says("follows news behind 0").await;
    world.admin.say("news", "hello").await;
    let (code, log) = archiver.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!dir.join("general").exists());
    // What came before the signal is kept, and what did not comes at the next start.
    let kept = lines(&dir, "news");
    let all = world.admin.log("news").await;
    assert_eq!(kept, all[..kept.len()]);
    let _archiver = world.archiver(&dir, &["--room", "news", "--gather", "0s"]);
    world.is_kept(&dir, "news").await;
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn every_kind_of_event_is_kept_as_a_subscriber_gets_it() {
    let world = World::new().await;
    world.room("general").await;
    let dir = world.path("archive");
    let _archiver = world.archiver(&dir, &["--gather", "0s"]);
    let mut socket = world.gateway.socket(&world.admin).await;
    let message =
        json!({ "room": "general", "body": "hi", "data": { "a": [1, null] }, "key": "k" });
    let seq = socket.ok("send", message).await["seq"].clone();
    let answer = json!({ "room": "general", "body": "to that", "reply_to": seq });
    socket.ok("send", answer).await;
    let edit = json!({ "room": "general", "seq": seq, "body": "hello" });
    socket.ok("edit", edit).await;
    let react = json!({ "room": "general", "seq": seq, "emoji": "👍" });
    socket.ok("react", react).await;
    let change = json!({ "title": "Another" });
    let changed = world.admin.call("PATCH", "/api/v1/rooms/general");
    changed.json(&change).send().await.expect(200);
    world.is_kept(&dir, "general").await;
    // What is taken back later stays in the archive as it was, with the event that takes it back.
    let kept = lines(&dir, "general");
    let redact = json!({ "room": "general", "seq": seq });
    socket.ok("redact", redact).await;
    let log = world.admin.log("general").await;
    reaches(&dir, "general", log.len() as u64).await;
    let now = lines(&dir, "general");
    assert_eq!(now[..kept.len()], kept);
    assert_eq!(now.last(), log.last());
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn it_goes_on_after_its_gateway_was_away() {
    let folder = tempfile::tempdir().unwrap();
    let on_file = async || {
        TestGateway::with(|config| {
            config.testing.in_memory = false;
            config.data_dir = folder.path().join("data");
            config.ipc.path = Some(folder.path().join("gateway.sock"));
        })
        .await
    };
    let gateway = on_file().await;
    let admin = gateway.administrator("root").await;
    let bot = admin.bot("Archive", &["read"]).await;
    let mut world = World {
        folder: tempfile::tempdir().unwrap(),
        gateway,
        admin,
        bot,
    };
    std::os::unix::fs::symlink(
        folder.path().join("gateway.sock"),
        world.path("gateway.sock"),
    )
    .unwrap();
    world.write_token(&world.bot.token);
    world.room("general").await;
    let dir = world.path("archive");
    let archiver = world.archiver(&dir, &["--gather", "0s"]);
    world.is_kept(&dir, "general").await;

    world.gateway.shutdown().await;
    world.gateway = on_file().await;
    world.admin = world.admin.at(&world.gateway);
    world.admin.say("general", "back again").await;
    world.is_kept(&dir, "general").await;
    let (code, log) = archiver.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn it_ends_when_it_cannot_go_on() {
    let world = World::new().await;
    world.room("general").await;
    let dir = world.path("archive");
    let mut archiver = world.archiver(&dir, &[]);
    archiver.says("follows general").await;

    let (code, log) = world.archiver(&dir, &[]).ends().await;
    assert_eq!(code, Some(1));
    assert!(log.contains("another archiver works in"), "{log}");

    let key = format!("/api/v1/api-keys/{}", world.bot.key_id);
    world.admin.delete(&key).await.expect(204);
    let (code, log) = archiver.ends().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("revoked"), "{log}");

    let (code, log) = world.archiver(&dir, &[]).ends().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("cannot log in"), "{log}");

    fs::set_permissions(world.path("token"), Permissions::from_mode(0o644)).unwrap();
    let (code, log) = world.archiver(&dir, &[]).ends().await;
    assert_eq!(code, Some(1));
    assert!(log.contains("chmod 600"), "{log}");

    let (code, log) = world
        .archiver(&dir, &["--rotate-bytes", "none"])
        .ends()
        .await;
    assert_eq!(code, Some(2), "{log}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_deleted_room_is_finished() {
    let world = World::new().await;
    world.room("general").await;
    let dir = world.path("archive");
    let mut archiver = world.archiver(&dir, &["--room", "general", "--gather", "0s"]);
    world.is_kept(&dir, "general").await;
    world
        .admin
        .delete("/api/v1/rooms/general")
        .await
        .expect(204);
    archiver.says("general was deleted").await;
    let (code, log) = archiver.ends().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(crate::support::finished(&dir, "general").len(), 1);
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_had_stands_in_the_archive_as_a_gap() {
    let world = World::new().await;
    world.admin.room("general", false).await;
    let settings = json!({ "settings": { "history": "joined" } });
    let change = world.admin.call("PATCH", "/api/v1/rooms/general");
    change.json(&settings).send().await.expect(200);
    let last = world.admin.say("general", "before its time").await;
    world.admin.bring("general", &world.bot.id).await;
    world.admin.say("general", "hello").await;
    let dir = world.path("archive");
    let start = || world.archiver(&dir, &["--gather", "0s"]);
    let archiver = start();
    let log = world.admin.log("general").await;
    reaches(&dir, "general", log.len() as u64).await;
    let gap = json!({ "room": "general", "from": 1, "to": last, "reason": "joined" });
    let kept = lines(&dir, "general");
    assert_eq!(kept[0], json!({ "type": "gap", "payload": gap }));
    assert_eq!(kept[1..], log[last as usize..]);
    // It is not told again.
    archiver.kill().await;
    let _archiver = start();
    let more = world.admin.say("general", "once more").await;
    reaches(&dir, "general", more).await;
    assert_eq!(lines(&dir, "general")[..kept.len()], kept);
    world.gateway.shutdown().await;
}
