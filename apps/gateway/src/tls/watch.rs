//! Looks whether the files of the certificate have changed, and reads them again; or has one issued.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Source, Tls};
use crate::config::Config;
use crate::error::StartError;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, TlsMetrics};

/// Whoever renews a certificate does so weeks before its end. A look costs two or three system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Tls {
    /// [`Tls::reload`], told in the log and counted.
    pub(crate) fn reload_and_tell(&self, metrics: &TlsMetrics) {
        let reloaded = self.reload();
        metrics.reloaded(reloaded.is_ok(), self.not_after());
        match reloaded {
            Ok(()) => tracing::info!(
                not_after = self.not_after().map(|at| at.0),
                "the certificate was read again; connections from now on get it"
            ),
            Err(fault) => tracing::error!(
                %fault,
                "the changed certificate is no good, the old one stays in use: {fault}"
            ),
        }
    }
}

/// What connections are enciphered with, if the configuration says so, kept up to date for as long as the gateway runs.
pub(crate) fn watched(
    config: &Config,
    metrics: &Metrics,
    lifecycle: &Lifecycle,
) -> Result<Option<(Tls, TlsMetrics)>, StartError> {
    let Some(tls) = config.tls.clone() else {
        return Ok(None);
    };
    let metrics = metrics.tls(tls.not_after())?;
    let stop = lifecycle.background_stopping.clone();
    let watch = watch(tls.clone(), metrics.clone(), stop);
    lifecycle.background.spawn(watch);
    Ok(Some((tls, metrics)))
}

/// Reads the certificate again, if there is one. What is wrong with it is told in the log.
pub(crate) fn reload(tls: Option<&(Tls, TlsMetrics)>) {
    if let Some((tls, metrics)) = tls {
        tls.reload_and_tell(metrics);
    }
}

/// Keeps the certificate up to date, until `stop`.
async fn watch(tls: Tls, metrics: TlsMetrics, stop: CancellationToken) {
    match &tls.0.source {
        Source::Files(_) => watch_files(&tls, metrics, stop).await,
        Source::Acme(acme) => acme.run(metrics, stop).await,
    }
}

/// Reads the files again when they have changed. A certificate and its key are two files: a change is
/// taken when it has stood for one look, so that nobody reads between the two.
async fn watch_files(tls: &Tls, metrics: TlsMetrics, stop: CancellationToken) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        // The files may be on a disk that does not answer.
        let looking = tls.clone();
        let Ok(changed) = tokio::task::spawn_blocking(move || looking.changed()).await else {
            continue;
        };
        if changed.is_some() && changed == last {
            tls.reload_and_tell(&metrics);
            last = None;
        } else {
            last = changed;
        }
    }
}
