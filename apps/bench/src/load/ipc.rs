//! The local socket: what a program sends and gets over it, beside a bare loop over sockets of the same RPC library;
//! and what programs that stall and flood do to 500 WebSocket clients.

mod bare;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use stack_ipc::service::{Admin as _, Cursor, NewMessage, Start};
use stack_ipc::{Client, ClientConfig, Delivery, Subscription};
use stack_types::{RoomId, Seq};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Server, fan_out};
use crate::dialect::{BODY_BYTES, ROOM};
use crate::http;
use crate::latency::Latencies;

pub(crate) use bare::{ServerOptions as BareServerOptions, serve as serve_bare};

/// The room of events that a program reads.
const READ_ROOM: &str = "bench-ipc";
/// Messages of one program on their way to the disk.
const IN_FLIGHT: usize = 64;
/// Longer than anything takes that goes on.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program at the local socket.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Events that are read from the log.
    #[arg(long, default_value_t = 100_000)]
    events: u64,
    /// Time of each measurement.
    #[arg(long, default_value_t = 3000)]
    measure_ms: u64,
}

/// Bare sockets.
#[derive(Debug, clap::Args)]
pub(crate) struct BareOptions {
    /// For the socket's file.
    #[arg(long)]
    folder: PathBuf,
    /// Where the other process runs.
    #[arg(long)]
    server_core: usize,
    /// Events in a message.
    #[arg(long, default_value_t = 128)]
    batch: u32,
    /// Time of each measurement.
    #[arg(long, default_value_t = 3000)]
    measure_ms: u64,
}

/// Programs beside WebSocket clients.
#[derive(Debug, clap::Args)]
pub(crate) struct NeighboursOptions {
    /// WebSocket clients.
    #[arg(long, default_value_t = 500)]
    subscribers: usize,
    /// Messages a second that they get.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Runs with and without, in turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Time of each.
    #[arg(long, default_value_t = 5000)]
    measure_ms: u64,
}

/// The programs, in a process of their own.
#[derive(Debug, clap::Args)]
pub(crate) struct DaemonsOptions {
    /// The gateway's socket.
    #[arg(long)]
    socket: PathBuf,
    /// The bot's token.
    #[arg(long)]
    token: String,
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn message(body: String) -> NewMessage {
    NewMessage {
        body,
        ..NewMessage::default()
    }
}

/// A bot in a room, and its token.
fn make_bot(server: &Server, runtime: &Runtime, socket: &Path, rooms: &[&str]) -> Result<String> {
    http::sign_in(server.address, "bench")?;
    runtime.block_on(async {
        let operator = Client::operator(socket).await?;
        let promoted = operator.promote("bench".to_owned()).await;
        promoted.map_err(|problem| anyhow::anyhow!("{problem}"))
    })?;
    let token = http::sign_in(server.address, "bench")?;
    let asked = json!({"name": "bench", "scopes": ["read", "send", "rooms", "presence"]});
    let made = http::demand(
        server.address,
        "POST",
        "/api/v1/api-keys",
        Some(&token),
        &asked,
    )?;
    let text = |pointer: &str| {
        let text = made.pointer(pointer).and_then(Value::as_str);
        text.map(str::to_owned).context("no bot in the answer")
    };
    let bot = text("/user/id")?;
    for room in rooms {
        http::make_room(server.address, &token, room)?;
        let path = format!("/api/v1/rooms/{room}/members/{bot}");
        let member = json!({"role": "member"});
        http::demand(server.address, "PUT", &path, Some(&token), &member)?;
    }
    text("/key")
}

/// Measures.
///
/// # Errors
/// The gateway refuses or loses something.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let runtime = runtime()?;
    let token = make_bot(server, &runtime, server.socket()?, &[READ_ROOM])?;
    let config = ClientConfig::new(server.socket()?, &token);
    let (mut told, head) = runtime.block_on(async {
        let client = Client::connect(config).await?;
        let room: RoomId = READ_ROOM.parse()?;
        let (sends_per_s, head) = fill(&client, &room, options.events).await?;
        let (read, read_seconds) = read_all(&client, &room, head, options.measure_ms).await?;
        let alone = send_alone(&client, &room, options.measure_ms).await?;
        let (live_per_s, live) = follow(&client, &room, options.measure_ms).await?;
        let told = json!({
            "bytes": BODY_BYTES,
            "sends_per_s": sends_per_s,
            "in_flight": IN_FLIGHT,
            "send_alone": alone.summary(),
            "client_events_per_s": read as f64 / read_seconds,
            "live_events_per_s": live_per_s,
            "live": live.summary(),
        });
        Ok::<_, anyhow::Error>((told, head))
    })?;
    // By the same client that reads the bare loop, so that the two differ in who serves alone.
    let measure = Duration::from_millis(options.measure_ms);
    let (read, seconds) = bare::read_gateway(server.socket()?, &token, READ_ROOM, head, measure)?;
    told["events_per_s"] = (read as f64 / seconds).into();
    Ok(told)
}

