//! Rooms that are brought in: unseen until they are whole, and gone where they never are.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use stack_proto::JsonCodec;
use stack_storage::{
    AuditAction, AuditEntry, AuditOutcome, Commits, CompleteRoom, CreateRoom, ImportRefused,
    ImportedRoom, Location, Membership, OutOfLine, PageLimit, Placeholder, Store, StoreConfig,
    StoreHandle, SweepCursor,
};
use stack_types::{
    Event, EventBody, EventDraft, ManualClock, RoomAction, RoomId, RoomRole, RoomSettings, Seq,
    Timestamp, UserId,
};

const ALL: PageLimit = PageLimit {
    events: usize::MAX,
    bytes: usize::MAX,
};
const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn open(path: &Path) -> (Store, StoreHandle, Commits) {
    let config = StoreConfig {
        location: Location::File(path.to_owned()),
        ..StoreConfig::default()
    };
    let clock = Arc::new(ManualClock::new(NOW));
    Store::open(config, Arc::new(JsonCodec), clock).unwrap()
}

fn ann() -> UserId {
    "ann".parse().unwrap()
}

fn den() -> RoomId {
    "den".parse().unwrap()
}

fn event(seq: u64, body: EventBody) -> Event {
    Event {
        room: den(),
        seq: Seq(seq),
        ts: Timestamp(1_000 + seq),
        sender: ann(),
        body,
    }
}

fn said(body: &str, key: Option<&str>) -> EventBody {
    EventBody::Message {
        body: body.to_owned(),
        data: None,
        key: key.map(str::to_owned),
        reply_to: None,
    }
}

fn made() -> EventBody {
    EventBody::Room {
        action: RoomAction::Created,
        title: "Den".to_owned(),
        settings: RoomSettings::default(),
    }
}

fn entry(action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}

/// A room of so many events, all of them written.
async fn brought(store: &Store, events: u64) -> ImportedRoom {
    let mut room = store.begin_import(Seq::FIRST, Timestamp(0)).await.unwrap();
    store.import_event(&mut room, &event(1, made())).unwrap();
    for seq in 2..=events {
        let body = match seq {
            3 => EventBody::Edited {
                target_seq: Seq(2),
                body: Some("edited".to_owned()),
            },
            seq => said(&format!("message {seq}"), None),
        };
        store.import_event(&mut room, &event(seq, body)).unwrap();
        if seq % 500 == 0 {
            store.write_import(&mut room, false).await.unwrap();
        }
    }
    store.write_import(&mut room, true).await.unwrap();
    room
}

fn complete(room: ImportedRoom) -> CompleteRoom {
    let owner = Membership {
        role: RoomRole::Owner,
        joined_at: Timestamp(1),
        joined_seq: Seq::ZERO,
    };
    CompleteRoom {
        room,
        id: den(),
        title: "Den".to_owned(),
        settings: RoomSettings::default(),
        created_at: Timestamp(1),
        members: vec![(ann(), owner)],
        bans: Vec::new(),
        mutes: Vec::new(),
        audit: entry(AuditAction::RoomImported),
    }
}

fn placeholder() -> (Placeholder, AuditEntry) {
    let ann = Placeholder {
        id: ann(),
        username: "ann.imported".parse().unwrap(),
        display_name: "Ann".to_owned(),
    };
    (ann, entry(AuditAction::PlaceholderMade))
}

async fn bodies(store: &Store) -> Vec<EventBody> {
    use stack_types::EventCodec as _;

    let room = store.room(&den()).unwrap().unwrap();
    let page = store.page_after(&room, Seq::ZERO, ALL).await.unwrap();
    let frames = page.frames().iter();
    frames
        .map(|frame| JsonCodec.decode(&frame).unwrap().body)
        .collect()
}

/// Sweeps until there is nothing left, and says how many rows that were.
async fn swept(store: &Store) -> usize {
    let mut cursor = SweepCursor::default();
    let mut rows = 0;
    loop {
        let step = store.sweep(&mut cursor).await.unwrap();
        rows += step.rows;
        if !step.more {
            return rows;
        }
    }
}

