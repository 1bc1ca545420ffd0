//! Subscriptions: events from a feed to the peer's sink, as fast as it takes them.

use std::ops::Range;
use std::rc::Rc;

use capnp::{Error, struct_list};
use stack_proto::JsonCodec;
use stack_proto::capnp::event_to;
use stack_proto::gateway_capnp::{event, sink, subscription};
use stack_types::{EventCodec as _, Frames};
use tokio::task::AbortHandle;

use crate::server::{Conn, guarded};
use crate::service::{Fed, Feed};

/// What goes into one message, at most, unless a single event is longer.
const BATCH_BYTES: usize = 32 * 1024;

/// A subscription that runs until this is dropped: by the peer, or with the connection.
pub(super) struct SubscriptionImpl(AbortHandle);

impl subscription::Server for SubscriptionImpl {}

impl Drop for SubscriptionImpl {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl SubscriptionImpl {
    /// Begins to pass on what is fed.
    pub(super) fn begin(conn: &Rc<Conn>, feed: Box<dyn Feed>, sink: sink::Client) -> Self {
        let pass_on = guarded(conn.clone(), {
            let conn = conn.clone();
            async move {
                // The answer to the subscription first.
                tokio::task::yield_now().await;
                if let Err(error) = pass_on(&conn, feed, sink).await {
                    tracing::debug!(%error, "a subscription of the local socket ended: {error}");
                }
            }
        });
        Self(conn.shared.tasks.spawn_local(pass_on).abort_handle())
    }
}

async fn pass_on(conn: &Conn, mut feed: Box<dyn Feed>, sink: sink::Client) -> Result<(), Error> {
    while let Some(fed) = feed.next().await {
        match fed {
            Fed::Events(frames) => {
                for batch in batches(&frames) {
                    // The window bounds what is on its way to this sink, and this what is on its way in all.
                    conn.gate.writable().await;
                    let mut request = sink.events_request();
                    let count = batch.len() as u32;
                    conn.gate.owe(wire_bytes(&frames, &batch));
                    fill_events(&frames, batch, request.get().init_events(count))?;
                    request.send().await?;
                }
            }
            Fed::Gap { from, to, reason } => {
                let mut request = sink.gap_request();
                let mut params = request.get();
                params.set_from(from.0);
                params.set_to(to.0);
                params.set_reason(&reason[..]);
                request.send().await?;
            }
            Fed::Ended { reason } => {
                let mut request = sink.ended_request();
                request.get().set_reason(&reason[..]);
                request.send().promise.await?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How long the frames of a run are together.
fn wire_bytes(frames: &Frames, run: &Range<usize>) -> usize {
    frames.wire_from(run.start).len() - frames.wire_from(run.end).len()
}

/// Runs of frames that go into a message each.
fn batches(frames: &Frames) -> impl Iterator<Item = Range<usize>> {
    let mut runs = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for (index, end) in frames.ends().enumerate() {
        if end as usize - at > BATCH_BYTES && index > begin {
            runs.push(begin..index);
            begin = index;
            at = runs_end(frames, index);
        }
    }
    runs.push(begin..frames.len());
    runs.into_iter().filter(|run| !run.is_empty())
}

/// Where the frames in front of this one end.
fn runs_end(frames: &Frames, index: usize) -> usize {
    index
        .checked_sub(1)
        .and_then(|before| frames.ends().nth(before))
        .map_or(0, |end| end as usize)
}

/// Fills a list with events.
pub(super) fn fill_events(
    frames: &Frames,
    which: Range<usize>,
    mut to: struct_list::Builder<'_, event::Owned>,
) -> Result<(), Error> {
    for (place, index) in which.enumerate() {
        let frame = frames.json(index);
        let event = JsonCodec.decode(&frame).map_err(|damaged| {
            tracing::error!(
                error = &damaged as &dyn std::error::Error,
                "an event cannot be read"
            );
            Error::failed("an event cannot be read".to_owned())
        })?;
        event_to(&event, to.reborrow().get(place as u32));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use stack_types::FramesBuilder;

    use super::*;

    #[test]
    fn batches_are_short_and_hold_everything_once() {
        let mut builder = FramesBuilder::with_capacity(0);
        for bytes in [10, 20_000, 20_000, 40_000, 5, 5, 33_000, 1] {
            builder.push(&vec![b'x'; bytes]);
        }
        let frames = builder.finish();
        let runs: Vec<_> = batches(&frames).collect();
        assert_eq!(runs, [0..2, 2..3, 3..4, 4..6, 6..7, 7..8]);
        assert_eq!(
            batches(&FramesBuilder::with_capacity(0).finish()).count(),
            0
        );
    }
}
