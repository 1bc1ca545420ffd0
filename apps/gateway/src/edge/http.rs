//! Requests at an edge: what is about the edge itself is answered here, everything else by the origin.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{FutureExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use serde_json::json;
use stack_bus::Bus;
use stack_ipc::edge::{Broken, CallError, HttpRequest, HttpResponse};
use stack_types::{ErrorCode, Problem};
use tokio::sync::{mpsc, oneshot};

use super::node::Node;
use crate::http::headers::SecurityHeaders;
use crate::http::measures::{self, Teller};
use crate::http::problem::{self, ApiError};
use crate::http::request_id::{self, RequestId, X_REQUEST_ID};
use crate::http::trace::{self, AnsweredElsewhere};
use crate::http::{Peer, client_ip, crowded, leftover};
use crate::metrics::{Metrics, Reading};
use crate::reload::Live;
use crate::server::{self, Extended, Place};
use crate::ws::{self, Opened};

/// Headers that are about one connection, and no part of what is said on it. `Transfer-Encoding` goes along: nothing is
/// framed by it on the link, and it is what announces a body to the origin.
const OF_CONNECTION: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// So much of a body goes with its head, if it is there.
const TOGETHER_BYTES: usize = 64 * 1024;

/// What the requests of an edge reach.
pub(super) struct Edge {
    pub(super) node: Node,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) metrics: Metrics,
    pub(super) security_headers: SecurityHeaders,
    pub(super) live: Live,
    pub(super) measures_elsewhere: bool,
}

type Shared = State<Arc<Edge>>;

/// Everything an edge answers.
pub(super) fn router(edge: Arc<Edge>) -> Router {
    let own = Router::new()
        .route("/health", get(health))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/ping", get(async || "pong"))
        .merge(measures::route(
            edge.measures_elsewhere,
            &edge.live,
            teller(&edge),
        ))
        .layer(from_fn(problem::render))
        .layer(from_fn_with_state(edge.clone(), add_headers));
    Router::new()
        .merge(own)
        .route("/ws", get(upgrade).connect(upgrade).fallback(forward))
        .fallback(forward)
        .layer(from_fn_with_state(edge.clone(), refuse_crowded))
        .layer(from_fn(leftover::settle))
        .layer(from_fn_with_state(
            edge.metrics.clone(),
            trace::span_at_edge,
        ))
        .layer(from_fn(request_id::assign))
        .with_state(edge)
}

/// What is answered where the measures have addresses of their own.
pub(super) fn measures(edge: &Arc<Edge>) -> Router {
    measures::router(&edge.live, teller(edge))
}

async fn add_headers(State(edge): Shared, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    edge.security_headers.add_to(response.headers_mut());
    response
}

/// What an edge stands on.
fn checks(edge: &Edge) -> (bool, serde_json::Value) {
    let draining = edge.node.lifecycle().draining.is_cancelled();
    let parts = [
        ("origin", edge.node.upstream().link().is_some()),
        ("delivery", !edge.node.hub().has_failed()),
        ("accepting", !draining),
    ];
    let told = parts.map(|(name, works)| {
        let word = if works { "ok" } else { "failed" };
        (name.to_owned(), json!(word))
    });
    let pass = parts.iter().all(|(_, works)| *works);
    (pass, serde_json::Value::Object(told.into_iter().collect()))
}

async fn health(State(edge): Shared) -> Response {
    let (pass, checks) = checks(&edge);
    let status = if pass { "ok" } else { "degraded" };
    Json(json!({ "status": status, "checks": checks })).into_response()
}

async fn readyz(State(edge): Shared) -> Response {
    let (pass, checks) = checks(&edge);
    if pass {
        return Json(json!({ "status": "ready", "checks": checks })).into_response();
    }
    let detail = "something the gateway stands on does not work";
    ApiError::from(Problem::new(ErrorCode::Unavailable, detail))
        .with("checks", checks)
        .into_response()
}

fn teller(edge: &Arc<Edge>) -> Teller {
    let edge = edge.clone();
    Arc::new(move || {
        let lifecycle = edge.node.lifecycle();
        edge.metrics.text(&Reading {
            hub: edge.node.hub(),
            bus: &*edge.bus,
            own: None,
            connections: lifecycle.connections.len(),
            sockets: lifecycle.sockets.len(),
            relayed_sockets: 0,
        })
    })
}

