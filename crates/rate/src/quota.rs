//! How much is allowed, and what is allowed by default. The values are those of SECURITY.md.

use std::time::Duration;

/// A bucket of `burst` tokens that fills from empty to full in `per`. Whoever uses it steadily gets `burst` in every
/// `per`; over any time `t` nobody gets more than `burst + burst · t / per`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Quota {
    burst: u32,
    per: Duration,
}

impl Quota {
    /// No limit at all; a limiter keeps no bucket for it.
    pub const UNLIMITED: Self = Self::new(u32::MAX, Duration::ZERO);

    /// `burst` in `per`. A `burst` of zero allows nothing, a `per` of zero everything.
    #[must_use]
    pub const fn new(burst: u32, per: Duration) -> Self {
        Self { burst, per }
    }

    /// How many at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// How long an empty bucket takes to fill.
    #[must_use]
    pub const fn per(self) -> Duration {
        self.per
    }

    /// The same time with another `burst`; zero keeps this one, as in a room's settings.
    #[must_use]
    pub const fn or_burst(self, burst: u32) -> Self {
        if burst == 0 {
            self
        } else {
            Self::new(burst, self.per)
        }
    }

    /// The nanoseconds in which one token comes back, rounded up so that rounding never gives more than the quota.
    pub(crate) fn token_nanos(self) -> u64 {
        let per = u64::try_from(self.per.as_nanos()).unwrap_or(u64::MAX);
        per.div_ceil(u64::from(self.burst.max(1)))
    }
}

/// The quotas of the gateway's doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Sign-in attempts per IP. People mistype; a list of stolen passwords needs thousands of tries.
    pub login: Quota,
    /// Second-factor attempts per pending sign-in. A code has a million values and lives 30 s.
    pub second_factor: Quota,
    /// Refreshes per session. A client needs one in ten minutes; every tab of a browser may ask at once.
    pub refresh: Quota,
    /// New accounts per IP. The long-term count stands in storage; this is its quota too.
    pub register: Quota,
    /// New accounts from loopback, where developers and tests are.
    pub register_loopback: Quota,
    /// HTTP and WebSocket requests per caller. A client that opens its rooms at start makes some dozens.
    pub api: Quota,
    /// Messages per user and room; a room may set its own.
    pub messages: Quota,
}

impl Quotas {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        login: Quota::new(10, Duration::from_secs(3 * 60)),
        second_factor: Quota::new(3, Duration::from_secs(10)),
        refresh: Quota::new(30, Duration::from_secs(60)),
        register: Quota::new(5, Duration::from_secs(60 * 60)),
        register_loopback: Quota::new(100, Duration::from_secs(60 * 60)),
        api: Quota::new(300, Duration::from_secs(10)),
        messages: Quota::new(10, Duration::from_secs(10)),
    };

    /// No limits, for a gateway whose rate limiting is switched off.
    pub const UNLIMITED: Self = Self {
        login: Quota::UNLIMITED,
        second_factor: Quota::UNLIMITED,
        refresh: Quota::UNLIMITED,
        register: Quota::UNLIMITED,
        register_loopback: Quota::UNLIMITED,
        api: Quota::UNLIMITED,
        messages: Quota::UNLIMITED,
    };
}

impl Default for Quotas {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_may_set_its_own_burst() {
        let messages = Quotas::DEFAULT.messages;
        assert_eq!(messages.or_burst(0), messages);
        assert_eq!(messages.or_burst(50), Quota::new(50, messages.per()));
    }

    #[test]
    fn rounding_never_gives_more_than_the_quota() {
        for (burst, nanos) in [(1, 10u64), (3, 10), (7, 1_000_000), (300, 10_000_000_000)] {
            let quota = Quota::new(burst, Duration::from_nanos(nanos));
            assert!(quota.token_nanos() * u64::from(burst) >= nanos);
        }
    }
}
