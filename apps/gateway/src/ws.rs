//! The WebSocket side: `GET /ws`, or `CONNECT /ws` on a stream of HTTP/2, sub-protocol `stack.v1.json`.
//!
//! The upgrade answers only what a browser may learn from a status: a request that is no upgrade, an origin that is
//! not ours. Whether the credentials are any good is told on the socket itself, since a browser cannot read a
//! refused upgrade. An upgraded socket is a task of its own, with the raw stream and nothing of HTTP left.

pub(crate) mod access;
mod closing;
mod connection;
mod credentials;
mod expiry;
mod heartbeat;
mod ingress;
mod replies;
mod requests;
mod socket;
mod sockets;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use stack_proto::SUBPROTOCOL;
use stack_types::{ErrorCode, Problem};
use tungstenite::handshake::server::create_response;

use crate::app::AppState;
use crate::http::problem::ApiError;
use crate::server::{self, Extended};

pub(crate) use sockets::Sockets;

/// Upgrades a request to a WebSocket.
pub(crate) async fn upgrade(State(app): State<AppState>, request: Request) -> Response {
    match accept(app, request) {
        Ok(response) => response,
        Err(problem) => ApiError::from(problem).into_response(),
    }
}

fn accept(app: AppState, mut request: Request) -> Result<Response, Problem> {
    let credentials = credentials::of(&app, &request)?;
    let subprotocol = offered_subprotocol(request.headers())?;
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let extended = request.extensions_mut().remove::<Extended>();
    let (mut response, over) = match extended {
        None => (switch(request)?, None),
        Some(extended) => {
            check_extended(&request)?;
            let place = extended.place().ok_or_else(|| {
                Problem::new(ErrorCode::Unavailable, "too many connections are open")
            })?;
            (http::Response::new(()), Some((extended, place)))
        }
    };
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
        let upgraded = match over {
            None => server::into_wire(upgraded),
            Some((extended, place)) => Ok((extended.into_wire(upgraded), Bytes::new(), place)),
        };
        let (wire, read_ahead, place) = match upgraded {
            Ok(parts) => parts,
            Err(error) => {
                tracing::debug!(%error, "a connection was gone before it was a socket: {error}");
                return;
            }
        };
        Box::pin(connection::serve(app, wire, read_ahead, credentials)).await;
        drop(place);
    });
    Ok(response.map(|()| Body::empty()))
}

/// The answer to a client that leaves HTTP/1 on its connection.
fn switch(request: Request) -> Result<http::Response<()>, Problem> {
    let (parts, _) = request.into_parts();
    create_response(&http::Request::from_parts(parts, ()))
        .map_err(|_| Problem::new(ErrorCode::BadRequest, "this is not a WebSocket upgrade"))
}

/// Whether a client that opens a stream of HTTP/2 means a WebSocket that we know (RFC 8441).
fn check_extended(request: &Request) -> Result<(), Problem> {
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

/// Our sub-protocol, if the client asks for one. Who asks for others only would not understand us.
fn offered_subprotocol(headers: &HeaderMap) -> Result<Option<HeaderValue>, Problem> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return Ok(None);
    }
    if offered.any(|name| name == SUBPROTOCOL) {
        return Ok(Some(HeaderValue::from_static(SUBPROTOCOL)));
    }
    Err(Problem::new(
        ErrorCode::BadRequest,
        "none of the offered sub-protocols is stack.v1.json",
    ))
}
