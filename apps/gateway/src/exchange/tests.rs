//! Whatever the lines are, an import is answered, and what came in is a whole room.

use std::sync::Arc;

use proptest::prelude::*;
use stack_auth::Keeper;
use stack_ipc::service::{Import as _, ImportOptions};
use stack_proto::JsonCodec;
use stack_storage::{PageLimit, Store, StoreConfig};
use stack_types::{EventCodec as _, Seq, SystemClock};

use super::Importer;

const GOOD: &str = r#"{"line":"header","format":"stack-rooms","version":1,"made_at":5}
{"line":"user","id":"ann","username":"ann","display_name":"Ann"}
{"line":"user","id":"bob","username":"bob","display_name":"Bob","bot":true}
{"line":"room","id":"den","title":"Den","settings":{"public":true},"created_at":5,"first":1}
{"line":"member","user_id":"ann","role":"owner","joined_at":5,"joined_seq":0}
{"line":"ban","user_id":"bob","by":"ann","reason":"noise","created_at":6}
{"type":"room","payload":{"room":"den","seq":1,"ts":5,"sender":"ann","action":"created","title":"Den","settings":{}}}
{"type":"message","payload":{"room":"den","seq":2,"ts":6,"sender":"ann","body":"hello","data":[1,{"x":2}],"key":"k"}}
{"type":"edited","payload":{"room":"den","seq":3,"ts":6,"sender":"ann","target_seq":2,"body":"hello you"}}
{"type":"reacted","payload":{"room":"den","seq":4,"ts":7,"sender":"bob","target_seq":2,"emoji":"x","remove":false}}
{"type":"member","payload":{"room":"den","seq":5,"ts":8,"sender":"ann","action":"banned","user_id":"bob"}}
{"line":"room_end","id":"den","events":5}
{"line":"trailer","rooms":1,"users":2,"events":5}
"#;

/// One thing that happens to a file.
#[derive(Debug, Clone)]
enum Change {
    Byte(usize, u8),
    CutAt(usize),
    Without(usize),
    Twice(usize),
    Swapped(usize, usize),
    Line(usize, String),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..GOOD.len();
    let line = 0..GOOD.lines().count();
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        at.prop_map(Change::CutAt),
        line.clone().prop_map(Change::Without),
        line.clone().prop_map(Change::Twice),
        (line.clone(), line.clone()).prop_map(|(one, other)| Change::Swapped(one, other)),
        (line, "[ -~]{0,40}").prop_map(|(at, text)| Change::Line(at, text)),
    ]
}

fn changed(change: &Change) -> Vec<u8> {
    let mut bytes = GOOD.as_bytes().to_vec();
    let mut lines: Vec<_> = GOOD.lines().collect();
    match change {
        Change::Byte(at, byte) => {
            bytes[*at] = *byte;
            return bytes;
        }
        Change::CutAt(at) => {
            bytes.truncate(*at);
            return bytes;
        }
        Change::Without(at) => drop(lines.remove(*at)),
        Change::Twice(at) => lines.insert(*at, lines[*at]),
        Change::Swapped(one, other) => lines.swap(*one, *other),
        Change::Line(at, text) => lines[*at] = text,
    }
    lines.join("\n").into_bytes()
}

async fn check(lines: Vec<u8>, piece: usize) {
    let opened = Store::open(
        StoreConfig::default(),
        Arc::new(JsonCodec),
        Arc::new(SystemClock),
    );
    let (store, handle, _commits) = opened.unwrap();
    let options = ImportOptions::default();
    let mut import = Importer::begin(&Keeper::Operator, store.clone(), options).unwrap();
    // Whole lines at a time, as they are given.
    let all: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
    let mut taken = Ok(());
    for lines in all.chunks(piece) {
        taken = import.lines(lines.concat()).await;
        if taken.is_err() {
            break;
        }
    }
    let finished = import.finish().await;
    assert!(taken.is_ok() || finished.is_err());
    let rooms = store.list_rooms(None, 9).await.unwrap();
    let users = store.list_users(None, 9).await.unwrap();
    match finished {
        Err(problem) => {
            assert!(!problem.detail.is_empty());
            assert_eq!((rooms.len(), users.len()), (0, 0), "{problem}");
        }
        Ok(report) => {
            assert_eq!((rooms.len(), report.rooms.len()), (1, 1));
            let room = store.room(&rooms[0].id).unwrap().unwrap();
            let all = PageLimit {
                events: usize::MAX,
                bytes: usize::MAX,
            };
            let page = store.page_after(&room, Seq::ZERO, all).await.unwrap();
            let mut next = room.first();
            for frame in page.frames().iter() {
                let event = JsonCodec.decode(&frame).unwrap();
                assert_eq!((&event.room, event.seq), (room.id(), next));
                assert!(store.account(event.sender).unwrap().is_some());
                next = next.next();
            }
            assert_eq!(next, room.head().next());
            assert!(users.iter().all(|user| user.is_placeholder()));
        }
    }
    handle.shutdown().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_change_of_a_file_is_answered(change in change(), piece in 1_usize..20) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(changed(&change), piece));
    }
}

#[tokio::test]
async fn the_file_itself_comes_in() {
    let (store, handle, _commits) = Store::open(
        StoreConfig::default(),
        Arc::new(JsonCodec),
        Arc::new(SystemClock),
    )
    .unwrap();
    let mut import =
        Importer::begin(&Keeper::Operator, store.clone(), ImportOptions::default()).unwrap();
    import.lines(GOOD.as_bytes().to_vec()).await.unwrap();
    assert_eq!(store.list_rooms(None, 9).await.unwrap(), []);
    let report = import.finish().await.unwrap();
    assert_eq!(
        (report.events, report.placeholders, report.matched),
        (5, 2, 0)
    );
    let again = import.finish().await.unwrap_err();
    assert_eq!(again.detail, "this import is over");
    handle.shutdown().await;
}
