//! The log against a model, with so little kept unfolded that every fold, seam and restart is met: whatever the
//! file does with its rows, a room reads as the line of events that was said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use stack_proto::JsonCodec;
use stack_storage::{
    Ban, Commits, CreateRoom, EraseWalk, ErasedBy, KeptLog, Location, NewErasure, PageLimit,
    Purged, Retention, RoomRef, Store, StoreConfig, StoreHandle, SweepCursor,
};
use stack_types::{
    Clock as _, Event, EventBody, EventCodec, EventDraft, ManualClock, RoomId, RoomSettings, Seq,
    Timestamp, UserId,
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
    /// Everything that one of two has said is erased, in one room or all; cut off after so many steps.
    Erase {
        user: usize,
        room: Option<usize>,
        cut: usize,
    },
    /// So many hours go by.
    Wait(u64),
    /// What is too old or too much is dropped.
    Expire,
    /// And its bytes removed.
    Purge,
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
        2 => (0usize..2, proptest::option::of(0usize..3), 0usize..12)
            .prop_map(|(user, room, cut)| Step::Erase { user, room, cut }),
        1 => (1u64..20).prop_map(Step::Wait),
        2 => Just(Step::Expire),
        2 => Just(Step::Purge),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What rooms keep: one everything, one the newest events, one those of a day.
const KEPT_MESSAGES: u32 = 70;

fn settings(room: usize) -> RoomSettings {
    RoomSettings {
        retention_messages: if room == 1 { KEPT_MESSAGES } else { 0 },
        retention_days: u32::from(room == 2),
        ..RoomSettings::default()
    }
}

/// A room as it should read: everything that ever was, when it was, and how much of that is gone.
#[derive(Default)]
struct Model {
    bodies: Vec<EventBody>,
    senders: Vec<UserId>,
    times: Vec<Timestamp>,
    gone: usize,
}

impl Model {
    fn push(&mut self, sender: UserId, body: EventBody, at: Timestamp) {
        self.senders.push(sender);
        self.bodies.push(body);
        self.times.push(at);
    }

    fn len(&self) -> u64 {
        self.bodies.len() as u64
    }

    /// The message this far from the end, if it is one and there.
    fn message(&self, back: u64) -> Option<Seq> {
        let seq = self.len().saturating_sub(back).max(1);
        let there = seq > self.gone as u64
            && matches!(
                self.bodies.get(seq as usize - 1),
                Some(EventBody::Message { .. })
            );
        there.then_some(Seq(seq))
    }

    /// Takes away what somebody has written, and says in which events that was.
    fn erase(&mut self, user: UserId) -> Vec<Seq> {
        let mut targets = Vec::new();
        let there = self
            .senders
            .iter()
            .zip(&mut self.bodies)
            .zip(1..)
            .skip(self.gone);
        for ((sender, body), seq) in there {
            let is_text = match body {
                EventBody::Message { .. } => true,
                EventBody::Edited { body, .. } => body.is_some(),
                EventBody::Redacted { reason, .. } => reason.is_some(),
                EventBody::Reacted { emoji, .. } => !emoji.is_empty(),
                _ => false,
            };
            if *sender != user || !is_text {
                continue;
            }
            targets.push(Seq(seq));
            match body {
                EventBody::Message { .. } => *body = EventBody::Tombstone,
                EventBody::Edited { body, .. } => *body = None,
                EventBody::Redacted { reason, .. } => *reason = None,
                EventBody::Reacted { emoji, .. } => emoji.clear(),
                _ => {}
            }
        }
        targets
    }

    fn expire(&mut self, room: usize, now: Timestamp) {
        if room == 1 {
            self.gone = self
                .gone
                .max(self.bodies.len().saturating_sub(KEPT_MESSAGES as usize));
        }
        if room == 2 {
            let since = now.minus(std::time::Duration::from_secs(24 * 60 * 60));
            self.gone = self.gone.max(self.times.partition_point(|at| *at < since));
        }
    }
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

impl World {
    async fn reopened(self, folder: &Path, clock: &Arc<ManualClock>) -> Self {
        let Self {
            store,
            handle,
            rooms,
            ..
        } = self;
        handle.shutdown().await;
        drop((store, rooms));
        open(folder, clock)
    }

    /// Nobody else takes the commits away, and the writer waits for whoever should.
    async fn drain(&mut self) -> usize {
        let mut drained = 0;
        while let Ok(Some(_)) =
            tokio::time::timeout(std::time::Duration::ZERO, self.commits.next()).await
        {
            drained += 1;
        }
        drained
    }
}

fn id(room: usize) -> RoomId {
    format!("room-{room}").parse().unwrap()
}

/// A room of Alice's, to be made.
fn room_of(id: RoomId, settings: RoomSettings) -> CreateRoom {
    CreateRoom {
        id,
        title: "t".into(),
        settings,
        owner: alice(),
    }
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn user(number: usize) -> UserId {
    ["alice", "bob"][number % 2].parse().unwrap()
}

fn draft(body: EventBody) -> EventDraft {
    by(alice(), body)
}

fn by(sender: UserId, body: EventBody) -> EventDraft {
    EventDraft { sender, body }
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
async fn redact(world: &World, model: &mut Model, room: usize, target: Seq, at: Timestamp) {
    world
        .store
        .room_op(&id(room), move |tx| {
            tx.redact(target)?;
            Ok(tx.append(draft(EventBody::Redacted {
                target_seq: target,
                reason: Some("reason".into()),
            })))
        })
        .await
        .unwrap();
    for body in &mut model.bodies {
        if let EventBody::Edited { target_seq, body } = body
            && *target_seq == target
        {
            *body = None;
        }
    }
    model.bodies[target.0 as usize - 1] = EventBody::Tombstone;
    let redacted = EventBody::Redacted {
        target_seq: target,
        reason: Some("reason".into()),
    };
    model.push(alice(), redacted, at);
}

async fn play(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let mut world = open(folder.path(), &clock);
    let mut model: Vec<Model> = Vec::new();
    for room in 0..3 {
        let create = room_of(id(room), settings(room));
        world
            .rooms
            .push(world.store.create_room(create).await.unwrap().unwrap());
        let first = world
            .store
            .page_after(&world.rooms[room], Seq::ZERO, ALL)
            .await
            .unwrap();
        let mut new = Model::default();
        for event in decode(&first) {
            new.push(event.sender, event.body, event.ts);
        }
        model.push(new);
    }
    let mut drained = 0;
    for (number, step) in steps.into_iter().enumerate() {
        clock.advance(std::time::Duration::from_millis(7));
        match step {
            Step::Say { room, count, size } => {
                let mut pending = Vec::new();
                for index in 0..count {
                    let body = said(format!("{number}.{index} {}", "x".repeat(size)));
                    let sender = user(index);
                    model[room].push(sender, body.clone(), clock.now());
                    let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| {
                        Ok(tx.append(by(sender, body)))
                    };
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
                if let Some(target) = model[room].message(back) {
                    redact(&world, &mut model[room], room, target, clock.now()).await;
                }
            }
            Step::Edit { room, back } => {
                if let Some(target_seq) = model[room].message(back) {
                    let body = EventBody::Edited {
                        target_seq,
                        body: Some("edited".into()),
                    };
                    model[room].push(alice(), body.clone(), clock.now());
                    let op =
                        move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
                    world.store.room_op(&id(room), op).await.unwrap();
                }
            }
            Step::Wait(hours) => {
                clock.advance(std::time::Duration::from_secs(60 * 60 * hours));
            }
            Step::Expire => {
                let expected: usize = model.iter().map(|model| model.gone).sum();
                for (room, model) in model.iter_mut().enumerate() {
                    model.expire(room, clock.now());
                }
                let now: usize = model.iter().map(|model| model.gone).sum();
                let dropped = world.store.expire_events().await.unwrap();
                assert_eq!(dropped, (now - expected) as u64);
            }
            Step::Purge => {
                world.store.purge_events(|| false).await.unwrap();
                let none = world.store.purge_events(|| false).await.unwrap();
                assert_eq!(none, Purged::default());
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
            Step::Erase {
                user: number,
                room,
                cut,
            } => {
                let new = NewErasure {
                    user: user(number),
                    room: room.map(id),
                    by: ErasedBy::default(),
                };
                world.store.erase(new).await.unwrap().unwrap();
                let mut walk = EraseWalk::default();
                for _ in 0..cut {
                    world.store.erase_step(&mut walk).await.unwrap();
                }
                world = world.reopened(folder.path(), &clock).await;
                let mut walk = EraseWalk::default();
                while world.store.erase_step(&mut walk).await.unwrap() {
                    drained += world.drain().await;
                }
                let mut expected = (0, 0);
                for (number_of, model) in model.iter_mut().enumerate() {
                    if room.is_some_and(|room| room != number_of) {
                        continue;
                    }
                    let targets = model.erase(user(number));
                    expected.0 += u64::from(!targets.is_empty());
                    expected.1 += targets.len() as u64;
                    let head = Seq(model.len());
                    let home = &world.rooms[number_of];
                    let told = world.store.page_after(home, head, ALL).await.unwrap();
                    let mut named = Vec::new();
                    for event in decode(&told) {
                        assert_eq!(event.sender, user(number));
                        model.push(event.sender, event.body.clone(), event.ts);
                        match event.body {
                            EventBody::Erased { targets } => named.extend(targets),
                            other => panic!("{other:?}"),
                        }
                    }
                    assert_eq!(named, targets);
                }
                let done = world.store.erasures().unwrap().remove(0);
                assert_eq!((done.rooms, done.events), expected);
                assert!(done.finished_at.is_some());
            }
            Step::Restart => world = world.reopened(folder.path(), &clock).await,
        }
        drained += world.drain().await;
    }
    for (room, model) in model.iter().enumerate() {
        let home = &world.rooms[room];
        assert_eq!(
            (home.first().0, home.head().0),
            (model.gone as u64 + 1, model.len())
        );
        let whole = world.store.page_after(home, Seq::ZERO, ALL).await.unwrap();
        let events = decode(&whole);
        let times: Vec<_> = events.iter().map(|event| event.ts).collect();
        assert_eq!(times, model.times[model.gone..]);
        let bodies: Vec<_> = events.into_iter().map(|event| event.body).collect();
        assert_eq!(bodies, model.bodies[model.gone..]);
        for seq in (1..=model.len()).step_by(17) {
            let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.event(Seq(seq))?);
            let event = world.store.room_op(&id(room), op).await.unwrap();
            if seq as usize <= model.gone {
                assert_eq!(event, None);
                continue;
            }
            let event = event.unwrap();
            assert_eq!(
                (event.seq, &event.body),
                (Seq(seq), &model.bodies[seq as usize - 1])
            );
            let until = world.store.last_until(home, event.ts).await.unwrap();
            assert!(until >= Seq(seq));
        }
    }
    assert!(drained > 0 || model.iter().all(|model| model.len() == 1));
}

const ALL: PageLimit = PageLimit {
    events: usize::MAX,
    bytes: usize::MAX,
};

async fn page(world: &World, model: &Model, room: usize, cursor: u64, limit: PageLimit) {
    let first = model.gone as u64;
    let cursor = cursor.min(model.len()).max(first);
    let model = &model.bodies;
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
    let most = limit.events.min((cursor - first) as usize);
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
    let create = room_of(id(0), RoomSettings::default());
    let room = world.store.create_room(create).await.unwrap().unwrap();
    let created = world.store.page_after(&room, Seq::ZERO, ALL).await.unwrap();
    world.rooms.push(room);
    let mut model = Model::default();
    for event in decode(&created) {
        model.push(event.sender, event.body, event.ts);
    }
    for step in 0..120 {
        let size = if step % 17 < 12 { 3 } else { 9_000 };
        let bodies: Vec<_> = (0..=step % 3)
            .map(|index| said(format!("{step}.{index} {}", "x".repeat(size))))
            .collect();
        for body in &bodies {
            model.push(alice(), body.clone(), clock.now());
        }
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
    for cursor in 0..=model.len() {
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
async fn what_is_no_longer_kept_is_told_dropped_and_out_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let mut world = open(folder.path(), &clock);
    for room in 0..3 {
        let create = room_of(id(room), settings(room));
        let made = world.store.create_room(create).await.unwrap();
        world.rooms.push(made.unwrap());
    }
    let quarter = std::time::Duration::from_secs(15 * 60);
    for number in 0..300 {
        clock.advance(quarter);
        for room in 0..3 {
            let body = said(format!("word-{room}-{number}-end"));
            let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
            world.store.room_op(&id(room), op).await.unwrap();
        }
        world.drain().await;
    }
    // 300 in each: of the last day there are 97, with both its ends.
    assert_eq!(world.store.expire_events().await.unwrap(), 231 + 204);
    let ends = |world: &World| -> Vec<(u64, u64)> {
        let end = |room: &RoomRef| (room.first().0, room.head().0);
        world.rooms.iter().map(end).collect()
    };
    let kept = [(1, 301), (232, 301), (205, 301)];
    assert_eq!(ends(&world), kept);
    for (room, (first, head)) in world.rooms.iter().zip(kept) {
        let page = world.store.page_after(room, Seq::ZERO, ALL).await.unwrap();
        assert_eq!((page.first(), page.last()), (Seq(first), Seq(head)));
        let before = world
            .store
            .page_before(room, Seq(first), ALL)
            .await
            .unwrap();
        assert!(before.frames().is_empty());
    }
    assert_eq!(world.store.expire_events().await.unwrap(), 0);
    assert_ne!(
        world.store.purge_events(|| false).await.unwrap(),
        Purged::default()
    );
    assert_eq!(
        world.store.purge_events(|| false).await.unwrap(),
        Purged::default()
    );

    // Room 1 keeps events 232 to 301, that is what was said from number 230 on; room 2 from 203 on.
    let copy = folder.path().join("copy.redb");
    world.store.snapshot(copy.clone()).await.unwrap();
    let live = std::fs::read(copy).unwrap();
    let holds = |room: usize, number: usize| {
        let word = format!("word-{room}-{number}-end");
        live.windows(word.len())
            .any(|bytes| bytes == word.as_bytes())
    };
    assert!((0..300).all(|number| holds(0, number)));
    assert!((0..300).all(|number| holds(1, number) == (number >= 230)));
    assert!((0..300).all(|number| holds(2, number) == (number >= 203)));

    // Everything in the room of a day goes, to the last one; its numbers and its time go on all the same.
    clock.advance(quarter * 200);
    assert_eq!(world.store.expire_events().await.unwrap(), 97);
    world.store.purge_events(|| false).await.unwrap();
    let last = clock.now();
    let World {
        store,
        handle,
        rooms,
        ..
    } = world;
    handle.shutdown().await;
    drop((store, rooms));
    let mut world = open(folder.path(), &clock);
    assert_eq!(ends(&world), [(1, 301), (232, 301), (302, 301)]);
    clock.set(Timestamp(1_700_000_000_000));
    let op = |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(said("again".into()))));
    let place = world.store.room_op(&id(2), op).await.unwrap();
    assert_eq!((place.seq, place.ts), (Seq(302), last.minus(quarter * 200)));
    world.drain().await;
    let page = world
        .store
        .page_after(&world.rooms[2], Seq::ZERO, ALL)
        .await
        .unwrap();
    assert_eq!((page.first(), page.last()), (Seq(302), Seq(302)));
}

/// A server's bound holds for every room, and a room that keeps less keeps less.
#[tokio::test]
async fn the_server_bounds_what_rooms_keep() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let config = StoreConfig {
        retention: Retention {
            days: 0,
            messages: 100,
        },
        ..StoreConfig::default()
    };
    let (store, _handle, mut commits) = Store::open(config, Arc::new(JsonCodec), clock).unwrap();
    for room in 0..2 {
        let create = room_of(id(room), settings(room));
        store.create_room(create).await.unwrap().unwrap();
        let op = |tx: &mut stack_storage::RoomTx<'_, '_>| {
            for _ in 0..149 {
                tx.append(draft(said("x".into())));
            }
            Ok(())
        };
        store.room_op(&id(room), op).await.unwrap();
        commits.next().await.unwrap();
    }
    assert_eq!(store.expire_events().await.unwrap(), 50 + 80);
}

#[tokio::test]
async fn what_was_redacted_is_nowhere_in_what_can_be_read_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let world = open(folder.path(), &clock);
    let create = room_of(id(0), RoomSettings::default());
    world.store.create_room(create).await.unwrap().unwrap();
    let mut model = Model::default();
    model.push(alice(), EventBody::Tombstone, clock.now());
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
        model.push(alice(), body.clone(), clock.now());
        let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
        world.store.room_op(&id(0), op).await.unwrap();
    }
    for target in 2..=7 {
        redact(&world, &mut model, 0, Seq(target), clock.now()).await;
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
    assert_eq!(bodies, model.bodies[1..]);
}

#[tokio::test]
async fn what_was_said_in_a_deleted_room_leaves_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    // So much is kept unfolded that nothing is folded for its own sake.
    let config = || StoreConfig {
        location: Location::File(folder.path().join("stack.redb")),
        ..StoreConfig::default()
    };
    let open = || Store::open(config(), Arc::new(JsonCodec), clock.clone()).unwrap();
    let (store, handle, mut commits) = open();
    for room in 0..3 {
        let create = CreateRoom {
            id: id(room),
            title: format!("title-{room}"),
            settings: RoomSettings::default(),
            owner: alice(),
        };
        store.create_room(create).await.unwrap().unwrap();
        let body = said(format!("word-{room}"));
        let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
        store.room_op(&id(room), op).await.unwrap();
    }
    while let Ok(Some(_)) = tokio::time::timeout(std::time::Duration::ZERO, commits.next()).await {}
    let delete = async |store: &Store, room| {
        let op = |tx: &mut stack_storage::RoomTx<'_, '_>| {
            tx.delete();
            Ok(())
        };
        store.room_op(&id(room), op).await.unwrap();
    };
    let live = async |store: &Store, copy: &str| {
        let copy = folder.path().join(copy);
        store.snapshot(copy.clone()).await.unwrap();
        let bytes = std::fs::read(copy).unwrap();
        let holds = |text: String| {
            let mut windows = bytes.windows(text.len());
            windows.any(|window| window == text.as_bytes())
        };
        [0, 1, 2].map(|room| {
            (
                holds(format!("word-{room}")),
                holds(format!("title-{room}")),
            )
        })
    };
    // One while its row is known to be there, one of which that is found out when the file is opened.
    delete(&store, 0).await;
    store.purge_events(|| false).await.unwrap();
    let (gone, there) = ((false, false), (true, true));
    assert_eq!(live(&store, "one").await[0], gone);
    assert_eq!(live(&store, "two").await[1..], [there, there]);
    let body = said("word-1".to_owned());
    let op = move |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft(body)));
    store.room_op(&id(1), op).await.unwrap();
    delete(&store, 1).await;
    handle.shutdown().await;
    drop(store);
    let (store, _handle, _commits) = open();
    store.purge_events(|| false).await.unwrap();
    let mut sweep = SweepCursor::default();
    while store.sweep(&mut sweep).await.unwrap().more {}
    assert_eq!(live(&store, "three").await, [gone, gone, there]);
}

