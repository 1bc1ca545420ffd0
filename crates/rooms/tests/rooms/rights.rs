//! Who may do what: every operation, by everybody that somebody can be to a room.

use stack_delivery::Outlet;
use stack_rooms::{NewBan, PageQuery, RoomPatch};
use stack_types::{ErrorCode, Problem, RoomId, RoomRole, RoomSettingsPatch, Seq};

use crate::support::{Tap, World, begun, code, id, open, public, text, user};

/// Who tries: the name, and the settings of the room they try it in. Everybody was a member once and has said
/// something.
const STANDINGS: [(&str, Kind); 9] = [
    ("nobody", Kind::Private),
    ("barred", Kind::Private),
    ("barred", Kind::Open),
    ("nobody", Kind::Public),
    ("nobody", Kind::Open),
    ("guest", Kind::Private),
    ("member", Kind::Private),
    ("moderator", Kind::Private),
    ("owner", Kind::Private),
];

#[derive(Clone, Copy)]
enum Kind {
    Private,
    Public,
    Open,
}

/// What is answered, in the order of the standings: outsider, banned from a private room, banned, visitor, guest by
/// the room's settings, guest, member, moderator, owner. `.` is done, `n` not found, `f` forbidden.
const TABLE: [(&str, &str); 38] = [
    ("see", "nn......."),
    ("join", "nnf......"),
    ("leave", "nnnnn...."),
    ("read", "nnff....."),
    ("may read", "nnff....."),
    ("subscribe", "nnff....."),
    ("read cursor", "nnff....."),
    ("members", "nnff....."),
    ("send", "nnffff..."),
    ("typing", "nnffff..."),
    ("react", "nnffff..."),
    ("edit own", "nnffff..."),
    ("edit other's", "nnfffffff"),
    ("redact own", "nnffff..."),
    ("redact other's", "nnfffff.."),
    ("see bans", "nnfffff.."),
    ("add member", "nnfffff.."),
    ("add guest", "nnfffff.."),
    ("add moderator", "nnffffff."),
    ("add owner", "nnffffff."),
    ("make guest of member", "nnfffff.."),
    ("make moderator of member", "nnffffff."),
    ("make owner of member", "nnffffff."),
    ("make member of moderator", "nnffffff."),
    ("make member of owner", "nnffffff."),
    ("remove guest", "nnfffff.."),
    ("remove member", "nnfffff.."),
    ("remove moderator", "nnffffff."),
    ("remove owner", "nnffffff."),
    ("ban outsider", "nnfffff.."),
    ("ban member", "nnfffff.."),
    ("ban moderator", "nnffffff."),
    ("ban owner", "nnffffff."),
    ("overwrite owner's ban", "nnffffff."),
    ("lift moderator's ban", "nnfffff.."),
    ("lift owner's ban", "nnffffff."),
    ("change", "nnffffff."),
    ("delete", "nnffffff."),
];

/// A room with everybody in it, or out of it, and what `who` and the member `other` have said there.
async fn furnished(world: &World, name: &str, kind: Kind, who: &str) -> (RoomId, Seq, Seq) {
    let room = world.room(name, RoomSettingsPatch::default()).await;
    let roles = [
        ("coowner", RoomRole::Owner),
        ("moderator", RoomRole::Moderator),
        ("second", RoomRole::Moderator),
        ("member", RoomRole::Member),
        ("other", RoomRole::Member),
        ("guest", RoomRole::Member),
        ("nobody", RoomRole::Member),
        ("barred", RoomRole::Member),
    ];
    world.enter(&room, &roles).await;
    let own = world.say(who, &room, "mine").await.unwrap().seq;
    let others = world.say("other", &room, "theirs").await.unwrap().seq;
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    world
        .rooms
        .remove_member(user("owner"), &room, user("nobody"))
        .await
        .unwrap();
    world.ban("owner", &room, "barred").await.unwrap();
    let settings = match kind {
        Kind::Private => RoomSettingsPatch::default(),
        Kind::Public => public(),
        Kind::Open => open(),
    };
    world.change(&room, settings).await.unwrap();
    (room, own, others)
}

