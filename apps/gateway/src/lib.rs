//! The gateway: configuration, composition, HTTP and WebSocket. It is the only composition root, and the only user of
//! axum. [`Gateway::start`] is the way in, for the command line and for tests alike.

mod app;
mod assets;
mod backup;
#[cfg(feature = "with-zmq")]
pub mod bus_keys;
pub mod cli;
pub mod command;
pub mod config;
mod edge;
mod error;
mod exchange;
mod gateway;
mod http;
mod ipc;
mod last_seen;
mod lifecycle;
mod message_trace;
mod metrics;
mod networks;
pub mod offline;
mod otlp;
mod readiness;
mod reload;
mod revocation;
mod routes;
mod server;
pub mod signals;
mod stats;
mod sweeper;
pub mod systemd;
pub mod telemetry;
mod tls;
mod ws;

pub use assets::{ClientFile, ClientFiles};
pub use backup::BackupError;
pub use edge::RunningEdge;
pub use error::StartError;
pub use gateway::{Gateway, Inherited, RunningGateway};
pub use reload::Change;
pub use tls::{AcmeSettings, Spoken, Tls, TlsFault, TlsSettings, TlsVersion};