#[tokio::test]
async fn a_room_is_there_when_all_of_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.redb");
    let (store, handle, _commits) = open(&path);
    let room = brought(&store, 2_000).await;
    assert!(store.room(&den()).unwrap().is_none());
    assert_eq!(store.list_rooms(None, 9).await.unwrap(), []);
    assert!(!store.is_room_id_taken(&den()).unwrap());

    let done = store.complete_import(vec![complete(room)], vec![placeholder()]);
    assert_eq!(done.await.unwrap(), Ok(()));
    let account = store.account(ann()).unwrap().unwrap();
    assert!(account.is_placeholder() && !account.may_sign_in());
    let room = store.room(&den()).unwrap().unwrap();
    assert_eq!((room.head(), room.members().len()), (Seq(2_000), 1));
    assert_eq!(bodies(&store).await.len(), 2_000);

    // It goes on like any other: numbered without a hole, in times that never fall, and what is taken back is gone.
    let den = den();
    let taken_back = store.room_op(&den, |tx| {
        tx.redact(Seq(2))?;
        let sender = ann();
        Ok(tx.append(EventDraft {
            sender,
            body: said("on", None),
        }))
    });
    let place = taken_back.await.unwrap();
    assert_eq!((place.seq, place.ts), (Seq(2_001), NOW));
    drop(store);
    handle.shutdown().await;
    let (store, handle, _commits) = open(&path);
    let bodies = bodies(&store).await;
    assert_eq!((bodies.len(), &bodies[1]), (2_001, &EventBody::Tombstone));
    let stripped = EventBody::Edited {
        target_seq: Seq(2),
        body: None,
    };
    assert_eq!(bodies[2], stripped);
    assert_eq!(swept(&store).await, 0);
    handle.shutdown().await;
}

#[tokio::test]
async fn of_an_import_that_was_killed_or_given_up_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.redb");
    let (store, handle, _commits) = open(&path);
    let killed = brought(&store, 2_000).await;
    assert_eq!(swept(&store).await, 0, "it is under way");
    let given_up = brought(&store, 640).await;
    store.abandon_import(vec![given_up]);
    assert_eq!(swept(&store).await, 11, "ten blocks and an edit");
    drop(store);
    handle.shutdown().await;

    let (store, handle, _commits) = open(&path);
    assert_eq!(swept(&store).await, 33);
    let late = store.complete_import(vec![complete(killed)], vec![]);
    assert_eq!(late.await.unwrap(), Err(ImportRefused::Over));
    assert!(store.room(&den()).unwrap().is_none());
    let room = brought(&store, 5).await;
    let done = store.complete_import(vec![complete(room)], vec![placeholder()]);
    assert_eq!(done.await.unwrap(), Ok(()));
    handle.shutdown().await;
}

#[tokio::test]
async fn a_room_or_an_account_that_came_first_stays_and_nothing_else_comes_in() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    let room = brought(&store, 5).await;
    let create = CreateRoom {
        id: den(),
        title: "Another".to_owned(),
        settings: RoomSettings::default(),
        owner: ann(),
    };
    store.create_room(create).await.unwrap().unwrap();
    let refused = store.complete_import(vec![complete(room)], vec![placeholder()]);
    assert_eq!(refused.await.unwrap(), Err(ImportRefused::RoomTaken(den())));
    assert!(store.account(ann()).unwrap().is_none());
    assert_eq!(store.room(&den()).unwrap().unwrap().title(), "Another");

    let other: RoomId = "other".parse().unwrap();
    let of = async |room| CompleteRoom {
        id: other.clone(),
        ..complete(room)
    };
    let first = of(brought(&store, 5).await).await;
    let done = store.complete_import(vec![first], vec![placeholder()]);
    assert_eq!(done.await.unwrap(), Ok(()));
    let second = CompleteRoom {
        id: "third".parse().unwrap(),
        ..complete(brought(&store, 5).await)
    };
    let refused = store
        .complete_import(vec![second], vec![placeholder()])
        .await
        .unwrap();
    assert!(matches!(refused, Err(ImportRefused::UserTaken(_))));
    assert!(!store.is_room_id_taken(&"third".parse().unwrap()).unwrap());
    handle.shutdown().await;
}

