//! A restart: a gateway with thousands of sockets and somebody who writes is asked to end by SIGTERM and started again on
//! the same data. Clients come back when they were told to; each has to have every event once and in order, and the
//! sender every answer.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::dialect::{Dialect, Heard, Template, leading_number, number_of_id};
use crate::http;
use crate::latency::Latencies;
use crate::swarm::{ConnId, Kind, Swarm};
use crate::usage::{self, Meter};

/// Connections on their way at a time before the measurement.
const AT_ONCE: usize = 128;

/// One that is refused is tried again after so long, and longer each time, with jitter: as the web client does.
const BACKOFF_NS: u64 = 500_000_000;
const MOST_BACKOFF_NS: u64 = 30_000_000_000;

/// The sender knocks until it is let in, to find the moment.
const SENDER_KNOCKS_EVERY_NS: u64 = 20_000_000;

const WITHIN: Duration = Duration::from_secs(180);
const SECOND_NS: u64 = 1_000_000_000;

/// What is restarted under whom.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The gateway's binary.
    #[arg(long)]
    gateway: PathBuf,
    /// A folder for its data, which is emptied.
    #[arg(long)]
    folder: PathBuf,
    /// Sockets, each subscribed to one of the rooms.
    #[arg(long, default_value_t = 5000)]
    clients: usize,
    /// Rooms.
    #[arg(long, default_value_t = 50)]
    rooms: usize,
    /// Messages a second, in turn to each room.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds of load before the restart, and after everybody is back.
    #[arg(long, default_value_t = 5)]
    around_s: u64,
    /// Who listens holds the listening socket across the restart, as a service manager with a socket unit does.
    #[arg(long)]
    hold_listener: bool,
    /// The core of the gateway; any without it.
    #[arg(long)]
    server_core: Option<usize>,
}

/// A gateway that is run here. Dropped, it is killed.
struct Gateway {
    child: Child,
}

impl Gateway {
    fn start(options: &Options, address: SocketAddr, held: Option<&TcpListener>) -> Result<Self> {
        let mut words = Vec::new();
        if let Some(core) = options.server_core {
            words.extend(["taskset".into(), "-c".into(), core.to_string()]);
        }
        words.push(options.gateway.display().to_string());
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(options.folder.join("gateway.log"))?;
        let (script, stdin) = match held {
            // The library passes no descriptors on but these three; a service manager's begin at 3.
            Some(listener) => {
                let script = r#"exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@""#;
                let listener = OwnedFd::from(listener.try_clone()?);
                (script, Stdio::from(listener))
            }
            None => (r#"exec "$@""#, Stdio::null()),
        };
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STACK_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["-c", script, "sh"])
            .args(words)
            .args(["serve", "--listen", &address.to_string(), "--data-dir"])
            .arg(options.folder.join("data"))
            .env("STACK_RATE_ENABLED", "false")
            .env("STACK_LIMITS_CONNECTIONS_PER_USER", "60000")
            .env("STACK_AUTH_ACCESS_TOKEN_TTL_S", "3600")
            .env("STACK_LOG", "warn")
            .current_dir(&options.folder)
            .stdin(stdin)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the gateway cannot be started")?;
        Ok(Self { child })
    }

