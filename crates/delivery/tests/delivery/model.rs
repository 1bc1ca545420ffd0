//! Random histories against a model: people say, edit and take back things in several rooms while clients subscribe,
//! stall, vanish and come back with their cursors, and hubs and the store restart on the same file. Whoever listens
//! has every event once and in order, as the model has it; what was not acknowledged is not there.
//!
//! Three hubs have what is said there: one gets its commits, as in a gateway, and publishes them; another has what the bus
//! brings and reads the same store; the third has the bus too, and reads a log that is far and sometimes away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stack_delivery::{Hub, HubHandle, Log, Source};
use stack_proto::JsonCodec;
use stack_storage::{
    Appended, CreateRoom, KeptLog, Location, PageLimit, RoomRef, RoomTx, Store, StoreConfig,
    StoreHandle,
};
use stack_types::{
    Event, EventBody, EventCodec, ManualClock, Problem, RoomSettings, Seq, Timestamp,
    UnsubscribeReason,
};
use tokio::sync::oneshot;

use crate::client::{Client, Connection, On};
use crate::far_log::{FarLog, room_of};
use crate::lossy_bus::{Faults, LossyBus, Suffered};
use crate::pipe::Pipe;
use crate::property;
use crate::said::{ROOMS, Said, alice, draft, id, said};
use crate::step::{CLIENTS, Step, steps};

/// A client that has not caught up by then never will.
const PATIENCE: Duration = Duration::from_secs(15);

/// Small, so that every fold and seam is met.
const KEPT_LOG: KeptLog = KeptLog {
    commits: 3,
    bytes: 8_000,
};

type Answer = oneshot::Receiver<Result<Appended, Problem>>;

struct World {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    bus: Arc<LossyBus>,
    running: Option<Running>,
    log: Vec<Vec<Said>>,
    clients: Vec<Client>,
}

/// What a restart ends.
struct Running {
    store: Store,
    store_handle: StoreHandle,
    rooms: Vec<RoomRef>,
    own: (Hub, HubHandle),
    other: (Hub, HubHandle),
    far: (Hub, HubHandle),
    far_log: Arc<FarLog>,
}

impl Running {
    async fn open(
        folder: &tempfile::TempDir,
        clock: &Arc<ManualClock>,
        bus: &Arc<LossyBus>,
    ) -> Self {
        let codec = Arc::new(JsonCodec);
        let config = StoreConfig {
            location: Location::File(folder.path().join("stack.redb")),
            kept_log: KEPT_LOG,
            ..StoreConfig::default()
        };
        let (store, store_handle, commits) =
            Store::open(config, codec.clone(), clock.clone()).unwrap();
        let source = Source::Commits(commits);
        let own = Hub::spawn(store.clone(), bus.clone(), codec, source);
        let own = own.await.unwrap();
        let other = Self::other_hub(&store, bus).await;
        let far_log = FarLog::of(&store);
        let log = Log::Remote(far_log.clone());
        let far = Hub::spawn(log, bus.clone(), Arc::new(JsonCodec), Source::Bus);
        let far = far.await.unwrap();
        let rooms = (0..ROOMS).filter_map(|room| store.room(&id(room)).unwrap());
        Self {
            rooms: rooms.collect(),
            store,
            store_handle,
            own,
            other,
            far,
            far_log,
        }
    }

    async fn other_hub(store: &Store, bus: &Arc<LossyBus>) -> (Hub, HubHandle) {
        let spawned = Hub::spawn(store.clone(), bus.clone(), Arc::new(JsonCodec), Source::Bus);
        spawned.await.unwrap()
    }

    /// Queues an event; gives what its place will come by.
    async fn submit(&self, room: usize, body: EventBody) -> Answer {
        let (reply, answer) = oneshot::channel();
        let op = move |tx: &mut RoomTx<'_, '_>| Ok(tx.append(draft(body)));
        let told = |place| drop(reply.send(place));
        let submitted = self.store.submit(&self.rooms[room], op, told);
        submitted.queued().await;
        answer
    }

