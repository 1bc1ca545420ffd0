//! One room, many subscribers: closed loop with so many messages in flight, open loop at a rate, or only listening;
//! with or without readers that have stalled.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::Server;
use crate::dialect::{BODY_BYTES, Heard, ROOM, Template};
use crate::latency::Latencies;
use crate::swarm::{ConnId, Kind, Swarm};
use crate::usage::{self, Meter};

/// Messages whose time is remembered. More are never on their way.
const RING: usize = 1 << 14;

/// Where only answers are waited for, no subscriber may be further behind than this: without it a server that
/// answers before it delivers would be measured by how much it hoards.
const MAX_AHEAD: u64 = 4096;

/// Every tenth reader is one that may stall.
const SLOW_OF: usize = 10;

/// When a message is no longer in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Window {
    /// When its sender has its answer.
    Answered,
    /// When every subscriber has it.
    Delivered,
}

/// How the room is used.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Subscribers of the room.
    #[arg(long, default_value_t = 1000)]
    subscribers: usize,
    /// Messages in flight, for the closed loop.
    #[arg(long, default_value_t = 32)]
    in_flight: u64,
    /// When a message is no longer in flight.
    #[arg(long, value_enum, default_value = "answered")]
    window: Window,
    /// Messages a second, for the open loop.
    #[arg(long)]
    rate: Option<f64>,
    /// Send nothing: the server does so by itself.
    #[arg(long)]
    listen: bool,
    /// Messages sent at full speed before anything is measured, to fill the sockets of those who stall.
    #[arg(long, default_value_t = 0)]
    flood: u64,
    /// One subscriber in ten does not read. Without it they do, but are not measured either once there is a flood.
    #[arg(long)]
    stall: bool,
    /// Time before the measurement.
    #[arg(long, default_value_t = 1000)]
    warm_ms: u64,
    /// Time of the measurement.
    #[arg(long, default_value_t = 3000)]
    measure_ms: u64,
}

impl Options {
    /// So many subscribers, and messages at a rate.
    pub(crate) fn open(subscribers: usize, rate: f64, measure_ms: u64) -> Self {
        Self {
            subscribers,
            in_flight: 32,
            window: Window::Answered,
            rate: Some(rate),
            listen: false,
            flood: 0,
            stall: false,
            warm_ms: 1000,
            measure_ms,
        }
    }
}

/// The room while it is used.
struct Room {
    template: Template,
    sender: ConnId,
    /// The next message's number, for each connection.
    expected: Vec<u64>,
    /// Connections that are measured.
    watched: Vec<bool>,
    /// Readers who take what comes.
    readers: usize,
    /// When messages were sent or due, by number.
    began_at: Vec<u64>,
    /// How many readers have a message, by number.
    taken: Vec<u32>,
    sent: u64,
    answered: u64,
    /// Every reader has all messages below.
    complete: u64,
    deliveries: u64,
    latencies: Latencies,
    /// How late the generator itself was, in the open loop.
    lateness: Latencies,
    fault: Option<String>,
}

/// What drives a phase.
#[derive(Clone, Copy)]
enum Pace {
    Closed { in_flight: u64, window: Window },
    Open { interval_ns: f64 },
    Listen,
}

