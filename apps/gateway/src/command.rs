//! The commands that look after accounts, sessions, rooms and the file: over the socket of the gateway that runs on the
//! data folder, or on the file when none does. Tables are for people, JSON lines for programs; what others have written
//! reaches a terminal in neither as it is.

mod backups;
mod erase;
mod exchange;
mod progress;
mod reach;
mod ready;
mod slack;
mod table;
mod tail;
mod text;
mod trace;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use stack_ipc::ClientError;
use stack_ipc::service::{
    Account, Admin, AuditQuery, Figure, Reloaded, RoomView, SessionView, TraceQuery,
};
use stack_types::{Problem, RoomId, Seq, Timestamp};

use crate::backup::BackupError;
use crate::cli::{
    AuditCommand, Command, ExportCommand, ImportCommand, RoomsCommand, SessionsCommand,
    UsersCommand,
};
use crate::config::Config;
use crate::offline::{self, OfflineError};
use crate::signals::Signals;
use reach::{reach, reach_gateway};
use table::{Table, left, right};

pub use backups::BackupTask;
pub use slack::SlackError;
pub use text::shown;
pub(crate) use text::{date, days_until};

/// How often `tail` looks whether anybody reads it.
#[cfg(unix)]
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_millis(500);

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// No gateway answers at the socket, and only one could do it.
    #[error("no gateway can be reached at {path}: {away}")]
    Away {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        away: String,
    },
    /// A gateway has the file, and does not answer at the socket.
    #[error(
        "a gateway is running on {folder}, but it cannot be reached at {path} ({away}); name its socket with --ipc-path, or stop it first"
    )]
    NoSocket {
        /// The data folder.
        folder: String,
        /// The socket.
        path: PathBuf,
        /// What the system says.
        away: String,
    },
    /// The gateway has made a copy, and it is not here.
    #[error(
        "the gateway has made {}, and has other folders than this command, such as a /tmp of its own; name one that both see, or take the copy from `snapshot -`",
        .0.display()
    )]
    Elsewhere(PathBuf),
    /// The file cannot be used.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// The gateway refused it, or went away.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Problem),
    /// The room cannot be followed any more.
    #[error("the room has ended here: {0}")]
    Ended(String),
    /// That is no room.
    #[error(transparent)]
    Room(#[from] stack_types::InvalidName),
    /// A backup cannot be made, read or restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What was to be done to a file cannot be.
    #[error("{what}")]
    File {
        /// What it was.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A line of an export is too long.
    #[error("line {line} is longer than a line of an export can be; nothing has come in")]
    LongLine {
        /// Which.
        line: u64,
    },
    /// An import was refused.
    #[error("{0}; nothing has come in")]
    NotImported(Problem),
    /// A Slack export cannot be read.
    #[error("{0}; nothing has come in")]
    Slack(#[from] SlackError),
    /// What was made of a Slack export was refused.
    #[error("what was made of {at} was refused, and nothing has come in")]
    Converted {
        /// A file of the export, or a channel.
        at: String,
        /// Why.
        #[source]
        problem: Problem,
    },
    /// A path makes no sense, or there is no output.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The configuration that the gateway has read again is no good. What is wrong with it was told.
    #[error("the configuration has faults ({0}), the gateway goes on as it was")]
    Faulty(usize),
    /// The gateway is not ready for work.
    #[error("the gateway is not ready: {0}")]
    Unready(String),
    /// The gateway's answer has no JSON.
    #[error("an answer cannot be written as JSON")]
    Json(#[from] serde_json::Error),
}

impl CommandError {
    /// Whether nobody takes the output any more, which is no fault: they have seen enough.
    #[must_use]
    pub fn is_closed_output(&self) -> bool {
        let Self::Output(error) = self else {
            return false;
        };
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// What to do.
#[derive(Debug)]
pub enum Task {
    /// Accounts.
    Users(UsersCommand),
    /// Sessions.
    Sessions(SessionsCommand),
    /// Rooms.
    Rooms(RoomsCommand),
    /// What is measured.
    Stats,
    /// A room as it goes on.
    Tail {
        /// Which.
        room: String,
        /// Behind this event.
        after: Option<u64>,
    },
    /// Where a message is.
    Trace {
        /// Its room.
        room: String,
        /// Its number.
        seq: u64,
        /// For whom alone.
        user: Option<String>,
    },
    /// A copy of the file.
    Snapshot {
        /// Where to.
        file: PathBuf,
    },
    /// A copy that travels, or backups.
    Backups(BackupTask),
    /// Rooms out, as JSON lines.
    Export(ExportCommand),
    /// Rooms in.
    Import(ImportCommand),
    /// The audit log.
    Audit(AuditCommand),
    /// The link of the first run.
    SetupUrl,
    /// The configuration, read again.
    Reload,
    /// Whether the gateway is ready.
    Ready,
}

impl Task {
    /// What a command asks for; `None` for those that look after nothing.
    #[must_use]
    pub fn of(command: Command) -> Option<Self> {
        match command {
            Command::Users(command) => Some(Self::Users(command)),
            Command::Sessions(command) => Some(Self::Sessions(command)),
            Command::Rooms(command) => Some(Self::Rooms(command)),
            Command::Stats => Some(Self::Stats),
            Command::Tail { room, after } => Some(Self::Tail { room, after }),
            Command::Snapshot { file, recipients } => Some(Self::snapshot(file, recipients)),
            Command::Backup(command) => Some(Self::Backups(command.into())),
            Command::Verify { backup, identity } => {
                Some(Self::Backups(BackupTask::Verify { backup, identity }))
            }
            Command::Restore(command) => Some(Self::Backups(BackupTask::Restore(command))),
            Command::Compact => Some(Self::Backups(BackupTask::Compact)),
            Command::Export(command) => Some(Self::Export(command)),
            Command::Import(command) => Some(Self::Import(command)),
            Command::Trace { room, seq, user } => Some(Self::Trace { room, seq, user }),
            Command::Audit(command) => Some(Self::Audit(command)),
            Command::SetupUrl => Some(Self::SetupUrl),
            Command::Reload => Some(Self::Reload),
            Command::Ready => Some(Self::Ready),
            Command::Serve | Command::Edge { .. } | Command::Config(_) | Command::Keys(_) => None,
            Command::Completions { .. } | Command::Man => None,
            #[cfg(feature = "with-zmq")]
            Command::BusKeys { .. } => None,
        }
    }
}

/// How to do it.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// One JSON object a line, and no table.
    pub as_json: bool,
    /// The socket was named: the gateway behind it is meant, and no file.
    pub only_gateway: bool,
}

/// Does it, and writes what came of it.
///
/// # Errors
/// See [`CommandError`].
pub async fn run(
    config: &Config,
    task: Task,
    manner: Manner,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let mut told = Told {
        as_json: manner.as_json,
        out,
    };
    match task {
        Task::SetupUrl => {
            let url = match reach_gateway(&config.socket_path()).await {
                Ok(gateway) => gateway.setup_url().await?,
                // The token has a file of its own, beside that of a gateway without a socket too.
                Err(CommandError::Away { .. }) if !manner.only_gateway => {
                    offline::setup_url(config).await?
                }
                Err(error) => return Err(error),
            };
            told.line(&url, &json!({ "url": url }))?;
        }
        Task::Backups(task) => {
            backups::run(config, task, manner.only_gateway, &mut told).await?;
        }
        Task::Ready => {
            ready::ask(config).await?;
            told.line("the gateway is ready", &json!({ "ready": true }))?;
        }
        Task::Stats => {
            let figures = reach_gateway(&config.socket_path()).await?.stats().await?;
            told.stats(&figures)?;
        }
        Task::Reload => {
            let reloaded = reach_gateway(&config.socket_path()).await?.reload().await?;
            told.reloaded(&reloaded)?;
            if !reloaded.faults.is_empty() {
                return Err(CommandError::Faulty(reloaded.faults.len()));
            }
        }
        Task::Tail { room, after } => {
            let room: RoomId = room.parse()?;
            follow(&config.socket_path(), &room, after, &mut told).await?;
        }
        Task::Trace { room, seq, user } => {
            let (room, seq) = (room.parse()?, Seq(seq));
            let gateway = reach_gateway(&config.socket_path()).await?;
            let found = gateway.trace(TraceQuery { room, seq, user }).await?;
            told.trace(&found)?;
        }
        task => {
            let reached = reach(config, manner.only_gateway).await?;
            let done = carry_out(&*reached.admin, task, &mut told).await;
            reached.close().await;
            done?;
        }
    }
    Ok(told.out.flush()?)
}

async fn carry_out<W: Write>(
    admin: &dyn Admin,
    task: Task,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    match task {
        Task::Users(command) => users(admin, command, told).await,
        Task::Sessions(SessionsCommand::List { user }) => {
            Ok(told.sessions(&admin.sessions(user).await?)?)
        }
        Task::Sessions(SessionsCommand::Revoke { user, session }) => {
            let ended = admin.revoke(user, session).await?;
            let text = match ended {
                1 => "one session was ended".to_owned(),
                ended => format!("{ended} sessions were ended"),
            };
            told.line(&text, &json!({ "ended": ended }))
        }
        Task::Rooms(RoomsCommand::List) => rooms(admin, told).await,
        Task::Snapshot { file } => {
            // The gateway has another folder to start from.
            let file = std::path::absolute(file)?;
            let Some(path) = file.to_str() else {
                let error = "a path that is no UTF-8 cannot be told to the gateway";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, error).into());
            };
            let bytes = admin.snapshot(file.clone()).await?;
            if !file.exists() {
                return Err(CommandError::Elsewhere(file));
            }
            let text = format!("{path} has {bytes} bytes");
            told.line(&text, &json!({ "path": path, "bytes": bytes }))
        }
        Task::Export(command) => exchange::export(admin, command, told).await,
        Task::Import(command) => exchange::import(admin, command, told).await,
        Task::Audit(command) => audit(admin, command, told).await,
        // They need no file; `run` has done them.
        Task::Stats
        | Task::Tail { .. }
        | Task::SetupUrl
        | Task::Backups(_)
        | Task::Trace { .. }
        | Task::Reload
        | Task::Ready => Ok(()),
    }
}

async fn follow<W: Write>(
    path: &Path,
    room: &RoomId,
    after: Option<u64>,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        biased;
        _ = signals.next() => Ok(()),
        () = nobody_reads() => Ok(()),
        followed = tail::follow(path, room, after, told.as_json, told.out) => followed,
    }
}

/// Waits until nobody reads standard output any more. In a room where nothing is said, no write would find that out.
#[cfg(unix)]
async fn nobody_reads() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        let stdout = io::stdout();
        let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
        let looked = poll(&mut fds, Some(&Timespec::default()));
        let over = PollFlags::ERR | PollFlags::HUP;
        if looked.is_ok() && fds[0].revents().intersects(over) {
            return;
        }
    }
}

