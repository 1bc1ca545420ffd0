//! Builds an edge from its configuration, runs it, and takes it down again.

use std::net::SocketAddr;
use std::sync::Arc;

use stack_bus::Bus;
use stack_delivery::{Hub, HubHandle, Log, RemoteLog, Source};
use stack_ipc::edge::EdgeClient;
use stack_proto::JsonCodec;
use stack_types::{Clock, ConnectionId, EventCodec, SystemClock};

use super::http::{self, Edge};
use super::node::{Node, Upstream};
use super::tls::connector;
use crate::config::{Config, Faults};
use crate::error::StartError;
use crate::gateway::{Abandon, Inherited, LAST_GRACE, Listening, end_background};
use crate::http::headers::SecurityHeaders;
use crate::http::origin::Origins;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::reload::{Change, Live};
use crate::server::{self, Places, Server};
use crate::tls;

/// An edge that serves. Dropped without [`RunningEdge::shutdown`] it ends at once, like one whose process is killed.
pub struct RunningEdge {
    addr: SocketAddr,
    listening: Vec<String>,
    live: Live,
    url: String,
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
            measures,
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
        let live = Live::new(&config, places.clone(), tls.clone());
        let refused = metrics.connections_refused();
        let edge = Arc::new(Edge {
            node: node.clone(),
            bus: bus.clone(),
            metrics,
            security_headers: SecurityHeaders::new(&origins),
            live: live.clone(),
            measures_elsewhere: !config.metrics.listen.is_empty(),
        });
        let instance = ConnectionId::generate(SystemClock.now()).to_string();
        let client = EdgeClient::start(connector, instance, Arc::new(upstream))
            .map_err(StartError::EdgeClient)?;
        let redirect = server::redirect::router(origins.public().clone());
        let server = Server {
            tls,
            router: http::router(edge.clone()),
            places,
            proxies: live.proxy_protocol().clone(),
            lifecycle: lifecycle.clone(),
        };
        server::serve_all(listeners, redirects, server, redirect);
        server::serve_few(measures, http::measures(&edge), refused, &lifecycle);
        Ok(Self {
            addr,
            listening: names,
            live,
            url: origins.public().to_string(),
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

    /// Reads the configuration again, and the files of the certificate. Everything of it is told in the log too. What
    /// is the origin's to decide is for a restart, like the rest that an edge cannot take at once.
    ///
    /// # Errors
    /// With every fault of every source; then nothing has changed.
    pub async fn reload(&self) -> Result<Vec<Change>, Faults> {
        self.live.reload(|_, _| false).await
    }

    /// Whether none of its parts has failed for good.
    pub fn works(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (node, draining) = (self.node.clone(), self.lifecycle.draining.clone());
        move || draining.is_cancelled() || !node.hub().has_failed()
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
        let left =
            tokio::time::timeout(self.live.shutdown_deadline(), lifecycle.disconnected()).await;
        lifecycle.stopping.cancel();
        if left.is_err() {
            let _ = tokio::time::timeout(LAST_GRACE, lifecycle.disconnected()).await;
        }
        end_background(lifecycle).await;
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
