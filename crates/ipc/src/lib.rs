//! Cap'n Proto over a local socket: the server's end, and a client.
//!
//! Cap'n Proto's own types stay inside. What is served is behind the traits of [`service`]; the client speaks the same
//! plain types.

mod error;
pub mod service;

pub use error::ClientError;
