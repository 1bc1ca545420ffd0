//! Presence as its users see it: leases in, deltas and snapshots out. Time stands still unless a test moves it.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod model;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use stack_bus::{Bus, MemBus, Prefix, Subscription};
use stack_presence::{LastSeen, Lease, PresenceConfig, Presences, Recording, Seen};
use stack_types::{
    Clock, ConnectionId, ErrorCode, ManualClock, PresenceStatus, Problem, RoomId, Timestamp, UserId,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const START: Timestamp = Timestamp(1_700_000_000_000);

/// A sink that keeps what it is given, or fails while it is told to.
#[derive(Default)]
struct Written {
    batches: Mutex<Vec<Vec<Seen>>>,
    failing: Mutex<bool>,
}

impl Written {
    fn take(&self) -> Vec<Vec<Seen>> {
        std::mem::take(&mut *self.batches.lock())
    }
}

impl LastSeen for Written {
    fn record(&self, seen: Vec<Seen>) -> Recording<'_> {
        Box::pin(async move {
            if *self.failing.lock() {
                return Err(Problem::new(ErrorCode::Unavailable, "the disk is full"));
            }
            self.batches.lock().push(seen);
            Ok(())
        })
    }
}

struct House {
    presences: Presences,
    clock: Arc<ManualClock>,
    written: Arc<Written>,
    told: Subscription,
}

impl House {
    async fn new(config: PresenceConfig) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let bus = Arc::new(MemBus::default());
        let written = Arc::new(Written::default());
        Self {
            told: bus.subscribe(Prefix::presences()).await.unwrap(),
            presences: Presences::new(config, bus, clock.clone(), Some(written.clone())),
            clock,
            written,
        }
    }

    fn connect(&self, user: UserId) -> Lease {
        self.presences
            .connect(user, ConnectionId::generate(self.clock.now()))
    }

    /// The next delta's topic and payload, if one was told.
    fn delta(&mut self) -> Option<Value> {
        let message = self.told.try_recv()?;
        assert_eq!(message.frames.len(), 1);
        let frame: Value = serde_json::from_slice(&message.frames.json(0)).unwrap();
        assert_eq!(frame["type"], "presence");
        let room = frame["payload"]["room"].as_str().unwrap();
        assert_eq!(message.topic.as_str(), format!("presence.{room}"));
        Some(frame["payload"].clone())
    }

    /// The user and status of every delta told since the last look.
    fn deltas(&mut self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        std::iter::from_fn(|| self.delta())
            .map(|delta| (text(&delta["user_id"]), text(&delta["status"])))
            .collect()
    }
}

fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

fn room(name: &str) -> RoomId {
    name.parse().unwrap()
}

fn said(user: &str, status: &str) -> (String, String) {
    (user.to_owned(), status.to_owned())
}

#[tokio::test]
async fn coming_changing_and_going_are_told() {
    let mut house = House::new(PresenceConfig::default()).await;
    let general = room("general");
    let lease = house.connect(user("alice"));
    assert_eq!(
        house.delta(),
        None,
        "a connection in no room is nobody's business"
    );

    lease.enter(&general);
    let come =
        json!({"room": "general", "user_id": "alice", "status": "online", "version": START.0 + 1});
    assert_eq!(house.delta(), Some(come));
    lease
        .set_status(PresenceStatus::Busy, Some("lunch".to_owned()))
        .unwrap();
    let change = json!({"room": "general", "user_id": "alice", "status": "busy", "text": "lunch", "version": START.0 + 2});
    assert_eq!(house.delta(), Some(change));
    lease
        .set_status(PresenceStatus::Busy, Some("lunch".to_owned()))
        .unwrap();
    lease.enter(&general);
    assert_eq!(house.delta(), None, "what does not change is not told");

    let whole = house.presences.room(&general);
    assert_eq!((whole.count, whole.version), (1, START.0 + 2));
    assert_eq!(whole.users[0].user_id, user("alice"));
    assert_eq!(whole.users[0].text.as_deref(), Some("lunch"));
    assert_eq!(whole.users[0].last_seen_at, START);

    lease.leave(&general);
    let gone =
        json!({"room": "general", "user_id": "alice", "status": "offline", "version": START.0 + 3});
    assert_eq!(house.delta(), Some(gone));
    lease.leave(&general);
    assert_eq!(house.delta(), None);
    assert_eq!(house.presences.room(&general).count, 0);
}

