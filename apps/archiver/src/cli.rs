//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use stack_daemon::{LogFormat, parse_duration};
use stack_types::RoomId;

/// Follows rooms of a Stack gateway and keeps every event as a line of JSON, in rotated gzip files. Killed and started
/// again it writes no line twice and misses none.
///
/// Exit codes: 0 asked to end, 1 cannot go on (the token is refused, the archive is damaged), 2 wrong arguments.
#[derive(Debug, Parser)]
#[command(name = "stack-archiver", version)]
pub(crate) struct Cli {
    /// The gateway's socket.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// A file with a bot's token of scope `read`, readable by its owner only.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: PathBuf,
    /// Where the archive is, one folder a room. It is made when it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// A room to follow; may be given again. Without it all rooms that the bot is in, also those that it is put into later.
    #[arg(long = "room", value_name = "ROOM")]
    pub(crate) rooms: Vec<RoomId>,
    /// A file is finished when it has this many bytes, compressed.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rotate_bytes: u64,
    /// A file is finished when it is this old.
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = parse_duration)]
    pub(crate) rotate_every: Duration,
    /// How long events are gathered before they are written. They are safe at the gateway meanwhile.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    pub(crate) gather: Duration,
    /// How often to look for rooms that the bot was put into, and for those that could not be followed.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_positive)]
    pub(crate) look_every: Duration,
    /// What is logged: a level or a filter.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        let needed = [
            "stack-archiver",
            "--socket",
            "s",
            "--token-file",
            "t",
            "--dir",
            "d",
        ];
        let cli = Cli::try_parse_from(needed).unwrap();
        assert_eq!(cli.rotate_every, Duration::from_secs(24 * 3600));
        let wrong = [
            ["--room", "No Slug"],
            ["--rotate-bytes", "0"],
            ["--rotate-every", "soon"],
            ["--look-every", "0s"],
            ["--log-format", "xml"],
        ];
        for more in wrong {
            let arguments = needed.iter().chain(&more);
            assert!(Cli::try_parse_from(arguments).is_err(), "{more:?}");
        }
    }
}
