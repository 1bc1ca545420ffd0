//! A gateway's rooms without the gateway: people with accounts, a writer that can be held, and readers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use stack_bus::MemBus;
use stack_delivery::{Hub, HubHandle, Outlet, Pumped, Sink, Source, Subscription};
use stack_proto::JsonCodec;
use stack_rate::Quota;
use stack_rooms::{
    NewBan, NewRoom, Page, Room, RoomPatch, Rooms, RoomsConfig, Say, SendMessage, Sent, Subscribed,
};
use stack_storage::{
    AccountKind, AuditAction, AuditEntry, AuditOutcome, NewUser, Store, StoreConfig, StoreHandle,
};
use stack_types::{
    ErrorCode, GlobalRole, HistoryVisibility, JsonValue, Limits, ManualClock, Problem, RoomId,
    RoomRole, RoomSettingsPatch, Seq, Timestamp, UserId,
};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

pub(crate) const START: Timestamp = Timestamp(1_700_000_000_000);

/// Who has an account.
const PEOPLE: [&str; 10] = [
    "owner",
    "coowner",
    "moderator",
    "second",
    "member",
    "other",
    "guest",
    "nobody",
    "barred",
    "newcomer",
];

/// A room of nobody in the tests, where the writer is held.
const SIDE: &str = "side";

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) bus: Arc<MemBus>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) rooms: Rooms,
    pumps: Mutex<JoinSet<()>>,
    _handles: (StoreHandle, HubHandle),
}

impl World {
    /// Without limits of rate.
    pub(crate) async fn new() -> Self {
        Self::with(Quota::UNLIMITED).await
    }

    pub(crate) async fn with(messages: Quota) -> Self {
        let codec = Arc::new(JsonCodec);
        let clock = Arc::new(ManualClock::new(START));
        let (store, store_handle, commits) =
            Store::open(StoreConfig::default(), codec.clone(), clock.clone()).unwrap();
        let bus = Arc::new(MemBus::default());
        let source = Source::Commits(commits);
        let (hub, hub_handle) = Hub::spawn(store.clone(), bus.clone(), codec.clone(), source)
            .await
            .unwrap();
        let config = RoomsConfig {
            limits: Limits::default(),
            messages,
        };
        let rooms = Rooms::new(
            config,
            store.clone(),
            hub.clone(),
            bus.clone(),
            codec,
            clock.clone(),
        );
        for name in PEOPLE {
            let new = NewUser {
                id: user(name),
                username: name.parse().unwrap(),
                display_name: name.to_owned(),
                email: None,
                email_verified: false,
                password_hash: None,
                role: GlobalRole::Member,
                kind: AccountKind::Person,
                invite: None,
            };
            let entry = AuditEntry {
                actor: None,
                ip: String::new(),
                session: None,
                action: AuditAction::Register,
                target: None,
                outcome: AuditOutcome::Ok,
            };
            store.create_user(new, entry).await.unwrap().unwrap();
        }
        let world = Self {
            store,
            hub,
            bus,
            clock,
            rooms,
            pumps: Mutex::default(),
            _handles: (store_handle, hub_handle),
        };
        world.room(SIDE, RoomSettingsPatch::default()).await;
        world
    }

    /// A room of `owner`.
    pub(crate) async fn room(&self, name: &str, settings: RoomSettingsPatch) -> RoomId {
        let new = NewRoom {
            id: Some(id(name)),
            title: name.to_owned(),
            settings,
        };
        self.rooms.create(user("owner"), new).await.unwrap().id
    }

    /// Puts people into a room.
    pub(crate) async fn enter(&self, room: &RoomId, people: &[(&str, RoomRole)]) {
        for (who, role) in people {
            self.put("owner", room, who, *role).await.unwrap();
        }
    }

    pub(crate) async fn put(
        &self,
        actor: &str,
        room: &RoomId,
        who: &str,
        role: RoomRole,
    ) -> Result<RoomRole, Problem> {
        let member = self
            .rooms
            .put_member(user(actor), room, user(who), role)
            .await?;
        assert_eq!(member.user.id, user(who));
        Ok(member.role)
    }