/// Elsewhere the next write finds it out.
#[cfg(not(unix))]
async fn nobody_reads() {
    std::future::pending().await
}

async fn users<W: Write>(
    admin: &dyn Admin,
    command: UsersCommand,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    match command {
        UsersCommand::List => {
            let mut table = Table::new([
                left("ID"),
                left("USERNAME"),
                left("ROLE"),
                left("STATE"),
                left("MADE"),
                left("NAME"),
            ]);
            let mut cursor = None;
            loop {
                let page = admin.users(cursor, None).await?;
                told.page(&mut table, &page.users, user_row, user_json)?;
                cursor = page.next;
                if cursor.is_none() {
                    return Ok(());
                }
            }
        }
        UsersCommand::Promote { name } => {
            let user = admin.promote(name).await?;
            let text = format!("{} is an administrator now", user.username);
            told.line(&text, &user_json(&user))
        }
        UsersCommand::Recover {
            name,
            reset_second_factor,
        } => {
            let url = admin.recovery_url(name, reset_second_factor).await?;
            told.line(&url, &json!({ "url": url }))
        }
        UsersCommand::Disable { name } => {
            admin.set_disabled(name.clone(), true).await?;
            let json = json!({ "username": name, "disabled": true });
            told.line(&format!("{name} is disabled now"), &json)
        }
        UsersCommand::Enable { name } => {
            admin.set_disabled(name.clone(), false).await?;
            let json = json!({ "username": name, "disabled": false });
            told.line(&format!("{name} is enabled now"), &json)
        }
        UsersCommand::Erase { user, room } => {
            let room = room.map(|room| room.parse()).transpose()?;
            erase::erase(admin, &user, room, told).await
        }
    }
}