#[tokio::test]
async fn events_stand_in_line() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    let mut room = store.begin_import(Seq(7), Timestamp(0)).await.unwrap();
    let hole = store.import_event(&mut room, &event(8, said("x", None)));
    let (found, expected) = (Seq(8), Seq(7));
    assert_eq!(hole, Err(OutOfLine::Seq { found, expected }));
    store
        .import_event(&mut room, &event(7, said("x", None)))
        .unwrap();
    let earlier = Event {
        ts: Timestamp(1),
        ..event(8, said("x", None))
    };
    let earlier = store.import_event(&mut room, &earlier);
    assert_eq!(
        earlier,
        Err(OutOfLine::Time {
            found: 1,
            last: 1_007
        })
    );

    // What was sent with a key today is not sent again.
    let today = Event {
        ts: NOW,
        ..event(8, said("y", Some("k")))
    };
    store.import_event(&mut room, &today).unwrap();
    store.write_import(&mut room, true).await.unwrap();
    let done = store.complete_import(vec![complete(room)], vec![]).await;
    assert_eq!(done.unwrap(), Ok(()));
    let den = den();
    let found = store.room_op(&den, |tx| Ok(tx.find_key(&ann(), "k")?));
    assert_eq!(found.await.unwrap().unwrap().seq, Seq(8));
    let room = store.room(&den).unwrap().unwrap();
    assert_eq!((room.first(), room.head()), (Seq(7), Seq(8)));
    handle.shutdown().await;
}

#[tokio::test]
async fn a_room_comes_in_without_events_and_goes_on_behind_those_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.redb");
    let (store, handle, _commits) = open(&path);
    // The clock that wrote it was ahead of this one.
    let last = Timestamp(NOW.0 + 500);
    let mut room = store.begin_import(Seq(7), last).await.unwrap();
    store.write_import(&mut room, true).await.unwrap();
    let done = store.complete_import(vec![complete(room)], vec![placeholder()]);
    assert_eq!(done.await.unwrap(), Ok(()));
    drop(store);
    handle.shutdown().await;

    let (store, handle, _commits) = open(&path);
    let den = den();
    let room = store.room(&den).unwrap().unwrap();
    assert_eq!((room.first(), room.head()), (Seq(7), Seq(6)));
    let said = store.room_op(&den, |tx| {
        Ok(tx.append(EventDraft {
            sender: ann(),
            body: said("on", None),
        }))
    });
    let place = said.await.unwrap();
    assert_eq!((place.seq, place.ts), (Seq(7), last));
    handle.shutdown().await;
}

#[tokio::test]
async fn one_walk_takes_all_rooms_that_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    let mut given_up = Vec::new();
    for _ in 0..5 {
        given_up.push(brought(&store, 3).await);
    }
    // More rows than one step takes, in the middle of a room.
    given_up.push(brought(&store, 80_000).await);
    given_up.push(brought(&store, 3).await);
    store.abandon_import(given_up);
    let large = 80_000_usize.div_ceil(64) + 1;
    assert_eq!(swept(&store).await, large + 6 * 2);
    handle.shutdown().await;
}

#[tokio::test]
async fn what_came_in_is_looked_at_for_its_age_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    let room = brought(&store, 5).await;
    let kept = CompleteRoom {
        settings: RoomSettings {
            retention_days: 1,
            ..RoomSettings::default()
        },
        ..complete(room)
    };
    let done = store.complete_import(vec![kept], vec![placeholder()]);
    assert_eq!(done.await.unwrap(), Ok(()));
    let patience = std::time::Duration::from_secs(60);
    let heard = tokio::time::timeout(patience, store.retention_changed());
    assert!(heard.await.is_ok());
    assert_eq!(store.expire_events().await.unwrap(), 5);
    handle.shutdown().await;
}
