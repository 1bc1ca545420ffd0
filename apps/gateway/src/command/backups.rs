//! Copies that travel, backups, and what is done to files that no gateway has open.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use age::x25519::Recipient;
use serde_json::{Value, json};
use stack_storage::{Checked, CheckedRoom, OpenError, Revived, place, sync_folder};
use stack_types::{Clock as _, SystemClock};
use tokio_util::sync::CancellationToken;

use super::progress::Progress;
use super::table::{Table, left, right};
use super::{CommandError, Task, Told, reach, text};
use crate::backup::{
    BackupError, Bucket, Identities, Name, OnBytes, Parcel, Place, Plain, Recipients, Source,
    begin, blocking, look_over, remove_old, ship, write_new,
};
use crate::cli::{BackupCommand, RestoreCommand};
use crate::config::Config;
use crate::gateway::DATABASE_FILE;
use crate::offline::OfflineError;

/// The file without which second factors cannot be asked for.
const KEY_FILE: &str = "auth.key";

/// What to do.
#[derive(Debug)]
pub enum BackupTask {
    /// A copy to somewhere else than a file of the gateway's, or enciphered.
    Copy {
        /// Where to.
        to: PathBuf,
        /// For whom.
        recipients: Vec<Recipient>,
    },
    /// A backup now.
    Now,
    /// What is there.
    List,
    /// A look at a backup.
    Verify {
        /// Which.
        backup: String,
        /// What opens it.
        identity: Option<PathBuf>,
    },
    /// A file from a backup.
    Restore(RestoreCommand),
    /// A smaller file.
    Compact,
}

impl From<BackupCommand> for BackupTask {
    fn from(command: BackupCommand) -> Self {
        match command {
            BackupCommand::Now => Self::Now,
            BackupCommand::List => Self::List,
        }
    }
}

impl Task {
    /// A plain copy is a file that the gateway itself writes; all others go through here.
    pub(super) fn snapshot(file: PathBuf, recipients: Vec<Recipient>) -> Self {
        let is_plain = recipients.is_empty() && matches!(target(&file), Target::File);
        match is_plain {
            true => Self::Snapshot { file },
            false => Self::Backups(BackupTask::Copy {
                to: file,
                recipients,
            }),
        }
    }
}

/// Where a copy goes.
enum Target {
    Stdout,
    File,
    Object {
        bucket: String,
        prefix: String,
        name: String,
    },
}

fn target(path: &Path) -> Target {
    match Source::of(&path.to_string_lossy()) {
        Source::Stdin => Target::Stdout,
        Source::File(_) => Target::File,
        Source::Object {
            bucket,
            prefix,
            name,
        } => Target::Object {
            bucket,
            prefix,
            name,
        },
    }
}

/// Does it.
pub(super) async fn run<W: Write>(
    config: &Config,
    task: BackupTask,
    only_gateway: bool,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    match task {
        BackupTask::Copy { to, recipients } => {
            copy(config, &to, &recipients, only_gateway, told).await
        }
        BackupTask::Now => now(config, only_gateway, told).await,
        BackupTask::List => list(config, told).await,
        BackupTask::Verify { backup, identity } => {
            verify(config, &backup, identity.as_deref(), told).await
        }
        BackupTask::Restore(command) => restore(config, command, told).await,
        BackupTask::Compact => compact(config, told).await,
    }
}

/// A copy of the file as of now, in one without a name. The gateway, if one runs, makes it in the data folder, where there
/// is room for it if anywhere: whoever takes it slowly holds up nobody.
async fn copied(config: &Config, only_gateway: bool) -> Result<File, CommandError> {
    let _progress = Progress::waiting("copying the file");
    let reached = reach::reach(config, only_gateway).await?;
    let path = std::path::absolute(&config.data_dir)?.join(crate::offline::copy_name()?);
    let made = reached.admin.snapshot(path.clone()).await;
    reached.close().await;
    made?;
    let copy = File::open(&path);
    fs::remove_file(&path)?;
    Ok(copy?)
}

/// Counts into a bar.
fn counting(what: &'static str) -> impl FnOnce(Option<u64>) -> OnBytes {
    move |all| {
        let progress = Progress::bytes(what, all);
        Box::new(move |bytes| progress.more(bytes))
    }
}

