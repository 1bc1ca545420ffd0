//! A soak: everything at once, below saturation and by the clock, for minutes, looked at window by window. A room with
//! many readers, durable messages to many rooms, pages of history, and clients that come, catch up or stall, and go.
//! Memory and latencies have to stay where they are.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Server, fill};
use crate::dialect::{Heard, ROOM, Template, number_of_id};
use crate::frame;
use crate::http;
use crate::latency::Latencies;
use crate::swarm::{ConnId, Kind, Swarm};
use crate::usage::{self, Meter};

/// How long and how hard.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Minutes.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Subscribers of the one room that stay.
    #[arg(long, default_value_t = 200)]
    subscribers: usize,
    /// Messages a second to it.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Other rooms, each with a sender; every second one gives its messages keys.
    #[arg(long, default_value_t = 50)]
    rooms: usize,
    /// Messages a second to them, all together.
    #[arg(long, default_value_t = 500.0)]
    sends: f64,
    /// Clients a second that come with a cursor, catch up and leave. One in ten stalls instead.
    #[arg(long, default_value_t = 5.0)]
    visits: f64,
    /// Pages of history a second.
    #[arg(long, default_value_t = 20.0)]
    pages: f64,
    /// Seconds in a window.
    #[arg(long, default_value_t = 30)]
    window_s: u64,
}

/// Messages in the room before anything is measured: more bytes than the sockets of a reader who stalls hold, so
/// that the server has to keep its place.
const BEFORE: u64 = 40_000;

/// A visitor reads so many events and leaves.
const VISIT: u64 = 200;

/// One visitor in so many stalls.
const STALL_OF: usize = 10;

/// So long a stalled reader stays.
const STALL_NS: u64 = 30_000_000_000;

/// Events on a page of history.
const PAGE: u64 = 50;

/// Something that happens at a rate, by the clock.
struct Clock {
    interval_ns: f64,
    started: u64,
    done: u64,
}

impl Clock {
    fn new(started: u64, per_second: f64) -> Self {
        Self {
            interval_ns: 1e9 / per_second,
            started,
            done: 0,
        }
    }

    /// When the next one is due, if that is now or was before.
    fn due(&mut self, now: u64) -> Option<u64> {
        let due = self.started + (self.done as f64 * self.interval_ns) as u64;
        (due <= now).then(|| {
            self.done += 1;
            due
        })
    }
}

/// Somebody who comes and goes.
#[derive(Clone, Copy)]
enum Visitor {
    /// Reads from here to there.
    Reads { next: u64, last: u64 },
    /// Takes nothing any more.
    Stalls,
}

/// A sender of one of the other rooms.
struct Sender {
    template: Template,
    /// When its messages were due, by number.
    due_at: Vec<u64>,
}

/// What is measured in a window.
struct Window {
    fan_out: Latencies,
    acks: Latencies,
    pages: Latencies,
    /// How late the generator itself was.
    late: Latencies,
}

impl Window {
    fn new() -> Result<Self> {
        Ok(Self {
            fan_out: Latencies::new()?,
            acks: Latencies::new()?,
            pages: Latencies::new()?,
            late: Latencies::new()?,
        })
    }

    fn close(&mut self, at_s: u64, rss: u64, visits: usize) -> Value {
        let window = json!({
            "at_s": at_s,
            "fan_out_p50_us": self.fan_out.at(0.5),
            "fan_out_p99_us": self.fan_out.at(0.99),
            "ack_p99_us": self.acks.at(0.99),
            "page_p99_us": self.pages.at(0.99),
            "generator_late_p99_us": self.late.at(0.99),
            "rss": rss,
            "visits": visits,
        });
        for latencies in [
            &mut self.fan_out,
            &mut self.acks,
            &mut self.pages,
            &mut self.late,
        ] {
            latencies.clear();
        }
        window
    }
}

struct Soak {
    /// The connections are in this order: who stays, the speaker, the senders, the reader of pages, visitors.
    speaker: ConnId,
    historian: ConnId,
    next: Vec<u64>,
    due_at: Vec<u64>,
    senders: Vec<Sender>,
    visitors: Vec<Visitor>,
    /// Those who stall, and until when.
    stalled: VecDeque<(ConnId, u64)>,
    /// The room's head, as far as it is known.
    head: u64,
    page_asked_at: Option<u64>,
    window: Window,
    greeted: Vec<ConnId>,
    leaving: Vec<ConnId>,
    fault: Option<String>,
}

