//! Keeps rooms as compressed JSON lines: every event once, in order, whatever happens to the process.

mod archive;
mod cli;
mod daemon;
mod follow;
mod lines;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use stack_daemon::{Signals, init_telemetry};
use tokio_util::sync::CancellationToken;

use crate::cli::Cli;

/// What wrong arguments end with.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = init_telemetry(&cli.log, cli.log_format) {
        eprintln!("error: --log is no filter: {error}");
        return ExitCode::from(USAGE);
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let stop = CancellationToken::new();
        let daemon = daemon::run(cli, stop.clone());
        tokio::pin!(daemon);
        tokio::select! {
            outcome = &mut daemon => return outcome,
            signal = signals.next() => {
                tracing::info!(signal, "ends after {signal}");
                stop.cancel();
            }
        }
        daemon.await
    })
}
