//! The configuration: flags over environment over `stack.toml` over defaults.
//!
//! It is read once, as a whole: every fault is found and told together, with where it stands and why it is one, and
//! a gateway with a fault in its configuration does not start. What the program sees is typed and checked.

mod again;
mod backup;
mod bus;
mod edge;
mod endpoint;
mod folders;
mod key;
mod layers;
mod oauth;
mod print;
mod seeing;
mod tls;
mod value;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use stack_bus::{Bus, BusConfig};
use stack_ipc::IpcLimits;
use stack_storage::Retention;
use stack_types::{Clock, Limits};

pub use again::Layers;
pub(crate) use again::is_live;
pub use backup::{BackupSettings, BackupUrl, BucketSettings};
pub use edge::{EdgeSettings, OriginUrl};
pub use endpoint::Endpoint;
pub use layers::{Fault, Faults, Flag, Inputs};
pub use oauth::{Issuer, OauthProvider, Preset};
pub use print::{default_file, effective, reference};
pub use seeing::{LogFiles, MetricsSettings, TraceSettings};
pub use value::{LogFormat, Origin, Registration, Secret, Signing};

use crate::tls::Tls;
use layers::Reader;
use value::{ListOf, LogFilter, PublicUrl, SiteName};

/// The local socket, in the data folder unless it is elsewhere.
const IPC_SOCKET: &str = "gateway.sock";

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; never empty.
    pub listen: Vec<Endpoint>,
    /// Proxies that say in front of each connection whose it is, by the PROXY protocol.
    pub proxy_protocol: Vec<IpNet>,
    /// Folder of the database file and the generated keys.
    pub data_dir: PathBuf,
    /// How browsers reach the gateway; unset, it follows the bound port.
    pub public_url: Option<Origin>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// What authenticators and sign-in pages call this server.
    pub site_name: String,
    /// The log filter.
    pub log: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Whether log lines go into files, and how many.
    pub log_files: LogFiles,
    /// Where what is measured is told, and to whom.
    pub metrics: MetricsSettings,
    /// Where traces go; unset, nothing is traced.
    pub trace: Option<TraceSettings>,
    /// What connections are enciphered with; unset, they are plain.
    pub tls: Option<Tls>,
    /// Where plain HTTP is told to come by TLS.
    pub tls_redirects: Vec<Endpoint>,
    /// The transport of events.
    pub bus: BusConfig,
    /// Gateways that hold connections for another.
    pub edge: EdgeSettings,
    /// The socket for programs on this machine.
    pub ipc: IpcSettings,
    /// Accounts and tokens.
    pub auth: AuthSettings,
    /// Whether rate limits hold.
    pub rate_enabled: bool,
    /// Other origins that may call the API with credentials.
    pub cors_origins: Vec<Origin>,
    /// The HTTP side.
    pub http: HttpSettings,
    /// What is accepted at most.
    pub limits: Limits,
    /// How many connections may be open.
    pub connections: ConnectionLimits,
    /// Who is here.
    pub presence: PresenceSettings,
    /// Memory for the database's pages.
    pub storage_cache_bytes: usize,
    /// Backups.
    pub backup: BackupSettings,
    /// What a room keeps of its past at most.
    pub retention: Retention,
    /// How long a shutdown waits for connections.
    pub shutdown_deadline: Duration,
    /// What it was read from.
    pub layers: Layers,
    /// What is not as it should be and works all the same, for the log.
    pub warnings: Vec<String>,
    /// What tests change. It is reachable from no file, variable or flag.
    pub testing: Testing,
}

/// The socket for programs on this machine.
#[derive(Debug, Clone)]
pub struct IpcSettings {
    /// Where it is; unset, in the data folder.
    pub path: Option<PathBuf>,
    /// Whether there is one.
    pub enabled: bool,
    /// What connections may take.
    pub limits: IpcLimits,
}

/// Accounts and tokens.
#[derive(Debug, Clone)]
pub struct AuthSettings {
    /// Who may make an account.
    pub registration: Registration,
    /// How tokens are signed.
    pub signing: Signing,
    /// Signs access tokens; unset, a key is generated into the data folder.
    pub jwt_secret: Option<Secret>,
    /// How long an access token lives.
    pub access_token_ttl: Duration,
    /// How long a spent refresh token may be repeated.
    pub refresh_grace: Duration,
    /// Where else people may sign in.
    pub oauth: Vec<OauthProvider>,
}

/// The HTTP side.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long an API request may take.
    pub timeout: Duration,
    /// API requests carried out at once.
    pub concurrent_requests: usize,
}