/// Runs the scenario.
///
/// # Errors
/// The server refuses or closes, or an event is missing, comes twice or out of order.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let token = server.token()?.context("only a gateway has rooms")?;
    let names: Vec<String> = (0..options.rooms)
        .map(|room| format!("soak-{room}"))
        .collect();
    for name in &names {
        http::make_room(server.address, &token, name)?;
    }
    let base = fill::run(server, ROOM, BEFORE)?;
    let mut swarm = server.swarm()?;
    swarm.gather(options.subscribers, 100, Some(ROOM), |_| Kind::Listener)?;
    let speaker = swarm.gather(1, 1, None, |_| Kind::Speaker)?[0];
    swarm.gather(options.rooms, 50, None, |_| Kind::Speaker)?;
    let historian = swarm.gather(1, 1, None, |_| Kind::Listener)?[0];
    let sender = |(index, name): (usize, &String)| Sender {
        template: Template::new(server.dialect, name, index % 2 == 0),
        due_at: Vec::new(),
    };
    let mut soak = Soak {
        speaker,
        historian,
        next: vec![base + 1; options.subscribers],
        due_at: Vec::new(),
        senders: names.iter().enumerate().map(sender).collect(),
        visitors: Vec::new(),
        stalled: VecDeque::new(),
        head: base,
        page_asked_at: None,
        window: Window::new()?,
        greeted: Vec::new(),
        leaving: Vec::new(),
        fault: None,
    };
    swarm.stay_awake();
    let meter = Meter::start(server.pid, &swarm)?;
    let started = swarm.now();
    let windows = soak.drive(server, &mut swarm, options, started)?;
    let shares = meter.stop(&swarm)?;
    Ok(json!({
        "windows": windows,
        "seconds": (swarm.now() - started) as f64 / 1e9,
        "messages": soak.due_at.len(),
        "deliveries": soak.next.iter().map(|next| next - base - 1).sum::<u64>(),
        "durable_messages": soak.senders.iter().map(|sender| sender.due_at.len()).sum::<usize>(),
        "visits": soak.visitors.len(),
        "shares": shares,
        "generator_was_the_limit": shares.generator_was_the_limit(),
    }))
}

impl Soak {
    fn drive(
        &mut self,
        server: &Server,
        swarm: &mut Swarm,
        options: &Options,
        started: u64,
    ) -> Result<Vec<Value>> {
        let window_ns = options.window_s * 1_000_000_000;
        let ends = started + (options.minutes * 60e9) as u64;
        let mut window_ends = started + window_ns;
        let mut windows = Vec::new();
        let mut template = Template::new(server.dialect, ROOM, false);
        let mut messages = Clock::new(started, options.rate);
        let mut sends = Clock::new(started, options.sends);
        let mut visits = Clock::new(started, options.visits);
        let mut pages = Clock::new(started, options.pages);
        while window_ends <= ends {
            let now = swarm.now();
            let mut out = Vec::new();
            while let Some(due) = messages.due(now) {
                self.window.late.record(now - due);
                template.push(self.due_at.len() as u64, &mut out);
                self.due_at.push(due);
            }
            swarm.send(self.speaker, &out);
            while let Some(due) = sends.due(now) {
                self.send_durably(swarm, due, sends.done as usize);
            }
            if visits.due(now).is_some() {
                self.let_in(swarm)?;
            }
            if let Some(due) = pages.due(now)
                && self.page_asked_at.is_none()
            {
                self.ask_for_page(swarm, due, pages.done);
            }
            swarm.turn(Duration::from_millis(1), |id, now, heard| {
                self.hear(id, now, &heard);
            })?;
            if let Some(fault) = self.fault.take() {
                bail!("after {} s: {fault}", (now - started) / 1_000_000_000);
            }
            self.see_to_visitors(server, swarm, now);
            if now >= window_ends {
                let at_s = (window_ends - started) / 1_000_000_000;
                let rss = usage::rss(server.pid)?;
                windows.push(self.window.close(at_s, rss, self.visitors.len()));
                window_ends += window_ns;
            }
        }
        Ok(windows)
    }

    fn send_durably(&mut self, swarm: &mut Swarm, due: u64, turn: usize) {
        let index = turn % self.senders.len();
        let sender = &mut self.senders[index];
        let mut out = Vec::new();
        sender.template.push(sender.due_at.len() as u64, &mut out);
        sender.due_at.push(due);
        swarm.send(self.speaker + 1 + index, &out);
    }

