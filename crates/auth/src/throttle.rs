//! The long-term limits: wrong passwords per account, new accounts per network. They are kept in the file, so that a
//! restart does not reset them.

use std::time::Duration;

use stack_storage::{Account, Counter, Store};
use stack_types::{Problem, Timestamp};

use crate::client::Client;
use crate::config::Throttle;
use crate::secret;

/// What the first wait is; each one more doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The counter of wrong passwords under one spelling of a login: a username and an e-mail address count apart, so that
/// nobody learns that they are one account's. Those of an account are named by its username, so that an admin can find
/// them. What is no account is named by a fingerprint only, since people type passwords into the wrong field.
pub(crate) fn login_key(account: Option<&Account>, typed: &str) -> String {
    if let Some(account) = account {
        let [by_name, by_address] = login_keys(account);
        return match typed.contains('@') {
            true => by_address,
            false => by_name,
        };
    }
    let fingerprint = secret::fingerprint(typed.as_bytes());
    format!("login:#{}", secret::to_text(&fingerprint[..12]))
}

/// Every counter of wrong passwords of an account.
pub(crate) fn login_keys(account: &Account) -> [String; 2] {
    let username = &account.user.username;
    [format!("login:{username}"), format!("login:{username}@")]
}

/// The counter of wrong current passwords of a signed-in user.
pub(crate) fn password_key(username: &str) -> String {
    format!("password:{username}")
}

/// The counter of codes that an account tried as its second factor, wherever they are asked for.
pub(crate) fn factor_key(username: &str) -> String {
    format!("factor:{username}")
}

/// Takes one of the tries of a second factor; a right one gives them all back.
pub(crate) async fn take_factor_try(
    store: &Store,
    throttle: &Throttle,
    username: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    if !throttle.enabled {
        return Ok(());
    }
    let key = factor_key(username);
    let (window, limit) = (throttle.failure_window, throttle.factor_failures);
    let taken = store.counter_try(key, window, limit, throttle.factor_lock);
    match taken.await? {
        Ok(_) => Ok(()),
        Err(full) => Err(Problem::rate_limited(full.expires_at.since(now))),
    }
}

/// Refuses to look at a password while the wait after the last wrong one runs.
pub(crate) fn check_failures(
    store: &Store,
    throttle: &Throttle,
    key: &str,
    now: Timestamp,
) -> Result<(), Problem> {
    if !throttle.enabled {
        return Ok(());
    }
    match store
        .counter(key)?
        .and_then(|counter| wait(throttle, &counter, now))
    {
        Some(wait) => Err(Problem::rate_limited(wait)),
        None => Ok(()),
    }
}

/// Refuses more new accounts from a network whose share is used up. Cheap; asked before a password is hashed.
pub(crate) fn check_registrations(
    store: &Store,
    throttle: &Throttle,
    client: &Client,
    now: Timestamp,
) -> Result<(), Problem> {
    if !throttle.enabled {
        return Ok(());
    }
    let counter = store.counter(&registration_key(client))?;
    match counter.filter(|counter| counter.count >= registration_limit(throttle, client)) {
        Some(full) => Err(Problem::rate_limited(full.expires_at.since(now))),
        None => Ok(()),
    }
}

/// Takes one of the new accounts of a network.
pub(crate) async fn take_registration(
    store: &Store,
    throttle: &Throttle,
    client: &Client,
    now: Timestamp,
) -> Result<(), Problem> {
    if !throttle.enabled {
        return Ok(());
    }
    let limit = registration_limit(throttle, client);
    let taken = store
        .counter_take(
            registration_key(client),
            throttle.registration_window,
            limit,
        )
        .await?;
    match taken {
        Ok(_) => Ok(()),
        Err(full) => Err(Problem::rate_limited(full.expires_at.since(now))),
    }
}

fn registration_key(client: &Client) -> String {
    format!("register:{}", client.counter_key())
}

fn registration_limit(throttle: &Throttle, client: &Client) -> u64 {
    if client.ip.is_loopback() {
        throttle.registrations_loopback
    } else {
        throttle.registrations
    }
}

/// How long the next try has to wait.
fn wait(throttle: &Throttle, counter: &Counter, now: Timestamp) -> Option<Duration> {
    let beyond = counter.count.checked_sub(throttle.free_failures)?;
    let doublings = u32::try_from(beyond).unwrap_or(u32::MAX).min(16);
    let delay = (FIRST_DELAY * 2u32.pow(doublings)).min(throttle.max_delay);
    let until = counter.last_hit_at.plus(delay).min(counter.expires_at);
    let left = until.since(now);
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(count: u64, last_hit_at: Timestamp) -> Counter {
        Counter {
            key: String::new(),
            count,
            window_started_at: Timestamp(0),
            last_hit_at,
            expires_at: Timestamp(u64::MAX),
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let throttle = Throttle::default();
        let now = Timestamp(1_000_000);
        let seconds = |count| wait(&throttle, &counter(count, now), now).map(|wait| wait.as_secs());
        assert_eq!(seconds(4), None);
        let waits: Vec<_> = (5..16).filter_map(seconds).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(seconds(u64::MAX), Some(300));
        let later = now.plus(Duration::from_millis(400));
        assert_eq!(
            wait(&throttle, &counter(5, now), later),
            Some(Duration::from_millis(600))
        );
        assert_eq!(
            wait(&throttle, &counter(5, now), now.plus(FIRST_DELAY)),
            None
        );
    }

    #[test]
    fn what_is_no_account_is_not_named() {
        let key = login_key(None, "correct horse battery");
        assert!(!key.contains("correct"), "{key}");
    }
}