/// Runs the scenario.
///
/// # Errors
/// The server refuses, loses, repeats or reorders, or does not come to an end.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let mut swarm = server.swarm()?;
    let slow = |index: usize| index.is_multiple_of(SLOW_OF) && options.flood > 0;
    let stalls = |index: usize| slow(index) && options.stall;
    let subscribers = swarm.gather(options.subscribers, 200, Some(ROOM), |index| {
        if stalls(index) {
            Kind::Slow
        } else {
            Kind::Listener
        }
    })?;
    let mut room = Room::new(server, &mut swarm, &subscribers, options, slow, stalls)?;
    let rss_gathered = usage::rss(server.pid)?;
    swarm.stay_awake();
    if options.flood > 0 {
        expect_full(options.flood)?;
        for (index, id) in subscribers.iter().enumerate() {
            if stalls(index) {
                swarm.stall(*id);
            }
        }
        let pace = Pace::Closed {
            in_flight: options.in_flight,
            window: Window::Delivered,
        };
        room.phase(&mut swarm, pace, u64::MAX, options.flood)?;
        room.drain(&mut swarm)?;
    }
    let rss_flooded = usage::rss(server.pid)?;

    let pace = match (options.rate, options.listen) {
        (_, true) => Pace::Listen,
        (Some(rate), _) => Pace::Open {
            interval_ns: 1e9 / rate,
        },
        _ => Pace::Closed {
            in_flight: options.in_flight,
            window: options.window,
        },
    };
    room.phase(&mut swarm, pace, options.warm_ms * 1_000_000, u64::MAX)?;
    room.latencies.clear();
    room.lateness.clear();
    let (deliveries, complete) = (room.deliveries, room.complete);
    let meter = Meter::start(server.pid, &swarm)?;
    let started = swarm.now();
    room.phase(&mut swarm, pace, options.measure_ms * 1_000_000, u64::MAX)?;
    let seconds = (swarm.now() - started) as f64 / 1e9;
    let shares = meter.stop(&swarm)?;
    let delivered = room.deliveries - deliveries;
    let messages = room.complete - complete;
    if !options.listen {
        room.drain(&mut swarm)?;
    }
    Ok(json!({
        "deliveries_per_s": delivered as f64 / seconds,
        "messages_per_s": messages as f64 / seconds,
        "latency": room.latencies.summary(),
        "generator_late": room.lateness.summary(),
        "shares": shares,
        "generator_was_the_limit": shares.generator_was_the_limit() || room.generator_was_late(),
        "rss_gathered": rss_gathered,
        "rss_flooded": rss_flooded,
        "rss_end": usage::rss(server.pid)?,
    }))
}

/// A stalled reader is one only when the sockets between are full, and the kernel takes megabytes first.
fn expect_full(flood: u64) -> Result<()> {
    const LIMITS: &str = "/proc/sys/net/ipv4/tcp_wmem";
    let limits = fs::read_to_string(LIMITS)?;
    let most = limits
        .split_ascii_whitespace()
        .last()
        .and_then(|most| most.parse().ok());
    let most: u64 = most.context("the kernel does not say how much a socket holds")?;
    if flood * BODY_BYTES as u64 <= most {
        bail!("{flood} messages do not fill a socket that holds {most} bytes: flood more");
    }
    Ok(())
}

impl Room {
    fn new(
        server: &Server,
        swarm: &mut Swarm,
        subscribers: &[ConnId],
        options: &Options,
        slow: impl Fn(usize) -> bool,
        stalls: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let sender = if options.listen {
            // The floor has no sender; its number is nobody's.
            swarm.len()
        } else {
            swarm.gather(1, 1, None, |_| Kind::Speaker)?[0]
        };
        let closed_and_hot = options.rate.is_none() && options.in_flight > 1;
        let watched = |index: usize| {
            !options.listen && !slow(index) && (!closed_and_hot || index.is_multiple_of(16))
        };
        Ok(Self {
            template: Template::new(server.dialect, ROOM, false),
            sender,
            expected: vec![0; swarm.len()],
            watched: (0..swarm.len()).map(watched).collect(),
            readers: (0..subscribers.len())
                .filter(|&index| !stalls(index))
                .count(),
            began_at: vec![0; RING],
            taken: vec![0; RING],
            sent: 0,
            answered: 0,
            complete: 0,
            deliveries: 0,
            latencies: Latencies::new()?,
            lateness: Latencies::new()?,
            fault: None,
        })
    }

