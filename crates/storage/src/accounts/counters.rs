//! Counters that outlast a restart: wrong passwords per account, registrations per IP. A counter counts in a
//! window that begins with its first hit; when the window is over, the counter is gone.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::Timestamp;

use super::audit::{self, AuditEntry};
use super::tables;
use crate::{Store, StoreError, record};

/// A counter that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// What is counted: a kind, a colon, and whose.
    pub key: String,
    /// The hits so far.
    pub count: u64,
    /// The first hit.
    pub window_started_at: Timestamp,
    /// The last hit.
    pub last_hit_at: Timestamp,
    /// When the counter is gone.
    pub expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CounterRecord {
    count: u64,
    window_started_at: Timestamp,
    last_hit_at: Timestamp,
    pub(super) expires_at: Timestamp,
}

impl CounterRecord {
    fn named(self, key: &str) -> Counter {
        Counter {
            key: key.to_owned(),
            count: self.count,
            window_started_at: self.window_started_at,
            last_hit_at: self.last_hit_at,
            expires_at: self.expires_at,
        }
    }

    fn read(bytes: &[u8], now: Timestamp) -> Result<Option<Self>, StoreError> {
        let record: Self = record::decode(bytes)?;
        Ok((now < record.expires_at).then_some(record))
    }
}

/// Forgets a counter; tells whether it was running.
pub(super) fn reset(tx: &WriteTransaction, key: &str, now: Timestamp) -> Result<bool, StoreError> {
    let mut table = tx.open_table(tables::RATE_COUNTERS)?;
    let removed = table.remove(key)?;
    match removed {
        Some(bytes) => Ok(CounterRecord::read(bytes.value(), now)?.is_some()),
        None => Ok(false),
    }
}

fn hit(
    tx: &WriteTransaction,
    key: &str,
    window: Duration,
    now: Timestamp,
) -> Result<Counter, StoreError> {
    let mut table = tx.open_table(tables::RATE_COUNTERS)?;
    let running = match table.get(key)? {
        Some(bytes) => CounterRecord::read(bytes.value(), now)?,
        None => None,
    };
    let record = match running {
        Some(record) => CounterRecord {
            count: record.count.saturating_add(1),
            last_hit_at: now,
            ..record
        },
        None => CounterRecord {
            count: 1,
            window_started_at: now,
            last_hit_at: now,
            expires_at: now.plus(window),
        },
    };
    table.insert(key, record::encode(&record)?.as_slice())?;
    Ok(record.named(key))
}

impl Store {
    /// Counts one hit, and puts `entry` on record with it.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn counter_hit(
        &self,
        key: String,
        window: Duration,
        entry: Option<AuditEntry>,
    ) -> Result<Counter, StoreError> {
        self.write(move |tx, now| {
            if let Some(entry) = entry {
                audit::append(tx, now, entry)?;
            }
            hit(tx, &key, window, now)
        })
        .await
    }

    /// Counts one try unless `limit` are counted already: `Err` is the full counter. The last that is free locks: the
    /// counter then runs for `lock` from there on. It is counted before anything is looked at, so that trying side by
    /// side gains nothing; a right one forgets the counter.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn counter_try(
        &self,
        key: String,
        window: Duration,
        limit: u64,
        lock: Duration,
    ) -> Result<Result<Counter, Counter>, StoreError> {
        if let Some(full) = self.counter(&key)?.filter(|counter| counter.count >= limit) {
            return Ok(Err(full));
        }
        self.write(move |tx, now| {
            let running = match tx.open_table(tables::RATE_COUNTERS)?.get(key.as_str())? {
                Some(bytes) => CounterRecord::read(bytes.value(), now)?,
                None => None,
            };
            if let Some(full) = running.filter(|record| record.count >= limit) {
                return Ok(Err(full.named(&key)));
            }
            let mut counter = hit(tx, &key, window, now)?;
            if counter.count >= limit {
                counter.expires_at = now.plus(lock);
                let record = CounterRecord {
                    count: counter.count,
                    window_started_at: counter.window_started_at,
                    last_hit_at: counter.last_hit_at,
                    expires_at: counter.expires_at,
                };
                tx.open_table(tables::RATE_COUNTERS)?
                    .insert(key.as_str(), record::encode(&record)?.as_slice())?;
            }
            Ok(Ok(counter))
        })
        .await
    }

    /// Counts one hit unless `limit` are counted already: `Err` is the full counter.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn counter_take(
        &self,
        key: String,
        window: Duration,
        limit: u64,
    ) -> Result<Result<Counter, Counter>, StoreError> {
        // Most of what is refused is refused here, without a write.
        if let Some(full) = self.counter(&key)?.filter(|counter| counter.count >= limit) {
            return Ok(Err(full));
        }
        self.write(move |tx, now| {
            let running = match tx.open_table(tables::RATE_COUNTERS)?.get(key.as_str())? {
                Some(bytes) => CounterRecord::read(bytes.value(), now)?,
                None => None,
            };
            match running {
                Some(record) if record.count >= limit => Ok(Err(record.named(&key))),
                _ => Ok(Ok(hit(tx, &key, window, now)?)),
            }
        })
        .await
    }

    /// The counter of this key; `None` when it does not run.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn counter(&self, key: &str) -> Result<Option<Counter>, StoreError> {
        let now = self.inner.clock.now();
        self.read(|tx| {
            let table = tx.open_table(tables::RATE_COUNTERS)?;
            let Some(bytes) = table.get(key)? else {
                return Ok(None);
            };
            Ok(CounterRecord::read(bytes.value(), now)?.map(|record| record.named(key)))
        })
    }

    /// The running counters whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn counters(&self, prefix: String, limit: usize) -> Result<Vec<Counter>, StoreError> {
        let now = self.inner.clock.now();
        self.read_blocking(move |tx| {
            let table = tx.open_table(tables::RATE_COUNTERS)?;
            let mut counters = Vec::new();
            for entry in table.range(prefix.as_str()..)? {
                let (key, bytes) = entry?;
                if counters.len() >= limit || !key.value().starts_with(&prefix) {
                    break;
                }
                if let Some(record) = CounterRecord::read(bytes.value(), now)? {
                    counters.push(record.named(key.value()));
                }
            }
            Ok(counters)
        })
        .await
    }

    /// Forgets a counter, and puts `entry` on record if it ran; tells whether it did.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn counter_reset(&self, key: String, entry: AuditEntry) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let was_running = reset(tx, &key, now)?;
            if was_running {
                audit::append(tx, now, entry)?;
            }
            Ok(was_running)
        })
        .await
    }
}
