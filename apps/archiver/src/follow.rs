//! Follows one room: from the subscription to the archive.
//!
//! What is taken from the subscription is written before more than a megabyte of it is held: a slow disk slows the gateway's
//! stream down, and nothing is thrown away. While the disk refuses, the same lines are tried again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stack_ipc::service::Start;
use stack_ipc::{Client, ClientError, Delivery, Subscription};
use stack_types::{Clock as _, ErrorCode, RoomId, SystemClock};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::archive::{Archive, ArchiveError, Rotation};
use crate::lines::Gathered;

/// How long to wait after the disk has refused; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest of these waits.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often to see whether a file has become old.
const AGE_LOOK: Duration = Duration::from_secs(1);

/// What following needs beside the room.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    /// The gateway.
    pub(crate) client: Client,
    /// The archive's folder.
    pub(crate) dir: PathBuf,
    /// When files are finished.
    pub(crate) rotation: Rotation,
    /// How long events are gathered.
    pub(crate) gather: Duration,
    /// When to try again in a room that cannot be followed.
    pub(crate) look_every: Duration,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
}

/// How a subscription came to its end.
enum End {
    /// The process ends.
    Stopped,
    /// The room is gone for good.
    Deleted,
    /// It may be had again: the bot is out of the room, or the client closed it.
    Lost(String),
}

impl Follow {
    /// Follows a room until the process ends or the room is deleted.
    ///
    /// # Errors
    /// The archive is damaged, or the token is good no more.
    pub(crate) async fn run(self, room: RoomId) -> anyhow::Result<()> {
        let open = || Archive::open(&self.dir, &room, self.rotation);
        let Some(mut archive) = self.patiently(&room, open).await? else {
            return Ok(());
        };
        loop {
            let after = archive.seq();
            let subscribed = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                subscribed = self.client.subscribe(&room, Start::After(after)) => subscribed,
            };
            match subscribed {
                Ok(subscription) => {
                    tracing::info!(%room, %after, head = %subscription.head(), "follows {room} behind {after}");
                    match self.keep(&room, subscription, &mut archive).await? {
                        End::Stopped => return Ok(()),
                        End::Deleted => {
                            tracing::warn!(%room, "{room} was deleted, its archive is finished");
                            self.patiently(&room, || archive.finish()).await?;
                            return Ok(());
                        }
                        End::Lost(reason) => {
                            tracing::warn!(%room, reason, "follows {room} no more: {reason}");
                        }
                    }
                }
                Err(error) if is_final(&error) => {
                    return Err(error).with_context(|| format!("cannot follow {room}"));
                }
                Err(error) => {
                    tracing::error!(%room, %after, error = %error, "cannot follow {room} behind {after}: {error}");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(self.look_every) => {}
            }
        }
    }

    /// Keeps what a subscription gives, until one of them ends.
    async fn keep(
        &self,
        room: &RoomId,
        mut subscription: Subscription,
        archive: &mut Archive,
    ) -> anyhow::Result<End> {
        let mut gathered = Gathered::behind(archive.seq());
        let mut due = Instant::now() + AGE_LOOK;
        loop {
            let mut end = None;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => end = Some(End::Stopped),
                () = sleep_until(due) => {}
                delivery = subscription.next() => {
                    if gathered.is_empty() {
                        due = Instant::now() + self.gather;
                    }
                    end = take(room, delivery, &mut gathered)?;
                    if !gathered.is_full() && end.is_none() {
                        continue;
                    }
                }
            }
            if let Some(lines) = gathered.take()? {
                let kept = || archive.append(&lines, SystemClock.now());
                // Given up: what is not kept is still at the gateway.
                if self.patiently(room, kept).await?.is_none() {
                    return Ok(End::Stopped);
                }
                let (first, last) = (lines.first, lines.last);
                tracing::debug!(%room, %first, %last, "kept {first} to {last} of {room}");
            }
            let rotated = || archive.rotate_if_due(SystemClock.now());
            if let Some(Some(path)) = self.patiently(room, rotated).await? {
                let path = path.display();
                tracing::info!(%room, %path, "finished {path}");
            }
            if let Some(end) = end {
                return Ok(end);
            }
            due = Instant::now() + AGE_LOOK;
        }
    }

    /// Does something on the disk until it succeeds; `None` when the process ends before. Damage is not tried again.
    async fn patiently<T>(
        &self,
        room: &RoomId,
        mut act: impl FnMut() -> Result<T, ArchiveError>,
    ) -> anyhow::Result<Option<T>> {
        let mut wait = FIRST_WAIT;
        let mut failed = false;
        loop {
            match block_in_place(&mut act) {
                Ok(done) => {
                    if failed {
                        tracing::info!(%room, "the archive of {room} goes on");
                    }
                    return Ok(Some(done));
                }
                Err(error @ ArchiveError::Io { .. }) => {
                    let error = anyhow::Error::from(error);
                    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                    tracing::error!(%room, wait_ms, "the archive of {room} waits, nothing is skipped: {error:#}");
                    failed = true;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot go on with {room}"));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = sleep(wait) => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// Gathers a delivery, and says whether it was the last.
fn take(
    room: &RoomId,
    delivery: Option<Delivery>,
    gathered: &mut Gathered,
) -> anyhow::Result<Option<End>> {
    let lost = |reason: String| Ok(Some(End::Lost(reason)));
    let fits = match delivery {
        Some(Delivery::Events(events)) => events.iter().all(|event| gathered.event(event)),
        Some(Delivery::Gap { from, to, reason }) => {
            tracing::warn!(%room, %from, %to, reason, "{room} has lost {from} to {to}: {reason}");
            gathered.gap(room, from, to, &reason)?
        }
        Some(Delivery::Ended { reason }) if reason == "deleted" => return Ok(Some(End::Deleted)),
        Some(Delivery::Ended { reason }) if reason == "revoked" => {
            bail!("the bot's token was revoked")
        }
        Some(Delivery::Ended { reason }) => return lost(reason),
        None => return lost("the client is closed".to_owned()),
    };
    if fits {
        return Ok(None);
    }
    lost("an event came that does not follow the one before".to_owned())
}

/// Whether no later try can succeed.
pub(crate) fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Closed)
        || matches!(
            error.code(),
            Some(
                ErrorCode::Unauthenticated
                    | ErrorCode::InvalidCredentials
                    | ErrorCode::TokenExpired
            )
        )
}
