//! Requests, by route and status.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::register;

/// From a route that answers from memory to the request time-out.
const SECONDS: [f64; 14] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Requests that were answered.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    answered: IntCounterVec,
    seconds: HistogramVec,
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let answered = Opts::new(
            "stack_http_requests_total",
            "Requests that were answered, by route and status.",
        );
        let seconds = HistogramOpts::new(
            "stack_http_request_duration_seconds",
            "Time from a request's head to its answer's, by route.",
        );
        Ok(Self {
            answered: register(
                registry,
                IntCounterVec::new(answered, &["method", "route", "status"])?,
            )?,
            seconds: register(
                registry,
                HistogramVec::new(seconds.buckets(SECONDS.to_vec()), &["method", "route"])?,
            )?,
        })
    }

    /// A request was answered. `route` is a pattern of the router, never a path.
    pub(crate) fn answered(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = self::method(method);
        self.answered
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        self.seconds
            .with_label_values(&[method, route])
            .observe(took.as_secs_f64());
    }
}

/// A client may send any word for a method, and each would be a time series.
pub(crate) fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}
