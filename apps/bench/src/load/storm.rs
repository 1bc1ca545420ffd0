//! A storm: thousands of clients come back at once, each with a cursor behind. All have to get everything, in order
//! and once, while the room goes on; and the server must not stop taking in who knocks.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{Server, fill};
use crate::dialect::{Heard, ROOM, Template};
use crate::latency::Latencies;
use crate::swarm::Kind;
use crate::usage::{self, Meter};

/// How big the storm is.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Clients.
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Events each is behind.
    #[arg(long, default_value_t = 500)]
    behind: u64,
    /// Messages a second that somebody sends meanwhile.
    #[arg(long, default_value_t = 5.0)]
    rate: f64,
}

#[derive(Clone, Copy, Default)]
struct Client {
    begun_at: u64,
    open_at: u64,
    /// The next event.
    next: u64,
    caught_up_at: u64,
}

/// Runs the scenario.
///
/// # Errors
/// An event is missing, comes twice or out of order, or the storm does not end.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    const WITHIN_NS: u64 = 120_000_000_000;
    let head = fill::run(server, ROOM, options.behind + 100)?;
    let mut swarm = server.swarm()?;
    let sender = swarm.gather(1, 1, None, |_| Kind::Speaker)?[0];
    let mut template = Template::new(server.dialect, ROOM, false);
    let subscribe = server.dialect.subscribe(ROOM, Some(head - options.behind));
    usage::forget_peak(server.pid)?;
    let rss_before = usage::rss(server.pid)?;
    swarm.stay_awake();
    let meter = Meter::start(server.pid, &swarm)?;
    let started = swarm.now();
    let mut clients = vec![
        Client {
            next: head - options.behind + 1,
            ..Client::default()
        };
        options.clients
    ];
    for client in &mut clients {
        client.begun_at = swarm.now();
        swarm.open(Kind::Listener)?;
    }
    let first = sender + 1;
    let (mut open, mut caught_up, mut sent, mut last) = (0, 0, 0_u64, head);
    let (mut longest_gap, mut last_open) = (0, started);
    let mut ended_at = None;
    let mut greeted = Vec::new();
    while ended_at.is_none() {
        let now = swarm.now();
        let due = started + (sent as f64 * 1e9 / options.rate) as u64;
        if caught_up < options.clients && now >= due {
            let mut out = Vec::new();
            template.push(sent, &mut out);
            swarm.send(sender, &out);
            sent += 1;
        }
        let mut fault = None;
        swarm.turn(Duration::from_millis(5), |id, now, heard| match heard {
            Heard::Open => {
                clients[id - first].open_at = now;
                longest_gap = longest_gap.max(now - last_open);
                last_open = now;
                open += 1;
                greeted.push(id);
            }
            Heard::Message { seq, .. } => {
                let client = &mut clients[id - first];
                if seq != client.next {
                    fault = Some(format!(
                        "client {id} got event {seq} and not {}",
                        client.next
                    ));
                }
                client.next = seq + 1;
                if seq == head {
                    client.caught_up_at = now;
                    caught_up += 1;
                }
            }
            Heard::Answer { frame, .. } if id == sender => last = last.max(fill::seq_in(frame)),
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
            swarm.send(id, &subscribe);
        }
        // Everybody has what was sent meanwhile as well: the seam between the log and the live stream is in it.
        if caught_up == options.clients
            && last == head + sent
            && clients.iter().all(|client| client.next == last + 1)
        {
            ended_at = Some(swarm.now());
        }
        if swarm.now() - started > WITHIN_NS {
            bail!(
                "{open} of {} clients were let in and {caught_up} caught up",
                options.clients
            );
        }
    }
    let shares = meter.stop(&swarm)?;
    let mut opening = Latencies::new()?;
    let mut catching_up = Latencies::new()?;
    for client in &clients {
        opening.record(client.open_at - client.begun_at);
        catching_up.record(client.caught_up_at - client.begun_at);
    }
    Ok(json!({
        "seconds": ended_at.map(|at| (at - started) as f64 / 1e9),
        "all_open_s": (last_open - started) as f64 / 1e9,
        "longest_accept_gap_s": longest_gap as f64 / 1e9,
        "opening": opening.summary(),
        "catching_up": catching_up.summary(),
        "events": clients.len() as u64 * options.behind,
        "sent_meanwhile": sent,
        "rss_before": rss_before,
        "rss_peak": usage::peak_rss(server.pid)?,
        "shares": shares,
        "generator_was_the_limit": shares.generator_was_the_limit(),
    }))
}