    fn heal(&self) {
        self.own.0.heal();
        self.other.0.heal();
        self.far_log.look(&self.far.0);
        self.far.0.heal();
    }

    async fn read(&self, room: usize) -> Vec<Event> {
        const ALL: PageLimit = PageLimit {
            events: usize::MAX,
            bytes: usize::MAX,
        };
        let page = self.store.page_after(&self.rooms[room], Seq::ZERO, ALL);
        let frames = page.await.unwrap().frames().clone();
        frames
            .iter()
            .map(|frame| JsonCodec.decode(&frame).unwrap())
            .collect()
    }
}

impl World {
    async fn new(faults: Faults, seed: u64, suffered: &Arc<Suffered>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        let bus = Arc::new(LossyBus::new(faults, seed, suffered.clone()));
        let mut running = Running::open(&folder, &clock, &bus).await;
        let mut log = Vec::new();
        for room in 0..ROOMS {
            let create = CreateRoom {
                id: id(room),
                title: "t".into(),
                settings: RoomSettings::default(),
                owner: alice(),
            };
            let made = running.store.create_room(create).await.unwrap().unwrap();
            running.rooms.push(made);
            let created = running.read(room).await.into_iter();
            log.push(
                created
                    .map(|event| Said::now(event.ts, event.body))
                    .collect(),
            );
        }
        let client = |index| Client {
            user: format!("user{index}").parse().unwrap(),
            on: [On::Other, On::Own, On::Far][index % 3],
            cursors: BTreeMap::new(),
            connection: None,
            wanted: Vec::new(),
        };
        Self {
            folder,
            clock,
            bus,
            running: Some(running),
            log,
            clients: (0..CLIENTS).map(client).collect(),
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn head(&self, room: usize) -> u64 {
        self.log[room].len() as u64
    }

    /// The number of the message so far from the end.
    fn message(&self, room: usize, back: u64) -> Option<Seq> {
        let target = Seq(self.head(room).checked_sub(back)?);
        let said = self.log[room].get((target.0 as usize).checked_sub(1)?)?;
        matches!(said.now, EventBody::Message { .. }).then_some(target)
    }

    fn has_said(&mut self, room: usize, place: Appended, body: EventBody) {
        assert_eq!(place.seq.0, self.head(room) + 1, "a number out of line");
        self.log[room].push(Said::now(place.ts, body));
    }

    async fn say(&mut self, room: usize, count: usize, size: usize) {
        let mut pending = Vec::new();
        for index in 0..count {
            let body = said(&format!("{}.{index} {}", self.head(room), "x".repeat(size)));
            pending.push((self.running().submit(room, body.clone()).await, body));
        }
        for (place, body) in pending {
            self.has_said(room, place.await.unwrap().unwrap(), body);
        }
    }

    async fn redact(&mut self, room: usize, target: Seq) {
        let taken_back = EventBody::Redacted {
            target_seq: target,
            reason: None,
        };
        let body = taken_back.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            tx.redact(target)?;
            Ok(tx.append(draft(body)))
        };
        let place = self.running().store.room_op(&id(room), op).await.unwrap();
        for said in &mut self.log[room] {
            if let EventBody::Edited { target_seq, body } = &mut said.now
                && *target_seq == target
            {
                *body = None;
            }
        }
        self.log[room][target.0 as usize - 1].now = EventBody::Tombstone;
        self.has_said(room, place, taken_back);
    }

    async fn take(&mut self, step: Step) {
        self.clock.advance(Duration::from_millis(7));
        match step {
            Step::Say { room, count, size } => self.say(room, count, size).await,
            Step::Edit { room, back } => {
                if let Some(target_seq) = self.message(room, back) {
                    let body = Some("edited".to_owned());
                    let edited = EventBody::Edited { target_seq, body };
                    let place = self.running().submit(room, edited.clone()).await;
                    self.has_said(room, place.await.unwrap().unwrap(), edited);
                }
            }
            Step::Redact { room, back } => {
                if let Some(target) = self.message(room, back) {
                    self.redact(room, target).await;
                }
            }
            Step::Subscribe { client, room, back } => {
                let after = self.head(room).saturating_sub(back.unwrap_or(0));
                self.resume(client);
                self.subscribe(client, room, after);
            }
            Step::Unsubscribe { client, room } => {
                if let Some(connection) = &mut self.clients[client].connection {
                    connection.unsubscribe(room);
                }
            }
            Step::End { client, room } => self.end(client, room),
            Step::Break { client, lost } => self.break_off(client, lost).await,
            Step::Resume { client } => self.resume(client),
            Step::Stall { client } => self.with_pipe(client, Pipe::stall),
            Step::Take { client, bytes } => self.with_pipe(client, |pipe| pipe.allow(bytes)),
            Step::TakeAll { client } => self.with_pipe(client, |pipe| pipe.allow(usize::MAX)),
            Step::Heal => self.running().heal(),
            Step::Away => self.running().far_log.go(true),
            Step::Back => self.running().far_log.go(false),
            Step::RestartHub => self.restart_hub().await,
            Step::Restart { on_their_way } => self.restart(on_their_way).await,
        }
        for client in &mut self.clients {
            client.read(&self.log);
        }
    }

    fn with_pipe(&self, client: usize, act: impl FnOnce(&Pipe)) {
        if let Some(connection) = &self.clients[client].connection {
            act(&connection.pipe);
        }
    }

    /// Connects a client that is not, and lets it go on from its cursors.
    fn resume(&mut self, client: usize) {
        if self.clients[client].connection.is_some() {
            return;
        }
        let running = self.running();
        let (hub, _) = match self.clients[client].on {
            On::Own => &running.own,
            On::Other => &running.other,
            On::Far => &running.far,
        };
        let connection = Connection::open(hub.clone());
        self.clients[client].connection = Some(connection);
        let cursors = std::mem::take(&mut self.clients[client].cursors);
        assert!(cursors.keys().eq(&self.clients[client].wanted));
        for (room, after) in cursors {
            self.subscribe(client, room, after);
        }
    }

    fn subscribe(&mut self, client: usize, room: usize, after: u64) {
        let found = &self.running().rooms[room];
        let found = match self.clients[client].on {
            On::Own | On::Other => found.into(),
            On::Far => room_of(&self.running().far.0, found, after),
        };
        let client = &mut self.clients[client];
        if let Some(connection) = &mut client.connection {
            connection.subscribe(client.user, found, room, after);
        }
    }

    /// As a gateway does it when it hears of a removal: on every hub, whoever is there.
    fn end(&mut self, client: usize, room: usize) {
        let user = self.clients[client].user;
        let running = self.running();
        for (hub, _) in [&running.own, &running.other, &running.far] {
            hub.end(&id(room), UnsubscribeReason::Removed, |subscription| {
                subscription.user() == user
            });
        }
        if let Some(connection) = &mut self.clients[client].connection {
            connection.subscriptions.remove(&room);
        }
    }

    async fn break_off(&mut self, client: usize, lost: usize) {
        self.clients[client].sever(lost).await;
        self.clients[client].hang_up(&self.log);
    }

    async fn restart_hub(&mut self) {
        for client in 0..CLIENTS {
            if self.clients[client].on == On::Other {
                self.break_off(client, 0).await;
            }
        }
        let mut running = self.running.take().unwrap();
        let other = Running::other_hub(&running.store, &self.bus).await;
        let (_, handle) = std::mem::replace(&mut running.other, other);
        handle.shutdown().await;
        self.running = Some(running);
    }

    async fn restart(&mut self, on_their_way: usize) {
        let mut pending = Vec::new();
        for index in 0..on_their_way {
            let (room, body) = (index % ROOMS, said(&format!("on its way {index}")));
            pending.push((room, self.running().submit(room, body.clone()).await, body));
        }
        for client in &mut self.clients {
            client.sever(100).await;
        }
        self.stop().await;
        for (room, place, body) in pending {
            // What was refused must not be there: the whole log is held against the model at the end.
            if let Ok(place) = place.await.unwrap() {
                self.has_said(room, place, body);
            }
        }
        for client in &mut self.clients {
            client.hang_up(&self.log);
        }
        self.running = Some(Running::open(&self.folder, &self.clock, &self.bus).await);
    }

    async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.store_handle.shutdown().await;
        running.own.1.shutdown().await;
        running.other.1.shutdown().await;
        running.far.1.shutdown().await;
    }

