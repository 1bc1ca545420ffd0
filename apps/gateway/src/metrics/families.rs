//! Measurements that are read off the parts of the gateway when somebody asks, as the library writes them down.

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use stack_delivery::Spread;

/// Families in the making.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// Label names and values of one sample. Every value is one of a few.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Families {
    /// One number that only grows.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.counters(name, help, |add| add(&[], value));
    }

    /// Numbers that only grow, by label.
    pub(super) fn counters(
        &mut self,
        name: &str,
        help: &str,
        each: impl FnOnce(&mut dyn FnMut(Labels<'_>, u64)),
    ) {
        let mut samples = Vec::new();
        each(&mut |labels, value| {
            let mut counter = Counter::default();
            counter.set_value(as_float(value));
            let mut sample = labelled(labels);
            sample.set_counter(counter);
            samples.push(sample);
        });
        self.push(name, help, MetricType::COUNTER, samples);
    }

    /// Seconds that only grow.
    pub(super) fn seconds(&mut self, name: &str, help: &str, value: f64) {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut sample = Metric::default();
        sample.set_counter(counter);
        self.push(name, help, MetricType::COUNTER, vec![sample]);
    }

    /// A number as it is now.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.level(name, help, &[], as_float(value));
    }

    /// The same, not whole or with labels.
    pub(super) fn level(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut sample = labelled(labels);
        sample.set_gauge(gauge);
        self.push(name, help, MetricType::GAUGE, vec![sample]);
    }

    /// Times by their size.
    pub(super) fn spread(&mut self, name: &str, help: &str, spread: &Spread) {
        let mut all = 0;
        let buckets = spread.counts.iter().map(|(bound, count)| {
            all += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(all);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(all + spread.longer);
        histogram.set_sample_sum(spread.seconds);
        let mut sample = Metric::default();
        sample.set_histogram(histogram);
        self.push(name, help, MetricType::HISTOGRAM, vec![sample]);
    }

    fn push(&mut self, name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) {
        // A family without a sample is not written: the library takes it for a mistake.
        if samples.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(samples);
        self.0.push(family);
    }

    /// All of them.
    pub(super) fn finish(self) -> Vec<MetricFamily> {
        self.0
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the text format has floats; counts are exact up to 2^53"
)]
pub(super) fn as_float(value: u64) -> f64 {
    value as f64
}
