//! The local socket: what programs on this machine, edges and the command line reach the gateway by.
//!
//! `stack_ipc` speaks Cap'n Proto on a thread of its own; here is what it serves. Programs get what a socket's client
//! gets, by the same rights and rates.

pub(crate) mod admin;
mod feed;
mod memory;
mod service;
mod session;

use std::sync::Arc;

use stack_ipc::edge::Origin;
use stack_ipc::{Server, ServerConfig, ServerError};

use crate::app::AppState;
use service::GatewayService;

/// Listens on the local socket, if the configuration has one. It ends with the lifecycle of the gateway.
pub(crate) fn start(app: &AppState, origin: Arc<dyn Origin>) -> Result<(), ServerError> {
    let Some(path) = app.config().ipc_path() else {
        return Ok(());
    };
    let lifecycle = app.lifecycle();
    let mut limits = app.config().ipc.limits;
    // A client's longest frame comes up from an edge whole, among others.
    limits.message_bytes = limits.message_bytes.max(2 * app.limits().frame_bytes);
    let config = ServerConfig {
        path,
        limits,
        origin: Some(origin),
        draining: lifecycle.draining.clone(),
        stopping: lifecycle.stopping.clone(),
    };
    let server = Server::start(config, Arc::new(GatewayService::new(app.clone())))?;
    lifecycle.serving.spawn(server.ended());
    Ok(())
}
