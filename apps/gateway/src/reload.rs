//! Reading the configuration again while it is in force: SIGHUP, and `stack-gateway reload`.
//!
//! All of it is read and checked before anything changes; with a fault nothing does. What was changed and cannot come into
//! force without a restart is told every time until there is one. No value is told, some are secret.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::config::{self, Config, Fault, Faults, Layers, Secret};
use crate::metrics::TlsMetrics;
use crate::networks::Networks;
use crate::server::Places;
use crate::telemetry;
use crate::tls::{self, Tls};

/// What has become of a setting that says something else than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The setting, as `log` or `tls.cert`.
    pub key: String,
    /// Whether it is in force now; if not, it will be after a restart.
    pub applied: bool,
}

/// What gateways and edges have in common that can change while they run. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Live(Arc<Inner>);

struct Inner {
    /// Held for as long as one reading takes, so that two do not mix.
    in_force: Mutex<Layers>,
    trusted_proxies: Networks,
    proxy_protocol: Networks,
    shutdown_deadline_ms: AtomicU64,
    metrics_token: RwLock<Option<Secret>>,
    places: Places,
    tls: Option<(Tls, TlsMetrics)>,
}

impl Live {
    /// What this configuration says.
    pub(crate) fn new(config: &Config, places: Places, tls: Option<(Tls, TlsMetrics)>) -> Self {
        Self(Arc::new(Inner {
            in_force: Mutex::new(config.layers.clone()),
            trusted_proxies: Networks::new(&config.trusted_proxies),
            proxy_protocol: Networks::new(&config.proxy_protocol),
            shutdown_deadline_ms: AtomicU64::new(millis(config.shutdown_deadline)),
            metrics_token: RwLock::new(config.metrics.token.clone()),
            places,
            tls,
        }))
    }

    /// Peers whose `X-Forwarded-For` is believed.
    pub(crate) fn trusted_proxies(&self) -> &Networks {
        &self.0.trusted_proxies
    }

    /// Peers that have to say whose a connection is.
    pub(crate) fn proxy_protocol(&self) -> &Networks {
        &self.0.proxy_protocol
    }

    /// How long a shutdown waits for connections.
    pub(crate) fn shutdown_deadline(&self) -> Duration {
        Duration::from_millis(self.0.shutdown_deadline_ms.load(Ordering::Relaxed))
    }

    /// What whoever asks for the measures has to show.
    pub(crate) fn metrics_token(&self) -> Option<Secret> {
        self.0.metrics_token.read().clone()
    }

    /// Reads the configuration again. `apply` brings into force what is not in here, and says whether it could.
    pub(crate) async fn reload(
        &self,
        apply: impl Fn(&str, &Config) -> bool,
    ) -> Result<Vec<Change>, Faults> {
        let mut in_force = self.0.in_force.lock().await;
        let inputs = in_force.inputs().clone();
        // The files may be on a disk that does not answer.
        let loaded = spawn_blocking(move || Config::load(&inputs)).await;
        let loaded = loaded.unwrap_or_else(|error| Err(not_read(&error)));
        let config = loaded.inspect_err(|faults| self.refuse(faults))?;
        let changed = in_force.changed(&config.layers);
        let of_tls = |key: &String| key.starts_with("tls.") && config::is_live(key);
        let tls_adopted = match changed.iter().any(of_tls) {
            true => self.adopt_tls(&config).await,
            false => {
                // The same files may hold something else.
                tls::reload(self.0.tls.as_ref()).await;
                false
            }
        };
        let changes = changed.into_iter().map(|key| {
            let applied = config::is_live(&key)
                && match &*key {
                    "tls.cert" | "tls.key" | "tls.client_ca" | "tls.min_version" | "tls.http2" => {
                        tls_adopted
                    }
                    key => self.apply(key, &config) || apply(key, &config),
                };
            if applied {
                in_force.adopt(&key, &config.layers);
                tracing::info!(key, "{key} was changed and is in force");
            } else {
                tracing::warn!(key, "{key} was changed and needs a restart");
            }
            Change { key, applied }
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            tracing::info!("the configuration was read again, nothing in it has changed");
        }
        Ok(changes)
    }

    fn apply(&self, key: &str, config: &Config) -> bool {
        let inner = &*self.0;
        match key {
            "trusted_proxies" => {
                inner.trusted_proxies.set(&config.trusted_proxies);
                inner.places.set(config);
            }
            "proxy_protocol" => {
                inner.proxy_protocol.set(&config.proxy_protocol);
                inner.places.set(config);
            }
            "limits.connections" | "limits.connections_per_ip" => inner.places.set(config),
            "shutdown.deadline_s" => {
                let deadline = millis(config.shutdown_deadline);
                inner
                    .shutdown_deadline_ms
                    .store(deadline, Ordering::Relaxed);
            }
            "metrics.token" => *inner.metrics_token.write() = config.metrics.token.clone(),
            "log" => telemetry::set_filter(&config.log),
            _ => return false,
        }
        true
    }

    /// Whether there was TLS by files before, and is now.
    async fn adopt_tls(&self, config: &Config) -> bool {
        let (Some((tls, metrics)), Some(new)) = (&self.0.tls, &config.tls) else {
            return false;
        };
        // It may have to wait for who reads files just now.
        let (own, new) = (tls.clone(), new.clone());
        let adopted = spawn_blocking(move || own.adopt(&new)).await;
        let adopted = adopted.unwrap_or(false);
        if adopted {
            metrics.reloaded(true, tls.not_after());
        }
        adopted
    }

    fn refuse(&self, faults: &Faults) {
        for fault in &faults.0 {
            let Fault {
                source,
                key,
                reason,
            } = fault;
            tracing::error!(source, key, reason, "{fault}");
        }
        let count = faults.0.len();
        tracing::error!(
            faults = count,
            "the configuration was read again and has faults ({count}): everything stays as it is"
        );
        if let Some((tls, metrics)) = &self.0.tls
            && faults.0.iter().any(|fault| fault.key.starts_with("tls."))
        {
            metrics.reloaded(false, tls.not_after());
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn not_read(error: &tokio::task::JoinError) -> Faults {
    Faults(vec![Fault {
        source: "the gateway".to_owned(),
        key: String::new(),
        reason: format!("the configuration could not be read: {error}"),
    }])
}
