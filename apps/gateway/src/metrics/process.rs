//! What the process takes of the machine, under the names that Prometheus' own libraries use. Known on Linux.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::families::Families;

/// The process, as the system sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Process {
    /// Bytes of memory that are really there.
    pub(crate) resident_bytes: u64,
    /// Open file descriptors, each connection among them.
    pub(crate) open_fds: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Processor time, in seconds.
    pub(crate) cpu_seconds: f64,
}

impl Process {
    /// Looks at it now; `None` where the system does not tell.
    pub(crate) fn now() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        // The name in front may hold anything, so what is behind its closing bracket counts.
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let (_, stat) = stat.rsplit_once(')')?;
        let ticks = |field: usize| stat.split_whitespace().nth(field)?.parse::<f64>().ok();
        Some(Self {
            resident_bytes: field(&status, "VmRSS:")? * 1024,
            // Less the one of the folder that is read.
            open_fds: (fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1),
            threads: field(&status, "Threads:")?,
            // In user mode and in the kernel.
            cpu_seconds: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        })
    }

    pub(super) fn tell(self, started: SystemTime, out: &mut Families) {
        out.seconds(
            "process_cpu_seconds_total",
            "Processor time of the process, in seconds.",
            self.cpu_seconds,
        );
        out.gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is really there.",
            self.resident_bytes,
        );
        out.gauge(
            "process_open_fds",
            "Open file descriptors, connections among them.",
            self.open_fds,
        );
        if let Some(most) = most_fds() {
            out.gauge(
                "process_max_fds",
                "File descriptors that may be open.",
                most,
            );
        }
        out.gauge("process_threads", "Threads of the process.", self.threads);
        let since = started.duration_since(UNIX_EPOCH);
        out.level(
            "process_start_time_seconds",
            "When the gateway was started, in seconds since 1970.",
            &[],
            since.unwrap_or(Duration::ZERO).as_secs_f64(),
        );
    }
}

/// Linux tells processor times in these, whatever the kernel was built with.
const TICKS_PER_SECOND: f64 = 100.0;

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn most_fds() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_seen() {
        let open = fs::File::open("/proc/self/status").unwrap();
        let process = Process::now().unwrap();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.threads >= 1 && process.open_fds >= 3, "{process:?}");
        drop(open);
        assert!(most_fds().is_some());
    }
}
