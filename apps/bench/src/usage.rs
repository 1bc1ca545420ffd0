//! What a run cost: processor time of the generator, of the server and of everybody else, and the server's memory.

use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result};

/// Processor time of a process so far, in nanoseconds, summed over its threads. Threads that have ended are not in
/// it; servers keep theirs.
fn process_ns(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
        // A thread may end between the listing and the look at it.
        let Ok(line) = fs::read_to_string(task?.path().join("schedstat")) else {
            continue;
        };
        let on_cpu = line.split(' ').next().unwrap_or_default();
        total += on_cpu.parse::<u64>().unwrap_or_default();
    }
    Ok(total)
}

/// Busy time of the whole machine so far, in nanoseconds (in steps of a hundredth of a second).
fn machine_ns() -> Result<u64> {
    const TICK_NS: u64 = 10_000_000;
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    // cpu user nice system idle iowait irq softirq steal …
    let ticks: Vec<u64> = line
        .split_ascii_whitespace()
        .skip(1)
        .map(|cell| cell.parse().unwrap_or(0))
        .collect();
    let busy = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|&column| ticks.get(column))
        .sum::<u64>();
    Ok(busy * TICK_NS)
}

/// A stopwatch over processor time.
pub(crate) struct Meter {
    server: u32,
    started: Instant,
    own_ns: u64,
    server_ns: u64,
    machine_ns: u64,
}

/// Shares of one core, 1.0 being all of it.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shares {
    /// The generator's.
    pub(crate) generator: f64,
    /// The server's.
    pub(crate) server: f64,
    /// Everybody else's on the machine, all cores together; none for a moment too short to tell.
    pub(crate) others: Option<f64>,
}

impl Shares {
    /// Above this share the generator had no time left.
    const FULL: f64 = 0.93;

    /// Whether the generator, and not the server, may have set the pace.
    pub(crate) fn generator_was_the_limit(&self) -> bool {
        self.generator > Self::FULL && self.server < Self::FULL
    }
}

impl Meter {
    /// Starts measuring.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn start(server: u32) -> Result<Self> {
        Ok(Self {
            server,
            started: Instant::now(),
            own_ns: process_ns(std::process::id())?,
            server_ns: process_ns(server)?,
            machine_ns: machine_ns()?,
        })
    }

    /// The shares since the start.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn stop(&self) -> Result<Shares> {
        // The machine's time comes in steps of 10 ms.
        const LONG_ENOUGH_NS: f64 = 500e6;
        let wall = self.started.elapsed().as_nanos() as f64;
        let own = process_ns(std::process::id())?.saturating_sub(self.own_ns);
        let server = process_ns(self.server)?.saturating_sub(self.server_ns);
        let machine = machine_ns()?.saturating_sub(self.machine_ns);
        Ok(Shares {
            generator: own as f64 / wall,
            server: server as f64 / wall,
            others: (wall > LONG_ENOUGH_NS)
                .then(|| machine.saturating_sub(own + server) as f64 / wall),
        })
    }
}

/// A line of `/proc/<pid>/status`, in bytes.
fn status_bytes(pid: u32, name: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .with_context(|| format!("no {name} in the status"))?;
    Ok(kib * 1024)
}

/// Resident memory of a process, in bytes.
///
/// # Errors
/// The process is gone.
pub(crate) fn rss(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS")
}

/// The most resident memory since the start, or since [`forget_peak`].
///
/// # Errors
/// The process is gone.
pub(crate) fn peak_rss(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM")
}

/// Starts a new measurement of the peak.
///
/// # Errors
/// The process is gone, or another user's.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    const RESET_PEAK: &str = "5";
    fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK).context("the peak cannot be reset")
}
