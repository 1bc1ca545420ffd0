//! The bot's configuration: a TOML file, read once, checked as a whole; every fault is told.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use regex::Regex;
use serde::Deserialize;
use stack_daemon::{LogFormat, parse_duration};
use stack_types::RoomId;

use crate::pace::Rate;
use crate::request::{BUILT_IN, is_name};

/// An argument of a command that says nothing else: it cannot be taken for an option.
const ARGUMENT: &str = "[A-Za-z0-9][A-Za-z0-9._:/@+-]*";
/// The longest argument, in bytes.
const LONGEST_ARGUMENT: usize = 256;
/// Older messages are never answered: the gateway keeps the keys that make answers come once for a day.
const LONGEST_AGE: Duration = Duration::from_secs(12 * 3600);
/// The longest output; an answer has to fit into a message.
const LONGEST_OUTPUT: usize = 12 * 1024;

/// What the bot does.
#[derive(Debug)]
pub(crate) struct Config {
    /// The gateway's socket.
    pub(crate) socket: PathBuf,
    /// The file with the bot's token.
    pub(crate) token_file: PathBuf,
    /// The folder of what must survive a restart.
    pub(crate) state_dir: PathBuf,
    /// The rooms; empty for all that the bot is in.
    pub(crate) rooms: Vec<RoomId>,
    /// What commands begin with.
    pub(crate) prefix: String,
    /// Messages that are older when they are read are not answered.
    pub(crate) max_age: Duration,
    /// How often to look for rooms.
    pub(crate) look_every: Duration,
    /// A log filter.
    pub(crate) log: String,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Bounds.
    pub(crate) limits: Limits,
    /// The programs, by the name of their command.
    pub(crate) commands: BTreeMap<String, Command>,
}

/// What bounds the bot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Commands of one user in one room.
    pub(crate) per_user: Rate,
    /// Commands of one room; also the rate at which the bot speaks there.
    pub(crate) per_room: Rate,
    /// Programs that run at the same time.
    pub(crate) programs: usize,
    /// Reminders that one user may have.
    pub(crate) reminders_per_user: usize,
    /// Reminders in all.
    pub(crate) reminders: usize,
    /// How far ahead a reminder may lie.
    pub(crate) remind_within: Duration,
}

/// A program that may be run.
#[derive(Debug)]
pub(crate) struct Command {
    /// It, by its full path.
    pub(crate) program: PathBuf,
    /// What stands in front of the user's arguments.
    pub(crate) args: Vec<String>,
    /// What the command is for.
    pub(crate) help: String,
    /// How its arguments are told.
    pub(crate) usage: String,
    /// How few arguments a user gives.
    pub(crate) min_args: usize,
    /// How many arguments a user gives.
    pub(crate) max_args: usize,
    /// What each argument must match as a whole; without it none is taken.
    argument: Option<Regex>,
    /// The folder to run in.
    pub(crate) folder: PathBuf,
    /// The whole environment.
    pub(crate) env: BTreeMap<String, String>,
    /// How long it may run.
    pub(crate) timeout: Duration,
    /// How much of its output is taken, in bytes.
    pub(crate) max_output: usize,
    /// How many of it run at the same time.
    pub(crate) at_once: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    socket: PathBuf,
    token_file: PathBuf,
    state_dir: PathBuf,
    #[serde(default)]
    rooms: Vec<RoomId>,
    #[serde(default = "prefix")]
    prefix: String,
    max_age: Option<String>,
    look_every: Option<String>,
    #[serde(default = "log")]
    log: String,
    log_format: Option<String>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    commands: BTreeMap<String, CommandFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    user_burst: Option<u32>,
    user_every: Option<String>,
    room_burst: Option<u32>,
    room_every: Option<String>,
    programs: Option<usize>,
    reminders_per_user: Option<usize>,
    reminders: Option<usize>,
    remind_within: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandFile {
    program: PathBuf,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    help: String,
    #[serde(default)]
    usage: String,
    #[serde(default)]
    min_args: usize,
    #[serde(default)]
    max_args: usize,
    argument: Option<String>,
    folder: Option<PathBuf>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    timeout: Option<String>,
    max_output: Option<usize>,
    at_once: Option<usize>,
}

fn prefix() -> String {
    "!".to_owned()
}

fn log() -> String {
    "info".to_owned()
}

/// Collects what is wrong.
#[derive(Debug, Default)]
struct Faults(Vec<String>);

impl Faults {
    fn check(&mut self, fine: bool, fault: impl Into<String>) {
        if !fine {
            self.0.push(fault.into());
        }
    }

    /// A duration that is longer than nothing.
    fn duration(&mut self, key: &str, text: Option<&str>, default: &str) -> Duration {
        match parse_duration(text.unwrap_or(default)) {
            Ok(duration) if !duration.is_zero() => duration,
            Ok(_) => {
                self.0.push(format!("{key} must be longer than nothing"));
                Duration::ZERO
            }
            Err(error) => {
                self.0.push(format!("{key}: {error}"));
                Duration::ZERO
            }
        }
    }

