//! How it begins and ends.

use std::fs;

use crate::support::{ROOM, World, script};

#[tokio::test]
async fn it_ends_with_what_tells_why() {
    let world = World::new().await;
    world.configure("colour = 'red'", "");
    let (code, log) = world.spawn(&[]).ends().await;
    assert_eq!(code, Some(2));
    assert!(log.contains("colour"), "{log}");
    world.configure("", "");
    let (code, log) = world.spawn(&["--check"]).ends().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(!world.path("state").exists());

    let bot = world.start().await;
    let (code, log) = world.spawn(&[]).ends().await;
    assert_eq!(code, Some(1));
    assert!(log.contains("another bot works in"), "{log}");

    let key = format!("/api/v1/api-keys/{}", world.bot.key_id);
    world.admin.delete(&key).await.expect(204);
    let (code, log) = bot.ends().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("revoked"), "{log}");

    fs::write(world.path("state/state.json"), "{").unwrap();
    let (code, log) = world.spawn(&[]).ends().await;
    assert_eq!(code, Some(1));
    assert!(log.contains("holds no state"), "{log}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn a_signal_lets_short_programs_finish_and_kills_long_ones() {
    let world = World::new().await;
    let folder = world.folder.path().display().to_string();
    let short = script(
        "short",
        &format!("touch {folder}/a; sleep 1; echo done"),
        "",
    );
    let long = script(
        "long",
        &format!("echo $$ > {folder}/b; exec sleep 1000"),
        "timeout = '10m'",
    );
    world.configure("", &[short, long].concat());
    let bot = world.start().await;
    let short = world.say("!short").await;
    world.say("!long").await;
    let both = async {
        while !world.path("a").exists()
            || fs::read_to_string(world.path("b"))
                .unwrap_or_default()
                .is_empty()
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(stack_testkit::PATIENCE, both)
        .await
        .unwrap();
    let (code, log) = bot.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(world.answer(short).await, "done");
    let pid = fs::read_to_string(world.path("b")).unwrap();
    let alive = std::path::Path::new("/proc").join(pid.trim()).join("exe");
    assert!(fs::read_link(alive).is_err(), "{pid} lives");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn it_answers_in_rooms_that_it_is_brought_into_and_in_no_other() {
    let world = World::new().await;
    world.admin.room("public", true).await;
    world.configure("look_every = '1s'", "");
    let mut bot = world.start().await;
    let elsewhere = world.admin.say("public", "!help").await;
    world.admin.room("later", false).await;
    world.admin.bring("later", &world.bot.id).await;
    bot.says("reads later").await;
    world.admin.say("later", "!help").await;
    let answered = async {
        while world.admin.log("later").await.len() < 4 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(stack_testkit::PATIENCE, answered)
        .await
        .unwrap();
    assert_eq!(world.admin.log("public").await.len() as u64, elsewhere);
    let path = format!("/api/v1/rooms/{ROOM}/members/{}", world.bot.id);
    world.admin.delete(&path).await.expect(204);
    bot.says("reads general no more: removed").await;
    bot.kill().await;
    world.gateway.shutdown().await;
}
