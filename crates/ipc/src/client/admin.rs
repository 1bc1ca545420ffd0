//! The interface for admins, as the gateway's own: [`Admin`], over the socket.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, LocalBoxFuture};
use stack_proto::JsonCodec;
use stack_proto::gateway_capnp::{admin, setting_change};
use stack_types::{ErrorCode, EventCodec as _, FramesBuilder, Problem, RoomId};

use super::link::{Calling, Failure, Handle};
use super::subscription::{Delivery, Kind, Subscription};
use super::{exchange, read};
use crate::error::ClientError;
use crate::service::{
    Account, AccountPage, Admin, Answer, AuditPage, AuditQuery, Erasure, Export, Fed, Feed, Figure,
    Import, ImportOptions, Reloaded, RoomViewPage, SessionView, Start, Tail, TraceQuery, Version,
};

/// What the operator, or a bot with the scope for it, may do. A connection that breaks is `unavailable`.
#[derive(Clone)]
pub struct AdminClient(Arc<Handle>);

impl AdminClient {
    pub(super) fn new(handle: Arc<Handle>) -> Self {
        Self(handle)
    }

    /// Which gateway it is.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.0.version().await
    }

    /// Every event of a room from the start on, whoever is in it.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn follow(&self, room: &RoomId, start: Start) -> Result<Subscription, ClientError> {
        Subscription::begin(&self.0, Kind::Tail, room.clone(), start).await
    }

    fn call<T: Send + 'static>(
        &self,
        calling: Calling,
        ask: impl Fn(&admin::Client) -> LocalBoxFuture<'static, Result<T, Failure>> + Send + 'static,
    ) -> Answer<T> {
        let handle = self.0.clone();
        async move {
            let answer = handle.call(calling, move |entered| match entered.admin() {
                Ok(admin) => ask(&admin),
                Err(failure) => std::future::ready(Err(failure)).boxed_local(),
            });
            answer.await.map_err(problem)
        }
        .boxed()
    }
}

/// The problem that an error of the client is to whoever knows problems only.
pub(super) fn problem(error: ClientError) -> Problem {
    match error {
        ClientError::Refused(problem) => problem,
        ClientError::Broken | ClientError::Closed | ClientError::Unreachable(_) => {
            Problem::new(ErrorCode::Unavailable, error.to_string())
        }
        ClientError::Malformed(_) | ClientError::Thread(_) => {
            Problem::new(ErrorCode::Internal, error.to_string())
        }
    }
}

impl Admin for AdminClient {
    fn snapshot(&self, path: PathBuf) -> Answer<u64> {
        self.call(Calling::Once, move |admin| {
            let mut request = admin.snapshot_request();
            request.get().set_path(&*path.to_string_lossy());
            async move { Ok(request.send().promise.await?.get()?.get_bytes()) }.boxed_local()
        })
    }

    fn stats(&self) -> Answer<Vec<Figure>> {
        self.call(Calling::Again, |admin| {
            let request = admin.stats_request();
            async move {
                let response = request.send().promise.await?;
                let stats = response.get()?.get_stats()?;
                stats.iter().map(read::figure).collect()
            }
            .boxed_local()
        })
    }

    fn revoke(&self, user: String, session_id: Option<String>) -> Answer<u32> {
        self.call(Calling::Once, move |admin| {
            let mut request = admin.revoke_request();
            let mut params = request.get();
            params.set_user(&user[..]);
            params.set_session_id(session_id.as_deref().unwrap_or_default());
            async move { Ok(request.send().promise.await?.get()?.get_ended()) }.boxed_local()
        })
    }

