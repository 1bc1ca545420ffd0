//! Log lines: to standard error, since standard output says where the gateway listens, or into files of a folder where
//! the process serves. Whoever logs never waits for it; see [`sink`].
//!
//! Never logged, at no level: passwords, tokens, tickets, cookies, codes, keys, e-mail addresses, the bodies of
//! messages, paths and queries as they were sent. A test sends all of them and reads the log. Libraries print what they
//! carry at their lower levels, so that only lines of our own crates are written below [`LIBRARIES`].

mod files;
mod sink;

use std::io::{self, IsTerminal as _, Write};
use std::panic;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, filter_fn};
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Filter, Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Config, LogFiles, LogFormat};
use crate::error::StartError;
use files::Files;
use sink::Sink;

pub use sink::lines_dropped;

/// What other crates say below this is not written, whatever the filter: it may hold what a request held.
const LIBRARIES: LevelFilter = LevelFilter::INFO;

/// Crates whose lines are ours.
const OWN: &str = "stack_";

/// How long the end of the process waits for the last lines.
const LAST_LINES: Duration = Duration::from_secs(1);
/// The same of a panic, which may be one of many.
const LINES_OF_A_PANIC: Duration = Duration::from_millis(200);

/// What is logged. A line of a level that nothing asks for is not looked at, as `tracing` remembers that per place in the
/// code; any other passes a lock that is written when the filter changes, and never else.
type What = Box<dyn Filter<Registry> + Send + Sync>;

/// The filter in force, for the one log that a process has.
static FILTER: OnceLock<reload::Handle<What, Registry>> = OnceLock::new();

/// The log of the process. Dropped, it writes what still waits.
#[derive(Debug)]
pub struct Telemetry {
    sink: Option<Sink>,
    in_files: bool,
}

/// Whose lines are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// A gateway's.
    Gateway,
    /// An edge's, which may run beside its gateway.
    Edge,
    /// Those of a command, which somebody waits for: they go to standard error whatever is configured.
    Command,
}

impl Process {
    /// What its log file is called.
    fn file(self) -> Option<&'static str> {
        match self {
            Self::Gateway => Some("stack-gateway.log"),
            Self::Edge => Some("stack-edge.log"),
            Self::Command => None,
        }
    }
}

/// Sets up logging for the whole process. Called a second time it changes nothing.
///
/// # Errors
/// The folder for log files cannot be used, or the thread that writes cannot be started.
pub fn init(config: &Config, process: Process) -> Result<Telemetry, StartError> {
    let LogFiles {
        folder,
        bytes,
        keep,
    } = &config.log_files;
    let (out, colours): (Box<dyn Write + Send>, bool) = match folder.as_ref().zip(process.file()) {
        Some((folder, name)) => {
            let files = Files::open(folder, name, *bytes, *keep);
            let files = files.map_err(|source| StartError::LogFolder {
                path: folder.clone(),
                source,
            })?;
            (Box::new(files), false)
        }
        None => (Box::new(io::stderr()), io::stderr().is_terminal()),
    };
    let in_files = folder.is_some() && process.file().is_some();
    let missing = match config.log_format {
        LogFormat::Text => missing_text,
        LogFormat::Json => missing_json,
    };
    let sink = Sink::start(out, missing).map_err(StartError::LogThread)?;
    let fmt = tracing_subscriber::fmt::layer()
        .with_ansi(colours)
        .with_writer(sink.clone());
    let (filter, handle) = reload::Layer::new(what(&config.log));
    let lines = match config.log_format {
        LogFormat::Text => fmt.with_filter(filter).boxed(),
        LogFormat::Json => fmt
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
    };
    let set = Registry::default().with(lines);
    #[cfg(feature = "tokio-console")]
    let set = set.with(console_subscriber::spawn());
    if set.try_init().is_err() {
        return Ok(Telemetry {
            sink: None,
            in_files: false,
        });
    }
    let _ = FILTER.set(handle);
    log_panics(sink.clone());
    Ok(Telemetry {
        sink: Some(sink),
        in_files,
    })
}

impl Telemetry {
    /// Whether lines go into files, so that standard error does not show them.
    #[must_use]
    pub fn in_files(&self) -> bool {
        self.in_files
    }
}

/// Logs by this filter from now on. Says whether it could; without a log there is nothing to do.
pub(crate) fn set_filter(filter: &str) -> bool {
    match FILTER.get() {
        Some(handle) => handle.reload(what(filter)).is_ok(),
        None => true,
    }
}

fn what(filter: &str) -> What {
    let filter = EnvFilter::new(filter);
    // The most that is written at all is known beforehand, so that what libraries log by the way is not even looked at.
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let own = filter_fn(move |line| {
        let is_own = line.target().starts_with(OWN);
        *line.level() <= most && (is_own || *line.level() <= LIBRARIES)
    });
    Box::new(filter.and(own.with_max_level_hint(most)))
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(sink) = &self.sink {
            sink.flush(LAST_LINES);
        }
    }
}

/// A panic is a log line like any other, with its place; in JSON it must not break the format. It may be the last thing
/// that the process does.
fn log_panics(sink: Sink) {
    panic::set_hook(Box::new(move |panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(place, "panicked at {place}: {message}");
        sink.flush(LINES_OF_A_PANIC);
    }));
}

/// The time, as other lines have it.
fn now() -> String {
    let mut text = String::new();
    // Nothing can go wrong with a string.
    let _ = SystemTime.format_time(&mut format::Writer::new(&mut text));
    text
}

fn missing(count: u64, failed: Option<&io::Error>) -> String {
    let why = match failed {
        Some(error) => format!("they could not be written: {error}"),
        None => "nobody took them".to_owned(),
    };
    format!("{count} log lines are missing here, {why}")
}

fn missing_text(count: u64, failed: Option<&io::Error>) -> String {
    let (now, missing) = (now(), missing(count, failed));
    format!("{now}  WARN stack_gateway::telemetry: {missing}\n")
}

fn missing_json(count: u64, failed: Option<&io::Error>) -> String {
    let line = json!({
        "timestamp": now(),
        "level": "WARN",
        "message": missing(count, failed),
        "count": count,
        "target": "stack_gateway::telemetry",
    });
    format!("{line}\n")
}
