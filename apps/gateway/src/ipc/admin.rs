//! What the operator and programs with the scope `admin` may do, over the socket of a running gateway or, from the
//! command line, on a file that no gateway has open.
//!
//! Whoever asks is looked at with every call. What changes something, and what shows more than an admin sees over HTTP,
//! is on record before it is done or in the commit that does it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use stack_auth::{AuditAction, Auth, Caller, Keeper};
use stack_ipc::service::{
    Account, AccountPage, Admin, Answer, AuditPage, AuditQuery, Erasure, Export, Fed, Feed, Figure,
    Import, ImportOptions, Peer, Reloaded, RoomView, RoomViewPage, SessionView, Start, Tail,
    TraceQuery,
};
use stack_storage::{AccountKind, EraseWalk, PageLimit, RoomFacts, RoomRef, SnapshotError, Store};
use stack_types::{ErrorCode, GlobalRole, Problem, RoomId, Seq, Username};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use crate::app::AppState;
use crate::config::Faults;
use crate::exchange::{Exporter, Importer};
use crate::gateway;
use crate::http::origin::Origins;
use crate::message_trace;

/// Entries of one answer, unless asked otherwise, and at most.
const USUAL_PAGE: usize = 100;
const LARGEST_PAGE: u32 = 500;

/// How often a tail looks for what is new. People watch it, to whom this is at once, and one that stalls leaves nothing
/// queued anywhere.
const TAIL_EVERY: Duration = Duration::from_millis(50);
/// How often it looks whether it may go on.
const LOOKS_PER_CHECK: u32 = 10;
/// How long a command has to take the copy that was made for it: it opens the file, and removes its name.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// Events of a tail that are handed over at once.
const TAIL_PIECE: PageLimit = PageLimit {
    events: 256,
    bytes: 256 * 1024,
};

/// The interface. Cloning shares it.
#[derive(Clone)]
pub(crate) struct AdminService(Arc<Parts>);

struct Parts {
    keeper: Keeper,
    auth: Auth,
    store: Store,
    origins: Origins,
    /// `None` on a file alone.
    app: Option<AppState>,
}

/// Who asks for the interface at a socket.
pub(crate) enum AdminActor {
    /// Whoever runs the gateway, as the system says of the peer.
    Operator(Peer),
    /// A program that has logged in.
    Bot(Caller),
}

impl AdminService {
    /// The interface of a running gateway.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`].
    pub(crate) fn of_gateway(app: AppState, actor: AdminActor) -> Result<Arc<dyn Admin>, Problem> {
        let keeper = match actor {
            AdminActor::Operator(peer) => {
                let Peer { uid, pid, .. } = peer;
                tracing::info!(uid, pid, "the operator has come");
                Keeper::Operator
            }
            AdminActor::Bot(caller) => Keeper::Program(Box::new(caller)),
        };
        app.auth().check_keeper(&keeper)?;
        Ok(Arc::new(Self(Arc::new(Parts {
            keeper,
            auth: app.auth().clone(),
            store: app.store().clone(),
            origins: app.origins().clone(),
            app: Some(app),
        }))))
    }

    /// The operator's, of a file.
    pub(crate) fn of_file(auth: Auth, store: Store, origins: Origins) -> Self {
        Self(Arc::new(Parts {
            keeper: Keeper::Operator,
            auth,
            store,
            origins,
            app: None,
        }))
    }

    fn answer<T, F>(&self, work: impl FnOnce(Arc<Parts>) -> F) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>> + Send + 'static,
    {
        // Whoever runs the gateway may ask as they like; a program has one rate for all that it asks.
        if let (Keeper::Program(caller), Some(app)) = (&self.0.keeper, &self.0.app)
            && let Err(too_fast) = app.rates().frame(caller.user.id)
        {
            return ready(Err(too_fast.into())).boxed();
        }
        work(self.0.clone()).boxed()
    }
}

