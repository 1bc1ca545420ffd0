//! What a run cost: processor time of the generator, of the server and of everybody else, and the server's memory.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::swarm::Swarm;

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

/// How busy the machine is right now, in cores.
///
/// # Errors
/// The system does not tell.
pub(crate) fn machine_load() -> Result<f64> {
    const LOOK: Duration = Duration::from_millis(300);
    let before = machine_ns()?;
    std::thread::sleep(LOOK);
    Ok((machine_ns()? - before) as f64 / LOOK.as_nanos() as f64)
}

/// When the generator itself is later than this part of the latencies it measures by the clock, they tell of it.
pub(crate) const LATE: f64 = 0.5;

/// A stopwatch over processor time.
pub(crate) struct Meter {
    /// None where nothing but this process is measured.
    server: Option<u32>,
    started: Instant,
    own_ns: u64,
    waited_ns: u64,
    server_ns: u64,
    machine_ns: u64,
}

/// Shares of one core, 1.0 being all of it.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(crate) struct Shares {
    /// The generator's, without the time it waited awake.
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
    /// Starts measuring a server and the generator, whose waiting awake is no work.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn start(server: u32, swarm: &Swarm) -> Result<Self> {
        Ok(Self {
            server: Some(server),
            waited_ns: swarm.waited_ns(),
            server_ns: process_ns(server)?,
            ..Self::alone()?
        })
    }

    /// Starts measuring this process as a server.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn alone() -> Result<Self> {
        Ok(Self {
            server: None,
            started: Instant::now(),
            own_ns: process_ns(std::process::id())?,
            waited_ns: 0,
            server_ns: 0,
            machine_ns: machine_ns()?,
        })
    }

    /// Starts measuring this process, and as the server another one at whose other end of a wire it is.
    ///
    /// # Errors
    /// The other one is gone.
    pub(crate) fn beside(other: u32) -> Result<Self> {
        Ok(Self {
            server: Some(other),
            server_ns: process_ns(other)?,
            ..Self::alone()?
        })
    }

    /// The shares since the start.
    ///
    /// # Errors
    /// The server is gone.
    pub(crate) fn stop(&self, swarm: &Swarm) -> Result<Shares> {
        self.shares(swarm.waited_ns())
    }

    /// The shares since the start, without a generator.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn stop_alone(&self) -> Result<Shares> {
        self.shares(0)
    }

    fn shares(&self, waited_ns: u64) -> Result<Shares> {
        // The machine's time comes in steps of 10 ms.
        const LONG_ENOUGH_NS: f64 = 500e6;
        let wall = self.started.elapsed().as_nanos() as f64;
        let own = process_ns(std::process::id())?.saturating_sub(self.own_ns);
        let of_server =
            |pid| Ok::<_, anyhow::Error>(process_ns(pid)?.saturating_sub(self.server_ns));
        let server = self.server.map(of_server).transpose()?;
        let machine = machine_ns()?.saturating_sub(self.machine_ns);
        let others = machine.saturating_sub(own + server.unwrap_or(0)) as f64 / wall;
        let worked = own.saturating_sub(waited_ns - self.waited_ns);
        Ok(Shares {
            generator: if server.is_some() {
                worked as f64 / wall
            } else {
                0.0
            },
            server: server.unwrap_or(own) as f64 / wall,
            others: (wall > LONG_ENOUGH_NS).then_some(others),
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
