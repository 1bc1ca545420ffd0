//! The two sub-protocols. They differ in how a frame is written, not in what it means: what a client says becomes the
//! same request, and what it is told is said in JSON until the last moment (`translated.rs`).

use http::{HeaderMap, HeaderValue, header};
use stack_proto::capnp::{CAPNP_SUBPROTOCOL, read_client_frame};
use stack_proto::{Incoming, Request, SUBPROTOCOL, quick_send};
use stack_types::{ErrorCode, Problem};
use tungstenite::{Bytes, Utf8Bytes};

/// How the frames of a socket are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `stack.v1.json`: each text message is an object.
    Json,
    /// `stack.v1.capnp`: each binary message is an unpacked `ClientFrame` or `ServerFrame`.
    Capnp,
}

/// All of them, as `/version` lists them.
pub(crate) const SUBPROTOCOLS: [&str; 2] = [SUBPROTOCOL, CAPNP_SUBPROTOCOL];

/// A frame of a client as it came.
#[derive(Debug)]
pub(super) enum ClientFrame {
    /// Of a socket that speaks JSON.
    Json(Utf8Bytes),
    /// Of one that speaks Cap'n Proto.
    Capnp(Bytes),
}

/// A request with the id under which it is answered, or why it is refused.
pub(super) type Asked = (Option<u64>, Result<Request, Problem>);

impl ClientFrame {
    /// Reads it.
    ///
    /// # Errors
    /// With what is wrong with it when it is no frame at all.
    pub(super) fn read(&self) -> Result<Asked, String> {
        match self {
            Self::Json(text) => match quick_send(text) {
                Some((id, request)) => Ok((id, Ok(request))),
                None => {
                    let incoming = Incoming::parse(text).map_err(|fault| fault.to_string())?;
                    Ok((incoming.id, Request::parse(&incoming)))
                }
            },
            Self::Capnp(bytes) => read_client_frame(bytes).map_err(|fault| fault.to_string()),
        }
    }
}

/// The sub-protocol of this name, which was chosen before.
pub(super) fn named(name: Option<&str>) -> Dialect {
    match name {
        Some(CAPNP_SUBPROTOCOL) => Dialect::Capnp,
        _ => Dialect::Json,
    }
}

/// The first of our sub-protocols that the client offers, and the header that says so. Who offers none at all is
/// taken to speak JSON; who offers others only would not understand us.
///
/// # Errors
/// `bad_request` for others only.
pub(super) fn choose(headers: &HeaderMap) -> Result<(Dialect, Option<HeaderValue>), Problem> {
    let mut offered = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .peekable();
    if offered.peek().is_none() {
        return Ok((Dialect::Json, None));
    }
    let known = |name: &str| match name {
        SUBPROTOCOL => Some((Dialect::Json, SUBPROTOCOL)),
        CAPNP_SUBPROTOCOL => Some((Dialect::Capnp, CAPNP_SUBPROTOCOL)),
        _ => None,
    };
    let (dialect, name) = offered.find_map(known).ok_or_else(|| {
        Problem::new(
            ErrorCode::BadRequest,
            "none of the offered sub-protocols is stack.v1.json or stack.v1.capnp",
        )
    })?;
    Ok((dialect, Some(HeaderValue::from_static(name))))
}