async fn attempt(
    world: &World,
    who: &str,
    what: &str,
    (room, own, others): (RoomId, Seq, Seq),
) -> Result<(), Problem> {
    let (rooms, actor, room) = (&world.rooms, user(who), &room);
    let put = async |whom: &str, role| world.put(who, room, whom, role).await.map(drop);
    let remove = async |whom: &str| rooms.remove_member(actor, room, user(whom)).await;
    match what {
        "see" => rooms.get(actor, room).map(drop),
        "join" => rooms.join(actor, room).await.map(drop),
        "leave" => rooms.leave(actor, room).await,
        "read" => rooms
            .history(actor, room, PageQuery::default())
            .await
            .map(drop),
        "may read" => rooms.may_read(actor, room),
        "subscribe" => {
            let outlet = Outlet::new(Tap::default());
            rooms.subscribe(actor, room, None, &outlet, None).map(drop)
        }
        "read cursor" => rooms.read(actor, room, own).await,
        "members" => rooms.members(actor, room).map(drop),
        "send" => world.say(who, room, "hello").await.map(drop),
        "typing" => rooms.typing(actor, room, true),
        "react" => world.react(who, room, others).await.map(drop),
        "edit own" => world.edit(who, room, own).await.map(drop),
        "edit other's" => world.edit(who, room, others).await.map(drop),
        "redact own" => world.redact(who, room, own).await.map(drop),
        "redact other's" => world.redact(who, room, others).await.map(drop),
        "see bans" => rooms.bans(actor, room).map(drop),
        "add member" => put("newcomer", RoomRole::Member).await,
        "add guest" => put("newcomer", RoomRole::Guest).await,
        "add moderator" => put("newcomer", RoomRole::Moderator).await,
        "add owner" => put("newcomer", RoomRole::Owner).await,
        "make guest of member" => put("other", RoomRole::Guest).await,
        "make moderator of member" => put("other", RoomRole::Moderator).await,
        "make owner of member" => put("other", RoomRole::Owner).await,
        "make member of moderator" => put("second", RoomRole::Member).await,
        "make member of owner" => put("coowner", RoomRole::Member).await,
        "remove guest" if who == "guest" => {
            // Removing oneself is leaving; whom a guest may not remove is another guest.
            world
                .put("owner", room, "newcomer", RoomRole::Guest)
                .await?;
            remove("newcomer").await
        }
        "remove guest" => remove("guest").await,
        "remove member" => remove("other").await,
        "remove moderator" => remove("second").await,
        "remove owner" => remove("coowner").await,
        "ban outsider" => world.ban(who, room, "newcomer").await,
        "ban member" => world.ban(who, room, "other").await,
        "ban moderator" => world.ban(who, room, "second").await,
        "ban owner" => world.ban(who, room, "coowner").await,
        "overwrite owner's ban" => {
            world.ban("owner", room, "newcomer").await?;
            let ban = NewBan {
                reason: Some("mine now".into()),
                expires_at: None,
            };
            let banned = rooms.ban(actor, room, user("newcomer"), ban).await;
            banned.map(drop)
        }
        "lift moderator's ban" => {
            world.ban("moderator", room, "newcomer").await?;
            rooms.unban(actor, room, user("newcomer")).await
        }
        "lift owner's ban" => {
            world.ban("owner", room, "newcomer").await?;
            rooms.unban(actor, room, user("newcomer")).await
        }
        "change" => {
            let patch = RoomPatch {
                title: Some("Another title".into()),
                ..RoomPatch::default()
            };
            rooms.change(actor, room, patch).await.map(drop)
        }
        "delete" => rooms.delete(actor, room).await,
        other => panic!("what is {other}?"),
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let world = World::new().await;
    for (row, (what, expected)) in TABLE.iter().enumerate() {
        let mut answers = String::new();
        for (column, (who, kind)) in STANDINGS.iter().enumerate() {
            let name = format!("room-{row}-{column}");
            let place = furnished(&world, &name, *kind, who).await;
            let room = place.0.clone();
            let before = world.head(&room);
            let answer = attempt(&world, who, what, place).await;
            if !matches!(*what, "overwrite owner's ban" | "remove guest") && answer.is_err() {
                let bans = u64::from(what.starts_with("lift"));
                assert_eq!(world.head(&room).0, before.0 + bans, "{what} by {who}");
            }
            answers.push(match code(answer) {
                None => '.',
                Some(ErrorCode::NotFound) => 'n',
                Some(ErrorCode::Forbidden) => 'f',
                Some(other) => panic!("{what} by {who} is {other}"),
            });
        }
        assert_eq!(answers, *expected, "{what}");
    }
}

#[tokio::test]
async fn a_hidden_room_cannot_be_told_from_none() {
    let world = World::new().await;
    for (what, _) in TABLE {
        let name = what.replace([' ', '\''], "-");
        let (room, own, others) = furnished(&world, &name, Kind::Private, "nobody").await;
        // What has to be there for the attempt is put there by somebody else, and not into a room that is not there.
        if what.starts_with("lift") || what.starts_with("overwrite") {
            continue;
        }
        let hidden = attempt(&world, "nobody", what, (room, own, others)).await;
        let missing = attempt(&world, "nobody", what, (id("no-such-room"), own, others)).await;
        let (hidden, missing) = (hidden.unwrap_err(), missing.unwrap_err());
        assert_eq!(hidden.code, missing.code, "{what}");
        assert_eq!(hidden.detail, missing.detail, "{what}");
        assert_eq!(hidden.field, missing.field, "{what}");
    }
}

#[tokio::test]
async fn the_list_has_ones_own_rooms_and_public_ones() {
    let world = World::new().await;
    world.room("private", RoomSettingsPatch::default()).await;
    world.room("public", public()).await;
    let mine = world.room("mine", RoomSettingsPatch::default()).await;
    world.enter(&mine, &[("member", RoomRole::Member)]).await;
    let gone = world.room("gone", public()).await;
    world.rooms.delete(user("owner"), &gone).await.unwrap();
    let listed = world.rooms.list(user("member")).await.unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|room| (room.id.as_str(), room.role))
        .collect();
    assert_eq!(listed, [("mine", Some(RoomRole::Member)), ("public", None)]);
}

#[tokio::test]
async fn nobody_acts_on_a_right_that_was_lost_in_front_of_them() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    world
        .enter(&room, &[("moderator", RoomRole::Moderator)])
        .await;
    let said = world.say("member", &room, "mine").await.unwrap().seq;
    let rooms = &world.rooms;

    let held = world.hold_writer().await;
    let removed = begun(rooms.remove_member(user("owner"), &room, user("member"))).await;
    let demoted = begun(world.put("owner", &room, "moderator", RoomRole::Guest)).await;
    // The rooms in memory still say that these may.
    let sent = begun(world.send("member", &room, text("late"))).await;
    let redacted = begun(world.redact("moderator", &room, said)).await;
    let banned = begun(world.ban("moderator", &room, "member")).await;
    drop(held);
    removed.await.unwrap();
    demoted.await.unwrap();
    assert_eq!(code(sent.await), Some(ErrorCode::NotFound));
    assert_eq!(code(redacted.await), Some(ErrorCode::Forbidden));
    assert_eq!(code(banned.await), Some(ErrorCode::Forbidden));
}
