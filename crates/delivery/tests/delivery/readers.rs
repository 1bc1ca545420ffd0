//! One reader and one trouble at a time: the seam, a stall, a broken sink, an end, a loss.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use stack_bus::{Bus, MemBus, Message, Topic};
use stack_delivery::{Hub, HubHandle, Outlet, Pumped, Source, Subscription};
use stack_proto::JsonCodec;
use stack_storage::{CreateRoom, RoomRef, Store, StoreConfig, StoreHandle};
use stack_types::{
    EventBody, EventDraft, RoomId, RoomSettings, Seq, SystemClock, UnsubscribeReason, UserId,
};

use crate::pipe::Pipe;

pub(crate) struct World {
    store: Store,
    pub(crate) hub: Hub,
    bus: Arc<MemBus>,
    pub(crate) room: RoomRef,
    _handles: (StoreHandle, HubHandle),
}

impl World {
    async fn new(source: impl FnOnce(stack_storage::Commits) -> Source) -> Self {
        let codec = Arc::new(JsonCodec);
        let (store, store_handle, commits) =
            Store::open(StoreConfig::default(), codec.clone(), Arc::new(SystemClock)).unwrap();
        let bus = Arc::new(MemBus::default());
        let (hub, hub_handle) = Hub::spawn(store.clone(), bus.clone(), codec, source(commits))
            .await
            .unwrap();
        let create = CreateRoom {
            id: general(),
            title: "General".into(),
            settings: RoomSettings::default(),
            owner: alice(),
        };
        let room = store.create_room(create).await.unwrap().unwrap();
        Self {
            store,
            hub,
            bus,
            room,
            _handles: (store_handle, hub_handle),
        }
    }

    pub(crate) async fn local() -> Self {
        Self::new(Source::Commits).await
    }

    pub(crate) async fn say(&self, count: usize) -> Seq {
        let mut pending = Vec::new();
        for _ in 0..count {
            let op = |tx: &mut stack_storage::RoomTx<'_, '_>| Ok(tx.append(draft("hello")));
            let (reply, sent) = tokio::sync::oneshot::channel();
            let submitted = self
                .store
                .submit(&self.room, op, |sent| drop(reply.send(sent)));
            submitted.queued().await;
            pending.push(sent);
        }
        let mut last = self.room.head();
        for sent in pending {
            last = sent.await.unwrap().unwrap().seq;
        }
        last
    }

    pub(crate) fn read(&self, pipe: &Pipe, after: u64) -> (Arc<Outlet>, Arc<Subscription>) {
        let outlet = Outlet::new(pipe.clone());
        let subscription = self.hub.subscribe(&outlet, &self.room, alice(), Seq(after));
        self.hub.begin(&subscription);
        (outlet, subscription)
    }

    /// Runs `work` while the outlets are pumped.
    pub(crate) async fn pumping<R>(
        &self,
        outlets: &[Arc<Outlet>],
        work: impl Future<Output = R>,
    ) -> R {
        let pumps = async {
            let mut set = tokio::task::JoinSet::new();
            for outlet in outlets {
                let (hub, outlet) = (self.hub.clone(), outlet.clone());
                set.spawn(
                    async move { while let Ok(Pumped::Ended(_)) = hub.pump(&outlet).await {} },
                );
            }
            set.join_all().await;
            std::future::pending::<()>().await;
        };
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => done,
            () = pumps => unreachable!("it waits for ever"),
        }
    }
}