    /// Everybody comes back and takes what there is.
    async fn settle(&mut self) {
        self.running().far_log.go(false);
        for client in 0..CLIENTS {
            self.resume(client);
            self.with_pipe(client, |pipe| pipe.allow(usize::MAX));
        }
        for room in 0..ROOMS {
            self.say(room, 1, 1).await;
        }
        // The last batch may be lost too, and nothing comes behind it. A loss shows at the second look.
        self.running().heal();
        self.running().heal();
        for client in 0..CLIENTS {
            self.catch_up(client).await;
        }
    }

    async fn catch_up(&mut self, client: usize) {
        let heads: Vec<u64> = (0..ROOMS).map(|room| self.head(room)).collect();
        let pipe = match &self.clients[client].connection {
            Some(connection) => connection.pipe.clone(),
            None => return,
        };
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let news = pipe.news();
                self.clients[client].read(&self.log);
                if self.clients[client].is_at(&heads) {
                    return;
                }
                news.await;
            }
        });
        if waited.await.is_err() {
            let client = &self.clients[client];
            panic!("{} waits at {:?} of {heads:?}", client.user, client.cursors);
        }
    }

    async fn check_log(&self) {
        for (room, said) in self.log.iter().enumerate() {
            let events = self.running().read(room).await;
            assert_eq!(events.len(), said.len(), "the length of {}", id(room));
            for (event, (said, seq)) in events.iter().zip(said.iter().zip(1..)) {
                assert_eq!((event.seq, event.ts), (Seq(seq), said.ts));
                assert_eq!(event.body, said.now);
            }
            assert!(events.is_sorted_by_key(|event| event.ts));
        }
    }
}