async fn rooms<W: Write>(admin: &dyn Admin, told: &mut Told<'_, W>) -> Result<(), CommandError> {
    let mut table = Table::new([
        left("ROOM"),
        right("MEMBERS"),
        right("EVENTS"),
        right("LAST"),
        left("ACCESS"),
        left("MADE"),
        left("TITLE"),
    ]);
    let mut cursor = None;
    loop {
        let page = admin.rooms(cursor, None).await?;
        told.page(&mut table, &page.rooms, room_row, room_json)?;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

async fn audit<W: Write>(
    admin: &dyn Admin,
    asked: AuditCommand,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let mut table = Table::new([
        left("TIME"),
        left("ACTION"),
        left("OUTCOME"),
        left("BY"),
        left("FROM"),
        left("TARGET"),
    ]);
    let mut query = AuditQuery {
        since: asked.since.map(Timestamp),
        actor: asked.actor,
        action: asked.action,
        cursor: None,
    };
    loop {
        let page = admin.audit(query.clone()).await?;
        if told.as_json {
            for entry in &page.entries {
                told.out.write_all(text::tame_json(entry).as_bytes())?;
            }
        } else if !page.entries.is_empty() || page.next.is_none() {
            // A page of a search may have found nothing, and the next something.
            let entries = page.entries.iter().map(|entry| serde_json::from_str(entry));
            let entries: Vec<Value> = entries.collect::<Result<_, _>>()?;
            table.write(told.out, entries.iter().map(audit_row))?;
        }
        query.cursor = page.next;
        if query.cursor.is_none() {
            return Ok(());
        }
    }
}

/// Where what came of a command is told.
struct Told<'a, W> {
    as_json: bool,
    out: &'a mut W,
}

impl<W: Write> Told<'_, W> {
    fn json(&mut self, value: &impl Serialize) -> Result<(), CommandError> {
        Ok(self.out.write_all(text::json(value)?.as_bytes())?)
    }

    fn line(&mut self, text: &str, value: &Value) -> Result<(), CommandError> {
        if self.as_json {
            return self.json(value);
        }
        Ok(writeln!(self.out, "{}", shown(text))?)
    }

    /// [`Told::line`], of several lines.
    fn lines(&mut self, text: &str, value: &Value) -> Result<(), CommandError> {
        if self.as_json {
            return self.json(value);
        }
        text.lines().try_for_each(|line| self.line(line, value))
    }

    fn page<T, const N: usize>(
        &mut self,
        table: &mut Table<N>,
        entries: &[T],
        row: impl Fn(&T) -> [String; N],
        json: impl Fn(&T) -> Value,
    ) -> Result<(), CommandError> {
        if self.as_json {
            return entries.iter().try_for_each(|entry| self.json(&json(entry)));
        }
        Ok(table.write(self.out, entries.iter().map(row))?)
    }

    fn sessions(&mut self, sessions: &[SessionView]) -> Result<(), CommandError> {
        let mut table = Table::new([
            left("ID"),
            left("SIGNED IN"),
            left("LAST SEEN"),
            left("FROM"),
            left("DEVICE"),
        ]);
        self.page(&mut table, sessions, session_row, session_json)
    }

    fn reloaded(&mut self, reloaded: &Reloaded) -> Result<(), CommandError> {
        for fault in &reloaded.faults {
            self.line(fault, &json!({ "fault": fault }))?;
        }
        for (key, applied) in &reloaded.changes {
            let text = match applied {
                true => format!("{key} is in force"),
                false => format!("{key} needs a restart"),
            };
            self.line(&text, &json!({ "key": key, "applied": applied }))?;
        }
        let is_unchanged = reloaded.changes.is_empty() && reloaded.faults.is_empty();
        if is_unchanged && !self.as_json {
            writeln!(self.out, "nothing has changed")?;
        }
        Ok(())
    }

    fn trace(&mut self, found: &str) -> Result<(), CommandError> {
        if self.as_json {
            return Ok(self.out.write_all(text::tame_json(found).as_bytes())?);
        }
        let found: Value = serde_json::from_str(found)?;
        Ok(trace::write(&found, self.out)?)
    }

    fn stats(&mut self, figures: &[Figure]) -> Result<(), CommandError> {
        let mut table = Table::new([left("FIGURE"), right("VALUE")]);
        self.page(&mut table, figures, figure_row, figure_json)
    }
}

