//! A soak: an open loop for minutes, looked at window by window. Memory and latencies have to stay where they are,
//! also while clients come and go.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Server, fill};
use crate::dialect::{Heard, ROOM, Template};
use crate::latency::Latencies;
use crate::swarm::Kind;
use crate::usage;

/// How long and how hard.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Subscribers that stay.
    #[arg(long, default_value_t = 200)]
    subscribers: usize,
    /// Messages a second.
    #[arg(long, default_value_t = 250.0)]
    rate: f64,
    /// Clients a second that come with a cursor, catch up and leave.
    #[arg(long, default_value_t = 5.0)]
    visits: f64,
    /// Seconds in a window.
    #[arg(long, default_value_t = 15)]
    window_s: u64,
}

/// A visitor reads so many events and leaves.
const VISIT: u64 = 200;

/// Runs the scenario.
///
/// # Errors
/// An event is missing, comes twice or out of order.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let base = fill::run(server, ROOM, VISIT)?;
    let mut swarm = server.swarm()?;
    let readers = swarm.gather(options.subscribers, 100, Some(ROOM), |_| Kind::Listener)?;
    let sender = swarm.gather(1, 1, None, |_| Kind::Speaker)?[0];
    let first_visitor = swarm.len();
    let mut next = vec![base + 1; readers.len()];
    // Where each visitor is, and where it leaves.
    let mut visitors: Vec<(u64, u64)> = Vec::new();
    let mut template = Template::new(server.dialect, ROOM, false);
    let mut due_at: Vec<u64> = Vec::new();
    let mut latencies = Latencies::new()?;
    let mut windows = Vec::new();
    let started = swarm.now();
    let ends = started + (options.minutes * 60e9) as u64;
    let (mut window_ends, mut answered) = (started + options.window_s * 1_000_000_000, 0_u64);
    let (mut greeted, mut leaving) = (Vec::new(), Vec::new());
    while swarm.now() < ends {
        let now = swarm.now();
        let mut out = Vec::new();
        loop {
            let due = started + (due_at.len() as f64 * 1e9 / options.rate) as u64;
            if due > now {
                break;
            }
            template.push(due_at.len() as u64, &mut out);
            due_at.push(due);
        }
        swarm.send(sender, &out);
        if (visitors.len() as f64) < (now - started) as f64 / 1e9 * options.visits {
            swarm.open(Kind::Listener)?;
            let from = base + answered - VISIT.min(base + answered);
            visitors.push((from + 1, from + VISIT));
        }
        let mut fault = None;
        swarm.turn(Duration::from_millis(1), |id, now, heard| match heard {
            Heard::Open => greeted.push(id),
            Heard::Message { number, seq } => {
                let visitor = id
                    .checked_sub(first_visitor)
                    .and_then(|index| visitors.get_mut(index));
                let expected = match visitor {
                    Some((next, last)) => {
                        if seq == *last {
                            leaving.push(id);
                        }
                        next
                    }
                    None => {
                        latencies.record(now.saturating_sub(due_at[number as usize]));
                        &mut next[id]
                    }
                };
                if seq != *expected {
                    fault = Some(format!(
                        "connection {id} got event {seq} and not {expected}"
                    ));
                }
                *expected = seq + 1;
            }
            Heard::Answer { .. } if id == sender => answered += 1,
            Heard::Answer { .. } => {}
            Heard::Refused(text) => {
                fault = Some(format!("refused: {}", String::from_utf8_lossy(text)))
            }
            Heard::Closed => fault = Some(format!("connection {id} was closed")),
        })?;
        if let Some(fault) = fault {
            bail!(fault);
        }
        for id in greeted.drain(..) {
            let (next, _) = visitors[id - first_visitor];
            let subscribe = server.dialect.subscribe(ROOM, Some(next - 1));
            swarm.send(id, &subscribe);
        }
        for id in leaving.drain(..) {
            swarm.close(id);
        }
        if swarm.now() >= window_ends {
            window_ends += options.window_s * 1_000_000_000;
            windows.push(json!({
                "at_s": (swarm.now() - started) / 1_000_000_000,
                "p50_us": latencies.at(0.5),
                "p99_us": latencies.at(0.99),
                "rss": usage::rss(server.pid)?,
            }));
            latencies.clear();
        }
    }
    Ok(json!({
        "windows": windows,
        "messages": due_at.len(),
        "visits": visitors.len(),
    }))
}
