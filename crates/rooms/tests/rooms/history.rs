//! Reading back: pages, and rooms whose history is for those who were there.

use serde_json::json;
use stack_rooms::{Page, PageQuery};
use stack_types::{
    ErrorCode, GapReason, Problem, RoomId, RoomRole, RoomSettingsPatch, Seq, Signal, Timestamp,
};

use crate::support::{World, code, events, fault, joined, open, seqs, text, user};

/// A room of history `joined`: the owner has said 2, 3 and 4 before the member came (5) and 6 and 7 after.
async fn scene(settings: RoomSettingsPatch) -> (World, RoomId) {
    let world = World::new().await;
    let room = world.room("general", joined(settings)).await;
    for n in 2..=4 {
        let said = world.say("owner", &room, &format!("{n}")).await.unwrap();
        assert_eq!(said.seq, Seq(n));
    }
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    for n in 6..=7 {
        world.say("owner", &room, &format!("{n}")).await.unwrap();
    }
    (world, room)
}

fn private() -> RoomSettingsPatch {
    RoomSettingsPatch::default()
}

fn gap(from: u64, to: u64) -> Option<Signal> {
    Some(Signal::Gap {
        room: "general".parse().unwrap(),
        from: Seq(from),
        to: Seq(to),
        reason: GapReason::Joined,
    })
}

async fn page(world: &World, who: &str, room: &RoomId, query: PageQuery) -> Result<Page, Problem> {
    world.rooms.history(user(who), room, query).await
}

fn after(seq: u64) -> PageQuery {
    PageQuery {
        after: Some(Seq(seq)),
        ..PageQuery::default()
    }
}

fn before(seq: u64) -> PageQuery {
    PageQuery {
        before: Some(Seq(seq)),
        ..PageQuery::default()
    }
}

fn after_ts(ts: u64) -> PageQuery {
    PageQuery {
        after_ts: Some(Timestamp(ts)),
        ..PageQuery::default()
    }
}

fn limit(limit: u64, query: PageQuery) -> PageQuery {
    PageQuery {
        limit: Some(limit),
        ..query
    }
}

