//! Processes on cores of their own.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::plan::{Case, Subject};
use super::servers::Running;

/// Where things are and run.
pub(crate) struct Machine {
    pub(crate) server_core: usize,
    pub(crate) load_core: usize,
    pub(crate) gateway: PathBuf,
    pub(crate) peers: PathBuf,
    /// For data, logs and results.
    pub(crate) out: PathBuf,
    /// This binary.
    pub(crate) bench: PathBuf,
}

impl Machine {
    /// A command that will run on one core.
    pub(crate) fn pinned(core: usize, program: &std::ffi::OsStr) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(core.to_string()).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// Loads a server and gives the generator's numbers.
    ///
    /// # Errors
    /// The generator's, as text.
    pub(crate) fn load(&self, server: &Running, arguments: &[String]) -> Result<Value> {
        let mut command = Self::pinned(self.load_core, self.bench.as_os_str());
        command
            .args(["load", "--address", &server.address.to_string()])
            .args(["--pid", &server.pid().to_string()])
            .args(["--dialect", server.subject.dialect()]);
        if server.subject == Subject::Gateway {
            command.arg("--gateway");
            command.arg("--socket").arg(server.socket());
        }
        json_of(command.args(arguments))
    }

    /// Measures a floor of the disk, on the servers' core.
    ///
    /// # Errors
    /// The disk's, as text.
    pub(crate) fn floor(&self, case: &Case) -> Result<Value> {
        let kind = match case.subject {
            Subject::Append => "append",
            Subject::AppendEach => "append-each",
            _ => "redb-rows",
        };
        let mut command = Self::pinned(self.server_core, self.bench.as_os_str());
        command
            .args(["floor-disk", "--kind", kind, "--folder"])
            .arg(self.out.join("data"));
        json_of(command.args(&case.arguments))
    }

    /// Measures a bare loop over the RPC library, its server on the servers' core.
    ///
    /// # Errors
    /// A socket's, as text.
    pub(crate) fn bare_rpc(&self, case: &Case) -> Result<Value> {
        let mut command = Self::pinned(self.load_core, self.bench.as_os_str());
        command
            .args(["ipc-bare", "--server-core", &self.server_core.to_string()])
            .arg("--folder")
            .arg(self.out.join("data"));
        json_of(command.args(&case.arguments))
    }

    /// Measures a transport, its publisher on the servers' core and its reader on the generator's.
    ///
    /// # Errors
    /// A socket's, as text.
    pub(crate) fn bus(&self, case: &Case) -> Result<Value> {
        let mut command = Self::pinned(self.server_core, self.bench.as_os_str());
        command
            .args(["bus", "--reader-core", &self.load_core.to_string()])
            .arg("--folder")
            .arg(self.out.join("data"));
        if case.subject == Subject::BareSockets {
            command.arg("--bare");
        }
        json_of(command.args(&case.arguments))
    }
}

fn json_of(command: &mut Command) -> Result<Value> {
    // A backtrace would only hide the error.
    let output = command
        .env("RUST_BACKTRACE", "0")
        .output()
        .context("taskset cannot be run")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
