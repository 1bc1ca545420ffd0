//! The store over a disk that loses power and fills up.
//!
//! The disk keeps what was synced. Of what was written since, a power cut leaves any part: each write may be there,
//! missing, or torn at a sector. A store that has answered must be found by the next one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use redb::{Database, StorageBackend};
use stack_types::{
    ErrorCode, Event, EventBody, EventCodec, EventDraft, Problem, RoomId, RoomSettings, Seq,
    SystemClock, UserId,
};

use crate::engine::Opener;
use crate::{
    CreateRoom, EraseWalk, ErasedBy, KeptLog, NewErasure, OpenError, PageLimit, Store, StoreConfig,
    StoreHandle,
};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
struct Disk(Arc<DiskState>);

#[derive(Default)]
struct DiskState {
    bytes: Mutex<Bytes>,
    full: AtomicBool,
    failing: AtomicBool,
    panicking: AtomicBool,
}

#[derive(Default)]
struct Bytes {
    /// As the process sees it.
    now: Vec<u8>,
    /// As a power cut leaves it at least.
    synced: Vec<u8>,
    since: Vec<Change>,
}

enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, most: usize) {
        match self {
            Self::Length(length) => bytes.resize(*length, 0),
            Self::Write(offset, data) => {
                let data = &data[..data.len().min(most)];
                if bytes.len() < offset + data.len() {
                    bytes.resize(offset + data.len(), 0);
                }
                bytes[*offset..offset + data.len()].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    /// The disk as it is found after a power cut now.
    fn after_power_cut(&self, rng: &mut TestRng) -> Self {
        let bytes = self.0.bytes.lock();
        let mut left = bytes.synced.clone();
        for change in &bytes.since {
            match rng.next_u32() % 8 {
                0..=2 => change.apply(&mut left, usize::MAX),
                3 => change.apply(&mut left, SECTOR * (rng.next_u32() as usize % 16)),
                _ => {}
            }
        }
        let found = Self::default();
        {
            let mut new = found.0.bytes.lock();
            new.now.clone_from(&left);
            new.synced = left;
        }
        found
    }

    fn fill_up(&self, full: bool) {
        self.0.full.store(full, Ordering::SeqCst);
    }

    fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }

    /// Stands for a bug in the engine.
    fn panic(&self, panicking: bool) {
        self.0.panicking.store(panicking, Ordering::SeqCst);
    }

    /// Fails where a disk would on which nothing can be written.
    fn check(&self) -> io::Result<()> {
        assert!(!self.0.panicking.load(Ordering::SeqCst), "a bug below");
        if self.0.failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.check_room()
    }

    fn check_room(&self) -> io::Result<()> {
        if self.0.full.load(Ordering::SeqCst) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.bytes.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let bytes = self.0.bytes.lock();
        let start = offset as usize;
        let found = bytes.now.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.check()?;
        let mut bytes = self.0.bytes.lock();
        let change = Change::Length(len as usize);
        change.apply(&mut bytes.now, usize::MAX);
        bytes.since.push(change);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        self.check()?;
        let mut bytes = self.0.bytes.lock();
        let Bytes { synced, since, .. } = &mut *bytes;
        for change in since.drain(..) {
            change.apply(synced, usize::MAX);
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.check()?;
        let mut bytes = self.0.bytes.lock();
        let change = Change::Write(offset as usize, data.to_vec());
        change.apply(&mut bytes.now, usize::MAX);
        bytes.since.push(change);
        Ok(())
    }
}

impl Opener for Disk {
    fn open(&self) -> Result<Database, OpenError> {
        let mut builder = Database::builder();
        // Small, so that reads meet the disk.
        builder.set_cache_size(256 * 1024);
        builder
            .create_with_backend(self.clone())
            .map_err(|source| OpenError::Open {
                path: "disk".into(),
                source: Box::new(source),
            })
    }

    fn has_room(&self) -> io::Result<()> {
        self.check_room()
    }

    fn try_every(&self) -> Duration {
        Duration::ZERO
    }
}

/// The codec is the gateway's affair; here an event's frame is its numbers, a letter for what it is, and its text.
struct Plain;

impl EventCodec for Plain {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        let body = match &event.body {
            EventBody::Message { body, .. } => format!("m{body}"),
            EventBody::Tombstone => "t".to_owned(),
            EventBody::Erased { targets } => {
                let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
                format!("e{}", targets.join(","))
            }
            _ => "-".to_owned(),
        };
        let (seq, ts, sender) = (event.seq, event.ts, event.sender);
        out.extend_from_slice(format!("{seq} {ts} {sender} {} {body}", event.room).as_bytes());
    }

    fn decode(&self, frame: &[u8]) -> Result<Event, stack_types::MalformedEvent> {
        let text = String::from_utf8_lossy(frame);
        let mut parts = text.splitn(5, ' ');
        let mut next = || parts.next().unwrap_or_default();
        Ok(Event {
            seq: Seq(next().parse().unwrap()),
            ts: stack_types::Timestamp(next().parse().unwrap()),
            sender: next().parse().unwrap(),
            room: next().parse().unwrap(),
            body: match next().split_at(1) {
                ("m", body) => EventBody::Message {
                    body: body.to_owned(),
                    data: None,
                    key: None,
                    reply_to: None,
                },
                ("t", _) => EventBody::Tombstone,
                ("e", targets) => EventBody::Erased {
                    targets: targets
                        .split(',')
                        .map(|seq| Seq(seq.parse().unwrap()))
                        .collect(),
                },
                _ => EventBody::Redacted {
                    target_seq: Seq::ZERO,
                    reason: None,
                },
            },
        })
    }

    fn signal(&self, _: &stack_types::Signal) -> Vec<u8> {
        Vec::new()
    }
}

fn open(disk: &Disk) -> (Store, StoreHandle) {
    let config = StoreConfig {
        kept_log: KeptLog {
            commits: 20,
            bytes: 40_000,
        },
        ..StoreConfig::default()
    };
    let clock = Arc::new(SystemClock);
    let opener = Box::new(disk.clone());
    let (store, handle, mut commits) =
        Store::open_with(opener, config, Arc::new(Plain), clock).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { while commits.next().await.is_some() {} });
    });
    (store, handle)
}

