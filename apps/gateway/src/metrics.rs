//! What the gateway measures, as Prometheus text.
//!
//! Every label has few values: patterns of routes, statuses, kinds. Nothing a client can make up is one.

mod backups;
mod families;
mod parts;
mod process;
mod requests;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntGauge, Registry, TextEncoder,
    exponential_buckets,
};
use stack_bus::Bus;
use stack_delivery::{Hub, HubStats};
use stack_rooms::Rooms;
use stack_storage::{CommitReport, OnCommit, Store};
use stack_types::Timestamp;

use crate::http::rates::Rates;

pub(crate) use backups::BackupMetrics;
pub(crate) use process::Process;
pub(crate) use requests::{Requests, method};

/// The media type of [`Metrics::text`].
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often the process is looked at.
const PROCESS_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The measurements. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Inner>);

struct Inner {
    /// One reading at a time, or counters would be moved twice by the same amount.
    reading: Mutex<()>,
    registry: Registry,
    commit_events: Histogram,
    commit_seconds: Histogram,
    commit_sync_seconds: Histogram,
    requests: Requests,
    sign_ins: SocketSignIns,
    started: SystemTime,
    process: Mutex<Option<(Instant, Process)>>,
    live: IntCounter,
    catch_up: IntCounter,
    behind: IntCounter,
    malformed: IntCounter,
    bus_dropped: IntCounter,
    bus_unsent: IntCounter,
    bus_lost: IntCounter,
    refused: IntCounter,
    spans_lost: IntCounter,
    connections: IntGauge,
    sockets: IntGauge,
    relayed_sockets: IntGauge,
}

/// What is read off the parts of the gateway when somebody asks.
pub(crate) struct Reading<'a> {
    pub(crate) hub: &'a Hub,
    pub(crate) bus: &'a dyn Bus,
    /// What an edge leaves to its origin.
    pub(crate) own: Option<Own<'a>>,
    pub(crate) connections: usize,
    pub(crate) sockets: usize,
    /// Those of clients that are connected to an edge, where they are among the sockets.
    pub(crate) relayed_sockets: usize,
}

/// The parts that an edge has not.
pub(crate) struct Own<'a> {
    pub(crate) store: &'a Store,
    pub(crate) rooms: &'a Rooms,
    pub(crate) rates: &'a Rates,
}

/// Something that was measured.
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// `None` for a count.
    pub(crate) unit: Option<&'static str>,
}