#[tokio::test]
async fn a_ban_stays_without_the_reason_that_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let world = open(folder.path(), &clock);
    let create = room_of(id(0), RoomSettings::default());
    world.store.create_room(create).await.unwrap().unwrap();
    let op = |tx: &mut stack_storage::RoomTx<'_, '_>| {
        for (whom, by) in [("carl", alice()), ("dora", user(1))] {
            let whom: UserId = whom.parse().unwrap();
            let ban = Ban {
                user_id: whom,
                by,
                reason: Some("reason".into()),
                created_at: tx.now(),
                expires_at: None,
            };
            tx.set_ban(whom, Some(ban.clone()));
            tx.set_mute(whom, Some(ban));
        }
        Ok(())
    };
    world.store.room_op(&id(0), op).await.unwrap();
    let new = NewErasure {
        user: user(1),
        room: Some(id(0)),
        by: ErasedBy::default(),
    };
    world.store.erase(new).await.unwrap().unwrap();
    let mut walk = EraseWalk::default();
    while world.store.erase_step(&mut walk).await.unwrap() {}
    let world = world.reopened(folder.path(), &clock).await;
    let now = Timestamp(1_700_000_000_001);
    for all in [world.rooms[0].bans(now), world.rooms[0].mutes(now)] {
        let reasons: Vec<_> = all.iter().map(|ban| ban.reason.is_some()).collect();
        assert_eq!(reasons, [true, false]);
    }
}
