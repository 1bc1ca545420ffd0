//! The command line.

pub mod manual;

use std::path::PathBuf;

use age::x25519::Recipient;
use clap::{Args, Parser, Subcommand};

use crate::config::{Flag, Inputs};

/// Stack, a realtime gateway: rooms, presence, history and sign-in in one binary and one file.
#[derive(Debug, Parser)]
#[command(name = "stack-gateway", version, about)]
pub struct Cli {
    /// What to do; without it the gateway is started.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// One JSON object a line instead of tables and sentences, for programs.
    #[arg(long, global = true, alias = "jsonl")]
    pub json: bool,
    /// Settings, for every command.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts the gateway.
    Serve,
    /// Starts an edge: a gateway that holds client connections for another one, its origin.
    Edge {
        /// The origin: unix:/path/to/gateway.sock or tls://host:port.
        #[arg(long, value_name = "URL")]
        origin: Option<String>,
    },
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Shows the link by which the first administrator is made, a new one when the last has ended. It can be asked for
    /// while the gateway runs.
    SetupUrl,
    /// Lets the running gateway read its configuration again, as SIGHUP does, and says what of it is in force and what
    /// needs a restart.
    Reload,
    /// Looks after accounts: those of the gateway that runs, or those in the file when none does.
    #[command(subcommand)]
    Users(UsersCommand),
    /// Looks after where people are signed in.
    #[command(subcommand)]
    Sessions(SessionsCommand),
    /// Looks at rooms.
    #[command(subcommand)]
    Rooms(RoomsCommand),
    /// Shows what a running gateway counts and measures.
    Stats,
    /// Shows what is said in a room as it is said, until Ctrl-C. A gateway that is started again is waited for. It goes
    /// on record.
    Tail {
        /// The room.
        room: String,
        /// Begin behind the event of this number; 0 is the beginning.
        #[arg(long, value_name = "N")]
        after: Option<u64>,
    },
    /// Shows why a message did not arrive: when it was committed and handed out, where it is with each connection, and who
    /// has read it. It goes on record.
    Trace {
        /// The room.
        room: String,
        /// The message's number.
        seq: u64,
        /// Only what became of it for this user, by username or id.
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Writes all that is durable, as of now, to a new file, and checks it. It works while the gateway runs, and never
    /// replaces a file.
    Snapshot {
        /// Where to; the folder has to be there. `-` is standard output, s3://bucket/name a bucket.
        file: PathBuf,
        /// Enciphers it: a public key of age (age1…). Whoever has the secret key opens it. Can be given more than once.
        #[arg(long = "recipient", value_name = "AGE1")]
        recipients: Vec<Recipient>,
    },
    /// Makes or shows the backups that the configuration asks for.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Looks over a backup, or the file of a gateway that does not run: whether every page, record and room is whole. It
    /// changes nothing.
    Verify {
        /// The file, `-` for standard input, or s3://bucket/name.
        backup: String,
        /// The file of the secret key of age that opens it.
        #[arg(long, value_name = "FILE")]
        identity: Option<PathBuf>,
    },
    /// Makes a gateway's file of a backup. Nobody is signed in in it, and links and codes of before are void.
    Restore(RestoreCommand),
    /// Gives back to the disk what is empty in the file of a gateway that does not run.
    Compact,
    /// Writes rooms as JSON lines, with everything that their readers get. It works while the gateway runs, and goes on
    /// record.
    Export(ExportCommand),
    /// Takes rooms in: from JSON lines, or from a Slack export. All of them come in, or none; no room is replaced, and
    /// nobody can sign in by it who could not before.
    Import(ImportCommand),
    /// Shows the audit log, newest first.
    Audit(AuditCommand),
    /// Looks after the keys that sign tokens. It works while the gateway runs, which takes a new key within seconds.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Makes a CURVE key pair for the bus in a new file that nobody else can read, and prints its public half.
    #[cfg(feature = "with-zmq")]
    BusKeys {
        /// The file, for bus.curve_secret_key_file.
        file: PathBuf,
    },
    /// Says whether the gateway that listens where the configuration says is ready for work, as /readyz does: for health
    /// checks.
    Ready,
    /// Writes what a shell completes this command line with: bash, zsh or fish, for example.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Writes the man page.
    Man,
}

/// What to restore.
#[derive(Debug, Args)]
pub struct RestoreCommand {
    /// The backup: a file, `-` for standard input, or s3://bucket/name.
    pub backup: String,
    /// The file to make, such as data/stack.redb; there must be none.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// The file of the secret key of age that opens the backup.
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Revokes the API keys of the backup. Without it they work again, those too that were revoked since.
    #[arg(long)]
    pub revoke_api_keys: bool,
}

/// What can be done with backups.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum BackupCommand {
    /// Makes one now, and removes those that are too many.
    Now,
    /// Shows those that are there, the newest first.
    List,
}

