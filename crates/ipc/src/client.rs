//! The client: asynchronous, usable from any thread, and at its best left connected for days.
//!
//! It has a thread of its own, since Cap'n Proto's capabilities stay on one. It connects again by itself, with growing
//! pauses; subscriptions go on behind the last event that they gave, and a message that was on its way is sent again
//! under its key, so that it is sent once. Calls that come while there is no connection wait for one.

mod admin;
mod exchange;
mod inbox;
mod link;
mod read;
mod subscription;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use stack_proto::capnp::role_from;
use stack_proto::gateway_capnp::session;
use stack_types::{ErrorCode, Event, RoomId, RoomRole, Seq, UserId};

use crate::error::ClientError;
use crate::service::{Account, Cursor, NewMessage, Place, Room, RoomPresence, Start, Version};
use link::{Calling, Entrance, Failure, Handle};

pub use admin::AdminClient;
pub use subscription::{Delivery, Subscription};

/// How a client is made.
#[derive(Clone)]
pub struct ClientConfig {
    /// The gateway's socket.
    pub path: PathBuf,
    /// The bot's token.
    pub token: String,
    /// How long [`Client::connect`] tries; `None`: until the gateway is there.
    pub connect_within: Option<Duration>,
    /// How long a call waits for its answer, and for a connection in front of that.
    pub call_within: Duration,
}

impl ClientConfig {
    /// A client of the gateway at this socket, with a bot's token.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, token: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            token: token.into(),
            connect_within: None,
            call_within: Duration::from_secs(30),
        }
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// As whom a client is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The bot.
    pub user_id: UserId,
    /// What its token allows.
    pub scopes: Vec<String>,
}

/// Events that follow each other, of one room.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// Oldest first.
    pub events: Vec<Event>,
    /// The room's last event.
    pub head: Seq,
    /// The first event that is there for the caller.
    pub first: Seq,
}

/// A bot's connection to its gateway. Cloning shares it; it ends with the last clone and the last subscription.
#[derive(Clone)]
pub struct Client {
    handle: Arc<Handle>,
    who: Who,
}

