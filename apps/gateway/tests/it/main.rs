//! The gateway from the outside: each test starts one of its own and talks to it over TCP.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod accounts;
mod admin;
mod admission;
mod assets;
#[path = "../../../../crates/auth/tests/auth/authenticator.rs"]
mod authenticator;
mod authorisation;
mod backups;
mod bodies;
mod browsers;
mod certificates;
mod command;
mod csrf;
mod disabling;
mod edges;
mod erasure;
mod exchange;
mod health;
mod http2;
mod ipc;
mod keepers;
mod listening;
mod message_trace;
mod messages;
mod native;
mod oidc;
mod outside;
mod passkeys;
mod problems;
mod process;
mod programs;
mod rates;
mod reload;
mod retention;
mod room_tokens;
mod rooms;
mod second_factor;
mod seeing;
mod sessions;
mod setup;
mod shutdown;
mod sockets;
mod standing;
mod tls;
