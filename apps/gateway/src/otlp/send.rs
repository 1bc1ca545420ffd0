//! The way to the collector: the gateway's own client, with its one TLS provider and its limits.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use stack_auth::Fetch as _;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::error::StartError;
use crate::http::outgoing::Outgoing;

/// Sends batches of spans. The processor's thread is none of the runtime's, so that requests are tasks there.
pub(super) struct Sender {
    outgoing: Arc<Outgoing>,
    runtime: Handle,
    tasks: TaskTracker,
    /// The last batch was not taken. Told once, not with every batch.
    failing: AtomicBool,
}

impl Sender {
    /// On the runtime that this is called on.
    pub(super) fn new(tasks: &TaskTracker) -> Result<Self, StartError> {
        Ok(Self {
            outgoing: Arc::new(Outgoing::new()?),
            runtime: Handle::current(),
            tasks: tasks.clone(),
            failing: AtomicBool::new(false),
        })
    }

    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outgoing = self.outgoing.clone();
        let request = request.map(|body| body.to_vec());
        let sent = async move { outgoing.fetch(request).await };
        let answer = self.tasks.spawn_on(sent, &self.runtime).await?;
        let told = match &answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        let failed_before = self.failing.swap(told.is_some(), Ordering::Relaxed);
        match told {
            Some(error) if !failed_before => {
                tracing::warn!(error, "the collector does not take traces: {error}");
            }
            None if failed_before => tracing::info!("the collector takes traces again"),
            _ => {}
        }
        Ok(answer?.map(Bytes::from))
    }
}

impl HttpClient for Sender {
    // Written out as the trait's macro has it.
    fn send_bytes<'client, 'sent>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'client: 'sent,
        Self: 'sent,
    {
        Box::pin(self.send(request))
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}
