//! The gateway: configuration, composition, HTTP and WebSocket. It is the only user of axum.

pub mod config;