impl Admin for AdminService {
    fn snapshot(&self, path: PathBuf) -> Answer<u64> {
        self.answer(async move |parts| {
            if !path.is_absolute() {
                let detail = "the path is not absolute, and whose folder it starts from is unclear";
                return Err(Problem::invalid_field("path", detail));
            }
            parts.auth.check_keeper(&parts.keeper)?;
            // A mistyped path is no entry in the log.
            parts.store.check_snapshot(&path).map_err(not_made)?;
            let made = AuditAction::SnapshotMade;
            parts.auth.record_keeping(&parts.keeper, made, None).await?;
            if crate::offline::is_copy(&path) {
                return copy_to_take(parts.store.clone(), path).await;
            }
            parts.store.snapshot(path).await.map_err(not_made)
        })
    }

    fn stats(&self) -> Answer<Vec<Figure>> {
        self.answer(async |parts| {
            parts.auth.check_keeper(&parts.keeper)?;
            let app = parts.running()?;
            let counts = parts.store.counts().await?;
            #[expect(clippy::cast_precision_loss, reason = "it has not 2^53 of anything")]
            let figure = |name: &str, value: u64, unit: Option<&str>| Figure {
                name: name.to_owned(),
                value: value as f64,
                unit: unit.map(str::to_owned),
            };
            let mut figures = vec![
                figure("users", counts.users, None),
                figure("rooms", counts.rooms, None),
                figure("file", parts.store.file_bytes()?, Some("bytes")),
            ];
            figures.extend(app.measured().into_iter().map(|measured| Figure {
                name: measured.name,
                value: measured.value,
                unit: measured.unit.map(str::to_owned),
            }));
            Ok(figures)
        })
    }

    fn revoke(&self, user: String, session_id: Option<String>) -> Answer<u32> {
        self.answer(async move |parts| {
            let session = session_id.map(|id| id.parse()).transpose();
            let session = session
                .map_err(|error| Problem::invalid_field("session_id", format!("{error}")))?;
            let ended = parts
                .auth
                .revoke_kept(&parts.keeper, &user, session)
                .await?;
            Ok(u32::try_from(ended).unwrap_or(u32::MAX))
        })
    }

