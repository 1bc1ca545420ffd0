//! The configuration as text: a commented file of the defaults, and what is in force and why. Secrets are never shown.

use std::fmt::Write as _;

use super::key::{KEYS, Key, Kind};
use super::layers::{Inputs, Reader};

/// A `stack.toml` with every setting at its default, commented.
#[must_use]
pub fn default_file() -> String {
    let mut out = String::from(
        "# Stack gateway. Every setting with its default; flags and environment lie on top.\n",
    );
    write_all(&mut out, |key, out| {
        let _ = writeln!(out, "\n# {}\n# Environment: {}", key.doc, key.env());
        if key.default.is_empty() {
            let _ = writeln!(out, "# {} = {}", key.name(), literal(key, example(key)));
        } else {
            let _ = writeln!(out, "{} = {}", key.name(), literal(key, key.default));
        }
    });
    out
}

/// What is in force, as a `stack.toml` that says beside each value where it came from.
#[must_use]
pub fn effective(inputs: &Inputs) -> String {
    let reader = Reader::open(inputs);
    let mut out = String::new();
    write_all(&mut out, |key, out| {
        let _ = match reader.given().get(key.path) {
            Some(given) if key.kind == Kind::Secret => {
                writeln!(out, "# {} is set  # {}", key.name(), given.source)
            }
            Some(given) => writeln!(
                out,
                "{} = {}  # {}",
                key.name(),
                literal(key, &given.text),
                given.source
            ),
            None if key.default.is_empty() => writeln!(out, "# {} is not set", key.name()),
            None => writeln!(
                out,
                "{} = {}  # default",
                key.name(),
                literal(key, key.default)
            ),
        };
    });
    out
}

fn write_all(out: &mut String, mut write: impl FnMut(&Key, &mut String)) {
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            let _ = writeln!(out, "\n[{section}]");
        }
        write(key, out);
    }
}

fn literal(key: &Key, text: &str) -> String {
    match key.kind {
        Kind::Bare => text.to_owned(),
        // A JSON string is a TOML basic string.
        Kind::Text | Kind::Secret => quoted(text),
        Kind::List => {
            let items: Vec<_> = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(quoted)
                .collect();
            format!("[{}]", items.join(", "))
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn example(key: &Key) -> &'static str {
    match key.path {
        "public_url" => "https://chat.example.com",
        "trusted_proxies" => "10.0.0.0/8, ::1",
        "cors.origins" => "https://app.example.com",
        _ => "",
    }
}