/// How many connections may be open, WebSockets among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// From one address. This machine and trusted proxies are exempt.
    pub per_ip: usize,
}

/// Presence.
#[derive(Debug, Clone)]
pub struct PresenceSettings {
    /// How long a silent connection still counts as present.
    pub lease: Duration,
    /// Rooms with more people than this tell their number only.
    pub count_only_above: usize,
}

/// What only tests may change, in code.
#[derive(Clone, Default)]
pub struct Testing {
    /// Keep everything in memory.
    pub in_memory: bool,
    /// Hash passwords with the cheapest parameters.
    pub cheap_passwords: bool,
    /// Add routes that panic and that never answer.
    pub routes: bool,
    /// A bus that is there, instead of that of the settings.
    pub bus: Option<Arc<dyn Bus>>,
    /// A clock to move by hand.
    pub clock: Option<Arc<dyn Clock>>,
    /// A web client to serve instead of the embedded one.
    pub client_files: Option<crate::ClientFiles>,
}

impl fmt::Debug for Testing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Testing")
            .field("in_memory", &self.in_memory)
            .field("cheap_passwords", &self.cheap_passwords)
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// With every fault of every source.
    pub fn load(inputs: &Inputs) -> Result<Self, Faults> {
        let mut reader = Reader::open(inputs);
        let layers = Layers::of(inputs, &reader);
        let config = Self {
            layers,
            ..Self::read(&mut reader)
        };
        reader.finish().map(|()| config)
    }

    /// What finds a running gateway, whatever else is wrong: that is the gateway's to say.
    ///
    /// # Errors
    /// With every fault, where one of them is in what finds it.
    pub fn to_reach(inputs: &Inputs) -> Result<Self, Faults> {
        let mut reader = Reader::open(inputs);
        let config = Self::read(&mut reader);
        // Without a key it is the file as a whole, which may say where the gateway is.
        let finds = |fault: &Fault| ["", "data_dir", "ipc.path"].contains(&fault.key.as_str());
        match reader.finish() {
            Err(faults) if faults.0.iter().any(finds) => Err(faults),
            _ => Ok(config),
        }
    }

    /// [`Config::load`], and a look at the folders that are written.
    ///
    /// # Errors
    /// With every fault of every source.
    pub fn check(inputs: &Inputs) -> Result<(), Faults> {
        let mut reader = Reader::open(inputs);
        let config = Self::read(&mut reader);
        folders::check(&mut reader, &config);
        reader.finish()
    }

    /// Where the local socket is; `None` without one. A gateway that keeps everything in memory has no folder for it.
    #[must_use]
    pub fn ipc_path(&self) -> Option<PathBuf> {
        let in_folder = self.ipc.path.is_none();
        let is_there = self.ipc.enabled && !(self.testing.in_memory && in_folder);
        is_there.then(|| self.socket_path())
    }

    /// Where a gateway with this configuration has its local socket, if it has one.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        let in_folder = || self.data_dir.join(IPC_SOCKET);
        self.ipc.path.clone().unwrap_or_else(in_folder)
    }

    fn read(reader: &mut Reader) -> Self {
        let public_url = reader.get_set::<PublicUrl>("public_url").map(|url| url.0);
        let data_dir: PathBuf = reader.get("data_dir");
        let (tls, tls_redirects) = tls::read(reader, public_url.as_ref(), &data_dir);
        let listen = Self::read_listen(reader, public_url.as_ref());
        let ipc_path = reader.get_set("ipc.path");
        let ipc = IpcSettings {
            path: ipc_path,
            enabled: reader.get("ipc.enabled"),
            limits: IpcLimits {
                // A message of the largest page, and of the largest HTTP request that an edge passes on, fits.
                message_bytes: reader.between("ipc.message_bytes", 2 << 20..=64 << 20),
                calls_in_flight: reader.between("ipc.calls_in_flight", 1..=65_536),
                connections: reader.between("ipc.connections", 1..=65_536),
            },
        };
        Self {
            listen,
            proxy_protocol: reader.get::<ListOf<IpNet>>("proxy_protocol").0,
            data_dir,
            ipc,
            public_url,
            trusted_proxies: reader.get::<ListOf<IpNet>>("trusted_proxies").0,
            site_name: reader.get::<SiteName>("site_name").0,
            log: reader.get::<LogFilter>("log").0,
            log_format: reader.get("log_format"),
            log_files: seeing::log_files(reader),
            metrics: seeing::metrics(reader),
            trace: seeing::trace(reader),
            tls,
            tls_redirects,
            bus: bus::read(reader),
            edge: edge::read(reader),
            auth: AuthSettings {
                registration: reader.get("auth.registration"),
                signing: reader.get("auth.signing"),
                jwt_secret: reader.get_set("auth.jwt_secret"),
                access_token_ttl: reader.seconds("auth.access_token_ttl_s", 1..=86_400),
                refresh_grace: reader.seconds("auth.refresh_grace_s", 0..=300),
                oauth: oauth::read(reader),
            },
            rate_enabled: reader.get("rate.enabled"),
            cors_origins: reader.get::<ListOf<Origin>>("cors.origins").0,
            http: HttpSettings {
                timeout: reader.seconds("http.timeout_s", 1..=600),
                concurrent_requests: reader.between("http.concurrent_requests", 1..=1_000_000),
            },
            limits: Self::read_limits(reader),
            connections: ConnectionLimits {
                total: reader.between("limits.connections", 1..=1_000_000),
                per_ip: reader.between("limits.connections_per_ip", 1..=1_000_000),
            },
            presence: PresenceSettings {
                lease: reader.seconds("presence.lease_s", 5..=3600),
                count_only_above: reader.between("presence.count_only_above", 1..=1_000_000),
            },
            storage_cache_bytes: reader.between("storage.cache_mib", 1..=1_048_576) << 20,
            backup: backup::read(reader),
            retention: Retention {
                days: bound(reader, "retention.days", 36_500),
                messages: bound(reader, "retention.messages", 1_000_000_000),
            },
            shutdown_deadline: reader.seconds("shutdown.deadline_s", 0..=600),
            layers: Layers::default(),
            warnings: reader.warnings(),
            testing: Testing::default(),
        }
    }

    fn read_listen(reader: &mut Reader, public_url: Option<&Origin>) -> Vec<Endpoint> {
        let listen = reader.get::<ListOf<Endpoint>>("listen").0;
        if listen.is_empty() {
            reader.fault("listen", "there is no address in it".into());
        } else if public_url.is_none() && listen.iter().all(|endpoint| endpoint.tcp().is_none()) {
            let reason = "with Unix sockets alone public_url has to say how browsers come";
            reader.fault("listen", reason.into());
        }
        listen
    }

    /// The first address of TCP, as it is configured; without one, where nobody is.
    #[must_use]
    pub fn first_addr(&self) -> SocketAddr {
        let first = self.listen.iter().find_map(Endpoint::tcp);
        first.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// A frame carries a message whole, so that the smaller limits have to fit into the larger ones.
    fn read_limits(reader: &mut Reader) -> Limits {
        const KIB: usize = 1024;
        let limits = Limits {
            frame_bytes: reader.between("limits.frame_bytes", KIB..=16 * KIB * KIB),
            body_bytes: reader.between("limits.body_bytes", 1..=8 * KIB * KIB),
            data_bytes: reader.between("limits.data_bytes", 0..=8 * KIB * KIB),
            key_bytes: reader.between("limits.key_bytes", 1..=KIB),
            http_body_bytes: reader.between("limits.http_body_bytes", KIB..=64 * KIB * KIB),
            subscriptions_per_connection: reader
                .between("limits.subscriptions_per_connection", 1..=65_536),
            connections_per_user: reader.between("limits.connections_per_user", 1..=65_536),
            page_events: reader.between("limits.page_events", 1..=10_000),
        };
        if limits.body_bytes + limits.data_bytes > limits.frame_bytes {
            reader.fault(
                "limits.frame_bytes",
                format!(
                    "{} bytes cannot carry a message of limits.body_bytes and limits.data_bytes ({} + {})",
                    limits.frame_bytes, limits.body_bytes, limits.data_bytes
                ),
            );
        }
        if limits.frame_bytes > limits.http_body_bytes {
            reader.fault(
                "limits.http_body_bytes",
                format!(
                    "{} bytes are less than limits.frame_bytes ({})",
                    limits.http_body_bytes, limits.frame_bytes
                ),
            );
        }
        limits
    }
}

/// A bound on what rooms keep; 0 is none.
fn bound(reader: &mut Reader, path: &'static str, most: usize) -> u32 {
    u32::try_from(reader.between(path, 0..=most)).unwrap_or(u32::MAX)
}

/// The defaults alone. They are checked by a test of this module, so that nothing can be wrong with them.
impl Default for Config {
    fn default() -> Self {
        Self::read(&mut Reader::empty())
    }
}

#[cfg(test)]
mod tests;
