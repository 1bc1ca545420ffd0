//! The interface `Session`.

use std::rc::Rc;
use std::sync::Arc;

use capnp::Error;
use stack_proto::capnp::role_to;
use stack_proto::gateway_capnp::session;
use stack_types::{Problem, Seq, UserId};

use super::admin::AdminImpl;
use super::feed::{self, SubscriptionImpl};
use super::fill;
use crate::refusal::exception;
use crate::server::{Conn, Handed};
use crate::service::{Answer, Place, Say, Session};
use crate::wire::Call;

/// A program that has logged in.
pub(super) struct SessionImpl {
    conn: Rc<Conn>,
    session: Arc<dyn Session>,
    user: UserId,
    _handed: Handed,
}

type Begun<T> = Result<(Call, Answer<T>), Error>;

impl SessionImpl {
    pub(super) fn new(
        conn: Rc<Conn>,
        session: Arc<dyn Session>,
        user: UserId,
        handed: Handed,
    ) -> Self {
        Self {
            conn,
            session,
            user,
            _handed: handed,
        }
    }

    /// Begins a call, whose parameters `read` takes apart.
    fn begin<T>(&self, read: impl FnOnce(&dyn Session) -> Result<Answer<T>, Error>) -> Begun<T> {
        let call = self.conn.begin()?;
        Ok((call, read(&*self.session)?))
    }

    /// Waits for the answer.
    async fn answer<T>(&self, begun: Begun<T>) -> Result<(Call, T), Error> {
        let (call, answer) = begun?;
        let answer = self.conn.settle_for(Some(self.user), answer.await)?;
        Ok((call, answer))
    }

    fn say(
        &self,
        read: impl FnOnce() -> Result<(stack_types::RoomId, Say), Error>,
    ) -> Begun<Place> {
        self.begin(|session| {
            let (room, say) = read()?;
            Ok(session.say(room, say))
        })
    }
}

impl session::Server for SessionImpl {
    fn send(
        self: Rc<Self>,
        params: session::SendParams,
        mut results: session::SendResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.say(|| {
            let params = params.get()?;
            let message = fill::message_of(params.get_message()?)?;
            Ok((fill::room_of(params.get_room()?)?, Say::Message(message)))
        });
        async move {
            let (_call, place) = self.answer(begun).await?;
            fill::place(&place, results.get().init_place());
            Ok(())
        }
    }

    fn edit(
        self: Rc<Self>,
        params: session::EditParams,
        mut results: session::EditResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.say(|| {
            let params = params.get()?;
            let say = Say::Edit {
                seq: Seq(params.get_seq()),
                body: params.get_body()?.to_string()?,
            };
            Ok((fill::room_of(params.get_room()?)?, say))
        });
        async move {
            let (_call, place) = self.answer(begun).await?;
            fill::place(&place, results.get().init_place());
            Ok(())
        }
    }

    fn redact(
        self: Rc<Self>,
        params: session::RedactParams,
        mut results: session::RedactResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.say(|| {
            let params = params.get()?;
            let say = Say::Redact {
                seq: Seq(params.get_seq()),
                reason: fill::optional(params.get_reason()?)?,
            };
            Ok((fill::room_of(params.get_room()?)?, say))
        });
        async move {
            let (_call, place) = self.answer(begun).await?;
            fill::place(&place, results.get().init_place());
            Ok(())
        }
    }

    fn react(
        self: Rc<Self>,
        params: session::ReactParams,
        mut results: session::ReactResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.say(|| {
            let params = params.get()?;
            let say = Say::React {
                seq: Seq(params.get_seq()),
                emoji: params.get_emoji()?.to_string()?,
                remove: params.get_remove(),
            };
            Ok((fill::room_of(params.get_room()?)?, say))
        });
        async move {
            let (_call, place) = self.answer(begun).await?;
            fill::place(&place, results.get().init_place());
            Ok(())
        }
    }

    async fn history(
        self: Rc<Self>,
        params: session::HistoryParams,
        mut results: session::HistoryResults,
    ) -> Result<(), Error> {
        let _call = self.conn.begin()?;
        // A page is read when it can be passed on.
        let _turn = self.conn.pages.acquire().await;
        self.conn.gate.writable().await;
        let answer = {
            let params = params.get()?;
            let room = fill::room_of(params.get_room()?)?;
            let cursor = fill::cursor_of(params.get_cursor()?)?;
            let limit = fill::optional_number(params.get_limit());
            self.session.history(room, cursor, limit)
        };
        let page = self.conn.settle_for(Some(self.user), answer.await)?;
        self.conn.gate.owe(page.events.wire().len());
        let mut to = results.get().init_page();
        to.set_head(page.head.0);
        to.set_first(page.first.0);
        let count = page.events.len() as u32;
        feed::fill_events(&page.events, 0..page.events.len(), to.init_events(count))
    }

