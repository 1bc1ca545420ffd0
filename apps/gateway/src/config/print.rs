//! The configuration as text: a commented file of the defaults, and what is in force and why. Secrets are never shown.

use std::fmt::Write as _;

use super::key::{KEYS, Key, Kind};
use super::layers::{Inputs, Reader};
use super::oauth;

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
    out.push_str(PROVIDERS);
    out
}

/// Identity providers, of which there may be any number, so that none has a default.
const PROVIDERS: &str = r#"
# Where people sign in who have an account elsewhere: a section each, called as in addresses. What the provider has to
# know of us is the callback <public_url>/api/v1/auth/oauth/<name>/callback. Who is found by an e-mail address that both
# sides have verified is linked to the account here; who is new gets one while registration is open.
# Environment: STACK_AUTH_OAUTH_<NAME>_<KEY>
#
# [auth.oauth.github]
# preset = "github"                   # or google, gitlab, discord
# client_id = "…"
# client_secret = "…"
#
# [auth.oauth.company]
# issuer = "https://id.example.com"   # any provider of OpenID Connect; also with preset = "gitlab", for one's own
# client_id = "…"
# client_secret = "…"
# title = "Example Inc."              # what people see; the name without
# scopes = ["openid", "email", "profile"]
# allow_registration = true           # whether somebody new gets an account
"#;

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
    write_providers(&mut out, &reader);
    out
}

fn write_providers(out: &mut String, reader: &Reader) {
    for (name, keys) in reader.given_providers() {
        let _ = writeln!(out, "\n[{}.{}]", oauth::SECTION, quoted(name));
        for (key, given) in keys {
            let _ = match *key {
                "client_secret" => writeln!(out, "# {key} is set  # {}", given.source),
                "allow_registration" => writeln!(out, "{key} = {}  # {}", given.text, given.source),
                _ => writeln!(out, "{key} = {}  # {}", quoted(&given.text), given.source),
            };
        }
    }
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
        "bus.publish" => "zmq+tcp://127.0.0.1:5557",
        "bus.subscribe" => "nng+ipc:///run/stack/bus.sock",
        _ => "",
    }
}
