//! Backups as time goes by. When the next one is due follows from the newest that is there, so that a restart changes
//! nothing in it, and one that somebody has asked for counts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use stack_storage::{AuditAction, AuditEntry, AuditOutcome, Store};
use stack_types::Clock;
use tokio_util::sync::CancellationToken;

use super::{BackupError, Name, Parcel, Place, Recipients, blocking, look_over, name};
use crate::config::BackupSettings;
use crate::http::chain;
use crate::metrics::BackupMetrics;

/// After a failure the next try comes earlier than the next backup would.
const RETRY: Duration = Duration::from_secs(5 * 60);

/// A gateway's backups.
pub(crate) struct Backups {
    store: Store,
    clock: Arc<dyn Clock>,
    place: Place,
    every: Duration,
    keep: usize,
    recipients: Recipients,
    metrics: BackupMetrics,
    stopping: CancellationToken,
}

impl Backups {
    /// Backups as they are configured; `None` where none are.
    pub(crate) fn of(
        settings: &BackupSettings,
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: impl FnOnce() -> Result<BackupMetrics, prometheus::Error>,
        stopping: CancellationToken,
    ) -> Result<Option<Self>, crate::StartError> {
        let Some(to) = &settings.to else {
            return Ok(None);
        };
        Ok(Some(Self {
            store,
            clock,
            place: Place::of(to, settings).map_err(crate::StartError::Backups)?,
            every: settings.every,
            keep: settings.keep,
            recipients: Recipients::new(&settings.recipients),
            metrics: metrics()?,
            stopping,
        }))
    }

    /// Makes them until the gateway goes down.
    pub(crate) async fn run(self) {
        let mut wait = Duration::ZERO;
        loop {
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            let done = tokio::select! {
                biased;
                done = self.when_due() => done,
                // A bucket takes back what it has of it.
                () = self.gone() => return,
            };
            wait = match done {
                Ok(wait) => wait,
                Err(BackupError::Stopped) => return,
                Err(error) => {
                    self.metrics.failed();
                    let error = chain(&error);
                    tracing::error!(error, "there is no new backup: {error}");
                    RETRY.min(self.every)
                }
            };
        }
    }

    /// Waits until the gateway goes down, and as long as a bucket may need then.
    async fn gone(&self) {
        self.stopping.cancelled().await;
        tokio::time::sleep(super::bucket::ABORT).await;
    }

    /// Makes one if it is time, and says when the next one is due.
    async fn when_due(&self) -> Result<Duration, BackupError> {
        let names = self.place.names().await?;
        let now = self.clock.now();
        // A name of the future is one that a wrong clock gave.
        let newest = names.iter().map(|(name, _)| name.at).find(|at| *at <= now);
        if let Some(newest) = newest {
            self.metrics.newest(newest);
            let age = Duration::from_millis(now.0 - newest.0);
            if age < self.every {
                return Ok(self.every - age);
            }
        }
        let began = Instant::now();
        let made = Name {
            at: now,
            sealed: self.recipients.seal_it(),
        };
        let bytes = make(
            &self.store,
            &self.place,
            made,
            &self.recipients,
            &self.stopping,
        )
        .await?;
        let took = began.elapsed();
        self.metrics.made(now, bytes, took);
        let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(bytes, duration_ms, "the backup {made} was made");
        if let Err(error) = remove_old(&self.place, made, self.keep).await {
            self.metrics.failed();
            let error = chain(&error);
            tracing::error!(error, "older backups cannot be removed: {error}");
        }
        Ok(self.every.saturating_sub(took))
    }
}

/// Makes a backup, and says how large it is.
async fn make(
    store: &Store,
    place: &Place,
    name: Name,
    recipients: &Recipients,
    stopping: &CancellationToken,
) -> Result<u64, BackupError> {
    // Each copy of the file is on record, before it begins.
    let entry = AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action: AuditAction::SnapshotMade,
        target: None,
        outcome: AuditOutcome::Ok,
    };
    store.audit(entry).await?;
    let (copy, _) = store.copy().await?;
    ship(copy, place, name, recipients, stopping, Box::new(|_| ())).await
}

/// Looks a copy over and puts it where backups are.
pub(crate) async fn ship(
    copy: std::fs::File,
    place: &Place,
    name: Name,
    recipients: &Recipients,
    stopping: &CancellationToken,
    on_bytes: super::OnBytes,
) -> Result<u64, BackupError> {
    let copy = blocking(move || {
        look_over(&copy, &mut |_, _| ())?;
        Ok(copy)
    })
    .await?;
    let parcel = Parcel {
        copy,
        recipients: recipients.clone(),
        on_bytes,
        stopping: stopping.clone(),
    };
    place.put(name, parcel).await
}

/// Removes the backups that are too many now that this one is there.
pub(crate) async fn remove_old(place: &Place, made: Name, keep: usize) -> Result<(), BackupError> {
    let names = place.names().await?;
    let names = names.into_iter().map(|(name, _)| name).collect();
    for name in name::to_remove(names, made, keep) {
        place.remove(name).await?;
        tracing::info!("the backup {name} was removed for its age");
    }
    Ok(())
}
