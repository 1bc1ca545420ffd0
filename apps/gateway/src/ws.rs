//! The WebSocket side: `GET /ws`, or `CONNECT /ws` on a stream of HTTP/2, sub-protocols `stack.v1.json` and
//! `stack.v1.capnp`.
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

use std::pin::Pin;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header;
use hyper::ext::Protocol;
use hyper::upgrade::{OnUpgrade, Upgraded};
use stack_ipc::edge::Reattach;
use stack_types::{ErrorCode, Problem};
use tokio::runtime::Handle;
use tungstenite::handshake::server::create_response;

use crate::app::AppState;
use crate::http::problem::ApiError;
use crate::http::request_id::RequestId;
use crate::server::{self, Extended};

pub(crate) use at_edge::{Opened, away, serve as serve_at_edge};
pub(crate) use dialect::SUBPROTOCOLS;
pub(crate) use relayed::{Arrival, Arriving, Relayed};
pub(crate) use sockets::{Ending, Gone, Open, Place, Sockets, Summons, Way};

use connection::{Start, serve_relayed};
use credentials::Credentials;
use dialect::Dialect;

/// Serves a socket at an edge that was there before, from where it was.
pub(crate) fn reattach(app: &AppState, on: &Handle, arrived: Arrival, reattach: Reattach) {
    let (app, lifecycle) = (app.clone(), app.lifecycle().clone());
    let serving = async move {
        let dialect = dialect::named(reattach.subprotocol.as_deref());
        let start = if reattach.standing.is_empty() {
            let nobody = credentials::Credentials::None(Box::new(reattach.peer));
            Start::Anew(nobody, RequestId::default())
        } else {
            match app.auth().kept(&reattach.standing) {
                Ok(caller) => Start::Again(Box::new(caller), reattach.rooms),
                Err(problem) => {
                    let record = None;
                    let refused = credentials::Refused { problem, record };
                    let refused = credentials::Credentials::Refused(Box::new(refused));
                    Start::Anew(refused, RequestId::default())
                }
            }
        };
        Box::pin(serve_relayed(app, arrived.socket, start, dialect)).await;
        drop(arrived.place);
    };
    lifecycle.relayed.spawn_on(serving, on);
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
    let id = request.extensions().get::<RequestId>().cloned();
    let said = (credentials, id.unwrap_or_default());
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let arriving = request.extensions_mut().remove::<Arriving>();
    let extended = request.extensions_mut().remove::<Extended>();
    let (mut response, over) = match extended {
        None => (switch(request)?, None),
        Some(extended) => {
            check_extended(&request)?;
            let place = extended.place().ok_or_else(|| {
                Problem::new(ErrorCode::Unavailable, "too many connections are open")
            })?;
            (http::Response::new(()), Some(Box::new((extended, place))))
        }
    };
    if let Some(subprotocol) = subprotocol {
        response
            .headers_mut()
            .insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
    }
    if let Some(arrived) = arriving.and_then(|arriving| arriving.take()) {
        let lifecycle = app.lifecycle().clone();
        lifecycle.relayed.spawn(async move {
            let start = Start::Anew(said.0, said.1);
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
        let Some((socket, place)) = begin(app, upgraded, over, said, dialect) else {
            return;
        };
        socket.await;
        drop(place);
    });
    Ok(response.map(|()| Body::empty()))
}

/// What serves a connection that is a socket now, and its place among the open ones. Not in the task itself, which keeps
/// for as long as the socket whatever it has had to hold until then.
fn begin(
    app: AppState,
    upgraded: Upgraded,
    over: Option<Box<(Extended, server::Place)>>,
    said: (Credentials, RequestId),
    dialect: Dialect,
) -> Option<(Pin<Box<impl Future<Output = ()>>>, server::Place)> {
    let parts = match over {
        None => server::into_wire(upgraded),
        Some(over) => {
            let (extended, place) = *over;
            Ok((extended.into_wire(upgraded), Bytes::new(), place))
        }
    };
    match parts {
        Ok((wire, read_ahead, place)) => {
            let socket = connection::serve(app, wire, read_ahead, said, dialect);
            Some((Box::pin(socket), place))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection was gone before it was a socket: {error}");
            None
        }
    }
}

/// The answer to a client that leaves HTTP/1 on its connection.
fn switch(request: Request) -> Result<http::Response<()>, Problem> {
    let (parts, _) = request.into_parts();
    create_response(&http::Request::from_parts(parts, ()))
        .map_err(|_| Problem::new(ErrorCode::BadRequest, "this is not a WebSocket upgrade"))
}

/// Whether a client that opens a stream of HTTP/2 means a WebSocket that we know (RFC 8441).
pub(crate) fn check_extended(request: &Request) -> Result<(), Problem> {
    let protocol = request.extensions().get::<Protocol>();
    if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
        let detail = "only the protocol websocket is spoken on a stream";
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    let version = request.headers().get(header::SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        let detail = "the version of the WebSocket has to be 13";
        return Err(Problem::new(ErrorCode::BadRequest, detail));
    }
    Ok(())
}
