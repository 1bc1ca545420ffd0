//! What is removed later: sessions and counters whose time is over. A step looks at a bounded number of rows on a
//! snapshot, and writes only when there is something to remove.

use std::time::Duration;

use redb::{ReadTransaction, ReadableTable};
use stack_types::Timestamp;

use super::counters::CounterRecord;
use super::sessions::{Session, SessionRecord};
use super::tables;
use crate::{Store, StoreError, record};

/// Rows that one step looks at.
const STEP: usize = 1000;
/// A session that is over stays this long, so that its late tokens are told apart from unknown ones.
const KEPT_AFTER_END: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the walk goes on: first over the sessions, then over the counters.
#[derive(Debug, Clone, Default)]
pub struct AccountSweepCursor {
    in_counters: bool,
    from: String,
}

/// What one step removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweptAccounts {
    /// Sessions.
    pub sessions: usize,
    /// Counters.
    pub counters: usize,
    /// Whether the walk is not at its end.
    pub more: bool,
}

/// What a look found: what is to go, and where the next look begins when this was not all.
struct Found<T> {
    over: Vec<T>,
    next: Option<String>,
}

impl Store {
    /// One step of sweeping. Call it again at once while [`SweptAccounts::more`] says so, and every few minutes
    /// otherwise.
    ///
    /// # Errors
    /// The file cannot be read or the commit failed.
    pub async fn sweep_accounts(
        &self,
        cursor: &mut AccountSweepCursor,
    ) -> Result<SweptAccounts, StoreError> {
        let now = self.inner.clock.now();
        let from = cursor.from.clone();
        let mut swept = SweptAccounts::default();
        if cursor.in_counters {
            let found = self
                .read_blocking(move |tx| find_counters(tx, now, &from))
                .await?;
            swept.counters = found.over.len();
            swept.more = found.next.is_some();
            cursor.in_counters = swept.more;
            cursor.from = found.next.unwrap_or_default();
            if swept.counters > 0 {
                self.remove_counters(found.over).await?;
            }
        } else {
            let found = self
                .read_blocking(move |tx| find_sessions(tx, now, &from))
                .await?;
            swept.sessions = found.over.len();
            swept.more = true;
            cursor.in_counters = found.next.is_none();
            cursor.from = found.next.unwrap_or_default();
            if swept.sessions > 0 {
                self.remove_sessions(found.over).await?;
            }
        }
        Ok(swept)
    }

    async fn remove_sessions(&self, over: Vec<(String, String)>) -> Result<(), StoreError> {
        self.write(move |tx, _| {
            let mut sessions = tx.open_table(tables::SESSIONS)?;
            let mut by_user = tx.open_table(tables::USER_SESSIONS)?;
            for (user, session) in &over {
                // A session that is over never comes back, so that there is nothing to look at again.
                sessions.remove(session.as_str())?;
                by_user.remove((user.as_str(), session.as_str()))?;
            }
            Ok(())
        })
        .await
    }

    async fn remove_counters(&self, over: Vec<String>) -> Result<(), StoreError> {
        self.write(move |tx, now| {
            let mut counters = tx.open_table(tables::RATE_COUNTERS)?;
            for key in &over {
                // It may have begun anew since it was looked at.
                let still_over = match counters.get(key.as_str())? {
                    Some(bytes) => {
                        record::decode::<CounterRecord>(bytes.value())?.expires_at <= now
                    }
                    None => false,
                };
                if still_over {
                    counters.remove(key.as_str())?;
                }
            }
            Ok(())
        })
        .await
    }
}

fn find_sessions(
    tx: &ReadTransaction,
    now: Timestamp,
    from: &str,
) -> Result<Found<(String, String)>, StoreError> {
    let table = tx.open_table(tables::SESSIONS)?;
    let mut over = Vec::new();
    for (seen, entry) in table.range(from..)?.enumerate() {
        let (id, bytes) = entry?;
        if seen == STEP {
            let next = Some(id.value().to_owned());
            return Ok(Found { over, next });
        }
        let session = record::decode::<SessionRecord>(bytes.value())?.session;
        if ended_long_ago(&session, now) {
            over.push((session.user_id.to_string(), id.value().to_owned()));
        }
    }
    Ok(Found { over, next: None })
}

fn find_counters(
    tx: &ReadTransaction,
    now: Timestamp,
    from: &str,
) -> Result<Found<String>, StoreError> {
    let table = tx.open_table(tables::RATE_COUNTERS)?;
    let mut over = Vec::new();
    for (seen, entry) in table.range(from..)?.enumerate() {
        let (key, bytes) = entry?;
        if seen == STEP {
            let next = Some(key.value().to_owned());
            return Ok(Found { over, next });
        }
        if record::decode::<CounterRecord>(bytes.value())?.expires_at <= now {
            over.push(key.value().to_owned());
        }
    }
    Ok(Found { over, next: None })
}

fn ended_long_ago(session: &Session, now: Timestamp) -> bool {
    let ran_out = session.expires_at.min(session.refresh_expires_at);
    let ended = session
        .revoked_at
        .map_or(ran_out, |revoked| revoked.min(ran_out));
    now >= ended.plus(KEPT_AFTER_END)
}
