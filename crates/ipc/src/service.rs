//! What is served, in plain types: the traits that the gateway implements, and what they answer.
//!
//! The server calls them on its own thread, so that nothing here may block. Every refusal is a [`Problem`]; its cause
//! is for the implementation's log and never goes over the socket.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use stack_types::{
    Frames, JsonValue, Presence, Problem, RoomId, RoomRole, RoomSettings, Seq, Timestamp, UserId,
};

/// What a call answers.
pub type Answer<T> = BoxFuture<'static, Result<T, Problem>>;

/// Who stands at the other end of the socket, as the system tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user that its process runs as.
    pub uid: u32,
    /// The group that its process runs as.
    pub gid: u32,
    /// Its process, where the system tells.
    pub pid: Option<i32>,
}

/// What stands at the socket. The server has checked that the peer is the gateway's own user, or root.
pub trait Service: Send + Sync + 'static {
    /// Logs a program in with its token, and notes a failure.
    fn login(&self, token: String, peer: Peer) -> Answer<LoggedIn>;

    /// The interface for whoever runs the gateway.
    ///
    /// # Errors
    /// `forbidden`.
    fn operator(&self, peer: Peer) -> Result<Arc<dyn Admin>, Problem>;

    /// Which gateway this is.
    fn version(&self) -> Version;
}

/// A program that has logged in.
pub struct LoggedIn {
    /// What it may do from here on.
    pub session: Arc<dyn Session>,
    /// The bot that it acts as.
    pub user_id: UserId,
    /// What its token allows, such as `read`.
    pub scopes: Vec<String>,
}

/// Which gateway it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Such as `0.1.0`.
    pub version: String,
    /// The commit that it was built from.
    pub commit: String,
    /// What it speaks, such as `stack.v1.json`.
    pub protocols: Vec<String>,
}

/// A program's session. Dropping it ends its subscriptions and its presence. Once the token is good no more, every call
/// is refused with `unauthenticated`.
///
/// What decides the order of calls is done before a method returns: messages get their numbers in the order in which
/// [`Session::say`] was called, also when the futures are polled in another. A future that is dropped undoes nothing.
pub trait Session: Send + Sync + 'static {
    /// Says something; answered when it is on disk.
    fn say(&self, room: RoomId, say: Say) -> Answer<Place>;

    /// A page of a room's log. Without a limit it is the server's usual.
    fn history(&self, room: RoomId, cursor: Cursor, limit: Option<u32>) -> Answer<Page>;

    /// Every event of a room from the start on, each once, in order. The session is present in the room for as long.
    fn subscribe(&self, room: RoomId, start: Start) -> Answer<Subscribed>;

    /// Who is in a room.
    fn presence(&self, room: RoomId) -> Answer<RoomPresence>;

    /// The rooms that the bot sees.
    fn rooms(&self) -> Answer<Vec<Room>>;

    /// Joins a public room.
    fn join(&self, room: RoomId) -> Answer<RoomRole>;

    /// Leaves a room.
    fn leave(&self, room: RoomId) -> Answer<()>;

    /// Moves the read cursor.
    fn read(&self, room: RoomId, seq: Seq) -> Answer<()>;

    /// Somebody whom the bot may know of.
    fn user(&self, id: UserId) -> Answer<Account>;

    /// The interface for admins, with the scope `admin`.
    ///
    /// # Errors
    /// `forbidden`.
    fn admin(&self) -> Result<Arc<dyn Admin>, Problem>;
}

