//! What a socket asks for, carried out: each request in turn, except that messages on their way to the disk do not
//! hold up what comes behind them.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde::Serialize;
use stack_auth::{Caller, Scope};
use stack_delivery::{Outlet, Subscription};
use stack_ipc::edge::{Begin, RoomHead};
use stack_presence::Lease;
use stack_proto::{JsonCodec, Request, ok, pong};
use stack_rooms::{Page, PageQuery, Say, SendMessage, Subscribed};
use stack_storage::Submitted;
use stack_types::{
    ErrorCode, EventCodec as _, Frames, PresenceStatus, Problem, RoomId, RoomRole, Seq, SessionId,
    Signal, Timestamp, UnsubscribeReason, UserId,
};

use super::access;
use super::relayed::Relayed;
use super::replies::Replies;
use crate::app::AppState;

/// The answer to a request, ready to write; `None` for a request that asked for none.
pub(super) type Answer = Result<Option<Bytes>, Problem>;

/// What became of a request.
pub(super) enum Handled {
    /// It is done.
    Done(Answer),
    /// It is on its way to the disk; its answer comes by [`Requests::replies`], and what comes behind it may overtake it.
    Said(Submitted),
    /// It is under way, and what comes behind it waits for it.
    InTurn(BoxFuture<'static, Answer>),
    /// The caller has signed in again.
    SignedIn(Box<Caller>, Answer),
    /// It is done. After the answer, a subscription begins.
    Subscribed(Answer, Begins),
}

/// A subscription that is to begin.
pub(super) struct Begins {
    pub(super) subscription: Arc<Subscription>,
    /// What is told in front of its events.
    pub(super) gap: Option<Bytes>,
    /// The room's last event.
    head: Seq,
    /// Whether the client said where.
    exact: bool,
}

/// A signed-in connection, as its requests see it.
pub(super) struct Requests {
    pub(super) app: AppState,
    pub(super) outlet: Arc<Outlet>,
    pub(super) caller: Caller,
    pub(super) lease: Lease,
    pub(super) subscriptions: HashMap<RoomId, Arc<Subscription>>,
    /// Where the writer leaves its answers; there is none before something was said.
    pub(super) replies: Option<Arc<Replies>>,
    /// The way to its client, if that is connected to an edge.
    pub(super) relayed: Option<Relayed>,
}

#[derive(Serialize)]
struct Nothing {}

#[derive(Serialize)]
struct SignedIn {
    user_id: UserId,
    session_id: SessionId,
    expires_at: Timestamp,
}

#[derive(Serialize)]
struct Joined {
    room: RoomId,
    role: RoomRole,
}

impl Requests {
    /// Carries out a request of the signed-in caller.
    pub(super) fn handle(&mut self, id: Option<u64>, request: Request) -> Handled {
        if let Err(refused) = access::check(&self.caller, &request) {
            return Handled::Done(Err(refused));
        }
        match request {
            Request::Auth { token } => self.sign_in_again(id, &token),
            Request::Subscribe { room, after } => self.subscribe(id, &room, after),
            Request::Unsubscribe { room } => Handled::Done(self.unsubscribe(id, &room)),
            Request::Ping => {
                Handled::Done(Ok(id.map(|id| frame(&pong(id, self.app.clock().now())))))
            }
            Request::Typing { room, on } => {
                // There is no answer to `typing`, only an error.
                Handled::Done(
                    self.app
                        .rooms()
                        .typing(self.caller.user.id, &room, on)
                        .map(|()| None),
                )
            }
            Request::Presence { status, text } => Handled::Done(self.presence(id, status, text)),
            Request::Send(message) => {
                let say = Say::Message(SendMessage {
                    body: message.body,
                    data: message.data,
                    key: message.key,
                    reply_to: message.reply_to,
                });
                self.say(id, &message.room, say)
            }
            Request::Edit { room, seq, body } => {
                let target = seq;
                self.say(id, &room, Say::Edit { target, body })
            }
            Request::Redact { room, seq, reason } => {
                let target = seq;
                self.say(id, &room, Say::Redact { target, reason })
            }
            Request::React {
                room,
                seq,
                emoji,
                remove,
            } => {
                let say = Say::React {
                    target: seq,
                    emoji,
                    remove,
                };
                self.say(id, &room, say)
            }
            Request::Join { .. }
            | Request::Leave { .. }
            | Request::History { .. }
            | Request::Read { .. } => self.in_turn(id, request),
        }
    }

