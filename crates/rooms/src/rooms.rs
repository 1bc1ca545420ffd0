//! The rooms of this gateway: what they are made of, and looking at them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use stack_bus::Bus;
use stack_delivery::{Hub, Outlet, Subscription};
use stack_rate::{DEFAULT_CAPACITY, Limiter, Quota};
use stack_storage::{Membership, RoomRef, Store};
use stack_types::{
    Clock, EventCodec, GapReason, HistoryVisibility, Limits, Problem, RoomId, RoomRole,
    RoomSettings, Seq, Signal, UnsubscribeReason, UserId,
};

use crate::rights::{self, Action, At, Standing};
use crate::view::Room;

/// Typing signals of one user in one room: a client that says so with every key pressed is quick enough.
const TYPING: Quota = Quota::new(30, Duration::from_secs(10));

/// What the rooms are told at the start.
#[derive(Debug, Clone)]
pub struct RoomsConfig {
    /// Sizes.
    pub limits: Limits,
    /// Messages of one user in one room, where the room sets nothing else. [`Quota::UNLIMITED`] switches the
    /// limiting of messages off, also where a room sets something; a room's slow mode holds all the same.
    pub messages: Quota,
}

/// The rooms. Cloning shares them.
#[derive(Clone)]
pub struct Rooms(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) hub: Hub,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) codec: Arc<dyn EventCodec>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: RoomsConfig,
    pub(crate) messages: Limiter<(UserId, RoomId)>,
    /// Looked at with every message, so that it is not behind a lock.
    pub(crate) unlimited: AtomicBool,
    pub(crate) slow_mode: Limiter<(UserId, RoomId)>,
    pub(crate) typing: Limiter<(UserId, RoomId)>,
}

/// A subscription that has begun to be.
#[derive(Debug)]
pub struct Subscribed {
    /// Give it to [`stack_delivery::Hub::begin`] after the answer is on its way.
    pub subscription: Arc<Subscription>,
    /// What to answer.
    pub answer: SubscribedAnswer,
    /// To be told after the answer: what lies behind the cursor and is not for this reader.
    pub gap: Option<Signal>,
}

/// The answer to `subscribe`.
#[derive(Debug, Clone, Serialize)]
pub struct SubscribedAnswer {
    /// The room.
    pub room: RoomId,
    /// Its last event.
    pub head: Seq,
    /// The first event that is still there.
    pub first: Seq,
    /// The subscriber's role; `guest` for one who is not a member.
    pub role: RoomRole,
    /// How far the subscriber has read.
    pub read_seq: Seq,
}

impl Rooms {
    /// The rooms in a store, with their delivery.
    #[must_use]
    pub fn new(
        config: RoomsConfig,
        store: Store,
        hub: Hub,
        bus: Arc<dyn Bus>,
        codec: Arc<dyn EventCodec>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let messages = Limiter::new(config.messages, DEFAULT_CAPACITY, clock.clone());
        let slow_mode = Limiter::new(Quota::UNLIMITED, DEFAULT_CAPACITY, clock.clone());
        let typing = Limiter::new(TYPING, DEFAULT_CAPACITY, clock.clone());
        Self(Arc::new(Inner {
            store,
            hub,
            bus,
            codec,
            clock,
            config,
            messages,
            unlimited: AtomicBool::new(false),
            slow_mode,
            typing,
        }))
    }

    /// Switches the limiting of messages on or off, as [`Quota::UNLIMITED`] at the start does for good. It is on.
    pub fn limit_messages(&self, on: bool) {
        self.0.unlimited.store(!on, Ordering::Relaxed);
    }

    /// How often what was said was refused for its rate, by kind.
    #[must_use]
    pub fn rate_limited(&self) -> [(&'static str, u64); 3] {
        [
            ("message", self.0.messages.refused()),
            ("slow_mode", self.0.slow_mode.refused()),
            ("typing", self.0.typing.refused()),
        ]
    }

    /// One room as the caller sees it.
    ///
    /// # Errors
    /// `not_found` when there is none that the caller may know of.
    pub fn get(&self, user: UserId, room: &RoomId) -> Result<Room, Problem> {
        let (room, _) = self.check(&user, room, Action::See)?;
        self.view(&user, &room)
    }

    /// The rooms that the caller sees: their own, and public ones.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list(&self, user: UserId) -> Result<Vec<Room>, Problem> {
        let store = &self.0.store;
        let mut rooms = store.rooms_of(user).await?;
        let public = store.public_rooms().await?;
        rooms.extend(
            public
                .into_iter()
                .filter(|room| room.member(&user).is_none()),
        );
        let read = store.read_cursors(user).await?;
        let read_seq = |room: &RoomRef| read.get(room.id()).copied().unwrap_or(Seq::ZERO);
        let view =
            |room: &RoomRef| Room::of(room, &user, self.first_for(room, &user), read_seq(room));
        Ok(rooms.iter().map(view).collect())
    }

    /// Whether somebody may read a room, for what lies beside it: members, presence.
    ///
    /// # Errors
    /// `not_found` or `forbidden`.
    pub fn may_read(&self, user: UserId, room: &RoomId) -> Result<(), Problem> {
        self.check(&user, room, Action::Read).map(|_| ())
    }

