//! Floors: what the machine itself can do, with nothing of a gateway around it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use redb::{Database, TableDefinition};
use serde_json::{Value, json};

use crate::dialect::BODY_BYTES;
use crate::latency::Latencies;
use crate::usage::Meter;

/// An event as the gateway lays it out; only its number changes.
struct Event {
    frame: Vec<u8>,
    number_at: usize,
}

impl Event {
    const DIGITS: usize = 12;

    fn new() -> Self {
        let body = format!("{:012}{}", 0, ".".repeat(BODY_BYTES - Self::DIGITS));
        let json = format!(
            r#"{{"type":"message","payload":{{"room":"bench","seq":1000000,"ts":1700000000000,"sender":"u7V3kT9mWc2XhRb8QpLzYdNf","body":"{body}"}}}}"#
        );
        // An unmasked text frame of 126 to 65535 bytes.
        let mut frame = vec![0x81, 126];
        frame.extend_from_slice(&(json.len() as u16).to_be_bytes());
        let number_at = frame.len() + json.find(&body).unwrap_or_default();
        frame.extend_from_slice(json.as_bytes());
        Self { frame, number_at }
    }

    fn number(&mut self, number: u64) -> &[u8] {
        let digits = format!("{number:012}");
        self.frame[self.number_at..self.number_at + Self::DIGITS]
            .copy_from_slice(digits.as_bytes());
        &self.frame
    }
}

/// Serves as a "server" that only sends: lets `subscribers` in, then writes one small message to each of them, over
/// and over, one write each. Ends when one of them leaves.
///
/// # Errors
/// The address is taken.
pub(crate) fn send_loop(listen: SocketAddr, subscribers: usize) -> Result<()> {
    let listener = TcpListener::bind(listen)?;
    let mut sockets = Vec::with_capacity(subscribers);
    while sockets.len() < subscribers {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        // The upgrade, then the subscription; both are small enough for one read each, or one for both.
        let mut buffer = [0; 4096];
        let mut read = socket.read(&mut buffer)?;
        if read == 0 {
            // Somebody only looked whether the port is open.
            continue;
        }
        socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n")?;
        if buffer[..read].ends_with(b"\r\n\r\n") {
            read = socket.read(&mut buffer)?;
        }
        if read == 0 {
            continue;
        }
        let ok = br#"{"type":"ok","id":1,"payload":{}}"#;
        socket.write_all(&[0x81, ok.len() as u8])?;
        socket.write_all(ok)?;
        sockets.push(socket);
    }
    let mut event = Event::new();
    let mut number = 0;
    loop {
        let frame = event.number(number);
        for socket in &mut sockets {
            // A full socket makes this wait, which a bare loop may.
            if socket.write_all(frame).is_err() {
                return Ok(());
            }
        }
        number += 1;
    }
}

/// Says whether `send_loop` would let somebody in: nothing but a look at the port.
pub(crate) fn is_listening(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
}

/// How the disk is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Disk {
    /// A file that grows: one write per group and `fdatasync`.
    Append,
    /// A file that grows: one write per message, and `fdatasync` per group.
    AppendEach,
    /// One redb row per message, one commit per group.
    RedbRows,
}

/// Messages in a group, and rooms they are spread over.
const GROUP: u64 = 100;

/// Writes groups of messages to the disk for so long.
///
/// # Errors
/// The disk fails.
pub(crate) fn disk(kind: Disk, folder: &Path, measure_ms: u64) -> Result<Value> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("floor.bin");
    let result = match kind {
        Disk::Append => append(&path, measure_ms, false),
        Disk::AppendEach => append(&path, measure_ms, true),
        Disk::RedbRows => redb_rows(&path, measure_ms),
    };
    std::fs::remove_file(&path).context("the file of the floor is gone")?;
    result
}

fn append(path: &Path, measure_ms: u64, each: bool) -> Result<Value> {
    let mut file: File = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)?;
    let mut event = Event::new();
    let mut group = Vec::new();
    let mut number = 0;
    groups(measure_ms, || {
        group.clear();
        for _ in 0..GROUP {
            number += 1;
            let row = event.number(number);
            if each {
                file.write_all(row)?;
            } else {
                group.extend_from_slice(row);
            }
        }
        file.write_all(&group)?;
        file.sync_data()?;
        Ok(())
    })
}

fn redb_rows(path: &Path, measure_ms: u64) -> Result<Value> {
    const ROWS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("rows");
    const CACHE_BYTES: usize = 64 * 1024 * 1024;
    if path.exists() {
        std::fs::remove_file(path)?;
    }
    let db = Database::builder()
        .set_cache_size(CACHE_BYTES)
        .create(path)?;
    let mut event = Event::new();
    let mut seq = 0;
    groups(measure_ms, || {
        let tx = db.begin_write()?;
        {
            let mut rows = tx.open_table(ROWS)?;
            seq += 1;
            for room in 0..GROUP {
                rows.insert((room, seq), event.number(seq))?;
            }
        }
        tx.commit()?;
        Ok(())
    })
}

/// Writes groups for so long, the first part of it unmeasured.
fn groups(measure_ms: u64, mut write: impl FnMut() -> Result<()>) -> Result<Value> {
    const WARM: Duration = Duration::from_millis(500);
    let warm = Instant::now();
    while warm.elapsed() < WARM {
        write()?;
    }
    let mut latencies = Latencies::new()?;
    let meter = Meter::alone()?;
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(measure_ms) {
        let begun = Instant::now();
        write()?;
        latencies.record(begun.elapsed().as_nanos() as u64);
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "messages_per_s": (latencies.len() * GROUP) as f64 / seconds,
        "latency": latencies.summary(),
        "shares": meter.stop_alone()?,
    }))
}