async fn refuse_crowded(State(edge): Shared, request: Request, next: Next) -> Response {
    match crowded::check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => refusal(&edge, problem, &id_of(&request)),
    }
}

/// Has a request answered by the origin.
async fn forward(State(edge): Shared, request: Request) -> Response {
    let id = id_of(&request);
    match forwarded(&edge, request, &id).await {
        Ok(response) => response,
        Err(problem) => refusal(&edge, problem, &id),
    }
}

fn id_of(request: &Request) -> RequestId {
    let id = request.extensions().get::<RequestId>();
    id.cloned().unwrap_or_default()
}

/// A refusal of the edge's own.
fn refusal(edge: &Edge, problem: Problem, id: &RequestId) -> Response {
    let mut response = problem::written(ApiError::from(problem).into_response(), id);
    edge.security_headers.add_to(response.headers_mut());
    response
}

async fn forwarded(edge: &Edge, request: Request, id: &RequestId) -> Result<Response, Problem> {
    let (link, _) = edge.node.upstream().link().ok_or_else(ws::away)?;
    let (mut parts, mut body) = request.into_parts();
    for name in &OF_CONNECTION {
        parts.headers.remove(name);
    }
    // A client that waits to be asked for its body is asked by whoever reads it.
    let (beginning, is_whole) = if parts.headers.contains_key(header::EXPECT) {
        (Bytes::new(), body.is_end_stream())
    } else {
        what_is_here(&mut body).await?
    };
    let mut request = packed(&parts, beginning, id);
    if is_whole {
        return link.http(request).await.map(unpacked).map_err(told);
    }
    let (more, asked) = mpsc::channel(1);
    request.more = Some(more);
    let response = tokio::select! {
        biased;
        response = link.http(request) => response,
        never = give_rest(body, asked) => match never {},
    };
    response.map(unpacked).map_err(told)
}

/// As much of a body as has come with its head, and whether that is all of it.
async fn what_is_here(body: &mut Body) -> Result<(Bytes, bool), Problem> {
    let mut here = Vec::new();
    while here.len() < TOGETHER_BYTES {
        if body.is_end_stream() {
            return Ok((here.into(), true));
        }
        match body.frame().now_or_never() {
            Some(Some(Ok(frame))) => {
                here.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()))
            }
            Some(None) => return Ok((here.into(), true)),
            // Said once: the next look would take it for the end.
            Some(Some(Err(_))) => {
                let detail = "the body ended too early";
                return Err(Problem::new(ErrorCode::BadRequest, detail));
            }
            None => break,
        }
    }
    Ok((here.into(), false))
}

/// Gives the rest of a body as it is asked for.
async fn give_rest(
    mut body: Body,
    mut asked: mpsc::Receiver<oneshot::Sender<Option<Result<Bytes, Broken>>>>,
) -> Infallible {
    while let Some(asked) = asked.recv().await {
        let part = match body.frame().await {
            None => None,
            Some(Ok(frame)) => Some(Ok(frame.into_data().unwrap_or_default())),
            Some(Err(_)) => Some(Err(Broken)),
        };
        let _ = asked.send(part);
    }
    std::future::pending().await
}

/// What a client is told of a request that came to nothing.
fn told(error: CallError) -> Problem {
    match error {
        CallError::Lost => ws::away(),
        CallError::Refused(problem) => problem,
    }
}

/// The other end of the connection; the server puts it into every request.
fn peer_of(parts: &http::request::Parts) -> SocketAddr {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or(([0, 0, 0, 0], 0).into(), |peer| peer.0)
}

fn packed(parts: &http::request::Parts, body: Bytes, id: &RequestId) -> HttpRequest {
    let headers = parts.headers.iter();
    let mut headers: Vec<_> = headers
        .filter(|(name, _)| **name != X_REQUEST_ID)
        .map(|(name, value)| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            (name.as_str().to_owned(), value)
        })
        .collect();
    // The same at both ends, so that their logs speak of the same request.
    let id = Bytes::copy_from_slice(id.as_str().as_bytes());
    headers.push((X_REQUEST_ID.as_str().to_owned(), id));
    let target = parts.uri.path_and_query();
    HttpRequest {
        peer: peer_of(parts),
        method: parts.method.as_str().to_owned(),
        target: target.map_or("/", |target| target.as_str()).to_owned(),
        headers,
        body,
        more: None,
        socket: None,
    }
}

