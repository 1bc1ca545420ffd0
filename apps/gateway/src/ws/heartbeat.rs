//! Whether anybody is still there: pings, and when silence means that a connection is dead.

use std::time::Duration;

use tokio::time::Instant;

/// How often a client is pinged. Proxies close a connection that is silent for 30 to 60 seconds.
const PING_EVERY: Duration = Duration::from_secs(25);
/// A connection is dead when for so long nothing came from it and it took nothing but pings.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// What a connection has lately given and taken.
#[derive(Debug)]
pub(super) struct Heartbeat {
    heard: Instant,
    took: Instant,
    /// Bytes the outlet had written when it was last looked at, pings included.
    written: u64,
    /// When the next ping is due.
    pub(super) due: Instant,
}

impl Heartbeat {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            took: now,
            written: 0,
            due: now + jittered(PING_EVERY),
        }
    }

    /// Something came from the client.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Says whether the connection is alive; `written` is what its outlet has written so far.
    pub(super) fn is_alive(&mut self, now: Instant, written: u64) -> bool {
        if written > self.written {
            self.took = now;
        }
        now - self.heard < DEAD_AFTER || now - self.took < DEAD_AFTER
    }

    /// A ping was sent, and `written` counts it: pings that a kernel's buffer takes are no sign of life.
    pub(super) fn pinged(&mut self, now: Instant, written: u64) {
        self.written = written;
        self.due = now + jittered(PING_EVERY);
    }
}

/// `mean` with up to 20 % more or less, so that clients that came together are not pinged together.
fn jittered(mean: Duration) -> Duration {
    mean.mul_f64(0.8 + 0.4 * random_fraction())
}

/// A number from 0 to 1.
pub(super) fn random_fraction() -> f64 {
    let random = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_on_both_sides_is_death_and_a_slow_reader_lives() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silent = Heartbeat::new(start);
        silent.pinged(at(25), 6);
        assert!(silent.is_alive(at(50), 6));
        silent.pinged(at(50), 12);
        assert!(!silent.is_alive(at(60), 12));

        let mut slow = Heartbeat::new(start);
        assert!(slow.is_alive(at(50), 1000));
        slow.pinged(at(50), 1006);
        assert!(slow.is_alive(at(100), 1006));
        assert!(slow.is_alive(at(105), 1500));
        slow.pinged(at(105), 1506);
        assert!(!slow.is_alive(at(170), 1506));

        let mut quiet = Heartbeat::new(start);
        quiet.heard(at(55));
        assert!(quiet.is_alive(at(100), 0));
    }

    #[test]
    fn pings_are_spread() {
        for _ in 0..100 {
            let every = jittered(PING_EVERY);
            assert!((Duration::from_secs(20)..=Duration::from_secs(30)).contains(&every));
        }
    }
}
