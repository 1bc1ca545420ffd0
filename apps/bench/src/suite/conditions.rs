//! Under what conditions something was measured.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// What a number cannot be read without.
#[derive(Serialize, Deserialize)]
pub(crate) struct Conditions {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    pub(crate) stack: String,
    pub(crate) node: String,
    pub(crate) ws: String,
    pub(crate) socket_io: String,
    pub(crate) nats: String,
}

impl Conditions {
    /// Those of now. What cannot be found out is told as unknown.
    pub(crate) fn of(machine: &Machine, rounds: usize, quick: bool) -> Self {
        let gateway = machine.gateway.to_string_lossy();
        let package = |name: &str| {
            let path = machine
                .peers
                .join("node_modules")
                .join(name)
                .join("package.json");
            let text = fs::read_to_string(path).ok()?;
            let json: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(json.get("version")?.as_str()?.to_owned())
        };
        Self {
            quick,
            rounds,
            date: output("date", &["-u", "+%Y-%m-%d"]),
            processor: field("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: field("/proc/meminfo", "MemTotal")
                .trim_end_matches(" kB")
                .parse::<f64>()
                .map_or(0.0, |kib| kib / 1024.0 / 1024.0),
            kernel: output("uname", &["-sr"]),
            system: os_name(),
            stack: output(&gateway, &["--version"]),
            node: output("node", &["--version"]),
            ws: package("ws").unwrap_or_else(unknown),
            socket_io: package("socket.io").unwrap_or_else(unknown),
            nats: output("nats-server", &["--version"]),
        }
    }

    /// As a list for the report.
    pub(crate) fn render(&self) -> String {
        let what = if self.quick {
            "a smoke run, whose numbers say nothing".to_owned()
        } else {
            format!(
                "medians of {} rounds, all subjects in turn within each; ratios are medians of the rounds' ratios",
                self.rounds
            )
        };
        format!(
            "{what}. {machine} {stack}; Node {node} with ws {ws} and socket.io {socket_io}; {nats}.",
            machine = self.machine(),
            stack = self.stack,
            node = self.node,
            ws = self.ws,
            socket_io = self.socket_io,
            nats = self.nats,
        )
    }

    /// For the soak, which has no peers.
    pub(crate) fn render_soak(&self) -> String {
        format!("Conditions: {} {}.", self.machine(), self.stack)
    }

    fn machine(&self) -> String {
        format!(
            "{date}, {processor}, {cores} cores, {memory:.0} GiB, {system}, {kernel}. Server and generator are pinned to \
             a core each.",
            date = self.date,
            processor = self.processor,
            cores = self.cores,
            memory = self.memory_gib,
            system = self.system,
            kernel = self.kernel,
        )
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => unknown(),
    }
}

/// The first line `name : value` of a file.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text
        .lines()
        .find_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == name));
    value.map_or_else(unknown, |(_, value)| value.trim().to_owned())
}

fn os_name() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(unknown, |name| name.trim_matches('"').to_owned())
}
