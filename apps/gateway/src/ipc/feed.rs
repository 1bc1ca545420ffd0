//! A subscription's events, taken out of the memory that its outlet writes to.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use stack_delivery::{Outlet, Pumped, Subscription};
use stack_ipc::service::{Fed, Feed};
use stack_storage::StoreError;
use stack_types::{Frames, FramesBuilder, Seq};
use tokio_util::sync::CancellationToken;

use super::memory::Memory;
use super::session::Presence;
use crate::app::AppState;

/// The feed of a subscription. Dropping it ends the subscription.
pub(super) struct RoomFeed {
    app: AppState,
    outlet: Arc<Outlet>,
    memory: Memory,
    subscription: Arc<Subscription>,
    /// Not cancel safe, so that it is kept between two calls.
    pump: BoxFuture<'static, Result<Pumped, StoreError>>,
    /// The session is over.
    ended: CancellationToken,
    ready: VecDeque<Fed>,
    over: bool,
    _presence: Presence,
}

impl RoomFeed {
    /// Lets a subscription begin. `gap` is told in front of it.
    pub(super) fn begin(
        app: AppState,
        outlet: Arc<Outlet>,
        memory: Memory,
        subscription: Arc<Subscription>,
        gap: Option<Fed>,
        ended: CancellationToken,
        presence: Presence,
    ) -> Self {
        app.hub().begin(&subscription);
        Self {
            pump: pump(&app, &outlet),
            app,
            outlet,
            memory,
            subscription,
            ended,
            ready: gap.into_iter().collect(),
            over: false,
            _presence: presence,
        }
    }

    async fn next_fed(&mut self) -> Option<Fed> {
        while !self.over {
            if self.ended.is_cancelled() {
                return self.finish("revoked");
            }
            if let Some(fed) = self.ready.pop_front() {
                self.over = matches!(fed, Fed::Ended { .. });
                return Some(fed);
            }
            if let Some(frames) = self.memory.take() {
                sort(frames, &mut self.ready);
                continue;
            }
            tokio::select! {
                biased;
                () = self.ended.cancelled() => {}
                () = self.memory.news() => {}
                pumped = &mut self.pump => match pumped {
                    // Its last frame says so, and is on its way.
                    Ok(Pumped::Ended(_)) => self.pump = pump(&self.app, &self.outlet),
                    Ok(Pumped::Closed) => self.over = true,
                    Err(source) => {
                        tracing::error!(error = &source as &dyn std::error::Error, "the log cannot be read");
                        return self.finish("internal");
                    }
                },
                () = self.app.lifecycle().draining.cancelled() => self.over = true,
            }
        }
        None
    }

    fn finish(&mut self, reason: &str) -> Option<Fed> {
        self.over = true;
        Some(Fed::Ended {
            reason: reason.to_owned(),
        })
    }
}

fn pump(app: &AppState, outlet: &Arc<Outlet>) -> BoxFuture<'static, Result<Pumped, StoreError>> {
    let (hub, outlet) = (app.hub().clone(), outlet.clone());
    async move { hub.pump(&outlet).await }.boxed()
}

impl Feed for RoomFeed {
    fn next(&mut self) -> BoxFuture<'_, Option<Fed>> {
        self.next_fed().boxed()
    }
}

impl Drop for RoomFeed {
    fn drop(&mut self) {
        self.app.hub().unsubscribe(&self.subscription, None);
        self.outlet.close();
    }
}

/// What a frame is to a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Event,
    Gap,
    Unsubscribed,
    /// Typing and the like, for sockets.
    Other,
}