    /// A number that is not zero.
    fn positive<T: Default + PartialEq>(&mut self, key: &str, value: Option<T>, default: T) -> T {
        let value = value.unwrap_or(default);
        self.check(value != T::default(), format!("{key} must not be 0"));
        value
    }
}

impl Config {
    /// Reads a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// It cannot be read, or something in it is wrong.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, base).with_context(|| format!("{} is wrong", path.display()))
    }

    fn parse(text: &str, base: &Path) -> anyhow::Result<Self> {
        let file: ConfigFile = toml::from_str(text)?;
        let mut faults = Faults::default();
        faults.check(
            !file.prefix.is_empty() && file.prefix.len() <= 32,
            "prefix must have 1 to 32 bytes",
        );
        let max_age = faults.duration("max_age", file.max_age.as_deref(), "10m");
        faults.check(max_age <= LONGEST_AGE, "max_age must be 12h at most");
        let log_format = file
            .log_format
            .as_deref()
            .map_or(Ok(LogFormat::Text), str::parse);
        let config = Self {
            socket: base.join(file.socket),
            token_file: base.join(file.token_file),
            state_dir: base.join(file.state_dir),
            rooms: file.rooms,
            prefix: file.prefix,
            max_age,
            look_every: faults.duration("look_every", file.look_every.as_deref(), "30s"),
            log: file.log,
            log_format: log_format.unwrap_or_else(|fault| {
                faults.0.push(format!("log_format: {fault}"));
                LogFormat::Text
            }),
            limits: limits(&file.limits, &mut faults),
            commands: file
                .commands
                .into_iter()
                .map(|(name, command)| {
                    let command = self::command(&name, command, base, &mut faults);
                    (name, command)
                })
                .collect(),
        };
        anyhow::ensure!(faults.0.is_empty(), "{}", faults.0.join("; "));
        Ok(config)
    }
}

fn limits(file: &LimitsFile, faults: &mut Faults) -> Limits {
    Limits {
        per_user: Rate {
            burst: faults.positive("limits.user_burst", file.user_burst, 5),
            every: faults.duration("limits.user_every", file.user_every.as_deref(), "3s"),
        },
        per_room: Rate {
            burst: faults.positive("limits.room_burst", file.room_burst, 20),
            every: faults.duration("limits.room_every", file.room_every.as_deref(), "1s"),
        },
        programs: faults.positive("limits.programs", file.programs, 4),
        reminders_per_user: file.reminders_per_user.unwrap_or(20),
        reminders: file.reminders.unwrap_or(1000),
        remind_within: faults.duration(
            "limits.remind_within",
            file.remind_within.as_deref(),
            "365d",
        ),
    }
}

fn command(name: &str, file: CommandFile, base: &Path, faults: &mut Faults) -> Command {
    let key = format!("commands.{name}");
    faults.check(
        is_name(name),
        format!("{key}: a name is 1 to 32 of a-z, 0-9, - and _"),
    );
    faults.check(
        !BUILT_IN.contains(&name),
        format!("{key}: the bot has a command of this name"),
    );
    faults.check(
        is_program(&file.program),
        format!(
            "{key}.program: {} is not the full path of a program",
            file.program.display()
        ),
    );
    faults.check(
        file.args.iter().all(|argument| !argument.contains('\0')),
        format!("{key}.args must not hold a null character"),
    );
    faults.check(
        file.min_args <= file.max_args && file.max_args <= 64,
        format!("{key}: min_args must not be more than max_args, and that not more than 64"),
    );
    let pattern = file.argument.as_deref().unwrap_or(ARGUMENT);
    let argument = Regex::new(&format!(r"\A(?:{pattern})\z"))
        .map_err(|error| faults.0.push(format!("{key}.argument: {error}")))
        .ok();
    let folder = base.join(file.folder.unwrap_or_else(|| PathBuf::from("/")));
    faults.check(
        folder.is_dir(),
        format!("{key}.folder: {} is no folder", folder.display()),
    );
    let plain = |(name, value): (&String, &String)| {
        !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
    };
    faults.check(
        file.env.iter().all(plain),
        format!("{key}.env has a name or a value that no environment can have"),
    );
    let max_output = faults.positive(&format!("{key}.max_output"), file.max_output, 4096);
    faults.check(
        max_output <= LONGEST_OUTPUT,
        format!("{key}.max_output must be {LONGEST_OUTPUT} at most"),
    );
    Command {
        program: file.program,
        args: file.args,
        help: file.help,
        usage: file.usage,
        min_args: file.min_args,
        max_args: file.max_args,
        argument,
        folder,
        env: file.env,
        timeout: faults.duration(&format!("{key}.timeout"), file.timeout.as_deref(), "10s"),
        max_output,
        at_once: faults.positive(&format!("{key}.at_once"), file.at_once, 1),
    }
}

