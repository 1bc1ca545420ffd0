//! The WebSocket side: `GET /ws`, sub-protocols `stack.v1.json` and `stack.v1.capnp`.
//!
//! The upgrade answers only what a browser may learn from a status: a request that is no upgrade, an origin that is
//! not ours. Whether the credentials are any good is told on the socket itself, since a browser cannot read a
//! refused upgrade. An upgraded socket is a task of its own, with the raw stream and nothing of HTTP left.

pub(crate) mod access;
mod closing;
mod connection;
mod credentials;
mod dialect;
mod expiry;
mod heartbeat;
mod ingress;
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
use stack_types::{ErrorCode, Problem};
use tungstenite::handshake::server::create_response;

use crate::app::AppState;
use crate::http::problem::ApiError;
use crate::server;

pub(crate) use dialect::SUBPROTOCOLS;
pub(crate) use sockets::{Place, Sockets, Summons};

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
    let (parts, _) = request.into_parts();
    let mut response = create_response(&http::Request::from_parts(parts, ()))
        .map_err(|_| Problem::new(ErrorCode::BadRequest, "this is not a WebSocket upgrade"))?;
    let on_upgrade = on_upgrade
        .ok_or_else(|| Problem::new(ErrorCode::BadRequest, "this connection cannot be upgraded"))?;
    if let Some(subprotocol) = subprotocol {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }

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