async fn copy<W: Write>(
    config: &Config,
    to: &Path,
    recipients: &[Recipient],
    only_gateway: bool,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let target = target(to);
    // What cannot be is told before anything is done, and on record.
    let bucket = match &target {
        Target::Stdout if io::stdout().is_terminal() => {
            let reason = "standard output is a terminal; send it into a file or a program";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason).into());
        }
        Target::File if to.symlink_metadata().is_ok() => {
            return Err(BackupError::Exists(to.display().to_string()).into());
        }
        Target::Object {
            bucket,
            prefix,
            name,
        } => {
            let bucket = Bucket::open(bucket, prefix, &config.backup)?;
            if bucket.has(name).await? {
                return Err(BackupError::Exists(to.display().to_string()).into());
            }
            Some(bucket)
        }
        _ => None,
    };
    // Where backups are enciphered, nothing leaves for a bucket plain: its server may be reached in the clear.
    let recipients = match target {
        Target::Object { .. } if recipients.is_empty() => &config.backup.recipients,
        _ => recipients,
    };
    let recipients = Recipients::new(recipients);
    let sealed = recipients.seal_it();
    let file = copied(config, only_gateway).await?;
    let bytes = file.metadata()?.len();
    let parcel = Parcel {
        copy: file,
        recipients,
        on_bytes: counting("writing")(Some(bytes)),
        stopping: CancellationToken::new(),
    };
    let bytes = match (target, bucket) {
        (Target::Object { name, .. }, Some(bucket)) => bucket.put(&name, parcel).await?,
        (Target::File, _) => {
            let to = to.to_owned();
            blocking(move || write_new(&to, |out| parcel.write(out))).await?
        }
        // Nothing else may stand in it.
        _ => {
            let written = parcel.write(told.out).and_then(|()| told.out.flush());
            // That nobody takes the end of it is no end to be content with, as it is with a table.
            return written.map_err(|error| failed("the copy was not taken whole", error));
        }
    };
    let path = to.to_string_lossy();
    let mut text = format!("{path} has {bytes} bytes");
    if sealed {
        text.push_str(", enciphered");
    }
    let json = json!({ "path": path, "bytes": bytes, "enciphered": sealed });
    told.line(&text, &json)
}

/// Where backups go.
fn configured(config: &Config) -> Result<Place, CommandError> {
    let Some(to) = &config.backup.to else {
        let reason = "backup.to says where backups go, and is not set";
        return Err(BackupError::Settings(reason).into());
    };
    Ok(Place::of(to, &config.backup)?)
}

async fn now<W: Write>(
    config: &Config,
    only_gateway: bool,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let place = configured(config)?;
    // A place that cannot be used is told before the file is copied.
    place.names().await?;
    let recipients = Recipients::new(&config.backup.recipients);
    let name = Name {
        at: SystemClock.now(),
        sealed: recipients.seal_it(),
    };
    let file = copied(config, only_gateway).await?;
    let on_bytes = counting("writing")(Some(file.metadata()?.len()));
    let never = CancellationToken::new();
    let bytes = ship(file, &place, name, &recipients, &never, on_bytes).await?;
    remove_old(&place, name, config.backup.keep).await?;
    let name = name.to_string();
    let text = format!("{name} has {bytes} bytes");
    told.line(&text, &json!({ "name": name, "bytes": bytes }))
}

async fn list<W: Write>(config: &Config, told: &mut Told<'_, W>) -> Result<(), CommandError> {
    let names = configured(config)?.names().await?;
    let mut table = Table::new([left("NAME"), left("MADE"), right("SIZE")]);
    let row = |(name, bytes): &(Name, u64)| {
        #[expect(clippy::cast_precision_loss, reason = "it is shown in MiB")]
        let size = text::amount(*bytes as f64, Some("bytes"));
        [name.to_string(), text::utc(name.at), size]
    };
    let json = |(name, bytes): &(Name, u64)| json!({ "name": name.to_string(), "made_at": name.at, "bytes": bytes });
    told.page(&mut table, &names, row, json)
}

fn identities(path: Option<&Path>) -> Result<Identities, CommandError> {
    Ok(match path {
        Some(path) => Identities::of_file(path)?,
        None => Identities::none(),
    })
}

async fn verify<W: Write>(
    config: &Config,
    backup: &str,
    identity: Option<&Path>,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let source = Source::of(backup);
    let folder = std::env::temp_dir();
    let begin = counting("reading");
    let plain = source.plain(&config.backup, identities(identity)?, &folder, begin);
    let Plain { file, sealed } = plain.await.map_err(of(backup))?;
    let checked = blocking(move || {
        let progress = Progress::count("looking at events");
        look_over(&file, &mut |seen, all| progress.at(seen, all))
    });
    let checked = checked.await.map_err(of(backup))?;
    let text = format!("{backup} is sound: {}", summary(&checked, sealed));
    told.line(&text, &checked_json(backup, &checked, sealed))
}

/// Says of which backup it is.
fn of(backup: &str) -> impl Fn(BackupError) -> CommandError {
    let backup = backup.to_owned();
    move |error| CommandError::File {
        what: backup.clone(),
        source: Box::new(error),
    }
}

fn summary(checked: &Checked, sealed: bool) -> String {
    let Checked {
        bytes,
        schema,
        newest_schema,
        rooms,
        accounts,
    } = checked;
    let events = checked.events();
    let users = accounts.users;
    let rooms = rooms.len();
    let mut text = format!(
        "{events} events in {rooms} rooms, {users} accounts, {bytes} bytes, schema {schema}"
    );
    if schema != newest_schema {
        text.push_str(&format!(" (this version brings it to {newest_schema})"));
    }
    if sealed {
        text.push_str(", enciphered");
    }
    text
}