impl Command {
    /// Whether a user may give these arguments.
    ///
    /// # Errors
    /// What is wrong with them, for the user.
    pub(crate) fn check(&self, words: &[&str]) -> Result<(), String> {
        if words.len() < self.min_args || words.len() > self.max_args {
            return Err(match (self.min_args, self.max_args) {
                (_, 0) => "It takes no arguments.".to_owned(),
                (min, max) if min == max => format!("It takes {max} arguments."),
                (min, max) => format!("It takes {min} to {max} arguments."),
            });
        }
        let fine = |word: &&str| {
            word.len() <= LONGEST_ARGUMENT
                && !word.contains(char::is_control)
                && self
                    .argument
                    .as_ref()
                    .is_some_and(|pattern| pattern.is_match(word))
        };
        match words.iter().position(|word| !fine(word)) {
            Some(index) => Err(format!("Argument {} is not allowed.", index + 1)),
            None => Ok(()),
        }
    }
}

/// Whether this is a file that may be run, named by its full path.
fn is_program(path: &Path) -> bool {
    let runs = |file: fs::Metadata| file.is_file() && file.permissions().mode() & 0o111 != 0;
    path.is_absolute() && fs::metadata(path).is_ok_and(runs)
}

/// A command that runs a script.
#[cfg(test)]
pub(crate) fn shell_for_tests(script: &str, timeout: &str) -> Command {
    let text = format!(
        "socket = \"s\"\ntoken_file = \"t\"\nstate_dir = \"d\"\n[commands.a]\nprogram = \"/bin/sh\"\n\
         timeout = \"{timeout}\"\nenv = {{ PATH = \"/usr/bin:/bin\" }}\nargs = [\"-c\", '''{script}''']"
    );
    let mut config = Config::parse(&text, Path::new("/")).unwrap();
    config.commands.remove("a").unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "socket = \"s\"\ntoken_file = \"t\"\nstate_dir = \"d\"\n";

    fn parse(more: &str) -> anyhow::Result<Config> {
        Config::parse(&format!("{MINIMAL}{more}"), Path::new("/base"))
    }

    #[test]
    fn a_short_file_is_enough_and_paths_start_at_its_folder() {
        let config = parse("").unwrap();
        assert_eq!(config.socket, Path::new("/base/s"));
        assert_eq!(config.prefix, "!");
        assert_eq!(config.max_age, Duration::from_secs(600));
        assert!(config.rooms.is_empty() && config.commands.is_empty());
    }

    #[test]
    fn the_example_is_a_configuration() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("bot.example.toml");
        let config = Config::load(&path).unwrap();
        assert!(!config.commands.is_empty());
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let error = parse(
            r#"
            prefix = ""
            max_age = "13h"
            log_format = "xml"
            [limits]
            programs = 0
            user_every = "soon"
            [commands.help]
            program = "/bin/true"
            [commands.UPPER]
            program = "true"
            [commands.odd]
            program = "/etc/passwd"
            argument = "("
            folder = "/nowhere"
            min_args = 2
            max_args = 1
            max_output = 1000000
            env = { "A=B" = "" }
            at_once = 0
            timeout = "0s"
            "#,
        )
        .unwrap_err();
        let told = format!("{error:#}");
        for fault in [
            "prefix",
            "max_age",
            "log_format",
            "limits.programs",
            "limits.user_every",
            "commands.help: the bot has",
            "commands.UPPER: a name",
            "commands.UPPER.program",
            "commands.odd.program",
            "commands.odd.argument",
            "commands.odd.folder",
            "commands.odd: min_args",
            "commands.odd.max_output",
            "commands.odd.env",
            "commands.odd.at_once",
            "commands.odd.timeout",
        ] {
            assert!(told.contains(fault), "{fault}: {told}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for more in [
            "colour = 1",
            "rooms = [\"No Slug\"]",
            "[commands.a]\nshell = true",
        ] {
            assert!(parse(more).is_err(), "{more}");
        }
    }

    #[test]
    fn arguments_are_checked_one_by_one() {
        let command = |more: &str| {
            let text = format!("[commands.a]\nprogram = \"/bin/true\"\n{more}");
            parse(&text).unwrap().commands.remove("a").unwrap()
        };
        let usual = command("max_args = 2");
        assert!(usual.check(&[]).is_ok());
        assert!(usual.check(&["example.org", "a/b:c@d"]).is_ok());
        assert!(usual.check(&["a", "b", "c"]).is_err());
        for word in [
            "-rf",
            "--help",
            "a;b",
            "$(a)",
            "`a`",
            "ä",
            "a\u{7}",
            "",
            &"a".repeat(300),
        ] {
            assert!(usual.check(&[word]).is_err(), "{word}");
        }
        let own = command("min_args = 1\nmax_args = 1\nargument = 'on|off'");
        assert!(own.check(&["on"]).is_ok());
        for words in [&["only"][..], &["on\n"], &[], &["on", "off"]] {
            assert!(own.check(words).is_err(), "{words:?}");
        }
        assert!(command("").check(&["a"]).is_err());
    }
}