    pub(crate) async fn change(
        &self,
        room: &RoomId,
        settings: RoomSettingsPatch,
    ) -> Result<Room, Problem> {
        let patch = RoomPatch {
            title: None,
            settings,
        };
        self.rooms.change(user("owner"), room, patch).await
    }

    pub(crate) async fn ban(&self, actor: &str, room: &RoomId, who: &str) -> Result<(), Problem> {
        let ban = NewBan::default();
        let banned = self.rooms.ban(user(actor), room, user(who), ban).await;
        banned.map(|_| ())
    }

    pub(crate) async fn send(
        &self,
        who: &str,
        room: &RoomId,
        message: SendMessage,
    ) -> Result<Sent, Problem> {
        let say = Say::Message(message);
        self.rooms.say_and_wait(user(who), room, say).await
    }

    pub(crate) async fn say(&self, who: &str, room: &RoomId, body: &str) -> Result<Sent, Problem> {
        self.send(who, room, text(body)).await
    }

    pub(crate) async fn edit(
        &self,
        who: &str,
        room: &RoomId,
        target: Seq,
    ) -> Result<Sent, Problem> {
        let body = "edited".to_owned();
        let say = Say::Edit { target, body };
        self.rooms.say_and_wait(user(who), room, say).await
    }

    pub(crate) async fn redact(
        &self,
        who: &str,
        room: &RoomId,
        target: Seq,
    ) -> Result<Sent, Problem> {
        let reason = None;
        let say = Say::Redact { target, reason };
        self.rooms.say_and_wait(user(who), room, say).await
    }

    pub(crate) async fn react(
        &self,
        who: &str,
        room: &RoomId,
        target: Seq,
    ) -> Result<Sent, Problem> {
        let say = Say::React {
            target,
            emoji: "+1".to_owned(),
            remove: false,
        };
        self.rooms.say_and_wait(user(who), room, say).await
    }

    /// What somebody is told about a room's last event.
    pub(crate) fn head(&self, room: &RoomId) -> Seq {
        self.store.room(room).unwrap().unwrap().head()
    }

    /// The whole log, as the owner reads it.
    pub(crate) async fn log(&self, room: &RoomId) -> Vec<Value> {
        let query = stack_rooms::PageQuery {
            after: Some(Seq::ZERO),
            limit: Some(500),
            ..Default::default()
        };
        let page = self.rooms.history(user("owner"), room, query).await;
        events(&page.unwrap())
    }

    /// Subscribes and lets the events flow.
    pub(crate) fn read(
        &self,
        who: &str,
        room: &RoomId,
        after: Option<Seq>,
    ) -> Result<Reader, Problem> {
        let tap = Tap::default();
        let outlet = Outlet::new(tap.clone());
        let subscribed = self
            .rooms
            .subscribe(user(who), room, after, &outlet, None)?;
        self.hub.begin(&subscribed.subscription);
        let (hub, pumped) = (self.hub.clone(), outlet.clone());
        self.pumps
            .lock()
            .spawn(async move { while let Ok(Pumped::Ended(_)) = hub.pump(&pumped).await {} });
        Ok(Reader {
            tap,
            subscription: subscribed.subscription.clone(),
            subscribed,
        })
    }

    /// Stops the writer until the answer is dropped: what is queued meanwhile is carried out after that.
    pub(crate) async fn hold_writer(&self) -> mpsc::Sender<()> {
        let (release, released) = mpsc::channel::<()>();
        let (holds, held) = oneshot::channel();
        let op = move |_: &mut stack_storage::RoomTx<'_, '_>| {
            let _ = holds.send(());
            // Ends when the other end is dropped.
            let _ = released.recv();
            Ok(())
        };
        let side = self.store.room(&id(SIDE)).unwrap().unwrap();
        self.store.submit(&side, op, drop).queued().await;
        held.await.unwrap();
        release
    }
}

/// Begins an operation and leaves it when it waits for its commit.
pub(crate) async fn begun<F: Future>(operation: F) -> Pin<Box<F>> {
    let mut operation = Box::pin(operation);
    std::future::poll_fn(|cx| {
        assert!(operation.as_mut().poll(cx).is_pending(), "it is done");
        Poll::Ready(())
    })
    .await;
    operation
}

/// Somebody's subscription and what came of it.
pub(crate) struct Reader {
    pub(crate) tap: Tap,
    pub(crate) subscription: Arc<Subscription>,
    pub(crate) subscribed: Subscribed,
}