impl Metrics {
    /// All at zero.
    ///
    /// # Errors
    /// A name is not valid or stands twice.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name, help| register(&registry, IntCounter::new(name, help)?);
        let gauge = |name, help| register(&registry, IntGauge::new(name, help)?);
        let histogram = |name, help, buckets| {
            let options = HistogramOpts::new(name, help).buckets(buckets);
            register(&registry, Histogram::with_opts(options)?)
        };
        let inner = Inner {
            reading: Mutex::new(()),
            commit_events: histogram(
                "stack_commit_events",
                "Events that one commit added to rooms.",
                exponential_buckets(1.0, 2.0, 12)?,
            )?,
            commit_seconds: histogram(
                "stack_commit_seconds",
                "Time from the first operation of a commit to the end of its fsync.",
                exponential_buckets(0.000_1, 2.0, 19)?,
            )?,
            commit_sync_seconds: histogram(
                "stack_commit_sync_seconds",
                "Time that a commit needs to get onto the disk, its fsync.",
                exponential_buckets(0.000_1, 2.0, 19)?,
            )?,
            requests: Requests::new(&registry)?,
            sign_ins: SocketSignIns {
                ok: counter(
                    "stack_socket_sign_ins_total",
                    "Sockets that were signed in.",
                )?,
                refused: counter(
                    "stack_socket_sign_ins_refused_total",
                    "Sockets whose credentials were no good.",
                )?,
            },
            started: SystemTime::now(),
            process: Mutex::new(None),
            live: counter(
                "stack_live_deliveries_total",
                "Events written to readers straight from their commit.",
            )?,
            catch_up: counter(
                "stack_catch_up_deliveries_total",
                "Events written to readers from the log.",
            )?,
            behind: counter(
                "stack_fell_behind_total",
                "How often a reader could not take a batch and went on from the log.",
            )?,
            malformed: counter(
                "stack_bus_malformed_total",
                "Messages of the bus that were no events.",
            )?,
            bus_dropped: counter(
                "stack_bus_dropped_total",
                "Messages of the bus dropped because a subscription was full.",
            )?,
            bus_unsent: counter(
                "stack_bus_unsent_total",
                "Messages that never went out on the bus, since it took less than was published.",
            )?,
            bus_lost: counter(
                "stack_bus_lost_total",
                "Frames that another gateway sent on the bus and that did not arrive.",
            )?,
            refused: counter(
                "stack_connections_refused_total",
                "Connections closed at once because too many were open.",
            )?,
            spans_lost: counter(
                "stack_trace_spans_lost_total",
                "Spans of traces that the collector did not take, or not in time.",
            )?,
            connections: gauge("stack_http_connections", "Open HTTP connections.")?,
            sockets: gauge("stack_sockets", "WebSockets that are open here.")?,
            relayed_sockets: gauge(
                "stack_relayed_sockets",
                "WebSockets that are open at edges, which count them among theirs.",
            )?,
            registry,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Hears of every commit.
    pub(crate) fn on_commit(&self) -> OnCommit {
        let metrics = self.clone();
        Arc::new(move |commit: CommitReport| {
            metrics.0.commit_seconds.observe(commit.took.as_secs_f64());
            metrics
                .0
                .commit_sync_seconds
                .observe(commit.synced.as_secs_f64());
            if commit.events > 0 {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "a commit has some thousand events at most"
                )]
                metrics.0.commit_events.observe(commit.events as f64);
            }
        })
    }

    /// What is measured of the certificate. Asked for once, by a gateway that has one.
    ///
    /// # Errors
    /// It was asked for before.
    pub(crate) fn tls(
        &self,
        not_after: Option<Timestamp>,
    ) -> Result<TlsMetrics, prometheus::Error> {
        let registry = &self.0.registry;
        let counter = |name, help| register(registry, IntCounter::new(name, help)?);
        let metrics = TlsMetrics {
            reloads: counter(
                "stack_tls_reloads_total",
                "How often another certificate was taken.",
            )?,
            failures: counter(
                "stack_tls_reload_failures_total",
                "How often another certificate was no good or could not be had, so that the old one stayed.",
            )?,
            handshakes_failed: counter(
                "stack_tls_handshakes_failed_total",
                "Connections that did not come to TLS.",
            )?,
            not_after: IntGauge::new(
                "stack_tls_certificate_not_after_seconds",
                "When the certificate in use ends, in seconds since 1970.",
            )?,
            registry: registry.clone(),
        };
        metrics.set(not_after);
        Ok(metrics)
    }

    /// Counts connections that were refused.
    pub(crate) fn connections_refused(&self) -> IntCounter {
        self.0.refused.clone()
    }

    /// Counts spans that nobody gets.
    pub(crate) fn spans_lost(&self) -> IntCounter {
        self.0.spans_lost.clone()
    }

    /// Everything, after a look at the parts.
    ///
    /// # Errors
    /// The text cannot be made.
    pub(crate) fn text(&self, reading: &Reading<'_>) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.gather(reading), &mut text)?;
        Ok(text)
    }

    /// Everything as single numbers, after a look at the parts. Of a distribution there are the number of what was
    /// measured and the sum.
    pub(crate) fn measured(&self, reading: &Reading<'_>) -> Vec<Measured> {
        let mut all = Vec::new();
        for family in self.gather(reading) {
            let name = family.name();
            let name = name.strip_prefix("stack_").unwrap_or(name);
            let name = name.strip_suffix("_total").unwrap_or(name);
            let (name, unit) = match name.strip_suffix("_seconds") {
                Some(name) => (name, Some("s")),
                None => (name, None),
            };
            for metric in family.get_metric() {
                let mut name = name.to_owned();
                for label in metric.get_label() {
                    name.push_str(&format!(".{}", label.value()));
                }
                let mut tell = |name, value, unit| all.push(Measured { name, value, unit });
                match family.get_field_type() {
                    MetricType::COUNTER => tell(name, metric.get_counter().get_value(), unit),
                    MetricType::GAUGE => tell(name, metric.get_gauge().get_value(), unit),
                    _ => {
                        let spread = metric.get_histogram();
                        #[expect(
                            clippy::cast_precision_loss,
                            reason = "2^53 things will not be measured"
                        )]
                        tell(
                            format!("{name}.count"),
                            spread.get_sample_count() as f64,
                            None,
                        );
                        tell(format!("{name}.sum"), spread.get_sample_sum(), unit);
                    }
                }
            }
        }
        all
    }

    fn gather(&self, reading: &Reading<'_>) -> Vec<MetricFamily> {
        let HubStats {
            live_deliveries,
            catch_up_deliveries,
            fell_behind,
            malformed,
            ..
        } = reading.hub.stats();
        let lost = reading.bus.losses();
        let inner = &self.0;
        let _one_at_a_time = inner.reading.lock();
        let counted = [
            (&inner.live, live_deliveries),
            (&inner.catch_up, catch_up_deliveries),
            (&inner.behind, fell_behind),
            (&inner.malformed, malformed + lost.malformed),
            (&inner.bus_dropped, lost.dropped),
            (&inner.bus_unsent, lost.unsent),
            (&inner.bus_lost, lost.lost),
        ];
        for (counter, now) in counted {
            counter.inc_by(now.saturating_sub(counter.get()));
        }
        for (gauge, now) in [
            (&inner.connections, reading.connections),
            (&inner.sockets, reading.sockets),
            (&inner.relayed_sockets, reading.relayed_sockets),
        ] {
            gauge.set(i64::try_from(now).unwrap_or(i64::MAX));
        }
        let mut families = inner.registry.gather();
        families.extend(parts::read_off(self, reading));
        families.sort_by(|one, other| one.name().cmp(other.name()));
        families
    }

    /// Counts requests.
    pub(crate) fn requests(&self) -> &Requests {
        &self.0.requests
    }

    /// Counts sockets that sign in.
    pub(crate) fn sign_ins(&self) -> &SocketSignIns {
        &self.0.sign_ins
    }

    /// What the process takes of the machine, a second ago at most: a look costs more with every connection, and anybody
    /// who reaches the gateway may ask.
    pub(crate) fn process(&self) -> Option<Process> {
        let mut seen = self.0.process.lock();
        if let Some((at, process)) = *seen
            && at.elapsed() < PROCESS_AT_MOST_EVERY
        {
            return Some(process);
        }
        let process = Process::now()?;
        *seen = Some((Instant::now(), process));
        Some(process)
    }

    /// When measuring began.
    pub(crate) fn started(&self) -> SystemTime {
        self.0.started
    }

    /// What commits have done so far.
    pub(crate) fn commits(&self) -> Commits {
        let buckets = self.0.commit_seconds.collect();
        let buckets = buckets
            .first()
            .and_then(|family| family.get_metric().first());
        let buckets = buckets.map_or_else(Vec::new, |metric| {
            let buckets = metric.get_histogram().get_bucket().iter();
            buckets
                .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
                .collect()
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a sum of counts"
        )]
        let events = self.0.commit_events.get_sample_sum() as u64;
        Commits {
            count: self.0.commit_seconds.get_sample_count(),
            events,
            buckets,
        }
    }
}