fn kind(json: &[u8]) -> Kind {
    let named = json
        .strip_prefix(br#"{"type":""#)
        .and_then(|rest| rest.split(|byte| *byte == b'"').next());
    match named {
        Some(b"message" | b"edited" | b"redacted" | b"reacted" | b"room" | b"member") => {
            Kind::Event
        }
        Some(b"gap") => Kind::Gap,
        Some(b"unsubscribed") => Kind::Unsubscribed,
        _ => Kind::Other,
    }
}

#[derive(Deserialize)]
struct Told<T> {
    payload: T,
}

#[derive(Deserialize)]
struct GapTold {
    from: Seq,
    to: Seq,
    reason: String,
}

#[derive(Deserialize)]
struct UnsubscribedTold {
    reason: String,
}

/// Sorts frames into runs of events and what else a subscriber hears of.
fn sort(frames: Frames, ready: &mut VecDeque<Fed>) {
    let kinds: Vec<Kind> = (0..frames.len())
        .map(|index| kind(&frames.json(index)))
        .collect();
    if kinds.iter().all(|kind| *kind == Kind::Event) {
        ready.push_back(Fed::Events(frames));
        return;
    }
    let mut index = 0;
    while index < kinds.len() {
        let run = kinds[index..]
            .iter()
            .take_while(|kind| **kind == Kind::Event)
            .count();
        if run > 0 {
            let mut events = FramesBuilder::with_capacity(0);
            events.extend(&frames, index..index + run);
            ready.push_back(Fed::Events(events.finish()));
            index += run;
            continue;
        }
        let json = frames.json(index);
        let told = match kinds[index] {
            Kind::Gap => serde_json::from_slice::<Told<GapTold>>(&json).map(|Told { payload }| {
                Some(Fed::Gap {
                    from: payload.from,
                    to: payload.to,
                    reason: payload.reason,
                })
            }),
            Kind::Unsubscribed => {
                serde_json::from_slice::<Told<UnsubscribedTold>>(&json).map(|Told { payload }| {
                    Some(Fed::Ended {
                        reason: payload.reason,
                    })
                })
            }
            Kind::Event | Kind::Other => Ok(None),
        };
        match told {
            Ok(told) => ready.extend(told),
            Err(error) => tracing::error!(%error, "a signal of ours cannot be read: {error}"),
        }
        index += 1;
    }
}

#[cfg(test)]
mod tests {
    use stack_proto::JsonCodec;
    use stack_types::{EventCodec as _, GapReason, RoomId, Signal, UnsubscribeReason, UserId};

    use super::*;

    #[test]
    fn events_keep_their_order_around_signals() {
        let room: RoomId = "general".parse().unwrap();
        let user_id = UserId::generate(stack_types::Timestamp(1));
        let signal = |signal: Signal| JsonCodec.signal(&signal);
        let event = |seq: u64| {
            format!(r#"{{"type":"message","payload":{{"room":"general","seq":{seq}}}}}"#)
                .into_bytes()
        };
        let typing = Signal::Typing {
            room: room.clone(),
            user_id,
            on: true,
        };
        let read = Signal::Read {
            room: room.clone(),
            user_id,
            read_seq: Seq(1),
        };
        let gap = Signal::Gap {
            room: room.clone(),
            from: Seq(3),
            to: Seq(9),
            reason: GapReason::Retention,
        };
        let ended = Signal::Unsubscribed {
            room,
            reason: UnsubscribeReason::Removed,
        };
        let mut frames = FramesBuilder::with_capacity(0);
        for json in [
            signal(typing),
            event(1),
            signal(read),
            event(2),
            signal(gap),
            event(10),
            event(11),
            signal(ended),
        ] {
            frames.push(&json);
        }
        let mut ready = VecDeque::new();
        sort(frames.finish(), &mut ready);
        let mut seen = Vec::new();
        for fed in ready {
            seen.push(match fed {
                Fed::Events(frames) => format!("{} events", frames.len()),
                Fed::Gap { from, to, reason } => format!("gap {from} {to} {reason}"),
                Fed::Ended { reason } => reason,
            });
        }
        assert_eq!(
            seen,
            [
                "1 events",
                "1 events",
                "gap 3 9 retention",
                "2 events",
                "removed"
            ]
        );
    }
}
