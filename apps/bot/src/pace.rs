//! How much is answered: commands over a rate are not, and answers go out at a rate.
//!
//! Which commands are answered is decided by the times of the messages, so that it comes out the same whether the bot was
//! there when they were sent or reads them later.

use std::collections::HashMap;
use std::time::Duration;

use stack_types::{Timestamp, UserId};
use tokio::time::{Instant, sleep_until};

/// So many users have a bucket; those that are full are forgotten first.
const USERS: usize = 4096;
/// How often a room is told that there are too many commands.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// So many at once, and then one in every so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many at once.
    pub(crate) burst: u32,
    /// How long until there is one more.
    pub(crate) every: Duration,
}

/// A bucket, as the time at which it is full again.
#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    full_at: Timestamp,
}

impl Bucket {
    /// Whether there is one to take at this time.
    fn has(self, rate: Rate, now: Timestamp) -> bool {
        self.full_at.since(now) <= rate.every * (rate.burst - 1)
    }

    fn take(&mut self, rate: Rate, now: Timestamp) {
        self.full_at = self.full_at.max(now).plus(rate.every);
    }
}

/// Says which commands of a room are answered.
#[derive(Debug)]
pub(crate) struct Admission {
    per_user: Rate,
    per_room: Rate,
    room: Bucket,
    users: HashMap<UserId, Bucket>,
    told_at: Option<Timestamp>,
}

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is answered.
    Answer,
    /// It is told that there are too many; once a minute at most.
    Tell,
    /// Nothing is said.
    Ignore,
}

impl Admission {
    /// Full buckets.
    pub(crate) fn new(per_user: Rate, per_room: Rate) -> Self {
        Self {
            per_user,
            per_room,
            room: Bucket::default(),
            users: HashMap::new(),
            told_at: None,
        }
    }

    /// What becomes of somebody's command of this time.
    pub(crate) fn judge(&mut self, user: UserId, now: Timestamp) -> Verdict {
        if self.users.len() >= USERS {
            self.users.retain(|_, bucket| bucket.full_at > now);
        }
        let known = self.users.get(&user).copied().unwrap_or_default();
        let crowded = self.users.len() >= USERS && !self.users.contains_key(&user);
        if !crowded && known.has(self.per_user, now) && self.room.has(self.per_room, now) {
            self.room.take(self.per_room, now);
            self.users.entry(user).or_default().take(self.per_user, now);
            return Verdict::Answer;
        }
        if self
            .told_at
            .is_some_and(|told| now.since(told) < TELL_EVERY)
        {
            return Verdict::Ignore;
        }
        self.told_at = Some(now);
        Verdict::Tell
    }
}

/// Spaces out what is sent.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Rate,
    full_at: Instant,
}

impl Pace {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: Instant::now(),
        }
    }

    /// Takes the next place, and says when its turn is.
    pub(crate) fn place(&mut self) -> Instant {
        let now = Instant::now();
        let ahead = self.rate.every * (self.rate.burst - 1);
        let turn = self.full_at.checked_sub(ahead).unwrap_or(now).max(now);
        self.full_at = self.full_at.max(now) + self.rate.every;
        turn
    }
}

/// Waits for the turn of the next place.
pub(crate) async fn turn(pace: &parking_lot::Mutex<Pace>) {
    let turn = pace.lock().place();
    sleep_until(turn).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);
    const PER_USER: Rate = Rate {
        burst: 2,
        every: EVERY,
    };
    const PER_ROOM: Rate = Rate {
        burst: 3,
        every: EVERY,
    };
    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn user(name: &str) -> UserId {
        name.parse().unwrap()
    }

    #[test]
    fn a_flood_is_answered_at_its_rate_and_told_once() {
        let mut admission = Admission::new(PER_USER, PER_ROOM);
        let mut verdicts = |at: Duration, who: &str, count: usize| -> Vec<Verdict> {
            let at = NOW.plus(at);
            (0..count).map(|_| admission.judge(user(who), at)).collect()
        };
        use Verdict::{Answer, Ignore, Tell};
        let at = Duration::ZERO;
        assert_eq!(verdicts(at, "ann", 4), [Answer, Answer, Tell, Ignore]);
        // Another user has a bucket of their own, and the room has one.
        assert_eq!(verdicts(at, "ben", 3), [Answer, Ignore, Ignore]);
        assert_eq!(verdicts(EVERY, "ann", 2), [Answer, Ignore]);
        let minute = Duration::from_secs(60);
        let mut answered = 0;
        for second in 0..60 {
            let verdicts = verdicts(minute + Duration::from_secs(second), "ann", 10);
            answered += verdicts
                .iter()
                .filter(|verdict| **verdict == Answer)
                .count();
        }
        assert_eq!(answered, 2 + 29);
    }

    #[test]
    fn many_users_cost_a_bounded_map() {
        let mut admission = Admission::new(
            PER_USER,
            Rate {
                burst: 1_000_000,
                every: Duration::from_millis(1),
            },
        );
        for index in 0..USERS {
            assert_eq!(
                admission.judge(user(&format!("u{index}")), NOW),
                Verdict::Answer
            );
        }
        assert_ne!(admission.judge(user("more"), NOW), Verdict::Answer);
        assert_eq!(admission.judge(user("u0"), NOW), Verdict::Answer);
        let later = NOW.plus(EVERY);
        assert_eq!(admission.judge(user("more"), later), Verdict::Answer);
        assert!(admission.users.len() < USERS);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_go_out_at_their_rate() {
        let pace = parking_lot::Mutex::new(Pace::new(PER_USER));
        let begun = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..4 {
            turn(&pace).await;
            turns.push(begun.elapsed().as_secs());
        }
        assert_eq!(turns, [0, 0, 2, 4]);
    }
}
