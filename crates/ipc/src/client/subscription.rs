//! Subscriptions of the client: one stream of events for their owner, over any number of connections.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use capnp::Error;
use futures_util::FutureExt as _;
use stack_proto::gateway_capnp::{event, sink, start, subscription};
use stack_types::{ErrorCode, Event, RoomId, Seq};
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::inbox::Inbox;
use super::link::{Entered, Failure, Handle, Link, jitter};
use super::read;
use crate::error::ClientError;
use crate::service::Start;

/// What a subscription gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Delivery {
    /// Events that follow each other.
    Events(Vec<Event>),
    /// These cannot be had any more.
    Gap {
        /// The first of them.
        from: Seq,
        /// The last of them.
        to: Seq,
        /// Why, such as `retention`.
        reason: String,
    },
    /// It is over; nothing follows.
    Ended {
        /// Why: `left`, `removed`, `banned`, `private`, `deleted`, `revoked`, or the code of a refusal to go on.
        reason: String,
    },
}

/// Every event of a room from a start on. Who does not take them makes the gateway wait, and loses nothing. Dropping it
/// ends it.
pub struct Subscription {
    /// Keeps the client's thread.
    _handle: Arc<Handle>,
    inbox: Arc<Inbox>,
    head: Seq,
    first: Seq,
    cursor: Seq,
}

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A room, as the bot.
    Room,
    /// A room, as an admin.
    Tail,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    head: Seq,
    first: Seq,
}

impl Subscription {
    pub(super) async fn begin(
        handle: &Arc<Handle>,
        kind: Kind,
        room: RoomId,
        start: Start,
    ) -> Result<Self, ClientError> {
        let inbox = Arc::new(Inbox::default());
        let (tell, told) = oneshot::channel();
        let running = Running {
            kind,
            room,
            inbox: inbox.clone(),
            start,
        };
        handle
            .on_thread(move |link| {
                let link_of_task = link.clone();
                link.spawn(async move { running.run(&link_of_task, tell).await });
                async { Ok(()) }.boxed_local()
            })
            .await?;
        let begun = told.await.map_err(|_| ClientError::Closed)??;
        let cursor = match start {
            Start::Live => begun.head,
            Start::After(seq) => seq,
        };
        Ok(Self {
            _handle: handle.clone(),
            inbox,
            head: begun.head,
            first: begun.first,
            cursor,
        })
    }

    /// What comes next; `None` behind the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        let delivery = self.inbox.take().await?;
        match &delivery {
            Delivery::Events(events) => {
                if let Some(last) = events.last() {
                    self.cursor = last.seq;
                }
            }
            Delivery::Gap { to, .. } => self.cursor = self.cursor.max(*to),
            Delivery::Ended { .. } => {}
        }
        Some(delivery)
    }

    /// The room's last event when it began.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.head
    }

    /// The first event that was there for the caller when it began.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The last event that [`Subscription::next`] has given: where another subscription would go on.
    #[must_use]
    pub fn cursor(&self) -> Seq {
        self.cursor
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.inbox.abandon();
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("cursor", &self.cursor)
            .finish_non_exhaustive()
    }
}

/// A subscription on the client's thread.
struct Running {
    kind: Kind,
    room: RoomId,
    inbox: Arc<Inbox>,
    start: Start,
}

impl Running {
    /// Subscribes over one connection after the other, until it is over or nobody takes what comes.
    async fn run(self, link: &Link, tell: oneshot::Sender<Result<Begun, ClientError>>) {
        let mut tell = Some(tell);
        let cursor: Rc<Cell<Option<Seq>>> = Rc::default();
        if let Start::After(seq) = self.start {
            cursor.set(Some(seq));
        }
        loop {
            let entered = tokio::select! {
                entered = link.entered(None) => entered,
                () = self.inbox.abandoned() => return,
            };
            let (entered, generation) = match entered {
                Ok(entered) => entered,
                Err(error) => return self.fail(&mut tell, error),
            };
            let ended = Rc::new(Notify::new());
            let sink = SinkImpl {
                inbox: self.inbox.clone(),
                cursor: cursor.clone(),
                ended: ended.clone(),
            };
            let asked = tokio::select! {
                biased;
                asked = self.ask(&entered, capnp_rpc::new_client(sink), cursor.get()) => asked,
                () = link.gone(generation) => Err(Failure::Lost),
                () = self.inbox.abandoned() => return,
            };
            let (begun, _held) = match asked {
                Ok(asked) => asked,
                Err(Failure::Lost) => {
                    link.give_up(&entered);
                    link.gone(generation).await;
                    continue;
                }
                Err(Failure::Refused(problem)) if problem.code.retryable() => {
                    // The gateway goes down, or there were many at once.
                    let pause = problem.retry_after.unwrap_or_default();
                    let pause = pause.max(std::time::Duration::from_millis(100));
                    tokio::select! {
                        () = sleep(pause.mul_f64(jitter())) => {}
                        () = link.gone(generation) => {}
                    }
                    continue;
                }
                Err(failure) => return self.fail(&mut tell, failure.into()),
            };
            if cursor.get().is_none() {
                cursor.set(Some(begun.head));
            }
            if let Some(tell) = tell.take() {
                // Gone: the inbox is abandoned too, or about to be.
                let _ = tell.send(Ok(begun));
            }
            tokio::select! {
                () = ended.notified() => {
                    self.inbox.finish();
                    return;
                }
                () = self.inbox.abandoned() => return,
                () = link.gone(generation) => {}
            }
        }
    }