/// What the operator, or a bot with the scope `admin`, may do. Whether they still may is asked with every call.
pub trait Admin: Send + Sync + 'static {
    /// Writes the whole file, as of now, to a new file, opens that to see that it is sound, and says how long it is.
    fn snapshot(&self, path: PathBuf) -> Answer<u64>;

    /// What the gateway measures.
    fn stats(&self) -> Answer<Vec<Figure>>;

    /// Ends one session of a user, by id or name, or all of them; says how many.
    fn revoke(&self, user: String, session_id: Option<String>) -> Answer<u32>;

    /// Accounts, in the order of their ids. Without a limit it is the server's usual.
    fn users(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<AccountPage>;

    /// The sessions of a user, by id or name.
    fn sessions(&self, user: String) -> Answer<Vec<SessionView>>;

    /// Every room, in the order of their ids. Without a limit it is the server's usual.
    fn rooms(&self, cursor: Option<String>, limit: Option<u32>) -> Answer<RoomViewPage>;

    /// Makes somebody an administrator.
    fn promote(&self, username: String) -> Answer<Account>;

    /// Keeps somebody out and ends their sessions, or lets them in again.
    fn set_disabled(&self, username: String, disabled: bool) -> Answer<()>;

    /// A link with which somebody sets a new password.
    fn recovery_url(&self, username: String, reset_second_factor: bool) -> Answer<String>;

    /// Where the first administrator is made.
    fn setup_url(&self) -> Answer<String>;

    /// Reads the configuration again.
    fn reload(&self) -> Answer<Reloaded>;

    /// The audit log, newest first.
    fn audit(&self, query: AuditQuery) -> Answer<AuditPage>;

    /// Has everything erased that somebody has said, in one room or in all; it is noted when this answers.
    fn erase_messages(&self, user: String, room: Option<RoomId>) -> Answer<Erasure>;

    /// Erasures that are under way and those that were done of late, the newest first.
    fn erasures(&self) -> Answer<Vec<Erasure>>;

    /// Where an event is, as a JSON object. The audit log has it.
    fn trace(&self, asked: TraceQuery) -> Answer<String>;

    /// Every event of a room, whoever is in it. The audit log has it.
    fn tail(&self, room: RoomId, start: Start) -> Answer<Tail>;

    /// Rooms as the lines of docs/EXPORT.md, whoever is in them; `None`: all of them. The audit log has each.
    fn export(&self, rooms: Option<Vec<RoomId>>) -> Answer<Box<dyn Export>>;

    /// Takes rooms in, from such lines.
    fn import(&self, options: ImportOptions) -> Answer<Box<dyn Import>>;
}

/// Rooms on their way out.
pub trait Export: Send + 'static {
    /// The next lines. Not cancel safe: what is dropped is missing, and the export with it.
    fn next(&mut self) -> BoxFuture<'_, Result<Exported, Problem>>;
}

/// Some lines of an export.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Whole lines; none are left when it is empty.
    pub lines: Vec<u8>,
    /// Events that have been given with these.
    pub done: u64,
    /// Events of all its rooms, about.
    pub total: u64,
}

/// Rooms on their way in. Dropped before it is finished, nothing has come in. Not cancel safe: an import whose call was
/// dropped is over.
pub trait Import: Send + 'static {
    /// Takes the next lines, whole ones. A refusal says which line is at fault, and ends the import.
    fn lines(&mut self, lines: Vec<u8>) -> BoxFuture<'_, Result<(), Problem>>;

    /// There are no more lines: the rooms come in, all of them, or it is refused and none does.
    fn finish(&mut self) -> BoxFuture<'_, Result<ImportReport, Problem>>;
}

/// How rooms are taken in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportOptions {
    /// The id of the only room.
    pub as_id: Option<String>,
    /// Rooms whose ids are taken get others.
    pub new_ids: bool,
    /// The username of somebody who will own every room.
    pub owner: Option<String>,
    /// Members who have accounts here keep their roles.
    pub with_roles: bool,
    /// An account of the same name is the same person's.
    pub match_names: bool,
}

/// What has come in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// The rooms.
    pub rooms: Vec<ImportedRoom>,
    /// Their events.
    pub events: u64,
    /// Users of the lines who have accounts here.
    pub matched: u32,
    /// Users of the lines for whom placeholders were made.
    pub placeholders: u32,
}

/// A room that has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedRoom {
    /// Its id in the lines.
    pub from: String,
    /// Its id here.
    pub id: RoomId,
    /// Its events.
    pub events: u64,
    /// Whether somebody who can sign in owns it.
    pub has_owner: bool,
}

/// What came of reading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that say something else than what was in force, and whether that is in force now.
    pub changes: Vec<(String, bool)>,
    /// What is wrong with it; then nothing has changed.
    pub faults: Vec<String>,
}

/// The events of a subscription, asked for as fast as they are taken. Dropping it ends the subscription.
pub trait Feed: Send + 'static {
    /// What comes next; `None` when the gateway goes down, or after an end. What has come is put into as few items as
    /// can be. Not cancel safe.
    fn next(&mut self) -> BoxFuture<'_, Option<Fed>>;
}

/// A piece of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fed {
    /// Events that follow each other, as the protocol's JSON frames.
    Events(Frames),
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
        /// Why, such as `removed` or `revoked`.
        reason: String,
    },
}

/// What is said in a room.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// A message.
    Message(NewMessage),
    /// One's own message gets a new text.
    Edit {
        /// The message.
        seq: Seq,
        /// Its new text.
        body: String,
    },
    /// A message is taken back.
    Redact {
        /// The message.
        seq: Seq,
        /// Why.
        reason: Option<String>,
    },
    /// A message gets a reaction, or loses it.
    React {
        /// The message.
        seq: Seq,
        /// With what.
        emoji: String,
        /// Whether the reaction is taken back.
        remove: bool,
    },
}

