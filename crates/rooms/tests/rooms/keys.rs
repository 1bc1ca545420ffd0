//! Idempotency: a key that was used is answered with the first message's place, whatever else is wrong.

use std::time::Duration;

use stack_rate::Quota;
use stack_rooms::SendMessage;
use stack_types::{ErrorCode, RoomId, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{World, begun, code, fault, json, keyed, text, user, wait};

const WINDOW: Duration = Duration::from_secs(10);

async fn scene(messages: Quota, settings: RoomSettingsPatch) -> (World, RoomId) {
    let world = World::with(messages).await;
    let room = world.room("general", settings).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    world.enter(&room, &[("other", RoomRole::Member)]).await;
    (world, room)
}

fn unlimited() -> (Quota, RoomSettingsPatch) {
    (Quota::UNLIMITED, RoomSettingsPatch::default())
}

#[tokio::test]
async fn a_repeat_is_answered_with_the_first_place_whatever_it_says() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let first = world
        .send("member", &room, keyed("first", "k"))
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(5));
    world.say("owner", &room, "between").await.unwrap();
    let limit = 16 * 1024;
    let long = "x".repeat(limit + 1);
    let data = |text: &str| SendMessage {
        data: Some(json(text)),
        ..keyed("x", "k")
    };
    let repeats = [
        keyed("first", "k"),
        keyed("another body", "k"),
        keyed("", "k"),
        keyed(&long, "k"),
        data(&format!("\"{}\"", "x".repeat(32 * 1024))),
        data(&format!("{}{}", "[".repeat(65), "]".repeat(65))),
        SendMessage {
            reply_to: Some(Seq(999)),
            ..keyed("x", "k")
        },
    ];
    for repeat in repeats {
        let again = world.send("member", &room, repeat).await.unwrap();
        assert_eq!(again, first);
    }
    assert_eq!(world.head(&room), Seq(first.seq.0 + 1));

    world.redact("member", &room, first.seq).await.unwrap();
    let again = world.send("member", &room, keyed("first", "k")).await;
    assert_eq!(again.unwrap(), first);
}

#[tokio::test]
async fn a_key_is_its_senders_and_its_rooms() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let elsewhere = world.room("elsewhere", settings).await;
    world
        .enter(&elsewhere, &[("member", RoomRole::Member)])
        .await;
    let first = world
        .send("member", &room, keyed("mine", "k"))
        .await
        .unwrap();
    // Another's key does not excuse anything, nor is it found.
    let empty = world.send("other", &room, keyed("", "k")).await;
    assert_eq!(
        fault(empty),
        Some((ErrorCode::InvalidField, Some("body".into())))
    );
    let other = world
        .send("other", &room, keyed("mine", "k"))
        .await
        .unwrap();
    assert_eq!(other.seq, first.seq.next());
    let empty = world.send("member", &elsewhere, keyed("", "k")).await;
    assert_eq!(code(empty), Some(ErrorCode::InvalidField));
    let there = world.send("member", &elsewhere, keyed("mine", "k")).await;
    assert_eq!(there.unwrap().seq, Seq(3));
    let another = world.send("member", &room, keyed("mine", "K")).await;
    assert_eq!(another.unwrap().seq, other.seq.next());
}

#[tokio::test]
async fn repeats_that_wait_for_the_same_commit_are_one_message() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let held = world.hold_writer().await;
    let mut sendings = Vec::new();
    for body in ["one", "two", "three"] {
        sendings.push(begun(world.send("member", &room, keyed(body, "k"))).await);
    }
    drop(held);
    let mut places = Vec::new();
    for sending in sendings {
        places.push(sending.await.unwrap());
    }
    assert!(places.iter().all(|place| *place == places[0]));
    assert_eq!(world.head(&room), places[0].seq);
    assert_eq!(
        world.log(&room).await.last().unwrap()["payload"]["body"],
        "one"
    );
}