    /// It cannot begin, or not go on.
    fn fail(
        &self,
        tell: &mut Option<oneshot::Sender<Result<Begun, ClientError>>>,
        error: ClientError,
    ) {
        match tell.take() {
            Some(tell) => drop(tell.send(Err(error))),
            None => {
                let reason = match error.code() {
                    Some(ErrorCode::Unauthenticated) => "revoked".to_owned(),
                    Some(code) => code.as_str().to_owned(),
                    None => error.to_string(),
                };
                self.inbox.put(Delivery::Ended { reason });
            }
        }
        self.inbox.finish();
    }

    async fn ask(
        &self,
        entered: &Entered,
        sink: sink::Client,
        cursor: Option<Seq>,
    ) -> Result<(Begun, subscription::Client), Failure> {
        match self.kind {
            Kind::Room => {
                let session = entered.session.as_ref();
                let session =
                    session.ok_or_else(|| Failure::Malformed("there is no session".to_owned()))?;
                let mut request = session.subscribe_request();
                let mut params = request.get();
                params.set_room(self.room.as_str());
                params.set_sink(sink);
                start_to(cursor, params.init_start());
                let response = request.send().promise.await?;
                let answer = response.get()?;
                let begun = Begun {
                    head: Seq(answer.get_head()),
                    first: Seq(answer.get_first()),
                };
                Ok((begun, answer.get_subscription()?))
            }
            Kind::Tail => {
                let mut request = entered.admin()?.tail_request();
                let mut params = request.get();
                params.set_room(self.room.as_str());
                params.set_sink(sink);
                start_to(cursor, params.init_start());
                let response = request.send().promise.await?;
                let answer = response.get()?;
                let begun = Begun {
                    head: Seq(answer.get_head()),
                    first: Seq(answer.get_first()),
                };
                Ok((begun, answer.get_subscription()?))
            }
        }
    }
}

fn start_to(cursor: Option<Seq>, mut to: start::Builder<'_>) {
    match cursor {
        None => to.set_live(()),
        Some(seq) => to.set_after(seq.0),
    }
}

/// Where the gateway puts the events.
struct SinkImpl {
    inbox: Arc<Inbox>,
    /// The last event that was put into the inbox.
    cursor: Rc<Cell<Option<Seq>>>,
    ended: Rc<Notify>,
}

impl SinkImpl {
    fn take(&self, events: capnp::struct_list::Reader<'_, event::Owned>) -> Result<(), Failure> {
        let mut events = read::events(events)?;
        // Of the connection before, when this one began behind them.
        if let Some(cursor) = self.cursor.get() {
            events.retain(|event| event.seq > cursor);
        }
        if let Some(last) = events.last() {
            self.cursor.set(Some(last.seq));
            self.inbox.put(Delivery::Events(events));
        }
        Ok(())
    }
}

impl sink::Server for SinkImpl {
    fn events(
        self: Rc<Self>,
        params: sink::EventsParams,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        // At once, so that they keep their order.
        let taken = params
            .get()
            .and_then(|params| params.get_events())
            .map_err(Failure::from)
            .and_then(|events| self.take(events));
        async move {
            match taken {
                Ok(()) => {
                    self.inbox.room().await;
                    Ok(())
                }
                Err(_) => Err(Error::failed("the events cannot be read".to_owned())),
            }
        }
    }

    fn gap(
        self: Rc<Self>,
        params: sink::GapParams,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let taken = (|| {
            let params = params.get()?;
            let to = Seq(params.get_to());
            self.cursor.set(self.cursor.get().max(Some(to)));
            self.inbox.put(Delivery::Gap {
                from: Seq(params.get_from()),
                to,
                reason: params.get_reason()?.to_string()?,
            });
            Ok(())
        })();
        async move { taken }
    }

    fn ended(
        self: Rc<Self>,
        params: sink::EndedParams,
        _: sink::EndedResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let taken = (|| {
            let reason = params.get()?.get_reason()?.to_string()?;
            self.inbox.put(Delivery::Ended { reason });
            self.ended.notify_one();
            Ok(())
        })();
        async move { taken }
    }
}
