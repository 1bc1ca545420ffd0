//! Token buckets in a map that never grows beyond its capacity.
//!
//! A bucket is one number: when it will be full again. Taking a token moves that time one token's time further;
//! there is a token while the bucket would be full within the time that a whole bucket takes. A bucket that is full
//! again says nothing that a missing one does not, and only such buckets are ever removed.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stack_types::{Clock, Problem};

use crate::Quota;

/// Buckets a limiter holds by default. With small keys this is at most some 10 MiB, and more keys in use at once
/// than one gateway has callers.
pub const DEFAULT_CAPACITY: usize = 65_536;

/// Buckets looked at for every new key, to remove those that are full again. More than one, so that the map shrinks
/// faster than it fills; few, so that a flood of keys costs the same whatever the map holds.
const SWEPT_PER_NEW_KEY: usize = 8;

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Refused; the same request can succeed after this long. In whole milliseconds, rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter(pub Duration);

impl fmt::Display for RetryAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "too many requests, retry after {} ms",
            self.0.as_millis()
        )
    }
}

impl std::error::Error for RetryAfter {}

impl From<RetryAfter> for Problem {
    fn from(refused: RetryAfter) -> Self {
        Self::rate_limited(refused.0)
    }
}

/// One bucket per key, at most so many.
///
/// When the map is full of buckets in use, a key without one is not let through freely: all such keys share one
/// overflow bucket. So a flood of keys slows down newcomers, itself among them, and neither frees those who are
/// limited nor touches those who already have a bucket. Of the buckets that are full again some may still stand in
/// the map at that moment, since only a few are looked at for each new key; the next keys find them.
///
/// Refusals cost nothing: a refused request takes no token and makes no bucket.
///
/// A clock that is set back locks nobody out: buckets fill by the time that passes, and a step back counts as none.
pub struct Limiter<K> {
    quota: Quota,
    capacity: usize,
    clock: Arc<dyn Clock>,
    table: Mutex<Table<K>>,
    refused: AtomicU64,
}

struct Table<K> {
    index: HashMap<K, usize>,
    buckets: Vec<Bucket<K>>,
    /// Where the sweep goes on.
    hand: usize,
    overflow: Level,
    time: Steady,
}

struct Bucket<K> {
    key: K,
    level: Level,
}

/// Time that never goes back, made from a clock that may.
#[derive(Default)]
struct Steady {
    wall_ms: u64,
    nanos: u64,
}

impl Steady {
    fn now(&mut self, clock: &dyn Clock) -> u64 {
        let wall_ms = clock.now().0;
        let passed_ms = wall_ms.saturating_sub(self.wall_ms);
        self.wall_ms = wall_ms;
        self.nanos = self
            .nanos
            .saturating_add(passed_ms.saturating_mul(NANOS_PER_MILLI));
        self.nanos
    }
}

/// When a bucket is full again, in nanoseconds of [`Steady`] time.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    full_at: u64,
}

impl Level {
    fn is_full(self, now: u64) -> bool {
        self.full_at <= now
    }

    /// The level after one more token, or how many nanoseconds are missing.
    fn take(self, quota: Quota, now: u64) -> Result<Self, u64> {
        let token = quota.token_nanos();
        let whole = token.saturating_mul(u64::from(quota.burst()));
        // Further from full than empty: the quota has become smaller.
        let debt = self.full_at.saturating_sub(now).min(whole);
        let debt_after = debt.saturating_add(token);
        if debt_after > whole {
            Err(debt_after - whole)
        } else {
            Ok(Self {
                full_at: now.saturating_add(debt_after),
            })
        }
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// A limiter that gives every key `quota` and holds at most `capacity` buckets, at least one.
    #[must_use]
    pub fn new(quota: Quota, capacity: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            quota,
            capacity: capacity.max(1),
            clock,
            table: Mutex::new(Table {
                index: HashMap::new(),
                buckets: Vec::new(),
                hand: 0,
                overflow: Level::default(),
                time: Steady::default(),
            }),
            refused: AtomicU64::new(0),
        }
    }

    /// The quota of every key.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes a token of the key, if there is one.
    ///
    /// # Errors
    /// When there is none; says when there will be.
    pub fn check(&self, key: &K) -> Result<(), RetryAfter> {
        self.check_with(key, self.quota)
    }

