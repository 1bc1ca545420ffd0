//! The configuration as text: a commented file of the defaults, and what is in force and why. Secrets are never shown.

use std::fmt::Write as _;

use super::Config;
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
        let live = match key.live {
            true => "; applied by a reload",
            false => "",
        };
        let _ = writeln!(out, "\n# {}\n# Environment: {}{live}", key.doc, key.env());
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

/// Every setting as a page for people to read: `docs/CONFIG.md` is what this says.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(REFERENCE);
    let mut section = None;
    for key in KEYS {
        if section != Some(key.section()) {
            section = Some(key.section());
            let heading = match key.section() {
                "" => "## At the top".to_owned(),
                named => format!("## `[{named}]`"),
            };
            let _ = writeln!(
                out,
                "\n{heading}\n\n| key | environment | default | reload | |\n| --- | --- | --- | --- | --- |"
            );
        }
        let default = match key.default {
            "" => "not set".to_owned(),
            text => format!("`{}`", literal(key, text)),
        };
        let file = key
            .file_env()
            .map_or(String::new(), |file| format!(" or `{file}`"));
        let _ = writeln!(
            out,
            "| `{}` | `{}`{file} | {default} | {} | {} |",
            key.name(),
            key.env(),
            if key.live { "yes" } else { "no" },
            key.doc.replace('|', "\\|")
        );
    }
    out.push_str("\n## Identity providers\n\n```toml");
    for line in PROVIDERS.lines() {
        let _ = writeln!(out, "{line}");
    }
    out.push_str("```\n");
    out
}

const REFERENCE: &str = "\
# Configuration

`stack-gateway config reference` wrote this page, and a test holds it against the code.

A setting is taken from the first of these that has it: a flag of the command line, the environment, `stack.toml` (in the
working folder, or the file that `--config` or `STACK_CONFIG` names), its default. An empty variable counts as not set. The
whole is read and checked once: every fault is told at once, with where it stands and why it is one, and with a fault the
gateway does not start (exit code 2).

`stack-gateway config check` says whether it would start, files and folders among it, `config print` shows what is in force and where each value comes
from, `config default` writes a `stack.toml` of the defaults.

A secret can stand in a file of its own: the key with `_file` behind it (`jwt_secret_file`), or the variable with `_FILE`,
names it. Secrets are never printed.

`SIGHUP` and `stack-gateway reload` let a gateway or an edge read all of it again; the environment and the flags stay those of
its start. With a fault nothing changes, and every fault is told. What has changed and has *yes* under *reload* is in force
at once, for what begins from then on; the rest is told to need a restart, which is still so the next time. A gateway keeps
to what it is: whether there is TLS, and whether its certificate comes from files or by ACME, needs a restart whatever else
changes. An edge takes what is its own: addresses of proxies, the log, TLS, connections, `metrics.token` and the deadline.
";

/// What is in force, as a `stack.toml` that says beside each value where it came from.
#[must_use]
pub fn effective(inputs: &Inputs) -> String {
    let reader = Reader::open(inputs);
    // What is no good may be a secret in the wrong place.
    let faults = Config::load(inputs)
        .err()
        .map_or(Vec::new(), |faults| faults.0);
    let is_at_fault = |key: &str| faults.iter().any(|fault| fault.key == key);
    let mut out = String::new();
    write_all(&mut out, |key, out| {
        let _ = match reader.given().get(key.path) {
            Some(given) if is_at_fault(key.path) => {
                writeln!(out, "# {} is at fault  # {}", key.name(), given.source)
            }
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
    write_providers(&mut out, &reader, is_at_fault);
    out
}

fn write_providers(out: &mut String, reader: &Reader, is_at_fault: impl Fn(&str) -> bool) {
    for (name, keys) in reader.given_providers() {
        let _ = writeln!(out, "\n[{}.{}]", oauth::SECTION, quoted(name));
        for (key, given) in keys {
            let path = format!("{}.{name}.{key}", oauth::SECTION);
            let _ = match *key {
                _ if is_at_fault(&path) => writeln!(out, "# {key} is at fault  # {}", given.source),
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
        Kind::OneOrList if !text.contains(',') => quoted(text),
        Kind::List | Kind::OneOrList => {
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
        "proxy_protocol" | "trusted_proxies" => "10.0.0.0/8, ::1",
        "tls.acme.contact" => "ops@example.com",
        "tls.acme.domains" => "chat.example.com",
        "tls.redirect_listen" => "0.0.0.0:80",
        "cors.origins" => "https://app.example.com",
        "bus.publish" => "zmq+tcp://127.0.0.1:5557",
        "bus.subscribe" => "nng+ipc:///run/stack/bus.sock",
        "metrics.listen" => "127.0.0.1:9464",
        "log_dir" => "/var/log/stack",
        "trace.otlp_endpoint" => "http://localhost:4318/v1/traces",
        _ => "",
    }
}