    fn users(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<AccountPage> {
        self.answer(async move |parts| {
            let limit = page(limit)?;
            let after = cursor.map(|cursor| cursor.parse()).transpose();
            let after = after.map_err(|_| bad_cursor())?;
            let accounts = parts.auth.kept_accounts(&parts.keeper, after, limit);
            let users: Vec<_> = accounts.await?.into_iter().map(account).collect();
            let next = users.last().filter(|_| users.len() == limit);
            let next = next.map(|last: &Account| last.id.to_string());
            Ok(AccountPage { users, next })
        })
    }

    fn sessions(&self, user: String) -> Answer<Vec<SessionView>> {
        self.answer(async move |parts| {
            let (user_id, sessions) = parts.auth.kept_sessions(&parts.keeper, &user)?;
            let view = |session: stack_auth::SessionView| SessionView {
                id: session.id.to_string(),
                user_id,
                device: session.device,
                ip: session.ip,
                created_at: session.created_at,
                last_seen_at: session.last_seen_at,
            };
            Ok(sessions.into_iter().map(view).collect())
        })
    }

    fn rooms(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<RoomViewPage> {
        self.answer(async move |parts| {
            parts.auth.check_keeper(&parts.keeper)?;
            let limit = page(limit)?;
            let after = cursor.map(|cursor| cursor.parse()).transpose();
            let after = after.map_err(|_| bad_cursor())?;
            let rooms = parts.store.list_rooms(after, limit).await?;
            let rooms: Vec<_> = rooms.into_iter().map(room).collect();
            let next = rooms.last().filter(|_| rooms.len() == limit);
            let next = next.map(|last: &RoomView| last.id.to_string());
            Ok(RoomViewPage { rooms, next })
        })
    }

    fn promote(&self, username: String) -> Answer<Account> {
        self.answer(async move |parts| {
            parts.keeper.require_operator()?;
            let name = named(&username)?;
            let promoted = parts.auth.promote(&name).await;
            let user = promoted.map_err(|problem| of_user(problem, &name))?;
            let id = format!("id:{}", user.id);
            let found = parts.auth.kept_account(&parts.keeper, &id)?;
            Ok(account(found))
        })
    }

    fn set_disabled(&self, username: String, disabled: bool) -> Answer<()> {
        self.answer(async move |parts| {
            parts.keeper.require_operator()?;
            let name = named(&username)?;
            let done = parts.auth.set_disabled(&name, disabled).await;
            done.map_err(|problem| of_user(problem, &name))
        })
    }

    fn recovery_url(&self, username: String, reset_second_factor: bool) -> Answer<String> {
        self.answer(async move |parts| {
            parts.keeper.require_operator()?;
            let name = named(&username)?;
            let link = parts
                .auth
                .operators_recovery_link(&name, reset_second_factor);
            let link = link.await.map_err(|problem| of_user(problem, &name))?;
            Ok(format!("{}/recover#{}", parts.origins.public(), link.token))
        })
    }

    fn setup_url(&self) -> Answer<String> {
        self.answer(async |parts| {
            parts.keeper.require_operator()?;
            let token = parts.auth.setup_token().await?;
            let token = token.ok_or_else(|| {
                let detail =
                    "the server is set up already; `users promote` makes somebody an administrator";
                Problem::new(ErrorCode::Conflict, detail)
            })?;
            Ok(gateway::setup_url(&parts.origins, &token))
        })
    }

    fn reload(&self) -> Answer<Reloaded> {
        self.answer(async |parts| {
            parts.keeper.require_operator()?;
            Ok(match parts.running()?.reload().await {
                Ok(changes) => Reloaded {
                    changes: changes
                        .into_iter()
                        .map(|change| (change.key, change.applied))
                        .collect(),
                    faults: Vec::new(),
                },
                Err(Faults(faults)) => Reloaded {
                    changes: Vec::new(),
                    faults: faults.iter().map(ToString::to_string).collect(),
                },
            })
        })
    }

    fn audit(&self, query: AuditQuery) -> Answer<AuditPage> {
        self.answer(async move |parts| {
            let before = query.cursor.map(|cursor| cursor.parse()).transpose();
            let actor = query.actor.map(|actor| actor.parse()).transpose();
            let query = stack_auth::AuditQuery {
                before: before.map_err(|_| bad_cursor())?,
                since: query.since,
                actor: actor
                    .map_err(|error| Problem::invalid_field("actor", format!("{error}")))?,
                action: query.action,
                target: None,
                limit: Some(LARGEST_PAGE.into()),
            };
            let (entries, next) = parts.auth.kept_audit(&parts.keeper, query).await?;
            let entries = entries.iter().map(serde_json::to_string);
            Ok(AuditPage {
                entries: entries
                    .collect::<Result<_, _>>()
                    .map_err(Problem::internal)?,
                next: next.map(|next| next.to_string()),
            })
        })
    }

    fn export(&self, rooms: Option<Vec<RoomId>>) -> Answer<Box<dyn Export>> {
        self.answer(async move |parts| {
            let (auth, keeper) = (parts.auth.clone(), parts.keeper.clone());
            let begun = Exporter::begin(auth, keeper, parts.store.clone(), rooms);
            Ok(Box::new(begun.await?) as Box<dyn Export>)
        })
    }

    fn import(&self, options: ImportOptions) -> Answer<Box<dyn Import>> {
        self.answer(async move |parts| {
            let begun = Importer::begin(&parts.keeper, parts.store.clone(), options);
            Ok(Box::new(begun?) as Box<dyn Import>)
        })
    }

    fn erase_messages(&self, user: String, room: Option<RoomId>) -> Answer<Erasure> {
        self.answer(async move |parts| {
            let asked = parts.auth.erase_kept(&parts.keeper, &user, room).await?;
            if parts.app.is_none() {
                // No gateway runs that would carry it out.
                let mut walk = EraseWalk::default();
                while parts.store.erase_step(&mut walk).await? {}
            }
            Ok(erasure(asked))
        })
    }

    fn erasures(&self) -> Answer<Vec<Erasure>> {
        self.answer(async |parts| {
            let erasures = parts.auth.kept_erasures(&parts.keeper)?;
            Ok(erasures.into_iter().map(erasure).collect())
        })
    }

    fn trace(&self, asked: TraceQuery) -> Answer<String> {
        self.answer(async move |parts| {
            parts.auth.check_keeper(&parts.keeper)?;
            let app = parts.running()?;
            let target = message_trace::target(app, &asked)?;
            let found = message_trace::trace(app, &asked).await;
            let outcome = message_trace::outcome(&found);
            let recorded = parts.auth.record_look(&parts.keeper, target, outcome);
            recorded.await?;
            serde_json::to_string(&found?).map_err(Problem::internal)
        })
    }

    fn tail(&self, room: RoomId, start: Start) -> Answer<Tail> {
        self.answer(async move |parts| {
            parts.auth.check_keeper(&parts.keeper)?;
            let app = parts.running()?.clone();
            let id = room.to_string();
            let room = parts.store.room(&room)?;
            let room = room.ok_or_else(|| Problem::not_found("there is no such room"))?;
            let (head, first) = (room.head(), room.first());
            let after = match start {
                Start::Live => head,
                Start::After(after) if after <= head => after,
                Start::After(_) => {
                    let detail = format!("after is beyond the room's last event, {head}");
                    return Err(Problem::invalid_field("after", detail));
                }
            };
            let tailed = AuditAction::RoomTailed;
            parts
                .auth
                .record_keeping(&parts.keeper, tailed, Some(id))
                .await?;
            let feed = Box::new(LogFeed {
                parts,
                app,
                room,
                after,
                over: false,
            });
            Ok(Tail { head, first, feed })
        })
    }
}

impl Parts {
    fn running(&self) -> Result<&AppState, Problem> {
        self.app.as_ref().ok_or_else(|| {
            let detail = "only a running gateway can tell this, and none runs on this folder";
            Problem::new(ErrorCode::Unavailable, detail)
        })
    }
}

/// A room's log, from a cursor on, and what comes to it.
struct LogFeed {
    parts: Arc<Parts>,
    app: AppState,
    room: RoomRef,
    after: Seq,
    over: bool,
}

impl Feed for LogFeed {
    fn next(&mut self) -> BoxFuture<'_, Option<Fed>> {
        Box::pin(async {
            if self.over {
                return None;
            }
            let fed = self.look().await;
            self.over = matches!(fed, None | Some(Fed::Ended { .. }));
            fed
        })
    }
}

impl LogFeed {
    async fn look(&mut self) -> Option<Fed> {
        let mut ticks = interval(TAIL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for look in 0_u32.. {
            tokio::select! {
                biased;
                () = self.app.lifecycle().draining.cancelled() => return None,
                _ = ticks.tick() => {}
            }
            let ended = |reason: &str| {
                let reason = reason.to_owned();
                Some(Fed::Ended { reason })
            };
            // Also with every piece, so that a long log is not read to its end by whoever may not any more.
            if look.is_multiple_of(LOOKS_PER_CHECK)
                && self.parts.auth.check_keeper(&self.parts.keeper).is_err()
            {
                return ended("revoked");
            }
            if self.room.is_deleted() {
                return ended("deleted");
            }
            let first = self.room.first();
            if self.after.next() < first {
                let from = self.after.next();
                self.after = first.prev();
                return Some(Fed::Gap {
                    from,
                    to: self.after,
                    reason: "retention".to_owned(),
                });
            }
            if self.room.head() <= self.after {
                continue;
            }
            let page = self
                .parts
                .store
                .page_after(&self.room, self.after, TAIL_PIECE)
                .await;
            match page {
                Ok(page) if page.frames().is_empty() || page.first() != self.after.next() => {}
                Ok(page) => {
                    self.after = page.last();
                    return Some(Fed::Events(page.frames().clone()));
                }
                Err(error) if error.is_damage() => {
                    tracing::error!(%error, "a room cannot be read: {error}");
                    return ended("unreadable");
                }
                // The file is being opened again: it will be there in a moment.
                Err(error) => tracing::warn!(%error, "a room cannot be read now: {error}"),
            }
        }
        None
    }
}

fn page(limit: Option<u32>) -> Result<usize, Problem> {
    match limit {
        None => Ok(USUAL_PAGE),
        Some(limit @ 1..=LARGEST_PAGE) => Ok(limit as usize),
        Some(_) => {
            let detail = format!("limit is from 1 to {LARGEST_PAGE}");
            Err(Problem::invalid_field("limit", detail))
        }
    }
}

fn bad_cursor() -> Problem {
    Problem::invalid_field("cursor", "this is not the `next` of a page before")
}

fn named(username: &str) -> Result<Username, Problem> {
    let name = username.parse();
    name.map_err(|error| Problem::invalid_field("username", format!("{error}")))
}

fn of_user(problem: Problem, name: &Username) -> Problem {
    match problem.code {
        ErrorCode::NotFound => Problem::not_found(format!("there is no user {name}")),
        _ => problem,
    }
}

/// Makes a copy that a command takes away as soon as it is told of it. One that has ended meanwhile does not, and a plain
/// copy of everything must not stay.
#[expect(
    clippy::disallowed_methods,
    reason = "a shutdown need not wait for it: what it leaves goes at the next start"
)]
async fn copy_to_take(store: Store, path: PathBuf) -> Result<u64, Problem> {
    let (tell, told) = oneshot::channel();
    // Whoever asks may be dropped, and with them all that is not a task of its own.
    tokio::spawn(async move {
        let made = store.snapshot(path.clone()).await;
        drop(store);
        let is_there = made.is_ok();
        let is_heard = tell.send(made).is_ok();
        if is_there {
            if is_heard {
                tokio::time::sleep(TAKEN_WITHIN).await;
            }
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, "a copy of the file that nobody has taken cannot be removed: {error}");
            }
        }
    });
    told.await.map_err(Problem::internal)?.map_err(not_made)
}

