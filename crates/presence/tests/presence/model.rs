//! Presence against a model that works everything out anew from its connections, over random histories; and a
//! reader that only follows the deltas against the snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stack_bus::{Bus, MemBus, Prefix, Subscription};
use stack_presence::{Lease, PresenceConfig, Presences};
use stack_types::{Clock, ConnectionId, ManualClock, PresenceStatus, RoomId, Timestamp, UserId};

const START: Timestamp = Timestamp(1_700_000_000_000);
const CONNECTIONS: usize = 6;
const USERS: usize = 3;
const ROOMS: usize = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Connect(usize),
    Drop(usize),
    Renew(usize),
    Enter(usize, usize),
    Leave(usize, usize),
    Say(usize, PresenceStatus),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let connection = 0..CONNECTIONS;
    let status = prop_oneof![
        Just(PresenceStatus::Online),
        Just(PresenceStatus::Away),
        Just(PresenceStatus::Busy)
    ];
    let step = prop_oneof![
        3 => connection.clone().prop_map(Step::Connect),
        1 => connection.clone().prop_map(Step::Drop),
        2 => connection.clone().prop_map(Step::Renew),
        5 => (connection.clone(), 0..ROOMS).prop_map(|(c, r)| Step::Enter(c, r)),
        2 => (connection.clone(), 0..ROOMS).prop_map(|(c, r)| Step::Leave(c, r)),
        3 => (connection, status).prop_map(|(c, s)| Step::Say(c, s)),
        2 => (1..60u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// A connection as the model knows it.
struct Device {
    lease: Lease,
    seen_at: Timestamp,
    live: bool,
    rooms: BTreeSet<usize>,
    said: Option<(usize, PresenceStatus)>,
}

struct World {
    presences: Presences,
    clock: Arc<ManualClock>,
    lease: Duration,
    devices: BTreeMap<usize, Device>,
    told: Subscription,
    /// What a reader knows who was there from the start and hears every delta.
    heard: BTreeMap<RoomId, (u64, BTreeMap<UserId, PresenceStatus>)>,
}

fn user(connection: usize) -> UserId {
    format!("user{}", connection % USERS).parse().unwrap()
}

fn room(index: usize) -> RoomId {
    format!("room{index}").parse().unwrap()
}

impl World {
    async fn new() -> Self {
        let config = PresenceConfig::default();
        let clock = Arc::new(ManualClock::new(START));
        let bus = Arc::new(MemBus::default());
        Self {
            told: bus.subscribe(Prefix::presences()).await.unwrap(),
            presences: Presences::new(config, bus, clock.clone(), None),
            clock,
            lease: config.lease,
            devices: BTreeMap::new(),
            heard: BTreeMap::new(),
        }
    }

    async fn take(&mut self, number: usize, step: Step) {
        let now = self.clock.now();
        match step {
            Step::Connect(c) => {
                let lease = self.presences.connect(user(c), ConnectionId::generate(now));
                let device = Device {
                    lease,
                    seen_at: now,
                    live: true,
                    rooms: BTreeSet::new(),
                    said: None,
                };
                self.devices.insert(c, device);
            }
            Step::Drop(c) => drop(self.devices.remove(&c)),
            Step::Wait(seconds) => {
                self.clock.advance(Duration::from_secs(seconds));
                self.presences.sweep().await;
                let now = self.clock.now();
                for device in self.devices.values_mut() {
                    device.live &= now.since(device.seen_at) < self.lease;
                }
            }
            Step::Renew(c) | Step::Enter(c, _) | Step::Leave(c, _) | Step::Say(c, _) => {
                let Some(device) = self.devices.get_mut(&c) else {
                    return;
                };
                device.seen_at = now;
                device.live = true;
                match step {
                    Step::Enter(_, r) => {
                        device.rooms.insert(r);
                        device.lease.enter(&room(r));
                    }
                    Step::Leave(_, r) => {
                        device.rooms.remove(&r);
                        device.lease.leave(&room(r));
                    }
                    Step::Say(_, status) => {
                        device.said = Some((number, status));
                        device.lease.set_status(status, None).unwrap();
                    }
                    _ => device.lease.renew(),
                }
            }
        }
    }

    /// Who is in the room, worked out from the devices.
    fn expected(&self, index: usize) -> BTreeMap<UserId, PresenceStatus> {
        let live = || self.devices.iter().filter(|(_, device)| device.live);
        live()
            .filter(|(_, device)| device.rooms.contains(&index))
            .map(|(c, _)| {
                let user = user(*c);
                let words = live().filter(|(other, _)| self::user(**other) == user);
                let latest = words
                    .filter_map(|(_, device)| device.said)
                    .max_by_key(|said| said.0);
                (user, latest.map_or(PresenceStatus::Online, |said| said.1))
            })
            .collect()
    }

    fn hear(&mut self) {
        while let Some(message) = self.told.try_recv() {
            let frame: serde_json::Value = serde_json::from_slice(&message.frames.json(0)).unwrap();
            let payload = &frame["payload"];
            let room = message.topic.presence_room_id().unwrap();
            let user: UserId = payload["user_id"].as_str().unwrap().parse().unwrap();
            let version = payload["version"].as_u64().unwrap();
            let status: PresenceStatus = serde_json::from_value(payload["status"].clone()).unwrap();
            let (last, people) = self.heard.entry(room).or_default();
            if people.is_empty() {
                assert!(version > *last);
            } else {
                assert_eq!(
                    version,
                    *last + 1,
                    "versions have no hole while somebody is there"
                );
            }
            *last = version;
            let before = match status {
                PresenceStatus::Offline => people.remove(&user).or_else(|| {
                    panic!("somebody goes who was not there");
                }),
                status => people.insert(user, status),
            };
            assert_ne!(before, Some(status), "a delta changes something");
        }
    }

    fn check(&mut self) {
        self.hear();
        for index in 0..ROOMS {
            let expected = self.expected(index);
            let whole = self.presences.room(&room(index));
            let people: BTreeMap<UserId, PresenceStatus> = whole
                .users
                .iter()
                .map(|here| (here.user_id, here.status))
                .collect();
            assert_eq!(people, expected);
            assert_eq!(whole.count, expected.len());
            if let Some((version, heard)) = self.heard.get(&room(index)) {
                assert_eq!(*heard, expected);
                assert!(expected.is_empty() || *version == whole.version);
            }
        }
    }
}

proptest! {
    #[test]
    fn presence_is_what_its_connections_say(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for (number, step) in steps.into_iter().enumerate() {
                world.take(number, step).await;
                world.check();
            }
            world.devices.clear();
            world.check();
        });
    }
}
