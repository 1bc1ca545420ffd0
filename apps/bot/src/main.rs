//! Answers commands in rooms: help, reminders, and programs that its configuration allows.

mod answer;
mod bot;
mod config;
mod daemon;
mod pace;
mod reminders;
mod request;
mod room;
mod runner;
mod state;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use stack_daemon::init_telemetry;

use crate::config::Config;

/// What wrong arguments and a wrong configuration end with.
const USAGE: u8 = 2;

/// Answers commands in rooms of a Stack gateway: !help, !remind, and programs that its configuration allows.
///
/// Exit codes: 0 asked to end, 1 cannot go on (the token is refused, the state is damaged), 2 wrong arguments or
/// configuration.
#[derive(Debug, Parser)]
#[command(name = "stack-bot", version)]
struct Cli {
    /// The configuration. An example with every setting is apps/bot/bot.example.toml.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Says whether the configuration is right, and ends.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = match Config::load(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = init_telemetry(&config.log, config.log_format) {
        eprintln!("error: log is no filter: {error}");
        return ExitCode::from(USAGE);
    }
    if cli.check {
        println!("{} is right", cli.config.display());
        return ExitCode::SUCCESS;
    }
    stack_daemon::run(|stop| daemon::run(config, stop))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
