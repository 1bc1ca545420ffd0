//! Builds a gateway from its configuration, runs it, and takes it down again.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use stack_auth::{
    Auth, AuthConfig, Changeable, HashCost, KeySource, Lifetimes, OauthConfig, PasskeyConfig,
    Preset as KnownProvider, ProviderConfig, Registration as WhoMayRegister, SetupToken,
    SigningAlgorithm, Throttle,
};
use stack_bus::Bus;
use stack_delivery::{Hub, HubHandle, Source};
use stack_presence::{PresenceConfig, Presences};
use stack_proto::JsonCodec;
use stack_rate::Quotas;
use stack_rooms::{Rooms, RoomsConfig};
use stack_storage::{Location, OnCommit, Store, StoreConfig, StoreHandle};
use stack_types::{Clock, EventCodec, SystemClock};

use crate::app::{AppState, Parts};
use crate::backup::Backups;
use crate::config::{Config, Faults, OauthProvider, Preset, Registration, Signing};
use crate::edge::{self, EdgeOrigin};
use crate::error::StartError;
use crate::http::identity;
use crate::http::origin::Origins;
use crate::http::outgoing::Outgoing;
use crate::last_seen::Kept;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::otlp::Tracer;
use crate::reload::{Change, Live};
use crate::server::{Listener, Places, Server};
use crate::tls;
use crate::ws::Sockets;
use crate::{ipc, offline, revocation, routes, server, stats, sweeper};

/// The file everything durable is in, below the data folder.
pub(crate) const DATABASE_FILE: &str = "stack.redb";

/// How long what is left may take to notice that the deadline has passed.
pub(crate) const LAST_GRACE: Duration = Duration::from_millis(500);

/// How long what runs in the background may take to end: one that hangs shall not hang the end of all.
const BACKGROUND_GRACE: Duration = Duration::from_secs(5);

/// The gateway.
#[derive(Debug)]
pub struct Gateway;

/// A gateway that serves. Dropped without [`RunningGateway::shutdown`] it ends at once, like one whose process is
/// killed.
pub struct RunningGateway {
    addr: SocketAddr,
    listening: Vec<String>,
    app: AppState,
    url: String,
    setup_url: Option<String>,
    lifecycle: Lifecycle,
    abandon: Abandon,
    works: Arc<dyn Fn() -> bool + Send + Sync>,
    bus: Arc<dyn Bus>,
    store: StoreHandle,
    hub: HubHandle,
    tracer: Option<Tracer>,
}

impl Gateway {
    /// Starts a gateway: when this returns it accepts connections.
    ///
    /// # Errors
    /// The port is taken, the data folder or the file cannot be opened, or the keys cannot be had.
    pub async fn start(config: Config) -> Result<RunningGateway, StartError> {
        Self::start_on(config, Vec::new()).await
    }

    /// [`Gateway::start`] on sockets that are open already, if there are any, in place of those of the configuration.
    ///
    /// # Errors
    /// As [`Gateway::start`].
    pub async fn start_on(
        config: Config,
        inherited: Vec<Inherited>,
    ) -> Result<RunningGateway, StartError> {
        // First what fails most often and leaves nothing behind.
        let Listening {
            listeners,
            redirects,
            measures,
            addr,
            names,
        } = Listening::open(&config, inherited)?;
        let origins = Origins::new(&config, addr);
        let url = origins.public().to_string();
        let lifecycle = Lifecycle::default();
        let abandon = Abandon(lifecycle.clone());

        let (parts, store, hub) = compose(&config, &origins, &lifecycle).await?;
        let setup = parts.auth.setup_token().await.map_err(StartError::Setup)?;
        let setup_url = setup.map(|setup| setup_url(&origins, &setup));
        let bus = parts.bus.clone();
        let (at_store, at_hub) = (parts.store.clone(), parts.hub.clone());
        let ends = lifecycle.draining.clone();
        let works = move || ends.is_cancelled() || !(at_store.has_failed() || at_hub.has_failed());
        sweeper::begin(&parts.store).await;
        lifecycle.background.spawn(sweeper::run(
            parts.store.clone(),
            lifecycle.background_stopping.clone(),
        ));
        lifecycle.background.spawn(sweeper::run_erasures(
            parts.store.clone(),
            lifecycle.background_stopping.clone(),
        ));
        let (auth, stopping) = (parts.auth.clone(), lifecycle.background_stopping.clone());
        lifecycle
            .background
            .spawn(async move { auth.run_maintenance(stopping.cancelled()).await });
        if !config.testing.in_memory {
            offline::remove_copies(&config.data_dir);
        }
        let backups = Backups::of(
            &config.backup,
            parts.store.clone(),
            parts.clock.clone(),
            || parts.metrics.backups(),
            lifecycle.background_stopping.clone(),
        )?;
        if let Some(backups) = backups {
            lifecycle.background.spawn(backups.run());
        }
        let tracer = parts.tracer.clone();
        let tls = tls::watched(&config, &parts.metrics, &lifecycle)?;
        let redirect = server::redirect::router(origins.public().clone());
        let places = Places::new(&config, parts.metrics.connections_refused());
        let live = Live::new(&config, places.clone(), tls.clone());
        let app = AppState::new(config, origins, parts, lifecycle.clone(), live.clone());
        lifecycle.background.spawn(stats::run(
            app.clone(),
            lifecycle.background_stopping.clone(),
        ));
        let router = routes::router(&app);
        let origin = EdgeOrigin::new(app.clone(), router.clone());
        ipc::start(&app, Arc::new(origin.clone()))?;
        edge::listen(&app, origin).await?;
        let server = Server {
            tls,
            router,
            places,
            proxies: live.proxy_protocol().clone(),
            lifecycle: lifecycle.clone(),
        };
        server::serve_all(listeners, redirects, server, redirect);
        let refused = app.measures().connections_refused();
        let told = routes::measures(&app);
        server::serve_few(measures, told, refused, &lifecycle);
        Ok(RunningGateway {
            addr,
            listening: names,
            app,
            url,
            setup_url,
            lifecycle,
            abandon,
            works: Arc::new(works),
            bus,
            store,
            hub,
            tracer,
        })
    }
}