fn user_row(user: &Account) -> [String; 6] {
    [
        user.id.to_string(),
        user.username.clone(),
        if user.bot {
            "bot".to_owned()
        } else {
            user.role.clone()
        },
        if user.disabled { "disabled" } else { "active" }.to_owned(),
        text::utc(user.created_at),
        user.display_name.clone(),
    ]
}

fn user_json(user: &Account) -> Value {
    json!({
        "id": user.id,
        "username": user.username,
        "display_name": user.display_name,
        "role": user.role,
        "created_at": user.created_at,
        "disabled": user.disabled,
        "bot": user.bot,
    })
}

fn room_row(room: &RoomView) -> [String; 7] {
    [
        room.id.to_string(),
        room.members.to_string(),
        (room.head.0 + 1).saturating_sub(room.first.0).to_string(),
        room.head.to_string(),
        if room.settings.public {
            "public"
        } else {
            "private"
        }
        .to_owned(),
        text::utc(room.created_at),
        room.title.clone(),
    ]
}

fn room_json(room: &RoomView) -> Value {
    json!({
        "id": room.id,
        "title": room.title,
        "settings": room.settings,
        "first": room.first,
        "head": room.head,
        "members": room.members,
        "created_at": room.created_at,
    })
}

fn session_row(session: &SessionView) -> [String; 5] {
    [
        session.id.clone(),
        text::utc(session.created_at),
        text::utc(session.last_seen_at),
        session.ip.clone(),
        session.device.clone(),
    ]
}

