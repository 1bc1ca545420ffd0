//! Starting and stopping what is measured.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::machine::Machine;
use super::plan::{self, Case, Data, Subject};
use crate::{floor, http};

const STARTS_WITHIN: Duration = Duration::from_secs(20);
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A server under measurement. Dropped, it is killed.
pub(crate) struct Running {
    pub(crate) subject: Subject,
    pub(crate) address: SocketAddr,
    child: Child,
    /// Where a gateway's local socket is.
    socket: PathBuf,
    /// Removed when it ends.
    data: Option<PathBuf>,
}

impl Running {
    /// Starts a case's server and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn start(machine: &Machine, case: &Case, quick: bool) -> Result<Self> {
        let data = match case.data {
            Data::Fresh => machine.out.join("data").join("fresh"),
            Data::Filled => {
                machine
                    .out
                    .join("data")
                    .join(if quick { "filled-quick" } else { "filled" })
            }
        };
        if case.data == Data::Fresh && data.exists() {
            fs::remove_dir_all(&data)?;
        }
        let fill = case.data == Data::Filled && !data.exists();
        fs::create_dir_all(&data)?;
        let server = Self::spawn(machine, case, data)?;
        if fill {
            for (room, count) in plan::filled_rooms(quick) {
                let arguments = ["fill", "--room", room, "--count", &count.to_string()];
                machine.load(&server, &arguments.map(str::to_owned))?;
            }
        }
        Ok(server)
    }

    fn spawn(machine: &Machine, case: &Case, data: PathBuf) -> Result<Self> {
        let address = free_address()?;
        let log = File::create(machine.out.join(format!("{}.log", case.subject.name())))?;
        let mut child = command(machine, case, address, &data)?
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} cannot be started", case.subject.name()))?;
        let started = Instant::now();
        while !is_up(case.subject, address) {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "{} ended at its start ({status}), see its log",
                    case.subject.name()
                );
            }
            if started.elapsed() > STARTS_WITHIN {
                child.kill()?;
                child.wait()?;
                bail!("{} does not answer, see its log", case.subject.name());
            }
            sleep(LOOK_EVERY);
        }
        let socket = data.join("gateway.sock");
        let data = (case.data == Data::Fresh).then_some(data);
        Ok(Self {
            socket,
            subject: case.subject,
            address,
            child,
            data,
        })
    }

    /// Its local socket, if it is a gateway.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process. `taskset` becomes what it starts, so this is the server's own.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end and waits for it.
    ///
    /// # Errors
    /// It had ended by itself.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()?
            && self.subject != Subject::SendLoop
        {
            bail!("{} ended during the run: {status}", self.subject.name());
        }
        // The standard library only kills; a gateway has to close its file.
        let _ = Command::new("kill")
            .arg(self.pid().to_string())
            .stderr(Stdio::null())
            .status();
        let asked = Instant::now();
        while asked.elapsed() < ENDS_WITHIN {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            sleep(LOOK_EVERY);
        }
        bail!("{} did not end when asked", self.subject.name())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and nothing depends on it.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(data) = &self.data {
            let _ = fs::remove_dir_all(data);
        }
    }
}

/// Removes what the servers wrote.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove_data(machine: &Machine) -> Result<()> {
    let data = machine.out.join("data");
    if data.exists() {
        fs::remove_dir_all(data)?;
    }
    Ok(())
}

/// An address on the loopback that was free a moment ago.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn command(machine: &Machine, case: &Case, address: SocketAddr, data: &PathBuf) -> Result<Command> {
    // Limits are what protects others from who floods; everywhere else they would be what is measured.
    let is_limited = case.scenario == plan::IPC_NEIGHBOURS;
    let pinned = |program: &std::ffi::OsStr| Machine::pinned(machine.server_core, program);
    let port = address.port().to_string();
    let node = |script: &str| {
        let mut command = pinned("node".as_ref());
        command.arg(machine.peers.join(script)).arg(&port);
        command
    };
    Ok(match case.subject {
        Subject::Gateway => {
            let mut command = pinned(machine.gateway.as_os_str());
            for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("STACK_")) {
                command.env_remove(name);
            }
            command
                .args(["serve", "--listen", &address.to_string(), "--data-dir"])
                .arg(data)
                // A setting that keeps the generator out is not what is measured.
                .env("STACK_RATE_ENABLED", is_limited.to_string())
                .env("STACK_LIMITS_CONNECTIONS_PER_USER", "60000")
                .env("STACK_AUTH_ACCESS_TOKEN_TTL_S", "3600")
                .env("STACK_LOG", "warn")
                .current_dir(data);
            if case.scenario == plan::SOAK {
                // Its file grows all the time, and the cache with it up to its bound: the smaller the bound, the
                // sooner a leak shows.
                command.env("STACK_STORAGE_CACHE_MIB", plan::SOAK_CACHE_MIB.to_string());
            }
            if case.scenario == plan::HISTORY {
                let cache = plan::HISTORY_CACHE_MIB.to_string();
                command.env("STACK_STORAGE_CACHE_MIB", cache);
            }
            command
        }
        Subject::Ws => node("ws.mjs"),
        Subject::WsCorked => {
            let mut command = node("ws.mjs");
            command.arg("corked");
            command
        }
        Subject::SocketIo => node("socket-io.mjs"),
        Subject::Nats => {
            let config = machine.out.join("nats.conf");
            let clients = free_address()?;
            let text = format!(
                "listen: \"{clients}\"\nwebsocket {{ listen: \"{address}\", no_tls: true, compression: false }}\n"
            );
            fs::write(&config, text)?;
            let mut command = pinned("nats-server".as_ref());
            command.arg("--config").arg(config);
            command
        }
        Subject::SendLoop => {
            let mut command = pinned(machine.bench.as_os_str());
            command
                .args(["floor-send", "--listen", &address.to_string()])
                .args(["--subscribers", &plan::subscribers_of(case)]);
            command
        }
        Subject::Append
        | Subject::AppendEach
        | Subject::RedbRows
        | Subject::Bus
        | Subject::BareSockets
        | Subject::BareRpc => {
            bail!("{} is no server", case.subject.name())
        }
    })
}

fn is_up(subject: Subject, address: SocketAddr) -> bool {
    match subject {
        Subject::Gateway => http::is_up(address, "/readyz"),
        Subject::Ws | Subject::WsCorked | Subject::SocketIo => http::is_up(address, "/"),
        // These take the connection of whoever knocks; what it says is an error to NATS, and nobody to the loop.
        _ => floor::is_listening(address),
    }
}
