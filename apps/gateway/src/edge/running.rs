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
use crate::gateway::{Abandon, Inherited, LAST_GRACE, Listening};
use crate::http::headers::SecurityHeaders;
use crate::http::origin::Origins;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, TlsMetrics};
use crate::server::{self, Places, Server};
use crate::tls::{self, Tls};

/// An edge that serves. Dropped without [`RunningEdge::shutdown`] it ends at once, like one whose process is killed.
pub struct RunningEdge {
    addr: SocketAddr,
    listening: Vec<String>,
    tls: Option<(Tls, TlsMetrics)>,
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
        Self::start_on(config, Vec::new()).await
    }

    /// [`RunningEdge::start`] on sockets that are open already, if there are any, in place of those of the configuration.
    ///
    /// # Errors
    /// As [`RunningEdge::start`].
    pub async fn start_on(config: Config, inherited: Vec<Inherited>) -> Result<Self, StartError> {
        let bus = match &config.testing.bus {
            Some(bus) => bus.clone(),
            None if config.bus.subscribe.is_empty() => return Err(StartError::DeafEdge),
            None => stack_bus::open(&config.bus)?,
        };
        let origin = config.edge.origin.clone().ok_or(StartError::NoOrigin)?;
        let connector = connector(&origin, &config.edge)?;
        let Listening {
            listeners,
            redirects,
            addr,
            names,
        } = Listening::open(&config, inherited)?;
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
        let tls = tls::watched(&config, &metrics, &lifecycle)?;
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
        let redirect = server::redirect::router(origins.public().clone());
        let server = Server {
            tls: tls.as_ref().map(|(tls, _)| tls.clone()),
            router,
            places,
            proxies: config.proxy_protocol.clone().into(),
            lifecycle: lifecycle.clone(),
        };
        server::serve_all(listeners, redirects, server, redirect);
        Ok(Self {
            addr,
            listening: names,
            tls,
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

    /// Everything that is listened on, for people; never empty.
    #[must_use]
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    /// Reads again what can be: the certificate. What is wrong with it is told in the log.
    pub fn reload(&self) {
        tls::reload(self.tls.as_ref());
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
