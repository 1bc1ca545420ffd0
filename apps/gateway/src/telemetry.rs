//! Where log lines go: to standard error, since standard output says where the gateway listens.
//!
//! Never logged: passwords, tokens, tickets, cookies, the bodies of messages, paths and queries as they were sent.

use std::io::{self, IsTerminal as _};
use std::panic;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

/// Sets up logging for the whole process. Called a second time it does nothing.
pub fn init(config: &Config) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    let set = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if set.is_ok() {
        log_panics();
    }
}

/// A panic is a log line like any other, with its place; in JSON it must not break the format.
fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("without a message");
        tracing::error!(place, "panicked at {place}: {message}");
    }));
}