/// Which rooms to export, and where to.
#[derive(Debug, Args)]
pub struct ExportCommand {
    /// The rooms.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub rooms: Vec<String>,
    /// Every room, private ones too.
    #[arg(long)]
    pub all: bool,
    /// A new file; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
}

/// What to import, and how.
#[derive(Debug, Args)]
pub struct ImportCommand {
    /// The file that `export` has written; `-` is standard input. With --slack the ZIP, or its folder.
    #[arg(value_name = "FILE")]
    pub from: PathBuf,
    /// It is a Slack export.
    #[arg(long)]
    pub slack: bool,
    /// Slack's public channels become public rooms. Without it every room is private.
    #[arg(long, requires = "slack")]
    pub public: bool,
    /// The id of the room, when there is one only.
    #[arg(long = "as", value_name = "ROOM", conflicts_with = "new_ids")]
    pub as_id: Option<String>,
    /// Rooms whose ids are taken get others, such as general-2. Without it that is refused.
    #[arg(long)]
    pub new_ids: bool,
    /// Somebody with an account here who will own every room.
    #[arg(long, value_name = "USERNAME")]
    pub owner: Option<String>,
    /// Owners and moderators who have accounts here stay what they are. Without it they become members.
    #[arg(long)]
    pub with_roles: bool,
    /// An account here of the same username is the same person's. Without it the id has to be the same too.
    #[arg(long)]
    pub match_names: bool,
}

impl Cli {
    /// Whether this is about certificates: to serve with them, or to see whether that can be.
    #[must_use]
    pub fn reads_certificates(&self) -> bool {
        matches!(
            self.command,
            None | Some(
                Command::Serve | Command::Edge { .. } | Command::Config(ConfigCommand::Check)
            )
        )
    }
}

/// What to show of the audit log.
#[derive(Debug, Args)]
pub struct AuditCommand {
    /// Entries from this time on, in Unix milliseconds.
    #[arg(long, value_name = "MS")]
    pub since: Option<u64>,
    /// Entries of this action only, such as login.
    #[arg(long)]
    pub action: Option<String>,
    /// Entries of this user's doing only.
    #[arg(long, value_name = "USER_ID")]
    pub actor: Option<String>,
}

/// What can be done with signing keys.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum KeysCommand {
    /// Makes a new key that signs from now on, by the same algorithm. What the ones before it signed is taken for two
    /// hours at least, so that nobody is signed out.
    Rotate,
    /// Shows the keys, without their secrets.
    List,
}

/// What can be done with the configuration.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Says whether the gateway would start with it, as far as one can tell beforehand.
    Check,
    /// Shows every setting, its value and where it comes from; secrets are not shown.
    Print,
    /// Shows a stack.toml of the defaults.
    Default,
    /// Shows every setting as a page to read, which is docs/CONFIG.md.
    Reference,
}

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionsCommand {
    /// Shows where somebody is signed in.
    List {
        /// The username, or the id.
        user: String,
    },
    /// Ends one session of somebody, or all; their sockets close at once.
    Revoke {
        /// The username, or the id.
        user: String,
        /// Which; all without it.
        session: Option<String>,
    },
}

