//! Hashing passwords without stopping anything else.
//!
//! One argon2id hash takes 64 MiB and a core for a tenth of a second. So only a few run at once, on the blocking
//! threads; a bounded number waits, and beyond that the answer is `unavailable`. A [`Turn`] is the right to hash,
//! and it stays taken until the hash is done even when the caller is gone.
//!
//! The line is not the same for all, so that no crowd of one sort keeps the others out: those who are signed in have at
//! most half of it, and one place each; with those who register they have three quarters. The rest is for signing in.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::Error as HashError;
use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use parking_lot::Mutex;
use stack_types::{ErrorCode, Problem, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{AuthConfig, AuthError};
use crate::secret;

const OUTPUT_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// When somebody may come back who has a hash under way: it takes a tenth of a second, and the line before it.
const ONE_AT_A_TIME: Duration = Duration::from_secs(1);
/// More than this for one sign-in and the machine is lost to the first few.
const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;

/// What an argon2id hash costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl HashCost {
    /// 64 MiB, three passes, one lane.
    pub const DEFAULT: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 1,
    };
    /// The least that OWASP allows: 19 MiB, two passes, one lane.
    pub const FLOOR: Self = Self {
        memory_kib: 19 * 1024,
        passes: 2,
        lanes: 1,
    };
    /// Hardly any cost: it protects nothing, and lets tests sign in thousands of times.
    pub const INSECURE_FOR_TESTS: Self = Self {
        memory_kib: 64,
        passes: 1,
        lanes: 1,
    };

    /// A cost at or above [`Self::FLOOR`].
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, AuthError> {
        if memory_kib < Self::FLOOR.memory_kib || passes < Self::FLOOR.passes {
            return Err(AuthError::HashCost(
                "a password hash takes at least 19 MiB and 2 passes",
            ));
        }
        if memory_kib > MAX_MEMORY_KIB || passes > 100 || !(1..=64).contains(&lanes) {
            return Err(AuthError::HashCost(
                "a password hash takes at most 4 GiB, 100 passes and 1 to 64 lanes",
            ));
        }
        Ok(Self {
            memory_kib,
            passes,
            lanes,
        })
    }

    fn params(self) -> Result<Params, AuthError> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(OUTPUT_BYTES))
            .map_err(|_| AuthError::HashCost("argon2 does not take this cost"))
    }
}

/// Hashes and verifies, a few at a time.
#[derive(Clone)]
pub(crate) struct Hasher(Arc<Inner>);

struct Inner {
    argon2: Argon2<'static>,
    /// A hash that no password has. Verifying against it takes as long as against a real one.
    decoy: PasswordHash,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    /// The places that are not kept for signing in.
    not_sign_in: Arc<Semaphore>,
    /// The places for those who are signed in.
    signed_in: Arc<Semaphore>,
    /// Who is signed in and has a place.
    have_place: Arc<Mutex<HashSet<UserId>>>,
}

/// The one place in line of somebody who is signed in.
struct OwnPlace {
    user: UserId,
    have_place: Arc<Mutex<HashSet<UserId>>>,
}

impl Drop for OwnPlace {
    fn drop(&mut self) {
        self.have_place.lock().remove(&self.user);
    }
}

/// The right to hash now.
pub(crate) struct Turn {
    hasher: Hasher,
    _running: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
    /// What the turn holds beside, where not all of the line was open to it.
    _share: Share,
}

/// The narrower places of a turn; none for signing in.
#[derive(Default)]
struct Share {
    _not_sign_in: Option<OwnedSemaphorePermit>,
    _signed_in: Option<OwnedSemaphorePermit>,
    _own: Option<OwnPlace>,
}

/// What came out of verifying a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the right one.
    Right {
        /// The stored hash is cheaper than today's and should be made anew.
        outdated: bool,
    },
    /// It is not, or there is no hash to be right against.
    Wrong,
}

impl Hasher {
    pub(crate) fn new(config: &AuthConfig) -> Result<Self, AuthError> {
        let params = config.hash_cost.params()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let decoy =
            decoy(&argon2).map_err(|_| AuthError::HashCost("argon2 does not take this cost"))?;
        let places = config.hashes_at_once + config.hashes_waiting;
        Ok(Self(Arc::new(Inner {
            argon2,
            decoy,
            running: Arc::new(Semaphore::new(config.hashes_at_once)),
            admitted: Arc::new(Semaphore::new(places)),
            not_sign_in: Arc::new(Semaphore::new(places - places / 4)),
            signed_in: Arc::new(Semaphore::new(places.div_ceil(2))),
            have_place: Arc::default(),
        })))
    }

    /// Waits for a turn to sign in; refused at once when too many wait already.
    pub(crate) async fn turn(&self) -> Result<Turn, Problem> {
        self.turn_with(Share::default()).await
    }

    /// Waits for a turn to make an account, as above.
    pub(crate) async fn turn_to_register(&self) -> Result<Turn, Problem> {
        let share = Share {
            _not_sign_in: Some(place(&self.0.not_sign_in)?),
            ..Share::default()
        };
        self.turn_with(share).await
    }

