//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::{Flag, Inputs};

/// Stack, a realtime gateway: rooms, presence, history and sign-in in one binary and one file.
#[derive(Debug, Parser)]
#[command(name = "stack-gateway", version, about)]
pub struct Cli {
    /// What to do; without it the gateway is started.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Settings, for every command.
    #[command(flatten)]
    pub settings: Settings,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Starts the gateway.
    Serve,
    /// Looks at the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Shows the link by which the first administrator is made, a new one when the last has ended. It can be asked for
    /// while the gateway runs.
    SetupUrl,
    /// Looks after accounts, while the gateway is not running.
    #[command(subcommand)]
    Users(UsersCommand),
    /// Shows the audit log, newest first, while the gateway is not running.
    Audit(AuditCommand),
    /// Looks after the keys that sign tokens. It works while the gateway runs, which takes a new key within seconds.
    #[command(subcommand)]
    Keys(KeysCommand),
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
    /// One JSON object a line.
    #[arg(long)]
    pub jsonl: bool,
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
    /// Says whether the gateway would start with it.
    Check,
    /// Shows every setting, its value and where it comes from; secrets are not shown.
    Print,
    /// Shows a stack.toml of the defaults.
    Default,
    /// Shows every setting as a page to read, which is docs/CONFIG.md.
    Reference,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub enum UsersCommand {
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
    /// What is logged: a level or a filter.
    #[arg(long, value_name = "FILTER", global = true)]
    log: Option<String>,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<String>,
}

impl Settings {
    /// These flags and the process's environment, to load the configuration from.
    #[must_use]
    pub fn into_inputs(self) -> Inputs {
        let flags = [
            ("listen", "--listen", self.listen),
            ("data_dir", "--data-dir", self.data_dir),
            ("public_url", "--public-url", self.public_url),
            ("bus.url", "--bus-url", self.bus_url),
            ("log", "--log", self.log),
            ("log_format", "--log-format", self.log_format),
        ];
        let flags = flags
            .into_iter()
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
        assert!(Cli::try_parse_from(["stack-gateway", "nonsense"]).is_err());
    }
}