/// What can be done with rooms.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum RoomsCommand {
    /// Shows every room, private ones too.
    List,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
    /// Shows every account.
    List,
    /// Makes somebody an administrator.
    Promote {
        /// The username.
        name: String,
    },
    /// Prints a link with which somebody who cannot sign in any more sets a new password.
    Recover {
        /// The username.
        name: String,
        /// Takes the second factor off with it.
        #[arg(long)]
        reset_second_factor: bool,
    },
    /// Keeps somebody out and ends their sessions.
    Disable {
        /// The username.
        name: String,
    },
    /// Lets somebody in again who was disabled.
    Enable {
        /// The username.
        name: String,
    },
    /// Erases everything that somebody has said, for good, and waits until that is done. The account stays.
    Erase {
        /// The username, or the id.
        user: String,
        /// In this room only.
        #[arg(long)]
        room: Option<String>,
    },
}

/// Settings that can be given as flags. They lie over the environment and the file.
#[derive(Debug, Args)]
pub struct Settings {
    /// Settings from this file instead of ./stack.toml; also STACK_CONFIG.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Addresses and ports to listen on, or Unix sockets (unix:/path), with commas between them.
    #[arg(long, value_name = "ADDRESS", global = true)]
    listen: Option<String>,
    /// Folder of the database file and the generated keys.
    #[arg(long, value_name = "FOLDER", global = true)]
    data_dir: Option<String>,
    /// How browsers reach the gateway.
    #[arg(long, value_name = "URL", global = true)]
    public_url: Option<String>,
    /// How events travel between processes.
    #[arg(long, value_name = "URL", global = true)]
    bus_url: Option<String>,
    /// The socket for programs on this machine. A command that is given one works through the gateway behind it only.
    #[arg(long, value_name = "FILE", global = true)]
    ipc_path: Option<String>,
    /// What is logged: a level or a filter.
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

impl Settings {
    /// Whether a socket is named.
    #[must_use]
    pub fn names_socket(&self) -> bool {
        self.ipc_path.is_some()
    }

    /// These flags and the process's environment, to load the configuration from.
    #[must_use]
    pub fn into_inputs(self) -> Inputs {
        self.into_inputs_with(&[])
    }

    /// [`Settings::into_inputs`], with flags of the command's own: setting, name and value.
    #[must_use]
    pub fn into_inputs_with(self, own: &[(&'static str, &'static str, Option<String>)]) -> Inputs {
        let flags = [
            ("listen", "--listen", self.listen),
            ("data_dir", "--data-dir", self.data_dir),
            ("public_url", "--public-url", self.public_url),
            ("bus.url", "--bus-url", self.bus_url),
            ("ipc.path", "--ipc-path", self.ipc_path),
            ("log", "--log", self.log),
            ("log_format", "--log-format", self.log_format),
        ];
        let flags = flags
            .into_iter()
            .chain(own.iter().cloned())
            .filter_map(|(key, name, value)| value.map(|value| Flag { key, name, value }))
            .collect();
        Inputs::of_process(self.config, flags)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_is_the_default_and_flags_stand_anywhere() {
        let cli = Cli::try_parse_from(["stack-gateway", "--listen", "127.0.0.1:0"]).unwrap();
        assert!(cli.command.is_none());
        let cli = Cli::try_parse_from(["stack-gateway", "serve", "--data-dir", "x"]).unwrap();
        let inputs = cli.settings.into_inputs();
        assert_eq!(
            (inputs.flags[0].key, inputs.flags[0].value.as_str()),
            ("data_dir", "x")
        );
        assert!(Cli::try_parse_from(["stack-gateway", "config", "check"]).is_ok());
        for (command, reads) in [
            (&[][..], true),
            (&["serve"], true),
            (&["edge"], true),
            (&["config", "check"], true),
            (&["config", "print"], false),
            (&["users", "list"], false),
            (&["setup-url"], false),
        ] {
            let cli = Cli::try_parse_from([&["stack-gateway"], command].concat()).unwrap();
            assert_eq!(cli.reads_certificates(), reads, "{command:?}");
        }
        assert!(Cli::try_parse_from(["stack-gateway", "nonsense"]).is_err());
    }
}