fn not_made(error: SnapshotError) -> Problem {
    let detail = error.to_string();
    match error {
        SnapshotError::Exists(_) => Problem::new(ErrorCode::Conflict, detail).with_field("path"),
        SnapshotError::Busy => Problem::new(ErrorCode::Conflict, detail),
        SnapshotError::NoFolder(_) => Problem::invalid_field("path", detail),
        SnapshotError::Write { source, .. } => {
            Problem::invalid_field("path", format!("{detail}: {source}"))
        }
        SnapshotError::Store(error) => error.into(),
    }
}

pub(super) fn account(account: stack_auth::Account) -> Account {
    let user = account.user;
    Account {
        id: user.id,
        username: user.username.to_string(),
        display_name: user.display_name,
        role: match user.role {
            GlobalRole::Admin => "admin".to_owned(),
            GlobalRole::Member => "member".to_owned(),
        },
        created_at: user.created_at,
        disabled: account.disabled,
        bot: account.kind == AccountKind::Bot,
    }
}

fn room(facts: RoomFacts) -> RoomView {
    RoomView {
        id: facts.id,
        title: facts.title,
        settings: facts.settings,
        first: facts.first,
        head: facts.head,
        members: u32::try_from(facts.members).unwrap_or(u32::MAX),
        created_at: facts.created_at,
    }
}