    /// Takes a token of the key under a quota of its own, if there is one. A key may change its quota at any time;
    /// it then still has as long to wait for a full bucket as before, or as an empty one takes, if that is less.
    ///
    /// # Errors
    /// When there is none; says when there will be.
    pub fn check_with(&self, key: &K, quota: Quota) -> Result<(), RetryAfter> {
        if quota.burst() == 0 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(RetryAfter(quota.per()));
        }
        if quota.per().is_zero() {
            return Ok(());
        }
        let mut table = self.table.lock();
        let now = table.time.now(&*self.clock);
        table.take(key, quota, self.capacity, now).map_err(|nanos| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            RetryAfter(Duration::from_millis(nanos.div_ceil(NANOS_PER_MILLI)))
        })
    }

    /// How often it has refused, since it was made.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Gives the key a full bucket.
    pub fn reset(&self, key: &K) {
        let mut table = self.table.lock();
        if let Some(&slot) = table.index.get(key) {
            table.remove(slot);
        }
    }

    /// How many buckets there are; never more than the capacity.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.lock().buckets.len()
    }

    /// Whether there is no bucket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn take(&mut self, key: &K, quota: Quota, capacity: usize, now: u64) -> Result<(), u64> {
        if let Some(&slot) = self.index.get(key) {
            let level = &mut self.buckets[slot].level;
            *level = level.take(quota, now)?;
            return Ok(());
        }
        self.sweep(now);
        if self.buckets.len() >= capacity {
            self.overflow = self.overflow.take(quota, now)?;
            return Ok(());
        }
        let level = Level::default().take(quota, now)?;
        self.index.insert(key.clone(), self.buckets.len());
        self.buckets.push(Bucket {
            key: key.clone(),
            level,
        });
        Ok(())
    }

    /// Looks at the next few buckets and removes those that are full again.
    fn sweep(&mut self, now: u64) {
        for _ in 0..SWEPT_PER_NEW_KEY.min(self.buckets.len()) {
            if self.hand >= self.buckets.len() {
                self.hand = 0;
            }
            match self.buckets.get(self.hand) {
                Some(bucket) if bucket.level.is_full(now) => self.remove(self.hand),
                Some(_) => self.hand += 1,
                None => return,
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        let gone = self.buckets.swap_remove(slot);
        self.index.remove(&gone.key);
        if let Some(moved) = self.buckets.get(slot)
            && let Some(place) = self.index.get_mut(&moved.key)
        {
            *place = slot;
        }
    }
}

impl<K> fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter")
            .field("quota", &self.quota)
            .field("capacity", &self.capacity)
            .field("buckets", &self.table.lock().buckets.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use stack_types::{ErrorCode, ManualClock, Timestamp};

    use super::*;

    const THREE_IN_THREE: Quota = Quota::new(3, Duration::from_secs(3));

    fn limiter(quota: Quota, capacity: usize) -> (Limiter<u32>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
        (Limiter::new(quota, capacity, clock.clone()), clock)
    }

    fn wait_ms(millis: u64) -> Result<(), RetryAfter> {
        Err(RetryAfter(Duration::from_millis(millis)))
    }

    #[test]
    fn a_bucket_empties_and_fills_steadily() {
        let (limiter, clock) = limiter(THREE_IN_THREE, 10);
        for _ in 0..3 {
            assert_eq!(limiter.check(&1), Ok(()));
        }
        assert_eq!(limiter.check(&1), wait_ms(1000));
        assert_eq!(limiter.check(&2), Ok(()), "another key has its own bucket");
        clock.advance(Duration::from_millis(999));
        assert_eq!(limiter.check(&1), wait_ms(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!(limiter.check(&1), Ok(()));
        assert_eq!(limiter.check(&1), wait_ms(1000));
        clock.advance(Duration::from_secs(60));
        for _ in 0..3 {
            assert_eq!(limiter.check(&1), Ok(()));
        }
        assert_eq!(
            limiter.check(&1),
            wait_ms(1000),
            "a bucket never holds more than its burst"
        );
    }

    #[test]
    fn zero_burst_is_closed_and_zero_time_is_open() {
        let (limiter, _) = limiter(Quota::UNLIMITED, 10);
        for key in 0..100 {
            assert_eq!(limiter.check(&key), Ok(()));
        }
        assert!(limiter.is_empty());
        let closed = Quota::new(0, Duration::from_secs(5));
        assert_eq!(limiter.check_with(&1, closed), wait_ms(5000));
    }

    #[test]
    fn a_key_may_have_a_quota_of_its_own() {
        let (limiter, _) = limiter(THREE_IN_THREE, 10);
        let wide = THREE_IN_THREE.or_burst(30);
        for _ in 0..30 {
            assert_eq!(limiter.check_with(&1, wide), Ok(()));
        }
        assert_eq!(limiter.check_with(&1, wide), wait_ms(100));
        assert_eq!(limiter.check(&1), wait_ms(1000));
        limiter.reset(&1);
        assert_eq!(limiter.check(&1), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_frees_nobody_and_shares_one_bucket() {
        let (limiter, clock) = limiter(THREE_IN_THREE, 100);
        while limiter.check(&0).is_ok() {}
        let passed = (1..10_000).filter(|key| limiter.check(key).is_ok()).count();
        assert_eq!(passed, 99 + 3, "99 buckets, and one that all others share");
        assert_eq!(limiter.len(), 100);
        assert_eq!(
            limiter.check(&0),
            wait_ms(1000),
            "the limited key is still limited"
        );
        assert_eq!(
            limiter.check(&1),
            Ok(()),
            "who has a bucket is not disturbed"
        );

        clock.advance(Duration::from_secs(3));
        assert_eq!(limiter.check(&20_000), Ok(()));
        assert!(limiter.len() < 100, "buckets that are full again make room");
    }

    #[test]
    fn a_clock_set_back_locks_nobody_out() {
        let (limiter, clock) = limiter(THREE_IN_THREE, 1);
        while limiter.check(&1).is_ok() {}
        while limiter.check(&2).is_ok() {}
        clock.set(Timestamp(1_600_000_000_000));
        assert_eq!(limiter.check(&1), wait_ms(1000));
        assert_eq!(limiter.check(&2), wait_ms(1000));
        clock.advance(Duration::from_secs(1));
        assert_eq!(limiter.check(&2), Ok(()));
    }

    #[test]
    fn a_refusal_is_a_problem_that_says_when_to_come_back() {
        let problem = Problem::from(RetryAfter(Duration::from_millis(1500)));
        assert_eq!(problem.code, ErrorCode::RateLimited);
        assert_eq!(problem.retry_after_ms(), Some(1500));
    }
}
