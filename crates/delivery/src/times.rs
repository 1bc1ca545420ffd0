//! How long handing out takes, counted by size, without a lock.

use std::array;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The bound of the first size, in nanoseconds. Each of the others is twice the one before.
const FIRST_NANOS: u64 = 10_000;
/// How many sizes have a bound; the last is 1.3 s.
const BOUNDS: usize = 18;

/// Counts.
#[derive(Debug)]
pub(crate) struct Times {
    /// By size; the last is for what is longer than every bound.
    counts: [AtomicU64; BOUNDS + 1],
    nanos: AtomicU64,
}

/// How long something took, since the start.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// How many took so many seconds at most, and longer than the one before.
    pub counts: Vec<(f64, u64)>,
    /// How many took longer than that.
    pub longer: u64,
    /// Seconds of all of them.
    pub seconds: f64,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: array::from_fn(|_| AtomicU64::new(0)),
            nanos: AtomicU64::new(0),
        }
    }
}

impl Times {
    /// Something took so long.
    pub(crate) fn note(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // One doubling for each bit above the first bound.
        let over = nanos.saturating_sub(1) / FIRST_NANOS;
        let size = (u64::BITS - over.leading_zeros()) as usize;
        self.counts[size.min(BOUNDS)].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// All of it.
    pub(crate) fn spread(&self) -> Spread {
        let count = |size: usize| self.counts[size].load(Ordering::Relaxed);
        let bound = |size: usize| Duration::from_nanos(FIRST_NANOS << size).as_secs_f64();
        Spread {
            counts: (0..BOUNDS).map(|size| (bound(size), count(size))).collect(),
            longer: count(BOUNDS),
            seconds: Duration::from_nanos(self.nanos.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_counted_under_its_bound() {
        let times = Times::default();
        for micros in [0, 10, 11, 20, 21, 1_310_720, 1_310_721, 60_000_000] {
            times.note(Duration::from_micros(micros));
        }
        let spread = times.spread();
        let counted: Vec<_> = spread.counts.iter().map(|(_, count)| *count).collect();
        let mut expected = vec![2, 2, 1];
        expected.resize(BOUNDS - 1, 0);
        expected.push(1);
        assert_eq!((counted, spread.longer), (expected, 2));
        assert!((spread.counts[0].0 - 10e-6).abs() < 1e-12);
        assert!(
            (spread.seconds - 62.621_503).abs() < 1e-6,
            "{}",
            spread.seconds
        );
    }
}