    /// Sends at this pace for so long, or until so many messages were sent in all.
    fn phase(&mut self, swarm: &mut Swarm, pace: Pace, for_ns: u64, until_sent: u64) -> Result<()> {
        /// So often at least the end of the phase is looked at.
        const NAP: Duration = Duration::from_millis(5);
        let started = swarm.now();
        let first = self.sent;
        let mut out = Vec::new();
        loop {
            let now = swarm.now();
            if now.saturating_sub(started) >= for_ns || self.sent >= until_sent {
                return Ok(());
            }
            let mut wait = NAP;
            match pace {
                Pace::Closed { in_flight, window } => {
                    while self.sent < until_sent && self.may_send(in_flight, window) {
                        self.push(now, &mut out);
                    }
                }
                Pace::Open { interval_ns } => loop {
                    let due = started as f64 + (self.sent - first) as f64 * interval_ns;
                    let ahead = due - now as f64;
                    if ahead > 0.0 {
                        wait = NAP.min(Duration::from_nanos(ahead as u64));
                        break;
                    }
                    if self.sent - self.complete >= RING as u64 {
                        bail!("the server is {RING} messages late: it cannot keep this rate");
                    }
                    self.lateness.record(-ahead as u64);
                    self.push(due as u64, &mut out);
                },
                Pace::Listen => {}
            }
            if !out.is_empty() {
                swarm.send(self.sender, &out);
                out.clear();
            }
            self.turn(swarm, wait)?;
        }
    }

    /// Whether a good part of the latencies in the open loop is the generator's own: it sent so late itself.
    fn generator_was_late(&self) -> bool {
        self.lateness.len() > 0 && self.lateness.at(0.99) > self.latencies.at(0.99) * usage::LATE
    }

    fn may_send(&self, in_flight: u64, window: Window) -> bool {
        let behind = self.sent - self.complete;
        match window {
            Window::Answered => self.sent - self.answered < in_flight && behind < MAX_AHEAD,
            Window::Delivered => behind < in_flight,
        }
    }

    fn push(&mut self, began: u64, out: &mut Vec<u8>) {
        let slot = self.sent as usize % RING;
        self.began_at[slot] = began;
        self.taken[slot] = 0;
        self.template.push(self.sent, out);
        self.sent += 1;
    }

    /// Takes in what has come.
    fn turn(&mut self, swarm: &mut Swarm, wait: Duration) -> Result<()> {
        swarm.turn(wait, |id, now, heard| match heard {
            Heard::Message { number, .. } => self.take(id, now, number),
            Heard::Answer { .. } if id == self.sender => self.answered += 1,
            Heard::Answer { .. } | Heard::Open => {}
            Heard::Refused(text) => {
                self.fault = Some(format!("refused: {}", String::from_utf8_lossy(text)));
            }
            Heard::Closed => self.fault = Some(format!("connection {id} was closed")),
        })?;
        match self.fault.take() {
            Some(fault) => bail!(fault),
            None => Ok(()),
        }
    }

    #[inline]
    fn take(&mut self, id: ConnId, now: u64, number: u64) {
        let expected = &mut self.expected[id];
        if number != *expected {
            self.fault = Some(format!(
                "connection {id} got message {number} and not {expected}"
            ));
            return;
        }
        *expected += 1;
        self.deliveries += 1;
        let slot = number as usize % RING;
        if self.watched[id] {
            self.latencies
                .record(now.saturating_sub(self.began_at[slot]));
        }
        self.taken[slot] += 1;
        if self.taken[slot] as usize == self.readers {
            // In order for each reader, so in order for all.
            self.taken[slot] = 0;
            self.complete = number + 1;
        }
    }

    /// Waits until every reader has everything.
    fn drain(&mut self, swarm: &mut Swarm) -> Result<()> {
        const WITHIN_NS: u64 = 60_000_000_000;
        let started = swarm.now();
        while self.complete < self.sent || self.answered < self.sent {
            self.turn(swarm, Duration::from_millis(20))?;
            if swarm.now() - started > WITHIN_NS {
                bail!("{} of {} messages came through", self.complete, self.sent);
            }
        }
        Ok(())
    }
}
