//! The front door: what the gateway calls.

mod account;
mod admin;
mod api_keys;
mod audit;
mod caller;
mod erasure;
mod invites;
mod keeper;
mod kept;
mod linking;
mod maintenance;
mod oauth;
mod passkeys;
mod recovery;
mod second_factor;
mod sessions;
mod setup;
mod sign_in;
mod tokens;
mod users;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use aws_lc_rs::hmac;
use parking_lot::{Mutex, RwLock};
use stack_storage::{
    Account, AccountSweepCursor, AuditAction, AuditEntry, AuditOutcome, Session, Store,
};
use stack_types::{ApiKeyId, Clock, ErrorCode, Problem, SessionId, Timestamp, UserId};
use tokio_util::task::TaskTracker;

use crate::access::{Access, AccessTokens, RoomAccess, unauthenticated};
use crate::client::Client;
use crate::config::{AuthConfig, AuthError, Changeable, Lifetimes, Registration, Throttle};
use crate::csrf;
use crate::hasher::Hasher;
use crate::keys::Keys;
use crate::oauth::Providers;
use crate::passkeys::{Passkeys, PasskeysOff};
use crate::refresh::RefreshTokens;
use crate::sealed::Sealer;
use crate::setup::SetupPlace;
use crate::signing::{Ring, Rules};
use crate::ticket::Tickets;

pub use api_keys::{ActsAs, ApiKeyView, MadeApiKey, MakeApiKey, MakeRoomToken, RoomToken};
pub use audit::AuditQuery;
pub use caller::{Caller, Credential};
pub use invites::{InviteLook, InviteView, InvitedRoom, MadeInvite, MakeInvite};
pub use keeper::Keeper;
pub use oauth::{LinkView, OauthAnswer, OauthBegin, OauthDone, OauthError, OauthRefusal};
pub use passkeys::{
    AskForPasskey, AssertPasskey, Begun, NewPasskeyAnswer, PasskeyView, SignUpByPasskey, SignedUp,
};
pub use recovery::{Recovery, RecoveryLink, RecoveryLook};
pub use second_factor::{SecondFactor, SecondFactorView, TotpEnrollment};
pub use setup::{SetUpByPassword, SetupPerson};
pub use sign_in::{Login, Register, SignIn};
pub use tokens::{Tokens, WsTicket};
pub use users::{AccountQuery, AccountView, Factors, MakeAccount};

/// What was revoked, for whoever holds sockets that were opened with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Whose.
    pub user_id: UserId,
    /// Which sessions. An API key is listed under its id.
    pub sessions: Vec<SessionId>,
    /// Whether the user is out altogether, whatever a socket of theirs was opened with.
    pub everything: bool,
    /// Whether each socket of a program or a room token has to be checked again: somebody's power has changed, on which
    /// the key behind it may hang.
    pub programs: bool,
}

/// Called after the revocation is durable, once per revocation. It must be quick and must not block.
pub type OnRevoked = Arc<dyn Fn(Revoked) + Send + Sync>;

/// Accounts, passwords, tokens and sessions. Cloning shares them.
#[derive(Clone)]
pub struct Auth(Arc<Inner>);

struct Inner {
    store: Store,
    clock: Arc<dyn Clock>,
    on_revoked: OnRevoked,
    /// Read once for each sign-in, registration or refresh, none of which is quick.
    changeable: RwLock<Changeable>,
    lifetimes: Lifetimes,
    throttle: Throttle,
    access: AccessTokens,
    refresh: RefreshTokens,
    csrf: hmac::Key,
    /// The library of passkeys, or why there are none.
    passkeys: Result<Passkeys, PasskeysOff>,
    /// Makes up the passkeys of those who are not there.
    decoys: hmac::Key,
    setup: SetupPlace,
    /// Set once it is known that the server is set up, which it then stays: to find that out may take a walk over all
    /// accounts, and anybody may ask.
    is_set_up: AtomicBool,
    hasher: Hasher,
    sealer: Sealer,
    recovery_codes: hmac::Key,
    tickets: Tickets,
    /// Where people sign in who have an account elsewhere.
    providers: Providers,
    /// Sessions that were heard of and whose rows do not say so yet.
    seen: Mutex<HashMap<SessionId, Timestamp>>,
    /// API keys that were used and whose rows do not say so yet.
    keys_used: Mutex<HashMap<ApiKeyId, Timestamp>>,
    sweep: tokio::sync::Mutex<AccountSweepCursor>,
    /// What must come to its end although the client that asked for it is gone.
    tasks: TaskTracker,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").finish_non_exhaustive()
    }
}

