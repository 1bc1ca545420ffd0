//! Copies of the file made while it is written to.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Arc;

use stack_proto::JsonCodec;
use stack_storage::{
    Commits, CreateRoom, EraseWalk, ErasedBy, KeptLog, Location, NewErasure, PageLimit, RoomRef,
    SnapshotError, Store, StoreConfig, StoreHandle,
};
use stack_types::{
    EventBody, EventDraft, ManualClock, RoomId, RoomSettings, Seq, Timestamp, UserId,
};

const ALL: PageLimit = PageLimit {
    events: usize::MAX,
    bytes: usize::MAX,
};

fn open(path: &Path) -> (Store, StoreHandle, Commits) {
    let config = StoreConfig {
        location: Location::File(path.to_owned()),
        // So that a copy has blocks and a log.
        kept_log: KeptLog {
            bytes: 4096,
            ..KeptLog::default()
        },
        ..StoreConfig::default()
    };
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    Store::open(config, Arc::new(JsonCodec), clock).unwrap()
}

fn ann() -> UserId {
    "ann".parse().unwrap()
}

async fn room(store: &Store, id: &str) -> RoomRef {
    let create = CreateRoom {
        id: id.parse().unwrap(),
        title: format!("The {id}"),
        settings: RoomSettings::default(),
        owner: ann(),
    };
    store.create_room(create).await.unwrap().unwrap()
}

async fn say(store: &Store, room: &RoomRef, body: String) -> Seq {
    let draft = EventDraft {
        sender: ann(),
        body: EventBody::Message {
            body,
            data: None,
            key: None,
            reply_to: None,
        },
    };
    let said = store.room_op(room.id(), |tx| Ok(tx.append(draft))).await;
    said.unwrap().seq
}

/// Takes what is committed, as a hub would: the writer waits for it.
async fn drain(mut commits: Commits) {
    while commits.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_has_what_was_answered_before_it_and_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, commits) = open(&folder.path().join("stack.redb"));
    let general = room(&store, "general").await;
    let copy = folder.path().join("copy.redb");
    let work = async {
        for number in 0..200 {
            say(&store, &general, format!("before {number}")).await;
        }
        let answered = general.head();
        let (made, ()) = tokio::join!(store.snapshot(copy.clone()), async {
            for number in 0..200 {
                say(&store, &general, format!("beside {number}")).await;
            }
        });
        (answered, made.unwrap())
    };
    let draining = drain(commits);
    let (answered, bytes) = tokio::select! {
        done = work => done,
        () = draining => unreachable!("the store runs"),
    };
    assert_eq!(bytes, std::fs::metadata(&copy).unwrap().len());
    assert!(!folder.path().join("copy.redb.part").exists());

    let (copied, copied_handle, _commits) = open(&copy);
    let of_copy = copied.room(general.id()).unwrap().unwrap();
    assert!(of_copy.head() >= answered && of_copy.head() <= general.head());
    let there = copied.page_after(&of_copy, Seq::ZERO, ALL).await.unwrap();
    let here = PageLimit {
        events: usize::try_from(of_copy.head().0).unwrap(),
        ..ALL
    };
    let here = store.page_after(&general, Seq::ZERO, here).await.unwrap();
    assert_eq!(there.frames().wire(), here.frames().wire());
    assert!(of_copy.member(&ann()).is_some());
    // The copy is a file like any other: it goes on where it ends.
    let next = say(&copied, &of_copy, "after".to_owned()).await;
    assert_eq!(next, of_copy.head());
    copied_handle.shutdown().await;
    drop(store);
    handle.shutdown().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_copy_is_for_its_owner_and_replaces_nothing() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    let copy = folder.path().join("copy.redb");
    store.snapshot(copy.clone()).await.unwrap();
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let bytes = std::fs::read(&copy).unwrap();
    let refused = store.snapshot(copy.clone()).await;
    assert!(matches!(refused, Err(SnapshotError::Exists(path)) if path == copy));
    assert_eq!(std::fs::read(&copy).unwrap(), bytes);

    // Not even through a link that leads nowhere yet.
    let (link, elsewhere) = (folder.path().join("link"), folder.path().join("elsewhere"));
    symlink(&elsewhere, &link).unwrap();
    let refused = store.snapshot(link).await;
    assert!(matches!(refused, Err(SnapshotError::Exists(_))));
    assert!(!elsewhere.exists());

    let refused = store.snapshot(folder.path().join("no/such/copy")).await;
    assert!(matches!(refused, Err(SnapshotError::NoFolder(_))));
    let full = std::path::PathBuf::from("/proc/copy.redb");
    assert!(store.snapshot(full).await.is_err());
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
    handle.shutdown().await;
}

