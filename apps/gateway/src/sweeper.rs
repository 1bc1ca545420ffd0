//! What is done to the file in the background, a little at a time: rooms forget what they no longer keep, what is not
//! needed any more is removed, and erasures are carried out. Accounts are looked after by their own crate.

use std::time::Duration;

use stack_storage::{EraseWalk, Store, StoreError, SweepCursor};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::http::chain;

/// How long an event may be told longer than its room keeps it. `docs/OPERATIONS.md` promises it.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// Between two walks over the file. What is removed there is told to nobody any more; that its bytes go within ten
/// minutes is promised in `docs/OPERATIONS.md`.
const WALK_EVERY: Duration = Duration::from_secs(300);
/// How long a failed step of an erasure waits.
const ERASE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Sweeps until it is told to stop. A step that fails is logged and tried again at the next walk.
pub(crate) async fn run(store: Store, stopping: CancellationToken) {
    // A walk may take its time; what is too old does not wait for its end.
    tokio::join!(run_expiry(&store, &stopping), run_walks(&store, &stopping));
}

async fn run_expiry(store: &Store, stopping: &CancellationToken) {
    let mut ticks = every(EXPIRE_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
            () = store.retention_changed() => {}
        }
        tell(expire(store).await);
    }
}

async fn run_walks(store: &Store, stopping: &CancellationToken) {
    let mut ticks = every(WALK_EVERY);
    loop {
        tokio::select! {
            biased;
            () = stopping.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tell(walk(store, stopping).await);
    }
}

fn every(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What comes before anybody is served: what has become too old while the gateway was down is told to nobody. A full
/// disk keeps no gateway from starting.
pub(crate) async fn begin(store: &Store) {
    tell(expire(store).await);
}

fn tell(done: Result<(), StoreError>) {
    if let Err(error) = done {
        let error = chain(&error);
        tracing::warn!(error, "sweeping the file failed, will retry: {error}");
    }
}

/// Moves the beginning of rooms past what they no longer keep.
async fn expire(store: &Store) -> Result<(), StoreError> {
    let dropped = store.expire_events().await?;
    if dropped > 0 {
        tracing::info!(dropped, "{dropped} events are no longer kept");
    }
    Ok(())
}

async fn walk(store: &Store, stopping: &CancellationToken) -> Result<(), StoreError> {
    let mut rooms = SweepCursor::default();
    while store.sweep(&mut rooms).await?.more && !stopping.is_cancelled() {}
    let purged = store.purge_events(|| stopping.is_cancelled()).await?;
    if purged.blocks > 0 {
        let blocks = purged.blocks;
        tracing::info!(blocks, "{blocks} blocks of events were removed");
    }
    Ok(())
}

/// Carries out erasures until it is told to stop, those that a shutdown has cut off first.
pub(crate) async fn run_erasures(store: Store, stopping: CancellationToken) {
    let mut walk = EraseWalk::default();
    loop {
        let more = match store.erase_step(&mut walk).await {
            Ok(more) => more,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "a step of an erasure failed, will retry: {error}");
                tokio::select! {
                    () = stopping.cancelled() => return,
                    () = tokio::time::sleep(ERASE_AGAIN_AFTER) => continue,
                }
            }
        };
        if stopping.is_cancelled() {
            return;
        }
        if !more {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = store.erasure_requested() => {}
            }
        }
    }
}
