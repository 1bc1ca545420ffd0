//! What goes on beside the requests: writing down who was heard of, and removing what is over.

use std::time::Duration;

use stack_storage::{AuditAction, AuditEntry, Session};
use stack_types::{Problem, SessionId, Timestamp};
use tokio::time::{Interval, MissedTickBehavior};

use super::Auth;
use super::admin::operators;

/// A session's `last_seen_at` is true to this; a write per request would cost a hundred times what it tells.
const SEEN_EVERY: Duration = Duration::from_secs(60);
const FLUSH_EVERY: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_secs(5 * 60);
/// Sessions that wait to be written down. Beyond that they are not noted; the next request notes them.
const MAX_SEEN: usize = 65_536;

impl Auth {
    /// Writes down and removes until `stop`, then finishes what was begun. Runs on a task of its own, for as long as
    /// the gateway.
    pub async fn run_maintenance(&self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let (mut flush, mut sweep) = (every(FLUSH_EVERY), every(SWEEP_EVERY));
        loop {
            let done = tokio::select! {
                () = &mut stop => break,
                _ = flush.tick() => self.flush().await,
                _ = sweep.tick() => self.sweep().await,
            };
            if let Err(problem) = done {
                tracing::error!(
                    error = problem.cause().map(tracing::field::display),
                    "cannot look after sessions"
                );
            }
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if let Err(problem) = self.flush().await {
            tracing::error!(
                error = problem.cause().map(tracing::field::display),
                "cannot write down when sessions were last seen"
            );
        }
    }

    async fn flush(&self) -> Result<(), Problem> {
        let recorded = self.record_rotations().await;
        self.flush_seen().await.and(recorded)
    }

    /// Puts the keys on record that have come to sign: on the command line, or at the start.
    async fn record_rotations(&self) -> Result<(), Problem> {
        let ring = self.0.access.ring();
        let unrecorded = ring.unrecorded(self.0.clock.now());
        let Some(unrecorded) = unrecorded.map_err(Problem::internal)? else {
            return Ok(());
        };
        for kid in &unrecorded.kids {
            let entry = AuditEntry {
                target: Some(kid.clone()),
                ..operators(AuditAction::SigningKeyRotated)
            };
            self.0.store.audit(entry).await?;
        }
        ring.recorded(&unrecorded).map_err(Problem::internal)
    }

    /// Notes that a session was heard of, for what does not authenticate each time: an open socket.
    pub fn touch(&self, session: SessionId) {
        self.note(session, self.0.clock.now());
    }

    /// Writes down when sessions were last heard of.
    ///
    /// # Errors
    /// `unavailable`; what could not be written is forgotten, the next request notes it again.
    pub async fn flush_seen(&self) -> Result<(), Problem> {
        let keys = std::mem::take(&mut *self.0.keys_used.lock());
        self.0
            .store
            .touch_api_keys(keys.into_iter().collect())
            .await?;
        let seen = std::mem::take(&mut *self.0.seen.lock());
        Ok(self
            .0
            .store
            .touch_sessions(seen.into_iter().collect(), SEEN_EVERY)
            .await?)
    }

    /// Removes sessions, counters and begun sign-ins that are over.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn sweep(&self) -> Result<(), Problem> {
        let mut cursor = self.0.sweep.lock().await;
        while self.0.store.sweep_accounts(&mut cursor).await?.more {}
        while self.0.store.sweep_ceremonies().await? > 0 {}
        Ok(())
    }

    /// Notes a session whose row is older than the resolution.
    pub(super) fn note_seen(&self, session: &Session, now: Timestamp) {
        if now.since(session.last_seen_at) >= SEEN_EVERY {
            self.note(session.id, now);
        }
    }

    fn note(&self, session: SessionId, now: Timestamp) {
        let mut seen = self.0.seen.lock();
        if seen.len() < MAX_SEEN || seen.contains_key(&session) {
            seen.insert(session, now);
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
