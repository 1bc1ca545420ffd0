//! Random histories against a model: people say, edit and take back things in several rooms while clients subscribe,
//! stall, vanish and come back with their cursors, and hubs and the store restart on the same file. Whoever listens
//! has every event once and in order, as the model has it; what was not acknowledged is not there.
//!
//! Two hubs read the one store: one gets its commits, as in a gateway, and publishes them; the other has only what the
//! bus brings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use stack_delivery::{Hub, HubHandle, Outlet, Pumped, Source, Subscription};
use stack_proto::JsonCodec;
use stack_storage::{
    Appended, CreateRoom, KeptLog, Location, PageLimit, RoomRef, RoomTx, Store, StoreConfig,
    StoreHandle,
};
use stack_types::{
    Event, EventBody, EventCodec, EventDraft, Frames, ManualClock, Problem, RoomId, RoomSettings,
    Seq, Timestamp, UnsubscribeReason, UserId,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::lossy_bus::{Faults, LossyBus, Suffered};
use crate::pipe::Pipe;
use crate::property;

const ROOMS: usize = 3;
const CLIENTS: usize = 6;

/// A client that has not caught up by then never will.
const PATIENCE: Duration = Duration::from_secs(15);

/// Small, so that every fold and seam is met.
const KEPT_LOG: KeptLog = KeptLog {
    commits: 3,
    bytes: 8_000,
};

type Answer = oneshot::Receiver<Result<Appended, Problem>>;

#[derive(Debug, Clone)]
enum Step {
    /// So many messages, queued together.
    Say {
        room: usize,
        count: usize,
        size: usize,
    },
    /// The message so far from the end, if it is one.
    Edit {
        room: usize,
        back: u64,
    },
    Redact {
        room: usize,
        back: u64,
    },
    /// With a cursor so far behind the head, or without one. Repeated, it moves the cursor.
    Subscribe {
        client: usize,
        room: usize,
        back: Option<u64>,
    },
    Unsubscribe {
        client: usize,
        room: usize,
    },
    /// Somebody else ends the client's subscription.
    End {
        client: usize,
        room: usize,
    },
    /// The connection breaks, and the last bytes on it are lost. It comes back when it next does something.
    Break {
        client: usize,
        lost: usize,
    },
    /// Comes back, to the gateway's own hub or to the other, and resumes by its cursors.
    Resume {
        client: usize,
    },
    Stall {
        client: usize,
    },
    /// Takes so many bytes more.
    Take {
        client: usize,
        bytes: usize,
    },
    TakeAll {
        client: usize,
    },
    Heal,
    RestartHub,
    /// Store and hubs, while so many messages are on their way.
    Restart {
        on_their_way: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, room) = (0..CLIENTS, 0..ROOMS);
    let both = || (0..CLIENTS, 0..ROOMS);
    let size = prop_oneof![12 => 0usize..200, 1 => 2_000usize..9_000];
    let back = prop_oneof![2 => Just(None), 3 => (0u64..20).prop_map(Some), 2 => (0u64..400).prop_map(Some)];
    let step = prop_oneof![
        16 => (room.clone(), 1usize..12, size).prop_map(|(room, count, size)| Step::Say { room, count, size }),
        1 => (room.clone(), 60usize..200).prop_map(|(room, count)| Step::Say { room, count, size: 3 }),
        3 => (room.clone(), 0u64..60).prop_map(|(room, back)| Step::Edit { room, back }),
        3 => (room, 0u64..60).prop_map(|(room, back)| Step::Redact { room, back }),
        10 => (both(), back).prop_map(|((client, room), back)| Step::Subscribe { client, room, back }),
        2 => both().prop_map(|(client, room)| Step::Unsubscribe { client, room }),
        2 => both().prop_map(|(client, room)| Step::End { client, room }),
        3 => (client.clone(), 0usize..2_000).prop_map(|(client, lost)| Step::Break { client, lost }),
        3 => client.clone().prop_map(|client| Step::Resume { client }),
        5 => client.clone().prop_map(|client| Step::Stall { client }),
        6 => (client.clone(), 1usize..3_000).prop_map(|(client, bytes)| Step::Take { client, bytes }),
        3 => client.prop_map(|client| Step::TakeAll { client }),
        1 => Just(Step::Heal),
        1 => Just(Step::RestartHub),
        1 => (0usize..30).prop_map(|on_their_way| Step::Restart { on_their_way }),
    ];
    proptest::collection::vec(step, 1..80)
}

/// An event of the model: what was said, and what is left of it.
struct Said {
    ts: Timestamp,
    first: EventBody,
    now: EventBody,
}

impl Said {
    /// What was on its way when it was taken back may still come as it was.
    fn is(&self, event: &Event) -> bool {
        event.ts == self.ts && (event.body == self.first || event.body == self.now)
    }
}

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
}