    /// Waits for a turn for somebody who is signed in, as above; `rate_limited` while they have one already.
    pub(crate) async fn turn_of(&self, user: UserId) -> Result<Turn, Problem> {
        if !self.0.have_place.lock().insert(user) {
            return Err(Problem::rate_limited(ONE_AT_A_TIME));
        }
        let own = OwnPlace {
            user,
            have_place: Arc::clone(&self.0.have_place),
        };
        let share = Share {
            _not_sign_in: Some(place(&self.0.not_sign_in)?),
            _signed_in: Some(place(&self.0.signed_in)?),
            _own: Some(own),
        };
        self.turn_with(share).await
    }

    async fn turn_with(&self, share: Share) -> Result<Turn, Problem> {
        let admitted = place(&self.0.admitted)?;
        let running = Arc::clone(&self.0.running)
            .acquire_owned()
            .await
            .map_err(Problem::internal)?;
        Ok(Turn {
            hasher: self.clone(),
            _running: running,
            _admitted: admitted,
            _share: share,
        })
    }

    fn hash(&self, password: &str) -> Result<String, Problem> {
        let mut salt = [0u8; SALT_BYTES];
        secret::fill(&mut salt)?;
        let hash: PasswordHash = self
            .0
            .argon2
            .hash_password_with_salt(password.as_bytes(), &salt)
            .map_err(Problem::internal)?;
        Ok(hash.to_string())
    }

    fn verify(&self, password: &str, stored: Option<&str>) -> Result<Verdict, Problem> {
        let parsed = match stored {
            Some(text) => Some(
                PasswordHash::new(text)
                    .map_err(HashError::from)
                    .map_err(Problem::internal)?,
            ),
            None => None,
        };
        let hash = parsed.as_ref().unwrap_or(&self.0.decoy);
        match self.0.argon2.verify_password(password.as_bytes(), hash) {
            Ok(()) => match &parsed {
                Some(parsed) => Ok(Verdict::Right {
                    outdated: self.is_outdated(parsed),
                }),
                None => Ok(Verdict::Wrong),
            },
            Err(HashError::PasswordInvalid) => Ok(Verdict::Wrong),
            Err(error) => Err(Problem::internal(error)),
        }
    }

    fn is_outdated(&self, hash: &PasswordHash) -> bool {
        let today = self.0.argon2.params();
        let Ok(then) = Params::try_from(hash) else {
            return true;
        };
        hash.algorithm.as_str() != Algorithm::Argon2id.as_str()
            || hash.version != Some(Version::V0x13.into())
            || then.m_cost() < today.m_cost()
            || then.t_cost() < today.t_cost()
    }
}

impl Turn {
    /// Runs `work` on a blocking thread and hands the turn back with its result. The turn travels with the work,
    /// so that a caller who goes away does not free it while the work goes on.
    async fn run<R: Send + 'static>(
        self,
        work: impl FnOnce(&Hasher) -> Result<R, Problem> + Send + 'static,
    ) -> Result<(Self, R), Problem> {
        tokio::task::spawn_blocking(move || {
            let result = work(&self.hasher)?;
            Ok((self, result))
        })
        .await
        .map_err(Problem::internal)?
    }

    /// A new PHC string for `password`.
    pub(crate) async fn hash(self, password: String) -> Result<(Self, String), Problem> {
        self.run(move |hasher| hasher.hash(&password)).await
    }

    /// A new PHC string for `password`, or `None` when `refuse` says that it is not to be had.
    pub(crate) async fn hash_unless(
        self,
        password: String,
        refuse: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<(Self, Option<String>), Problem> {
        self.run(move |hasher| {
            if refuse(&password) {
                return Ok(None);
            }
            hasher.hash(&password).map(Some)
        })
        .await
    }

    /// Whether `password` is the one of `stored`. Without a stored hash it takes as long and is wrong.
    pub(crate) async fn verify(
        self,
        password: String,
        stored: Option<String>,
    ) -> Result<(Self, Verdict), Problem> {
        self.run(move |hasher| hasher.verify(&password, stored.as_deref()))
            .await
    }
}

/// A hash with today's cost and a random output, which no password gives.
fn decoy(argon2: &Argon2<'static>) -> Result<PasswordHash, HashError> {
    let mut random = [0u8; SALT_BYTES + OUTPUT_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| HashError::RngFailure)?;
    Ok(PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: argon2.params().try_into()?,
        salt: Some(Salt::new(&random[..SALT_BYTES])?),
        hash: Some(Output::new(&random[SALT_BYTES..])?),
    })
}

fn place(line: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(line).try_acquire_owned().map_err(|_| busy())
}