    fn say(&mut self, id: Option<u64>, room: &RoomId, say: Say) -> Handled {
        let replies = self.replies.get_or_insert_default().clone();
        let reply = move |sent| replies.leave((id, sent));
        match self.app.rooms().say(self.caller.user.id, room, say, reply) {
            Ok(submitted) => Handled::Said(submitted),
            Err(problem) => Handled::Done(Err(problem)),
        }
    }

    fn presence(&self, id: Option<u64>, status: PresenceStatus, text: Option<String>) -> Answer {
        self.app.rates().presence(self.caller.user.id)?;
        self.lease.set_status(status, text)?;
        Ok(answer(id, Nothing {}))
    }

    fn in_turn(&self, id: Option<u64>, request: Request) -> Handled {
        let rooms = self.app.rooms().clone();
        let user = self.caller.user.id;
        let work = async move {
            match request {
                Request::Join { room } => {
                    let role = rooms.join(user, &room).await?;
                    Ok(answer(id, Joined { room, role }))
                }
                Request::Leave { room } => {
                    rooms.leave(user, &room).await?;
                    Ok(answer(id, Nothing {}))
                }
                Request::Read { room, seq } => {
                    rooms.read(user, &room, seq).await?;
                    Ok(answer(id, Nothing {}))
                }
                Request::History {
                    room,
                    after,
                    before,
                    after_ts,
                    limit,
                } => {
                    let query = PageQuery {
                        after,
                        before,
                        after_ts,
                        limit,
                    };
                    let page = rooms.history(user, &room, query).await?;
                    Ok(id.map(|id| page_frame(id, &page)))
                }
                _ => Ok(None),
            }
        };
        Handled::InTurn(work.boxed())
    }

    fn sign_in_again(&mut self, id: Option<u64>, token: &str) -> Handled {
        let caller = match self.app.auth().authenticate(token) {
            Ok(caller) => caller,
            Err(problem) => return Handled::Done(Err(problem)),
        };
        if caller.user.id != self.caller.user.id {
            let problem = Problem::forbidden("this token is another user's");
            return Handled::Done(Err(problem));
        }
        // What the new token does not allow must not go on under the old one.
        let (hub, lease) = (self.app.hub(), &self.lease);
        self.subscriptions.retain(|room, subscription| {
            let goes_on = caller.require_in_room(Scope::Read, room).is_ok();
            if !goes_on {
                hub.unsubscribe(subscription, Some(UnsubscribeReason::Removed));
                lease.leave(room);
            }
            goes_on
        });
        let answer = Ok(signed_in(id, &caller));
        Handled::SignedIn(Box::new(caller), answer)
    }

    fn subscribe(&mut self, id: Option<u64>, room: &RoomId, after: Option<Seq>) -> Handled {
        let most = self.app.limits().subscriptions_per_connection;
        let before = self.subscriptions.get(room);
        let again = before.is_some();
        if !again && self.subscriptions.len() >= most {
            let detail = format!("a connection subscribes to at most {most} rooms");
            return Handled::Done(Err(Problem::new(ErrorCode::LimitExceeded, detail)));
        }
        let subscribed = self.app.rooms().subscribe(
            self.caller.user.id,
            room,
            after,
            &self.outlet,
            before.map(|before| &**before),
        );
        let subscribed = match subscribed {
            Ok(subscribed) => subscribed,
            Err(problem) => return Handled::Done(Err(problem)),
        };
        // A subscription repeated moves the cursor: the new one takes the old one's place.
        self.subscriptions
            .insert(room.clone(), subscribed.subscription.clone());
        if !again {
            self.lease.enter(room);
        }
        let begins = Begins::of(&subscribed, after.is_some());
        Handled::Subscribed(Ok(answer(id, subscribed.answer)), begins)
    }

