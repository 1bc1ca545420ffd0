//! What a reader gets, whatever its sink takes, whatever the bus loses and whoever restarts: every event once, in order.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod far_log;
mod lossy_bus;
mod model;
mod pipe;
mod property;
mod readers;
mod relays;
mod said;
mod step;
mod whereabouts;
