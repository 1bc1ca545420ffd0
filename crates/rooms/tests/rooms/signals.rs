//! Read cursors and typing: what is kept beside the log, and what is told over the bus.

use std::time::Duration;

use serde_json::{Value, json};
use stack_bus::{Bus as _, Prefix, Subscription, Topic};
use stack_rate::Quota;
use stack_types::{ErrorCode, RoomId, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{World, code, fault, user, wait};

async fn scene(messages: Quota) -> (World, RoomId) {
    let world = World::with(messages).await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    for _ in 0..3 {
        world.say("owner", &room, "x").await.unwrap();
    }
    (world, room)
}

fn told(bus: &mut Subscription) -> Vec<(String, Value)> {
    let mut told = Vec::new();
    while let Some(message) = bus.try_recv() {
        for frame in message.frames.iter() {
            let frame = serde_json::from_slice(&frame).unwrap();
            told.push((message.topic.to_string(), frame));
        }
    }
    told
}

#[tokio::test]
async fn a_read_cursor_only_moves_forward_and_only_moves_are_told() {
    let (world, room) = scene(Quota::UNLIMITED).await;
    let member = user("member");
    let mut bus = world
        .bus
        .subscribe(Prefix::Exactly(Topic::user(member)))
        .await
        .unwrap();
    let read = async |seq| world.rooms.read(member, &room, Seq(seq)).await.unwrap();
    let stands = || world.rooms.get(member, &room).unwrap().read_seq;
    assert_eq!(stands(), Seq::ZERO);
    for (seq, stays) in [(0, 0), (3, 3), (1, 3), (3, 3), (0, 3), (5, 5), (4, 5)] {
        read(seq).await;
        assert_eq!(stands(), Seq(stays));
    }
    let frame = |seq| {
        let payload = json!({"room": "general", "user_id": "member", "read_seq": seq});
        (
            "user.member".to_owned(),
            json!({"type": "read", "payload": payload}),
        )
    };
    assert_eq!(told(&mut bus), [frame(3), frame(5)]);
    // It is the reader's own.
    assert_eq!(
        world.rooms.get(user("owner"), &room).unwrap().read_seq,
        Seq::ZERO
    );
    let subscribed = world.read("member", &room, None).unwrap().subscribed;
    assert_eq!(subscribed.answer.read_seq, Seq(5));
    let listed = world.rooms.list(member).await.unwrap();
    assert_eq!(listed[0].read_seq, Seq(5));
}

#[tokio::test]
async fn what_has_not_happened_cannot_be_read() {
    let (world, room) = scene(Quota::UNLIMITED).await;
    let member = user("member");
    let mut bus = world.bus.subscribe(Prefix::users()).await.unwrap();
    let head = world.head(&room);
    for beyond in [head.next(), Seq(u64::MAX)] {
        let read = world.rooms.read(member, &room, beyond).await;
        assert_eq!(
            fault(read),
            Some((ErrorCode::InvalidField, Some("seq".into())))
        );
    }
    assert_eq!(world.rooms.get(member, &room).unwrap().read_seq, Seq::ZERO);
    assert!(told(&mut bus).is_empty());
    world.rooms.read(member, &room, head).await.unwrap();
    assert_eq!(told(&mut bus).len(), 1);
}

#[tokio::test]
async fn typing_is_told_to_the_room_and_stands_in_no_log() {
    let (world, room) = scene(Quota::UNLIMITED).await;
    let mut bus = world
        .bus
        .subscribe(Prefix::Exactly(Topic::presence(&room)))
        .await
        .unwrap();
    let reader = world.read("owner", &room, None).unwrap();
    let head = world.head(&room);
    world.rooms.typing(user("member"), &room, true).unwrap();
    world.rooms.typing(user("member"), &room, false).unwrap();
    let frame = |on| {
        let payload = json!({"room": "general", "user_id": "member", "on": on});
        json!({"type": "typing", "payload": payload})
    };
    let topic = || "presence.general".to_owned();
    assert_eq!(
        told(&mut bus),
        [(topic(), frame(true)), (topic(), frame(false))]
    );
    reader.tap.until(|told| *told == frame(false)).await;
    assert_eq!(reader.tap.frames(), [frame(true), frame(false)]);
    assert_eq!(world.head(&room), head);
    // Who may not speak is not heard.
    let refused = world.rooms.typing(user("nobody"), &room, true);
    assert_eq!(code(refused), Some(ErrorCode::NotFound));
    assert!(told(&mut bus).is_empty());
}

#[tokio::test]
async fn typing_has_a_rate_of_its_own_for_each_room() {
    let (world, room) = scene(Quota::new(10, Duration::from_secs(10))).await;
    let other = world.room("other", RoomSettingsPatch::default()).await;
    let mut bus = world.bus.subscribe(Prefix::presences()).await.unwrap();
    let owner = user("owner");
    let third = Duration::from_secs(10) / 30;
    for _ in 0..30 {
        world.rooms.typing(owner, &room, true).unwrap();
    }
    let refused = wait(world.rooms.typing(owner, &room, true)).unwrap();
    assert!(refused <= third + Duration::from_millis(1) && !refused.is_zero());
    assert_eq!(told(&mut bus).len(), 30);
    world.rooms.typing(owner, &other, true).unwrap();
    world.rooms.typing(user("member"), &room, true).unwrap();
    world
        .say("owner", &room, "typing takes no turn")
        .await
        .unwrap();
    world.clock.advance(refused);
    world.rooms.typing(owner, &room, true).unwrap();
}

#[tokio::test]
async fn without_limits_typing_has_none() {
    let (world, room) = scene(Quota::UNLIMITED).await;
    for _ in 0..100 {
        world.rooms.typing(user("member"), &room, true).unwrap();
    }
}