    fn users(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<AccountPage> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.users_request();
            let mut params = request.get();
            params.set_cursor(cursor.as_deref().unwrap_or_default());
            params.set_limit(limit.unwrap_or_default());
            async move {
                let response = request.send().promise.await?;
                let page = response.get()?;
                Ok(AccountPage {
                    users: page
                        .get_users()?
                        .iter()
                        .map(read::account)
                        .collect::<Result<_, _>>()?,
                    next: read::optional(page.get_next()?)?,
                })
            }
            .boxed_local()
        })
    }

    fn sessions(&self, user: String) -> Answer<Vec<SessionView>> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.sessions_request();
            request.get().set_user(&user[..]);
            async move {
                let response = request.send().promise.await?;
                let sessions = response.get()?.get_sessions()?;
                sessions.iter().map(read::session_view).collect()
            }
            .boxed_local()
        })
    }

    fn rooms(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<RoomViewPage> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.rooms_request();
            let mut params = request.get();
            params.set_cursor(cursor.as_deref().unwrap_or_default());
            params.set_limit(limit.unwrap_or_default());
            async move {
                let response = request.send().promise.await?;
                let page = response.get()?;
                Ok(RoomViewPage {
                    rooms: page
                        .get_rooms()?
                        .iter()
                        .map(read::room_view)
                        .collect::<Result<_, _>>()?,
                    next: read::optional(page.get_next()?)?,
                })
            }
            .boxed_local()
        })
    }

    fn promote(&self, username: String) -> Answer<Account> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.promote_request();
            request.get().set_username(&username[..]);
            async move { read::account(request.send().promise.await?.get()?.get_user()?) }
                .boxed_local()
        })
    }

    fn set_disabled(&self, username: String, disabled: bool) -> Answer<()> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.set_disabled_request();
            let mut params = request.get();
            params.set_username(&username[..]);
            params.set_disabled(disabled);
            async move { Ok(request.send().promise.await.map(drop)?) }.boxed_local()
        })
    }

    fn recovery_url(&self, username: String, reset_second_factor: bool) -> Answer<String> {
        self.call(Calling::Once, move |admin| {
            let mut request = admin.recovery_url_request();
            let mut params = request.get();
            params.set_username(&username[..]);
            params.set_reset_second_factor(reset_second_factor);
            async move {
                Ok(request
                    .send()
                    .promise
                    .await?
                    .get()?
                    .get_url()?
                    .to_string()?)
            }
            .boxed_local()
        })
    }

    fn setup_url(&self) -> Answer<String> {
        self.call(Calling::Again, |admin| {
            let request = admin.setup_url_request();
            async move {
                let response = request.send().promise.await?;
                Ok(response.get()?.get_url()?.to_string()?)
            }
            .boxed_local()
        })
    }

    fn reload(&self) -> Answer<Reloaded> {
        self.call(Calling::Again, |admin| {
            let request = admin.reload_request();
            async move {
                let response = request.send().promise.await?;
                let reloaded = response.get()?;
                let change = |change: setting_change::Reader<'_>| -> Result<_, Failure> {
                    Ok((change.get_key()?.to_string()?, change.get_applied()))
                };
                Ok(Reloaded {
                    changes: (reloaded.get_changes()?.iter())
                        .map(change)
                        .collect::<Result<_, _>>()?,
                    faults: read::texts(reloaded.get_faults()?)?,
                })
            }
            .boxed_local()
        })
    }

    fn audit(&self, query: AuditQuery) -> Answer<AuditPage> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.audit_request();
            let mut params = request.get();
            params.set_since(query.since.map_or(0, |since| since.0));
            params.set_actor(query.actor.as_deref().unwrap_or_default());
            params.set_action(query.action.as_deref().unwrap_or_default());
            params.set_cursor(query.cursor.as_deref().unwrap_or_default());
            async move {
                let response = request.send().promise.await?;
                let page = response.get()?;
                Ok(AuditPage {
                    entries: read::texts(page.get_entries()?)?,
                    next: read::optional(page.get_next()?)?,
                })
            }
            .boxed_local()
        })
    }

    fn export(&self, rooms: Option<Vec<RoomId>>) -> Answer<Box<dyn Export>> {
        let handle = self.0.clone();
        async move { exchange::export(&handle, rooms).await.map_err(problem) }.boxed()
    }

    fn import(&self, options: ImportOptions) -> Answer<Box<dyn Import>> {
        let handle = self.0.clone();
        async move { exchange::import(&handle, options).await.map_err(problem) }.boxed()
    }

    fn erase_messages(&self, user: String, room: Option<RoomId>) -> Answer<Erasure> {
        self.call(Calling::Once, move |admin| {
            let mut request = admin.erase_messages_request();
            let mut params = request.get();
            params.set_user(&user[..]);
            params.set_room(room.as_ref().map_or("", RoomId::as_str));
            async move { read::erasure(request.send().promise.await?.get()?.get_erasure()?) }
                .boxed_local()
        })
    }

    fn erasures(&self) -> Answer<Vec<Erasure>> {
        self.call(Calling::Again, |admin| {
            let request = admin.erasures_request();
            async move {
                let response = request.send().promise.await?;
                let erasures = response.get()?.get_erasures()?;
                erasures.iter().map(read::erasure).collect()
            }
            .boxed_local()
        })
    }

    fn trace(&self, asked: TraceQuery) -> Answer<String> {
        self.call(Calling::Again, move |admin| {
            let mut request = admin.trace_request();
            let mut params = request.get();
            params.set_room(asked.room.as_str());
            params.set_seq(asked.seq.0);
            params.set_user(asked.user.as_deref().unwrap_or_default());
            async move {
                let response = request.send().promise.await?;
                Ok(response.get()?.get_trace()?.to_string()?)
            }
            .boxed_local()
        })
    }

    fn tail(&self, room: RoomId, start: Start) -> Answer<Tail> {
        let admin = self.clone();
        async move {
            let followed = admin.follow(&room, start).await.map_err(problem)?;
            Ok(Tail {
                head: followed.head(),
                first: followed.first(),
                feed: Box::new(Followed(followed)) as Box<dyn Feed>,
            })
        }
        .boxed()
    }
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").finish_non_exhaustive()
    }
}

/// A subscription as the gateway's own feeds are.
struct Followed(Subscription);

impl Feed for Followed {
    fn next(&mut self) -> BoxFuture<'_, Option<Fed>> {
        async move {
            Some(match self.0.next().await? {
                Delivery::Events(events) => {
                    let mut frames = FramesBuilder::with_capacity(0);
                    let mut json = Vec::new();
                    for event in &events {
                        json.clear();
                        JsonCodec.encode(event, &mut json);
                        frames.push(&json);
                    }
                    Fed::Events(frames.finish())
                }
                Delivery::Gap { from, to, reason } => Fed::Gap { from, to, reason },
                Delivery::Ended { reason } => Fed::Ended { reason },
            })
        }
        .boxed()
    }
}