/// Fills the room, and says how many messages a second that were and where the room ends.
async fn fill(client: &Client, room: &RoomId, events: u64) -> Result<(f64, Seq)> {
    let head = client.history(room, Cursor::Newest, Some(1)).await?.head;
    let missing = events.saturating_sub(head.0);
    let began = Instant::now();
    let turns = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut sends = JoinSet::new();
    for _ in 0..missing {
        let turn = turns.clone().acquire_owned().await?;
        let (client, room) = (client.clone(), room.clone());
        sends.spawn(async move {
            let sent = client.send(&room, message(".".repeat(BODY_BYTES))).await;
            drop(turn);
            sent
        });
        while let Some(sent) = sends.try_join_next() {
            sent??;
        }
    }
    while let Some(sent) = sends.join_next().await {
        sent??;
    }
    let per_s = missing as f64 / began.elapsed().as_secs_f64();
    let head = client.history(room, Cursor::Newest, Some(1)).await?.head;
    Ok((per_s, head))
}

/// One message after the other.
async fn send_alone(client: &Client, room: &RoomId, measure_ms: u64) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let until = Instant::now() + Duration::from_millis(measure_ms);
    while Instant::now() < until {
        let began = Instant::now();
        client.send(room, message(".".repeat(BODY_BYTES))).await?;
        latencies.record(began.elapsed().as_nanos() as u64);
    }
    Ok(latencies)
}

/// The next events of a subscription.
async fn next(subscription: &mut Subscription) -> Result<Vec<stack_types::Event>> {
    match tokio::time::timeout(PATIENCE, subscription.next()).await? {
        Some(Delivery::Events(events)) => Ok(events),
        other => bail!("{other:?} in place of events"),
    }
}

/// Reads the whole room again and again.
async fn read_all(
    client: &Client,
    room: &RoomId,
    head: Seq,
    measure_ms: u64,
) -> Result<(u64, f64)> {
    let (mut read, began) = (0, Instant::now());
    while began.elapsed() < Duration::from_millis(measure_ms) {
        let mut subscription = client.subscribe(room, Start::After(Seq::ZERO)).await?;
        let mut last = Seq::ZERO;
        while last < head {
            for event in next(&mut subscription).await? {
                if event.seq != last.next() {
                    bail!("{} behind {last}", event.seq);
                }
                last = event.seq;
                read += 1;
            }
        }
    }
    Ok((read, began.elapsed().as_secs_f64()))
}