#[tokio::test]
async fn a_user_is_present_while_one_device_is() {
    let mut house = House::new(PresenceConfig::default()).await;
    let general = room("general");
    let phone = house.connect(user("alice"));
    let laptop = house.connect(user("alice"));
    phone.enter(&general);
    laptop.enter(&general);
    assert_eq!(house.deltas(), [said("alice", "online")]);
    assert_eq!(house.presences.room(&general).count, 1);
    drop(phone);
    assert_eq!(house.deltas(), []);
    assert!(house.presences.is_connected(user("alice")));
    drop(laptop);
    assert_eq!(house.deltas(), [said("alice", "offline")]);
    assert!(!house.presences.is_connected(user("alice")));
}

#[tokio::test]
async fn the_latest_word_counts_while_its_connection_is_there() {
    let mut house = House::new(PresenceConfig::default()).await;
    let phone = house.connect(user("alice"));
    let laptop = house.connect(user("alice"));
    phone.enter(&room("one"));
    laptop.enter(&room("two"));
    house.deltas();

    laptop.set_status(PresenceStatus::Away, None).unwrap();
    assert_eq!(
        house.deltas(),
        [said("alice", "away"), said("alice", "away")],
        "in both rooms"
    );
    phone.set_status(PresenceStatus::Busy, None).unwrap();
    assert_eq!(
        house.deltas(),
        [said("alice", "busy"), said("alice", "busy")]
    );
    drop(phone);
    assert_eq!(
        house.deltas(),
        [said("alice", "offline"), said("alice", "away")]
    );
    laptop
        .set_status(PresenceStatus::Online, Some(String::new()))
        .unwrap();
    assert_eq!(house.deltas(), [said("alice", "online")]);
    assert_eq!(house.presences.room(&room("two")).users[0].text, None);
}

#[tokio::test]
async fn what_is_no_status_is_refused() {
    let mut house = House::new(PresenceConfig::default()).await;
    let lease = house.connect(user("alice"));
    lease.enter(&room("general"));
    house.deltas();
    let refused = lease.set_status(PresenceStatus::Offline, None).unwrap_err();
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidField, Some("status"))
    );
    let refused = lease
        .set_status(PresenceStatus::Away, Some("ä".repeat(65)))
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.field.as_deref()),
        (ErrorCode::InvalidField, Some("text"))
    );
    lease
        .set_status(PresenceStatus::Away, Some("ä".repeat(64)))
        .unwrap();
    assert_eq!(house.deltas(), [said("alice", "away")]);
}

#[tokio::test]
async fn a_lease_expires_without_heartbeats_and_comes_back_with_one() {
    let config = PresenceConfig::default();
    let mut house = House::new(config).await;
    let general = room("general");
    let silent = house.connect(user("alice"));
    let beating = house.connect(user("bob"));
    silent.enter(&general);
    silent.set_status(PresenceStatus::Away, None).unwrap();
    beating.enter(&general);
    house.deltas();

    house.clock.advance(config.lease - Duration::from_millis(1));
    beating.renew();
    house.presences.sweep().await;
    assert_eq!(house.deltas(), []);
    house.clock.advance(Duration::from_millis(1));
    house.presences.sweep().await;
    house.presences.sweep().await;
    assert_eq!(house.deltas(), [said("alice", "offline")]);
    assert_eq!(house.presences.room(&general).count, 1);

    silent.leave(&room("elsewhere"));
    assert_eq!(
        house.deltas(),
        [said("alice", "away")],
        "whatever it does is a heartbeat"
    );
    house.clock.advance(config.lease);
    house.presences.sweep().await;
    assert_eq!(house.deltas().len(), 2);
    drop(silent);
    drop(beating);
    assert_eq!(
        house.deltas(),
        [],
        "who has expired does not go a second time"
    );
}

#[tokio::test]
async fn a_clock_set_back_neither_ends_nor_prolongs_a_lease() {
    let config = PresenceConfig::default();
    let mut house = House::new(config).await;
    let lease = house.connect(user("alice"));
    lease.enter(&room("general"));
    house.deltas();
    house.clock.set(START.minus(Duration::from_secs(3600)));
    house.presences.sweep().await;
    assert_eq!(house.deltas(), []);
    house.clock.advance(config.lease);
    house.presences.sweep().await;
    assert_eq!(house.deltas(), [said("alice", "offline")]);
}

