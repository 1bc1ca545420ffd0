//! The WebSocket side: `GET /ws`, sub-protocols `stack.v1.json` and `stack.v1.capnp`.
//!
//! The upgrade answers only what a browser may learn from a status: a request that is no upgrade, an origin that is
//! not ours. Whether the credentials are any good is told on the socket itself, since a browser cannot read a
//! refused upgrade. An upgraded socket is a task of its own, with the raw stream and nothing of HTTP left.

pub(crate) mod access;
mod answers;
mod at_edge;
mod closing;
mod connection;
mod credentials;
mod dialect;
mod expiry;
mod heartbeat;
mod ingress;
mod relayed;
mod replies;
mod requests;
mod socket;
mod sockets;
mod translated;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header;
use hyper::upgrade::OnUpgrade;
use stack_ipc::edge::Reattach;
use stack_types::{ErrorCode, Problem};
use tokio::runtime::Handle;
use tungstenite::handshake::server::create_response;

use crate::app::AppState;
use crate::http::problem::ApiError;
use crate::server;

pub(crate) use at_edge::{Opened, away, serve as serve_at_edge};
pub(crate) use dialect::SUBPROTOCOLS;
pub(crate) use relayed::{Arrival, Arriving, Relayed};
pub(crate) use sockets::{Place, Sockets, Summons};

use connection::{Start, serve_relayed};

/// Serves a socket at an edge that was there before, from where it was.
pub(crate) fn reattach(app: &AppState, on: &Handle, arrived: Arrival, reattach: Reattach) {
    let (app, lifecycle) = (app.clone(), app.lifecycle().clone());
    let serving = async move {
        let dialect = dialect::named(reattach.subprotocol.as_deref());
        let start = if reattach.standing.is_empty() {
            Start::Anew(credentials::Credentials::None(Box::new(reattach.peer)))
        } else {
            match app.auth().kept(&reattach.standing) {
                Ok(caller) => Start::Again(Box::new(caller), reattach.rooms),
                Err(problem) => {
                    let record = None;
                    let refused = credentials::Refused { problem, record };
                    Start::Anew(credentials::Credentials::Refused(Box::new(refused)))
                }
            }
        };
        Box::pin(serve_relayed(app, arrived.socket, start, dialect)).await;
        drop(arrived.place);
    };
    lifecycle.sockets.spawn_on(serving, on);
}

/// Upgrades a request to a WebSocket.
pub(crate) async fn upgrade(State(app): State<AppState>, request: Request) -> Response {
    match accept(app, request) {
        Ok(response) => response,
        Err(problem) => ApiError::from(problem).into_response(),
    }
}

fn accept(app: AppState, mut request: Request) -> Result<Response, Problem> {
    let credentials = credentials::of(&app, &request)?;
    let (dialect, subprotocol) = dialect::choose(request.headers())?;
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let arriving = request.extensions_mut().remove::<Arriving>();
    let (parts, _) = request.into_parts();
    let mut response = create_response(&http::Request::from_parts(parts, ()))
        .map_err(|_| Problem::new(ErrorCode::BadRequest, "this is not a WebSocket upgrade"))?;
    if let Some(subprotocol) = subprotocol {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    if let Some(arrived) = arriving.and_then(|arriving| arriving.take()) {
        let lifecycle = app.lifecycle().clone();
        lifecycle.sockets.spawn(async move {
            let start = Start::Anew(credentials);
            Box::pin(serve_relayed(app, arrived.socket, start, dialect)).await;
            drop(arrived.place);
        });
        return Ok(response.map(|()| Body::empty()));
    }
    let on_upgrade = on_upgrade
        .ok_or_else(|| Problem::new(ErrorCode::BadRequest, "this connection cannot be upgraded"))?;
    let lifecycle = app.lifecycle().clone();
    lifecycle.sockets.spawn(async move {
        // The client went away before the upgrade was through.
        let Ok(upgraded) = on_upgrade.await else {
            return;
        };
        let (wire, read_ahead, place) = match server::into_wire(upgraded) {
            Ok(parts) => parts,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it was a socket: {error}");
                return;
            }
        };
        Box::pin(connection::serve(
            app,
            wire,
            read_ahead,
            credentials,
            dialect,
        ))
        .await;
        drop(place);
    });
    Ok(response.map(|()| Body::empty()))
}
