//! What holds for a limiter whatever is asked of it and however time passes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use stack_rate::{Limiter, Quota, RetryAfter};
use stack_types::{Clock, ManualClock, Timestamp};

const START: Timestamp = Timestamp(1_700_000_000_000);

fn quotas() -> impl Strategy<Value = Quota> {
    (1..50u32, 1..20_000u64).prop_map(|(burst, ms)| Quota::new(burst, Duration::from_millis(ms)))
}

/// Steps of time in milliseconds, most of them small, and the key that asks after each.
fn requests(keys: u16) -> impl Strategy<Value = Vec<(u64, u16)>> {
    let step = prop_oneof![8 => 0..20u64, 2 => 0..2000u64, 1 => 0..60_000u64];
    prop::collection::vec((step, 0..keys), 1..400)
}

/// Whether some stretch of these times, in milliseconds, holds more than `burst + burst · t / per`.
fn exceeds(times: &[u64], quota: Quota) -> bool {
    let per_ms = quota.per().as_millis();
    let burst = u128::from(quota.burst());
    times.iter().enumerate().any(|(first, start)| {
        times[first..].iter().enumerate().any(|(more, end)| {
            let granted = more as u128 + 1;
            granted * per_ms > burst * per_ms + burst * u128::from(end - start)
        })
    })
}

proptest! {
    #[test]
    fn no_key_gets_more_than_burst_and_rate(quota in quotas(), requests in requests(4)) {
        let clock = Arc::new(ManualClock::new(START));
        let limiter = Limiter::new(quota, 8, clock.clone());
        let mut granted: HashMap<u16, Vec<u64>> = HashMap::new();
        for (step, key) in requests {
            clock.advance(Duration::from_millis(step));
            if limiter.check(&key).is_ok() {
                granted.entry(key).or_default().push(clock.now().0);
            }
        }
        for times in granted.values() {
            prop_assert!(!exceeds(times, quota));
        }
    }

    #[test]
    fn who_waits_as_told_gets_through(quota in quotas(), requests in requests(2)) {
        let clock = Arc::new(ManualClock::new(START));
        let limiter = Limiter::new(quota, 8, clock.clone());
        for (step, key) in requests {
            clock.advance(Duration::from_millis(step));
            if let Err(RetryAfter(wait)) = limiter.check(&key) {
                prop_assert!(wait <= quota.per() + Duration::from_millis(1));
                clock.advance(wait.checked_sub(Duration::from_millis(1)).unwrap());
                prop_assert!(limiter.check(&key).is_err(), "it was told to wait too long");
                clock.advance(Duration::from_millis(1));
                prop_assert_eq!(limiter.check(&key), Ok(()));
            }
        }
    }

    #[test]
    fn a_small_map_never_grows_and_gives_no_key_more(
        quota in quotas(),
        requests in requests(1000),
        capacity in 1..20usize,
    ) {
        let clock = Arc::new(ManualClock::new(START));
        let limiter = Limiter::new(quota, capacity, clock.clone());
        let mut granted: HashMap<u16, Vec<u64>> = HashMap::new();
        for (step, key) in requests {
            clock.advance(Duration::from_millis(step));
            if limiter.check(&key).is_ok() {
                granted.entry(key).or_default().push(clock.now().0);
            }
            prop_assert!(limiter.len() <= capacity);
        }
        // A key may use the overflow bucket first and one of its own later, and so have two bursts, not more.
        let twice = Quota::new(quota.burst() * 2, quota.per());
        for times in granted.values() {
            prop_assert!(!exceeds(times, twice));
        }
    }

    #[test]
    fn a_flood_never_frees_a_limited_key(
        quota in quotas(),
        capacity in 1..50usize,
        flood in prop::collection::vec((0..5u64, 1..5000u16), 1..500),
    ) {
        let clock = Arc::new(ManualClock::new(START));
        let limiter = Limiter::new(quota, capacity, clock.clone());
        let mut granted = Vec::new();
        for (step, other) in flood {
            while limiter.check(&0).is_ok() {
                granted.push(clock.now().0);
            }
            let _passed_or_not = limiter.check(&other);
            clock.advance(Duration::from_millis(step));
        }
        prop_assert!(!exceeds(&granted, quota));
    }
}