/// Sockets that were signed in, and those that were not.
#[derive(Debug, Clone)]
pub(crate) struct SocketSignIns {
    pub(crate) ok: IntCounter,
    pub(crate) refused: IntCounter,
}

/// What commits have done since the start.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Commits {
    pub(crate) count: u64,
    /// Events in them.
    pub(crate) events: u64,
    /// How many took so many seconds at most.
    pub(crate) buckets: Vec<(f64, u64)>,
}

/// What is measured of the certificate.
#[derive(Debug, Clone)]
pub(crate) struct TlsMetrics {
    reloads: IntCounter,
    failures: IntCounter,
    handshakes_failed: IntCounter,
    not_after: IntGauge,
    registry: Registry,
}

impl TlsMetrics {
    /// How often there was none.
    #[cfg(test)]
    pub(crate) fn failures(&self) -> u64 {
        self.failures.get()
    }

    /// A connection did not come to TLS.
    pub(crate) fn handshake_failed(&self) {
        self.handshakes_failed.inc();
    }

    /// There was another certificate, and the one in use ends then.
    pub(crate) fn reloaded(&self, taken: bool, not_after: Option<Timestamp>) {
        if taken {
            self.reloads.inc();
        } else {
            self.failures.inc();
        }
        self.set(not_after);
    }

    /// The certificate in use ends then.
    pub(crate) fn set(&self, not_after: Option<Timestamp>) {
        if let Some(not_after) = not_after {
            let seconds = i64::try_from(not_after.0 / 1000).unwrap_or(i64::MAX);
            self.not_after.set(seconds);
            // Not before: a figure that is not known would look like one that is bad. It is there already after the
            // first time.
            let _ = self.registry.register(Box::new(self.not_after.clone()));
        }
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
