//! Why a gateway does not start.

use std::io;
use std::path::PathBuf;

use stack_auth::AuthError;
use stack_bus::{InvalidTopic, OpenBusError, SubscribeError};
use stack_delivery::HubError;
use stack_storage::OpenError;
use stack_types::Problem;

/// The gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {endpoint}")]
    Listen {
        /// The address or socket.
        endpoint: String,
        /// What the system says.
        source: io::Error,
    },
    /// Log lines cannot go where the configuration says.
    #[error("log_dir: cannot log into {path}")]
    LogFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// There can be no more threads.
    #[error("cannot start the thread that writes the log")]
    LogThread(#[source] io::Error),
    /// The data folder cannot be made.
    #[error("cannot make the data folder {path}")]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database file cannot be made.
    #[error("cannot make the database file {path}")]
    DataFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Certificates that are issued cannot be kept.
    #[error("cannot make the folder of certificates {path} and keep it from others")]
    AcmeFolder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open the store")]
    Store(#[from] OpenError),
    /// The bus cannot be opened.
    #[error("cannot open the bus")]
    OpenBus(#[from] OpenBusError),
    /// The bus cannot be listened to.
    #[error("cannot listen to the bus")]
    Bus(#[from] SubscribeError),
    /// Events cannot be handed out.
    #[error("cannot start delivery")]
    Delivery(#[from] HubError),
    /// The keys cannot be had, or a setting of accounts makes no sense.
    #[error("accounts cannot be served")]
    Auth(#[from] AuthError),
    /// Requests to identity providers cannot be sent.
    #[error("cannot set up requests to identity providers")]
    Outgoing(#[from] reqwest::Error),
    /// The link for the first run cannot be made.
    #[error("the first run cannot be offered: {0}")]
    Setup(Problem),
    /// The local socket cannot be served.
    #[error(
        "the local socket cannot be served (ipc.path says where it is, ipc.enabled = false leaves it out)"
    )]
    Ipc(#[from] stack_ipc::ServerError),
    /// An edge does not know its origin.
    #[error("an edge needs an origin: --origin, or edge.origin")]
    NoOrigin,
    /// An edge hears no events.
    #[error(
        "an edge needs bus.subscribe: the address at which its origin publishes (bus.url there)"
    )]
    DeafEdge,
    /// The certificates of an edge or its origin are no good.
    #[error("the way between edge and origin cannot be protected: {0}")]
    EdgeTls(String),
    /// There can be no thread for the link.
    #[error("cannot keep a link to the origin")]
    EdgeClient(#[source] stack_ipc::edge::EdgeClientError),
    /// There can be no thread for edges.
    #[error("cannot serve edges")]
    EdgeServer(#[from] stack_ipc::edge::EdgeServerError),
    /// Where backups go cannot be used.
    #[error("backups cannot be made")]
    Backups(#[source] crate::BackupError),
    /// A measurement of ours is not well formed.
    #[error("the metrics cannot be set up")]
    Metrics(#[from] prometheus::Error),
    /// A topic of ours is none.
    #[error("a topic of the bus is not well formed")]
    Topic(#[from] InvalidTopic),
}
