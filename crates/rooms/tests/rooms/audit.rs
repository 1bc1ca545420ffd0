//! What goes on record of what is done in rooms, and what mutes do.

use stack_rooms::{Actor, NewBan};
use stack_types::{ErrorCode, GlobalRole, Problem, RoomId, RoomRole, RoomSettingsPatch};

use crate::support::{World, begun, code, keyed, public, user};

/// What stands in the log of what `owner` did, oldest first: actions and targets.
async fn on_record(world: &World) -> Vec<(String, String)> {
    let mut records = world.store.list_audit(None, 100).await.unwrap();
    records.reverse();
    let done = records
        .into_iter()
        .filter(|record| record.actor == Some(user("owner")));
    done.map(|record| (record.action, record.target.unwrap_or_default()))
        .collect()
}

async fn mute(world: &World, by: &str, room: &RoomId, who: &str) -> Result<(), Problem> {
    let muted = world
        .rooms
        .mute(user(by), room, user(who), NewBan::default());
    muted.await.map(drop)
}

async fn make_admin(world: &World, who: &str) {
    let entry = stack_storage::AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action: stack_storage::AuditAction::RoleChanged,
        target: None,
        outcome: stack_storage::AuditOutcome::Ok,
    };
    let made = world.store.set_role(user(who), GlobalRole::Admin, entry);
    made.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_act_is_on_record_although_nobody_waits_for_it() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let rooms = &world.rooms;
    let by = || Actor {
        ip: "192.0.2.1".to_owned(),
        ..user("owner").into()
    };
    let held = world.hold_writer().await;
    drop(begun(rooms.mute(by(), &room, user("member"), NewBan::default())).await);
    drop(begun(rooms.unmute(by(), &room, user("member"))).await);
    drop(begun(rooms.ban(by(), &room, user("member"), NewBan::default())).await);
    drop(begun(rooms.unban(by(), &room, user("member"))).await);
    drop(held);
    // Behind them all.
    world.say("owner", &room, "hello").await.unwrap();
    let done = on_record(&world).await;
    let actions: Vec<_> = done.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["muted", "unmuted", "banned", "unbanned"]);
    assert!(done.iter().all(|(_, target)| target == "member general"));
    let newest = world.store.list_audit(None, 1).await.unwrap().remove(0);
    assert_eq!(newest.ip, "192.0.2.1");
}

#[tokio::test]
async fn power_over_a_room_and_its_end_are_on_record() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    let members = [("member", RoomRole::Member), ("other", RoomRole::Member)];
    world.enter(&room, &members).await;
    assert_eq!(on_record(&world).await, []);
    let owner = user("owner");
    world.enter(&room, &[("coowner", RoomRole::Owner)]).await;
    world.enter(&room, &[("coowner", RoomRole::Guest)]).await;
    let rooms = &world.rooms;
    rooms
        .remove_member(owner, &room, user("other"))
        .await
        .unwrap();
    world.change(&room, public()).await.unwrap();
    // Nothing is opened that is open.
    world.change(&room, public()).await.unwrap();
    // What a room keeps of its past: an owner may let go of all of it.
    let less = |days, messages| RoomSettingsPatch {
        retention_days: days,
        retention_messages: messages,
        ..RoomSettingsPatch::default()
    };
    world.change(&room, less(Some(7), Some(0))).await.unwrap();
    world.change(&room, less(None, Some(1))).await.unwrap();
    world.change(&room, less(Some(7), None)).await.unwrap();
    world.change(&room, less(Some(0), Some(0))).await.unwrap();
    rooms.delete(owner, &room).await.unwrap();
    let refused = rooms.delete(owner, &room).await;
    assert_eq!(code(refused), Some(ErrorCode::NotFound));
    let expected = [
        ("room_role_changed", "coowner general owner"),
        ("room_role_changed", "coowner general guest"),
        ("member_removed", "other general"),
        ("room_made_public", "general"),
        ("room_retention_changed", "general 7 0"),
        ("room_retention_changed", "general 7 1"),
        ("room_retention_changed", "general 0 0"),
        ("room_deleted", "general"),
    ];
    let expected = expected.map(|(action, target)| (action.to_owned(), target.to_owned()));
    assert_eq!(on_record(&world).await, expected);
}

