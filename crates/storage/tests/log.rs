//! The log through its public interface: numbering, durability, idempotency, pages, refusals.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;
use std::time::Duration;

use stack_proto::JsonCodec;
use stack_storage::{
    Appended, Commits, CreateRoom, Location, Membership, OpenError, PageLimit, RoomRef, Store,
    StoreConfig, StoreHandle, SweepCursor,
};
use stack_types::{
    ErrorCode, Event, EventBatch, EventBody, EventCodec, EventDraft, ManualClock, Problem, RoomId,
    RoomRole, RoomSettings, Seq, Timestamp, UserId,
};

const START: Timestamp = Timestamp(1_700_000_000_000);
const ALL: PageLimit = PageLimit {
    events: usize::MAX,
    bytes: usize::MAX,
};

struct Fixture {
    store: Store,
    handle: StoreHandle,
    commits: Commits,
    clock: Arc<ManualClock>,
}

fn open(location: Location) -> Fixture {
    let clock = Arc::new(ManualClock::new(START));
    let config = StoreConfig {
        location,
        ..StoreConfig::default()
    };
    let (store, handle, commits) = Store::open(config, Arc::new(JsonCodec), clock.clone()).unwrap();
    Fixture {
        store,
        handle,
        commits,
        clock,
    }
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn id(text: &str) -> RoomId {
    text.parse().unwrap()
}

async fn room(store: &Store, name: &str) -> RoomRef {
    let create = CreateRoom {
        id: id(name),
        title: name.to_owned(),
        settings: RoomSettings::default(),
        owner: alice(),
    };
    store
        .create_room(create)
        .await
        .unwrap()
        .expect("the name is free")
}

fn message(body: &str, key: Option<&str>) -> EventDraft {
    EventDraft {
        sender: alice(),
        body: EventBody::Message {
            body: body.to_owned(),
            data: None,
            key: key.map(str::to_owned),
            reply_to: None,
        },
    }
}

async fn say(store: &Store, room: &RoomRef, body: &str) -> Appended {
    let draft = message(body, None);
    store
        .room_op(room.id(), |tx| Ok(tx.append(draft)))
        .await
        .unwrap()
}

async fn say_once(store: &Store, room: &RoomRef, body: &str, key: &str) -> Appended {
    let draft = message(body, Some(key));
    let key = key.to_owned();
    store
        .room_op(room.id(), move |tx| match tx.find_key(&alice(), &key)? {
            Some(place) => Ok(place),
            None => Ok(tx.append(draft)),
        })
        .await
        .unwrap()
}

fn events(batch: &EventBatch) -> Vec<Event> {
    batch
        .frames()
        .iter()
        .map(|frame| JsonCodec.decode(&frame).unwrap())
        .collect()
}

fn bodies(batch: &EventBatch) -> Vec<String> {
    let body = |event: &Event| match &event.body {
        EventBody::Message { body, .. } => body.clone(),
        other => format!("{other:?}")
            .split([' ', '{'])
            .next()
            .unwrap()
            .to_owned(),
    };
    events(batch).iter().map(body).collect()
}

#[tokio::test]
async fn events_are_numbered_from_one_without_a_hole_and_time_never_falls() {
    let Fixture { store, clock, .. } = open(Location::Memory);
    let room = room(&store, "general").await;
    assert_eq!((room.head(), room.first()), (Seq(1), Seq(1)));
    let mut last = START;
    for (expected, shift) in [(2, 0), (3, 5_000), (4, -60_000), (5, 10)] {
        clock.set(Timestamp(START.0.saturating_add_signed(shift)));
        let place = say(&store, &room, "x").await;
        assert_eq!(place.seq, Seq(expected));
        assert!(place.ts >= last);
        last = place.ts;
    }
    let page = store.page_after(&room, Seq::ZERO, ALL).await.unwrap();
    let log = events(&page);
    assert!(
        log.iter()
            .zip(1..)
            .all(|(event, seq)| event.seq == Seq(seq))
    );
    assert!(log.is_sorted_by_key(|event| event.ts));
    assert!(matches!(log[0].body, EventBody::Room { .. }));
}

#[tokio::test]
async fn many_writers_at_once_leave_no_hole_and_every_commit_is_told_as_it_is_read() {
    let Fixture {
        store,
        handle,
        mut commits,
        ..
    } = open(Location::Memory);
    let rooms = [room(&store, "a").await, room(&store, "b").await];
    let told = async {
        let mut told: Vec<(RoomId, EventBatch)> = Vec::new();
        while let Some(commit) = commits.next().await {
            told.extend(
                commit
                    .into_iter()
                    .map(|committed| (committed.room, committed.batch)),
            );
        }
        told
    };
    let work = async {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..20 {
            let (store, room) = (store.clone(), rooms[writer % 2].clone());
            writers.spawn(async move {
                let mut places = Vec::new();
                for _ in 0..50 {
                    places.push(say(&store, &room, "x").await.seq);
                }
                places
            });
        }
        let places = writers.join_all().await;
        handle.shutdown().await;
        places
    };
    let (told, places) = tokio::join!(told, work);

    assert!(places.iter().all(|places| places.is_sorted()));
    let mut all: Vec<_> = places.into_iter().flatten().collect();
    all.sort();
    let expected: Vec<_> = (2..=501).flat_map(|seq| [Seq(seq), Seq(seq)]).collect();
    assert_eq!(all, expected);
    for room in &rooms {
        let page = store.page_after(room, Seq::ZERO, ALL).await.unwrap();
        let mut next = Seq::FIRST;
        let mut frames = Vec::new();
        for (_, batch) in told.iter().filter(|(id, _)| id == room.id()) {
            assert_eq!(batch.first(), next);
            next = batch.last().next();
            frames.extend(batch.frames().iter());
        }
        assert_eq!(frames, page.frames().iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_key_is_answered_with_the_first_place_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("stack.redb"));
    let Fixture { store, handle, .. } = open(location.clone());
    let general = room(&store, "general").await;
    let first = say_once(&store, &general, "hello", "k1").await;
    assert_eq!(say_once(&store, &general, "other", "k1").await, first);
    assert_eq!(say_once(&store, &general, "other", "k2").await.seq, Seq(3));
    handle.shutdown().await;
    drop((store, general));

    let Fixture { store, clock, .. } = open(location);
    let general = store.room(&id("general")).unwrap().unwrap();
    assert_eq!(general.head(), Seq(3));
    assert_eq!(say_once(&store, &general, "again", "k1").await, first);
    clock.advance(Duration::from_secs(24 * 60 * 60));
    assert_eq!(say_once(&store, &general, "a day later", "k1").await, first);
    clock.advance(Duration::from_millis(1));
    assert_eq!(say_once(&store, &general, "later", "k1").await.seq, Seq(4));
}

#[tokio::test]
async fn sweeping_takes_expired_keys_and_no_others() {
    let Fixture { store, clock, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    say_once(&store, &general, "x", "old").await;
    clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    let young = say_once(&store, &general, "x", "young").await;
    let mut cursor = SweepCursor::default();
    let swept = store.sweep(&mut cursor).await.unwrap();
    assert_eq!((swept.keys, swept.more), (1, false));
    assert_eq!(say_once(&store, &general, "x", "young").await, young);
}

#[tokio::test]
async fn a_refused_operation_leaves_nothing_behind() {
    let Fixture { store, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    let refused: Result<(), Problem> = store
        .room_op(general.id(), |tx| {
            tx.append(message("never", Some("k")));
            tx.set_member("bob".parse().unwrap(), None);
            tx.delete();
            Err(Problem::forbidden("no"))
        })
        .await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Forbidden);
    assert!(!general.is_deleted());
    assert_eq!(say_once(&store, &general, "first", "k").await.seq, Seq(2));
}

#[tokio::test]
async fn an_operation_that_panics_is_answered_and_the_store_goes_on() {
    let Fixture { store, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    let broken = store
        .room_op::<(), _>(general.id(), |_| panic!("a bug in a rule"))
        .await;
    assert_eq!(broken.unwrap_err().code, ErrorCode::Internal);
    assert_eq!(say(&store, &general, "still here").await.seq, Seq(2));
}

#[tokio::test]
async fn redacting_leaves_a_tombstone_and_strips_the_edits() {
    let Fixture { store, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    let said = say(&store, &general, "a secret").await;
    let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| {
        let edited = EventBody::Edited {
            target_seq: said.seq,
            body: Some("the same secret".to_owned()),
        };
        Ok(tx.append(EventDraft {
            sender: alice(),
            body: edited,
        }))
    };
    store.room_op(general.id(), op).await.unwrap();
    store
        .room_op(general.id(), move |tx| Ok(tx.redact(said.seq)?))
        .await
        .unwrap();

    let page = store.page_after(&general, Seq(1), ALL).await.unwrap();
    let log = events(&page);
    assert_eq!(log[0].body, EventBody::Tombstone);
    assert_eq!(
        (log[0].seq, log[0].ts, log[0].sender),
        (said.seq, said.ts, alice())
    );
    let stripped = EventBody::Edited {
        target_seq: said.seq,
        body: None,
    };
    assert_eq!(log[1].body, stripped);
    assert!(
        !page
            .frames()
            .wire()
            .windows(6)
            .any(|bytes| bytes == b"secret")
    );
}

#[tokio::test]
async fn pages_are_found_by_number_and_by_time() {
    let Fixture { store, clock, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    for name in ["two", "three", "four", "five"] {
        clock.advance(Duration::from_millis(10));
        say(&store, &general, name).await;
    }
    let limit = |events| PageLimit { events, ..ALL };
    let after = store.page_after(&general, Seq(2), limit(2)).await.unwrap();
    assert_eq!(
        (bodies(&after), after.first()),
        (vec!["three".into(), "four".into()], Seq(3))
    );
    let before = store.page_before(&general, Seq(5), limit(2)).await.unwrap();
    assert_eq!(
        (bodies(&before), before.first()),
        (vec!["three".into(), "four".into()], Seq(3))
    );
    let start = store.page_before(&general, Seq(2), limit(9)).await.unwrap();
    assert_eq!(bodies(&start), ["Room"]);
    assert!(
        store
            .page_before(&general, Seq(1), limit(9))
            .await
            .unwrap()
            .frames()
            .is_empty()
    );
    assert!(
        store
            .page_after(&general, Seq(5), limit(9))
            .await
            .unwrap()
            .frames()
            .is_empty()
    );

    // Bytes bound a page too, but it is never empty for it.
    let one = PageLimit {
        events: 9,
        bytes: 1,
    };
    assert_eq!(
        bodies(&store.page_after(&general, Seq(1), one).await.unwrap()),
        ["two"]
    );
    assert_eq!(
        bodies(&store.page_before(&general, Seq(6), one).await.unwrap()),
        ["five"]
    );

    for (millis, expected) in [(0, 1), (9, 1), (10, 2), (25, 3), (1000, 5)] {
        let ts = Timestamp(START.0 + millis);
        assert_eq!(
            store.last_until(&general, ts).await.unwrap(),
            Seq(expected),
            "{millis}"
        );
    }
    assert_eq!(
        store.last_until(&general, Timestamp(0)).await.unwrap(),
        Seq::ZERO
    );
}

#[tokio::test]
async fn a_deleted_room_is_gone_its_name_is_not_and_its_rows_are_swept() {
    let Fixture { store, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    for _ in 0..2500 {
        let draft = message("x", None);
        let submitted = store.submit(&general, |tx| Ok(tx.append(draft)), drop);
        submitted.queued().await;
    }
    store
        .room_op(general.id(), |tx| {
            tx.delete();
            Ok(())
        })
        .await
        .unwrap();
    assert!(general.is_deleted());
    assert!(store.room(general.id()).unwrap().is_none());
    assert!(store.rooms_of(alice()).await.unwrap().is_empty());
    let again = CreateRoom {
        id: general.id().clone(),
        title: "again".into(),
        settings: RoomSettings::default(),
        owner: alice(),
    };
    assert!(store.create_room(again).await.unwrap().is_none());

    let mut cursor = SweepCursor::default();
    let mut rows = 0;
    loop {
        let swept = store.sweep(&mut cursor).await.unwrap();
        rows += swept.rows;
        if !swept.more {
            break;
        }
    }
    // At least the owner's membership; how many rows events take is the log's own affair.
    assert!(rows >= 1);
    assert!(
        store
            .page_after(&general, Seq::ZERO, ALL)
            .await
            .unwrap()
            .frames()
            .is_empty()
    );
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("deeper/stack.redb"));
    let Fixture { store, handle, .. } = open(location.clone());
    let general = room(&store, "general").await;
    say(&store, &general, "hello").await;
    let bob: UserId = "bob".parse().unwrap();
    let member = Membership {
        role: RoomRole::Moderator,
        joined_at: START,
        joined_seq: Seq(2),
    };
    let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| {
        tx.set_member(bob, Some(member));
        tx.set_room(
            "General!".into(),
            RoomSettings {
                public: true,
                ..RoomSettings::default()
            },
        );
        Ok(())
    };
    store.room_op(general.id(), op).await.unwrap();
    store.set_read(bob, &general, Seq(2)).await.unwrap();
    store.set_read(bob, &general, Seq(1)).await.unwrap();
    handle.shutdown().await;
    drop((store, general));

    let Fixture { store, .. } = open(location);
    let general = store.room(&id("general")).unwrap().unwrap();
    assert_eq!(
        (general.title().as_str(), general.settings().public),
        ("General!", true)
    );
    assert_eq!(general.member(&bob), Some(member));
    assert_eq!(general.member(&alice()).unwrap().role, RoomRole::Owner);
    assert_eq!(general.head(), Seq(2));
    assert_eq!(store.read_cursor(&bob, &general).unwrap(), Seq(2));
    assert_eq!(store.rooms_of(bob).await.unwrap().len(), 1);
    assert_eq!(store.public_rooms().await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_process_at_a_time_has_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let location = Location::File(folder.path().join("stack.redb"));
    let first = open(location.clone());
    let config = StoreConfig {
        location,
        ..StoreConfig::default()
    };
    let second = Store::open(config, Arc::new(JsonCodec), first.clock.clone());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}

#[tokio::test]
async fn a_closed_store_refuses_and_says_so() {
    let Fixture { store, handle, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    handle.shutdown().await;
    let draft = message("late", None);
    let late = store.room_op(general.id(), |tx| Ok(tx.append(draft))).await;
    assert_eq!(late.unwrap_err().code, ErrorCode::Unavailable);
}

#[tokio::test]
async fn last_seen_times_only_move_forward() {
    let Fixture { store, .. } = open(Location::Memory);
    let (bob, carol): (UserId, UserId) = ("bob".parse().unwrap(), "carol".parse().unwrap());
    store
        .record_last_seen(vec![(bob, Timestamp(20)), (carol, Timestamp(5))])
        .await
        .unwrap();
    store
        .record_last_seen(vec![(bob, Timestamp(10)), (carol, Timestamp(6))])
        .await
        .unwrap();
    let seen = store.last_seen(&[bob, carol, alice()]).unwrap();
    assert_eq!(seen, [(bob, Timestamp(20)), (carol, Timestamp(6))].into());
}

#[tokio::test]
async fn every_commit_is_reported_with_what_it_did() {
    let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = reports.clone();
    let config = StoreConfig {
        on_commit: Some(Arc::new(move |report| sink.lock().unwrap().push(report))),
        ..StoreConfig::default()
    };
    let clock = Arc::new(ManualClock::new(START));
    let (store, handle, _commits) = Store::open(config, Arc::new(JsonCodec), clock).unwrap();
    let general = room(&store, "general").await;
    say(&store, &general, "x").await;
    store.set_read(alice(), &general, Seq(2)).await.unwrap();
    handle.shutdown().await;
    let told: Vec<_> = reports
        .lock()
        .unwrap()
        .iter()
        .map(|r| (r.operations, r.events))
        .collect();
    assert_eq!(told, [(1, 1), (1, 1), (1, 0)]);
}

#[tokio::test]
async fn who_panics_over_an_answer_harms_nobody_else() {
    let Fixture { store, .. } = open(Location::Memory);
    let general = room(&store, "general").await;
    let submitted = store.submit(
        &general,
        |tx| Ok(tx.append(message("first", None))),
        |_| panic!("a bug in an answer"),
    );
    submitted.queued().await;
    assert_eq!(say(&store, &general, "second").await.seq, Seq(3));
}

#[tokio::test]
async fn a_writer_that_panics_refuses_what_comes_and_leaves_nobody_waiting() {
    let config = StoreConfig {
        on_commit: Some(Arc::new(|report| {
            assert_eq!(report.events, 0, "a bug in a measure");
        })),
        ..StoreConfig::default()
    };
    let clock = Arc::new(ManualClock::new(START));
    let (store, handle, _commits) = Store::open(config, Arc::new(JsonCodec), clock).unwrap();
    let created = store
        .create_room(CreateRoom {
            id: id("general"),
            title: "General".to_owned(),
            settings: RoomSettings::default(),
            owner: alice(),
        })
        .await;
    assert!(created.is_err());
    let later = store.room_op::<(), _>(&id("general"), |_| Ok(())).await;
    assert_eq!(later.unwrap_err().code, ErrorCode::Unavailable);
    handle.shutdown().await;
}
