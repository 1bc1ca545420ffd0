//! Traces, sent by OTLP: from a request or a frame through its commit to the readers, as one trace. Without an endpoint
//! in the configuration there is no tracer, and nothing of this runs.
//!
//! What is traced is decided at its beginning, by an id of our own. A caller's `traceparent` says under which trace and
//! span it stands and no more: callers choose their ids, and could fill up the collector by them. Whoever is in
//! `trace.trust` decides by the flag. A span holds the route or the type of the frame, never what was in it.

mod send;
mod span;

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData,
    SpanProcessor as _,
};
use prometheus::IntCounter;

use crate::config::TraceSettings;
use crate::error::StartError;
use send::{MOST_WAITING, Queue, Sender};

pub(crate) use span::{Traced, follow};

/// The header of W3C Trace Context, in both directions.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// How long the end of the gateway waits for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(3);
/// Spans that are sent together at most.
const AT_ONCE: usize = 512;
/// How often what waits is sent.
const SEND_EVERY: Duration = Duration::from_secs(5);

/// Makes spans and sends them. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Tracer(Arc<Inner>);

struct Inner {
    processor: BatchSpanProcessor,
    queue: Queue,
    scope: InstrumentationScope,
    /// A trace is recorded when the lower half of an id of ours is below this.
    below: AtomicU64,
    /// Callers whose flag says whether a trace is recorded.
    trust: Vec<IpNet>,
}

/// A trace that a caller has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parent {
    trace: TraceId,
    span: SpanId,
    sampled: bool,
}

impl Tracer {
    /// A tracer whose spans go where the settings say; `lost` counts those that do not arrive. Nobody is asked whether
    /// it is there.
    ///
    /// # Errors
    /// The client cannot be made.
    pub(crate) fn start(settings: &TraceSettings, lost: IntCounter) -> Result<Self, StartError> {
        let queue = Queue::new(lost);
        let sender = Sender::new(settings.endpoint.clone(), queue.clone())?;
        // All of it, or else the library looks into the environment for the rest.
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(MOST_WAITING)
            .with_max_export_batch_size(AT_ONCE)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        let mut processor = BatchSpanProcessor::builder(sender)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder_empty()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&resource);
        Ok(Self(Arc::new(Inner {
            processor,
            queue,
            scope: InstrumentationScope::builder("stack-gateway").build(),
            below: AtomicU64::new(below(settings.one_in)),
            trust: settings.trust.clone(),
        })))
    }

    /// One of so many is traced from now on.
    pub(crate) fn trace_one_in(&self, one_in: u64) {
        self.0.below.store(below(one_in), Ordering::Relaxed);
    }

    /// A trace of a frame, if this one is traced.
    pub(crate) fn frame(&self, kind: &'static str) -> Option<Arc<Traced>> {
        let trace = RandomIdGenerator::default().new_trace_id();
        if !self.records(trace) {
            return None;
        }
        let name = Cow::Owned(format!("frame {kind}"));
        let attributes = vec![KeyValue::new("stack.frame.type", kind)];
        Some(Traced::new(
            self.clone(),
            (trace, SpanId::INVALID),
            name,
            attributes,
        ))
    }

    /// A trace of a request, if this one is traced. It stands under that of the caller, if there is one.
    pub(crate) fn request(
        &self,
        headers: &HeaderMap,
        caller: IpAddr,
        method: &'static str,
        route: &str,
    ) -> Option<Arc<Traced>> {
        let own = RandomIdGenerator::default().new_trace_id();
        let parent = headers.get(TRACEPARENT).and_then(Parent::read);
        let (trace, span) = match parent {
            Some(parent) => (parent.trace, parent.span),
            None => (own, SpanId::INVALID),
        };
        let records = match parent {
            Some(parent) if self.trusts(caller) => parent.sampled,
            _ => self.records(own),
        };
        let attributes = || {
            vec![
                KeyValue::new("http.request.method", method),
                KeyValue::new("http.route", route.to_owned()),
            ]
        };
        let name = || Cow::Owned(format!("{method} {route}"));
        records.then(|| Traced::new(self.clone(), (trace, span), name(), attributes()))
    }

    fn trusts(&self, caller: IpAddr) -> bool {
        let caller = caller.to_canonical();
        self.0.trust.iter().any(|net| net.contains(&caller))
    }

    /// Whether the trace with this id is recorded; the id is ours.
    fn records(&self, own: TraceId) -> bool {
        let [.., a, b, c, d, e, f, g, h] = own.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < self.0.below.load(Ordering::Relaxed)
    }

    /// Queues a span to be sent. Never waits: what the collector does not take in time is lost.
    fn send(&self, span: SpanData) {
        if self.0.queue.enter() {
            self.0.processor.on_end(span);
        }
    }

    /// Sends what is left, for a few seconds at most. Waits for it, so not on the runtime.
    pub(crate) fn shutdown(&self) {
        if let Err(error) = self.0.processor.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "the last spans were not sent: {error}");
        }
        self.0.queue.end();
    }
}

/// A gateway that is dropped sends nothing more.
impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.end();
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Parent {
    /// Reads a `traceparent`: version, trace, span and flags in hexadecimal. Whatever is wrong with it, it is none.
    fn read(value: &HeaderValue) -> Option<Self> {
        let text = value.to_str().ok()?;
        let mut fields = text.split('-');
        let mut field = |length: usize| {
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            fields
                .next()
                .filter(|field| field.len() == length && field.bytes().all(is_hex))
        };
        let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        // Later versions may have more fields behind these, this one has not.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let trace = TraceId::from_hex(trace).ok()?;
        let span = SpanId::from_hex(span).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        let is_valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        is_valid.then_some(Self {
            trace,
            span,
            sampled: flags & 1 == 1,
        })
    }
}

fn below(one_in: u64) -> u64 {
    0x8000_0000_0000_0000 / one_in.max(1)
}

/// What a span is of: something that came from elsewhere, or a step of ours.
fn kind_of(name: &str) -> SpanKind {
    match name {
        span::COMMIT | span::FAN_OUT => SpanKind::Internal,
        _ => SpanKind::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Parent> {
        Parent::read(&HeaderValue::from_str(text).unwrap())
    }

    #[test]
    fn a_traceparent_is_taken_or_is_none() {
        const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
        const SPAN: &str = "b7ad6b7169203331";
        let good = read(&format!("00-{TRACE}-{SPAN}-01")).unwrap();
        assert_eq!(good.trace.to_string(), TRACE);
        assert_eq!(good.span.to_string(), SPAN);
        assert!(good.sampled);
        assert!(!read(&format!("00-{TRACE}-{SPAN}-00")).unwrap().sampled);
        assert!(read(&format!("cc-{TRACE}-{SPAN}-01-what")).is_some());
        for other in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}é-{SPAN}-01"),
        ] {
            let value = HeaderValue::from_bytes(other.as_bytes()).unwrap();
            assert_eq!(Parent::read(&value), None, "{other}");
        }
    }
}