#[tokio::test]
async fn a_cursor_from_before_ones_joining_gets_a_gap_and_then_what_is_ones_own() {
    let (world, room) = scene(private()).await;
    for (after, expected) in [
        (Some(0), gap(1, 4)),
        (Some(2), gap(3, 4)),
        (Some(3), gap(4, 4)),
        (Some(4), None),
        (Some(5), None),
        (None, None),
    ] {
        let reader = world.read("member", &room, after.map(Seq)).unwrap();
        assert_eq!(reader.subscribed.gap, expected, "{after:?}");
        let answer = &reader.subscribed.answer;
        assert_eq!((answer.first, answer.head), (Seq(5), world.head(&room)));
        let told = serde_json::to_value(answer).unwrap();
        assert_eq!(told["role"], json!("member"));
        let from = after.unwrap_or(answer.head.0).max(4) + 1;
        let last = world.say("owner", &room, "live").await.unwrap().seq;
        reader.tap.until_seq(last).await;
        assert_eq!(reader.tap.seqs(), (from..=last.0).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn the_owner_was_there_from_the_first() {
    let (world, room) = scene(private()).await;
    let reader = world.read("owner", &room, Some(Seq::ZERO)).unwrap();
    assert_eq!(reader.subscribed.gap, None);
    assert_eq!(reader.subscribed.answer.first, Seq(1));
    reader.tap.until_seq(Seq(7)).await;
    assert_eq!(reader.tap.seqs(), [1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn pages_begin_with_ones_joining() {
    let (world, room) = scene(private()).await;
    let ask = async |query| page(&world, "member", &room, query).await.unwrap();
    for (query, expected) in [
        (PageQuery::default(), vec![5, 6, 7]),
        (after(0), vec![5, 6, 7]),
        (after(3), vec![5, 6, 7]),
        (after(5), vec![6, 7]),
        (after(7), vec![]),
        (limit(2, after(0)), vec![5, 6]),
        (before(8), vec![5, 6, 7]),
        (before(100), vec![5, 6, 7]),
        (before(7), vec![5, 6]),
        (limit(1, before(7)), vec![6]),
        (before(6), vec![5]),
        (before(5), vec![]),
        (before(2), vec![]),
        (before(0), vec![]),
        (after_ts(0), vec![5, 6, 7]),
        (limit(1, after_ts(0)), vec![5]),
    ] {
        let page = ask(query).await;
        assert_eq!(seqs(&page), expected, "{query:?}");
        assert_eq!((page.first, page.head), (Seq(5), Seq(7)), "{query:?}");
    }
    let seen = world.rooms.get(user("member"), &room).unwrap();
    assert_eq!((seen.first, seen.head), (Seq(5), Seq(7)));
    let listed = world.rooms.list(user("member")).await.unwrap();
    assert_eq!(listed[0].first, Seq(5));
    let seen = world.rooms.get(user("owner"), &room).unwrap();
    assert_eq!(seen.first, Seq(1));
}

#[tokio::test]
async fn who_comes_again_begins_again_and_a_new_role_changes_nothing() {
    let (world, room) = scene(private()).await;
    world.enter(&room, &[("member", RoomRole::Moderator)]).await;
    let seen = world.rooms.get(user("member"), &room).unwrap();
    assert_eq!(seen.first, Seq(5));
    world.rooms.leave(user("member"), &room).await.unwrap();
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let reader = world.read("member", &room, Some(Seq(6))).unwrap();
    assert_eq!(reader.subscribed.gap, gap(7, 9));
    reader.tap.until_seq(Seq(10)).await;
    assert_eq!(reader.tap.seqs(), [10]);

    // The setting decides, and it may change.
    let all = RoomSettingsPatch {
        history: Some(stack_types::HistoryVisibility::Members),
        ..private()
    };
    world.change(&room, all).await.unwrap();
    let reader = world.read("member", &room, Some(Seq::ZERO)).unwrap();
    assert_eq!(reader.subscribed.gap, None);
    reader.tap.until_seq(Seq(11)).await;
    assert_eq!(reader.tap.seqs(), (1..=11).collect::<Vec<_>>());
}

#[tokio::test]
async fn guests_have_what_comes_and_nothing_of_the_past() {
    let (world, room) = scene(open()).await;
    for query in [PageQuery::default(), after(0), before(7), after_ts(0)] {
        let page = page(&world, "nobody", &room, query).await.unwrap();
        assert!(events(&page).is_empty(), "{query:?}");
        assert_eq!((page.first, page.head), (Seq(8), Seq(7)), "{query:?}");
    }
    let seen = world.rooms.get(user("nobody"), &room).unwrap();
    assert_eq!((seen.first, seen.role), (Seq(8), None));
    let reader = world.read("nobody", &room, Some(Seq(2))).unwrap();
    assert_eq!(reader.subscribed.gap, gap(3, 7));
    assert_eq!(reader.subscribed.answer.first, Seq(8));
    assert_eq!(reader.subscribed.answer.role, RoomRole::Guest);
    let quiet = world.read("nobody", &room, None).unwrap();
    assert_eq!(quiet.subscribed.gap, None);
    let last = world.say("owner", &room, "live").await.unwrap().seq;
    for reader in [reader, quiet] {
        reader.tap.until_seq(last).await;
        assert_eq!(reader.tap.seqs(), [8]);
    }
    // A member of role `guest` has joined, and reads from there on.
    world.enter(&room, &[("guest", RoomRole::Guest)]).await;
    let seen = world.rooms.get(user("guest"), &room).unwrap();
    assert_eq!((seen.first, seen.role), (Seq(9), Some(RoomRole::Guest)));
}

#[tokio::test]
async fn what_one_cannot_read_one_cannot_find_out_about() {
    let world = World::new().await;
    let room = world.room("general", joined(private())).await;
    world.enter(&room, &[("member", RoomRole::Member)]).await;
    let own = world.say("member", &room, "mine").await.unwrap().seq;
    let theirs = world.say("owner", &room, "theirs").await.unwrap().seq;
    let redacted = world.say("owner", &room, "redacted").await.unwrap().seq;
    world.redact("owner", &room, redacted).await.unwrap();
    let no_message = Seq(1);
    world.rooms.leave(user("member"), &room).await.unwrap();
    world.enter(&room, &[("member", RoomRole::Moderator)]).await;

    let same = |what: &str, one: Problem, other: Problem| {
        assert_eq!(one.code, other.code, "{what}");
        assert_eq!(one.detail, other.detail, "{what}");
        assert_eq!(one.field, other.field, "{what}");
        one.code
    };
    let beyond = Seq(10_000);
    let reply = |target| stack_rooms::SendMessage {
        reply_to: Some(target),
        ..text("answer")
    };
    for target in [own, theirs, redacted, no_message, Seq::ZERO] {
        let edits = [
            world.edit("member", &room, target).await,
            world.edit("member", &room, beyond).await,
        ];
        let redactions = [
            world.redact("member", &room, target).await,
            world.redact("member", &room, beyond).await,
        ];
        let reactions = [
            world.react("member", &room, target).await,
            world.react("member", &room, beyond).await,
        ];
        for (what, [one, other]) in [
            ("edit", edits),
            ("redact", redactions),
            ("react", reactions),
        ] {
            let code = same(what, one.unwrap_err(), other.unwrap_err());
            assert_eq!(code, ErrorCode::NotFound, "{what} {target}");
        }
        let one = world.send("member", &room, reply(target)).await;
        let other = world.send("member", &room, reply(beyond)).await;
        let code = same("reply", one.unwrap_err(), other.unwrap_err());
        assert_eq!(code, ErrorCode::InvalidField);
        let replied = world.send("member", &room, reply(target)).await;
        assert_eq!(fault(replied).unwrap().1.as_deref(), Some("reply_to"));
    }
    let head = world.head(&room);
    let told = world.send("member", &room, reply(head)).await.unwrap();
    assert_eq!(
        world.log(&room).await.last().unwrap()["payload"]["reply_to"],
        head.0
    );
    // Who was there is told what each of them is.
    assert_eq!(
        code(world.edit("owner", &room, own).await),
        Some(ErrorCode::Forbidden)
    );
    for (target, expected) in [
        (redacted, ErrorCode::Gone),
        (no_message, ErrorCode::InvalidField),
        (Seq(told.seq.0 + 1), ErrorCode::NotFound),
    ] {
        assert_eq!(
            code(world.edit("owner", &room, target).await),
            Some(expected)
        );
        assert_eq!(
            code(world.redact("owner", &room, target).await),
            Some(expected)
        );
        assert_eq!(
            code(world.react("owner", &room, target).await),
            Some(expected)
        );
    }
}

#[tokio::test]
async fn a_page_query_that_makes_no_sense_is_refused_by_field() {
    let (world, room) = scene(private()).await;
    let ask = async |query| fault(page(&world, "owner", &room, query).await);
    let invalid = |field: &str| Some((ErrorCode::InvalidField, Some(field.to_owned())));
    assert_eq!(ask(limit(0, after(0))).await, invalid("limit"));
    assert_eq!(ask(limit(501, after(0))).await, invalid("limit"));
    assert_eq!(ask(limit(u64::MAX, after(0))).await, invalid("limit"));
    assert_eq!(ask(limit(500, after(0))).await, None);
    assert_eq!(ask(after(8)).await, invalid("after"));
    let two = PageQuery {
        before: Some(Seq(3)),
        ..after(1)
    };
    assert_eq!(ask(two).await, invalid("before"));
    let two = PageQuery {
        after_ts: Some(Timestamp(1)),
        ..after(1)
    };
    assert_eq!(ask(two).await, invalid("after_ts"));
    let beyond = world.read("owner", &room, Some(Seq(8)));
    assert_eq!(fault(beyond), invalid("after"));
}

#[tokio::test]
async fn a_page_is_fifty_when_nothing_is_said() {
    let (world, room) = scene(private()).await;
    for _ in 8..=120 {
        world.say("owner", &room, "x").await.unwrap();
    }
    let newest = page(&world, "owner", &room, PageQuery::default()).await;
    assert_eq!(seqs(&newest.unwrap()), (71..=120).collect::<Vec<_>>());
    let oldest = page(&world, "owner", &room, after(0)).await;
    assert_eq!(seqs(&oldest.unwrap()), (1..=50).collect::<Vec<_>>());
}

/// Common clients refuse frames of more than 1 MiB, so that a page has to stay below it.
#[tokio::test]
async fn a_page_of_long_messages_ends_early_and_is_read_on() {
    let world = World::new().await;
    let room = world.room("general", private()).await;
    let long = "x".repeat(16 * 1024);
    for _ in 2..=150 {
        world.say("owner", &room, &long).await.unwrap();
    }
    let mut read = Vec::new();
    let mut pages = 0;
    while read.last() != Some(&150) {
        let from = read.last().copied().unwrap_or(0);
        let page = page(&world, "owner", &room, limit(500, after(from))).await;
        let page = page.unwrap();
        assert!(page.events.frames().wire().len() <= 900 * 1024);
        assert_eq!(page.head, Seq(150));
        read.extend(seqs(&page));
        pages += 1;
    }
    assert_eq!(read, (1..=150).collect::<Vec<_>>());
    assert_eq!(pages, 3);
    let newest = page(&world, "owner", &room, limit(500, before(200))).await;
    let newest = seqs(&newest.unwrap());
    assert_eq!(newest.last(), Some(&150));
    assert!(newest.len() > 50);
}
