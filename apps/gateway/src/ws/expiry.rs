//! When the session behind a socket ends, and when its client is warned.

use std::time::Duration;

use stack_auth::Caller;
use stack_types::Timestamp;
use tokio::time::Instant;

/// The client is warned so long before its session ends, or half-way when it lives less than twice as long.
const WARN_BEFORE: Duration = Duration::from_secs(60);

/// When the session behind a socket ends, and when its client is warned.
pub(super) struct Expiry {
    expires_at: Timestamp,
    warns: Option<Instant>,
    ends: Instant,
}

impl Expiry {
    pub(super) fn of(caller: &Caller, now: Timestamp) -> Self {
        let left = caller.expires_at.since(now);
        let start = Instant::now();
        Self {
            expires_at: caller.expires_at,
            warns: Some(start + left.saturating_sub(WARN_BEFORE.min(left / 2))),
            ends: start + left,
        }
    }

    /// When something is due.
    pub(super) fn next(&self) -> Instant {
        self.warns.unwrap_or(self.ends)
    }

    /// What is due now: a warning of this time, or the end.
    pub(super) fn reached(&mut self) -> Option<Timestamp> {
        self.warns.take().map(|_| self.expires_at)
    }
}
