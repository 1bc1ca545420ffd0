//! What every request handler and every socket can reach: the parts of the gateway, composed once.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use http::Request;
use stack_auth::{AuditAction, Auth, Keeper};
use stack_bus::Bus;
use stack_delivery::Hub;
use stack_presence::Presences;
use stack_rooms::Rooms;
use stack_storage::{StorageUsage, Store};
use stack_types::{Clock, Limits};

use crate::assets::{self, ClientFiles};
use crate::config::{Config, Faults};
use crate::gateway;
use crate::http::body::SlowBodies;
use crate::http::cookies::CookieNames;
use crate::http::headers::SecurityHeaders;
use crate::http::origin::Origins;
use crate::http::rates::Rates;
use crate::http::refusals::Refusals;
use crate::http::{Peer, client_ip};
use crate::lifecycle::Lifecycle;
use crate::metrics::{Measured, Metrics, Own, Reading};
use crate::otlp::Tracer;
use crate::readiness::{Checks, Readiness};
use crate::reload::{Change, Live};
use crate::stats::Stats;
use crate::ws::Sockets;

/// The state of the router. Cloning shares it.
#[derive(Clone)]
pub(crate) struct AppState(Arc<App>);

impl Deref for AppState {
    type Target = App;

    fn deref(&self) -> &App {
        &self.0
    }
}

/// The domain, as it is handed to the HTTP and WebSocket side.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) hub: Hub,
    pub(crate) presences: Presences,
    pub(crate) rooms: Rooms,
    pub(crate) auth: Auth,
    pub(crate) sockets: Sockets,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Option<Tracer>,
}

/// The parts of a gateway.
pub(crate) struct App {
    config: Config,
    parts: Parts,
    lifecycle: Lifecycle,
    origins: Origins,
    cookies: CookieNames,
    security_headers: SecurityHeaders,
    live: Live,
    rates: Rates,
    refusals: Refusals,
    slow_bodies: SlowBodies,
    readiness: Readiness,
    client_files: ClientFiles,
    stats: Stats,
}

impl AppState {
    /// Puts the parts together.
    pub(crate) fn new(
        config: Config,
        origins: Origins,
        parts: Parts,
        lifecycle: Lifecycle,
        live: Live,
    ) -> Self {
        Self(Arc::new(App {
            cookies: CookieNames::new(origins.public().is_https()),
            security_headers: SecurityHeaders::new(&origins),
            rates: Rates::new(config.rate_enabled, &parts.clock),
            refusals: Refusals::new(&parts.clock),
            slow_bodies: SlowBodies::new(config.http.concurrent_requests),
            readiness: Readiness::new(parts.store.clone(), parts.bus.clone(), parts.hub.clone()),
            client_files: config.testing.client_files.unwrap_or(assets::embedded),
            stats: Stats::default(),
            origins,
            live,
            parts,
            lifecycle,
            config,
        }))
    }
}