    /// Subscribes an outlet to a room, from behind `after` on, or live only. `before` is the subscription that the new
    /// one takes the place of; refused, it stays as it is. Everything that came of it stands at or before the answer's
    /// `head`.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `invalid_field` when `after` is beyond the room's last event.
    pub fn subscribe(
        &self,
        user: UserId,
        room: &RoomId,
        after: Option<Seq>,
        outlet: &Arc<Outlet>,
        before: Option<&Subscription>,
    ) -> Result<Subscribed, Problem> {
        let (found, standing) = self.check(&user, room, Action::Read)?;
        if let Some(after) = after {
            check_cursor("after", after, found.head())?;
        }
        let read_seq = self.0.store.read_cursor(&user, &found)?;
        let mut begin = self.begin_of(&found, &user, after);
        let renewed = before.and_then(|before| {
            self.0.hub.renew(before, || {
                begin = self.begin_of(&found, &user, after);
                begin.from
            })
        });
        let subscription = match renewed {
            // Whoever removes somebody has ended the old one before, or ends this one.
            Some(renewed) => renewed,
            None => {
                let new = self.0.hub.subscribe(outlet, &found, user, begin.from);
                // Somebody may have been removed between the check and now; whoever removed them has either ended
                // this subscription, or it is seen here.
                if let Err(problem) = self.check(&user, room, Action::Read) {
                    self.0.hub.unsubscribe(&new, None);
                    return Err(problem);
                }
                new
            }
        };
        let Begin {
            head,
            first,
            after,
            from,
        } = begin;
        let gap = (from > after).then(|| Signal::Gap {
            room: room.clone(),
            from: after.next(),
            to: from,
            reason: GapReason::Joined,
        });
        let answer = SubscribedAnswer {
            room: room.clone(),
            head,
            first,
            role: role_of(standing),
            read_seq,
        };
        Ok(Subscribed {
            subscription,
            answer,
            gap,
        })
    }

    /// Why somebody who read a room may not do so any more, as they are told.
    #[must_use]
    pub fn why_ended(&self, user: UserId, room: &RoomId) -> UnsubscribeReason {
        let Ok(Some(room)) = self.0.store.room(room) else {
            return UnsubscribeReason::Deleted;
        };
        if room.ban(&user, self.0.clock.now()).is_some() {
            UnsubscribeReason::Banned
        } else {
            UnsubscribeReason::Removed
        }
    }

    fn begin_of(&self, room: &RoomRef, user: &UserId, after: Option<Seq>) -> Begin {
        let head = room.head();
        let first = self.first_for(room, user);
        let after = after.unwrap_or(head);
        // What the reader may not see is passed over here; what is no longer kept is told by whoever reads the log for
        // them, as to any reader whose cursor it has overtaken.
        let hidden = first > room.first();
        Begin {
            head,
            first,
            after,
            from: if hidden {
                after.max(first.prev())
            } else {
                after
            },
        }
    }

    /// The room, if the caller may do this in it, and what the caller is to it.
    pub(crate) fn check(
        &self,
        user: &UserId,
        room: &RoomId,
        action: Action,
    ) -> Result<(RoomRef, Standing), Problem> {
        let room = self.0.store.room(room)?.ok_or_else(rights::no_such_room)?;
        let standing = {
            let at = At(&room, self.0.clock.now(), &self.0.store);
            rights::check(&at, user, action)?
        };
        Ok((room, standing))
    }

    /// The first event that is there for somebody.
    #[must_use]
    pub fn first_for(&self, room: &RoomRef, user: &UserId) -> Seq {
        room.first()
            .max(reads_from(&room.settings(), room.member(user), room.head()))
    }

    pub(crate) fn view(&self, user: &UserId, room: &RoomRef) -> Result<Room, Problem> {
        let read_seq = self.0.store.read_cursor(user, room)?;
        Ok(Room::of(room, user, self.first_for(room, user), read_seq))
    }
}

/// Where a subscription begins.
struct Begin {
    head: Seq,
    /// The first event that is there for the reader.
    first: Seq,
    /// What was asked for.
    after: Seq,
    /// What the reader can have of it.
    from: Seq,
}

/// The first event that somebody may read, as far as the room's settings say.
pub(crate) fn reads_from(settings: &RoomSettings, member: Option<Membership>, head: Seq) -> Seq {
    match (settings.history, member) {
        (HistoryVisibility::Joined, Some(member)) => member.joined_seq.next(),
        (HistoryVisibility::Joined, None) => head.next(),
        (HistoryVisibility::Members, _) => Seq::FIRST,
    }
}

/// Refuses a cursor that points to what has not happened yet.
pub(crate) fn check_cursor(field: &'static str, cursor: Seq, head: Seq) -> Result<(), Problem> {
    if cursor > head {
        let detail = format!("{field} is beyond the room's last event, {head}");
        return Err(Problem::invalid_field(field, detail));
    }
    Ok(())
}

fn role_of(standing: Standing) -> RoomRole {
    match standing {
        Standing::Owner => RoomRole::Owner,
        Standing::Moderator => RoomRole::Moderator,
        Standing::Member => RoomRole::Member,
        Standing::Outsider | Standing::Banned | Standing::Visitor | Standing::Guest => {
            RoomRole::Guest
        }
    }
}
