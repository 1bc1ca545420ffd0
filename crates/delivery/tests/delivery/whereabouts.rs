//! What a hub tells of where events went.

use std::time::Instant;

use stack_delivery::{Outlet, Reader, Standing};
use stack_types::{ConnectionId, Seq, Timestamp, UnsubscribeReason, UserId};

use crate::pipe::Pipe;
use crate::readers::{World, general};

#[tokio::test]
async fn every_reader_stands_where_its_cursor_is() {
    let world = World::local().await;
    let began = Instant::now();
    world.say(5).await;
    let (quick, stalled) = (Pipe::open(), Pipe::default());
    let (outlet, _live) = world.read(&quick, 1);
    let connection = ConnectionId::generate(Timestamp(1));
    outlet.belongs_to(connection);
    let (full, _behind) = world.read(&stalled, world.room.head().0);
    let last = world.say(3).await;
    world
        .pumping(std::slice::from_ref(&outlet), quick.until_seq(last))
        .await;
    // The one may have read it from the log before the hub has come to the other.
    let is_behind = |reader: &Reader| matches!(reader.standing, Standing::Behind(_));
    while !world.hub.whereabouts(&general()).iter().any(is_behind) {
        tokio::task::yield_now().await;
    }
    let mut readers = world.hub.whereabouts(&general());
    readers.sort_by_key(|reader| reader.from);
    let [live, behind] = readers.as_slice() else {
        panic!("{readers:?}");
    };
    assert_eq!((live.from, live.cursor), (Seq(1), last));
    assert_eq!(live.connection, Some(connection));
    assert_eq!((behind.from, behind.connection), (Seq(6), None));
    assert!(behind.cursor < last, "{behind:?}");
    let Standing::Behind(since) = behind.standing else {
        panic!("{behind:?}");
    };
    // To the millisecond.
    assert!(behind.begun <= since && since <= Instant::now() && began <= behind.begun);
    assert_eq!(behind.waiting_bytes, full.pending_bytes());
    let nowhere = "nowhere".parse().unwrap();
    assert!(world.hub.whereabouts(&nowhere).is_empty());

    // Caught up, it is live again.
    stalled.allow(usize::MAX);
    let outlets = [outlet, full];
    world
        .pumping(&outlets, async {
            stalled.until_seq(last).await;
            let is_live =
                |reader: &Reader| (reader.standing, reader.cursor) == (Standing::Live, last);
            while !world.hub.whereabouts(&general()).iter().all(is_live) {
                tokio::task::yield_now().await;
            }
        })
        .await;
}

#[tokio::test]
async fn a_commit_is_remembered_with_how_it_went_out() {
    let world = World::local().await;
    let pipe = Pipe::open();
    let (outlet, _subscription) = world.read(&pipe, world.room.head().0);
    let last = world.say(1).await;
    world
        .pumping(std::slice::from_ref(&outlet), pipe.until_seq(last))
        .await;
    let handed = loop {
        match world.hub.handed_out(&general(), last) {
            Some(handed) => break handed,
            None => tokio::task::yield_now().await,
        }
    };
    assert_eq!((handed.first, handed.last), (last, last));
    assert!(handed.published_after <= handed.handed_after);
    // A reader that was just then sent to the log has it from there.
    assert!(handed.readers + handed.fell_behind <= 1);
    assert!(world.hub.handed_out(&general(), last.next()).is_none());
    assert!(world.hub.remembers_since(Timestamp(1)).is_none());
}

#[tokio::test]
async fn who_has_left_is_remembered_with_what_it_had() {
    let world = World::local().await;
    let last = world.say(3).await;
    let pipes = [Pipe::open(), Pipe::default()];
    let (outlet, unsubscribed) = world.read(&pipes[0], 0);
    world
        .pumping(std::slice::from_ref(&outlet), pipes[0].until_seq(last))
        .await;
    let bob: UserId = "bob".parse().unwrap();
    let stalled = Outlet::new(pipes[1].clone());
    let banned = world.hub.subscribe(&stalled, &world.room, bob, Seq(1));
    world.hub.begin(&banned);
    world.hub.unsubscribe(&unsubscribed, None);
    let before = Instant::now();
    world
        .hub
        .end(&general(), UnsubscribeReason::Banned, |_| true);
    // Ended once, it has left once.
    world.hub.unsubscribe(&banned, None);

    let [newest, oldest] = &world.hub.departures(&general())[..] else {
        panic!("{:?}", world.hub.departures(&general()));
    };
    assert_eq!(
        (newest.user, newest.from, newest.cursor),
        (bob, Seq(1), Seq(1))
    );
    assert_eq!(newest.reason, Some(UnsubscribeReason::Banned));
    assert_eq!((oldest.from, oldest.cursor), (Seq(0), last));
    assert_eq!((oldest.reason, oldest.is_relayed), (None, false));
    assert!(oldest.begun <= oldest.ended && oldest.ended <= before && before <= newest.ended);
    assert!(world.hub.whereabouts(&general()).is_empty());
    // One that is taken further has not left.
    let (_, mut renewed) = world.read(&pipes[0], 0);
    renewed = world.hub.renew(&renewed, || last).unwrap();
    assert!(!renewed.is_over());
    assert_eq!(world.hub.departures(&general()).len(), 2);
}
