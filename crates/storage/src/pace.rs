//! Whether the file is quick to read: then a page is read where it is asked for, since handing a few microseconds of
//! work to another thread costs more than the work. When a read had to wait for the disk, pages are read off the
//! runtime for a while, so that a slow disk holds up those who read and nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A read out of memory takes a hundredth of it, one from a solid-state disk a tenth.
const SLOW: Duration = Duration::from_millis(2);
/// A slow read is remembered for so many times as long as it took: so small a part of its time can the runtime lose
/// to the disk.
const REMEMBERED: u32 = 20;

/// How long reads have taken.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    /// Microseconds from `start` until when reads are taken to be slow.
    slow_until_us: AtomicU64,
}

impl Pace {
    /// Nothing was slow so far.
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            slow_until_us: AtomicU64::new(0),
        }
    }

    /// Whether reads are quick, as far as is known.
    pub(crate) fn is_quick(&self, now: Instant) -> bool {
        self.micros(now) >= self.slow_until_us.load(Ordering::Relaxed)
    }

    /// A read took from `began` to `ended`.
    pub(crate) fn took(&self, began: Instant, ended: Instant) {
        let took = ended.saturating_duration_since(began);
        if took >= SLOW {
            let until = self.micros(ended + took * REMEMBERED);
            self.slow_until_us.fetch_max(until, Ordering::Relaxed);
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_read_is_remembered_for_a_while() {
        let pace = Pace::new();
        let began = Instant::now();
        assert!(pace.is_quick(began));
        pace.took(began, began + SLOW / 2);
        assert!(pace.is_quick(began + SLOW));
        let ended = began + SLOW;
        pace.took(began, ended);
        assert!(!pace.is_quick(ended));
        pace.took(ended, ended + SLOW / 2);
        assert!(!pace.is_quick(ended + SLOW * REMEMBERED / 2));
        assert!(pace.is_quick(ended + SLOW * REMEMBERED));
    }
}