#[tokio::test]
async fn a_repeat_is_answered_while_the_rate_is_used_up() {
    let settings = RoomSettingsPatch::default();
    let (world, room) = scene(Quota::new(2, WINDOW), settings).await;
    let first = world
        .send("member", &room, keyed("first", "k"))
        .await
        .unwrap();
    world.say("member", &room, "second").await.unwrap();
    for _ in 0..5 {
        let again = world.send("member", &room, keyed("first", "k")).await;
        assert_eq!(again.unwrap(), first);
        let other = world.send("member", &room, keyed("new", "k2")).await;
        assert!(wait(other).is_some());
    }
    // Answers to repeats cost nothing: the next turn comes when it would have come.
    world.clock.advance(WINDOW / 2);
    world
        .send("member", &room, keyed("new", "k2"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_repeat_is_answered_in_slow_mode() {
    let slow = RoomSettingsPatch {
        slow_mode_s: Some(10),
        ..RoomSettingsPatch::default()
    };
    let (world, room) = scene(Quota::UNLIMITED, slow).await;
    let first = world
        .send("member", &room, keyed("first", "k"))
        .await
        .unwrap();
    let again = world.send("member", &room, keyed("first", "k")).await;
    assert_eq!(again.unwrap(), first);
    let other = world.send("member", &room, keyed("new", "k2")).await;
    assert_eq!(wait(other), Some(WINDOW));
    // A repeat that slow mode lets through is no message, and takes no turn.
    world.clock.advance(WINDOW);
    let again = world.send("member", &room, keyed("first", "k")).await;
    assert_eq!(again.unwrap(), first);
    world
        .send("member", &room, keyed("new", "k2"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_repeat_is_answered_while_the_first_is_on_its_way() {
    let slow = RoomSettingsPatch {
        slow_mode_s: Some(10),
        ..RoomSettingsPatch::default()
    };
    let (world, room) = scene(Quota::UNLIMITED, slow).await;
    let held = world.hold_writer().await;
    let first = begun(world.send("member", &room, keyed("first", "k"))).await;
    let again = begun(world.send("member", &room, keyed("first", "k"))).await;
    drop(held);
    assert_eq!(first.await.unwrap(), again.await.unwrap());
}

#[tokio::test]
async fn a_key_opens_no_room() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let first = world.send("member", &room, keyed("first", "k")).await;
    world.enter(&room, &[("member", RoomRole::Guest)]).await;
    // It was said, whatever they may do by now.
    let again = world.send("member", &room, keyed("first", "k")).await;
    assert_eq!(again.unwrap(), first.unwrap());
    let new = world.send("member", &room, keyed("first", "new")).await;
    assert_eq!(code(new), Some(ErrorCode::Forbidden));
    world.rooms.leave(user("member"), &room).await.unwrap();
    let again = world.send("member", &room, keyed("first", "k")).await;
    assert_eq!(code(again), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn a_key_is_kept_for_a_day() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let first = world
        .send("member", &room, keyed("first", "k"))
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(24 * 60 * 60));
    let again = world.send("member", &room, keyed("", "k")).await;
    assert_eq!(again.unwrap(), first);
    world.clock.advance(Duration::from_millis(1));
    let empty = world.send("member", &room, keyed("", "k")).await;
    assert_eq!(code(empty), Some(ErrorCode::InvalidField));
    let said = world.send("member", &room, keyed("again", "k")).await;
    assert_eq!(said.unwrap().seq, first.seq.next());
}

#[tokio::test]
async fn a_refused_message_leaves_its_key_free() {
    let (quota, settings) = unlimited();
    let (world, room) = scene(quota, settings).await;
    let bad = SendMessage {
        reply_to: Some(Seq(999)),
        ..keyed("x", "k")
    };
    let refused = world.send("member", &room, bad).await;
    assert_eq!(code(refused), Some(ErrorCode::InvalidField));
    let refused = world.send("member", &room, keyed("", "k")).await;
    assert_eq!(code(refused), Some(ErrorCode::InvalidField));
    let before = world.head(&room);
    let said = world
        .send("member", &room, keyed("now", "k"))
        .await
        .unwrap();
    assert_eq!(said.seq, before.next());
    let plain = world.send("member", &room, text("now")).await.unwrap();
    assert_eq!(plain.seq, said.seq.next());
}
