//! The gateway from the outside: each test starts one of its own and talks to it over TCP.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod accounts;
mod admin;
mod assets;
mod bodies;
mod browsers;
mod csrf;
mod health;
mod messages;
mod problems;
mod process;
mod rates;
mod rooms;
mod sessions;
mod shutdown;
mod sockets;
mod tls;
