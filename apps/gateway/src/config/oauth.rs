//! `[auth.oauth.<name>]`: identity providers. There may be any number of them, so that their settings are no rows of
//! the table of settings; their names are checked here. In the environment a provider's key is
//! `STACK_AUTH_OAUTH_<NAME>_<KEY>`, with `_` for the name's `-`.
//!
//! A provider with a fault stops the start: one that is left out in silence is a way in that somebody counts on, and
//! one that is half configured is a way in that nobody meant.

use std::collections::BTreeMap;
use std::fmt;

use super::layers::{Given, Reader};
use super::value::{Origin, Secret, Setting};

/// The section below which providers stand.
pub(super) const SECTION: &str = "auth.oauth";
const ENV_PREFIX: &str = "STACK_AUTH_OAUTH_";
const MAX_NAME_BYTES: usize = 32;
/// How we show who we are.
pub(super) const SECRET: &str = "client_secret";
/// Names a file that holds it.
pub(super) const SECRET_FILE: &str = "client_secret_file";
const KEYS: [&str; 8] = [
    "preset",
    "issuer",
    "client_id",
    SECRET,
    SECRET_FILE,
    "scopes",
    "title",
    "allow_registration",
];

/// A provider whose addresses and ways are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// github.com: OAuth without OpenID.
    Github,
    /// Google.
    Google,
    /// GitLab, also one's own.
    Gitlab,
    /// Discord: OAuth without OpenID.
    Discord,
}

impl Setting for Preset {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "github" => Ok(Self::Github),
            "google" => Ok(Self::Google),
            "gitlab" => Ok(Self::Gitlab),
            "discord" => Ok(Self::Discord),
            _ => Err(format!(
                "\"{text}\" is none of github, google, gitlab and discord"
            )),
        }
    }
}

/// An issuer's address: https, or http on this machine, for tests.
#[derive(Clone, PartialEq, Eq)]
pub struct Issuer(String);

impl Issuer {
    /// The address as it was given; providers compare it letter by letter.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Setting for Issuer {
    fn parse(text: &str) -> Result<Self, String> {
        let uri: http::Uri = text
            .parse()
            .map_err(|_| format!("\"{text}\" is not an address"))?;
        if uri.query().is_some() || text.contains('#') {
            return Err(format!("\"{text}\" has a query or a fragment"));
        }
        let scheme = uri.scheme_str().unwrap_or_default();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let origin = Origin::parse(&format!("{scheme}://{authority}"))?;
        if origin.is_https() || origin.is_loopback() {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "\"{text}\" is plain HTTP; whoever is on the way could sign in as anybody"
            ))
        }
    }
}

/// An identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OauthProvider {
    /// What it is called in addresses.
    pub name: String,
    /// What people see.
    pub title: String,
    /// Which one it is, if it is one that is known.
    pub preset: Option<Preset>,
    /// Its issuer, from which the rest is discovered. There is one unless there is a preset that needs none.
    pub issuer: Option<Issuer>,
    /// Who we are there.
    pub client_id: String,
    /// How we show it.
    pub client_secret: Secret,
    /// What is asked for; empty for what the preset or OpenID asks for.
    pub scopes: Vec<String>,
    /// Whether somebody who is new may make an account by signing in there.
    pub allow_registration: bool,
}

/// What was given for providers: by name, by key.
pub(super) type Providers = BTreeMap<String, BTreeMap<&'static str, Given>>;

/// A provider's name and key out of a variable's name, if it is one.
pub(super) fn of_variable(variable: &str) -> Option<Result<(String, &'static str), String>> {
    let rest = variable.strip_prefix(ENV_PREFIX)?.to_ascii_lowercase();
    let found = KEYS.iter().find_map(|key| {
        let name = rest.strip_suffix(key)?.strip_suffix('_')?;
        Some((name.replace('_', "-"), *key))
    });
    Some(found.ok_or_else(|| format!("a provider has no such setting; it has {}", KEYS.join(", "))))
}

/// A provider's key by its name.
pub(super) fn key(name: &str) -> Result<&'static str, String> {
    let known = KEYS.iter().find(|key| **key == name);
    known
        .copied()
        .ok_or_else(|| format!("a provider has no such setting; it has {}", KEYS.join(", ")))
}

/// The providers in the order of their names.
pub(super) fn read(reader: &mut Reader) -> Vec<OauthProvider> {
    let given = std::mem::take(reader.providers());
    let mut providers = Vec::new();
    for (name, keys) in given {
        providers.extend(provider(reader, &name, &keys));
    }
    providers
}

fn provider(
    reader: &mut Reader,
    name: &str,
    keys: &BTreeMap<&'static str, Given>,
) -> Option<OauthProvider> {
    let path = |key: &str| format!("{SECTION}.{name}.{key}");
    let somewhere = keys.values().next()?.source.clone();
    let sane = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(sane) {
        let reason = "a provider's name is 1 to 32 characters of a-z, 0-9 and -";
        reader.fault_in(&somewhere, &format!("{SECTION}.{name}"), reason.to_owned());
        return None;
    }
    let required = |reader: &mut Reader, key: &'static str| {
        let text = keys.get(key).map(|given| given.text.clone());
        let text = text.filter(|text| !text.is_empty());
        if text.is_none() {
            reader.fault_in(&somewhere, &path(key), "must be set".to_owned());
        }
        text
    };
    let client_id = required(reader, "client_id");
    let client_secret = required(reader, "client_secret");
    let preset = value::<Preset>(reader, keys, "preset", &path("preset"));
    let issuer = value::<Issuer>(reader, keys, "issuer", &path("issuer"));
    let allow = value::<bool>(
        reader,
        keys,
        "allow_registration",
        &path("allow_registration"),
    );
    let needs = match (
        preset,
        keys.contains_key("preset"),
        keys.contains_key("issuer"),
    ) {
        (_, false, false) => Some("either preset or issuer must be set"),
        (Some(Preset::Github | Preset::Discord | Preset::Google), _, true) => {
            Some("this preset has an issuer of its own")
        }
        _ => None,
    };
    if let Some(reason) = needs {
        reader.fault_in(&somewhere, &path("issuer"), reason.to_owned());
        return None;
    }
    let text = |key: &str| keys.get(key).map(|given| given.text.as_str());
    Some(OauthProvider {
        name: name.to_owned(),
        title: text("title").unwrap_or(name).to_owned(),
        preset,
        issuer,
        client_id: client_id?,
        client_secret: Secret::from(client_secret?),
        scopes: text("scopes")
            .unwrap_or_default()
            .split([',', ' '])
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect(),
        allow_registration: allow.unwrap_or(true),
    })
}

fn value<T: Setting>(
    reader: &mut Reader,
    keys: &BTreeMap<&'static str, Given>,
    key: &str,
    path: &str,
) -> Option<T> {
    let given = keys.get(key)?;
    match T::parse(&given.text) {
        Ok(value) => Some(value),
        Err(reason) => {
            reader.fault_in(&given.source, path, reason);
            None
        }
    }
}

/// A value of a file as the environment would have given it.
pub(super) fn text_of(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Boolean(flag) => Ok(flag.to_string()),
        toml::Value::Array(items) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| "must be an array of strings".to_owned())
            })
            .collect::<Result<Vec<_>, _>>()
            .map(|items| items.join(",")),
        _ => Err("must be a string, an array of strings, or true or false".to_owned()),
    }
}