#[tokio::test]
async fn a_refused_act_leaves_no_record_of_one() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world
        .enter(&room, &[("moderator", RoomRole::Moderator)])
        .await;
    let before = world.store.list_audit(None, 100).await.unwrap();
    let refused = mute(&world, "moderator", &room, "owner").await;
    assert_eq!(code(refused), Some(ErrorCode::Forbidden));
    assert_eq!(world.store.list_audit(None, 100).await.unwrap(), before);
}

#[tokio::test]
async fn a_mute_by_an_owner_holds_for_a_moderator() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    let people = [
        ("moderator", RoomRole::Moderator),
        ("second", RoomRole::Moderator),
        ("coowner", RoomRole::Owner),
    ];
    world.enter(&room, &people).await;
    let forbidden = Some(ErrorCode::Forbidden);
    // Neither moderators nor owners are muted by their like.
    assert_eq!(
        code(mute(&world, "second", &room, "moderator").await),
        forbidden
    );
    assert_eq!(
        code(mute(&world, "owner", &room, "coowner").await),
        forbidden
    );
    mute(&world, "owner", &room, "moderator").await.unwrap();
    assert_eq!(code(world.say("moderator", &room, "but").await), forbidden);
    let lifted = world
        .rooms
        .unmute(user("moderator"), &room, user("moderator"))
        .await;
    assert_eq!(code(lifted), forbidden);
}

#[tokio::test]
async fn the_muted_take_back_what_they_said_and_are_told_of_it() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let first = keyed("hello", "k");
    let said = world.send("member", &room, first.clone()).await.unwrap();
    let others = world.say("owner", &room, "theirs").await.unwrap();
    mute(&world, "owner", &room, "member").await.unwrap();
    let again = world.send("member", &room, first.clone()).await.unwrap();
    assert_eq!(again, said);
    let forbidden = Some(ErrorCode::Forbidden);
    let new = world.send("member", &room, keyed("hello", "other")).await;
    assert_eq!(code(new), forbidden);
    assert_eq!(code(world.edit("member", &room, said.seq).await), forbidden);
    assert_eq!(
        code(world.redact("member", &room, others.seq).await),
        forbidden
    );
    world.redact("member", &room, said.seq).await.unwrap();

    // The mute came while the repeat was on its way.
    let held = world.hold_writer().await;
    let unmuted = begun(world.rooms.unmute(user("owner"), &room, user("member"))).await;
    drop(held);
    unmuted.await.unwrap();
    let held = world.hold_writer().await;
    let muted = begun(mute(&world, "owner", &room, "member")).await;
    let again = begun(world.send("member", &room, first.clone())).await;
    drop(held);
    muted.await.unwrap();
    assert_eq!(again.await.unwrap(), said);
}

#[tokio::test]
async fn a_repeat_tells_nothing_of_a_room_that_is_hidden() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let first = keyed("hello", "k");
    world.send("member", &room, first.clone()).await.unwrap();
    let removed = world
        .rooms
        .remove_member(user("owner"), &room, user("member"));
    removed.await.unwrap();
    let again = world.send("member", &room, first).await;
    assert_eq!(code(again), Some(ErrorCode::NotFound));
}

#[tokio::test]
async fn admins_of_the_server_redact_in_public_rooms_only() {
    let world = World::new().await;
    let open = world.room("open", public()).await;
    let closed = world.room("closed", RoomSettingsPatch::default()).await;
    let said = world.say("owner", &open, "theirs").await.unwrap();
    let hidden = world.say("owner", &closed, "theirs").await.unwrap();
    let early = world.redact("nobody", &open, said.seq).await;
    assert_eq!(code(early), Some(ErrorCode::Forbidden));
    make_admin(&world, "nobody").await;
    world.redact("nobody", &open, said.seq).await.unwrap();
    let refused = world.redact("nobody", &closed, hidden.seq).await;
    assert_eq!(code(refused), Some(ErrorCode::NotFound));
}