impl Auth {
    /// Reads or makes the keys and is ready.
    ///
    /// # Errors
    /// The keys cannot be had, or the configuration makes no sense.
    pub fn new(
        config: AuthConfig,
        store: Store,
        clock: Arc<dyn Clock>,
        on_revoked: OnRevoked,
    ) -> Result<Self, AuthError> {
        config.check()?;
        let keys = Keys::load(&config.keys, config.jwt_secret.as_deref())?;
        let lifetimes = config.lifetimes;
        let rules = Rules {
            first_is_given: config.jwt_secret.is_some(),
            algorithm: config.signing,
            token_lifetime: lifetimes.access.saturating_add(lifetimes.leeway),
        };
        let ring = if config.keeps_signing_key {
            Ring::open(&config.keys, &keys.access, rules, clock.now())?
        } else {
            Ring::load(&config.keys, &keys.access, rules, clock.now())?
        };
        let passkeys = match &config.passkeys {
            Some(site) => Passkeys::new(site)?,
            None => Err(PasskeysOff::NoOrigin),
        };
        Ok(Self(Arc::new(Inner {
            store,
            on_revoked,
            changeable: RwLock::new(config.changeable()),
            lifetimes,
            throttle: config.throttle,
            access: AccessTokens::new(ring, lifetimes.access, lifetimes.leeway),
            refresh: RefreshTokens::new(&keys),
            hasher: Hasher::new(&config)?,
            sealer: keys.sealer,
            recovery_codes: keys.recovery_codes,
            tickets: Tickets::new(lifetimes.ticket),
            providers: match config.oauth {
                Some(oauth) => Providers::new(oauth, clock.clone())?,
                None => Providers::none(clock.clone()),
            },
            clock,
            csrf: keys.csrf,
            passkeys,
            decoys: keys.decoys,
            setup: SetupPlace::new(&config.keys),
            is_set_up: AtomicBool::new(false),
            seen: Mutex::default(),
            keys_used: Mutex::default(),
            sweep: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Takes what may change while it runs, for everything that begins from now on.
    pub fn change(&self, changeable: Changeable) {
        *self.0.changeable.write() = changeable;
    }

    /// Who an access token, a room token or an API key stands for. A few point reads; called with every request.
    ///
    /// # Errors
    /// `token_expired` when it was good and is over; `unauthenticated` when it is not ours, or its session was
    /// revoked, or its account disabled.
    pub fn authenticate(&self, access_token: &str) -> Result<Caller, Problem> {
        let now = self.0.clock.now();
        if Self::looks_like_api_key(access_token) {
            return self.caller_of_key(access_token, now);
        }
        match self.0.access.read(access_token, now) {
            Ok(access) => self.caller(access, now),
            Err(refused) if refused.code == ErrorCode::TokenExpired => Err(refused),
            Err(_) => self.caller_of_room_token(self.0.access.read_room(access_token, now)?, now),
        }
    }

    /// The public halves of the keys that sign tokens, as a JSON Web Key Set.
    #[must_use]
    pub fn public_keys(&self) -> serde_json::Value {
        self.0.access.ring().public_keys(self.0.clock.now())
    }

    /// Whether the caller's session still stands, for whoever has held on to a [`Caller`].
    ///
    /// # Errors
    /// `unauthenticated` when it does not any more.
    pub fn recheck(&self, caller: &Caller) -> Result<(), Problem> {
        self.current(caller).map(|_| ())
    }

    /// The caller as they are now, for whoever has held on to a [`Caller`] and asks what they may do.
    ///
    /// # Errors
    /// `unauthenticated` when their session or key does not stand any more.
    pub fn current(&self, caller: &Caller) -> Result<Caller, Problem> {
        let now = self.0.clock.now();
        match &caller.credential {
            Credential::Session { .. } => self.caller(caller.access(), now),
            Credential::ApiKey { id, .. } => self.current_of_key(*id, now),
            Credential::RoomToken { key, rooms } => {
                let access = RoomAccess {
                    user_id: caller.user.id,
                    key: *key,
                    rooms: rooms.clone(),
                    expires_at: caller.expires_at,
                };
                self.caller_of_room_token(access, now)
            }
        }
    }

    /// A token against cross-site requests, bound to the session, or to nobody before sign-in.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn csrf_token(&self, session: Option<SessionId>) -> Result<String, Problem> {
        csrf::issue(&self.0.csrf, session)
    }

    /// Checks the header's CSRF token against the cookie's and the session.
    ///
    /// # Errors
    /// `csrf_failed`.
    pub fn verify_csrf(
        &self,
        header: &str,
        cookie: &str,
        session: Option<SessionId>,
    ) -> Result<(), Problem> {
        if csrf::verify(&self.0.csrf, header, cookie, session) {
            Ok(())
        } else {
            Err(Problem::new(
                ErrorCode::CsrfFailed,
                "the CSRF token is not good for this session",
            ))
        }
    }

    fn caller(&self, access: Access, now: Timestamp) -> Result<Caller, Problem> {
        let found = self.0.store.session_with_account(access.session_id)?;
        let works = |(session, account): &(Session, Account)| {
            session.user_id == access.user_id && session.is_live(now) && account.may_sign_in()
        };
        let (session, account) = found.filter(works).ok_or_else(unauthenticated)?;
        self.note_seen(&session, now);
        Ok(Caller {
            user: account.user,
            session_id: session.id,
            credential: Credential::Session {
                authenticated_at: session.authenticated_at,
                method: session.method,
            },
            expires_at: access.expires_at,
        })
    }

    /// The store for what the caller changes about themselves: they must still stand when it is written.
    fn store_of(&self, caller: &Caller) -> Store {
        self.0.store.on_behalf_of(caller.standing(false))
    }

    /// The store for what the caller does as an admin, which they must still be when it is written.
    fn store_of_admin(&self, caller: &Caller) -> Store {
        self.0.store.on_behalf_of(caller.standing(true))
    }

    /// Runs what changes a session to its end, even when the client that asked for it has gone: the sockets of a
    /// session that is revoked in the file must be closed.
    async fn to_the_end<R: Send + 'static>(
        &self,
        work: impl Future<Output = Result<R, Problem>> + Send + 'static,
    ) -> Result<R, Problem> {
        self.0.tasks.spawn(work).await.map_err(Problem::internal)?
    }

    fn tell_revoked(&self, user_id: UserId, sessions: Vec<SessionId>) {
        if !sessions.is_empty() {
            (self.0.on_revoked)(Revoked {
                user_id,
                sessions,
                everything: false,
                programs: false,
            });
        }
    }

    /// Tells that a user is out altogether: also of what was opened without a session, and of keys that hang on them.
    fn tell_out(&self, user_id: UserId, sessions: Vec<SessionId>) {
        (self.0.on_revoked)(Revoked {
            user_id,
            sessions,
            everything: true,
            programs: true,
        });
    }

    /// Tells that a user's power has changed: keys act as them, or have their scopes from them.
    fn tell_power_changed(&self, user_id: UserId) {
        (self.0.on_revoked)(Revoked {
            user_id,
            sessions: Vec::new(),
            everything: false,
            programs: true,
        });
    }
}

impl Inner {
    fn registration(&self) -> Registration {
        self.changeable.read().registration
    }

    fn refresh_grace(&self) -> Duration {
        self.changeable.read().refresh_grace
    }

    /// The long-term limits as they are now.
    fn throttle(&self) -> Throttle {
        Throttle {
            enabled: self.changeable.read().throttled,
            ..self.throttle
        }
    }
}

/// An entry for the audit log about a signed-in user.
fn entry_of(caller: &Caller, client: &Client, action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: Some(caller.user.id),
        ip: client.ip.to_string(),
        session: Some(caller.session_id),
        action,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}
