//! Latencies: recorded in nanoseconds, told in microseconds.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies of one kind.
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    ///
    /// # Errors
    /// Never for these bounds.
    pub(crate) fn new() -> Result<Self> {
        const MOST_NS: u64 = 600_000_000_000;
        Ok(Self(Histogram::new_with_bounds(1, MOST_NS, 3)?))
    }

    /// Takes one in.
    pub(crate) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns.max(1));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Starts anew.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The latency that this share of all does not exceed, in microseconds.
    pub(crate) fn at(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The usual quantiles.
    pub(crate) fn summary(&self) -> Value {
        json!({
            "count": self.len(),
            "p50_us": self.at(0.5),
            "p90_us": self.at(0.9),
            "p99_us": self.at(0.99),
            "p999_us": self.at(0.999),
            "max_us": self.at(1.0),
        })
    }
}
