//! What ends a subscription, and that it ends with the commit: nobody has to wait for the answer.

use stack_types::{ErrorCode, RoomId, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{Reader, World, begun, code, open, public, user};

struct Scene {
    world: World,
    room: RoomId,
    owner: Reader,
    member: Reader,
    passer: Reader,
}

/// A room with a member and somebody who only looks in, who all read it live.
async fn scene() -> Scene {
    let world = World::new().await;
    let room = world.room("general", open()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    let [owner, member, passer] =
        ["owner", "member", "nobody"].map(|who| world.read(who, &room, None).unwrap());
    Scene {
        world,
        room,
        owner,
        member,
        passer,
    }
}

impl Scene {
    /// Says something that everybody left gets, and checks that a reader got `reason` and nothing behind it.
    async fn is_over(&self, reader: &Reader, reason: &str) {
        assert!(reader.subscription.is_over());
        let last = self.world.say("owner", &self.room, "after").await.unwrap();
        self.owner.tap.until_seq(last.seq).await;
        told(reader, reason);
    }
}

/// Checks that the end, with its reason, is the last that a reader was told, and the only such thing.
fn told(reader: &Reader, reason: &str) {
    let frames = reader.tap.frames();
    let ends = frames
        .iter()
        .filter(|frame| frame["type"] == "unsubscribed");
    assert_eq!(ends.count(), 1);
    let last = frames.last().unwrap();
    assert_eq!(last["type"], "unsubscribed");
    assert_eq!(last["payload"]["room"], "general");
    assert_eq!(last["payload"]["reason"], reason);
}

/// Begins an operation, drops it while it waits for the writer, and waits for something behind it.
macro_rules! abandoned {
    ($scene:expr, $operation:expr) => {{
        let held = $scene.world.hold_writer().await;
        drop(begun($operation).await);
        drop(held);
        let side = RoomSettingsPatch::default();
        $scene.world.room("behind", side).await;
    }};
}

#[tokio::test]
async fn a_removal_that_nobody_awaits_ends_the_subscription() {
    let scene = scene().await;
    let (owner, member) = (user("owner"), user("member"));
    abandoned!(
        scene,
        scene.world.rooms.remove_member(owner, &scene.room, member)
    );
    scene.is_over(&scene.member, "removed").await;
    assert!(!scene.passer.subscription.is_over());
}

#[tokio::test]
async fn a_ban_that_nobody_awaits_ends_the_subscription_of_members_and_guests() {
    let scene = scene().await;
    abandoned!(scene, scene.world.ban("owner", &scene.room, "member"));
    scene.is_over(&scene.member, "banned").await;
    let ban = stack_rooms::NewBan::default();
    let (owner, nobody) = (user("owner"), user("nobody"));
    let banned = scene.world.rooms.ban(owner, &scene.room, nobody, ban);
    banned.await.unwrap();
    scene.is_over(&scene.passer, "banned").await;
}

#[tokio::test]
async fn a_change_that_nobody_awaits_ends_the_subscriptions_of_guests_alone() {
    let closed = RoomSettingsPatch {
        allow_guests: Some(false),
        ..RoomSettingsPatch::default()
    };
    let private = RoomSettingsPatch {
        public: Some(false),
        ..RoomSettingsPatch::default()
    };
    for settings in [closed, private] {
        let scene = scene().await;
        let guest = scene.world.read("guest", &scene.room, None).unwrap();
        abandoned!(scene, scene.world.change(&scene.room, settings));
        scene.is_over(&scene.passer, "private").await;
        for stays in [&scene.owner, &scene.member, &guest] {
            assert!(!stays.subscription.is_over());
            let last = scene.world.head(&scene.room);
            stays.tap.until_seq(last).await;
            let event = stays.tap.frames()[0].clone();
            assert_eq!(event["payload"]["action"], "changed");
        }
        let again = scene.world.read("nobody", &scene.room, None);
        let expected = if settings.public.is_some() {
            ErrorCode::NotFound
        } else {
            ErrorCode::Forbidden
        };
        assert_eq!(code(again), Some(expected));
    }
}

#[tokio::test]
async fn a_deletion_that_nobody_awaits_ends_everybody() {
    let scene = scene().await;
    let said = scene.world.say("member", &scene.room, "x").await.unwrap();
    for reader in [&scene.owner, &scene.member, &scene.passer] {
        reader.tap.until_seq(said.seq).await;
    }
    abandoned!(scene, scene.world.rooms.delete(user("owner"), &scene.room));
    for reader in [&scene.owner, &scene.member, &scene.passer] {
        assert!(reader.subscription.is_over());
        reader
            .tap
            .until(|frame| frame["type"] == "unsubscribed")
            .await;
        told(reader, "deleted");
    }
}

#[tokio::test]
async fn leaving_ends_ones_own_subscriptions_and_no_others() {
    let scene = scene().await;
    let second = scene.world.read("member", &scene.room, None).unwrap();
    let leaving = scene.world.rooms.leave(user("member"), &scene.room);
    abandoned!(scene, leaving);
    scene.is_over(&scene.member, "left").await;
    scene.is_over(&second, "left").await;
    assert!(!scene.passer.subscription.is_over());
}

#[tokio::test]
async fn what_was_refused_ends_nothing() {
    let scene = scene().await;
    let (world, room) = (&scene.world, &scene.room);
    let removed = world
        .rooms
        .remove_member(user("member"), room, user("owner"));
    assert_eq!(code(removed.await), Some(ErrorCode::Forbidden));
    let banned = world.ban("member", room, "nobody").await;
    assert_eq!(code(banned), Some(ErrorCode::Forbidden));
    let left = world.rooms.leave(user("owner"), room).await;
    assert_eq!(code(left), Some(ErrorCode::Conflict));
    // The same refusals, from the writer: the member was a moderator when it was asked.
    world.enter(room, &[("member", RoomRole::Moderator)]).await;
    let held = world.hold_writer().await;
    let demoted = begun(world.put("owner", room, "member", RoomRole::Member)).await;
    let banned = begun(world.ban("member", room, "nobody")).await;
    drop(held);
    demoted.await.unwrap();
    assert_eq!(code(banned.await), Some(ErrorCode::Forbidden));
    for reader in [&scene.owner, &scene.member, &scene.passer] {
        assert!(!reader.subscription.is_over());
    }
}

#[tokio::test]
async fn a_room_that_opens_or_changes_its_title_ends_nothing() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    let guest = world.read("guest", &room, None).unwrap();
    world.change(&room, open()).await.unwrap();
    let passer = world.read("nobody", &room, None).unwrap();
    let patch = stack_rooms::RoomPatch {
        title: Some("Anything".into()),
        ..Default::default()
    };
    let changed = world.rooms.change(user("owner"), &room, patch).await;
    assert_eq!(changed.unwrap().title, "Anything");
    assert!(!guest.subscription.is_over() && !passer.subscription.is_over());
    passer.tap.until_seq(Seq(4)).await;
}

#[tokio::test]
async fn a_deleted_room_is_not_found_and_its_messages_with_it() {
    let world = World::new().await;
    let room = world.room("general", open()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let said = world.say("member", &room, "x").await.unwrap().seq;
    let held = world.hold_writer().await;
    let deleted = begun(world.rooms.delete(user("owner"), &room)).await;
    // Checked before the deletion, carried out behind it.
    let sending = begun(world.say("member", &room, "late")).await;
    let joining = begun(world.rooms.join(user("nobody"), &room)).await;
    let again = begun(world.rooms.delete(user("owner"), &room)).await;
    drop(held);
    deleted.await.unwrap();
    let not_found = Some(ErrorCode::NotFound);
    assert_eq!(code(sending.await), not_found);
    assert_eq!(code(joining.await), not_found);
    assert_eq!(code(again.await), not_found);
    assert_eq!(code(world.rooms.get(user("owner"), &room)), not_found);
    assert_eq!(code(world.read("member", &room, None)), not_found);
    assert_eq!(code(world.edit("member", &room, said).await), not_found);
    assert_eq!(code(world.change(&room, public()).await), not_found);
    assert_eq!(
        code(world.rooms.join(user("nobody"), &room).await),
        not_found
    );
    assert!(world.rooms.list(user("member")).await.unwrap().is_empty());
}
