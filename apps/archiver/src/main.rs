//! Keeps rooms as compressed JSON lines: every event once, in order, whatever happens to the process.

mod archive;
mod cli;
mod daemon;
mod follow;
mod lines;

use std::process::ExitCode;

use clap::Parser as _;
use stack_daemon::init_telemetry;

use crate::cli::Cli;

/// What wrong arguments end with.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = init_telemetry(&cli.log, cli.log_format) {
        eprintln!("error: --log is no filter: {error}");
        return ExitCode::from(USAGE);
    }
    stack_daemon::run(|stop| daemon::run(cli, stop))
}
