//! The account operations against a store in memory and a clock that is moved by hand.

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
            password_hash: Some("hash".to_owned()),
            role: GlobalRole::Member,
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

#[tokio::test]
async fn names_and_addresses_are_unique_and_found() {
    let fixture = fixture();
    let ann = fixture.user("ann", Some("ann@example.org")).await.unwrap();
    assert_eq!(
        fixture.user("ann", None).await.unwrap_err(),
        CreateUserError::UsernameTaken
    );
    let taken = fixture
        .user("bob", Some("ann@example.org"))
        .await
        .unwrap_err();
    assert_eq!(taken, CreateUserError::EmailTaken);
    // The refused account left nothing behind.
    let bob = fixture.user("bob", None).await.unwrap();
    let store = &fixture.store;
    assert_eq!(
        store.account_by_login("ann").unwrap().unwrap().user.id,
        ann.user.id
    );
    assert_eq!(
        store
            .account_by_login("ann@example.org")
            .unwrap()
            .unwrap()
            .user
            .id,
        ann.user.id
    );
    assert!(store.account_by_login("nobody").unwrap().is_none());
    assert_eq!(
        store.users(&[bob.user.id, ann.user.id]).unwrap(),
        [bob.user.clone(), ann.user.clone()]
    );
    let page = store.list_users(Some(ann.user.id), 10).await.unwrap();
    assert!(page.iter().all(|account| account.user.id > ann.user.id));
    assert_eq!(store.list_users(None, 10).await.unwrap().len(), 2);
    assert_eq!(store.list_users(None, 1).await.unwrap().len(), 1);
    assert_eq!(fixture.actions().await, ["register", "register"]);
}

#[tokio::test]
async fn the_first_user_is_no_admin_until_promoted() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap();
    assert_eq!(ann.user.role, GlobalRole::Member);
    let role = entry(AuditAction::RoleChanged);
    let promoted = fixture
        .store
        .set_role(ann.user.id, GlobalRole::Admin, role.clone())
        .await
        .unwrap();
    assert_eq!(promoted.unwrap().role, GlobalRole::Admin);
    let nobody = UserId::generate(fixture.clock.now());
    assert!(
        fixture
            .store
            .set_role(nobody, GlobalRole::Admin, role)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(fixture.actions().await, ["register", "role_changed"]);
}

#[tokio::test]
async fn a_profile_changes_in_parts() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    assert_eq!(fixture.store.settings(ann).unwrap(), "{}");
    let settings = ProfilePatch {
        settings: Some("{\"theme\":\"dark\"}".to_owned()),
        ..ProfilePatch::default()
    };
    fixture
        .store
        .update_profile(ann, settings)
        .await
        .unwrap()
        .unwrap();
    let name = ProfilePatch {
        display_name: Some("Ann B.".to_owned()),
        ..ProfilePatch::default()
    };
    let account = fixture
        .store
        .update_profile(ann, name.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(account.user.display_name, "Ann B.");
    assert_eq!(fixture.store.settings(ann).unwrap(), "{\"theme\":\"dark\"}");
    let nobody = UserId::generate(fixture.clock.now());
    assert!(
        fixture
            .store
            .update_profile(nobody, name)
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn a_refresh_rotates_repeats_and_revokes() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await;
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Rotated(..)
    ));
    fixture.clock.advance(GRACE);
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Repeated(..)
    ));
    fixture.clock.advance(Duration::from_millis(1));
    assert!(matches!(
        fixture.rotate(session.id, 1, 2).await,
        Rotation::Reused(_)
    ));
    assert_eq!(fixture.rotate(session.id, 2, 3).await, Rotation::Revoked);
    let (session, _) = fixture
        .store
        .session_with_account(session.id)
        .unwrap()
        .unwrap();
    assert_eq!(session.revoked_at, Some(fixture.clock.now()));
    assert_eq!(
        fixture.actions().await,
        ["register", "login", "refresh_reused"]
    );
}

#[tokio::test]
async fn a_token_two_rotations_old_is_reuse_even_in_the_grace() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 2, 3).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Reused(_)
    ));
}

#[tokio::test]
async fn a_repeat_with_another_successor_is_never_a_fork() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    assert!(matches!(
        fixture.rotate(session, 1, 2).await,
        Rotation::Rotated(..)
    ));
    assert!(matches!(
        fixture.rotate(session, 1, 9).await,
        Rotation::Reused(_)
    ));
}