fn room_id(room: usize) -> RoomId {
    format!("room-{room}").parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

async fn create_rooms(store: &Store, rooms: usize) {
    for room in 0..rooms {
        let create = CreateRoom {
            id: room_id(room),
            title: "t".into(),
            settings: RoomSettings::default(),
            owner: alice(),
        };
        store.create_room(create).await.unwrap();
    }
}

async fn say(store: &Store, room: usize, body: String) -> Result<Seq, Problem> {
    store
        .room_op(&room_id(room), move |tx| {
            if let Some(place) = tx.find_key(&alice(), &body)? {
                return Ok(place.seq);
            }
            let message = EventBody::Message {
                key: Some(body.clone()),
                body,
                data: None,
                reply_to: None,
            };
            let draft = EventDraft {
                sender: alice(),
                body: message,
            };
            Ok(tx.append(draft).seq)
        })
        .await
}

async fn said(store: &Store, room: usize) -> Vec<String> {
    let body = |event: Event| match event.body {
        EventBody::Message { body, .. } => body,
        _ => String::new(),
    };
    log(store, room).await.into_iter().map(body).collect()
}

/// All of a room, whose numbers have no hole and whose time never falls.
async fn log(store: &Store, room: usize) -> Vec<Event> {
    let room = store.room(&room_id(room)).unwrap().unwrap();
    let all = PageLimit {
        events: usize::MAX,
        bytes: usize::MAX,
    };
    let page = store.page_after(&room, Seq::ZERO, all).await.unwrap();
    assert_eq!((page.first(), page.last()), (Seq(1), room.head()));
    let events: Vec<Event> = page
        .frames()
        .iter()
        .map(|frame| Plain.decode(&frame).unwrap())
        .collect();
    assert!(
        events
            .iter()
            .zip(1..)
            .all(|(event, seq)| event.seq == Seq(seq))
    );
    assert!(events.is_sorted_by_key(|event| event.ts));
    events
}

const ROOMS: usize = 5;
type Acked = Arc<Mutex<Vec<(usize, String, Seq)>>>;

/// One life between two power cuts: writers say things until the cut, and note what was acknowledged.
async fn live(disk: &Disk, acked: &Acked, counter: &Arc<AtomicU64>, rng: &mut TestRng) -> Disk {
    let (store, handle) = open(disk);
    create_rooms(&store, ROOMS).await;
    let known = acked.lock().clone();
    for (room, body, seq) in known {
        let found = said(&store, room).await;
        assert_eq!(
            found[seq.0 as usize - 1],
            body,
            "an acknowledged message is not at its place"
        );
        assert_eq!(found.iter().filter(|other| **other == body).count(), 1);
    }
    let known = acked.lock().first().cloned();
    if let Some((room, body, seq)) = known {
        assert_eq!(
            say(&store, room, body).await.unwrap(),
            seq,
            "a key was forgotten"
        );
    }
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let (store, acked, counter) = (store.clone(), acked.clone(), counter.clone());
        writers.spawn(async move {
            loop {
                let number = counter.fetch_add(1, Ordering::SeqCst);
                let (room, body) = (
                    (writer + number as usize) % ROOMS,
                    format!("message-{number}"),
                );
                let Ok(seq) = say(&store, room, body.clone()).await else {
                    return;
                };
                acked.lock().push((room, body, seq));
            }
        });
    }
    let enough = acked.lock().len() + 50 + rng.next_u32() as usize % 400;
    while acked.lock().len() < enough {
        tokio::task::yield_now().await;
    }
    // Whatever was acknowledged when the power goes stands; what is acknowledged in the moment after does not count.
    let before = acked.lock().clone();
    let found = disk.after_power_cut(rng);
    handle.shutdown().await;
    while writers.join_next().await.is_some() {}
    *acked.lock() = before;
    found
}