    /// Lets the edge hand out the events of a subscription, behind the answer.
    pub(super) fn begin_relayed(&self, relayed: &Relayed, begins: &Begins, answer: Bytes) {
        let mut told = false;
        let hub = self.app.hub();
        hub.begin_relayed(&begins.subscription, |after| {
            told = true;
            relayed.begin(Begin {
                room: begins.subscription.room().clone(),
                after,
                exact: begins.exact,
                answer: answer.clone(),
                gap: begins.gap.clone().unwrap_or_default(),
                at: RoomHead {
                    head: begins.head,
                    ..RoomHead::default()
                },
            });
        });
        // It has ended already, and its client was told; the answer is owed all the same.
        if !told {
            self.outlet.send(answer);
        }
    }

    /// Takes up the rooms that a client at an edge read before, behind the events that it has.
    pub(super) fn resume(&mut self, rooms: Vec<(RoomId, Seq)>) {
        let Some(relayed) = self.relayed.clone() else {
            return;
        };
        for (room, after) in rooms {
            let user = self.caller.user.id;
            let allowed = self.caller.require_in_room(Scope::Read, &room);
            let subscribed = allowed.and_then(|()| {
                let rooms = self.app.rooms();
                rooms.subscribe(user, &room, Some(after), &self.outlet, None)
            });
            match subscribed {
                Ok(subscribed) => {
                    self.lease.enter(&room);
                    let begins = Begins::of(&subscribed, true);
                    self.subscriptions.insert(room, subscribed.subscription);
                    self.begin_relayed(&relayed, &begins, Bytes::new());
                }
                Err(refused) => {
                    let reason = self.app.rooms().why_ended(user, &room);
                    tracing::debug!(%room, %user, %refused, "a room is not taken up again: {refused}");
                    let signal = Signal::Unsubscribed {
                        room: room.clone(),
                        reason,
                    };
                    relayed.tell_end(room, frame(&JsonCodec.signal(&signal)));
                }
            }
        }
    }

    fn unsubscribe(&mut self, id: Option<u64>, room: &RoomId) -> Answer {
        if let Some(subscription) = self.subscriptions.remove(room) {
            self.app.hub().unsubscribe(&subscription, None);
            self.lease.leave(room);
        }
        Ok(answer(id, Nothing {}))
    }

    /// Forgets the subscriptions that somebody else has ended. One that the client has renewed since is kept.
    pub(super) fn forget_ended(&mut self, rooms: Vec<RoomId>) {
        for room in rooms {
            if self
                .subscriptions
                .get(&room)
                .is_some_and(|subscription| subscription.is_over())
            {
                self.subscriptions.remove(&room);
                self.lease.leave(&room);
            }
        }
    }
}

impl Begins {
    fn of(subscribed: &Subscribed, exact: bool) -> Self {
        Self {
            subscription: subscribed.subscription.clone(),
            gap: subscribed
                .gap
                .as_ref()
                .map(|gap| frame(&JsonCodec.signal(gap))),
            head: subscribed.answer.head,
            exact,
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // What ends here goes on at the edge, if the socket does.
        if let Some(relayed) = &self.relayed {
            relayed.let_go();
        }
        for subscription in self.subscriptions.values() {
            self.app
                .hub()
                .unsubscribe(subscription, None::<UnsubscribeReason>);
        }
    }
}

/// The answer to `auth`.
pub(super) fn signed_in(id: Option<u64>, caller: &Caller) -> Option<Bytes> {
    answer(
        id,
        SignedIn {
            user_id: caller.user.id,
            session_id: caller.session_id,
            expires_at: caller.expires_at,
        },
    )
}

/// One frame as it goes to the socket.
pub(super) fn frame(json: &[u8]) -> Bytes {
    Frames::one(json).wire().clone()
}

fn answer(id: Option<u64>, payload: impl Serialize) -> Option<Bytes> {
    id.map(|id| frame(&ok(id, payload)))
}

/// A page as the answer to `history`. The events stand in it as they are stored, not encoded again.
fn page_frame(id: u64, page: &Page) -> Bytes {
    let frames = page.events.frames();
    let mut json = Vec::with_capacity(frames.wire().len() + 100);
    json.extend_from_slice(format!(r#"{{"type":"ok","id":{id},"payload":{{"events":["#).as_bytes());
    for (index, event) in frames.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&event);
    }
    json.extend_from_slice(
        format!(r#"],"head":{},"first":{}}}}}"#, page.head, page.first).as_bytes(),
    );
    frame(&json)
}
