//! Tickets that open a WebSocket without a cookie: 256 random bits, used once, good for half a minute, kept in
//! memory. They may stand in a URL, where a long-lived token may not.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;
use stack_types::{Problem, Timestamp};

use crate::access::{Access, unauthenticated};
use crate::secret;

/// Enough for every connection of a large server to reopen at once; some 8 MB.
const CAPACITY: usize = 65_536;

type Fingerprint = [u8; 32];

/// The tickets that are out.
pub(crate) struct Tickets {
    lifetime: Duration,
    capacity: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    tickets: HashMap<Fingerprint, (Access, Timestamp)>,
    /// Every ticket in the order of its end; all live equally long. Used ones leave when their time comes.
    by_end: VecDeque<(Timestamp, Fingerprint)>,
}

impl Tickets {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            capacity: CAPACITY,
            open: Mutex::default(),
        }
    }

    /// How long a ticket lives.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A ticket for what an access token allowed. Refused while too many are out.
    pub(crate) fn issue(&self, access: Access, now: Timestamp) -> Result<String, Problem> {
        let ticket = secret::random()?;
        let fingerprint = secret::fingerprint(&ticket);
        let ends = now.plus(self.lifetime);
        let mut open = self.open.lock();
        open.forget_ended(now);
        if open.by_end.len() >= self.capacity {
            return Err(Problem::rate_limited(Duration::from_secs(1)));
        }
        open.tickets.insert(fingerprint, (access, ends));
        open.by_end.push_back((ends, fingerprint));
        Ok(secret::to_text(&ticket))
    }

    /// Uses a ticket up.
    pub(crate) fn redeem(&self, text: &str, now: Timestamp) -> Result<Access, Problem> {
        let ticket: [u8; 32] = secret::from_text(text).ok_or_else(unauthenticated)?;
        let found = self
            .open
            .lock()
            .tickets
            .remove(&secret::fingerprint(&ticket));
        match found {
            Some((access, ends)) if now < ends => Ok(access),
            _ => Err(unauthenticated()),
        }
    }
}

impl Open {
    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ends, fingerprint)) = self.by_end.front().copied() {
            if now < ends {
                break;
            }
            self.by_end.pop_front();
            self.tickets.remove(&fingerprint);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stack_types::{ErrorCode, SessionId, UserId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn access() -> Access {
        Access {
            user_id: UserId::generate(NOW),
            session_id: SessionId::generate(NOW),
            expires_at: NOW.plus(Duration::from_secs(600)),
        }
    }

    #[test]
    fn a_ticket_works_once() {
        let tickets = Tickets::new(Duration::from_secs(30));
        let access = access();
        let ticket = tickets.issue(access, NOW).unwrap();
        assert_eq!(tickets.redeem(&ticket, NOW).unwrap(), access);
        assert_eq!(
            tickets.redeem(&ticket, NOW).unwrap_err().code,
            ErrorCode::Unauthenticated
        );
    }

    #[test]
    fn a_ticket_ends() {
        let tickets = Tickets::new(Duration::from_secs(30));
        let ticket = tickets.issue(access(), NOW).unwrap();
        assert!(
            tickets
                .redeem(&ticket, NOW.plus(Duration::from_secs(30)))
                .is_err()
        );
    }

    #[test]
    fn there_are_never_too_many() {
        let tickets = Tickets {
            capacity: 2,
            ..Tickets::new(Duration::from_secs(30))
        };
        for _ in 0..2 {
            tickets.issue(access(), NOW).unwrap();
        }
        assert_eq!(
            tickets.issue(access(), NOW).unwrap_err().code,
            ErrorCode::RateLimited
        );
        let later = NOW.plus(Duration::from_secs(30));
        let ticket = tickets.issue(access(), later).unwrap();
        assert!(tickets.redeem(&ticket, later).is_ok());
        assert_eq!(tickets.open.lock().tickets.len(), 0);
        assert_eq!(tickets.open.lock().by_end.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            prop_assert!(Tickets::new(Duration::from_secs(30)).redeem(&text, NOW).is_err());
        }
    }
}
