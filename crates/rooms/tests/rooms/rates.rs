//! How often: slow mode and the rate of messages.

use std::time::Duration;

use stack_rate::Quota;
use stack_rooms::SendMessage;
use stack_types::{ErrorCode, RoomId, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{World, begun, code, public, text, user, wait};

const SLOW: Duration = Duration::from_secs(10);

fn slow() -> RoomSettingsPatch {
    RoomSettingsPatch {
        slow_mode_s: Some(10),
        ..RoomSettingsPatch::default()
    }
}

fn a_few(messages: u32) -> RoomSettingsPatch {
    RoomSettingsPatch {
        messages_per_10s: Some(messages),
        ..RoomSettingsPatch::default()
    }
}

async fn room(world: &World, name: &str, settings: RoomSettingsPatch) -> RoomId {
    let room = world.room(name, settings).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    world.enter(&room, &[("other", RoomRole::Member)]).await;
    world
        .enter(&room, &[("moderator", RoomRole::Moderator)])
        .await;
    room
}

/// How many messages somebody gets said at once, and how long they are told to wait then.
async fn at_once(world: &World, who: &str, room: &RoomId) -> (usize, Duration) {
    for said in 0..100 {
        let sent = world.say(who, room, "x").await;
        if let Some(wait) = wait(sent) {
            return (said, wait);
        }
    }
    (100, Duration::ZERO)
}

#[tokio::test]
async fn slow_mode_keeps_messages_apart_for_each_member_of_each_room() {
    let world = World::new().await;
    let slow_room = room(&world, "slow", slow()).await;
    let other_room = room(&world, "other-slow", slow()).await;
    assert_eq!(at_once(&world, "member", &slow_room).await, (1, SLOW));
    world.clock.advance(Duration::from_millis(9_999));
    assert_eq!(
        at_once(&world, "member", &slow_room).await,
        (0, Duration::from_millis(1))
    );
    assert_eq!(at_once(&world, "other", &slow_room).await, (1, SLOW));
    assert_eq!(at_once(&world, "member", &other_room).await, (1, SLOW));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(at_once(&world, "member", &slow_room).await, (1, SLOW));
    for exempt in ["moderator", "owner"] {
        assert_eq!(at_once(&world, exempt, &slow_room).await.0, 100);
    }
}

#[tokio::test]
async fn slow_mode_counts_messages_and_nothing_else() {
    let world = World::new().await;
    let room = room(&world, "slow", slow()).await;
    let said = world.say("member", &room, "a slip").await.unwrap().seq;
    for _ in 0..3 {
        world.edit("member", &room, said).await.unwrap();
        world.react("member", &room, said).await.unwrap();
    }
    world.redact("member", &room, said).await.unwrap();
    assert_eq!(at_once(&world, "member", &room).await, (0, SLOW));
    world.clock.advance(SLOW);
    let theirs = world.say("other", &room, "x").await.unwrap().seq;
    world.react("member", &room, theirs).await.unwrap();
    assert_eq!(at_once(&world, "member", &room).await, (1, SLOW));
}

#[tokio::test]
async fn a_message_that_was_refused_gives_its_turn_back() {
    let world = World::new().await;
    let room = room(&world, "slow", slow()).await;
    let invalid = [
        SendMessage {
            reply_to: Some(Seq(999)),
            ..text("answer")
        },
        text(""),
        text(&"x".repeat(16 * 1024 + 1)),
    ];
    for message in invalid {
        assert!(world.send("member", &room, message).await.is_err());
    }
    assert_eq!(at_once(&world, "member", &room).await, (1, SLOW));
    // What slow mode refuses does not make the wait longer.
    world.clock.advance(SLOW);
    assert_eq!(at_once(&world, "member", &room).await, (1, SLOW));
}

#[tokio::test]
async fn a_room_has_a_rate_of_its_own_or_the_servers() {
    let world = World::with(Quota::new(5, SLOW)).await;
    let [few, many, usual] = [
        room(&world, "few", a_few(2)).await,
        room(&world, "many", a_few(20)).await,
        room(&world, "usual", RoomSettingsPatch::default()).await,
    ];
    for (room, burst) in [(&few, 2), (&many, 20), (&usual, 5)] {
        for who in ["member", "moderator"] {
            let (said, wait) = at_once(&world, who, room).await;
            assert_eq!(said, burst as usize, "{who} {room}");
            assert_eq!(wait, SLOW / burst, "{who} {room}");
        }
    }
    world.clock.advance(SLOW / 2);
    assert_eq!(at_once(&world, "member", &few).await.0, 1);
    assert_eq!(at_once(&world, "member", &many).await.0, 10);
    world.clock.advance(SLOW);
    // A change counts from the next message on.
    world.change(&few, a_few(3)).await.unwrap();
    assert_eq!(at_once(&world, "member", &few).await.0, 3);
}

#[tokio::test]
async fn whatever_is_added_to_a_room_has_the_rate() {
    let world = World::with(Quota::new(4, SLOW)).await;
    let room = room(&world, "usual", RoomSettingsPatch::default()).await;
    let said = world.say("member", &room, "x").await.unwrap().seq;
    world.edit("member", &room, said).await.unwrap();
    world.react("member", &room, said).await.unwrap();
    world.redact("member", &room, said).await.unwrap();
    let limited = Some(ErrorCode::RateLimited);
    assert_eq!(code(world.say("member", &room, "x").await), limited);
    assert_eq!(code(world.edit("member", &room, said).await), limited);
    assert_eq!(code(world.react("member", &room, said).await), limited);
    assert_eq!(code(world.redact("member", &room, said).await), limited);
    assert_eq!(
        code(world.rooms.leave(user("member"), &room).await),
        limited
    );
}

#[tokio::test]
async fn coming_and_going_has_the_rate_too() {
    let world = World::with(Quota::new(4, SLOW)).await;
    let room = world.room("general", public()).await;
    let rooms = &world.rooms;
    for _ in 0..2 {
        rooms.join(user("member"), &room).await.unwrap();
        // Who is in already adds nothing.
        rooms.join(user("member"), &room).await.unwrap();
        rooms.leave(user("member"), &room).await.unwrap();
    }
    let joined = rooms.join(user("member"), &room).await;
    assert_eq!(wait(joined), Some(SLOW / 4));
}

#[tokio::test]
async fn without_limits_slow_mode_holds_all_the_same() {
    let world = World::with(Quota::UNLIMITED).await;
    let few = room(&world, "few", a_few(2)).await;
    assert_eq!(at_once(&world, "member", &few).await.0, 100);
    let slow_room = room(&world, "slow", slow()).await;
    assert_eq!(at_once(&world, "member", &slow_room).await, (1, SLOW));
}

#[tokio::test]
async fn a_message_that_the_writer_refused_for_its_sender_gives_its_turn_back() {
    let world = World::new().await;
    let room = room(&world, "slow", slow()).await;
    let held = world.hold_writer().await;
    let demoted = begun(world.put("owner", &room, "member", RoomRole::Guest)).await;
    // Checked as a member's, carried out as a guest's.
    let sending = begun(world.say("member", &room, "late")).await;
    drop(held);
    demoted.await.unwrap();
    assert_eq!(code(sending.await), Some(ErrorCode::Forbidden));
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    assert_eq!(at_once(&world, "member", &room).await, (1, SLOW));
}