/// Random numbers, that can be had again.
fn random() -> TestRng {
    let seed = std::env::var("STACK_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ 0x5eed);
    println!("STACK_TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

#[test]
fn power_cuts_lose_nothing_that_was_acknowledged() {
    let mut rng = random();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (mut disk, acked, counter) = (Disk::default(), Acked::default(), Arc::default());
        for _ in 0..12 {
            disk = live(&disk, &acked, &counter, &mut rng).await;
        }
    });
}

/// What Bob has said in a room, as it is asked for to be erased: where, and that all of it goes and nothing else.
struct Erasing {
    bobs: Vec<Seq>,
    others: Vec<(Seq, String)>,
}

async fn say_as(store: &Store, room: usize, sender: UserId, body: String) -> Result<Seq, Problem> {
    let message = EventBody::Message {
        body,
        data: None,
        key: None,
        reply_to: None,
    };
    let draft = EventDraft {
        sender,
        body: message,
    };
    let op = |tx: &mut crate::RoomTx<'_, '_>| Ok(tx.append(draft).seq);
    store.room_op(&room_id(room), op).await
}

/// Each number of Bob's is named at most once, those that are named are tombstones, and the others are as they were.
async fn check_erasing(store: &Store, erasing: &[Erasing]) -> bool {
    let mut all = true;
    for (room, erasing) in erasing.iter().enumerate() {
        let log = log(store, room).await;
        let mut named = Vec::new();
        for event in &log {
            if let EventBody::Erased { targets } = &event.body {
                assert_eq!(event.sender, bob());
                named.extend(targets.iter().copied());
            }
        }
        assert_eq!(
            named,
            erasing.bobs[..named.len()],
            "named twice, or not at all"
        );
        for (index, seq) in erasing.bobs.iter().enumerate() {
            let is_gone = matches!(log[seq.0 as usize - 1].body, EventBody::Tombstone);
            assert_eq!(is_gone, index < named.len(), "{seq} in room {room}");
        }
        for (seq, said) in &erasing.others {
            let body = &log[seq.0 as usize - 1].body;
            assert!(matches!(body, EventBody::Message { body, .. } if body == said));
        }
        all &= named.len() == erasing.bobs.len();
    }
    all
}

fn bob() -> UserId {
    "bob".parse().unwrap()
}

#[test]
fn an_erasure_goes_on_where_a_power_cut_has_stopped_it() {
    let mut rng = random();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut disk = Disk::default();
        let (store, handle) = open(&disk);
        create_rooms(&store, ROOMS).await;
        let mut erasing = Vec::new();
        for room in 0..ROOMS {
            let (mut bobs, mut others) = (Vec::new(), Vec::new());
            for number in 0..120 {
                let body = format!("said-{room}-{number}");
                if rng.next_u32().is_multiple_of(2) {
                    bobs.push(say_as(&store, room, bob(), body).await.unwrap());
                } else {
                    let seq = say_as(&store, room, alice(), body.clone()).await.unwrap();
                    others.push((seq, body));
                }
            }
            erasing.push(Erasing { bobs, others });
        }
        let new = NewErasure {
            user: bob(),
            room: None,
            by: ErasedBy::default(),
        };
        store.erase(new).await.unwrap().unwrap();
        handle.shutdown().await;

        let mut cuts = 0;
        loop {
            let (store, handle) = open(&disk);
            if check_erasing(&store, &erasing).await {
                let mut walk = EraseWalk::default();
                while store.erase_step(&mut walk).await.unwrap() {}
                let done = store.erasures().unwrap().remove(0);
                let bobs: usize = erasing.iter().map(|room| room.bobs.len()).sum();
                assert_eq!((done.rooms, done.events), (ROOMS as u64, bobs as u64));
                assert!(done.finished_at.is_some());
                check_erasing(&store, &erasing).await;
                handle.shutdown().await;
                break;
            }
            let steps = Arc::new(AtomicU64::new(0));
            let (worker, counted) = (store.clone(), steps.clone());
            let mut erasing_on = tokio::task::JoinSet::new();
            erasing_on.spawn(async move {
                let mut walk = EraseWalk::default();
                walk.step = 5;
                while let Ok(true) = worker.erase_step(&mut walk).await {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            });
            let enough = u64::from(rng.next_u32() % 12);
            while steps.load(Ordering::SeqCst) < enough && erasing_on.try_join_next().is_none() {
                tokio::task::yield_now().await;
            }
            let found = disk.after_power_cut(&mut rng);
            handle.shutdown().await;
            while erasing_on.join_next().await.is_some() {}
            (disk, cuts) = (found, cuts + 1);
        }
        assert!(cuts > 3, "{cuts}");
    });
}

