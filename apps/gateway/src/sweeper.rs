//! Removes what rooms no longer need from the file, a little at a time. Accounts are looked after by their own crate.

use std::time::Duration;

use stack_storage::{Store, StoreError, SweepCursor};
use tokio_util::sync::CancellationToken;

use crate::http::chain;

/// Between two walks over the file. What has expired does no harm meanwhile: it is only in the way.
const EVERY: Duration = Duration::from_secs(300);

/// Sweeps until it is told to stop. A step that fails is logged and tried again at the next walk.
pub(crate) async fn run(store: Store, stopping: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = walk(&store, &stopping).await {
            let error = chain(&error);
            tracing::warn!(error, "sweeping the file failed, will retry: {error}");
        }
    }
}

async fn walk(store: &Store, stopping: &CancellationToken) -> Result<(), StoreError> {
    let mut rooms = SweepCursor::default();
    while store.sweep(&mut rooms).await?.more && !stopping.is_cancelled() {}
    let dropped = store.expire_events().await?;
    if dropped > 0 {
        tracing::info!(dropped, "blocks of events were dropped for their age");
    }
    Ok(())
}