impl App {
    /// The configuration as it was at the start. What may change meanwhile is in `live`, and in the parts.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// What is accepted at most.
    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// The time, for whatever decides by it.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.parts.clock
    }

    /// What is durable.
    pub(crate) fn store(&self) -> &Store {
        &self.parts.store
    }

    /// The way from the log to readers.
    pub(crate) fn hub(&self) -> &Hub {
        &self.parts.hub
    }

    /// Who is here.
    pub(crate) fn presences(&self) -> &Presences {
        &self.parts.presences
    }

    /// What may happen in rooms.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.parts.rooms
    }

    /// Who somebody is.
    pub(crate) fn auth(&self) -> &Auth {
        &self.parts.auth
    }

    /// The open sockets.
    pub(crate) fn sockets(&self) -> &Sockets {
        &self.parts.sockets
    }

    /// What runs beside the requests. A socket is a task on its `sockets`, and leaves when `draining` says so.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// What of the configuration may change.
    pub(crate) fn live(&self) -> &Live {
        &self.live
    }

    /// Reads the configuration again, and brings into force what can be.
    pub(crate) async fn reload(&self) -> Result<Vec<Change>, Faults> {
        let reloaded = self.live.reload(|key, config| self.apply(key, config));
        let changes = reloaded.await?;
        let applied = changes.iter().filter(|change| change.applied);
        let applied: Vec<_> = applied.map(|change| &*change.key).collect();
        if !applied.is_empty() {
            let action = AuditAction::ConfigurationReloaded;
            let target = Some(applied.join(","));
            let recorded = self
                .auth()
                .record_keeping(&Keeper::Operator, action, target);
            if let Err(problem) = recorded.await {
                let code = problem.code.as_str();
                tracing::error!(code, "a reload is not in the audit log: {problem}");
            }
        }
        Ok(changes)
    }

    fn apply(&self, key: &str, config: &Config) -> bool {
        match key {
            "auth.registration" | "auth.refresh_grace_s" => {
                self.parts.auth.change(gateway::changeable(config));
            }
            "rate.enabled" => {
                self.rates.enable(config.rate_enabled);
                self.parts.rooms.limit_messages(config.rate_enabled);
                self.parts.auth.change(gateway::changeable(config));
            }
            "cors.origins" => self.origins.allow(&config.cors_origins),
            "trace.one_in" => {
                // Without both nothing is traced, whatever it says.
                if let (Some(tracer), Some(settings)) = (&self.parts.tracer, &config.trace) {
                    tracer.trace_one_in(settings.one_in);
                }
            }
            _ => return false,
        }
        true
    }

    /// Which origins are ours and which are allowed.
    pub(crate) fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Whether this is, letter by letter, an origin of ours.
    pub(crate) fn is_own_origin(&self, origin: &str) -> bool {
        self.origins.is_own(origin)
    }

    /// What our cookies are called.
    pub(crate) fn cookies(&self) -> &CookieNames {
        &self.cookies
    }

    /// Headers for every answer.
    pub(crate) fn security_headers(&self) -> &SecurityHeaders {
        &self.security_headers
    }

    /// How often who may call what.
    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Which refusals went on record lately.
    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// The places of requests whose bodies are long on their way.
    pub(crate) fn slow_bodies(&self) -> &SlowBodies {
        &self.slow_bodies
    }

    /// Finds files of the web client.
    pub(crate) fn client_files(&self) -> ClientFiles {
        self.client_files
    }

    /// Where a request comes from.
    pub(crate) fn client_ip<B>(&self, request: &Request<B>) -> IpAddr {
        self.client_ip_of(request.extensions(), request.headers())
    }

    /// The same, of a request that has been taken apart.
    pub(crate) fn client_ip_of(
        &self,
        extensions: &http::Extensions,
        headers: &http::HeaderMap,
    ) -> IpAddr {
        // The server puts the peer into every request; the unspecified address is trusted by nobody.
        let peer = extensions
            .get::<Peer>()
            .map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        client_ip::client_ip(peer, headers, &self.live.trusted_proxies().now())
    }

    /// Whether the gateway is going down.
    pub(crate) fn is_draining(&self) -> bool {
        self.lifecycle.draining.is_cancelled()
    }

    /// Where the parts count what they do.
    pub(crate) fn measures(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// The file and its cache.
    pub(crate) fn storage_usage(&self) -> io::Result<StorageUsage> {
        self.parts.store.usage()
    }

    /// The last minutes, for admins.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Who traces, if anybody does.
    pub(crate) fn tracer(&self) -> Option<&Tracer> {
        self.parts.tracer.as_ref()
    }

    /// What is measured, as Prometheus text.
    pub(crate) fn metrics(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.parts.metrics.text(&self.reading())
    }

    /// What is measured, as single numbers.
    pub(crate) fn measured(&self) -> Vec<Measured> {
        self.parts.metrics.measured(&self.reading())
    }

    fn reading(&self) -> Reading<'_> {
        Reading {
            hub: &self.parts.hub,
            bus: &*self.parts.bus,
            own: Some(Own {
                store: &self.parts.store,
                rooms: &self.parts.rooms,
                rates: &self.rates,
            }),
            connections: self.lifecycle.connections.len(),
            sockets: self.lifecycle.sockets.len(),
            relayed_sockets: self.lifecycle.relayed.len(),
        }
    }

    /// What the gateway stands on, looked at now.
    pub(crate) async fn checks(&self) -> Checks {
        self.readiness.checks(self.is_draining()).await
    }
}

impl fmt::Debug for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppState").finish_non_exhaustive()
    }
}