#[tokio::test]
async fn a_full_disk_stops_writing_and_only_that_until_there_is_room() {
    let disk = Disk::default();
    let (store, _handle) = open(&disk);
    create_rooms(&store, 2).await;
    for number in 0..100 {
        say(&store, 0, format!("before-{number}")).await.unwrap();
    }
    let room = store.room(&room_id(0)).unwrap().unwrap();
    for round in 0..3 {
        disk.fill_up(true);
        for attempt in 0..5 {
            let refused = say(&store, 0, format!("never-{round}-{attempt}"))
                .await
                .unwrap_err();
            assert_eq!(refused.code, ErrorCode::Unavailable);
            assert_eq!(said(&store, 0).await.len(), 101 + round);
        }
        let create = CreateRoom {
            id: "unborn".parse().unwrap(),
            title: "t".into(),
            settings: RoomSettings::default(),
            owner: alice(),
        };
        assert!(store.create_room(create).await.is_err());
        assert!(store.room(&"unborn".parse().unwrap()).unwrap().is_none());
        disk.fill_up(false);
        let seq = say(&store, 0, format!("after-{round}")).await.unwrap();
        assert_eq!((seq, room.head()), (Seq(102 + round as u64), seq));
    }
    let found = said(&store, 0).await;
    assert_eq!(found[101..], ["after-0", "after-1", "after-2"]);
    assert_eq!(said(&store, 1).await.len(), 1);
}

#[tokio::test]
async fn after_a_failed_commit_the_file_is_opened_again_and_nothing_is_lost() {
    let disk = Disk::default();
    let (store, _handle) = open(&disk);
    create_rooms(&store, 2).await;
    let room = store.room(&room_id(0)).unwrap().unwrap();
    let mut expected = vec![String::new()];
    for round in 0..4 {
        for number in 0..40 {
            let body = format!("said-{round}-{number}");
            say(&store, 0, body.clone()).await.unwrap();
            expected.push(body);
        }
        disk.fail(true);
        for attempt in 0..3 {
            let refused = say(&store, 0, format!("lost-{round}-{attempt}"))
                .await
                .unwrap_err();
            assert_eq!(refused.code, ErrorCode::Unavailable);
        }
        disk.fail(false);
        let body = format!("again-{round}");
        assert_eq!(say(&store, 0, body.clone()).await.unwrap(), room.head());
        expected.push(body);
        // A commit that failed may have reached the disk all the same; then its message stands, once.
        let found = said(&store, 0).await;
        let kept: Vec<_> = found
            .iter()
            .filter(|body| !body.starts_with("lost-"))
            .cloned()
            .collect();
        assert_eq!(kept, expected);
        assert_eq!(room.head(), Seq(found.len() as u64));
    }
}

#[tokio::test]
async fn a_commit_that_panics_is_answered_and_the_store_goes_on() {
    let disk = Disk::default();
    let (store, _handle) = open(&disk);
    create_rooms(&store, 1).await;
    say(&store, 0, "before".into()).await.unwrap();
    disk.panic(true);
    let refused = say(&store, 0, "lost".into()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    disk.panic(false);
    say(&store, 0, "after".into()).await.unwrap();
    let found = said(&store, 0).await;
    assert!(found.iter().any(|body| body == "before"), "{found:?}");
    assert_eq!(found.last().map(String::as_str), Some("after"));
}

#[tokio::test]
async fn a_hole_in_the_file_is_told_and_not_an_empty_page() {
    let disk = Disk::default();
    let (store, _handle) = open(&disk);
    create_rooms(&store, 1).await;
    for number in 0..400 {
        say(&store, 0, format!("said-{number}")).await.unwrap();
    }
    let room = store.room(&room_id(0)).unwrap().unwrap();
    let lost = store.write(|tx, _| {
        tx.open_table(crate::tables::ROOM_BLOCKS)?
            .retain(|_, _| false)?;
        Ok(())
    });
    lost.await.unwrap();
    let all = PageLimit {
        events: usize::MAX,
        bytes: usize::MAX,
    };
    let hole = store.page_after(&room, Seq::ZERO, all).await.unwrap_err();
    assert!(hole.is_damage());
    let behind = store.page_after(&room, room.head(), all).await.unwrap();
    assert!(behind.frames().is_empty());
}
