//! What the parts of the gateway know by themselves, read off them when somebody asks.

use prometheus::proto::MetricFamily;
use stack_storage::{AuditAction, AuditOutcome};

use super::families::Families;
use super::{Metrics, Own, Reading};
use crate::telemetry;

/// Events of accounts that have a sample from the start, so that the first of them shows as a change.
const KNOWN_FROM_THE_START: [(AuditAction, AuditOutcome); 7] = [
    (AuditAction::Login, AuditOutcome::Ok),
    (AuditAction::Login, AuditOutcome::Refused),
    (AuditAction::Register, AuditOutcome::Ok),
    (AuditAction::SecondFactor, AuditOutcome::Refused),
    (AuditAction::RefreshReused, AuditOutcome::Refused),
    (AuditAction::AccessRefused, AuditOutcome::Refused),
    (AuditAction::ApiKeyRefused, AuditOutcome::Refused),
];

/// What the parts know by themselves.
pub(super) fn read_off(metrics: &Metrics, reading: &Reading<'_>) -> Vec<MetricFamily> {
    let mut out = Families::default();
    let version = env!("CARGO_PKG_VERSION");
    let commit = env!("STACK_BUILD_COMMIT");
    out.level(
        "stack_build_info",
        "What is running; always 1.",
        &[("commit", commit), ("version", version)],
        1.0,
    );
    let readers = reading.hub.readers();
    out.gauge("stack_rooms", "Rooms with a reader.", readers.rooms);
    out.gauge(
        "stack_subscriptions",
        "Subscriptions of sockets to rooms.",
        readers.subscriptions,
    );
    out.gauge(
        "stack_readers_behind",
        "Subscriptions that read from the log now.",
        readers.behind,
    );
    out.spread(
        "stack_fan_out_seconds",
        "Time to hand the events of a room to its readers here, a write to each.",
        &reading.hub.fan_outs(),
    );
    let stats = reading.hub.stats();
    out.counter(
        "stack_catch_up_pages_total",
        "Pages read from the log for readers that were behind.",
        stats.catch_up_pages,
    );
    out.counter(
        "stack_catch_up_bytes_total",
        "Bytes of events written to readers from the log.",
        stats.catch_up_bytes,
    );
    if let Some(own) = &reading.own {
        read_own(own, &mut out);
    }
    out.counter(
        "stack_log_lines_dropped_total",
        "Log lines that were lost because nobody took them.",
        telemetry::lines_dropped(),
    );
    if let Some(process) = metrics.process() {
        process.tell(metrics.started(), &mut out);
    }
    out.finish()
}

/// What an edge leaves to its origin.
fn read_own(own: &Own<'_>, out: &mut Families) {
    out.counters(
        "stack_rate_limited_total",
        "Requests, frames and messages that were refused for their rate, by kind.",
        |add| {
            for (kind, refused) in own.rates.refused() {
                add(&[("kind", kind)], refused);
            }
            for (kind, refused) in own.rooms.rate_limited() {
                add(&[("kind", kind)], refused);
            }
        },
    );
    let audited = own.store.audited();
    out.counters(
        "stack_auth_events_total",
        "What went on record in the audit log, by what was done and whether it was.",
        |add| {
            let is_known = |action, outcome| {
                let known = |(other, of, _): &(AuditAction, AuditOutcome, u64)| {
                    *other == action && *of == outcome
                };
                audited.iter().any(known)
            };
            let missing = KNOWN_FROM_THE_START
                .iter()
                .filter(|(action, outcome)| !is_known(*action, *outcome));
            let all = audited.iter().copied();
            for (action, outcome, count) in all.chain(missing.map(|(a, o)| (*a, *o, 0))) {
                let outcome = match outcome {
                    AuditOutcome::Ok => "ok",
                    AuditOutcome::Refused => "refused",
                };
                add(&[("event", action.as_str()), ("outcome", outcome)], count);
            }
        },
    );
    match own.store.usage() {
        Ok(usage) => {
            out.gauge(
                "stack_storage_file_bytes",
                "Size of the database file; 0 in memory.",
                usage.file_bytes,
            );
            out.gauge(
                "stack_storage_cache_bytes",
                "Pages of the database in memory.",
                usage.cache_bytes,
            );
            out.counters(
                "stack_storage_cache_lookups_total",
                "Pages that were looked for in the cache since the file was opened, by whether they were there.",
                |add| {
                    add(&[("result", "hit")], usage.cache_hits);
                    add(&[("result", "miss")], usage.cache_misses);
                },
            );
            out.counter(
                "stack_storage_cache_evictions_total",
                "Pages that made room for others since the file was opened.",
                usage.cache_evictions,
            );
        }
        // The other measures are worth having all the same.
        Err(error) => tracing::warn!(%error, "the database file cannot be looked at: {error}"),
    }
}
