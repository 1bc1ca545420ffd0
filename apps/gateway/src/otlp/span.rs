//! One request or frame that is traced, and the steps that become of it.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::HeaderValue;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState};
use opentelemetry_sdk::trace::{
    IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
};
use parking_lot::Mutex;
use stack_types::trace::{self, CommitStep, FanOutStep, Trace};

use super::{Tracer, kind_of};

pub(super) const COMMIT: &str = "commit";
pub(super) const FAN_OUT: &str = "fan-out";

/// A request or a frame that is traced. Its span is sent when nobody has anything to do with it any more.
pub(crate) struct Traced {
    tracer: Tracer,
    trace: TraceId,
    span: SpanId,
    parent: SpanId,
    name: Cow<'static, str>,
    began: Instant,
    began_at: SystemTime,
    rest: Mutex<Rest>,
}

/// What is known later.
struct Rest {
    attributes: Vec<KeyValue>,
    /// When it was answered.
    ended: Option<Instant>,
    failed: bool,
    /// The span of the last commit, under which the fan-out stands.
    commit: SpanId,
}

impl Traced {
    pub(super) fn new(
        tracer: Tracer,
        (trace, parent): (TraceId, SpanId),
        name: Cow<'static, str>,
        attributes: Vec<KeyValue>,
    ) -> Arc<Self> {
        let span = RandomIdGenerator::default().new_span_id();
        Arc::new(Self {
            tracer,
            trace,
            span,
            parent,
            name,
            began: Instant::now(),
            began_at: SystemTime::now(),
            rest: Mutex::new(Rest {
                attributes,
                ended: None,
                failed: false,
                commit: span,
            }),
        })
    }

    /// A request was answered.
    pub(crate) fn answered(&self, request_id: &str, status: u16) {
        let mut rest = self.rest.lock();
        let attributes = &mut rest.attributes;
        attributes.push(KeyValue::new(
            "http.response.status_code",
            i64::from(status),
        ));
        attributes.push(KeyValue::new("stack.request_id", request_id.to_owned()));
        rest.failed = status >= 500;
        rest.ended = Some(Instant::now());
    }

    /// The header by which the caller finds the trace.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("00-{}-{}-01", self.trace, self.span)).ok()
    }

    fn at(&self, instant: Instant) -> SystemTime {
        // What came before it, as the commit that others had begun, began no earlier than the clock says.
        match instant.checked_duration_since(self.began) {
            Some(after) => self.began_at + after,
            None => self.began_at - (self.began - instant),
        }
    }

    fn step(
        &self,
        name: &'static str,
        parent: SpanId,
        (began, took): (Instant, Duration),
        attributes: Vec<KeyValue>,
    ) -> SpanId {
        let span = RandomIdGenerator::default().new_span_id();
        let (start, end) = (self.at(began), self.at(began + took));
        self.send(
            Cow::Borrowed(name),
            (span, parent),
            (start, end),
            attributes,
            false,
        );
        span
    }

    fn send(
        &self,
        name: Cow<'static, str>,
        (span, parent): (SpanId, SpanId),
        (start_time, end_time): (SystemTime, SystemTime),
        attributes: Vec<KeyValue>,
        failed: bool,
    ) {
        let flags = TraceFlags::SAMPLED;
        let data = SpanData {
            span_context: SpanContext::new(self.trace, span, flags, false, TraceState::NONE),
            parent_span_id: parent,
            parent_span_is_remote: parent == self.parent && parent != SpanId::INVALID,
            span_kind: kind_of(&name),
            name,
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match failed {
                true => Status::error(""),
                false => Status::Unset,
            },
            instrumentation_scope: self.tracer.0.scope.clone(),
        };
        self.tracer.send(data);
    }
}

impl Trace for Traced {
    fn committed(&self, commit: &CommitStep) {
        let attributes = vec![
            KeyValue::new(
                "stack.commit.operations",
                i64::try_from(commit.operations).unwrap_or(i64::MAX),
            ),
            KeyValue::new("stack.commit.sync_ms", commit.synced.as_secs_f64() * 1000.0),
        ];
        let times = (commit.began, commit.took);
        let span = self.step(COMMIT, self.span, times, attributes);
        let mut rest = self.rest.lock();
        rest.commit = span;
        // The answer is on its way from here.
        rest.ended = Some(commit.began + commit.took);
    }

    fn handed_out(&self, fan_out: &FanOutStep) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let attributes = vec![
            KeyValue::new("stack.fan_out.deliveries", count(fan_out.deliveries)),
            KeyValue::new("stack.fan_out.fell_behind", count(fan_out.fell_behind)),
        ];
        let commit = self.rest.lock().commit;
        self.step(FAN_OUT, commit, (fan_out.began, fan_out.took), attributes);
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        let (attributes, ended, failed) = {
            let rest = self.rest.get_mut();
            let attributes = std::mem::take(&mut rest.attributes);
            (attributes, rest.ended, rest.failed)
        };
        let end = self.at(ended.unwrap_or_else(Instant::now));
        let times = (self.began_at, end);
        let name = std::mem::take(&mut self.name);
        self.send(name, (self.span, self.parent), times, attributes, failed);
    }
}

impl std::fmt::Debug for Traced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traced")
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

/// Works on a future for `traced`, wherever it goes on.
pub(crate) async fn follow<F: Future>(traced: Arc<Traced>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _entered = trace::enter(traced.clone());
        future.as_mut().poll(cx)
    })
    .await
}
