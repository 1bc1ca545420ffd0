//! A long catch-up: one client is a million events behind, while others use the same room.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Server, fill};
use crate::dialect::{Heard, Template};
use crate::latency::Latencies;
use crate::swarm::{Kind, Swarm};
use crate::usage::{self, Meter};

/// Which room.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The room. It was filled before.
    #[arg(long, default_value = "big")]
    room: String,
    /// Messages a second that somebody sends and somebody else gets meanwhile.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
}

/// Runs the scenario.
///
/// # Errors
/// An event is missing, comes twice or out of order, or the catch-up does not end.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    const WITHIN_NS: u64 = 300_000_000_000;
    let head = fill::run(server, &options.room, 1)?;
    let mut swarm = Swarm::new(server.address, server.dialect, server.token()?.as_deref())?;
    let sender = swarm.gather(1, 1, None, |_| Kind::Speaker)?[0];
    let live = swarm.gather(1, 1, Some(&options.room), |_| Kind::Listener)?[0];
    let reader = swarm.gather(1, 1, None, |_| Kind::Listener)?[0];
    let mut template = Template::new(server.dialect, &options.room, false);
    usage::forget_peak(server.pid)?;
    let rss_before = usage::rss(server.pid)?;
    swarm.stay_awake();
    let meter = Meter::start(server.pid, &swarm)?;
    let started = swarm.now();
    swarm.send(reader, &server.dialect.subscribe(&options.room, Some(0)));
    let mut latencies = Latencies::new()?;
    let mut sent_at = Vec::new();
    // Other events than messages stand in a room as well (its creation), and are not read here.
    let (mut last, mut events, mut caught_up_at) = (0, 0_u64, None);
    while caught_up_at.is_none() {
        let now = swarm.now();
        let due = started + (sent_at.len() as f64 * 1e9 / options.rate) as u64;
        if now >= due {
            let mut out = Vec::new();
            template.push(sent_at.len() as u64, &mut out);
            sent_at.push(now);
            swarm.send(sender, &out);
        }
        let mut fault = None;
        swarm.turn(Duration::from_millis(2), |id, now, heard| match heard {
            Heard::Message { number, .. } if id == live => {
                latencies.record(now.saturating_sub(sent_at[number as usize]));
            }
            Heard::Message { seq, .. } => {
                if seq != last + 1 && last > 0 {
                    fault = Some(format!("event {seq} came after {last}"));
                }
                last = seq;
                events += 1;
                if seq >= head && caught_up_at.is_none() {
                    caught_up_at = Some(now);
                }
            }
            Heard::Refused(text) => {
                fault = Some(format!("refused: {}", String::from_utf8_lossy(text)))
            }
            Heard::Closed => fault = Some(format!("connection {id} was closed")),
            Heard::Answer { .. } | Heard::Open => {}
        })?;
        if let Some(fault) = fault {
            bail!(fault);
        }
        if swarm.now() - started > WITHIN_NS {
            bail!("the reader is at {last} of {head}");
        }
    }
    let shares = meter.stop(&swarm)?;
    let seconds = (swarm.now() - started) as f64 / 1e9;
    let rss_peak = usage::peak_rss(server.pid)?;
    Ok(json!({
        "seconds": seconds,
        "events": events,
        "events_per_s": events as f64 / seconds,
        "live_latency": latencies.summary(),
        "rss_before": rss_before,
        "rss_peak": rss_peak,
        "rss_growth": rss_peak.saturating_sub(rss_before),
        "shares": shares,
        "generator_was_the_limit": shares.generator_was_the_limit(),
    }))
}
