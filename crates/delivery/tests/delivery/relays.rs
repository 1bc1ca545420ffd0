//! Readers behind another gateway: what is told of their subscriptions, and that nothing else is.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use stack_bus::{Bus, MemBus, Message, Topic};
use stack_delivery::{Hub, HubHandle, Outlet, Relay, Source};
use stack_proto::JsonCodec;
use stack_storage::{Appended, CreateRoom, RoomRef, RoomTx, Store, StoreConfig, StoreHandle};
use stack_types::{
    EventBody, EventDraft, Problem, RoomId, RoomSettings, Seq, SystemClock, UnsubscribeReason,
    UserId,
};

use crate::pipe::Pipe;

/// Keeps what it is told: which room, and whether its reader hears why.
#[derive(Clone, Default)]
struct Ends(Arc<Mutex<Vec<(RoomId, bool)>>>);

impl Relay for Ends {
    fn end(&self, room: &RoomId, last: Option<Bytes>) {
        self.0.lock().push((room.clone(), last.is_some()));
    }
}

struct World {
    store: Store,
    hub: Hub,
    bus: Arc<MemBus>,
    room: RoomRef,
    _handles: (StoreHandle, HubHandle),
}

impl World {
    async fn new() -> Self {
        let codec = Arc::new(JsonCodec);
        let (store, store_handle, commits) =
            Store::open(StoreConfig::default(), codec.clone(), Arc::new(SystemClock)).unwrap();
        let bus = Arc::new(MemBus::default());
        let source = Source::Commits(commits);
        let hub = Hub::spawn(store.clone(), bus.clone(), codec, source);
        let (hub, hub_handle) = hub.await.unwrap();
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

    async fn say(&self) -> Seq {
        let op = |tx: &mut RoomTx<'_, '_>| {
            Ok::<Appended, Problem>(tx.append(EventDraft {
                sender: alice(),
                body: EventBody::Message {
                    body: "hello".into(),
                    data: None,
                    key: None,
                    reply_to: None,
                },
            }))
        };
        self.store.room_op(&general(), op).await.unwrap().seq
    }
}

fn general() -> RoomId {
    "general".parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

#[tokio::test]
async fn a_relay_gets_answers_and_neither_events_nor_signals() {
    let world = World::new().await;
    let (pipe, ends) = (Pipe::open(), Ends::default());
    let outlet = Outlet::relayed(pipe.clone(), ends.clone());
    let subscription = world.hub.subscribe(&outlet, &world.room, alice(), Seq(1));
    let mut begun = None;
    world
        .hub
        .begin_relayed(&subscription, |after| begun = Some(after));
    assert_eq!(begun, Some(Seq(1)));

    // Somebody who is here hears both, which is how we know that they have gone out.
    let here = Pipe::open();
    let listener = Outlet::new(here.clone());
    let listening = world.hub.subscribe(&listener, &world.room, alice(), Seq(1));
    world.hub.begin(&listening);
    let said = world.say().await;
    here.until_seq(said).await;
    let typing = br#"{"type":"typing"}"#;
    let message = Message::one(Topic::presence(&general()), typing);
    world.bus.publish(message).unwrap();
    here.until(|frame| frame["type"] == "typing").await;
    world.hub.heal();
    world.hub.heal();

    let answer = stack_types::Frames::one(br#"{"type":"ok"}"#);
    outlet.send(answer.wire().clone());
    assert_eq!(pipe.frames().len(), 1, "{:?}", pipe.frames());
    assert_eq!(pipe.frames()[0]["type"], "ok");
}

#[tokio::test]
async fn the_end_of_a_subscription_is_told_once_and_one_that_is_replaced_is_not() {
    let world = World::new().await;
    let ends = Ends::default();
    let outlet = Outlet::relayed(Pipe::open(), ends.clone());
    let first = world.hub.subscribe(&outlet, &world.room, alice(), Seq(0));
    let second = world.hub.renew(&first, || Seq(1)).unwrap();
    assert!(first.is_over() && ends.0.lock().is_empty());
    world
        .hub
        .end(&general(), UnsubscribeReason::Banned, |_| true);
    world
        .hub
        .end(&general(), UnsubscribeReason::Banned, |_| true);
    world.hub.unsubscribe(&second, None);
    assert_eq!(*ends.0.lock(), [(general(), true)]);
    // Whoever is late to say that it begins does not.
    world.hub.begin_relayed(&second, |_| panic!("it is over"));

    let third = world.hub.subscribe(&outlet, &world.room, alice(), Seq(1));
    world.hub.unsubscribe(&third, None);
    assert_eq!(*ends.0.lock(), [(general(), true), (general(), false)]);
}

#[tokio::test]
async fn who_is_taken_from_a_room_says_how_far_they_are() {
    let world = World::new().await;
    let pipe = Pipe::open();
    let outlet = Outlet::new(pipe.clone());
    let live = world.hub.subscribe(&outlet, &world.room, alice(), Seq(1));
    world.hub.begin(&live);
    let said = world.say().await;
    pipe.until_seq(said).await;
    assert_eq!(world.hub.take(&live), Some(said));
    assert_eq!(world.hub.take(&live), None);
    assert!(world.hub.room_of(&general()).is_none());

    let behind = world.hub.subscribe(&outlet, &world.room, alice(), Seq(0));
    world.hub.begin(&behind);
    assert_eq!(world.hub.take(&behind), Some(Seq(0)));
    world.say().await;
    assert_eq!(pipe.seqs(), [said.0]);
}