pub(crate) fn general() -> RoomId {
    "general".parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn draft(body: &str) -> EventDraft {
    EventDraft {
        sender: alice(),
        body: EventBody::Message {
            body: body.to_owned(),
            data: None,
            key: None,
            reply_to: None,
        },
    }
}

#[tokio::test]
async fn history_joins_the_live_stream_without_a_seam() {
    let world = World::local().await;
    world.say(5000).await;
    let pipes: Vec<_> = [0, 1, 2500, 5000, 5001]
        .map(|after| (after, Pipe::open()))
        .into();
    let outlets: Vec<_> = pipes
        .iter()
        .map(|(after, pipe)| world.read(pipe, *after).0)
        .collect();
    let last = world
        .pumping(&outlets, async {
            let last = world.say(3000).await;
            for (_, pipe) in &pipes {
                pipe.until_seq(last).await;
            }
            last
        })
        .await;
    for (after, pipe) in &pipes {
        assert_eq!(pipe.seqs(), (after + 1..=last.0).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_reader_that_stalls_holds_up_nobody_and_reads_on_from_the_log() {
    let world = World::local().await;
    let (quick, stalled) = (Pipe::open(), Pipe::default());
    // Enough for a frame and a half.
    stalled.allow(150);
    let outlets = [world.read(&quick, 0).0, world.read(&stalled, 0).0];
    world
        .pumping(&outlets, async {
            let last = world.say(2000).await;
            quick.until_seq(last).await;
            assert!(stalled.seqs().len() <= 1);
            // What waits is the rest of one frame, not what was said since.
            assert!(
                outlets[1].pending_bytes() < 400,
                "{}",
                outlets[1].pending_bytes()
            );
            stalled.allow(usize::MAX);
            stalled.until_seq(last).await;
            assert_eq!(stalled.seqs(), (1..=last.0).collect::<Vec<_>>());
        })
        .await;
    assert!(world.hub.stats().fell_behind + world.hub.stats().catch_up_deliveries > 0);
}

#[tokio::test]
async fn what_a_sink_holds_goes_out_without_anything_new_behind_it() {
    let world = World::local().await;
    let frame = |text: &str| stack_types::Frames::one(text.as_bytes()).wire().clone();
    for kind in ["answer", "typing"] {
        let pipe = Pipe::holding(1000);
        let (outlet, _) = world.read(&pipe, world.room.head().0);
        let bytes = frame(&format!("{{\"type\":\"{kind}\"}}"));
        world
            .pumping(std::slice::from_ref(&outlet), async {
                match kind {
                    "answer" => outlet.send(bytes.clone()),
                    _ => outlet.offer_lossy(bytes.clone()),
                }
                assert_eq!(outlet.pending_bytes(), bytes.len());
                assert_eq!(outlet.written_bytes(), 0, "the reader has taken nothing");
                tokio::task::yield_now().await;
                pipe.allow(3);
                tokio::task::yield_now().await;
                assert_eq!(outlet.written_bytes(), 3);
                pipe.allow(usize::MAX);
                pipe.until(|frame| frame["type"] == kind).await;
                assert_eq!(outlet.pending_bytes(), 0);
            })
            .await;
    }
    // An event written by the hub.
    let pipe = Pipe::holding(1000);
    let (outlet, _) = world.read(&pipe, world.room.head().0);
    world
        .pumping(std::slice::from_ref(&outlet), async {
            let last = world.say(1).await;
            while outlet.pending_bytes() == 0 {
                tokio::task::yield_now().await;
            }
            pipe.allow(usize::MAX);
            pipe.until_seq(last).await;
        })
        .await;
}

#[tokio::test]
async fn a_sink_that_holds_is_full_until_it_holds_nothing() {
    let world = World::local().await;
    let pipe = Pipe::holding(100);
    let (outlet, _) = world.read(&pipe, 0);
    world
        .pumping(std::slice::from_ref(&outlet), async {
            let last = world.say(500).await;
            // One chunk and the rest of one frame, not what was said since.
            assert!(outlet.pending_bytes() < 400, "{outlet:?}");
            for _ in 0..200 {
                pipe.allow(37);
                tokio::task::yield_now().await;
                assert!(outlet.pending_bytes() < 400, "{outlet:?}");
            }
            pipe.allow(usize::MAX);
            pipe.until_seq(last).await;
            assert_eq!(pipe.seqs(), (1..=last.0).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test]
async fn a_sink_that_breaks_with_something_held_closes_its_outlet() {
    let world = World::local().await;
    let pipe = Pipe::holding(1000);
    let (outlet, _) = world.read(&pipe, 0);
    outlet.send(Bytes::from_static(b"answer"));
    assert!(outlet.pending_bytes() > 0);
    pipe.break_off();
    assert!(outlet.flushed().await.is_err());
    assert!(outlet.is_closed());
}

#[tokio::test]
async fn answers_and_lossy_signals_never_cut_a_frame() {
    let world = World::local().await;
    let pipe = Pipe::default();
    let (outlet, _) = world.read(&pipe, 0);
    let frame = |text: &str| stack_types::Frames::one(text.as_bytes()).wire().clone();
    world
        .pumping(std::slice::from_ref(&outlet), async {
            world.say(20).await;
            let last = world.room.head();
            for step in 0..400 {
                if step % 10 == 0 {
                    outlet.send(frame(r#"{"type":"ok"}"#));
                    outlet.offer_lossy(frame(r#"{"type":"typing"}"#));
                }
                pipe.allow(13);
                tokio::task::yield_now().await;
            }
            pipe.allow(usize::MAX);
            while outlet.pending_bytes() > 0 || pipe.seqs().last() != Some(&last.0) {
                tokio::task::yield_now().await;
            }
            let oks = pipe
                .frames()
                .iter()
                .filter(|frame| frame["type"] == "ok")
                .count();
            assert_eq!(oks, 40);
            assert_eq!(pipe.seqs(), (1..=last.0).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test]
async fn a_broken_sink_ends_the_pump() {
    let world = World::local().await;
    let pipe = Pipe::default();
    let (outlet, subscription) = world.read(&pipe, 0);
    pipe.break_off();
    assert_eq!(world.hub.pump(&outlet).await.unwrap(), Pumped::Closed);
    assert!(outlet.is_closed());
    world.hub.unsubscribe(&subscription, None);
    world.say(1).await;
}

#[tokio::test]
async fn an_ended_subscription_is_told_once_and_gets_nothing_more() {
    let world = World::local().await;
    let (mine, other) = (Pipe::open(), Pipe::open());
    let (outlet, subscription) = world.read(&mine, 0);
    let bob: UserId = "bob".parse().unwrap();
    let other_outlet = Outlet::new(other.clone());
    let others = world.hub.subscribe(&other_outlet, &world.room, bob, Seq(1));
    world.hub.begin(&others);
    world
        .pumping(std::slice::from_ref(&outlet), mine.until_seq(Seq(1)))
        .await;

    let is_alice = |subscription: &Subscription| subscription.user() == alice();
    world
        .hub
        .end(&general(), UnsubscribeReason::Removed, is_alice);
    world
        .hub
        .end(&general(), UnsubscribeReason::Removed, is_alice);
    assert!(subscription.is_over() && !others.is_over());
    assert_eq!(
        world.hub.pump(&outlet).await.unwrap(),
        Pumped::Ended(vec![general()])
    );
    let last = world.say(3).await;
    // The other may be sent to the log for a moment, by a look at the room between a commit and its batch.
    world
        .pumping(&[outlet, other_outlet], other.until_seq(last))
        .await;
    let told = mine.frames();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1]["type"], "unsubscribed");
    assert_eq!(told[1]["payload"]["reason"], "removed");
}

#[tokio::test]
async fn events_from_elsewhere_reach_readers_over_the_bus_and_what_is_lost_is_healed() {
    let mut commits = None;
    let world = World::new(|from_store| {
        commits = Some(from_store);
        Source::Bus
    })
    .await;
    let pipe = Pipe::open();
    let (outlet, _) = world.read(&pipe, 0);
    let mut commits = commits.unwrap();
    world
        .pumping(std::slice::from_ref(&outlet), async {
            let mut last = Seq::ZERO;
            for round in 0..30 {
                last = world.say(1).await;
                let commit = commits.next().await.unwrap();
                let frames = commit[0].batch.frames().clone();
                let message = Message::new(Topic::room(&general()), frames);
                // Every third is lost, every fifth comes twice.
                if round % 3 != 0 {
                    world.bus.publish(message.clone()).unwrap();
                }
                if round % 5 == 0 {
                    world.bus.publish(message).unwrap();
                }
            }
            world
                .bus
                .publish(Message::one(Topic::room(&general()), b"nonsense"))
                .unwrap();
            world.hub.heal();
            world.hub.heal();
            pipe.until_seq(last).await;
            assert_eq!(pipe.seqs(), (1..=last.0).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test]
async fn signals_reach_the_readers_of_their_room() {
    let world = World::local().await;
    let pipe = Pipe::open();
    let (outlet, _) = world.read(&pipe, 1);
    let typing = br#"{"type":"typing","payload":{}}"#;
    world
        .bus
        .publish(Message::one(Topic::presence(&general()), typing))
        .unwrap();
    world
        .pumping(
            std::slice::from_ref(&outlet),
            pipe.until(|frame| frame["type"] == "typing"),
        )
        .await;
}

#[tokio::test]
async fn a_stalled_reader_who_subscribes_again_and_again_has_one_subscription_in_the_queue() {
    let world = World::local().await;
    let last = world.say(50).await;
    let pipe = Pipe::default();
    // Enough for a frame and a half: the rest of one waits in the outlet.
    pipe.allow(150);
    let (outlet, mut subscription) = world.read(&pipe, 0);
    let replaced = world
        .pumping(std::slice::from_ref(&outlet), async {
            while outlet.pending_bytes() == 0 {
                tokio::task::yield_now().await;
            }
            let mut replaced = Vec::new();
            for round in 0..5000 {
                let next = world.hub.renew(&subscription, || Seq(0)).unwrap();
                world.hub.begin(&next);
                replaced.push(Arc::downgrade(&subscription));
                subscription = next;
                assert!(outlet.behind() <= 1, "{} in round {round}", outlet.behind());
                if round % 100 == 0 {
                    tokio::task::yield_now().await;
                }
            }
            assert!(outlet.pending_bytes() < 400, "{}", outlet.pending_bytes());
            replaced
        })
        .await;
    // Nobody keeps what was replaced.
    assert!(replaced.iter().all(|old| old.strong_count() == 0));

    let begun = pipe.seqs().len() + 1;
    pipe.allow(usize::MAX);
    world
        .pumping(std::slice::from_ref(&outlet), pipe.until_seq(last))
        .await;
    assert_eq!(pipe.seqs()[begun..], (1..=last.0).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_subscription_that_ends_while_it_waits_leaves_the_queue() {
    let world = World::local().await;
    world.say(50).await;
    let pipe = Pipe::default();
    let (outlet, subscription) = world.read(&pipe, 0);
    let other = world.hub.subscribe(&outlet, &world.room, alice(), Seq(0));
    world.hub.begin(&other);
    assert_eq!(outlet.behind(), 2);
    world.hub.unsubscribe(&other, None);
    assert_eq!(outlet.behind(), 1);
    world
        .hub
        .end(&general(), UnsubscribeReason::Removed, |_| true);
    assert!(subscription.is_over());
    assert_eq!(outlet.behind(), 0);
    let [ended, left] = [subscription, other].map(|over| Arc::downgrade(&over));
    assert_eq!((ended.strong_count(), left.strong_count()), (0, 0));

    // When it can be told at last, the end is all that it is told.
    pipe.allow(usize::MAX);
    assert_eq!(
        world.hub.pump(&outlet).await.unwrap(),
        Pumped::Ended(vec![general()])
    );
    let told = pipe.until(|frame| frame["type"] == "unsubscribed");
    world.pumping(std::slice::from_ref(&outlet), told).await;
    assert_eq!(pipe.frames().len(), 1);
}

/// A large room is handed a batch in several goes, and its readers come and go in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_large_room_nobody_misses_a_message_while_others_leave() {
    let world = World::local().await;
    let readers: Vec<_> = (0..1200)
        .map(|_| {
            let pipe = Pipe::open();
            let (outlet, subscription) = world.read(&pipe, 1);
            (pipe, outlet, subscription)
        })
        .collect();
    // Every other one leaves while messages go out, so that the last of the list take places all over it.
    let (hub, leaving) = (
        world.hub.clone(),
        readers
            .iter()
            .step_by(2)
            .map(|(_, _, subscription)| subscription.clone())
            .collect::<Vec<_>>(),
    );
    let leave = tokio::task::spawn_blocking(move || {
        for subscription in leaving {
            hub.unsubscribe(&subscription, None);
        }
    });
    let outlets: Vec<_> = readers
        .iter()
        .map(|(_, outlet, _)| outlet.clone())
        .collect();
    world
        .pumping(&outlets, async {
            let mut last = Seq(1);
            while !leave.is_finished() || last < Seq(20) {
                last = world.say(1).await;
            }
            for (pipe, _, _) in readers.iter().skip(1).step_by(2) {
                pipe.until_seq(last).await;
                assert_eq!(pipe.seqs(), (2..=last.0).collect::<Vec<_>>());
            }
        })
        .await;
}

#[tokio::test]
async fn many_small_frames_that_wait_count_for_what_they_cost() {
    let outlet = Outlet::new(Pipe::default());
    for _ in 0..1000 {
        outlet.send(bytes::Bytes::from_static(&[0x8a, 0]));
    }
    assert!(
        outlet.pending_bytes() > 64 * 1000,
        "{}",
        outlet.pending_bytes()
    );
    let pipe = Pipe::default();
    let outlet = Outlet::new(pipe.clone());
    outlet.send(bytes::Bytes::from_static(&[0x8a, 0]));
    pipe.allow(1);
    tokio::select! {
        biased;
        _ = outlet.flushed() => unreachable!("the pipe takes one byte"),
        () = std::future::ready(()) => {}
    }
    pipe.allow(1);
    outlet.flushed().await.unwrap();
    assert_eq!(outlet.pending_bytes(), 0);
}

#[tokio::test]
async fn who_subscribes_again_gets_nothing_behind_the_answer_that_came_before_it() {
    let world = World::local().await;
    let pipe = Pipe::open();
    let (outlet, mut subscription) = world.read(&pipe, world.room.head().0);
    let renewing = {
        let (hub, room) = (world.hub.clone(), world.room.clone());
        let pipe = pipe.clone();
        tokio::task::spawn_blocking(move || {
            for _ in 0..2000 {
                let mut head = Seq::ZERO;
                subscription = hub
                    .renew(&subscription, || {
                        head = room.head();
                        head
                    })
                    .unwrap();
                // Between the old one and the new one nothing comes.
                assert!(pipe.seqs().iter().all(|seq| *seq <= head.0));
                pipe.take_frames();
                hub.begin(&subscription);
            }
            subscription
        })
    };
    let subscription = world
        .pumping(std::slice::from_ref(&outlet), async {
            let mut renewing = renewing;
            loop {
                tokio::select! {
                    renewed = &mut renewing => return renewed.unwrap(),
                    _ = world.say(3) => {}
                }
            }
        })
        .await;
    world
        .hub
        .end(&general(), UnsubscribeReason::Removed, |_| true);
    assert!(subscription.is_over());
    assert!(world.hub.renew(&subscription, || Seq(0)).is_none());
}

/// A sink with a bug.
struct Buggy;

impl stack_delivery::Sink for Buggy {
    fn try_write(&self, _: &[u8]) -> std::io::Result<usize> {
        panic!("a bug in a sink")
    }

    fn poll_writable(
        &self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn a_hub_that_panics_says_so() {
    let world = World::local().await;
    let outlet = Outlet::new(Buggy);
    let head = world.room.head();
    let subscription = world.hub.subscribe(&outlet, &world.room, alice(), head);
    world.hub.begin(&subscription);
    assert!(!world.hub.has_failed());
    world.say(1).await;
    let (store, hub) = world._handles;
    store.shutdown().await;
    hub.shutdown().await;
    assert!(world.hub.has_failed());
}

#[tokio::test]
async fn a_hub_that_is_told_to_end_has_not_failed() {
    let world = World::local().await;
    world.say(1).await;
    let (store, hub) = world._handles;
    store.shutdown().await;
    hub.shutdown().await;
    assert!(!world.hub.has_failed());
}