struct Client {
    user: UserId,
    on_other_hub: bool,
    /// The last event it has of each room it listens to.
    cursors: BTreeMap<usize, u64>,
    connection: Option<Connection>,
    /// What it had subscribed to when its connection broke.
    wanted: Vec<usize>,
}

struct Connection {
    hub: Hub,
    pipe: Pipe,
    outlet: Arc<Outlet>,
    subscriptions: BTreeMap<usize, Arc<Subscription>>,
    /// Requests whose answer has not been read: where the cursor of a room stands with it.
    asked: VecDeque<(usize, Option<u64>)>,
    pump: JoinSet<()>,
}

fn id(room: usize) -> RoomId {
    format!("room-{room}").parse().unwrap()
}

fn alice() -> UserId {
    "alice".parse().unwrap()
}

fn draft(body: EventBody) -> EventDraft {
    let sender = alice();
    EventDraft { sender, body }
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
        let rooms = (0..ROOMS).filter_map(|room| store.room(&id(room)).unwrap());
        Self {
            rooms: rooms.collect(),
            store,
            store_handle,
            own,
            other,
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
            on_other_hub: index % 2 == 0,
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
        let on_other_hub = self.clients[client].on_other_hub;
        let running = self.running();
        let (hub, _) = if on_other_hub {
            &running.other
        } else {
            &running.own
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
        let found = self.running().rooms[room].clone();
        let client = &mut self.clients[client];
        if let Some(connection) = &mut client.connection {
            connection.subscribe(client.user, &found, room, after);
        }
    }

    /// As a gateway does it when it hears of a removal: on every hub, whoever is there.
    fn end(&mut self, client: usize, room: usize) {
        let user = self.clients[client].user;
        for (hub, _) in [&self.running().own, &self.running().other] {
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
            if self.clients[client].on_other_hub {
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
        let running = self.running.take().unwrap();
        running.store_handle.shutdown().await;
        running.own.1.shutdown().await;
        running.other.1.shutdown().await;
        drop((running.store, running.rooms, running.own.0, running.other.0));
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

    /// Everybody comes back and takes what there is.
    async fn settle(&mut self) {
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

impl Said {
    fn now(ts: Timestamp, body: EventBody) -> Self {
        Self {
            ts,
            first: body.clone(),
            now: body,
        }
    }
}

fn said(text: &str) -> EventBody {
    EventBody::Message {
        body: text.to_owned(),
        data: None,
        key: None,
        reply_to: None,
    }
}

impl Client {
    /// Reads what has come: every event stands in line behind its room's cursor, and reads as it was said.
    fn read(&mut self, log: &[Vec<Said>]) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        for frame in connection.pipe.take_frames() {
            let value: serde_json::Value = serde_json::from_slice(&frame).unwrap();
            match value["type"].as_str().unwrap() {
                "ok" => {
                    let (room, cursor) = connection.asked.pop_front().unwrap();
                    set(&mut self.cursors, room, cursor);
                }
                "unsubscribed" => {
                    let room = room_of(&value["payload"]["room"]);
                    let had = self.cursors.remove(&room);
                    assert!(
                        had.is_some(),
                        "the end of what was not begun, or a second end"
                    );
                }
                _ => {
                    let room = room_of(&value["payload"]["room"]);
                    let event = JsonCodec.decode(&frame).unwrap();
                    let cursor = self.cursors.get_mut(&room);
                    let cursor = cursor.unwrap_or_else(|| panic!("unasked for: {value}"));
                    assert_eq!(event.seq.0, *cursor + 1, "out of line: {value}");
                    *cursor += 1;
                    let said = log[room].get(event.seq.0 as usize - 1);
                    assert!(
                        said.is_some_and(|said| said.is(&event)),
                        "never said: {value}"
                    );
                }
            }
        }
    }

    /// The connection is gone. What had come is still to be read, but for the last bytes.
    async fn sever(&mut self, lost: usize) {
        if let Some(connection) = &mut self.connection {
            connection.outlet.close();
            connection.pipe.lose(lost);
            if let Some(pumped) = connection.pump.join_next().await {
                pumped.unwrap();
            }
            for subscription in connection.subscriptions.values() {
                connection.hub.unsubscribe(subscription, None);
            }
        }
    }

    /// Finds that its connection is gone.
    fn hang_up(&mut self, log: &[Vec<Said>]) {
        self.read(log);
        let Some(connection) = self.connection.take() else {
            return;
        };
        // What it asked for without hearing of it, it will ask for again; and it will find out what has ended.
        for (room, cursor) in connection.asked {
            set(&mut self.cursors, room, cursor);
        }
        self.wanted = connection.subscriptions.keys().copied().collect();
        self.cursors.retain(|room, _| self.wanted.contains(room));
    }

    /// Whether it has everything of everything it listens to, and has read every answer.
    fn is_at(&self, heads: &[u64]) -> bool {
        self.connection.as_ref().is_none_or(|connection| {
            connection.asked.is_empty()
                && self.cursors.keys().eq(connection.subscriptions.keys())
                && self.cursors.iter().all(|(room, at)| *at == heads[*room])
        })
    }
}

fn set(cursors: &mut BTreeMap<usize, u64>, room: usize, cursor: Option<u64>) {
    match cursor {
        Some(after) => cursors.insert(room, after),
        None => cursors.remove(&room),
    };
}

fn room_of(name: &serde_json::Value) -> usize {
    (0..ROOMS)
        .find(|room| id(*room).as_str() == name.as_str().unwrap())
        .unwrap()
}

impl Connection {
    fn open(hub: Hub) -> Self {
        let pipe = Pipe::open();
        let outlet = Outlet::new(pipe.clone());
        let mut pump = JoinSet::new();
        let (pumping, pumped) = (hub.clone(), outlet.clone());
        pump.spawn(
            async move { while let Pumped::Ended(_) = pumping.pump(&pumped).await.unwrap() {} },
        );
        Self {
            hub,
            pipe,
            outlet,
            subscriptions: BTreeMap::new(),
            asked: VecDeque::new(),
            pump,
        }
    }

    /// As the gateway does it: the new one is there before the old one goes, and the answer comes before its events.
    fn subscribe(&mut self, user: UserId, found: &RoomRef, room: usize, after: u64) {
        let subscription = self.hub.subscribe(&self.outlet, found, user, Seq(after));
        if let Some(before) = self.subscriptions.insert(room, subscription.clone()) {
            self.hub.unsubscribe(&before, None);
        }
        self.answer(room, Some(after));
        self.hub.begin(&subscription);
    }

    fn unsubscribe(&mut self, room: usize) {
        if let Some(subscription) = self.subscriptions.remove(&room) {
            self.hub.unsubscribe(&subscription, None);
        }
        self.answer(room, None);
    }

    fn answer(&mut self, room: usize, cursor: Option<u64>) {
        self.asked.push_back((room, cursor));
        let frame = Frames::one(br#"{"type":"ok"}"#);
        self.outlet.send(frame.wire().clone());
    }
}

fn play(cases: u64, faults: Faults) -> Arc<Suffered> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    let suffered = Arc::new(Suffered::default());
    property::check(cases, &steps(), |seed, steps| {
        runtime.block_on(async {
            let mut world = World::new(faults, seed, &suffered).await;
            for step in steps {
                world.take(step).await;
            }
            world.settle().await;
            world.check_log().await;
            // What the next process finds is what this one had.
            world.restart(0).await;
            world.check_log().await;
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
