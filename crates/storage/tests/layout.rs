//! The log against a model, with so little kept unfolded that every fold, seam and restart is met: whatever the
//! file does with its rows, a room reads as the line of events that was said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stack_proto::JsonCodec;
use stack_storage::{
    Commits, CreateRoom, KeptLog, Location, PageLimit, RoomRef, Store, StoreConfig, StoreHandle,
};
use stack_types::{
    Event, EventBody, EventCodec, EventDraft, ManualClock, RoomId, RoomSettings, Seq, Timestamp,
    UserId,
};

#[derive(Debug, Clone)]
enum Step {
    /// So many messages of this size into this room, queued together.
    Say {
        room: usize,
        count: usize,
        size: usize,
    },
    /// Redacts the message this far from the end of what was said, if it is one.
    Redact {
        room: usize,
        back: u64,
    },
    Edit {
        room: usize,
        back: u64,
    },
    Page {
        room: usize,
        cursor: u64,
        events: usize,
        bytes: usize,
    },
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![8 => 0usize..300, 1 => 20_000usize..70_000];
    let step = prop_oneof![
        8 => (0usize..3, 1usize..40, size).prop_map(|(room, count, size)| Step::Say { room, count, size }),
        1 => (0usize..3, 300usize..900).prop_map(|(room, count)| Step::Say { room, count, size: 3 }),
        2 => (0usize..3, 0u64..900).prop_map(|(room, back)| Step::Redact { room, back }),
        1 => (0usize..3, 0u64..150).prop_map(|(room, back)| Step::Edit { room, back }),
        4 => (0usize..3, 0u64..300, 1usize..200, 1usize..200_000)
            .prop_map(|(room, cursor, events, bytes)| Step::Page { room, cursor, events, bytes }),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

struct World {
    store: Store,
    handle: StoreHandle,
    commits: Commits,
    rooms: Vec<RoomRef>,
}

fn open(folder: &Path, clock: &Arc<ManualClock>) -> World {
    let config = StoreConfig {
        location: Location::File(folder.join("stack.redb")),
        kept_log: KeptLog {
            commits: 3,
            bytes: 20_000,
        },
        ..StoreConfig::default()
    };
    let (store, handle, commits) = Store::open(config, Arc::new(JsonCodec), clock.clone()).unwrap();
    let rooms = (0..3)
        .filter_map(|room| store.room(&id(room)).unwrap())
        .collect();
    World {
        store,
        handle,
        commits,
        rooms,
    }
}

fn id(room: usize) -> RoomId {
    format!("room-{room}").parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn draft(body: EventBody) -> EventDraft {
    EventDraft {
        sender: alice(),
        body,
    }
}

fn said(text: String) -> EventBody {
    EventBody::Message {
        body: text,
        data: None,
        key: None,
        reply_to: None,
    }
}

fn decode(batch: &stack_types::EventBatch) -> Vec<Event> {
    let events: Vec<Event> = batch
        .frames()
        .iter()
        .map(|frame| JsonCodec.decode(&frame).unwrap())
        .collect();
    assert!(
        events
            .iter()
            .zip(batch.first().0..)
            .all(|(event, seq)| event.seq == Seq(seq))
    );
    events
}

/// Takes back a message: in the model as in the file.
async fn redact(world: &World, model: &mut Vec<EventBody>, room: usize, target: Seq) {
    world
        .store
        .room_op(&id(room), move |tx| {
            tx.redact(target)?;
            Ok(tx.append(draft(EventBody::Redacted {
                target_seq: target,
                reason: None,
            })))
        })
        .await
        .unwrap();
    for body in model.iter_mut() {
        if let EventBody::Edited { target_seq, body } = body
            && *target_seq == target
        {
            *body = None;
        }
    }
    model[target.0 as usize - 1] = EventBody::Tombstone;
    model.push(EventBody::Redacted {
        target_seq: target,
        reason: None,
    });
}

async fn play(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let mut world = open(folder.path(), &clock);
    let mut model: Vec<Vec<EventBody>> = Vec::new();
    for room in 0..3 {
        let create = CreateRoom {
            id: id(room),
            title: "t".into(),
            settings: RoomSettings::default(),
            owner: alice(),
        };
        world
            .rooms
            .push(world.store.create_room(create).await.unwrap().unwrap());
        let first = world
            .store
            .page_after(&world.rooms[room], Seq::ZERO, ALL)
            .await
            .unwrap();
        model.push(decode(&first).into_iter().map(|event| event.body).collect());
    }
    let mut drained = 0;
    for (number, step) in steps.into_iter().enumerate() {
        clock.advance(std::time::Duration::from_millis(7));
        match step {
            Step::Say { room, count, size } => {
                let mut pending = Vec::new();
                for index in 0..count {
                    let body = said(format!("{number}.{index} {}", "x".repeat(size)));
                    model[room].push(body.clone());
                    let op =
                        move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
                    let (reply, sent) = tokio::sync::oneshot::channel();
                    let home = world.store.room(&id(room)).unwrap().unwrap();
                    let submitted = world
                        .store
                        .submit(&home, op, |sent| reply.send(sent).unwrap());
                    submitted.queued().await;
                    pending.push(sent);
                }
                for sent in pending {
                    sent.await.unwrap().unwrap();
                }
            }
            Step::Redact { room, back } => {
                let target = Seq((model[room].len() as u64).saturating_sub(back).max(1));
                if matches!(
                    model[room][target.0 as usize - 1],
                    EventBody::Message { .. }
                ) {
                    redact(&world, &mut model[room], room, target).await;
                }
            }
            Step::Edit { room, back } => {
                let target_seq = Seq((model[room].len() as u64).saturating_sub(back).max(1));
                if matches!(
                    model[room][target_seq.0 as usize - 1],
                    EventBody::Message { .. }
                ) {
                    let body = EventBody::Edited {
                        target_seq,
                        body: Some("edited".into()),
                    };
                    model[room].push(body.clone());
                    let op =
                        move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
                    world.store.room_op(&id(room), op).await.unwrap();
                }
            }
            Step::Page {
                room,
                cursor,
                events,
                bytes,
            } => {
                page(
                    &world,
                    &model[room],
                    room,
                    cursor,
                    PageLimit { events, bytes },
                )
                .await;
            }
            Step::Restart => {
                let World {
                    store,
                    handle,
                    rooms,
                    ..
                } = world;
                handle.shutdown().await;
                drop((store, rooms));
                world = open(folder.path(), &clock);
            }
        }
        // Nobody else takes the commits away, and the writer waits for whoever should.
        while let Ok(Some(_)) =
            tokio::time::timeout(std::time::Duration::ZERO, world.commits.next()).await
        {
            drained += 1;
        }
    }
    for (room, model) in model.iter().enumerate() {
        let whole = world
            .store
            .page_after(&world.rooms[room], Seq::ZERO, ALL)
            .await
            .unwrap();
        let events = decode(&whole);
        assert!(events.is_sorted_by_key(|event| event.ts));
        assert_eq!(
            &events
                .into_iter()
                .map(|event| event.body)
                .collect::<Vec<_>>(),
            model
        );
        for seq in (1..=model.len() as u64).step_by(17) {
            let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.event(Seq(seq))?);
            let event = world.store.room_op(&id(room), op).await.unwrap().unwrap();
            assert_eq!(
                (event.seq, &event.body),
                (Seq(seq), &model[seq as usize - 1])
            );
            let until = world
                .store
                .last_until(&world.rooms[room], event.ts)
                .await
                .unwrap();
            assert!(until >= Seq(seq));
        }
    }
    assert!(drained > 0 || model.iter().all(|model| model.len() == 1));
}

const ALL: PageLimit = PageLimit {
    events: usize::MAX,
    bytes: usize::MAX,
};

async fn page(world: &World, model: &[EventBody], room: usize, cursor: u64, limit: PageLimit) {
    let cursor = cursor.min(model.len() as u64);
    let bodies = |batch: &stack_types::EventBatch| -> Vec<EventBody> {
        decode(batch).into_iter().map(|event| event.body).collect()
    };
    let after = world
        .store
        .page_after(&world.rooms[room], Seq(cursor), limit)
        .await
        .unwrap();
    let got = bodies(&after);
    let most = limit.events.min(model.len() - cursor as usize);
    assert!(got.len() <= most && (got.is_empty() == (most == 0)));
    assert!(got.len() <= 1 || after.frames().wire().len() <= limit.bytes);
    assert_eq!(got, model[cursor as usize..cursor as usize + got.len()]);
    if got.len() < most {
        // It ended early for its bytes: the next event would not have fitted.
        let next = PageLimit {
            events: got.len() + 1,
            bytes: usize::MAX,
        };
        let more = world
            .store
            .page_after(&world.rooms[room], Seq(cursor), next)
            .await
            .unwrap();
        assert!(more.frames().wire().len() > limit.bytes);
    }

    let before = Seq(cursor + 1);
    let newest = world
        .store
        .page_before(&world.rooms[room], before, limit)
        .await
        .unwrap();
    let got = bodies(&newest);
    let most = limit.events.min(cursor as usize);
    assert!(got.len() <= most && (got.is_empty() == (most == 0)));
    assert!(got.len() <= 1 || newest.frames().wire().len() <= limit.bytes);
    assert_eq!(got, model[cursor as usize - got.len()..cursor as usize]);
}

/// Every page from every place: over blocks, the tail and the seams between them, of one block and of many, cut by
/// their events and by their bytes.
#[tokio::test]
async fn a_page_is_right_wherever_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
    let mut world = open(folder.path(), &clock);
    let create = CreateRoom {
        id: id(0),
        title: "t".into(),
        settings: RoomSettings::default(),
        owner: alice(),
    };
    let room = world.store.create_room(create).await.unwrap().unwrap();
    let created = world.store.page_after(&room, Seq::ZERO, ALL).await.unwrap();
    world.rooms.push(room);
    let mut model: Vec<_> = decode(&created)
        .into_iter()
        .map(|event| event.body)
        .collect();
    for step in 0..120 {
        let size = if step % 17 < 12 { 3 } else { 9_000 };
        let bodies: Vec<_> = (0..=step % 3)
            .map(|index| said(format!("{step}.{index} {}", "x".repeat(size))))
            .collect();
        model.extend(bodies.iter().cloned());
        let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| {
            for body in bodies {
                tx.append(draft(body));
            }
            Ok(())
        };
        world.store.room_op(&id(0), op).await.unwrap();
        world.commits.next().await.unwrap();
    }
    let events = [1, 50, 64, 129];
    let bytes = [700, 40_000, usize::MAX];
    for cursor in 0..=model.len() as u64 {
        for events in events {
            for bytes in bytes {
                page(&world, &model, 0, cursor, PageLimit { events, bytes }).await;
            }
        }
    }
    world.handle.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_room_reads_as_what_was_said(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test]
async fn retention_drops_whole_blocks_and_tells_where_the_log_begins() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let mut world = open(folder.path(), &clock);
    let create = |retention_days| CreateRoom {
        id: id(retention_days as usize),
        title: "t".into(),
        settings: RoomSettings {
            retention_days,
            ..RoomSettings::default()
        },
        owner: alice(),
    };
    for days in [0, 1] {
        world.rooms.push(
            world
                .store
                .create_room(create(days))
                .await
                .unwrap()
                .unwrap(),
        );
    }
    let hour = std::time::Duration::from_secs(60 * 60);
    for _ in 0..300 {
        clock.advance(hour / 4);
        for room in 0..2 {
            let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| {
                Ok(tx.append(draft(said("x".into()))))
            };
            world.store.room_op(&id(room), op).await.unwrap();
        }
        while let Ok(Some(_)) =
            tokio::time::timeout(std::time::Duration::ZERO, world.commits.next()).await
        {}
    }
    // 75 hours of events, four an hour: at most a day and a block may be left.
    assert!(world.store.expire_events().await.unwrap() >= 2);
    let (kept, expiring) = (&world.rooms[0], &world.rooms[1]);
    assert_eq!((kept.first(), kept.head()), (Seq(1), Seq(301)));
    let first = expiring.first();
    assert!(first > Seq(1) && first.0 <= 301 - 24 * 4, "{first}");
    let page = world
        .store
        .page_after(expiring, Seq::ZERO, ALL)
        .await
        .unwrap();
    assert_eq!((page.first(), page.last()), (first, Seq(301)));
    assert!(
        world
            .store
            .page_before(expiring, first, ALL)
            .await
            .unwrap()
            .frames()
            .is_empty()
    );
    assert_eq!(world.store.expire_events().await.unwrap(), 0);

    let World {
        store,
        handle,
        rooms,
        ..
    } = world;
    handle.shutdown().await;
    drop((store, rooms));
    let world = open(folder.path(), &clock);
    assert_eq!(
        (world.rooms[1].first(), world.rooms[1].head()),
        (first, Seq(301))
    );
}

#[tokio::test]
async fn what_was_redacted_is_nowhere_in_what_can_be_read_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let world = open(folder.path(), &clock);
    let create = CreateRoom {
        id: id(0),
        title: "t".into(),
        settings: RoomSettings::default(),
        owner: alice(),
    };
    world.store.create_room(create).await.unwrap().unwrap();
    let mut model = vec![EventBody::Tombstone];
    // Several commits, so that one target is folded and its row still in the log, one is not, and one is long gone.
    for text in [
        "one secret",
        "two secret",
        "three secret",
        "four secret",
        "five secret",
        "six secret",
    ] {
        let body = said(text.to_owned());
        model.push(body.clone());
        let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
        world.store.room_op(&id(0), op).await.unwrap();
    }
    for target in 2..=7 {
        redact(&world, &mut model, 0, Seq(target)).await;
    }
    let World {
        store,
        handle,
        rooms,
        ..
    } = world;
    handle.shutdown().await;
    drop((store, rooms));
    let world = open(folder.path(), &clock);
    let whole = world
        .store
        .page_after(&world.rooms[0], Seq(1), ALL)
        .await
        .unwrap();
    assert!(
        !whole
            .frames()
            .wire()
            .windows(6)
            .any(|bytes| bytes == b"secret")
    );
    let bodies: Vec<_> = decode(&whole).into_iter().map(|event| event.body).collect();
    assert_eq!(bodies, model[1..]);
}
