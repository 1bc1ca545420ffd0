//! Builds an edge from its configuration, runs it, and takes it down again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stack_bus::Bus;
use stack_delivery::{Hub, HubHandle, Log, RemoteLog, Source};
use stack_ipc::edge::EdgeClient;
use stack_proto::JsonCodec;
use stack_types::{Clock, ConnectionId, EventCodec, SystemClock};

use super::http::{self, Edge};
use super::node::{Node, Upstream};
use super::tls::connector;
use crate::config::Config;
use crate::error::StartError;
use crate::gateway::{Abandon, LAST_GRACE, bind};
use crate::http::headers::SecurityHeaders;
use crate::http::origin::Origins;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::server::{self, Places};
use crate::tls::Tls;

/// An edge that serves. Dropped without [`RunningEdge::shutdown`] it ends at once, like one whose process is killed.
pub struct RunningEdge {
    addr: SocketAddr,
    is_tls: bool,
    url: String,
    deadline: Duration,
    lifecycle: Lifecycle,
    abandon: Abandon,
    client: EdgeClient,
    node: Node,
    bus: Arc<dyn Bus>,
    hub: HubHandle,
}

impl RunningEdge {
    /// Starts an edge: when this returns it accepts connections, whether the origin is there or not.
    ///
    /// # Errors
    /// The port is taken, the bus cannot be opened, or the configuration names no origin or no bus to hear it on.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let bus = match &config.testing.bus {
            Some(bus) => bus.clone(),
            None if config.bus.subscribe.is_empty() => return Err(StartError::DeafEdge),
            None => stack_bus::open(&config.bus)?,
        };
        let origin = config.edge.origin.clone().ok_or(StartError::NoOrigin)?;
        let connector = connector(&origin, &config.edge)?;
        let listener = bind(config.listen)?;
        let addr = listener.local_addr().map_err(|source| StartError::Listen {
            addr: config.listen,
            source,
        })?;
        let origins = Origins::new(&config, addr);
        let lifecycle = Lifecycle::default();
        let abandon = Abandon(lifecycle.clone());
        let upstream = Upstream::default();
        let codec: Arc<dyn EventCodec> = Arc::new(JsonCodec);
        let log: Arc<dyn RemoteLog> = Arc::new(upstream.clone());
        let (hub, hub_handle) =
            Hub::spawn(Log::Remote(log), bus.clone(), codec, Source::Bus).await?;
        let node = Node::new(hub, upstream.clone(), lifecycle.clone());
        let asking = node
            .clone()
            .run_asking(lifecycle.background_stopping.clone());
        lifecycle.background.spawn(asking);
        let metrics = Metrics::new()?;
        let places = Places::new(&config, metrics.connections_refused());
        let router = http::router(Arc::new(Edge {
            node: node.clone(),
            bus: bus.clone(),
            metrics,
            security_headers: SecurityHeaders::new(&origins),
            trusted_proxies: config.trusted_proxies.clone(),
        }));
        let instance = ConnectionId::generate(SystemClock.now()).to_string();
        let client = EdgeClient::start(connector, instance, Arc::new(upstream))
            .map_err(StartError::EdgeClient)?;
        let tls = config.tls.as_ref().map(Tls::acceptor);
        let is_tls = tls.is_some();
        let serve = server::serve(listener, tls, router, places, lifecycle.clone());
        lifecycle.serving.spawn(serve);
        Ok(Self {
            addr,
            is_tls,
            url: origins.public().to_string(),
            deadline: config.shutdown_deadline,
            lifecycle,
            abandon,
            client,
            node,
            bus,
            hub: hub_handle,
        })
    }

    /// The address that is listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it speaks TLS, and nothing else.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Where a person opens it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until the origin is linked.
    pub async fn linked(&self) {
        self.node.upstream().linked().await;
    }

    /// Takes the edge down: clients are told to come back, and what they have asked for is answered, up to the deadline.
    pub async fn shutdown(self) {
        let lifecycle = &self.lifecycle;
        lifecycle.draining.cancel();
        let left = tokio::time::timeout(self.deadline, lifecycle.disconnected()).await;
        lifecycle.stopping.cancel();
        if left.is_err() {
            let _ = tokio::time::timeout(LAST_GRACE, lifecycle.disconnected()).await;
        }
        lifecycle.background_stopping.cancel();
        lifecycle.background.close();
        lifecycle.background.wait().await;
        self.client.shutdown().await;
        self.hub.shutdown().await;
        self.bus.close();
        drop(self.abandon);
        tracing::info!("the edge is down");
    }
}

impl std::fmt::Debug for RunningEdge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningEdge")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}
