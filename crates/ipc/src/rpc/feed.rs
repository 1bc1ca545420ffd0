//! Subscriptions: events from a feed to the peer's sink, as fast as it takes them.

use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;

use capnp::{Error, struct_list};
use serde::Deserialize;
use serde_json::value::RawValue;
use stack_proto::JsonCodec;
use stack_proto::capnp::event_to;
use stack_proto::gateway_capnp::{event, sink, subscription};
use stack_types::{EventCodec as _, Frames};
use tokio::task::AbortHandle;

use crate::server::{Conn, Handed, guarded};
use crate::service::{Fed, Feed};

/// What goes into one message, at most, unless a single event is longer.
const BATCH_BYTES: usize = 32 * 1024;

/// A subscription that runs until this is dropped: by the peer, or with the connection.
pub(super) struct SubscriptionImpl {
    task: AbortHandle,
    _handed: Handed,
}

impl subscription::Server for SubscriptionImpl {}

impl Drop for SubscriptionImpl {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SubscriptionImpl {
    /// Begins to pass on what is fed.
    pub(super) fn begin(
        conn: &Rc<Conn>,
        feed: Box<dyn Feed>,
        sink: sink::Client,
        handed: Handed,
    ) -> Self {
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
        Self {
            task: conn.shared.tasks.spawn_local(pass_on).abort_handle(),
            _handed: handed,
        }
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
        if quick_message(&frame, to.reborrow().get(place as u32)) {
            continue;
        }
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

/// How the frame of a message begins.
const MESSAGE: &[u8] = br#"{"type":"message","payload":{"#;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    payload: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    room: &'a str,
    seq: u64,
    ts: u64,
    sender: &'a str,
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    reply_to: u64,
}

/// Fills in a message straight from its frame, in one pass and without an event in between: nearly all events are
/// messages. What is none, or has no body, is left to the long way.
fn quick_message(frame: &[u8], mut to: event::Builder<'_>) -> bool {
    if !frame.starts_with(MESSAGE) {
        return false;
    }
    let Ok(Frame { payload }) = serde_json::from_slice::<Frame<'_>>(frame) else {
        return false;
    };
    to.set_room(payload.room);
    to.set_seq(payload.seq);
    to.set_ts(payload.ts);
    to.set_sender(payload.sender);
    let mut message = to.init_message();
    message.set_body(&*payload.body);
    if let Some(data) = payload.data {
        message.set_data(data.get());
    }
    if let Some(key) = payload.key {
        message.set_key(&*key);
    }
    message.set_reply_to(payload.reply_to);
    true
}

#[cfg(test)]
mod tests {
    use capnp::message::Builder;
    use stack_proto::capnp::event_from;
    use stack_types::{Event, EventBody, JsonValue, Seq, Timestamp, UserId};

    use stack_types::FramesBuilder;

    use super::*;

    fn message(
        body: &str,
        data: Option<&str>,
        key: Option<&str>,
        reply_to: Option<u64>,
    ) -> EventBody {
        EventBody::Message {
            body: body.to_owned(),
            data: data.map(|data| JsonValue(RawValue::from_string(data.to_owned()).unwrap())),
            key: key.map(str::to_owned),
            reply_to: reply_to.map(Seq),
        }
    }

    #[test]
    fn the_quick_way_gives_what_the_long_way_gives() {
        let bodies = [
            (true, message("hello", None, None, None)),
            (true, message("", Some("[1, {\"a\": null}]"), None, None)),
            (
                true,
                message(
                    "\"quoted\" \\ \n \u{1f600} é",
                    None,
                    Some("k\"e\ty"),
                    Some(3),
                ),
            ),
            (false, EventBody::Tombstone),
            (
                false,
                EventBody::Reacted {
                    target_seq: Seq(1),
                    emoji: "👍".to_owned(),
                    remove: false,
                },
            ),
        ];
        for (is_quick, body) in bodies {
            let event = Event {
                room: "general".parse().unwrap(),
                seq: Seq(7),
                ts: Timestamp(1_700_000_000_000),
                sender: UserId::generate(Timestamp(1_700_000_000_000)),
                body,
            };
            let mut json = Vec::new();
            JsonCodec.encode(&event, &mut json);
            let mut quick = Builder::new_default();
            let filled = quick_message(&json, quick.init_root());
            assert_eq!(filled, is_quick, "{event:?}");
            let frames = Frames::one(&json);
            let mut filled = Builder::new_default();
            let mut page = filled.init_root::<stack_proto::gateway_capnp::page::Builder<'_>>();
            fill_events(&frames, 0..1, page.reborrow().init_events(1)).unwrap();
            let read = page.into_reader().get_events().unwrap().get(0);
            assert_eq!(event_from(read).unwrap(), event);
        }
    }

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
