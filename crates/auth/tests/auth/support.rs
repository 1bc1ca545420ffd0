//! A fresh auth for each test, and short ways to say what the tests say often.

use std::sync::Arc;

use parking_lot::Mutex;
use stack_auth::{
    Auth, AuthConfig, Caller, Client, Delivery, Login, Register, Revoked, SignIn, Tokens,
};
use stack_storage::{
    AccountKind, AuditAction, AuditEntry, AuditOutcome, Location, NewUser, Store, StoreConfig,
    StoreHandle,
};
use stack_types::{
    Clock, ErrorCode, Event, EventCodec, GlobalRole, MalformedEvent, ManualClock, Problem,
    SessionId, Signal, Timestamp, UserId,
};

pub(crate) const PASSWORD: &str = "three trains left late";

/// Auth writes no events.
pub(crate) struct NoEvents;

impl EventCodec for NoEvents {
    fn encode(&self, _event: &Event, _out: &mut Vec<u8>) {}

    fn decode(&self, _frame: &[u8]) -> Result<Event, MalformedEvent> {
        Err(MalformedEvent("there are no events here".into()))
    }

    fn signal(&self, _signal: &Signal) -> Vec<u8> {
        Vec::new()
    }
}

/// A gateway's worth of auth.
pub(crate) struct Fixture {
    pub(crate) auth: Auth,
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) client: Client,
    pub(crate) revoked: Arc<Mutex<Vec<Revoked>>>,
    handle: StoreHandle,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(AuthConfig::insecure_for_tests())
    }

    pub(crate) fn with(config: AuthConfig) -> Self {
        Self::at(config, Location::Memory, Timestamp(1_700_000_000_000))
    }

    pub(crate) fn at(config: AuthConfig, location: Location, now: Timestamp) -> Self {
        let clock = Arc::new(ManualClock::new(now));
        let store_config = StoreConfig {
            location,
            ..StoreConfig::default()
        };
        let (store, handle, _) =
            Store::open(store_config, Arc::new(NoEvents), clock.clone()).unwrap();
        let (auth, revoked) = auth_on(config, &store, &clock);
        Self {
            auth,
            store,
            clock,
            client: Client::new("192.0.2.1".parse().unwrap(), Some("test/1.0")),
            revoked,
            handle,
        }
    }

    /// The same server, started again with another configuration.
    pub(crate) fn again(self, config: AuthConfig) -> Self {
        let (auth, revoked) = auth_on(config, &self.store, &self.clock);
        Self {
            auth,
            revoked,
            ..self
        }
    }

    pub(crate) async fn close(self) {
        drop(self.auth);
        drop(self.store);
        self.handle.shutdown().await;
    }

    pub(crate) async fn register(&self, username: &str) -> Tokens {
        self.try_register(username, PASSWORD).await.unwrap()
    }

    /// An account that has no password.
    pub(crate) async fn without_password(&self, username: &str) {
        let new = NewUser {
            id: UserId::generate(self.clock.now()),
            username: username.parse().unwrap(),
            display_name: username.to_owned(),
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
        let created = self.store.create_user(new, entry).await.unwrap();
        assert!(created.is_ok());
    }

    pub(crate) async fn try_register(
        &self,
        username: &str,
        password: &str,
    ) -> Result<Tokens, Problem> {
        self.auth
            .register(registration(username, password), &self.client)
            .await
    }

    pub(crate) async fn login(&self, login: &str, password: &str) -> Result<Tokens, Problem> {
        match self.begin_login(login, password).await? {
            SignIn::Done(tokens) => Ok(*tokens),
            SignIn::SecondFactor { .. } => panic!("no second factor is on"),
        }
    }

    pub(crate) async fn begin_login(&self, login: &str, password: &str) -> Result<SignIn, Problem> {
        let asked = Login {
            login: login.to_owned(),
            password: password.to_owned(),
            delivery: Delivery::Cookie,
        };
        self.auth.login(asked, &self.client).await
    }

    /// Refreshes as the client would that the token was given to.
    pub(crate) async fn refresh(&self, token: &str) -> Result<Tokens, Problem> {
        let session = self.auth.session_of_refresh(token);
        let found = session.and_then(|id| self.store.session_with_account(id).unwrap());
        let delivery = found.map_or(Delivery::Body, |(session, _)| session.delivery);
        self.auth.refresh(token, delivery, &self.client).await
    }

    pub(crate) fn caller(&self, tokens: &Tokens) -> Caller {
        self.auth.authenticate(&tokens.access_token).unwrap()
    }

    pub(crate) fn revoked(&self) -> Vec<SessionId> {
        self.revoked
            .lock()
            .iter()
            .flat_map(|revoked| revoked.sessions.clone())
            .collect()
    }

    pub(crate) async fn audit(&self) -> Vec<String> {
        let records = self.store.list_audit(None, 1000).await.unwrap();
        let shown = records.into_iter().rev().map(|record| {
            let outcome = serde_json::to_value(record.outcome).unwrap();
            format!("{} {}", record.action, outcome.as_str().unwrap())
        });
        shown.collect()
    }
}

pub(crate) fn auth_on(
    config: AuthConfig,
    store: &Store,
    clock: &Arc<ManualClock>,
) -> (Auth, Arc<Mutex<Vec<Revoked>>>) {
    let revoked = Arc::new(Mutex::new(Vec::new()));
    let told = revoked.clone();
    let on_revoked = Arc::new(move |sessions| told.lock().push(sessions));
    let auth = Auth::new(config, store.clone(), clock.clone(), on_revoked).unwrap();
    (auth, revoked)
}

pub(crate) fn registration(username: &str, password: &str) -> Register {
    Register {
        username: username.to_owned(),
        password: password.to_owned(),
        email: None,
        display_name: None,
        invite: None,
        delivery: Delivery::Body,
    }
}

pub(crate) fn code<T>(result: Result<T, Problem>) -> ErrorCode {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(problem) => problem.code,
    }
}
