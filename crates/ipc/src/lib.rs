//! Cap'n Proto over a local socket: the server's end, and a client.
//!
//! Cap'n Proto's own types stay inside. What is served is behind the traits of [`service`]; the client speaks the same
//! plain types.

mod client;
pub mod edge;
mod error;
mod ledger;
mod listener;
mod refusal;
mod rpc;
mod server;
pub mod service;
mod wire;

pub use client::{AdminClient, Client, ClientConfig, Delivery, EventPage, Subscription, Who};
pub use error::ClientError;
pub use listener::BindError;
pub use server::{IpcLimits, Server, ServerConfig, ServerError};

/// An event as the JSON frame that the protocol has for it.
#[must_use]
pub fn event_json(event: &stack_types::Event) -> Vec<u8> {
    use stack_types::EventCodec as _;
    let mut json = Vec::new();
    stack_proto::JsonCodec.encode(event, &mut json);
    json
}