#[tokio::test]
async fn sessions_run_out_idle_and_absolutely() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let idle = fixture.session(owner, 1).await.id;
    let busy = fixture.session(owner, 1).await.id;
    let mut token = 1;
    for _ in 0..3 {
        fixture.clock.advance(30 * DAY - MINUTE);
        assert!(matches!(
            fixture.rotate(busy, token, token + 1).await,
            Rotation::Rotated(..)
        ));
        token += 1;
    }
    assert_eq!(fixture.rotate(idle, 1, 2).await, Rotation::Expired);
    fixture.clock.advance(3 * MINUTE);
    assert_eq!(
        fixture.rotate(busy, token, token + 1).await,
        Rotation::Expired
    );
    assert!(fixture.store.sessions_of(owner).unwrap().is_empty());
    let unknown = SessionId::generate(fixture.clock.now());
    assert_eq!(fixture.rotate(unknown, 1, 2).await, Rotation::Unknown);
}

#[tokio::test]
async fn revoking_knows_its_owner_and_its_exception() {
    let fixture = fixture();
    let ann = fixture.user("ann", None).await.unwrap().user.id;
    let bob = fixture.user("bob", None).await.unwrap().user.id;
    let (one, two) = (
        fixture.session(ann, 1).await.id,
        fixture.session(ann, 2).await.id,
    );
    let bobs = fixture.session(bob, 3).await.id;
    let store = &fixture.store;
    let revoke = |id, owner| store.revoke_session(id, owner, entry(AuditAction::SessionRevoked));
    assert!(!revoke(bobs, ann).await.unwrap());
    assert!(revoke(one, ann).await.unwrap());
    assert!(!revoke(one, ann).await.unwrap());
    assert_eq!(fixture.rotate(one, 1, 2).await, Rotation::Revoked);
    let three = fixture.session(ann, 4).await.id;
    let revoked = store
        .revoke_sessions_of(ann, Some(three), entry(AuditAction::SessionRevoked))
        .await
        .unwrap();
    assert_eq!(revoked, [two]);
    let left: Vec<_> = store
        .sessions_of(ann)
        .unwrap()
        .into_iter()
        .map(|session| session.id)
        .collect();
    assert_eq!(left, [three]);
    assert_eq!(store.sessions_of(bob).unwrap().len(), 1);
}

#[tokio::test]
async fn a_disabled_account_neither_signs_in_nor_refreshes() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    let disable = |on| {
        fixture
            .store
            .set_disabled(owner, on, entry(AuditAction::AccountDisabled))
    };
    assert_eq!(disable(true).await.unwrap(), Some(vec![session]));
    let asked = SignIn {
        session: fixture.new_session(owner, 2),
        verified_hash: "hash".to_owned(),
        new_hash: None,
        clear_counter: "login:ann".to_owned(),
        audit: entry(AuditAction::Login),
    };
    assert_eq!(
        fixture.store.sign_in(asked).await.unwrap().unwrap_err(),
        Stale
    );
    disable(false).await.unwrap();
    assert_eq!(fixture.rotate(session, 1, 2).await, Rotation::Revoked);
    assert_eq!(fixture.session(owner, 3).await.user_id, owner);
}

#[tokio::test]
async fn a_password_changes_once_for_a_live_session() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let (keep, other) = (
        fixture.session(owner, 1).await.id,
        fixture.session(owner, 2).await.id,
    );
    let change = |expected: &str, keep| PasswordChange {
        user_id: owner,
        expected_hash: Some(expected.to_owned()),
        new_hash: "new hash".to_owned(),
        keep,
        clear_counter: "password:ann".to_owned(),
        audit: entry(AuditAction::PasswordChanged),
    };
    let store = &fixture.store;
    assert_eq!(
        store.set_password(change("wrong", keep)).await.unwrap(),
        Err(Stale)
    );
    assert_eq!(
        store.set_password(change("hash", keep)).await.unwrap(),
        Ok(vec![other])
    );
    assert_eq!(
        store.set_password(change("hash", keep)).await.unwrap(),
        Err(Stale)
    );
    assert_eq!(
        store.set_password(change("new hash", other)).await.unwrap(),
        Err(Stale)
    );
    // A password that was verified before the change signs nobody in after it.
    let late = SignIn {
        session: fixture.new_session(owner, 3),
        verified_hash: "hash".to_owned(),
        new_hash: None,
        clear_counter: "login:ann".to_owned(),
        audit: entry(AuditAction::Login),
    };
    assert_eq!(store.sign_in(late).await.unwrap().unwrap_err(), Stale);
}

#[tokio::test]
async fn counters_count_in_a_window_and_can_be_reset() {
    let fixture = fixture();
    let store = &fixture.store;
    for count in 1..=3 {
        let counter = store
            .counter_hit("login:ann".to_owned(), 30 * MINUTE, None)
            .await
            .unwrap();
        assert_eq!(counter.count, count);
        fixture.clock.advance(MINUTE);
    }
    store
        .counter_hit("register:192.0.2.1".to_owned(), MINUTE, None)
        .await
        .unwrap();
    let all = store.counters(String::new(), 10).await.unwrap();
    assert_eq!(all.len(), 2);
    let logins = store.counters("login:".to_owned(), 10).await.unwrap();
    assert_eq!(
        logins[0].last_hit_at.since(logins[0].window_started_at),
        2 * MINUTE
    );
    fixture.clock.advance(27 * MINUTE);
    assert!(store.counter("login:ann").unwrap().is_none());
    let counter = store
        .counter_hit("login:ann".to_owned(), 30 * MINUTE, None)
        .await
        .unwrap();
    assert_eq!(counter.count, 1);
    let reset = || store.counter_reset("login:ann".to_owned(), entry(AuditAction::CounterReset));
    assert!(reset().await.unwrap());
    assert!(!reset().await.unwrap());
    assert_eq!(fixture.actions().await, ["counter_reset"]);
}

