//! Whether what the gateway stands on works.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use stack_bus::{Bus, Message, Topic};
use stack_delivery::Hub;
use stack_storage::Store;
use tokio::sync::Mutex;

use crate::http::chain;

/// A look at the storage is a commit and an fsync, and anybody may ask; so one look serves all that ask meanwhile.
const LOOKED_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// Longer than any commit on a disk that works.
const PATIENCE: Duration = Duration::from_secs(5);

/// The counter that a look counts in: a real write, that an administrator can tell from the others.
const COUNTER: &str = "readiness.probe";

/// One thing the gateway stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Check {
    /// It works.
    Ok,
    /// It does not; the log says why.
    Failed,
}

impl Check {
    fn failed_if(failed: bool) -> Self {
        if failed { Self::Failed } else { Self::Ok }
    }
}

/// All of them.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Checks {
    storage: Check,
    bus: Check,
    /// Failed: the hub has panicked; readers get nothing any more, or late.
    delivery: Check,
    /// Failed: the gateway is going down.
    accepting: Check,
}

impl Checks {
    /// Whether all is well.
    pub(crate) fn pass(&self) -> bool {
        [self.storage, self.bus, self.delivery, self.accepting]
            .iter()
            .all(|check| *check == Check::Ok)
    }
}

/// Looks, and remembers for a moment what it saw.
pub(crate) struct Readiness {
    store: Store,
    bus: Arc<dyn Bus>,
    hub: Hub,
    last: Mutex<Option<(Instant, Check, Check)>>,
}

impl Readiness {
    /// A look at these.
    pub(crate) fn new(store: Store, bus: Arc<dyn Bus>, hub: Hub) -> Self {
        Self {
            store,
            bus,
            hub,
            last: Mutex::new(None),
        }
    }

    /// Looks at everything.
    pub(crate) async fn checks(&self, draining: bool) -> Checks {
        let mut last = self.last.lock().await;
        let (storage, bus) = match *last {
            Some((at, storage, bus)) if at.elapsed() < LOOKED_AT_MOST_EVERY => (storage, bus),
            _ => {
                let seen = (self.storage().await, self.bus());
                *last = Some((Instant::now(), seen.0, seen.1));
                seen
            }
        };
        Checks {
            storage,
            bus,
            delivery: Check::failed_if(self.hub.has_failed()),
            accepting: Check::failed_if(draining),
        }
    }

    async fn storage(&self) -> Check {
        const WINDOW: Duration = Duration::from_secs(60);
        let written = self.store.counter_hit(COUNTER.into(), WINDOW, None);
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(_)) => Check::Ok,
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::error!(error, "the storage cannot be written: {error}");
                Check::Failed
            }
            Err(_) => {
                tracing::error!("the storage did not answer a write within {PATIENCE:?}");
                Check::Failed
            }
        }
    }

    fn bus(&self) -> Check {
        let said =
            Topic::control("readiness").map(|topic| self.bus.publish(Message::one(topic, b"{}")));
        match said {
            Ok(Ok(())) => Check::Ok,
            Ok(Err(error)) => {
                tracing::error!(%error, "the bus cannot be published on: {error}");
                Check::Failed
            }
            Err(_) => Check::Failed,
        }
    }
}