/// A message on its way in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewMessage {
    /// The text.
    pub body: String,
    /// Anything to send along.
    pub data: Option<JsonValue>,
    /// Repeated with the same key, the message is sent once.
    pub key: Option<String>,
    /// The message that this one answers.
    pub reply_to: Option<Seq>,
}

/// Where something stands that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The room.
    pub room: RoomId,
    /// The event's number.
    pub seq: Seq,
    /// The event's time.
    pub ts: Timestamp,
}

/// Which page. Cursors are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cursor {
    /// The newest page.
    #[default]
    Newest,
    /// Behind this one.
    After(Seq),
    /// In front of this one.
    Before(Seq),
    /// Later than this.
    AfterTs(Timestamp),
}

/// A page of a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The events, oldest first, as the protocol's JSON frames.
    pub events: Frames,
    /// The room's last event.
    pub head: Seq,
    /// The first event that is there for the caller.
    pub first: Seq,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next event.
    #[default]
    Live,
    /// Behind this one; zero is the beginning.
    After(Seq),
}

/// A subscription that begins.
pub struct Subscribed {
    /// The room's last event.
    pub head: Seq,
    /// The first event that is there for the caller.
    pub first: Seq,
    /// The caller's role.
    pub role: RoomRole,
    /// How far the caller has read.
    pub read_seq: Seq,
    /// Its events.
    pub feed: Box<dyn Feed>,
}

/// A room as the caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// The caller's role; `None` for a non-member.
    pub role: Option<RoomRole>,
    /// The first event that is there for the caller.
    pub first: Seq,
    /// The last event.
    pub head: Seq,
    /// How far the caller has read.
    pub read_seq: Seq,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Who is in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomPresence {
    /// The users; none when there are too many to tell.
    pub users: Vec<Presence>,
    /// How many they are.
    pub count: u64,
    /// Grows by one with every change.
    pub version: u64,
}

/// Something that is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Such as `bytes` or `s`; `None` for a count.
    pub unit: Option<String>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub username: String,
    /// What people see.
    pub display_name: String,
    /// `admin` or `member`.
    pub role: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether it is kept out.
    pub disabled: bool,
    /// Whether it is a program's.
    pub bot: bool,
}

/// Some accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// In the order of their ids.
    pub users: Vec<Account>,
    /// The cursor of the page behind; `None` on the last.
    pub next: Option<String>,
}

/// A session of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub user_id: UserId,
    /// What it was begun on.
    pub device: String,
    /// Where from.
    pub ip: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was last used.
    pub last_seen_at: Timestamp,
}

/// A room as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomView {
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// The first event that is still there.
    pub first: Seq,
    /// The last event.
    pub head: Seq,
    /// How many are in it.
    pub members: u32,
    /// When it was made.
    pub created_at: Timestamp,
}

/// Some rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomViewPage {
    /// In the order of their ids.
    pub rooms: Vec<RoomView>,
    /// The cursor of the page behind; `None` on the last.
    pub next: Option<String>,
}

/// Which entries of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditQuery {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Of this user's doing, by id.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// The `next` of the page before.
    pub cursor: Option<String>,
}

/// Some of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPage {
    /// Newest first, each a JSON object.
    pub entries: Vec<String>,
    /// The cursor of the page behind; `None` on the last.
    pub next: Option<String>,
}

/// An erasure, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its number.
    pub id: u64,
    /// Whose messages.
    pub user_id: UserId,
    /// In this room only.
    pub room: Option<RoomId>,
    /// Who asked for it; `None` for the operator.
    pub by: Option<UserId>,
    /// When that was.
    pub requested_at: Timestamp,
    /// When it was done.
    pub finished_at: Option<Timestamp>,
    /// Rooms in which something was erased so far.
    pub rooms: u64,
    /// Events that were changed so far.
    pub events: u64,
}

/// Which event to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceQuery {
    /// Its room.
    pub room: RoomId,
    /// Its number.
    pub seq: Seq,
    /// What became of it for this user alone, by id or name.
    pub user: Option<String>,
}

/// A look at a room that begins.
pub struct Tail {
    /// The room's last event.
    pub head: Seq,
    /// The first event that is still there.
    pub first: Seq,
    /// Its events.
    pub feed: Box<dyn Feed>,
}