#[tokio::test]
async fn large_rooms_are_only_counted() {
    let config = PresenceConfig {
        count_only_above: 2,
        ..PresenceConfig::default()
    };
    let mut house = House::new(config).await;
    let general = room("general");
    let leases: Vec<Lease> = ["a", "b", "c", "d"]
        .map(|name| house.connect(user(name)))
        .into();
    for lease in &leases {
        lease.enter(&general);
    }
    leases[0].set_status(PresenceStatus::Away, None).unwrap();
    assert_eq!(house.deltas(), [said("a", "online"), said("b", "online")]);
    let whole = house.presences.room(&general);
    assert_eq!(
        (whole.users.len(), whole.count, whole.version),
        (0, 4, START.0 + 5)
    );

    leases[3].leave(&general);
    assert_eq!(house.deltas(), []);
    leases[2].leave(&general);
    let delta = house.delta().unwrap();
    assert_eq!(
        delta["version"],
        START.0 + 7,
        "the hole in the versions says: ask for the whole"
    );
    let whole = house.presences.room(&general);
    assert_eq!(
        (whole.users.len(), whole.count, whole.version),
        (2, 2, START.0 + 7)
    );
    assert_eq!(whole.users[0].status, PresenceStatus::Away);
}

#[tokio::test]
async fn versions_never_fall() {
    let mut house = House::new(PresenceConfig::default()).await;
    let general = room("general");
    let empty = house.presences.room(&general).version;
    let lease = house.connect(user("alice"));
    let mut last = empty;
    // Empty rooms are forgotten in between, the clock stands still and then goes back.
    for round in 0..20 {
        if round == 10 {
            house.clock.set(START.minus(Duration::from_secs(3600)));
        }
        lease.enter(&general);
        lease.leave(&general);
        while let Some(delta) = house.delta() {
            let version = delta["version"].as_u64().unwrap();
            assert!(version > last);
            last = version;
        }
        let whole = house.presences.room(&general).version;
        assert!(whole >= last);
    }
    let restarted = House::new(PresenceConfig::default()).await;
    restarted.clock.set(START.plus(Duration::from_secs(1)));
    assert!(restarted.presences.room(&general).version > last);
}

#[tokio::test]
async fn last_seen_is_written_when_people_go_and_seldom_while_they_stay() {
    let config = PresenceConfig::default();
    let house = House::new(config).await;
    let at = |name, at| Seen {
        user_id: user(name),
        at,
    };
    let alice = house.connect(user("alice"));
    let _twin = house.connect(user("alice"));
    house.presences.sweep().await;
    assert_eq!(house.written.take(), [[at("alice", START)]]);

    let beat = Duration::from_secs(60);
    for _ in 0..4 {
        house.clock.advance(beat);
        alice.renew();
        house.presences.sweep().await;
    }
    assert!(house.written.take().is_empty(), "not with every heartbeat");
    house.clock.advance(beat);
    alice.renew();
    house.presences.sweep().await;
    assert_eq!(house.written.take(), [[at("alice", START.plus(beat * 5))]]);

    house.clock.advance(Duration::from_secs(1));
    alice.renew();
    let gone_at = house.clock.now();
    drop(alice);
    house.clock.advance(Duration::from_secs(1));
    house.presences.sweep().await;
    assert_eq!(house.written.take(), [[at("alice", gone_at)]]);
    house.presences.sweep().await;
    assert!(house.written.take().is_empty());
}

#[tokio::test]
async fn a_failed_write_is_made_up_for() {
    let house = House::new(PresenceConfig::default()).await;
    let stays = house.connect(user("alice"));
    drop(house.connect(user("bob")));
    *house.written.failing.lock() = true;
    house.presences.sweep().await;
    *house.written.failing.lock() = false;
    assert!(house.written.take().is_empty());
    house.presences.sweep().await;
    let mut names: Vec<UserId> = house
        .written
        .take()
        .concat()
        .iter()
        .map(|seen| seen.user_id)
        .collect();
    names.sort();
    assert_eq!(names, [user("alice"), user("bob")]);
    drop(stays);
}

#[tokio::test]
async fn stopping_writes_everybody_and_ends_the_sweeper() {
    let clock = Arc::new(ManualClock::new(START));
    let written = Arc::new(Written::default());
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let presences = Presences::spawn(
        PresenceConfig::default(),
        Arc::new(MemBus::default()),
        clock.clone(),
        Some(written.clone()),
        &tracker,
        stop.clone(),
    );
    let leases: Vec<Lease> = (0..2500)
        .map(|n| presences.connect(user(&format!("u{n}")), ConnectionId::generate(START)))
        .collect();
    stop.cancel();
    tracker.close();
    tracker.wait().await;
    let batches = written.take();
    assert!(batches.iter().all(|batch| batch.len() <= 1000));
    assert_eq!(batches.concat().len(), leases.len());
}