    fn let_in(&mut self, swarm: &mut Swarm) -> Result<()> {
        let stalls = self.visitors.len() % STALL_OF == STALL_OF - 1;
        swarm.open(if stalls { Kind::Slow } else { Kind::Listener })?;
        self.visitors.push(if stalls {
            Visitor::Stalls
        } else {
            Visitor::Reads {
                next: self.head - VISIT + 1,
                last: self.head,
            }
        });
        Ok(())
    }

    fn ask_for_page(&mut self, swarm: &mut Swarm, due: u64, turn: u64) {
        /// Steps through the room as if at random.
        const STRIDE: u64 = 7919;
        let after = turn * STRIDE % (self.head - PAGE);
        let text = format!(
            r#"{{"type":"history","id":{turn},"payload":{{"room":"{ROOM}","limit":{PAGE},"after":{after}}}}}"#
        );
        let mut out = Vec::new();
        frame::push(frame::TEXT, text.as_bytes(), &mut out);
        swarm.send(self.historian, &out);
        self.page_asked_at = Some(due);
    }

    fn first_visitor(&self) -> ConnId {
        self.historian + 1
    }

    fn hear(&mut self, id: ConnId, now: u64, heard: &Heard<'_>) {
        match *heard {
            Heard::Open => self.greeted.push(id),
            Heard::Message { number, seq } => self.take(id, now, number, seq),
            Heard::Answer { id: request, frame } => self.answered(id, now, request, frame),
            Heard::Refused(text) => {
                self.fault = Some(format!("refused: {}", String::from_utf8_lossy(text)));
            }
            Heard::Closed => self.fault = Some(format!("connection {id} was closed")),
        }
    }

    fn take(&mut self, id: ConnId, now: u64, number: u64, seq: u64) {
        let first_visitor = self.first_visitor();
        let expected = if id < self.speaker {
            let due = self.due_at.get(number as usize).copied();
            self.window
                .fan_out
                .record(now.saturating_sub(due.unwrap_or(now)));
            self.head = self.head.max(seq);
            &mut self.next[id]
        } else {
            match self.visitors.get_mut(id.wrapping_sub(first_visitor)) {
                Some(Visitor::Reads { next, last }) => {
                    if seq == *last {
                        self.leaving.push(id);
                    }
                    next
                }
                Some(Visitor::Stalls) => return,
                None => {
                    self.fault = Some(format!("connection {id} got an event it did not ask for"));
                    return;
                }
            }
        };
        if seq != *expected {
            self.fault = Some(format!(
                "connection {id} got event {seq} and not {expected}"
            ));
        }
        *expected = seq + 1;
    }

    fn answered(&mut self, id: ConnId, now: u64, request: u64, frame: &[u8]) {
        /// A page that is full has at least so many bytes.
        const FULL_BYTES: usize = PAGE as usize * crate::dialect::BODY_BYTES;
        if id == self.historian {
            if frame.len() < FULL_BYTES {
                self.fault = Some(format!("no full page: {}", String::from_utf8_lossy(frame)));
            }
            if let Some(asked_at) = self.page_asked_at.take() {
                self.window.pages.record(now.saturating_sub(asked_at));
            }
        } else if id > self.speaker && id < self.historian {
            let sender = &self.senders[id - self.speaker - 1];
            let due = number_of_id(request).and_then(|number| sender.due_at.get(number as usize));
            match due {
                Some(due) => self.window.acks.record(now.saturating_sub(*due)),
                None => self.fault = Some(format!("an answer to nothing: {request}")),
            }
        }
    }

    /// Lets those speak who have come, and sends those away who have what they came for.
    fn see_to_visitors(&mut self, server: &Server, swarm: &mut Swarm, now: u64) {
        let first_visitor = self.first_visitor();
        for id in self.greeted.drain(..) {
            let visitor = self.visitors[id - first_visitor];
            let after = match visitor {
                Visitor::Reads { next, .. } => next - 1,
                Visitor::Stalls => 0,
            };
            swarm.send(id, &server.dialect.subscribe(ROOM, Some(after)));
            if matches!(visitor, Visitor::Stalls) {
                swarm.stall(id);
                self.stalled.push_back((id, now + STALL_NS));
            }
        }
        for id in self.leaving.drain(..) {
            swarm.close(id);
        }
        while let Some((id, until)) = self.stalled.front().copied()
            && until <= now
        {
            swarm.close(id);
            self.stalled.pop_front();
        }
    }
}
