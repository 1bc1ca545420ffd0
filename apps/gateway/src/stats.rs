//! The last minutes, for the page that admins look at: a few numbers every five seconds, kept in memory.
//!
//! They are read off the measures that Prometheus gets, so that both tell the same.

use std::collections::VecDeque;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use stack_types::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::app::{App, AppState};
use crate::metrics::Commits;
use crate::telemetry;

/// Between two samples: short enough to watch, and nothing for the machine.
const STEP: Duration = Duration::from_secs(5);
/// Ten minutes.
const SAMPLES: usize = 120;

/// The samples, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Stats(Mutex<VecDeque<Sample>>);

/// Five seconds.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    /// When they ended.
    at: Timestamp,
    connections: usize,
    /// Here and at edges.
    sockets: usize,
    /// Subscriptions that read from the log.
    behind: u64,
    events_per_s: f64,
    deliveries_per_s: f64,
    /// 99 of a hundred commits took no longer; `null` when there was none.
    commit_p99_ms: Option<f64>,
    /// `null` when the file cannot be looked at.
    storage_bytes: Option<u64>,
    /// `null` where the system does not tell.
    memory_bytes: Option<u64>,
}

/// What admins get.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    at: Timestamp,
    started_at: Timestamp,
    version: &'static str,
    now: Now,
    totals: Totals,
    step_s: u64,
    samples: Vec<Sample>,
}

/// At this moment.
#[derive(Debug, Serialize)]
struct Now {
    connections: usize,
    /// Here and at edges.
    sockets: usize,
    relayed_sockets: usize,
    rooms: u64,
    subscriptions: u64,
    behind: u64,
    storage_bytes: Option<u64>,
    cache_bytes: Option<u64>,
    memory_bytes: Option<u64>,
    open_files: Option<u64>,
    threads: Option<u64>,
}

/// Since the start.
#[derive(Debug, Serialize)]
struct Totals {
    commits: u64,
    events: u64,
    deliveries: u64,
    catch_up_deliveries: u64,
    fell_behind: u64,
    log_lines_dropped: u64,
}

/// What samples are differences of.
struct Counts {
    commits: Commits,
    deliveries: u64,
}

impl Counts {
    fn of(app: &App) -> Self {
        let hub = app.hub().stats();
        Self {
            commits: app.measures().commits(),
            deliveries: hub.live_deliveries + hub.catch_up_deliveries,
        }
    }
}

impl Overview {
    /// Everything as it is now.
    pub(crate) fn of(app: &App) -> Self {
        let readers = app.hub().readers();
        let hub = app.hub().stats();
        let usage = app.storage_usage().ok();
        let process = app.measures().process();
        let commits = app.measures().commits();
        let started = app.measures().started().duration_since(UNIX_EPOCH);
        let started = started.unwrap_or_default().as_millis();
        Self {
            at: app.clock().now(),
            started_at: Timestamp(u64::try_from(started).unwrap_or(0)),
            version: env!("CARGO_PKG_VERSION"),
            now: Now {
                connections: app.lifecycle().connections.len(),
                sockets: sockets(app),
                relayed_sockets: app.lifecycle().relayed.len(),
                rooms: readers.rooms,
                subscriptions: readers.subscriptions,
                behind: readers.behind,
                storage_bytes: usage.as_ref().map(|usage| usage.file_bytes),
                cache_bytes: usage.as_ref().map(|usage| usage.cache_bytes),
                memory_bytes: process.map(|process| process.resident_bytes),
                open_files: process.map(|process| process.open_fds),
                threads: process.map(|process| process.threads),
            },
            totals: Totals {
                commits: commits.count,
                events: commits.events,
                deliveries: hub.live_deliveries + hub.catch_up_deliveries,
                catch_up_deliveries: hub.catch_up_deliveries,
                fell_behind: hub.fell_behind,
                log_lines_dropped: telemetry::lines_dropped(),
            },
            step_s: STEP.as_secs(),
            samples: app.stats().0.lock().iter().cloned().collect(),
        }
    }
}

/// Takes samples until it is told to stop.
pub(crate) async fn run(app: AppState, stop: CancellationToken) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first is at once, and there is nothing to compare it with.
    ticks.tick().await;
    let (mut before, mut since) = (Counts::of(&app), Instant::now());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (counts, now) = (Counts::of(&app), Instant::now());
        let sample = sample(&app, &before, &counts, now - since);
        let mut samples = app.stats().0.lock();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
        drop(samples);
        (before, since) = (counts, now);
    }
}

/// Everybody's, wherever they are connected.
fn sockets(app: &App) -> usize {
    app.lifecycle().sockets.len() + app.lifecycle().relayed.len()
}

fn sample(app: &App, before: &Counts, counts: &Counts, passed: Duration) -> Sample {
    let per_second = |from: u64, to: u64| {
        #[expect(clippy::cast_precision_loss, reason = "what happens in five seconds")]
        let more = to.saturating_sub(from) as f64;
        more / passed.as_secs_f64().max(f64::MIN_POSITIVE)
    };
    Sample {
        at: app.clock().now(),
        connections: app.lifecycle().connections.len(),
        sockets: sockets(app),
        behind: app.hub().readers().behind,
        events_per_s: per_second(before.commits.events, counts.commits.events),
        deliveries_per_s: per_second(before.deliveries, counts.deliveries),
        commit_p99_ms: quantile(&before.commits, &counts.commits, 0.99)
            .map(|seconds| seconds * 1000.0),
        storage_bytes: app.storage_usage().ok().map(|usage| usage.file_bytes),
        memory_bytes: app
            .measures()
            .process()
            .map(|process| process.resident_bytes),
    }
}

/// In how many seconds this part of the commits between the two was done, as Prometheus' `histogram_quantile` has it.
/// `None` when there were none.
fn quantile(before: &Commits, after: &Commits, part: f64) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "what happens in five seconds")]
    let more = |to: u64, from: u64| to.saturating_sub(from) as f64;
    let all = more(after.count, before.count);
    if all == 0.0 {
        return None;
    }
    let rank = part * all;
    let (mut from, mut under) = (0.0, 0.0);
    for (index, (bound, count)) in after.buckets.iter().enumerate() {
        let earlier = before.buckets.get(index).map_or(0, |(_, count)| *count);
        let up_to = more(*count, earlier);
        if up_to >= rank && bound.is_finite() {
            let within = (up_to - under).max(f64::MIN_POSITIVE);
            return Some(from + (bound - from) * ((rank - under) / within).clamp(0.0, 1.0));
        }
        if bound.is_finite() {
            (from, under) = (*bound, up_to);
        }
    }
    // Longer than the last bound, which is all that is known.
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(counts: [u64; 3]) -> Commits {
        let bounds = [0.001, 0.002, 0.004];
        Commits {
            count: counts[2],
            events: 0,
            buckets: bounds.into_iter().zip(counts).collect(),
        }
    }

    #[test]
    fn a_quantile_is_of_what_came_between() {
        let before = commits([100, 100, 100]);
        assert_eq!(quantile(&before, &before, 0.99), None);
        // A hundred of one to two milliseconds: the 99th is near the end of them.
        let p99 = quantile(&before, &commits([100, 200, 200]), 0.99).unwrap();
        assert!((p99 - 0.001_99).abs() < 1e-9, "{p99}");
        let half = quantile(&before, &commits([200, 200, 300]), 0.5).unwrap();
        assert!((half - 0.001).abs() < 1e-9, "{half}");
        let mut slow = commits([100, 100, 100]);
        slow.count = 101;
        assert_eq!(quantile(&before, &slow, 0.99), Some(0.004));
    }
}
