//! What is measured of backups on a schedule.

use std::time::Duration;

use prometheus::{Gauge, IntCounter, IntGauge};
use stack_types::Timestamp;

use super::{Metrics, register};

/// The measurements. Cloning shares them.
#[derive(Clone)]
pub(crate) struct BackupMetrics {
    last: IntGauge,
    took: Gauge,
    bytes: IntGauge,
    made: IntCounter,
    failed: IntCounter,
}

impl Metrics {
    /// What is measured of backups. Asked for once, by a gateway that makes them.
    ///
    /// # Errors
    /// It was asked for before.
    pub(crate) fn backups(&self) -> Result<BackupMetrics, prometheus::Error> {
        let registry = &self.0.registry;
        Ok(BackupMetrics {
            last: register(
                registry,
                IntGauge::new(
                    "stack_backup_last_success_timestamp_seconds",
                    "When the newest backup was begun, in seconds since 1970; 0 while there is none.",
                )?,
            )?,
            took: register(
                registry,
                Gauge::new(
                    "stack_backup_duration_seconds",
                    "How long the last backup took, its verification among it.",
                )?,
            )?,
            bytes: register(
                registry,
                IntGauge::new("stack_backup_size_bytes", "How large the last backup is.")?,
            )?,
            made: register(
                registry,
                IntCounter::new("stack_backups_total", "Backups that were made.")?,
            )?,
            failed: register(
                registry,
                IntCounter::new(
                    "stack_backup_failures_total",
                    "Backups that were not made, and looks at where they are that failed.",
                )?,
            )?,
        })
    }
}

impl BackupMetrics {
    /// The newest backup is of this time.
    pub(crate) fn newest(&self, at: Timestamp) {
        self.last
            .set(i64::try_from(at.0 / 1000).unwrap_or(i64::MAX));
    }

    /// One was made.
    pub(crate) fn made(&self, at: Timestamp, bytes: u64, took: Duration) {
        self.newest(at);
        self.took.set(took.as_secs_f64());
        self.bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.made.inc();
    }

    /// One was not.
    pub(crate) fn failed(&self) {
        self.failed.inc();
    }
}