fn checked_json(backup: &str, checked: &Checked, sealed: bool) -> Value {
    let room =
        |room: &CheckedRoom| json!({ "id": room.id, "first": room.first, "head": room.head });
    json!({
        "backup": backup,
        "sound": true,
        "enciphered": sealed,
        "bytes": checked.bytes,
        "schema": checked.schema,
        "events": checked.events(),
        "rooms": checked.rooms.iter().map(room).collect::<Vec<_>>(),
        "users": checked.accounts.users,
        "sessions": checked.accounts.sessions,
        "api_keys": checked.accounts.api_keys,
        "audit_entries": checked.accounts.audit,
    })
}

async fn restore<W: Write>(
    config: &Config,
    command: RestoreCommand,
    told: &mut Told<'_, W>,
) -> Result<(), CommandError> {
    let RestoreCommand {
        backup,
        to,
        identity,
        revoke_api_keys,
    } = command;
    let shown = to.display().to_string();
    // A link that leads nowhere is there too.
    if to.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(shown).into());
    }
    let identities = identities(identity.as_deref())?;
    let (part, file) = begin(&to)?;
    let restored = async {
        let source = Source::of(&backup);
        let began = counting("reading");
        let written = source.write_to(&config.backup, identities, &part, file, began);
        written.await.map_err(of(&backup))?;
        let path = part.clone();
        let revived = blocking(move || Ok(revive(&path, revoke_api_keys))).await?;
        let (checked, revived) = revived.map_err(|error| match error {
            CommandError::Backup(error) => of(&backup)(error),
            error => error,
        })?;
        place(&part, &to).map_err(|error| failed(format!("cannot write {shown}"), error))?;
        Ok::<_, CommandError>((checked, revived))
    };
    let restored = restored.await;
    if restored.is_err() {
        // What was begun is worth nothing.
        let _ = fs::remove_file(&part);
    }
    let (checked, revived) = restored?;
    sync_folder(&to)?;
    let mut text = format!("{shown} was restored: {}", summary(&checked, false));
    text.push_str(&format!("\n{}", what_ended(&revived)));
    let has_keys = folder_of(&to).join(KEY_FILE).exists();
    if !has_keys {
        let folder = folder_of(&to).display().to_string();
        text.push_str(&format!(
            "\nThere is no {KEY_FILE} in {folder}: put the gateway's own there, and its signing-keys.json, before it is started. Without it nobody's second factor works."
        ));
    }
    told.lines(
        &text,
        &json!({
            "path": shown,
            "events": checked.events(),
            "rooms": checked.rooms.len(),
            "sessions_ended": revived.sessions,
            "invites_ended": revived.invites,
            "recovery_codes_ended": revived.recovery_codes,
            "api_keys_kept": revived.api_keys_kept,
            "api_keys_revoked": revived.api_keys_revoked,
            "has_keys": has_keys,
        }),
    )
}

fn what_ended(revived: &Revived) -> String {
    let Revived {
        sessions,
        invites,
        recovery_codes,
        api_keys_kept,
        api_keys_revoked,
    } = revived;
    let keys = match (api_keys_kept, api_keys_revoked) {
        (0, 0) => "there are no API keys".to_owned(),
        (0, revoked) => format!("{revoked} API keys are revoked"),
        (kept, _) => format!("{kept} API keys work again"),
    };
    format!(
        "{sessions} sessions, {invites} invitations and {recovery_codes} recovery codes are void, and {keys}. Passwords, roles, bans and passkeys are those of the backup."
    )
}

/// Looks the file over, ends in it what must not come back, and looks once more.
fn revive(path: &Path, revoke_api_keys: bool) -> Result<(Checked, Revived), CommandError> {
    let progress = Progress::count("looking at events");
    let look = || {
        let file = File::open(path).map_err(|error| BackupError::Io {
            what: format!("cannot read {}", path.display()),
            source: error,
        })?;
        look_over(&file, &mut |seen, all| progress.at(seen, all))
    };
    look()?;
    let now = SystemClock.now();
    let revived = stack_storage::revive(path, now, !revoke_api_keys)
        .map_err(|error| failed("the copy cannot be made ready", error))?;
    Ok((look()?, revived))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn failed(
    what: impl Into<String>,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> CommandError {
    CommandError::File {
        what: what.into(),
        source: source.into(),
    }
}

async fn compact<W: Write>(config: &Config, told: &mut Told<'_, W>) -> Result<(), CommandError> {
    let folder = config.data_dir.display().to_string();
    let path = config.data_dir.join(DATABASE_FILE);
    if !path.exists() {
        return Err(OfflineError::NoDatabase(folder).into());
    }
    let shown = path.display().to_string();
    let compacted = blocking(move || {
        let _progress = Progress::waiting("making the file smaller");
        Ok(stack_storage::compact(&path))
    });
    let compacted = compacted.await?.map_err(|error| match error {
        OpenError::InUse { .. } => OfflineError::Running(folder).into(),
        error => failed(format!("cannot make {shown} smaller"), error),
    })?;
    let (before, after) = (compacted.before, compacted.after);
    let text = format!("{shown} had {before} bytes, and has {after} now");
    told.line(
        &text,
        &json!({ "path": shown, "before": before, "after": after }),
    )
}
