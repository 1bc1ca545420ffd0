//! Bans: who is out, until when, and who may say otherwise.

use std::time::Duration;

use stack_rooms::NewBan;
use stack_types::{ErrorCode, RoomId, RoomRole, RoomSettingsPatch, Timestamp};

use crate::support::{START, World, code, fault, open, public, user};

async fn ban_until(world: &World, room: &RoomId, who: &str, until: Timestamp) {
    let ban = NewBan {
        reason: Some("noise".into()),
        expires_at: Some(until),
    };
    let banned = world.rooms.ban(user("owner"), room, user(who), ban).await;
    let banned = banned.unwrap();
    assert_eq!(banned.expires_at, Some(until));
    assert_eq!(banned.reason.as_deref(), Some("noise"));
    assert_eq!((banned.user_id, banned.by), (user(who), user("owner")));
}

#[tokio::test]
async fn a_ban_holds_until_its_end_and_not_a_moment_longer() {
    let world = World::new().await;
    let room = world.room("general", open()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let until = START.plus(Duration::from_secs(60));
    ban_until(&world, &room, "member", until).await;
    let rooms = &world.rooms;
    assert!(rooms.get(user("member"), &room).unwrap().role.is_none());

    world.clock.set(Timestamp(until.0 - 1));
    let forbidden = Some(ErrorCode::Forbidden);
    assert_eq!(code(rooms.join(user("member"), &room).await), forbidden);
    assert_eq!(code(rooms.may_read(user("member"), &room)), forbidden);
    assert_eq!(code(world.say("member", &room, "x").await), forbidden);
    assert_eq!(rooms.bans(user("owner"), &room).unwrap().len(), 1);
    let put = world.put("owner", &room, "member", RoomRole::Member).await;
    assert_eq!(code(put), Some(ErrorCode::Conflict));

    world.clock.set(until);
    rooms.may_read(user("member"), &room).unwrap();
    assert!(rooms.bans(user("owner"), &room).unwrap().is_empty());
    let lifted = rooms.unban(user("owner"), &room, user("member")).await;
    assert_eq!(code(lifted), Some(ErrorCode::NotFound));
    rooms.join(user("member"), &room).await.unwrap();
    world.say("member", &room, "back").await.unwrap();
}

#[tokio::test]
async fn a_banned_person_of_a_private_room_is_outside_and_stays_outside() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world.ban("owner", &room, "member").await.unwrap();
    let put = world.put("owner", &room, "member", RoomRole::Guest).await;
    assert_eq!(code(put), Some(ErrorCode::Conflict));
    let seen = world.rooms.get(user("member"), &room);
    assert_eq!(code(seen), Some(ErrorCode::NotFound));
    let owner = user("owner");
    world
        .rooms
        .unban(owner, &room, user("member"))
        .await
        .unwrap();
    world
        .put("owner", &room, "member", RoomRole::Guest)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_moderator_does_not_shorten_an_owners_ban() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    world
        .enter(&room, &[("moderator", RoomRole::Moderator)])
        .await;
    world.enter(&room, &[("second", RoomRole::Moderator)]).await;
    let rooms = &world.rooms;
    let short = || NewBan {
        reason: None,
        expires_at: Some(START.plus(Duration::from_millis(1))),
    };
    let until = START.plus(Duration::from_secs(60));
    ban_until(&world, &room, "member", until).await;
    let moderator = user("moderator");
    let again = rooms.ban(moderator, &room, user("member"), short()).await;
    assert_eq!(code(again), Some(ErrorCode::Forbidden));
    let lifted = rooms.unban(moderator, &room, user("member")).await;
    assert_eq!(code(lifted), Some(ErrorCode::Forbidden));
    let bans = rooms.bans(moderator, &room).unwrap();
    assert_eq!(
        (bans[0].by, bans[0].expires_at),
        (user("owner"), Some(until))
    );

    // Once it is over it is nobody's any more.
    world.clock.set(until);
    world.ban("moderator", &room, "member").await.unwrap();
    // Another moderator's may be lifted and put anew, and an owner has the last word.
    world.ban("second", &room, "member").await.unwrap();
    assert_eq!(rooms.bans(moderator, &room).unwrap()[0].by, user("second"));
    world.ban("owner", &room, "member").await.unwrap();
    let lifted = rooms.unban(moderator, &room, user("member")).await;
    assert_eq!(code(lifted), Some(ErrorCode::Forbidden));
    rooms
        .unban(user("owner"), &room, user("member"))
        .await
        .unwrap();
}

#[tokio::test]
async fn bans_are_listed_oldest_first_with_what_is_known_of_them() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    for who in ["other", "barred", "member"] {
        world.clock.advance(Duration::from_secs(1));
        world.ban("owner", &room, who).await.unwrap();
    }
    let bans = world.rooms.bans(user("owner"), &room).unwrap();
    let listed: Vec<_> = bans
        .iter()
        .map(|ban| (ban.user_id, ban.created_at.since(START).as_secs()))
        .collect();
    assert_eq!(
        listed,
        [(user("other"), 1), (user("barred"), 2), (user("member"), 3)]
    );
}

#[tokio::test]
async fn what_a_ban_says_is_looked_at() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let ban = async |reason: usize, expires_at| {
        let ban = NewBan {
            reason: Some("r".repeat(reason)),
            expires_at,
        };
        let owner = user("owner");
        let banned = world.rooms.ban(owner, &room, user("member"), ban).await;
        fault(banned)
    };
    let invalid = |field: &str| Some((ErrorCode::InvalidField, Some(field.to_owned())));
    assert_eq!(ban(501, None).await, invalid("reason"));
    assert_eq!(ban(1, Some(START)).await, invalid("expires_at"));
    assert_eq!(ban(1, Some(Timestamp(1))).await, invalid("expires_at"));
    assert!(world.rooms.bans(user("owner"), &room).unwrap().is_empty());
    assert_eq!(ban(500, Some(Timestamp(START.0 + 1))).await, None);
}