impl RunningGateway {
    /// The first address of TCP that is listened on; with Unix sockets alone, where nobody is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything that is listened on, for people; never empty.
    #[must_use]
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    /// Reads the configuration again, and the files of the certificate. Everything of it is told in the log too.
    ///
    /// # Errors
    /// With every fault of every source; then nothing has changed.
    pub async fn reload(&self) -> Result<Vec<Change>, Faults> {
        self.app.reload().await
    }

    /// Whether none of its parts has failed for good.
    pub fn works(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let works = self.works.clone();
        move || works()
    }

    /// Where a person opens it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the first admin is made, while there is none.
    #[must_use]
    pub fn setup_url(&self) -> Option<&str> {
        self.setup_url.as_deref()
    }

    /// Takes the gateway down: nothing new is accepted, what runs is finished or, at the deadline, cut off, and the
    /// file is closed last. What a client was told is durable stays so whatever happens here.
    pub async fn shutdown(self) {
        let lifecycle = &self.lifecycle;
        // Not ready any more, no more connections; HTTP connections end with the request they carry, sockets say
        // `drain` and then close.
        lifecycle.draining.cancel();
        let left = tokio::time::timeout(
            self.app.live().shutdown_deadline(),
            lifecycle.disconnected(),
        )
        .await;
        let connections = lifecycle.connections.len();
        let sockets = lifecycle.sockets.len() + lifecycle.relayed.len();
        lifecycle.stopping.cancel();
        if left.is_err() {
            tracing::warn!(
                connections,
                sockets,
                "the deadline has passed, cutting off who is left"
            );
            // Whoever does not even hear this is left to the end of the process.
            let _ = tokio::time::timeout(LAST_GRACE, lifecycle.disconnected()).await;
        }
        // Presence writes when the last were seen, so it ends before the store. The hub hands out the last commit
        // and the bus carries it, so these two end after the store has nothing more to say.
        end_background(lifecycle).await;
        self.store.shutdown().await;
        self.hub.shutdown().await;
        self.bus.close();
        if let Some(tracer) = self.tracer {
            // Behind the store and for a few seconds at most; it is on record if it fails.
            let _ = tokio::task::spawn_blocking(move || tracer.shutdown()).await;
        }
        drop(self.abandon);
        tracing::info!("the gateway is down");
    }
}

impl fmt::Debug for RunningGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningGateway")
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// Ends every task when it is dropped, so that a gateway nobody holds any more does not go on.
#[derive(Debug)]
pub(crate) struct Abandon(pub(crate) Lifecycle);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Ends what runs in the background.
pub(crate) async fn end_background(lifecycle: &Lifecycle) {
    lifecycle.background_stopping.cancel();
    lifecycle.background.close();
    let ended = tokio::time::timeout(BACKGROUND_GRACE, lifecycle.background.wait());
    if ended.await.is_err() {
        let left = lifecycle.background.len();
        tracing::warn!(left, "something in the background does not end, leaving it");
    }
}

