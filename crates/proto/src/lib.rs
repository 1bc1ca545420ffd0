//! The JSON frames of the sub-protocol `stack.v1.json`, the messages of `schema/`, and the conversion of both to and
//! from the shared types.
//!
//! What a client sends is taken apart here, once: [`Incoming::parse`] says whether it is a frame at all, and
//! [`Request::parse`] whether its payload is what its type asks for. Sizes and rights are the rooms' business.

pub mod capnp;
mod codec;
mod fields;
mod incoming;
mod outgoing;
mod quick;
mod request;

pub use codec::JsonCodec;
pub use incoming::{Incoming, Malformed};
pub use outgoing::{error, ok, pong, push_sent};
pub use quick::quick_send;
pub use request::{Request, SendMessage};

/// The name of the sub-protocol.
pub const SUBPROTOCOL: &str = "stack.v1.json";

/// The code of `schema/gateway.capnp`.
pub mod gateway_capnp {
    #![allow(
        clippy::all,
        clippy::unimplemented,
        clippy::unwrap_used,
        clippy::allow_attributes,
        missing_docs,
        unreachable_pub,
        unsafe_code,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/gateway_capnp.rs"));
}

/// The code of `schema/edge.capnp`.
pub mod edge_capnp {
    #![allow(
        clippy::all,
        clippy::unimplemented,
        clippy::unwrap_used,
        clippy::allow_attributes,
        missing_docs,
        unreachable_pub,
        unsafe_code,
        reason = "generated"
    )]
    include!(concat!(env!("OUT_DIR"), "/edge_capnp.rs"));
}