#[tokio::test]
async fn a_copy_without_a_name_is_sound_leaves_nothing_and_can_be_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (store, handle, _commits) = open(&folder.path().join("stack.redb"));
    room(&store, "general").await;
    let stopped = store.copy(|| true).await;
    assert!(matches!(stopped, Err(SnapshotError::Store(_))));
    let copy = store.copy(|| false).await.unwrap();
    let checked = stack_storage::check_file(copy, &JsonCodec, &mut |_, _| ()).unwrap();
    assert_eq!(checked.events(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    handle.shutdown().await;

    let memory = StoreConfig::default();
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let (store, handle, _commits) = Store::open(memory, Arc::new(JsonCodec), clock).unwrap();
    room(&store, "general").await;
    let copy = store.copy(|| false).await.unwrap();
    let checked = stack_storage::check_file(copy, &JsonCodec, &mut |_, _| ()).unwrap();
    assert_eq!(checked.rooms.len(), 1);
    handle.shutdown().await;
}

#[tokio::test]
async fn an_erasure_that_a_copy_was_made_in_the_middle_of_goes_on_in_what_is_restored() {
    use stack_types::EventCodec as _;

    let folder = tempfile::tempdir().unwrap();
    let (store, handle, commits) = open(&folder.path().join("stack.redb"));
    let mut taken = tokio::task::JoinSet::new();
    taken.spawn(drain(commits));
    for id in ["general", "other"] {
        let room = room(&store, id).await;
        for number in 0..300 {
            say(&store, &room, format!("a word, {number}")).await;
        }
    }
    let new = NewErasure {
        user: ann(),
        room: None,
        by: ErasedBy::default(),
    };
    store.erase(new).await.unwrap().unwrap();
    let mut walk = EraseWalk::default();
    // Into the first room: a step changes 256 events.
    while store.erasures().unwrap()[0].events == 0 {
        assert!(store.erase_step(&mut walk).await.unwrap());
    }
    let copy = folder.path().join("copy.redb");
    store.snapshot(copy.clone()).await.unwrap();
    drop(store);
    handle.shutdown().await;
    taken.join_all().await;

    stack_storage::revive(&copy, Timestamp(1_700_000_000_001), true).unwrap();
    let (store, handle, commits) = open(&copy);
    let mut taken = tokio::task::JoinSet::new();
    taken.spawn(drain(commits));
    let begun = store.erasures().unwrap().remove(0);
    assert!(begun.finished_at.is_none() && begun.events < 600);
    let mut walk = EraseWalk::default();
    while store.erase_step(&mut walk).await.unwrap() {}
    let done = store.erasures().unwrap().remove(0);
    assert_eq!((done.rooms, done.events), (2, 600));
    assert!(done.finished_at.is_some());
    for id in ["general", "other"] {
        let room = store.room(&id.parse().unwrap()).unwrap().unwrap();
        let page = store.page_after(&room, Seq(1), ALL).await.unwrap();
        for frame in page.frames().iter() {
            let event = JsonCodec.decode(&frame).unwrap();
            let is_gone = matches!(event.body, EventBody::Tombstone | EventBody::Erased { .. });
            assert!(is_gone, "{event:?}");
        }
    }
    drop(store);
    handle.shutdown().await;
    taken.join_all().await;
}

#[tokio::test]
async fn rooms_are_listed_in_pages_whether_in_memory_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.redb");
    let (store, handle, commits) = open(&path);
    for id in ["c", "a", "b", "gone"] {
        room(&store, id).await;
    }
    let gone: RoomId = "gone".parse().unwrap();
    let deleted = store.room_op(&gone, |tx| {
        tx.delete();
        Ok(())
    });
    deleted.await.unwrap();
    let before = store.list_rooms(None, 10).await.unwrap();
    drop((store, commits));
    handle.shutdown().await;

    let (store, handle, _commits) = open(&path);
    let b = store.room(&"b".parse().unwrap()).unwrap().unwrap();
    say(&store, &b, "hello".to_owned()).await;
    let rooms = store.list_rooms(None, 10).await.unwrap();
    let seen: Vec<_> = rooms
        .iter()
        .map(|room| (room.id.as_str(), room.head.0, room.members))
        .collect();
    assert_eq!(seen, [("a", 1, 1), ("b", 2, 1), ("c", 1, 1)]);
    assert_eq!(before.len(), 3);
    assert_eq!((&before[0], &before[2]), (&rooms[0], &rooms[2]));
    let first = store.list_rooms(None, 2).await.unwrap();
    assert_eq!(first, rooms[..2]);
    let second = store
        .list_rooms(Some(first[1].id.clone()), 2)
        .await
        .unwrap();
    assert_eq!(second, rooms[2..]);
    handle.shutdown().await;
}
