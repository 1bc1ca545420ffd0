//! What an idle connection costs the server: the growth of its memory between few and many of them.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::Server;
use crate::dialect::ROOM;
use crate::swarm::{Kind, Swarm};
use crate::usage;

/// How many connections.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Connections before the first look. They pay for what is shared.
    #[arg(long, default_value_t = 1000)]
    base: usize,
    /// Connections between the two looks.
    #[arg(long, default_value_t = 5000)]
    more: usize,
    /// Each subscribes to the room.
    #[arg(long)]
    subscribed: bool,
    /// Time between the last connection and the look.
    #[arg(long, default_value_t = 3000)]
    settle_ms: u64,
}

/// Runs the scenario.
///
/// # Errors
/// The server refuses a connection.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let mut swarm = server.swarm()?;
    let before = grow(server, &mut swarm, options, options.base)?;
    let after = grow(server, &mut swarm, options, options.more)?;
    Ok(json!({
        "rss_per_connection": after.saturating_sub(before) as f64 / options.more as f64,
        "rss_before": before,
        "rss_after": after,
        "connections": swarm.len(),
    }))
}

fn grow(server: &Server, swarm: &mut Swarm, options: &Options, count: usize) -> Result<u64> {
    swarm.gather(count, 200, options.subscribed.then_some(ROOM), |_| {
        Kind::Listener
    })?;
    let started = swarm.now();
    while swarm.now() - started < options.settle_ms * 1_000_000 {
        swarm.turn(Duration::from_millis(50), |_, _, _| {})?;
    }
    usage::rss(server.pid)
}