    fn subscribe(
        self: Rc<Self>,
        params: session::SubscribeParams,
        mut results: session::SubscribeResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.begin(|session| {
            let params = params.get()?;
            let room = fill::room_of(params.get_room()?)?;
            Ok(session.subscribe(room, fill::start_of(params.get_start()?)?))
        });
        async move {
            let handed = self.conn.hand_out()?;
            let (_call, subscribed) = self.answer(begun).await?;
            let sink = params.get()?.get_sink()?;
            let mut to = results.get();
            to.set_head(subscribed.head.0);
            to.set_first(subscribed.first.0);
            to.set_role(role_to(Some(subscribed.role)));
            to.set_read_seq(subscribed.read_seq.0);
            let subscription = SubscriptionImpl::begin(&self.conn, subscribed.feed, sink, handed);
            to.set_subscription(capnp_rpc::new_client(subscription));
            Ok(())
        }
    }

    fn presence(
        self: Rc<Self>,
        params: session::PresenceParams,
        mut results: session::PresenceResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun =
            self.begin(|session| Ok(session.presence(fill::room_of(params.get()?.get_room()?)?)));
        async move {
            let (_call, presence) = self.answer(begun).await?;
            let mut to = results.get();
            to.set_count(presence.count);
            to.set_version(presence.version);
            let mut users = to.init_users(presence.users.len() as u32);
            for (index, user) in presence.users.iter().enumerate() {
                fill::presence(user, users.reborrow().get(index as u32));
            }
            Ok(())
        }
    }

    fn rooms(
        self: Rc<Self>,
        _: session::RoomsParams,
        mut results: session::RoomsResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.begin(|session| Ok(session.rooms()));
        async move {
            let (_call, rooms) = self.answer(begun).await?;
            let mut to = results.get().init_rooms(rooms.len() as u32);
            for (index, room) in rooms.iter().enumerate() {
                fill::room(room, to.reborrow().get(index as u32));
            }
            Ok(())
        }
    }

    fn join(
        self: Rc<Self>,
        params: session::JoinParams,
        mut results: session::JoinResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun =
            self.begin(|session| Ok(session.join(fill::room_of(params.get()?.get_room()?)?)));
        async move {
            let (_call, role) = self.answer(begun).await?;
            results.get().set_role(role_to(Some(role)));
            Ok(())
        }
    }

    fn leave(
        self: Rc<Self>,
        params: session::LeaveParams,
        _: session::LeaveResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun =
            self.begin(|session| Ok(session.leave(fill::room_of(params.get()?.get_room()?)?)));
        async move { self.answer(begun).await.map(drop) }
    }

    fn read(
        self: Rc<Self>,
        params: session::ReadParams,
        _: session::ReadResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.begin(|session| {
            let params = params.get()?;
            let room = fill::room_of(params.get_room()?)?;
            Ok(session.read(room, Seq(params.get_seq())))
        });
        async move { self.answer(begun).await.map(drop) }
    }

    fn user(
        self: Rc<Self>,
        params: session::UserParams,
        mut results: session::UserResults,
    ) -> impl Future<Output = Result<(), Error>> + 'static {
        let begun = self.begin(|session| {
            let nobody = |_| exception(&Problem::not_found("there is no such user"));
            let id = params.get()?.get_id()?.to_str()?.parse();
            Ok(session.user(id.map_err(nobody)?))
        });
        async move {
            let (_call, user) = self.answer(begun).await?;
            fill::account(&user, results.get().init_user());
            Ok(())
        }
    }

    async fn admin(
        self: Rc<Self>,
        _: session::AdminParams,
        mut results: session::AdminResults,
    ) -> Result<(), Error> {
        let _call = self.conn.begin()?;
        let handed = self.conn.hand_out()?;
        let admin = self
            .conn
            .settle_for(Some(self.user), self.session.admin())?;
        let admin = AdminImpl::new(self.conn.clone(), admin, handed);
        results.get().set_admin(capnp_rpc::new_client(admin));
        Ok(())
    }
}
