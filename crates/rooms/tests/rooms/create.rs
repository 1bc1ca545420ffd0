//! Making and changing rooms: ids, titles, settings.

use stack_rooms::{NewRoom, Room, RoomPatch};
use stack_types::{
    ErrorCode, HistoryVisibility, Problem, RoomRole, RoomSettings, RoomSettingsPatch, Seq,
};

use crate::support::{START, World, code, fault, id, public, user};

fn named(title: &str) -> NewRoom {
    NewRoom {
        id: None,
        title: title.to_owned(),
        settings: RoomSettingsPatch::default(),
    }
}

async fn create(world: &World, new: NewRoom) -> Result<Room, Problem> {
    world.rooms.create(user("owner"), new).await
}

fn invalid(field: &str) -> Option<(ErrorCode, Option<String>)> {
    Some((ErrorCode::InvalidField, Some(field.to_owned())))
}

#[tokio::test]
async fn a_room_is_its_makers_and_begins_with_its_making() {
    let world = World::new().await;
    let new = NewRoom {
        id: Some(id("general")),
        settings: public(),
        ..named("  General talk ")
    };
    let room = create(&world, new).await.unwrap();
    assert_eq!(
        (room.id.as_str(), room.title.as_str()),
        ("general", "General talk")
    );
    assert_eq!(room.role, Some(RoomRole::Owner));
    assert_eq!(
        (room.first, room.head, room.read_seq),
        (Seq(1), Seq(1), Seq(0))
    );
    assert_eq!(room.created_at, START);
    let expected = RoomSettings {
        public: true,
        ..RoomSettings::default()
    };
    assert_eq!(room.settings, expected);
    let log = world.log(&room.id).await;
    assert_eq!(log.len(), 1);
    assert_eq!(
        (&log[0]["type"], &log[0]["payload"]["action"]),
        (&"room".into(), &"created".into())
    );
    assert_eq!(log[0]["payload"]["title"], "General talk");
}

#[tokio::test]
async fn an_id_is_made_from_the_title_when_none_is_given() {
    let world = World::new().await;
    let long = "long ".repeat(40);
    for (title, start) in [
        ("Team Chat", "team-chat-"),
        ("  Über & Ünter!! ", "ber-nter-"),
        ("--- 2026 / Q1 ---", "2026-q1-"),
        ("日本語", "room-"),
        ("...", "room-"),
        (long.as_str(), "long-long-"),
    ] {
        let [one, other] = [
            create(&world, named(title)).await.unwrap(),
            create(&world, named(title)).await.unwrap(),
        ];
        for room in [&one, &other] {
            let slug = room.id.as_str();
            assert!(slug.starts_with(start), "{title}: {slug}");
            assert!(slug.len() <= 64 && !slug.contains("--"), "{title}: {slug}");
            let suffix = slug.rsplit('-').next().unwrap();
            assert_eq!(suffix.len(), 6, "{title}: {slug}");
        }
        assert_ne!(one.id, other.id, "the same title twice is two rooms");
    }
}

#[tokio::test]
async fn an_id_that_was_ever_taken_stays_taken() {
    let world = World::new().await;
    let general = || NewRoom {
        id: Some(id("general")),
        ..named("General")
    };
    create(&world, general()).await.unwrap();
    let conflict = Some(ErrorCode::Conflict);
    assert_eq!(code(create(&world, general()).await), conflict);
    let by_another = world.rooms.create(user("member"), general()).await;
    assert_eq!(code(by_another), conflict);
    let general_id = id("general");
    world
        .rooms
        .delete(user("owner"), &general_id)
        .await
        .unwrap();
    assert_eq!(code(create(&world, general()).await), conflict);
    assert_eq!(
        code(world.rooms.get(user("owner"), &general_id)),
        Some(ErrorCode::NotFound)
    );
}