/// Where the first admin is made. The token is behind the `#`, which a browser tells nobody.
pub(crate) fn setup_url(origins: &Origins, setup: &SetupToken) -> String {
    format!("{}/setup#{}", origins.public(), setup.token)
}

/// A listening socket that was open before the gateway was.
#[derive(Debug)]
pub struct Inherited(Listener);

impl Inherited {
    /// Those that a service manager has handed to this process (`LISTEN_FDS`). They are taken once.
    ///
    /// # Errors
    /// One is not a stream socket that listens.
    pub fn take_all() -> Result<Vec<Self>, StartError> {
        Ok(Listener::inherited()?.into_iter().map(Self).collect())
    }
}

/// What a gateway or an edge listens on.
pub(crate) struct Listening {
    pub(crate) listeners: Vec<Listener>,
    /// Those that send plain HTTP on to TLS.
    pub(crate) redirects: Vec<Listener>,
    /// Those that tell what is measured, if that has addresses of its own.
    pub(crate) measures: Vec<Listener>,
    /// The first address of TCP.
    pub(crate) addr: SocketAddr,
    /// All of it, as a person writes it.
    pub(crate) names: Vec<String>,
}

impl Listening {
    /// Listens on what is inherited, or else on what the configuration says.
    pub(crate) fn open(config: &Config, inherited: Vec<Inherited>) -> Result<Self, StartError> {
        let mut listeners: Vec<_> = inherited.into_iter().map(|inherited| inherited.0).collect();
        if listeners.is_empty() {
            listeners = Listener::bind_all(&config.listen)?;
        }
        let redirects = Listener::bind_all(&config.tls_redirects)?;
        let measures = Listener::bind_all(&config.metrics.listen)?;
        let addr = listeners.iter().find_map(Listener::tcp_addr);
        let mut names = names(&listeners, &redirects, config.tls.is_some());
        names.extend(measures.iter().map(|listener| match listener.tcp_addr() {
            Some(addr) => format!("http://{addr}/metrics"),
            None => listener.name(),
        }));
        Ok(Self {
            addr: addr.unwrap_or_else(|| config.first_addr()),
            names,
            listeners,
            redirects,
            measures,
        })
    }
}

/// What is listened on, as a person writes it.
fn names(listeners: &[Listener], redirects: &[Listener], is_tls: bool) -> Vec<String> {
    let name = |listener: &Listener, is_tls: bool| match listener.tcp_addr() {
        Some(addr) if is_tls => format!("https://{addr}"),
        Some(addr) => format!("http://{addr}"),
        None => listener.name(),
    };
    let served = listeners.iter().map(|listener| name(listener, is_tls));
    let redirected = redirects.iter().map(|listener| name(listener, false));
    served.chain(redirected).collect()
}

async fn compose(
    config: &Config,
    origins: &Origins,
    lifecycle: &Lifecycle,
) -> Result<(Parts, StoreHandle, HubHandle), StartError> {
    let clock: Arc<dyn Clock> = config
        .testing
        .clock
        .clone()
        .unwrap_or_else(|| Arc::new(SystemClock));
    let codec: Arc<dyn EventCodec> = Arc::new(JsonCodec);
    let metrics = Metrics::new()?;
    let tracer = match &config.trace {
        Some(settings) => Some(Tracer::start(settings, metrics.spans_lost())?),
        None => None,
    };
    let bus = match &config.testing.bus {
        Some(bus) => bus.clone(),
        None => stack_bus::open(&config.bus)?,
    };
    let (store, store_handle, commits) = open_store(
        config,
        codec.clone(),
        clock.clone(),
        Some(metrics.on_commit()),
    )?;
    let (hub, hub_handle) = Hub::spawn(
        store.clone(),
        bus.clone(),
        codec.clone(),
        Source::Commits(commits),
    )
    .await?;
    let presences = Presences::spawn(
        PresenceConfig {
            lease: config.presence.lease,
            count_only_above: config.presence.count_only_above,
            ..PresenceConfig::default()
        },
        bus.clone(),
        clock.clone(),
        Some(Arc::new(Kept(store.clone()))),
        &lifecycle.background,
        lifecycle.background_stopping.clone(),
    );
    let rooms = Rooms::new(
        RoomsConfig {
            limits: config.limits,
            messages: Quotas::DEFAULT.messages,
        },
        store.clone(),
        hub.clone(),
        bus.clone(),
        codec,
        clock.clone(),
    );
    rooms.limit_messages(config.rate_enabled);
    let revoked = revocation::publisher(bus.clone())?;
    let auth = AuthConfig {
        oauth: oauth_config(config, origins)?,
        passkeys: Some(PasskeyConfig {
            origin: origins.public().to_string(),
            site_name: config.site_name.clone(),
        }),
        ..auth_config(config)
    };
    let auth = Auth::new(auth, store.clone(), clock.clone(), revoked)?;
    let sockets = Sockets::default();
    let stop = lifecycle.background_stopping.clone();
    sockets.listen(&*bus, &lifecycle.background, stop).await?;
    let parts = Parts {
        clock,
        store,
        bus,
        hub,
        presences,
        rooms,
        auth,
        sockets,
        metrics,
        tracer,
    };
    Ok((parts, store_handle, hub_handle))
}