fn session_json(session: &SessionView) -> Value {
    json!({
        "id": session.id,
        "user_id": session.user_id,
        "device": session.device,
        "ip": session.ip,
        "created_at": session.created_at,
        "last_seen_at": session.last_seen_at,
    })
}

fn figure_row(figure: &Figure) -> [String; 2] {
    let amount = text::amount(figure.value, figure.unit.as_deref());
    [figure.name.clone(), amount]
}

fn figure_json(figure: &Figure) -> Value {
    /// Up to here every whole number has a floating-point number of its own.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    let value = figure.value;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole and in range"
    )]
    let value = match value.fract() == 0.0 && (0.0..=WHOLE).contains(&value) {
        true => Value::from(value as u64),
        false => Value::from(value),
    };
    json!({ "name": figure.name, "value": value, "unit": figure.unit })
}

fn audit_row(entry: &Value) -> [String; 6] {
    let field = |name: &str| entry[name].as_str().unwrap_or_default();
    let or_none = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
    // The operator has no account and comes from nowhere; somebody unknown comes from an address.
    let by = match (field("actor"), field("ip")) {
        ("", "") => "operator",
        (actor, _) => actor,
    };
    [
        text::utc(Timestamp(entry["at"].as_u64().unwrap_or_default())),
        field("action").to_owned(),
        field("outcome").to_owned(),
        or_none(by),
        or_none(field("ip")),
        or_none(field("target")),
    ]
}

#[cfg(test)]
mod tests;
