//! Gateways that hold client connections for another one, the origin: both ends of it. `docs/adr/0009-edges.md` says why
//! it is done this way, and what order means what.

mod http;
mod node;
mod origin;
mod running;
mod tls;

use std::sync::Arc;

use stack_ipc::edge::EdgeServer;
use tokio_rustls::TlsAcceptor;

use crate::app::AppState;
use crate::error::StartError;
use crate::server::bind_tcp;

pub(crate) use node::{Entered, News, Node};
pub(crate) use origin::EdgeOrigin;
pub use running::RunningEdge;

/// Listens for edges on other machines, if the configuration says where.
pub(crate) async fn listen(app: &AppState, origin: EdgeOrigin) -> Result<(), StartError> {
    let settings = &app.config().edge;
    let Some(addr) = settings.listen else {
        return Ok(());
    };
    let tls = tls::server_config(settings).map_err(StartError::EdgeTls)?;
    let bound = bind_tcp(addr, &[]);
    let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (addr, listener) = bound.map_err(|source| StartError::Listen {
        endpoint: addr.to_string(),
        source,
    })?;
    let lifecycle = app.lifecycle().clone();
    let (draining, stopping) = (lifecycle.draining.clone(), lifecycle.stopping.clone());
    let (server, ended) = EdgeServer::start(Arc::new(origin), draining, stopping)?;
    lifecycle.serving.spawn(ended);
    tracing::info!(%addr, "edges are listened for on {addr}");
    let tls = TlsAcceptor::from(Arc::new(tls));
    let refused = app.measures().connections_refused();
    let accept = tls::accept(listener, tls, server, refused, lifecycle.clone());
    lifecycle.serving.spawn(accept);
    Ok(())
}