#[tokio::test]
async fn a_full_counter_takes_nothing_more() {
    let fixture = fixture();
    let take = || {
        fixture
            .store
            .counter_take("register:x".to_owned(), MINUTE, 2)
    };
    assert_eq!(take().await.unwrap().unwrap().count, 1);
    let (two, three) = tokio::join!(take(), take());
    assert_ne!(two.unwrap().is_ok(), three.unwrap().is_ok());
    assert_eq!(take().await.unwrap().unwrap_err().count, 2);
    fixture.clock.advance(MINUTE);
    assert_eq!(take().await.unwrap().unwrap().count, 1);
}

#[tokio::test]
async fn last_seen_moves_at_most_once_a_minute() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await;
    let touch = |at: Timestamp| fixture.store.touch_sessions(vec![(session.id, at)], MINUTE);
    let seen = || {
        let (session, _) = fixture
            .store
            .session_with_account(session.id)
            .unwrap()
            .unwrap();
        session.last_seen_at
    };
    touch(session.created_at.plus(MINUTE - Duration::from_millis(1)))
        .await
        .unwrap();
    assert_eq!(seen(), session.created_at);
    touch(session.created_at.plus(MINUTE)).await.unwrap();
    assert_eq!(seen(), session.created_at.plus(MINUTE));
    touch(session.created_at).await.unwrap();
    assert_eq!(seen(), session.created_at.plus(MINUTE));
}

#[tokio::test]
async fn the_sweep_removes_what_is_over_and_nothing_else() {
    let fixture = fixture();
    let store = &fixture.store;
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let gone = fixture.session(owner, 1).await.id;
    store
        .revoke_session(gone, owner, entry(AuditAction::Logout))
        .await
        .unwrap();
    let stays = fixture.session(owner, 2).await.id;
    store
        .counter_hit("login:ann".to_owned(), MINUTE, None)
        .await
        .unwrap();
    store
        .counter_hit("login:bob".to_owned(), 30 * DAY, None)
        .await
        .unwrap();
    let mut cursor = AccountSweepCursor::default();
    let mut walk = async || {
        let mut total = (0, 0);
        loop {
            let swept = store.sweep_accounts(&mut cursor).await.unwrap();
            total = (total.0 + swept.sessions, total.1 + swept.counters);
            if !swept.more {
                return total;
            }
        }
    };
    assert_eq!(walk().await, (0, 0));
    fixture.clock.advance(DAY);
    assert_eq!(walk().await, (1, 1));
    assert_eq!(walk().await, (0, 0));
    assert!(store.session_with_account(gone).unwrap().is_none());
    assert!(store.session_with_account(stays).unwrap().is_some());
    assert_eq!(store.counters(String::new(), 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_audit_log_is_paged_from_the_newest() {
    let fixture = fixture();
    for _ in 0..3 {
        fixture
            .store
            .audit(entry(AuditAction::Login))
            .await
            .unwrap();
    }
    let newest = fixture.store.list_audit(None, 2).await.unwrap();
    assert_eq!(
        newest.iter().map(|record| record.id).collect::<Vec<_>>(),
        [3, 2]
    );
    let older = fixture.store.list_audit(Some(2), 2).await.unwrap();
    assert_eq!(
        older.iter().map(|record| record.id).collect::<Vec<_>>(),
        [1]
    );
}

#[tokio::test]
async fn fifty_refreshes_at_once_have_one_successor() {
    let fixture = fixture();
    let owner = fixture.user("ann", None).await.unwrap().user.id;
    let session = fixture.session(owner, 1).await.id;
    let all = futures_of(50, || fixture.rotate(session, 1, 2)).await;
    let rotated = all
        .iter()
        .filter(|rotation| matches!(rotation, Rotation::Rotated(..)))
        .count();
    let repeated = all
        .iter()
        .filter(|rotation| matches!(rotation, Rotation::Repeated(..)))
        .count();
    assert_eq!((rotated, repeated), (1, 49));
}

/// Polls many futures side by side until all are done.
async fn futures_of<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = (0..count).map(|_| Some(Box::pin(make()))).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        for slot in &mut running {
            if let Some(future) = slot
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                done.push(output);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done
}