#[tokio::test]
async fn a_title_is_1_to_200_bytes_without_control_characters() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    let (longest, too_long) = ("t".repeat(200), "t".repeat(201));
    let (wide, too_wide) = ("é".repeat(100), "é".repeat(101));
    for bad in ["", "  ", "a\nb", "a\u{0}b", "a\u{7f}", &too_long, &too_wide] {
        assert_eq!(
            fault(create(&world, named(bad)).await),
            invalid("title"),
            "{bad:?}"
        );
        let patch = RoomPatch {
            title: Some(bad.to_owned()),
            ..RoomPatch::default()
        };
        let changed = world.rooms.change(user("owner"), &room, patch).await;
        assert_eq!(fault(changed), invalid("title"), "{bad:?}");
    }
    for good in ["t", "日本語", &longest, &wide] {
        assert_eq!(create(&world, named(good)).await.unwrap().title, good);
    }
}

#[tokio::test]
async fn settings_out_of_range_are_refused_by_name() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    let with = |max_message_bytes, slow_mode_s, retention_days, messages_per_10s| {
        let patch = RoomSettingsPatch::default();
        RoomSettingsPatch {
            max_message_bytes,
            slow_mode_s,
            retention_days,
            messages_per_10s,
            ..patch
        }
    };
    let create_with = async |settings| {
        let new = NewRoom {
            settings,
            ..named("t")
        };
        fault(create(&world, new).await)
    };
    for (settings, field) in [
        (
            with(Some(16 * 1024 + 1), None, None, None),
            "settings.max_message_bytes",
        ),
        (with(None, Some(86_401), None, None), "settings.slow_mode_s"),
        (
            with(None, None, Some(36_501), None),
            "settings.retention_days",
        ),
        (
            with(None, None, None, Some(1001)),
            "settings.messages_per_10s",
        ),
    ] {
        assert_eq!(create_with(settings).await, invalid(field));
        assert_eq!(fault(world.change(&room, settings).await), invalid(field));
    }
    let many = RoomSettingsPatch {
        retention_messages: Some(1_000_000_001),
        ..RoomSettingsPatch::default()
    };
    let refused = invalid("settings.retention_messages");
    assert_eq!(create_with(many).await, refused);
    assert_eq!(fault(world.change(&room, many).await), refused);
    assert_eq!(world.head(&room), Seq(1));
    let most = with(Some(16 * 1024), Some(86_400), Some(36_500), Some(1000));
    assert_eq!(create_with(most).await, None);
    world.change(&room, most).await.unwrap();
}

#[tokio::test]
async fn a_change_changes_what_it_names_and_is_told_once() {
    let world = World::new().await;
    let room = world.room("general", public()).await;
    let patch = || RoomPatch {
        title: Some(" Another ".into()),
        settings: RoomSettingsPatch {
            history: Some(HistoryVisibility::Joined),
            slow_mode_s: Some(3),
            ..RoomSettingsPatch::default()
        },
    };
    let owner = user("owner");
    let changed = world.rooms.change(owner, &room, patch()).await.unwrap();
    let expected = RoomSettings {
        public: true,
        history: HistoryVisibility::Joined,
        slow_mode_s: 3,
        ..RoomSettings::default()
    };
    assert_eq!(
        (changed.title.as_str(), changed.settings),
        ("Another", expected)
    );
    // What is so already is no event.
    for patch in [patch(), RoomPatch::default()] {
        let same = world.rooms.change(owner, &room, patch).await.unwrap();
        assert_eq!((same.head, same.settings), (Seq(2), expected));
    }
    let log = world.log(&room).await;
    assert_eq!(log[1]["payload"]["action"], "changed");
    assert_eq!(log[1]["payload"]["title"], "Another");
    assert_eq!(log[1]["payload"]["settings"]["slow_mode_s"], 3);
    assert_eq!(log[1]["payload"]["settings"]["public"], true);
}

#[tokio::test]
async fn two_changes_at_once_are_both_kept() {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    let title = RoomPatch {
        title: Some("Another".into()),
        ..RoomPatch::default()
    };
    let held = world.hold_writer().await;
    let owner = user("owner");
    let one = crate::support::begun(world.rooms.change(owner, &room, title)).await;
    let two = crate::support::begun(world.change(&room, public())).await;
    drop(held);
    one.await.unwrap();
    let room = two.await.unwrap();
    assert_eq!(
        (room.title.as_str(), room.settings.public),
        ("Another", true)
    );
}
