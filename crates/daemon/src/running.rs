//! A daemon from its start to its end.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::signals::Signals;

/// Runs a daemon until it ends by itself or a signal has asked it to: then its token is cancelled, and it is waited for.
/// What it failed of is logged and makes the process end with [`ExitCode::FAILURE`].
pub fn run<D>(daemon: impl FnOnce(CancellationToken) -> D) -> ExitCode
where
    D: Future<Output = anyhow::Result<()>>,
{
    match until_asked(daemon) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn until_asked<D>(daemon: impl FnOnce(CancellationToken) -> D) -> anyhow::Result<()>
where
    D: Future<Output = anyhow::Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let stop = CancellationToken::new();
        let mut daemon = std::pin::pin!(daemon(stop.clone()));
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
