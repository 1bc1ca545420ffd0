//! The JSON frames of the sub-protocol `stack.v1.json`, and their conversion to and from the shared types.
//!
//! What a client sends is taken apart here, once: [`Incoming::parse`] says whether it is a frame at all, and
//! [`Request::parse`] whether its payload is what its type asks for. Sizes and rights are the rooms' business.

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