/// The part of the configuration that is about accounts.
pub(crate) fn auth_config(config: &Config) -> AuthConfig {
    let keys = if config.testing.in_memory {
        KeySource::Ephemeral
    } else {
        KeySource::Directory(config.data_dir.clone())
    };
    let secret = config.auth.jwt_secret.as_ref();
    AuthConfig {
        jwt_secret: secret.map(|secret| secret.expose().as_bytes().to_vec()),
        registration: match config.auth.registration {
            Registration::Open => WhoMayRegister::Open,
            Registration::Invite => WhoMayRegister::Invite,
            Registration::Closed => WhoMayRegister::Closed,
        },
        signing: signing(config),
        hash_cost: if config.testing.cheap_passwords {
            HashCost::INSECURE_FOR_TESTS
        } else {
            HashCost::DEFAULT
        },
        lifetimes: Lifetimes {
            access: config.auth.access_token_ttl,
            refresh_grace: config.auth.refresh_grace,
            ..Lifetimes::default()
        },
        throttle: Throttle {
            enabled: config.rate_enabled,
            ..Throttle::default()
        },
        ..AuthConfig::new(keys)
    }
}

/// What of that may change.
pub(crate) fn changeable(config: &Config) -> Changeable {
    auth_config(config).changeable()
}

/// How tokens are signed.
pub(crate) fn signing(config: &Config) -> SigningAlgorithm {
    match config.auth.signing {
        Signing::Hs256 => SigningAlgorithm::Hs256,
        Signing::Eddsa => SigningAlgorithm::EdDsa,
    }
}

/// The identity providers, and the way to them. Without any there is none.
fn oauth_config(config: &Config, origins: &Origins) -> Result<Option<OauthConfig>, StartError> {
    if config.auth.oauth.is_empty() {
        return Ok(None);
    }
    let provider = |provider: &OauthProvider| ProviderConfig {
        name: provider.name.clone(),
        title: provider.title.clone(),
        preset: provider.preset.map(|preset| match preset {
            Preset::Github => KnownProvider::Github,
            Preset::Google => KnownProvider::Google,
            Preset::Gitlab => KnownProvider::Gitlab,
            Preset::Discord => KnownProvider::Discord,
        }),
        issuer: provider
            .issuer
            .as_ref()
            .map(|issuer| issuer.as_str().to_owned()),
        client_id: provider.client_id.clone(),
        client_secret: provider.client_secret.expose().to_owned(),
        scopes: provider.scopes.clone(),
        allow_registration: provider.allow_registration,
    };
    Ok(Some(OauthConfig {
        providers: config.auth.oauth.iter().map(provider).collect(),
        callbacks: format!("{}{}/auth/oauth", origins.public(), identity::BASE),
        fetch: Arc::new(Outgoing::new()?),
    }))
}

/// Opens the file. It and its folder are made when they are missing, for the owner alone.
pub(crate) fn open_store(
    config: &Config,
    codec: Arc<dyn EventCodec>,
    clock: Arc<dyn Clock>,
    on_commit: Option<OnCommit>,
) -> Result<(Store, StoreHandle, stack_storage::Commits), StartError> {
    let location = if config.testing.in_memory {
        Location::Memory
    } else {
        make_private_folder(config)?;
        let path = config.data_dir.join(DATABASE_FILE);
        make_private_file(&path)?;
        Location::File(path)
    };
    let store = StoreConfig {
        location,
        cache_bytes: config.storage_cache_bytes,
        retention: config.retention,
        on_commit,
        ..StoreConfig::default()
    };
    Ok(Store::open(store, codec, clock)?)
}

fn make_private_folder(config: &Config) -> Result<(), StartError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(&config.data_dir)
        .map_err(|source| StartError::DataDir {
            path: config.data_dir.clone(),
            source,
        })
}

/// The folder may have been there before, and be open to others. The store takes an empty file for a new one.
fn make_private_file(path: &Path) -> Result<(), StartError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(source) => Err(StartError::DataFile {
            path: path.to_owned(),
            source,
        }),
    }
}
