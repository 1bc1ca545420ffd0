//! What can be configured, its defaults, and where they come from. The values are SECURITY.md's.

use std::time::Duration;

use crate::hasher::HashCost;
use crate::keys::{KeyError, KeySource};
use crate::oauth::OauthConfig;
use crate::passkeys::PasskeyConfig;
use crate::signing::{SigningAlgorithm, SigningError};

/// Who may make an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Registration {
    /// Everybody.
    #[default]
    Open,
    /// Who has an invitation.
    Invite,
    /// Nobody.
    Closed,
}

/// The configuration of [`crate::Auth`].
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// Where the master key is.
    pub keys: KeySource,
    /// The bytes of `AUTH_JWT_SECRET`, at least 32; without it the key of access tokens comes from the master key.
    pub jwt_secret: Option<Vec<u8>>,
    /// How tokens are signed.
    pub signing: SigningAlgorithm,
    /// Whether the key that signs stays, whatever `signing` says: for what works on the folder beside the gateway.
    pub keeps_signing_key: bool,
    /// Who may make an account.
    pub registration: Registration,
    /// What a password hash costs.
    pub hash_cost: HashCost,
    /// How many passwords are hashed at once. Each takes the memory and one thread.
    pub hashes_at_once: usize,
    /// How many more wait for their turn; beyond that the answer is `unavailable`.
    pub hashes_waiting: usize,
    /// How long tokens live.
    pub lifetimes: Lifetimes,
    /// How often somebody may try.
    pub throttle: Throttle,
    /// Where people sign in who have an account elsewhere.
    pub oauth: Option<OauthConfig>,
    /// Where passkeys belong to; without it there are none.
    pub passkeys: Option<PasskeyConfig>,
}

impl AuthConfig {
    /// The defaults, with the keys from here.
    #[must_use]
    pub fn new(keys: KeySource) -> Self {
        Self {
            keys,
            jwt_secret: None,
            signing: SigningAlgorithm::default(),
            keeps_signing_key: false,
            registration: Registration::default(),
            hash_cost: HashCost::DEFAULT,
            hashes_at_once: 2,
            // At 150 ms a hash, two at once, the last in line waits five seconds.
            hashes_waiting: 64,
            lifetimes: Lifetimes::default(),
            throttle: Throttle::default(),
            oauth: None,
            passkeys: None,
        }
    }

    /// Keys in memory and the cheapest hashes, so that a test signs in within a millisecond. For tests only.
    #[must_use]
    pub fn insecure_for_tests() -> Self {
        Self {
            hash_cost: HashCost::INSECURE_FOR_TESTS,
            ..Self::new(KeySource::Ephemeral)
        }
    }
}

/// How long tokens and what hangs on them live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// An access token.
    pub access: Duration,
    /// How long after its end an access token is still taken for a request, at most 30 s. The gateway that checks
    /// a token has made it, by the same clock, so that nothing is needed here.
    pub leeway: Duration,
    /// A refresh token that is not used.
    pub refresh_idle: Duration,
    /// A session, however much it is used.
    pub session: Duration,
    /// How long the repeat of a spent refresh token is taken for a lost answer, and not for a theft.
    pub refresh_grace: Duration,
    /// A ticket that opens a WebSocket.
    pub ticket: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            access: Duration::from_secs(10 * 60),
            leeway: Duration::ZERO,
            refresh_idle: 30 * DAY,
            session: 90 * DAY,
            refresh_grace: Duration::from_secs(15),
            ticket: Duration::from_secs(30),
        }
    }
}

/// How often somebody may try. These are the long-term limits, kept in the file; the short ones per IP are the
/// gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Off is for load tests only.
    pub enabled: bool,
    /// How many wrong passwords per account are free within the window; each one more doubles the wait, from 1 s.
    pub free_failures: u64,
    /// How long wrong passwords are remembered, from the first on.
    pub failure_window: Duration,
    /// The longest wait. A wait is a lock, and a lock is a weapon against its account's owner; so it is short.
    pub max_delay: Duration,
    /// How many wrong codes of a second factor lock it, counted together wherever they are asked for.
    pub factor_failures: u64,
    /// For how long. Who gets there has the password, so that the lock is no weapon for everybody.
    pub factor_lock: Duration,
    /// New accounts per IP and window.
    pub registrations: u64,
    /// The same for the machine itself, where developers and tests are.
    pub registrations_loopback: u64,
    /// The window of both.
    pub registration_window: Duration,
}

impl Default for Throttle {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            enabled: true,
            free_failures: 5,
            failure_window: 30 * MINUTE,
            max_delay: 5 * MINUTE,
            factor_failures: 10,
            factor_lock: 15 * MINUTE,
            registrations: 5,
            registrations_loopback: 100,
            registration_window: 60 * MINUTE,
        }
    }
}

/// The configuration or the keys are no good; the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys cannot be had.
    #[error("no keys for tokens")]
    Keys(#[from] KeyError),
    /// The keys that sign tokens cannot be had.
    #[error("no keys to sign tokens with")]
    Signing(#[from] SigningError),
    /// A password hash would be too cheap, or costs that cannot be.
    #[error("{0}")]
    HashCost(&'static str),
    /// A value makes no sense.
    #[error("{0}")]
    Config(&'static str),
    /// An identity provider cannot be used as it is configured.
    #[error("the identity provider {name}: {fault}")]
    Provider {
        /// Which.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
}

/// What may change while accounts are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changeable {
    /// Who may make an account.
    pub registration: Registration,
    /// [`Lifetimes::refresh_grace`].
    pub refresh_grace: Duration,
    /// [`Throttle::enabled`].
    pub throttled: bool,
}

impl AuthConfig {
    /// What of it may change later, by [`crate::Auth::change`].
    #[must_use]
    pub fn changeable(&self) -> Changeable {
        Changeable {
            registration: self.registration,
            refresh_grace: self.lifetimes.refresh_grace,
            throttled: self.throttle.enabled,
        }
    }

    pub(crate) fn check(&self) -> Result<(), AuthError> {
        let lifetimes = &self.lifetimes;
        let faults = [
            (
                self.hashes_at_once == 0,
                "at least one password must be hashed at once",
            ),
            (
                lifetimes.access < Duration::from_secs(1),
                "access tokens must live at least a second",
            ),
            (
                lifetimes.leeway > Duration::from_secs(30),
                "the leeway of access tokens is at most 30 s",
            ),
            (
                lifetimes.refresh_idle < lifetimes.access,
                "refresh tokens must outlive access tokens",
            ),
            (
                lifetimes.session < lifetimes.refresh_idle,
                "sessions must outlive idle refresh tokens",
            ),
        ];
        match faults.into_iter().find(|(at_fault, _)| *at_fault) {
            Some((_, fault)) => Err(AuthError::Config(fault)),
            None => Ok(()),
        }
    }
}