fn erasure(erasure: stack_storage::Erasure) -> Erasure {
    Erasure {
        id: erasure.id,
        user_id: erasure.user,
        room: erasure.room,
        by: erasure.by,
        requested_at: erasure.requested_at,
        finished_at: erasure.finished_at,
        rooms: erasure.rooms,
        events: erasure.events,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stack_proto::JsonCodec;
    use stack_storage::{Location, Store, StoreConfig};
    use stack_types::SystemClock;

    use super::copy_to_take;

    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

    #[tokio::test]
    async fn a_copy_that_nobody_waits_for_any_more_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            location: Location::File(folder.path().join("stack.redb")),
            ..StoreConfig::default()
        };
        let opened = Store::open(config, Arc::new(JsonCodec), Arc::new(SystemClock));
        let (store, handle, _commits) = opened.unwrap();
        let path = folder.path().join(crate::offline::copy_name().unwrap());
        assert!(crate::offline::is_copy(&path));
        let bytes = copy_to_take(store.clone(), path.clone()).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
        std::fs::remove_file(&path).unwrap();

        let asked = copy_to_take(store.clone(), path.clone());
        assert!(futures_util::poll!(Box::pin(asked)).is_pending());
        let gone = async {
            // It is begun, and another waits for its turn until it is done.
            while !path.with_extension("redb.part").exists() && !path.exists() {
                tokio::task::yield_now().await;
            }
            store.copy(|| false).await.unwrap();
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
        handle.shutdown().await;
    }
}