/// A sink that takes everything and keeps it.
#[derive(Clone, Default)]
pub(crate) struct Tap(Arc<Taken>);

#[derive(Default)]
struct Taken {
    bytes: Mutex<Vec<u8>>,
    arrived: Notify,
}

impl Tap {
    pub(crate) fn frames(&self) -> Vec<Value> {
        let bytes = self.0.bytes.lock();
        let (mut rest, mut frames) = (bytes.as_slice(), Vec::new());
        while let Some(&short) = rest.get(1) {
            let (header, len) = match short {
                126 => (4, usize::from(u16::from_be_bytes([rest[2], rest[3]]))),
                127 => (
                    10,
                    usize::try_from(u64::from_be_bytes(rest[2..10].try_into().unwrap())).unwrap(),
                ),
                short => (2, usize::from(short)),
            };
            frames.push(serde_json::from_slice(&rest[header..header + len]).unwrap());
            rest = &rest[header + len..];
        }
        frames
    }

    /// The numbers of the events that have come.
    pub(crate) fn seqs(&self) -> Vec<u64> {
        let frames = self.frames();
        let seqs = frames
            .iter()
            .filter_map(|frame| frame["payload"]["seq"].as_u64());
        seqs.collect()
    }

    /// Waits for a frame like this, and gives it.
    pub(crate) async fn until(&self, which: impl Fn(&Value) -> bool) -> Value {
        loop {
            let arrived = self.0.arrived.notified();
            if let Some(frame) = self.frames().into_iter().find(&which) {
                return frame;
            }
            arrived.await;
        }
    }

    pub(crate) async fn until_seq(&self, seq: Seq) {
        self.until(|frame| frame["payload"]["seq"] == seq.0).await;
    }
}

impl Sink for Tap {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes.lock().extend_from_slice(bytes);
        self.0.arrived.notify_waiters();
        Ok(bytes.len())
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

pub(crate) fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

pub(crate) fn id(name: &str) -> RoomId {
    name.parse().unwrap()
}

pub(crate) fn text(body: &str) -> SendMessage {
    SendMessage {
        body: body.to_owned(),
        data: None,
        key: None,
        reply_to: None,
    }
}

pub(crate) fn keyed(body: &str, key: &str) -> SendMessage {
    SendMessage {
        key: Some(key.to_owned()),
        ..text(body)
    }
}

pub(crate) fn json(text: &str) -> JsonValue {
    serde_json::from_str(text).unwrap()
}

pub(crate) fn public() -> RoomSettingsPatch {
    RoomSettingsPatch {
        public: Some(true),
        ..RoomSettingsPatch::default()
    }
}

/// Public, and read by who is not a member.
pub(crate) fn open() -> RoomSettingsPatch {
    RoomSettingsPatch {
        allow_guests: Some(true),
        ..public()
    }
}

pub(crate) fn joined(settings: RoomSettingsPatch) -> RoomSettingsPatch {
    RoomSettingsPatch {
        history: Some(HistoryVisibility::Joined),
        ..settings
    }
}

pub(crate) fn events(page: &Page) -> Vec<Value> {
    let frames = page.events.frames().iter();
    frames
        .map(|frame| serde_json::from_slice(&frame).unwrap())
        .collect()
}

pub(crate) fn seqs(page: &Page) -> Vec<u64> {
    events(page)
        .iter()
        .map(|event| event["payload"]["seq"].as_u64().unwrap())
        .collect()
}

pub(crate) fn code<T>(result: Result<T, Problem>) -> Option<ErrorCode> {
    result.err().map(|problem| problem.code)
}

/// The code and the field at fault.
pub(crate) fn fault<T>(result: Result<T, Problem>) -> Option<(ErrorCode, Option<String>)> {
    let told = |problem: Problem| {
        let field = problem.field.map(std::borrow::Cow::into_owned);
        (problem.code, field)
    };
    result.err().map(told)
}

/// How long a refusal for the rate says to wait.
pub(crate) fn wait<T>(result: Result<T, Problem>) -> Option<Duration> {
    let problem = result.err()?;
    assert_eq!(problem.code, ErrorCode::RateLimited, "{problem}");
    problem.retry_after
}