    fn wait_until_ready(&mut self, address: SocketAddr) -> Result<()> {
        let started = Instant::now();
        while !http::is_up(address, "/readyz") {
            if let Some(status) = self.child.try_wait()? {
                bail!("the gateway ended at its start ({status}), see its log");
            }
            if started.elapsed() > WITHIN {
                bail!("the gateway does not answer");
            }
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// SIGTERM; the standard library only kills.
    fn ask_to_end(&self) -> Result<()> {
        let done = Command::new("kill")
            .arg(self.child.id().to_string())
            .status()?;
        if !done.success() {
            bail!("the gateway had ended by itself");
        }
        Ok(())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and nothing depends on it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client {
    room: usize,
    /// The next event, and the number of the message in it.
    next_seq: u64,
    next_number: u64,
    conn: Option<ConnId>,
    is_back: bool,
    /// When it was told to come back, and how often it has knocked in vain.
    told_ms: Option<u64>,
    knock_at: Option<u64>,
    refused: u32,
}

struct Sender {
    conn: Option<ConnId>,
    is_open: bool,
    templates: Vec<Template>,
    next_number: u64,
    /// What has no answer yet, and when it was sent.
    waiting: BTreeMap<u64, u64>,
    knock_at: Option<u64>,
    knocks: u64,
}

/// The time of each thing that counts, in nanoseconds of the swarm.
#[derive(Default)]
struct Times {
    asked: u64,
    first_drain: Option<u64>,
    last_drain: u64,
    ended: u64,
    started: u64,
    sender_back: Option<u64>,
    all_back: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Ending,
    Return,
    After,
}

struct Run<'a> {
    options: &'a Options,
    clients: Vec<Client>,
    sender: Sender,
    /// Whose a connection is; `None` is the sender.
    owners: Vec<Option<usize>>,
    times: Times,
    phase: Phase,
    back: usize,
    opened_at: Vec<u64>,
    refusals: u64,
    undrained: u64,
    acks: [Latencies; 3],
    greeted: Vec<ConnId>,
    closed: Vec<ConnId>,
    fault: Option<String>,
    jitter: u64,
}

/// Runs the scenario.
///
/// # Errors
/// An event is missing, comes twice or out of order, an answer does not come, or somebody does not come back.
pub(crate) fn run(options: &Options) -> Result<Value> {
    prepare(&options.folder)?;
    let held = TcpListener::bind("127.0.0.1:0")?;
    let address = held.local_addr()?;
    let held = options.hold_listener.then_some(held);
    let mut gateway = Gateway::start(options, address, held.as_ref())?;
    gateway.wait_until_ready(address)?;
    let token = http::sign_in(address, "bench")?;
    let rooms: Vec<_> = (0..options.rooms)
        .map(|room| format!("room{room}"))
        .collect();
    let mut heads = Vec::new();
    for room in &rooms {
        http::make_room(address, &token, room)?;
        let path = format!("/api/v1/rooms/{room}");
        let (_, text) = http::request(address, "GET", &path, Some(&token), None)?;
        heads.push(head_in(&text)?);
    }
    let mut swarm = Swarm::new(address, Dialect::Stack, Some(&token))?;
    let mut run = Run::new(options, &rooms, &heads)?;
    run.gather(&mut swarm, &rooms)?;

    let around_ns = options.around_s * SECOND_NS;
    let mut due_from = swarm.now();
    let until = due_from + around_ns;
    while swarm.now() < until {
        run.turn(&mut swarm, &rooms, &mut due_from)?;
    }
    run.phase = Phase::Ending;
    run.times.asked = swarm.now();
    gateway.ask_to_end()?;
    let status = loop {
        run.turn(&mut swarm, &rooms, &mut due_from)?;
        if let Some(status) = gateway.child.try_wait()? {
            break status;
        }
        if swarm.now() - run.times.asked > WITHIN.as_nanos() as u64 {
            bail!("the gateway does not end");
        }
    };
    run.times.ended = swarm.now();
    if !status.success() {
        bail!("the gateway did not end cleanly: {status}");
    }
    run.phase = Phase::Return;
    let gateway = Gateway::start(options, address, held.as_ref())?;
    run.times.started = swarm.now();
    let meter = Meter::start(gateway.child.id(), &swarm)?;
    while run.times.all_back.is_none() {
        run.turn(&mut swarm, &rooms, &mut due_from)?;
        if swarm.now() - run.times.started > WITHIN.as_nanos() as u64 {
            bail!("only {} of {} came back", run.back, options.clients);
        }
    }
    let shares = meter.stop(&swarm)?;
    let rss = usage::rss(gateway.child.id())?;
    run.phase = Phase::After;
    let until = swarm.now() + around_ns;
    while swarm.now() < until {
        run.turn(&mut swarm, &rooms, &mut due_from)?;
    }
    run.settle(&mut swarm, &rooms)?;
    Ok(run.told(&shares, rss))
}

/// An empty folder.
fn prepare(folder: &Path) -> Result<()> {
    let data = folder.join("data");
    if data.exists() {
        std::fs::remove_dir_all(&data)?;
    }
    Ok(std::fs::create_dir_all(folder)?)
}

fn head_in(text: &str) -> Result<u64> {
    let start = text.find('{').context("no room in the answer")?;
    let end = text.rfind('}').context("no room in the answer")?;
    let room: Value = serde_json::from_str(&text[start..=end])?;
    room["head"].as_u64().context("a room without a head")
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, rooms: &[String], heads: &[u64]) -> Result<Self> {
        let client = |index: usize| Client {
            room: index % rooms.len(),
            next_seq: heads[index % rooms.len()] + 1,
            next_number: (index % rooms.len()) as u64,
            conn: None,
            is_back: false,
            told_ms: None,
            knock_at: None,
            refused: 0,
        };
        let template = |room: &String| Template::new(Dialect::Stack, room, true);
        Ok(Self {
            options,
            clients: (0..options.clients).map(client).collect(),
            sender: Sender {
                conn: None,
                is_open: false,
                templates: rooms.iter().map(template).collect(),
                next_number: 0,
                waiting: BTreeMap::new(),
                knock_at: Some(0),
                knocks: 0,
            },
            owners: Vec::new(),
            times: Times::default(),
            phase: Phase::Before,
            back: 0,
            opened_at: Vec::new(),
            refusals: 0,
            undrained: 0,
            acks: [Latencies::new()?, Latencies::new()?, Latencies::new()?],
            greeted: Vec::new(),
            closed: Vec::new(),
            fault: None,
            jitter: 0x9E37_79B9_7F4A_7C15,
        })
    }

    /// Opens all, a few at a time, and waits until they are subscribed.
    fn gather(&mut self, swarm: &mut Swarm, rooms: &[String]) -> Result<()> {
        let begun_at = Instant::now();
        let mut begun = 0;
        while self.back < self.clients.len() || !self.sender.is_open {
            while begun < self.clients.len() && begun - self.back < AT_ONCE {
                self.open(swarm, begun)?;
                begun += 1;
            }
            let mut never = u64::MAX;
            self.turn(swarm, rooms, &mut never)?;
            if begun_at.elapsed() > WITHIN {
                bail!("only {} of {} came in", self.back, self.clients.len());
            }
        }
        // From here on it is counted anew.
        self.opened_at.clear();
        self.refusals = 0;
        Ok(())
    }

    fn open(&mut self, swarm: &mut Swarm, client: usize) -> Result<()> {
        let id = swarm.open(Kind::Listener)?;
        self.owners.push(Some(client));
        self.clients[client].conn = Some(id);
        self.clients[client].knock_at = None;
        Ok(())
    }

    /// Sends what is due, takes in what has come, and lets those knock whose time it is.
    fn turn(&mut self, swarm: &mut Swarm, rooms: &[String], due_from: &mut u64) -> Result<()> {
        self.send_due(swarm, rooms, due_from);
        swarm.turn(Duration::from_millis(2), |id, now, heard| {
            self.hear(id, now, heard)
        })?;
        if let Some(fault) = self.fault.take() {
            bail!(fault);
        }
        let greeted = std::mem::take(&mut self.greeted);
        for id in greeted {
            match self.owners[id] {
                Some(client) => {
                    let client = &self.clients[client];
                    let after = Some(client.next_seq - 1);
                    let request = Dialect::Stack.subscribe(&rooms[client.room], after);
                    swarm.send(id, &request);
                }
                None => self.sender_is_in(swarm, rooms),
            }
        }
        let closed = std::mem::take(&mut self.closed);
        for id in closed {
            swarm.close(id);
        }
        self.knock(swarm)
    }

    fn hear(&mut self, id: ConnId, now: u64, heard: Heard<'_>) {
        const DRAIN: &[u8] = br#"{"type":"drain","payload":{"reconnect_in_ms":"#;
        const GOING_DOWN: [u8; 2] = 1001_u16.to_be_bytes();
        let owner = self.owners[id];
        match heard {
            Heard::Open => {
                self.greeted.push(id);
                if owner.is_some() {
                    self.opened_at.push(now);
                }
            }
            Heard::Answer { id: request, .. } => match owner {
                Some(client) => self.client_is_in(client, now),
                None => self.answered(request, now),
            },
            Heard::Message { number, seq } => {
                if let Some(client) = owner {
                    self.take(client, number, seq);
                }
            }
            Heard::Refused(text) => {
                let ms = text.strip_prefix(DRAIN).map(leading_number);
                match (ms, owner) {
                    (Some(_), None) => self.sender.is_open = false,
                    (Some(ms), Some(client)) => {
                        self.times.first_drain.get_or_insert(now);
                        self.times.last_drain = now;
                        let client = &mut self.clients[client];
                        client.told_ms = Some(ms);
                        client.knock_at = Some(now + ms * 1_000_000);
                    }
                    (None, _) if text.starts_with(&GOING_DOWN) => {}
                    (None, _) => {
                        let text = String::from_utf8_lossy(text);
                        self.fault = Some(format!("refused: {text}"));
                    }
                }
            }
            Heard::Closed => {
                self.closed.push(id);
                match owner {
                    Some(client) => self.client_is_out(client, now),
                    None => {
                        self.sender.is_open = false;
                        self.sender.conn = None;
                        self.sender.knock_at = Some(now + SENDER_KNOCKS_EVERY_NS);
                    }
                }
            }
        }
    }

    fn take(&mut self, index: usize, number: u64, seq: u64) {
        let client = &mut self.clients[index];
        if (seq, number) != (client.next_seq, client.next_number) {
            self.fault = Some(format!(
                "client {index} got message {number} as event {seq}, and not {} as {}",
                client.next_number, client.next_seq
            ));
        }
        client.next_seq += 1;
        client.next_number += self.options.rooms as u64;
    }

    fn client_is_in(&mut self, index: usize, now: u64) {
        let client = &mut self.clients[index];
        if !client.is_back {
            client.is_back = true;
            client.refused = 0;
            self.back += 1;
            if self.phase == Phase::Return && self.back == self.clients.len() {
                self.times.all_back = Some(now);
            }
        }
    }

    fn client_is_out(&mut self, index: usize, now: u64) {
        let late = self.random();
        let client = &mut self.clients[index];
        client.conn = None;
        if client.is_back {
            client.is_back = false;
            self.back -= 1;
            if client.knock_at.is_none() {
                self.undrained += 1;
            }
        } else {
            self.refusals += 1;
        }
        if client.knock_at.is_none() {
            let wait = (BACKOFF_NS << client.refused.min(8)).min(MOST_BACKOFF_NS);
            client.refused += 1;
            client.knock_at = Some(now + (wait as f64 * (0.5 + 0.5 * late)) as u64);
        }
    }

    /// Lets those in whose time has come. The sender keeps knocking.
    fn knock(&mut self, swarm: &mut Swarm) -> Result<()> {
        let now = swarm.now();
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if self.sender.conn.is_none() && is_due(self.sender.knock_at) {
            let id = swarm.open(Kind::Speaker)?;
            self.owners.push(None);
            self.sender.conn = Some(id);
            self.sender.knocks += 1;
        }
        for client in 0..self.clients.len() {
            if self.clients[client].conn.is_none() && is_due(self.clients[client].knock_at) {
                self.open(swarm, client)?;
            }
        }
        Ok(())
    }

    fn sender_is_in(&mut self, swarm: &mut Swarm, rooms: &[String]) {
        let Some(conn) = self.sender.conn else {
            return;
        };
        self.sender.is_open = true;
        if self.phase == Phase::Return {
            self.times.sender_back.get_or_insert(swarm.now());
        }
        // What has no answer, again and in its order: its key says whether it was heard.
        let now = swarm.now();
        let mut out = Vec::new();
        for (&number, sent_at) in &mut self.sender.waiting {
            let room = (number % rooms.len() as u64) as usize;
            self.sender.templates[room].push(number, &mut out);
            *sent_at = now;
        }
        swarm.send(conn, &out);
    }

    fn send_due(&mut self, swarm: &mut Swarm, rooms: &[String], due_from: &mut u64) {
        let now = swarm.now();
        let Some(conn) = self.sender.conn.filter(|_| self.sender.is_open) else {
            return;
        };
        // Whoever cannot send writes nothing: what was due meanwhile is not made up for.
        let every = (SECOND_NS as f64 / self.options.rate) as u64;
        if *due_from == u64::MAX || now < *due_from {
            return;
        }
        *due_from = (*due_from + every).max(now.saturating_sub(every));
        let number = self.sender.next_number;
        self.sender.next_number += 1;
        let mut out = Vec::new();
        self.sender.templates[(number % rooms.len() as u64) as usize].push(number, &mut out);
        swarm.send(conn, &out);
        self.sender.waiting.insert(number, now);
    }

    fn answered(&mut self, request: u64, now: u64) {
        let Some(sent_at) =
            number_of_id(request).and_then(|number| self.sender.waiting.remove(&number))
        else {
            return;
        };
        let acks = match self.phase {
            Phase::Before => 0,
            Phase::Ending | Phase::Return => 1,
            Phase::After => 2,
        };
        self.acks[acks].record(now - sent_at);
    }

    /// Waits until everything that was sent is answered and everybody has it.
    fn settle(&mut self, swarm: &mut Swarm, rooms: &[String]) -> Result<()> {
        let begun = Instant::now();
        let mut never = u64::MAX;
        let sent = self.sender.next_number;
        let all_have = |clients: &[Client]| clients.iter().all(|client| client.next_number >= sent);
        while !self.sender.waiting.is_empty() || !all_have(&self.clients) {
            self.turn(swarm, rooms, &mut never)?;
            if begun.elapsed() > WITHIN {
                let open = self.sender.waiting.len();
                let behind = self
                    .clients
                    .iter()
                    .filter(|client| client.next_number < sent);
                bail!(
                    "{open} messages have no answer, and {} clients miss some",
                    behind.count()
                );
            }
        }
        Ok(())
    }

    fn told(&self, shares: &usage::Shares, rss: u64) -> Value {
        let since_asked = |at: u64| (at - self.times.asked) as f64 / 1e9;
        let told: Vec<_> = self
            .clients
            .iter()
            .filter_map(|client| client.told_ms)
            .collect();
        let mut opened = self.opened_at.clone();
        opened.sort_unstable();
        // The most that came in within any second, and any tenth of one.
        let most_within = |window: u64| {
            let mut from = 0;
            let counts = opened.iter().enumerate().map(|(index, &at)| {
                while at - opened[from] >= window {
                    from += 1;
                }
                index - from + 1
            });
            counts.max().unwrap_or(0)
        };
        let span = match (opened.first(), opened.last()) {
            (Some(first), Some(last)) => (last - first) as f64 / 1e9,
            _ => 0.0,
        };
        json!({
            "clients": self.clients.len(),
            "held_listener": self.options.hold_listener,
            "messages": self.sender.next_number,
            "deliveries": self.clients.iter().map(|client| client.next_number / self.options.rooms as u64).sum::<u64>(),
            "told_to_come_back": told.len(),
            "not_told": self.undrained,
            "told_ms": [told.iter().min(), told.iter().max()],
            "all_told_s": since_asked(self.times.last_drain),
            "ended_s": since_asked(self.times.ended),
            "sender_back_s": self.times.sender_back.map(since_asked),
            "sender_knocks": self.sender.knocks,
            "all_back_s": self.times.all_back.map(since_asked),
            "refused": self.refusals,
            "came_in": opened.len(),
            "came_in_over_s": span,
            "a_second_mean": opened.len() as f64 / span,
            "a_second_most": most_within(SECOND_NS),
            "a_tenth_most": most_within(SECOND_NS / 10),
            "acks_before": self.acks[0].summary(),
            "acks_of_the_return": self.acks[1].summary(),
            "acks_after": self.acks[2].summary(),
            "rss_when_all_are_back": rss,
            "shares": shares,
            "generator_was_the_limit": shares.generator_was_the_limit(),
        })
    }

    /// From 0 to 1, the same in each run.
    fn random(&mut self) -> f64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        (self.jitter >> 11) as f64 / (1_u64 << 53) as f64
    }
}