fn play(cases: u64, faults: Faults) -> Arc<Suffered> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    // Not dropped: that would wait for what a case that failed has left behind.
    let runtime = builder.worker_threads(2).enable_all().build();
    let runtime = &*Box::leak(Box::new(runtime.unwrap()));
    let suffered = Arc::new(Suffered::default());
    property::check(cases, &steps(), |seed, steps| {
        runtime.block_on(async {
            let mut world = World::new(faults, seed, &suffered).await;
            for step in steps {
                let told = format!("{step:?} does not end");
                let taken = tokio::time::timeout(PATIENCE, world.take(step)).await;
                taken.expect(&told);
            }
            world.settle().await;
            world.check_log().await;
            // What the next process finds is what this one had.
            world.restart(0).await;
            world.check_log().await;
            world.stop().await;
        });
    });
    suffered
}

#[test]
fn what_is_delivered_is_what_was_promised() {
    play(16, Faults::default());
}

#[test]
fn it_is_so_too_over_a_bus_that_loses_repeats_and_reorders() {
    let suffered = play(
        24,
        Faults {
            lost: 15,
            repeated: 15,
            late: 30,
            cut: 20,
        },
    );
    for (what, count) in [
        ("lost", &suffered.lost),
        ("repeated", &suffered.repeated),
        ("overtaken", &suffered.overtaken),
    ] {
        let count = count.load(Ordering::Relaxed);
        println!("{what}: {count}");
        assert!(count > 0, "nothing was {what}");
    }
}
