//! Durable answers: many rooms, one sender in each, so many messages in flight; nobody listens.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Server;
use crate::dialect::{Heard, Template, number_of_id};
use crate::http;
use crate::latency::Latencies;
use crate::swarm::{Kind, Swarm};
use crate::usage::{self, Meter};

/// How the rooms are used.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rooms, each with one sender.
    #[arg(long, default_value_t = 100)]
    rooms: usize,
    /// Messages of each sender that are not answered yet.
    #[arg(long, default_value_t = 32)]
    in_flight: u64,
    /// Give every message an idempotency key.
    #[arg(long)]
    key: bool,
    /// Time before the measurement.
    #[arg(long, default_value_t = 1000)]
    warm_ms: u64,
    /// Time of the measurement.
    #[arg(long, default_value_t = 3000)]
    measure_ms: u64,
}

struct Sender {
    template: Template,
    sent: u64,
    answered: u64,
    /// When messages were sent, by number.
    sent_at: Vec<u64>,
}

/// Runs the scenario.
///
/// # Errors
/// The gateway refuses a message.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let token = server.token()?.context("only a gateway has rooms")?;
    let names: Vec<String> = (0..options.rooms)
        .map(|index| format!("bench-{index}"))
        .collect();
    for name in &names {
        http::make_room(server.address, &token, name)?;
    }
    let mut swarm = Swarm::new(server.address, server.dialect, Some(&token))?;
    swarm.gather(options.rooms, 50, None, |_| Kind::Speaker)?;
    let mut senders: Vec<Sender> = names
        .iter()
        .map(|name| Sender {
            template: Template::new(server.dialect, name, options.key),
            sent: 0,
            answered: 0,
            sent_at: vec![0; (options.in_flight * 4) as usize],
        })
        .collect();
    let mut latencies = Latencies::new()?;
    phase(
        &mut swarm,
        &mut senders,
        options,
        options.warm_ms,
        &mut latencies,
    )?;
    latencies.clear();
    swarm.stay_awake();
    let meter = Meter::start(server.pid, &swarm)?;
    let started = swarm.now();
    phase(
        &mut swarm,
        &mut senders,
        options,
        options.measure_ms,
        &mut latencies,
    )?;
    let seconds = (swarm.now() - started) as f64 / 1e9;
    let shares = meter.stop(&swarm)?;
    Ok(json!({
        "messages_per_s": latencies.len() as f64 / seconds,
        "latency": latencies.summary(),
        "p99_by_p50": latencies.at(0.99) / latencies.at(0.5),
        "shares": shares,
        "generator_was_the_limit": shares.generator_was_the_limit(),
        "rss_end": usage::rss(server.pid)?,
    }))
}

fn phase(
    swarm: &mut Swarm,
    senders: &mut [Sender],
    options: &Options,
    for_ms: u64,
    latencies: &mut Latencies,
) -> Result<()> {
    let started = swarm.now();
    let mut out = Vec::new();
    let mut touched: Vec<usize> = (0..senders.len()).collect();
    while swarm.now() - started < for_ms * 1_000_000 {
        for id in touched.drain(..) {
            let sender = &mut senders[id];
            let now = swarm.now();
            while sender.sent - sender.answered < options.in_flight {
                let slot = sender.sent as usize % sender.sent_at.len();
                sender.sent_at[slot] = now;
                sender.template.push(sender.sent, &mut out);
                sender.sent += 1;
            }
            if !out.is_empty() {
                swarm.send(id, &out);
                out.clear();
            }
        }
        let mut fault = None;
        swarm.turn(Duration::from_millis(5), |id, now, heard| match heard {
            Heard::Answer { id: request, .. } => {
                let sender = &mut senders[id];
                let Some(number) = number_of_id(request) else {
                    return;
                };
                let slot = number as usize % sender.sent_at.len();
                latencies.record(now.saturating_sub(sender.sent_at[slot]));
                sender.answered += 1;
                if touched.last() != Some(&id) {
                    touched.push(id);
                }
            }
            Heard::Refused(text) => {
                fault = Some(format!("refused: {}", String::from_utf8_lossy(text)))
            }
            Heard::Closed => fault = Some(format!("connection {id} was closed")),
            Heard::Message { .. } | Heard::Open => {}
        })?;
        if let Some(fault) = fault {
            bail!(fault);
        }
    }
    Ok(())
}