impl Client {
    /// Connects and logs in. A gateway that is not there is waited for.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the token is no good, [`ClientError::Unreachable`] when the time is over.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let within = config.connect_within;
        let handle = Handle::start(
            config.path,
            Entrance::Token(config.token),
            config.call_within,
        )?;
        let entered = handle.entered(within).await?;
        let who = entered.ok_or(ClientError::Closed)?;
        Ok(Self { handle, who })
    }

    /// The interface for whoever runs the gateway. It does not connect again.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when no gateway listens there, [`ClientError::Refused`] for another user's process.
    pub async fn operator(path: impl AsRef<Path>) -> Result<AdminClient, ClientError> {
        const WITHIN: Duration = Duration::from_secs(10);
        const CALL_WITHIN: Duration = Duration::from_secs(600);
        let handle = Handle::start(path.as_ref().to_owned(), Entrance::Operator, CALL_WITHIN)?;
        handle.entered(Some(WITHIN)).await?;
        Ok(AdminClient::new(handle))
    }

    /// As whom it is logged in.
    #[must_use]
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Sends a message. Without a key it gets one, so that it is sent once however often the connection breaks.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(&self, room: &RoomId, mut message: NewMessage) -> Result<Place, ClientError> {
        if message.key.is_none() {
            message.key = Some(link::new_key()?);
        }
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.send_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            read::message_to(&message, params.init_message());
            async move { read::place(request.send().promise.await?.get()?.get_place()?) }
                .boxed_local()
        })
        .await
    }

    /// Gives one's own message a new text.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Broken`] when it may have been done.
    pub async fn edit(&self, room: &RoomId, seq: Seq, body: &str) -> Result<Place, ClientError> {
        let (room, body) = (room.clone(), body.to_owned());
        self.call(Calling::Once, move |session| {
            let mut request = session.edit_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            params.set_seq(seq.0);
            params.set_body(&body[..]);
            async move { read::place(request.send().promise.await?.get()?.get_place()?) }
                .boxed_local()
        })
        .await
    }

    /// Takes a message back.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Broken`] when it may have been done.
    pub async fn redact(
        &self,
        room: &RoomId,
        seq: Seq,
        reason: Option<&str>,
    ) -> Result<Place, ClientError> {
        let (room, reason) = (room.clone(), reason.unwrap_or_default().to_owned());
        self.call(Calling::Once, move |session| {
            let mut request = session.redact_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            params.set_seq(seq.0);
            params.set_reason(&reason[..]);
            async move { read::place(request.send().promise.await?.get()?.get_place()?) }
                .boxed_local()
        })
        .await
    }

    /// Reacts to a message, or takes a reaction back.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Broken`] when it may have been done.
    pub async fn react(
        &self,
        room: &RoomId,
        seq: Seq,
        emoji: &str,
        remove: bool,
    ) -> Result<Place, ClientError> {
        let (room, emoji) = (room.clone(), emoji.to_owned());
        self.call(Calling::Once, move |session| {
            let mut request = session.react_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            params.set_seq(seq.0);
            params.set_emoji(&emoji[..]);
            params.set_remove(remove);
            async move { read::place(request.send().promise.await?.get()?.get_place()?) }
                .boxed_local()
        })
        .await
    }

    /// A page of a room's log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn history(
        &self,
        room: &RoomId,
        cursor: Cursor,
        limit: Option<u32>,
    ) -> Result<EventPage, ClientError> {
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.history_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            params.set_limit(limit.unwrap_or_default());
            read::cursor_to(cursor, params.init_cursor());
            async move {
                let response = request.send().promise.await?;
                let page = response.get()?.get_page()?;
                Ok(EventPage {
                    events: read::events(page.get_events()?)?,
                    head: Seq(page.get_head()),
                    first: Seq(page.get_first()),
                })
            }
            .boxed_local()
        })
        .await
    }

    /// Who is in a room.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn presence(&self, room: &RoomId) -> Result<RoomPresence, ClientError> {
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.presence_request();
            request.get().set_room(room.as_str());
            async move {
                let response = request.send().promise.await?;
                let presence = response.get()?;
                Ok(RoomPresence {
                    users: presence
                        .get_users()?
                        .iter()
                        .map(read::presence)
                        .collect::<Result<_, _>>()?,
                    count: presence.get_count(),
                    version: presence.get_version(),
                })
            }
            .boxed_local()
        })
        .await
    }

    /// The rooms that the bot sees.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn rooms(&self) -> Result<Vec<Room>, ClientError> {
        self.call(Calling::Again, |session| {
            let request = session.rooms_request();
            async move {
                let response = request.send().promise.await?;
                response
                    .get()?
                    .get_rooms()?
                    .iter()
                    .map(read::room)
                    .collect()
            }
            .boxed_local()
        })
        .await
    }

    /// Joins a public room.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn join(&self, room: &RoomId) -> Result<RoomRole, ClientError> {
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.join_request();
            request.get().set_room(room.as_str());
            async move {
                let response = request.send().promise.await?;
                role_from(response.get()?.get_role()?)
                    .ok_or_else(|| Failure::Malformed("joined without a role".to_owned()))
            }
            .boxed_local()
        })
        .await
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn leave(&self, room: &RoomId) -> Result<(), ClientError> {
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.leave_request();
            request.get().set_room(room.as_str());
            async move { Ok(request.send().promise.await.map(drop)?) }.boxed_local()
        })
        .await
    }

    /// Moves the read cursor.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn read(&self, room: &RoomId, seq: Seq) -> Result<(), ClientError> {
        let room = room.clone();
        self.call(Calling::Again, move |session| {
            let mut request = session.read_request();
            let mut params = request.get();
            params.set_room(room.as_str());
            params.set_seq(seq.0);
            async move { Ok(request.send().promise.await.map(drop)?) }.boxed_local()
        })
        .await
    }

    /// Somebody whom the bot may know of.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn user(&self, id: UserId) -> Result<Account, ClientError> {
        self.call(Calling::Again, move |session| {
            let mut request = session.user_request();
            request.get().set_id(id.as_str());
            async move { read::account(request.send().promise.await?.get()?.get_user()?) }
                .boxed_local()
        })
        .await
    }

    /// Every event of a room from the start on, each once, in order, across any number of connections.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subscribe(
        &self,
        room: &RoomId,
        start: Start,
    ) -> Result<Subscription, ClientError> {
        Subscription::begin(&self.handle, subscription::Kind::Room, room.clone(), start).await
    }

    /// The interface for admins. Without the scope `admin` its calls are refused.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.handle.clone())
    }

    /// Which gateway it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.handle.version().await
    }

    async fn call<T: Send + 'static>(
        &self,
        calling: Calling,
        ask: impl Fn(
            &session::Client,
        ) -> futures_util::future::LocalBoxFuture<'static, Result<T, Failure>>
        + Send
        + 'static,
    ) -> Result<T, ClientError> {
        self.handle
            .call(calling, move |entered| match &entered.session {
                Some(session) => ask(session),
                None => {
                    let none = Failure::Malformed("there is no session".to_owned());
                    std::future::ready(Err(none)).boxed_local()
                }
            })
            .await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

/// Whether somebody who logs in with this refusal may as well give up.
fn is_final(code: ErrorCode) -> bool {
    !code.retryable() && code != ErrorCode::LimitExceeded
}