/// Sends and reads at the same time: from the call to send to the event.
async fn follow(client: &Client, room: &RoomId, measure_ms: u64) -> Result<(f64, Latencies)> {
    let mut subscription = client.subscribe(room, Start::Live).await?;
    let mut latencies = Latencies::new()?;
    let began = Instant::now();
    let until = began + Duration::from_millis(measure_ms);
    let mut begun: std::collections::HashMap<u64, Instant> = std::collections::HashMap::new();
    let (mut sent, mut come) = (0_u64, 0_u64);
    let mut sends = JoinSet::new();
    while Instant::now() < until || come < sent {
        while Instant::now() < until && sent - come < IN_FLIGHT as u64 {
            let (client, room, number) = (client.clone(), room.clone(), sent);
            begun.insert(number, Instant::now());
            let body = format!("{number:0width$}", width = BODY_BYTES);
            sends.spawn(async move { client.send(&room, message(body)).await });
            sent += 1;
        }
        while let Some(done) = sends.try_join_next() {
            done??;
        }
        for event in next(&mut subscription).await? {
            if let stack_types::EventBody::Message { body, .. } = &event.body {
                let number: u64 = body.parse()?;
                let began = begun.remove(&number).context("an event came twice")?;
                latencies.record(began.elapsed().as_nanos() as u64);
                come += 1;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok((come as f64 / seconds, latencies))
}

/// Measures a bare loop.
///
/// # Errors
/// A socket fails.
pub(crate) fn run_bare(options: &BareOptions) -> Result<Value> {
    std::fs::create_dir_all(&options.folder)?;
    let socket = options.folder.canonicalize()?.join("bare.sock");
    let _ = std::fs::remove_file(&socket);
    let mut server = Command::new("taskset")
        .args(["-c", &options.server_core.to_string()])
        .arg(std::env::current_exe()?)
        .arg("ipc-bare-server")
        .arg("--socket")
        .arg(&socket)
        .args(["--batch", &options.batch.to_string()])
        .spawn()?;
    let began = Instant::now();
    while !socket.exists() {
        if began.elapsed() > PATIENCE {
            bail!("the bare server does not listen");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let measure = Duration::from_millis(options.measure_ms);
    let measured = bare::measure(&socket, measure, IN_FLIGHT);
    server.kill()?;
    server.wait()?;
    measured
}

/// Measures WebSocket clients without and with programs beside them, in turn.
///
/// # Errors
/// The gateway refuses or loses something.
pub(crate) fn run_neighbours(server: &Server, options: &NeighboursOptions) -> Result<Value> {
    let runtime = runtime()?;
    let token = make_bot(server, &runtime, server.socket()?, &[ROOM, READ_ROOM])?;
    let owner = http::sign_in(server.address, "bench")?;
    // Also where rates are limited, so that it is seen what they do to who floods.
    let quick = json!({"settings": {"messages_per_10s": 1000}});
    for room in [ROOM, READ_ROOM] {
        let path = format!("/api/v1/rooms/{room}");
        http::demand(server.address, "PATCH", &path, Some(&owner), &quick)?;
    }
    let config = ClientConfig::new(server.socket()?, &token);
    runtime.block_on(async {
        let client = Client::connect(config).await?;
        fill(&client, &READ_ROOM.parse()?, 500).await
    })?;
    let load = fan_out::Options::open(options.subscribers, options.rate, options.measure_ms);
    let p99 = |result: &Value| result.pointer("/latency/p99_us").and_then(Value::as_f64);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let alone = fan_out::run(server, &load)?;
        without.push(p99(&alone).context("no latency")?);
        let daemons = Daemons::start(server.socket()?, &token)?;
        std::thread::sleep(Duration::from_secs(1));
        let beside = fan_out::run(server, &load)?;
        drop(daemons);
        with.push(p99(&beside).context("no latency")?);
    }
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    Ok(json!({
        "without_p99_us": without,
        "with_p99_us": with,
        "ratio": median(&with) / median(&without),
    }))
}

/// The process of the programs. Dropped, it is killed.
struct Daemons(Child);

impl Daemons {
    fn start(socket: &Path, token: &str) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("ipc-daemons")
            .arg("--socket")
            .arg(socket)
            .args(["--token", token])
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two programs that stall and one that floods, until they are killed.
///
/// # Errors
/// They cannot log in.
pub(crate) fn daemons(options: &DaemonsOptions) -> Result<()> {
    runtime()?.block_on(async {
        let config = ClientConfig::new(&options.socket, &options.token);
        let mut stalled = Vec::new();
        for room in [ROOM, READ_ROOM] {
            let client = Client::connect(config.clone()).await?;
            let after = Start::After(Seq::ZERO);
            stalled.push(client.subscribe(&room.parse()?, after).await?);
        }
        let client = Client::connect(config).await?;
        let mut calls = JoinSet::new();
        for number in 0..2 * IN_FLIGHT {
            let client = client.clone();
            let room: RoomId = READ_ROOM.parse()?;
            calls.spawn(async move {
                loop {
                    // What it is answered does not matter to it, refusals and hang-ups included.
                    if number % 8 == 0 {
                        let _ = client.history(&room, Cursor::Newest, Some(500)).await;
                    } else {
                        let _ = client.presence(&room).await;
                    }
                }
            });
        }
        while calls.join_next().await.is_some() {}
        drop(stalled);
        Ok(())
    })
}
