//! Coming in, going, and roles.

use std::time::Duration;

use stack_types::{ErrorCode, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{START, World, begun, code, public, user};

async fn roles(world: &World, room: &stack_types::RoomId) -> Vec<(String, RoomRole)> {
    let members = world.rooms.members(user("owner"), room).unwrap();
    members
        .into_iter()
        .map(|member| (member.user.id.to_string(), member.role))
        .collect()
}

#[tokio::test]
async fn joining_again_answers_as_the_first_time_and_says_nothing() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    world
        .enter(&room, &[("moderator", RoomRole::Moderator)])
        .await;
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    let rooms = &world.rooms;
    for _ in 0..2 {
        let role = rooms.join(user("member"), &room).await.unwrap();
        assert_eq!(role, RoomRole::Member);
        assert_eq!(world.head(&room), Seq(4));
    }
    let put = world.put("member", &room, "member", RoomRole::Member).await;
    assert_eq!(put.unwrap(), RoomRole::Member);
    // Who is more, or less, stays so.
    for (who, role) in [
        ("owner", RoomRole::Owner),
        ("moderator", RoomRole::Moderator),
        ("guest", RoomRole::Guest),
    ] {
        assert_eq!(rooms.join(user(who), &room).await.unwrap(), role);
    }
    let put = world.put("guest", &room, "guest", RoomRole::Member).await;
    assert_eq!(put.unwrap(), RoomRole::Guest);
    assert_eq!(world.head(&room), Seq(4));
}

#[tokio::test]
async fn two_joins_at_once_are_one() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let held = world.hold_writer().await;
    let first = begun(world.rooms.join(user("member"), &room)).await;
    let second = begun(world.rooms.join(user("member"), &room)).await;
    drop(held);
    assert_eq!(first.await.unwrap(), RoomRole::Member);
    assert_eq!(second.await.unwrap(), RoomRole::Member);
    assert_eq!(world.head(&room), Seq(2));
}

#[tokio::test]
async fn what_happens_to_members_stands_in_the_log() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let rooms = &world.rooms;
    rooms.join(user("member"), &room).await.unwrap();
    world.enter(&room, &[("other", RoomRole::Guest)]).await;
    world.enter(&room, &[("other", RoomRole::Moderator)]).await;
    world.enter(&room, &[("other", RoomRole::Moderator)]).await;
    rooms.leave(user("member"), &room).await.unwrap();
    rooms
        .remove_member(user("owner"), &room, user("other"))
        .await
        .unwrap();
    world.ban("owner", &room, "other").await.unwrap();
    rooms
        .unban(user("owner"), &room, user("other"))
        .await
        .unwrap();
    let told: Vec<_> = world.log(&room).await[1..]
        .iter()
        .map(|event| {
            assert_eq!(event["type"], "member");
            let field = |name: &str| event["payload"][name].as_str().unwrap_or("").to_owned();
            [
                field("action"),
                field("sender"),
                field("user_id"),
                field("role"),
            ]
            .join(" ")
        })
        .collect();
    let expected = [
        "joined member member member",
        "joined owner other guest",
        "role owner other moderator",
        "left member member ",
        "removed owner other ",
        "banned owner other ",
        "unbanned owner other ",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn the_last_owner_stays() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let rooms = &world.rooms;
    let last = Some(ErrorCode::Conflict);
    for _ in 0..2 {
        assert_eq!(code(rooms.leave(user("owner"), &room).await), last);
        let removed = rooms
            .remove_member(user("owner"), &room, user("owner"))
            .await;
        assert_eq!(code(removed), last);
        for role in [RoomRole::Guest, RoomRole::Member, RoomRole::Moderator] {
            let put = world.put("owner", &room, "owner", role).await;
            assert_eq!(code(put), last, "{role:?}");
        }
        // A moderator does not count.
        world
            .enter(&room, &[("moderator", RoomRole::Moderator)])
            .await;
    }
    let own = world.ban("owner", &room, "owner").await;
    assert_eq!(code(own), Some(ErrorCode::Forbidden));
    assert_eq!(world.head(&room), Seq(2));

    world.enter(&room, &[("coowner", RoomRole::Owner)]).await;
    rooms.leave(user("owner"), &room).await.unwrap();
    assert_eq!(code(rooms.leave(user("coowner"), &room).await), last);
}

#[tokio::test]
async fn two_owners_who_go_at_once_do_not_both_go() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    world.enter(&room, &[("coowner", RoomRole::Owner)]).await;
    let held = world.hold_writer().await;
    let first = begun(world.rooms.leave(user("owner"), &room)).await;
    let second = begun(world.rooms.leave(user("coowner"), &room)).await;
    let third = begun(world.put("coowner", &room, "coowner", RoomRole::Guest)).await;
    drop(held);
    first.await.unwrap();
    assert_eq!(code(second.await), Some(ErrorCode::Conflict));
    assert_eq!(code(third.await), Some(ErrorCode::Conflict));
}

#[tokio::test]
async fn people_are_listed_in_the_order_they_came() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    for who in ["other", "guest", "member"] {
        world.clock.advance(Duration::from_secs(1));
        world.enter(&room, &[(who, RoomRole::Member)]).await;
    }
    world.clock.advance(Duration::from_secs(1));
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    let expected = [
        ("owner".to_owned(), RoomRole::Owner),
        ("other".to_owned(), RoomRole::Member),
        ("guest".to_owned(), RoomRole::Guest),
        ("member".to_owned(), RoomRole::Member),
    ];
    assert_eq!(roles(&world, &room).await, expected);
    let members = world.rooms.members(user("member"), &room).unwrap();
    let since: Vec<_> = members.iter().map(|m| m.joined_at.since(START)).collect();
    assert_eq!(since, [0, 1, 2, 3].map(Duration::from_secs));
}

#[tokio::test]
async fn who_is_not_there_is_not_found() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let rooms = &world.rooms;
    let not_found = Some(ErrorCode::NotFound);
    let put = world
        .put("owner", &room, "stranger", RoomRole::Member)
        .await;
    assert_eq!(code(put), not_found);
    assert_eq!(code(world.ban("owner", &room, "stranger").await), not_found);
    for who in ["stranger", "member"] {
        let removed = rooms.remove_member(user("owner"), &room, user(who)).await;
        assert_eq!(code(removed), not_found, "{who}");
        let lifted = rooms.unban(user("owner"), &room, user(who)).await;
        assert_eq!(code(lifted), not_found, "{who}");
    }
    assert_eq!(world.head(&room), Seq(1));
}