fn unpacked(response: HttpResponse) -> Response {
    let body = match response.rest {
        None => Body::from(response.body),
        Some(rest) => {
            let first = Some(Ok(response.body));
            let parts = stream::unfold((first, rest), |(first, mut rest)| async move {
                let part = match first {
                    Some(part) => Some(part),
                    None => rest.recv().await,
                };
                part.map(|part| (part, (None, rest)))
            });
            Body::from_stream(parts)
        }
    };
    let mut answer = Response::new(body);
    answer.extensions_mut().insert(AnsweredElsewhere);
    *answer.status_mut() =
        StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_maybe_shared(value),
        ) {
            answer.headers_mut().append(name, value);
        }
    }
    answer
}

/// Upgrades a request to a WebSocket, if the origin does.
async fn upgrade(State(edge): Shared, mut request: Request) -> Response {
    let id = id_of(&request);
    let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let over = match on_stream(&mut request) {
        Ok(over) => over,
        Err(problem) => return refusal(&edge, problem, &id),
    };
    let entered = edge.node.upstream().enter();
    let (Some(on_upgrade), Some((entered, link))) = (on_upgrade, entered) else {
        // Without a connection to upgrade it is for the origin to say what is wrong with it.
        return forward(State(edge), request).await;
    };
    let (parts, _) = request.into_parts();
    let has_credentials = has_credentials(&parts);
    let peer = peer_of(&parts);
    let ip = client_ip::client_ip(
        peer.ip(),
        &parts.headers,
        &edge.live.trusted_proxies().now(),
    );
    let mut packed = packed(&parts, Bytes::new(), &id);
    packed.socket = Some(entered.id());
    let response = match link.http(packed).await {
        Ok(response) => response,
        Err(error) => return refusal(&edge, told(error), &id),
    };
    if response.status != StatusCode::SWITCHING_PROTOCOLS.as_u16() {
        return unpacked(response);
    }
    let mut response = unpacked(response);
    if over.is_some() {
        // Nothing leaves HTTP/2 on its connection.
        *response.status_mut() = StatusCode::OK;
        for name in [
            header::CONNECTION,
            header::UPGRADE,
            header::SEC_WEBSOCKET_ACCEPT,
        ] {
            response.headers_mut().remove(name);
        }
    }
    tracing::debug!(socket = entered.id(), "socket opened");
    let limits = edge.node.upstream().link().map(|(_, limits)| limits);
    let opened = Opened {
        entered,
        link,
        subprotocol: subprotocol(response.headers()),
        has_credentials,
        ip,
        frame_bytes: limits.map_or(64 * 1024, |limits| limits.frame_bytes),
    };
    let node = edge.node.clone();
    edge.node.lifecycle().sockets.spawn(async move {
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
        Box::pin(ws::serve_at_edge(node, wire, read_ahead, opened)).await;
        drop(place);
    });
    response
}

/// If the request opens a stream of HTTP/2 as a WebSocket: what makes the stream one, and its place. The origin is asked as
/// one asks on HTTP/1, where it upgrades.
fn on_stream(request: &mut Request) -> Result<Option<(Extended, Place)>, Problem> {
    let Some(extended) = request.extensions_mut().remove::<Extended>() else {
        return Ok(None);
    };
    ws::check_extended(request)?;
    let full = || Problem::new(ErrorCode::Unavailable, "too many connections are open");
    let place = extended.place().ok_or_else(full)?;
    *request.method_mut() = Method::GET;
    let asked = [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        // Only its answer would tell whether both ends mean a WebSocket; here they have said so.
        (header::SEC_WEBSOCKET_KEY, "AAAAAAAAAAAAAAAAAAAAAA=="),
    ];
    for (name, value) in asked {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(name, value);
    }
    Ok(Some((extended, place)))
}

fn subprotocol(headers: &HeaderMap) -> Option<String> {
    let chosen = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?;
    chosen.to_str().ok().map(str::to_owned)
}

/// Whether an upgrade says who it is, perhaps.
fn has_credentials(parts: &http::request::Parts) -> bool {
    let has_ticket = |query: &str| query.split('&').any(|pair| pair.starts_with("ticket="));
    parts.headers.contains_key(header::AUTHORIZATION)
        || parts.headers.contains_key(header::COOKIE)
        || parts.uri.query().is_some_and(has_ticket)
}
