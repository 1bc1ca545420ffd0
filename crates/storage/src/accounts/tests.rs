//! The account operations against a store in memory and a clock that is moved by hand.

mod ceremonies;
mod factors;
mod keys;
mod links;
mod migration;
mod people;
mod sessions;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use stack_types::{
    Clock, Event, EventCodec, GlobalRole, MalformedEvent, ManualClock, SessionId, Signal,
    Timestamp, UserId,
};

use super::*;
use crate::{Store, StoreConfig, StoreHandle};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GRACE: Duration = Duration::from_secs(15);

/// Accounts write no events.
struct NoEvents;

impl EventCodec for NoEvents {
    fn encode(&self, _event: &Event, _out: &mut Vec<u8>) {}

    fn decode(&self, _frame: &[u8]) -> Result<Event, MalformedEvent> {
        Err(MalformedEvent("there are no events here".into()))
    }

    fn signal(&self, _signal: &Signal) -> Vec<u8> {
        Vec::new()
    }
}

struct Fixture {
    store: Store,
    clock: Arc<ManualClock>,
    _handle: StoreHandle,
}

fn fixture() -> Fixture {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let (store, handle, _) =
        Store::open(StoreConfig::default(), Arc::new(NoEvents), clock.clone()).unwrap();
    Fixture {
        store,
        clock,
        _handle: handle,
    }
}

fn entry(action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: "192.0.2.1".to_owned(),
        session: None,
        action,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}

impl Fixture {
    async fn user(&self, name: &str, email: Option<&str>) -> Result<Account, CreateUserError> {
        let new = NewUser {
            id: UserId::generate(self.clock.now()),
            username: name.parse().unwrap(),
            display_name: name.to_owned(),
            email: email.map(str::to_owned),
            email_verified: false,
            password_hash: Some("hash".to_owned()),
            role: GlobalRole::Member,
            kind: AccountKind::Person,
            invite: None,
        };
        self.store
            .create_user(new, entry(AuditAction::Register))
            .await
            .unwrap()
    }

    fn new_session(&self, owner: UserId, refresh: u8) -> NewSession {
        NewSession {
            id: SessionId::generate(self.clock.now()),
            user_id: owner,
            device: "test".to_owned(),
            ip: "192.0.2.1".to_owned(),
            delivery: Delivery::Body,
            method: SignInMethod::Password,
            refresh: [refresh; 32],
            lifetime: 90 * DAY,
            idle: 30 * DAY,
        }
    }

    async fn session(&self, owner: UserId, refresh: u8) -> Session {
        let asked = SignIn {
            session: self.new_session(owner, refresh),
            verified_hash: "hash".to_owned(),
            new_hash: None,
            clear_counter: "login:x".to_owned(),
            audit: entry(AuditAction::Login),
        };
        self.store.sign_in(asked).await.unwrap().unwrap().1
    }

    async fn rotate(&self, session: SessionId, presented: u8, successor: u8) -> Rotation {
        let asked = Rotate {
            session_id: session,
            presented: [presented; 32],
            delivery: Delivery::Body,
            successor: [successor; 32],
            grace: GRACE,
            idle: 30 * DAY,
            ip: "192.0.2.2".to_owned(),
        };
        self.store.rotate_refresh(asked).await.unwrap()
    }

    async fn actions(&self) -> Vec<String> {
        let records = self.store.list_audit(None, 100).await.unwrap();
        records
            .into_iter()
            .rev()
            .map(|record| record.action)
            .collect()
    }
}