fn busy() -> Problem {
    let mut problem = Problem::new(ErrorCode::Unavailable, "too many people sign in right now");
    problem.retry_after = Some(Duration::from_secs(2));
    problem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(cost: HashCost, at_once: usize, waiting: usize) -> Hasher {
        Hasher::new(&AuthConfig {
            hash_cost: cost,
            hashes_at_once: at_once,
            hashes_waiting: waiting,
            ..AuthConfig::insecure_for_tests()
        })
        .unwrap()
    }

    #[tokio::test]
    async fn a_hash_is_a_phc_string_that_its_password_alone_opens() {
        let hasher = hasher(HashCost::INSECURE_FOR_TESTS, 2, 2);
        let turn = hasher.turn().await.unwrap();
        let (turn, hash) = turn.hash("correct horse".to_owned()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        let (turn, again) = turn.hash("correct horse".to_owned()).await.unwrap();
        assert_ne!(hash, again);
        let (turn, verdict) = turn
            .verify("correct horse".to_owned(), Some(hash.clone()))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Right { outdated: false });
        let (turn, verdict) = turn
            .verify("wrong horse".to_owned(), Some(hash))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Wrong);
        let (_, verdict) = turn.verify("correct horse".to_owned(), None).await.unwrap();
        assert_eq!(verdict, Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_cheaper_hash_is_outdated_and_a_dearer_one_is_not() {
        let cheap = hasher(HashCost::INSECURE_FOR_TESTS, 1, 1);
        let dear = hasher(HashCost::FLOOR, 1, 1);
        let (_, hash) = cheap
            .turn()
            .await
            .unwrap()
            .hash("pass".to_owned())
            .await
            .unwrap();
        let (_, verdict) = dear
            .turn()
            .await
            .unwrap()
            .verify("pass".to_owned(), Some(hash))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Right { outdated: true });
        let (_, hash) = dear
            .turn()
            .await
            .unwrap()
            .hash("pass".to_owned())
            .await
            .unwrap();
        let (_, verdict) = cheap
            .turn()
            .await
            .unwrap()
            .verify("pass".to_owned(), Some(hash))
            .await
            .unwrap();
        assert_eq!(verdict, Verdict::Right { outdated: false });
    }

    #[tokio::test]
    async fn one_too_many_is_refused_at_once() {
        let hasher = hasher(HashCost::INSECURE_FOR_TESTS, 1, 1);
        let running = hasher.turn().await.unwrap();
        let mut waiting = Box::pin(hasher.turn());
        assert!(futures_poll_once(waiting.as_mut()).await.is_none());
        let refused = hasher.turn().await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::Unavailable);
        assert!(refused.retry_after.is_some());
        drop(running);
        assert!(waiting.await.is_ok());
    }

    fn user(ms: u64) -> UserId {
        UserId::generate(stack_types::Timestamp(ms))
    }

    #[tokio::test]
    async fn somebody_signed_in_hashes_one_at_a_time() {
        let hasher = hasher(HashCost::INSECURE_FOR_TESTS, 2, 6);
        let (ann, bob) = (user(1), user(2));
        let turn = hasher.turn_of(ann).await.unwrap();
        let refused = hasher.turn_of(ann).await.err().unwrap();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert!(hasher.turn_of(bob).await.is_ok());
        assert!(hasher.turn().await.is_ok());
        let (turn, _) = turn.hash("pass".to_owned()).await.unwrap();
        assert!(hasher.turn_of(ann).await.is_err(), "until it is given back");
        drop(turn);
        assert!(hasher.turn_of(ann).await.is_ok());
    }

    #[tokio::test]
    async fn many_signed_in_leave_room_to_register_and_to_sign_in() {
        let hasher = hasher(HashCost::INSECURE_FOR_TESTS, 8, 0);
        let mut held = Vec::new();
        for ms in 0..4 {
            held.push(hasher.turn_of(user(ms)).await.unwrap());
        }
        let busy = |turn: Result<Turn, Problem>| turn.err().map(|problem| problem.code);
        assert_eq!(
            busy(hasher.turn_of(user(9)).await),
            Some(ErrorCode::Unavailable)
        );
        // One who was refused for want of room has no place.
        assert_eq!(
            busy(hasher.turn_of(user(9)).await),
            Some(ErrorCode::Unavailable)
        );
        for _ in 0..2 {
            held.push(hasher.turn_to_register().await.unwrap());
        }
        assert_eq!(
            busy(hasher.turn_to_register().await),
            Some(ErrorCode::Unavailable)
        );
        for _ in 0..2 {
            held.push(hasher.turn().await.unwrap());
        }
        assert_eq!(busy(hasher.turn().await), Some(ErrorCode::Unavailable));
        held.clear();
        assert!(hasher.turn_of(user(9)).await.is_ok());
    }

    async fn futures_poll_once<F: Future + Unpin>(future: F) -> Option<F::Output> {
        let mut future = Some(future);
        std::future::poll_fn(move |context| {
            let polled = future
                .as_mut()
                .map(|future| std::pin::Pin::new(future).poll(context));
            std::task::Poll::Ready(match polled {
                Some(std::task::Poll::Ready(output)) => Some(output),
                _ => None,
            })
        })
        .await
    }

    #[test]
    fn a_cost_under_the_floor_is_refused() {
        assert!(HashCost::new(19 * 1024, 2, 1).is_ok());
        assert!(HashCost::new(19 * 1024 - 1, 2, 1).is_err());
        assert!(HashCost::new(19 * 1024, 1, 1).is_err());
        assert!(HashCost::new(19 * 1024, 2, 0).is_err());
        assert!(HashCost::new(u32::MAX, 2, 1).is_err());
    }
}
