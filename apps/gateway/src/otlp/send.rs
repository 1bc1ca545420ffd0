//! The way to the collector: the gateway's own client, with its one TLS provider and its limits. Nothing of it is taken
//! from the environment (`OTEL_…`): what is not in the configuration does not hold.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{HeaderValue, Request, header};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use prometheus::IntCounter;
use prost::Message as _;
use reqwest::Url;
use stack_auth::Fetch as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::error::StartError;
use crate::http::outgoing::Outgoing;

/// Spans that wait to be sent at most.
pub(super) const MOST_WAITING: usize = 2048;

/// What the near end of the queue and the sender have in common. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Queue {
    waiting: Arc<AtomicUsize>,
    lost: IntCounter,
    /// Nothing is sent any more.
    ended: CancellationToken,
}

impl Queue {
    /// `lost` counts the spans that nobody gets.
    pub(super) fn new(lost: IntCounter) -> Self {
        Self {
            waiting: Arc::default(),
            lost,
            ended: CancellationToken::new(),
        }
    }

    /// Takes a place for a span; without one it is lost, and counted.
    pub(super) fn enter(&self) -> bool {
        let enters = |waiting| (waiting < MOST_WAITING).then_some(waiting + 1);
        let entered = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, enters)
            .is_ok();
        if !entered {
            self.lost.inc();
        }
        entered
    }

    /// Gives up what is on its way, and sends nothing more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }
}

/// Sends batches of spans. The processor's thread is none of the runtime's, so that requests are tasks there.
pub(super) struct Sender {
    outgoing: Arc<Outgoing>,
    endpoint: Url,
    resource: ResourceAttributesWithSchema,
    runtime: Handle,
    queue: Queue,
    /// The last batch was not taken. Told once, not with every batch.
    failing: AtomicBool,
}

impl Sender {
    /// On the runtime that this is called on.
    pub(super) fn new(endpoint: Url, queue: Queue) -> Result<Self, StartError> {
        Ok(Self {
            outgoing: Arc::new(Outgoing::new()?),
            endpoint,
            resource: ResourceAttributesWithSchema::default(),
            runtime: Handle::current(),
            queue,
            failing: AtomicBool::new(false),
        })
    }

    async fn send(&self, body: Vec<u8>) -> Result<(), String> {
        let mut request = Request::post(self.endpoint.as_str())
            .body(body)
            .map_err(|error| error.to_string())?;
        request.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-protobuf"),
        );
        let outgoing = self.outgoing.clone();
        let sent = self
            .runtime
            .spawn(async move { outgoing.fetch(request).await });
        let abort = sent.abort_handle();
        let answer = tokio::select! {
            answer = sent => answer.map_err(|error| error.to_string())?,
            () = self.queue.ended.cancelled() => {
                abort.abort();
                return Err("there is no time left".to_owned());
            }
        };
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("it answered {}", answer.status())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl SpanExporter for Sender {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.queue.waiting.fetch_sub(count, Ordering::Relaxed);
        let resource_spans = group_spans_by_resource_and_scope(batch, &self.resource);
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let sent = self.send(body).await;
        let failed_before = self.failing.swap(sent.is_err(), Ordering::Relaxed);
        match &sent {
            Err(error) if !failed_before => {
                tracing::warn!(error, "the collector does not take traces: {error}");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        sent.map_err(|error| {
            self.queue.lost.inc_by(count as u64);
            OTelSdkError::InternalFailure(error)
        })
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.resource = resource.into();
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
