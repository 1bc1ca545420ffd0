//! The load generator of Stack, and the suite that runs it against the gateway, its peers and the floors.
//!
//! `stack-bench load` is one scenario against one server that is already running; it prints one line of JSON.
//! `stack-bench suite` starts servers and generators in turn, each on a core of its own, and writes the report.

mod dialect;
mod floor;
mod frame;
mod http;
mod latency;
mod load;
mod suite;
mod swarm;
mod usage;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};
use load::{Server, acks, bus, catch_up, fan_out, fill, history, idle, ipc, restart, soak, storm};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One scenario against a running server.
    Load {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        scenario: Scenario,
    },
    /// A server that writes one small message to each socket, over and over.
    FloorSend {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// Sockets to wait for.
        #[arg(long, default_value_t = 1000)]
        subscribers: usize,
    },
    /// Messages written to the disk in groups.
    FloorDisk {
        /// How.
        #[arg(long, value_enum)]
        kind: floor::Disk,
        /// A folder on the disk that is meant.
        #[arg(long)]
        folder: PathBuf,
        /// Time of the measurement.
        #[arg(long, default_value_t = 3000)]
        measure_ms: u64,
    },
    /// A transport of the bus between two processes, or a bare loop over its library.
    Bus(bus::Options),
    /// The second process of it.
    BusReader(bus::ReaderOptions),
    /// Bare sockets of the library that the local socket speaks by.
    IpcBare(ipc::BareOptions),
    /// The other process of it.
    IpcBareServer(ipc::BareServerOptions),
    /// Programs that stall and flood, until they are killed.
    IpcDaemons(ipc::DaemonsOptions),
    /// A gateway with thousands of sockets is ended and started again.
    Restart(restart::Options),
    /// Everything, side by side.
    Suite(suite::Options),
    /// Minutes of everything at once, and whether memory and latencies stayed flat.
    Soak(suite::SoakOptions),
    /// Writes the report again from results that are there.
    Report(suite::ReportOptions),
}

#[derive(Subcommand)]
enum Scenario {
    /// One room, many subscribers.
    FanOut(fan_out::Options),
    /// Durable answers over many rooms.
    Acks(acks::Options),
    /// Memory of idle connections.
    Idle(idle::Options),
    /// Thousands come back at once.
    Storm(storm::Options),
    /// One client is a million events behind.
    CatchUp(catch_up::Options),
    /// Pages of history in a large and a small room.
    History(history::Options),
    /// Everything at once, for minutes.
    Soak(soak::Options),
    /// A program at the local socket.
    Ipc(ipc::Options),
    /// WebSocket clients with and without programs that stall and flood.
    IpcNeighbours(ipc::NeighboursOptions),
    /// Fills a room with messages.
    Fill {
        /// The room.
        #[arg(long)]
        room: String,
        /// Messages.
        #[arg(long)]
        count: u64,
    },
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Load { server, scenario } => {
            let result = match &scenario {
                Scenario::FanOut(options) => fan_out::run(&server, options)?,
                Scenario::Acks(options) => acks::run(&server, options)?,
                Scenario::Idle(options) => idle::run(&server, options)?,
                Scenario::Storm(options) => storm::run(&server, options)?,
                Scenario::CatchUp(options) => catch_up::run(&server, options)?,
                Scenario::History(options) => history::run(&server, options)?,
                Scenario::Soak(options) => soak::run(&server, options)?,
                Scenario::Ipc(options) => ipc::run(&server, options)?,
                Scenario::IpcNeighbours(options) => ipc::run_neighbours(&server, options)?,
                Scenario::Fill { room, count } => {
                    serde_json::json!({"head": fill::run(&server, room, *count)?})
                }
            };
            println!("{result}");
            Ok(())
        }
        Command::FloorSend {
            listen,
            subscribers,
        } => floor::send_loop(listen, subscribers),
        Command::FloorDisk {
            kind,
            folder,
            measure_ms,
        } => {
            println!("{}", floor::disk(kind, &folder, measure_ms)?);
            Ok(())
        }
        Command::Bus(options) => {
            println!("{}", bus::run(&options)?);
            Ok(())
        }
        Command::BusReader(options) => bus::read(&options),
        Command::IpcBare(options) => {
            println!("{}", ipc::run_bare(&options)?);
            Ok(())
        }
        Command::IpcBareServer(options) => ipc::serve_bare(&options),
        Command::IpcDaemons(options) => ipc::daemons(&options),
        Command::Restart(options) => {
            println!("{}", restart::run(&options)?);
            Ok(())
        }
        Command::Suite(options) => suite::run(&options),
        Command::Soak(options) => suite::soak(&options),
        Command::Report(options) => suite::report(&options),
    }
}
