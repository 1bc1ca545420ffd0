//! Looks whether the files of the certificate have changed, and reads them again; or has one issued.

use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Source, Tls};
use crate::config::Config;
use crate::error::StartError;
use crate::lifecycle::Lifecycle;
use crate::metrics::{Metrics, TlsMetrics};

/// Whoever renews a certificate does so weeks before its end. A look costs two or three system calls.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Files that were no good may be so tomorrow, and without a change: a certificate whose time comes, a disk that works
/// again.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(60);

impl Tls {
    /// [`Tls::reload`], told in the log and counted.
    pub(crate) fn reload_and_tell(&self, metrics: &TlsMetrics) {
        let before = self.fault();
        let reloaded = self.reload();
        metrics.reloaded(reloaded.is_ok(), self.not_after());
        match reloaded {
            Ok(()) => tracing::info!(
                not_after = self.not_after().map(|at| at.0),
                "the certificate was read again; connections from now on get it"
            ),
            // It is tried again and again.
            Err(fault) if before.as_ref() == Some(&fault) => tracing::debug!(
                %fault,
                "the changed certificate is still no good: {fault}"
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
    if let Source::Acme(acme) = &tls.0.source {
        acme.make_folder()?;
    }
    let metrics = metrics.tls(tls.not_after())?;
    let stop = lifecycle.background_stopping.clone();
    let watch = watch(tls.clone(), metrics.clone(), stop);
    lifecycle.background.spawn(watch);
    Ok(Some((tls, metrics)))
}

/// Reads the certificate again, if there is one. What is wrong with it is told in the log.
pub(crate) async fn reload(tls: Option<&(Tls, TlsMetrics)>) {
    if let Some((tls, metrics)) = tls {
        reload_aside(tls, metrics).await;
    }
}

/// [`Tls::reload_and_tell`] where nothing else waits for it: the files may be on a disk that does not answer.
async fn reload_aside(tls: &Tls, metrics: &TlsMetrics) {
    let (tls, metrics) = (tls.clone(), metrics.clone());
    let reload = move || tls.reload_and_tell(&metrics);
    if let Err(error) = spawn_blocking(reload).await {
        tracing::error!(%error, "the certificate could not be read again: {error}");
    }
}

/// Keeps the certificate up to date, until `stop`.
async fn watch(tls: Tls, metrics: TlsMetrics, stop: CancellationToken) {
    match &tls.0.source {
        Source::Files(_) => watch_files(&tls, metrics, stop).await,
        Source::Acme(acme) => acme.run(metrics, stop).await,
        Source::Unread => {}
    }
}

/// Reads the files again when they have changed. A certificate and its key are two files: a change is
/// taken when it has stood for one look, so that nobody reads between the two.
async fn watch_files(tls: &Tls, metrics: TlsMetrics, stop: CancellationToken) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    let mut tried_at = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        // This may wait for a disk as well, or for who reads from it.
        let looking = tls.clone();
        let look = spawn_blocking(move || (looking.changed(), looking.fault().is_some()));
        let (changed, is_faulty) = tokio::select! {
            () = stop.cancelled() => return,
            looked = look => match looked {
                Ok(looked) => looked,
                Err(_) => continue,
            },
        };
        let try_again = is_faulty && tried_at.elapsed() >= TRY_AGAIN_EVERY;
        if try_again || (changed.is_some() && changed == last) {
            tokio::select! {
                () = stop.cancelled() => return,
                () = reload_aside(tls, &metrics) => {}
            }
            tried_at = Instant::now();
            last = None;
        } else {
            last = changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tls::TlsSettings;

    #[tokio::test(start_paused = true)]
    async fn files_that_are_no_good_are_tried_again_every_minute_without_a_change() {
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        fs::write(&cert, pair.cert.pem()).unwrap();
        fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
        let tls = Tls::open(TlsSettings::new(&cert, &key)).unwrap();
        let metrics = Metrics::new().unwrap().tls(tls.not_after()).unwrap();
        let stop = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        let (watched, told, until) = (tls.clone(), metrics.clone(), stop.clone());
        tasks.spawn(async move { watch_files(&watched, told, until).await });
        fs::write(&cert, "torn").unwrap();
        let mut failures = Vec::new();
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(60)).await;
            failures.push(metrics.failures());
        }
        assert_eq!(failures, [1, 2, 3]);
        assert!(tls.fault().is_some());
        fs::write(&cert, pair.cert.pem()).unwrap();
        tokio::time::sleep(Duration::from_secs(180)).await;
        assert_eq!((metrics.failures(), tls.fault()), (3, None));
        stop.cancel();
        tasks.join_next().await.unwrap().unwrap();
    }
}
