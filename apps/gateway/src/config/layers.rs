//! The layers a setting can come from, and the reader that takes the topmost and collects faults.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::key::{self, KEYS, Kind};
use super::oauth::{self, Providers};
use super::value::Setting;

/// Names the file; it is no setting itself.
const FILE_VARIABLE: &str = "STACK_CONFIG";

/// A secret's key or variable with this behind it names a file that holds the secret.
pub(super) const FILE_SUFFIX: &str = "_file";

/// A file that is longer holds something else than a secret.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Where a setting can come from. A test makes one; `main` fills it from the process.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The file that was asked for. It has to be readable.
    pub config_file: Option<PathBuf>,
    /// The file that is read if it is there and none was asked for.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// Flags of the command line.
    pub flags: Vec<Flag>,
    /// Whether certificates and their keys stay unread: who does not serve does not need them, and may have to put right
    /// what is wrong with them.
    pub leaves_certificates: bool,
}

/// A setting given as a flag.
#[derive(Debug, Clone)]
pub struct Flag {
    /// The setting's key, e.g. `data_dir`.
    pub key: &'static str,
    /// The flag, e.g. `--data-dir`.
    pub name: &'static str,
    /// What was given.
    pub value: String,
}

impl Inputs {
    /// The environment of this process and `stack.toml` in its folder. A variable of ours that is not UTF-8 is kept
    /// with its bad bytes replaced, and found faulty like any other bad value.
    #[must_use]
    pub fn of_process(config_file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        let env: Vec<_> = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let by_variable = env
            .iter()
            .find(|(name, value)| name == FILE_VARIABLE && !value.is_empty());
        let config_file = config_file.or_else(|| by_variable.map(|(_, path)| PathBuf::from(path)));
        Self {
            config_file,
            default_file: Some(PathBuf::from("stack.toml")),
            env,
            flags,
            leaves_certificates: false,
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Default,
    /// With the line, where one is to blame.
    File(PathBuf, Option<usize>),
    Env(String),
    Flag(&'static str),
}

/// In which order faults are told: the file from its top to its end, then the environment, then flags.
type Place = (u8, usize);

impl Source {
    fn place(&self) -> Place {
        match self {
            Self::File(_, line) => (0, line.unwrap_or(0)),
            Self::Env(_) => (1, 0),
            Self::Flag(_) => (2, 0),
            Self::Default => (3, 0),
        }
    }

    /// Whether both stand in the same layer.
    fn is_beside(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Env(_), Self::Env(_)) | (Self::File(..), Self::File(..))
        ) || self == other
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, None) => write!(f, "file {}", path.display()),
            Self::File(path, Some(line)) => write!(f, "file {}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing wrong with the configuration. Displayed: source, key, reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, variable or flag.
    pub source: String,
    /// The setting; empty when the whole file is at fault.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.reason)
        } else {
            write!(f, "{}: {}: {}", self.source, self.key, self.reason)
        }
    }
}

/// Everything wrong with the configuration; at least one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => write!(f, "the configuration has a fault")?,
            count => write!(f, "the configuration has {count} faults")?,
        }
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl Error for Faults {}

/// A value as it was given, on its way to its type.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
}

/// Takes the topmost value of each setting.
#[derive(Debug, Default)]
pub(super) struct Reader {
    given: BTreeMap<&'static str, Given>,
    providers: Providers,
    faults: Vec<(Place, Fault)>,
    /// The file that was read, if one was.
    file: Option<PathBuf>,
    leaves_certificates: bool,
    warnings: Vec<String>,
}

impl Reader {
    /// A reader of the defaults alone.
    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// Collects every layer. Later layers lie on top of earlier ones.
    pub(super) fn open(inputs: &Inputs) -> Self {
        let mut reader = Self::empty();
        reader.add_file(inputs);
        reader.leaves_certificates = inputs.leaves_certificates;
        reader.add_env(&inputs.env);
        for flag in &inputs.flags {
            reader.give(flag.key, flag.value.clone(), Source::Flag(flag.name));
        }
        reader
    }

    /// The file that was read, if one was.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What was given for identity providers.
    pub(super) fn providers(&mut self) -> &mut Providers {
        &mut self.providers
    }

    /// The same, to look at.
    pub(super) fn given_providers(&self) -> &Providers {
        &self.providers
    }

    /// Whether certificates and their keys stay unread.
    pub(super) fn leaves_certificates(&self) -> bool {
        self.leaves_certificates
    }

    /// The topmost given value of each setting.
    pub(super) fn given(&self) -> &BTreeMap<&'static str, Given> {
        &self.given
    }

    /// The value of a setting, or its default when it is not set or at fault.
    pub(super) fn get<T: Setting>(&mut self, path: &'static str) -> T {
        self.get_set(path).unwrap_or_else(|| {
            let default = key::find(path).map_or("", |key| key.default);
            T::parse(default)
                .unwrap_or_else(|reason| unreachable!("the default of {path}: {reason}"))
        })
    }

    /// The value of a setting, if it is set and not at fault.
    pub(super) fn get_set<T: Setting>(&mut self, path: &'static str) -> Option<T> {
        debug_assert!(key::find(path).is_some(), "{path} is not in the table");
        let given = self.given.get(path)?;
        match T::parse(&given.text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.fault(path, reason);
                None
            }
        }
    }

    /// A whole number within a range.
    pub(super) fn between(&mut self, path: &'static str, range: RangeInclusive<usize>) -> usize {
        let value = self.get(path);
        if !range.contains(&value) {
            self.fault(
                path,
                format!(
                    "{value} is not between {} and {}",
                    range.start(),
                    range.end()
                ),
            );
        }
        value
    }

    /// A duration in whole seconds within a range.
    pub(super) fn seconds(&mut self, path: &'static str, range: RangeInclusive<u64>) -> Duration {
        let value = self.get(path);
        if !range.contains(&value) {
            self.fault(
                path,
                format!(
                    "{value} seconds are not between {} and {}",
                    range.start(),
                    range.end()
                ),
            );
        }
        Duration::from_secs(value)
    }

    /// Notes that the value of this setting cannot be, wherever it came from.
    pub(super) fn fault(&mut self, path: &str, reason: String) {
        let source = self
            .given
            .get(path)
            .map_or(Source::Default, |given| given.source.clone());
        self.fault_in(&source, path, reason);
    }

    /// What is not as it should be and no fault.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }

    /// All faults, if there is one.
    pub(super) fn finish(self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            let mut faults = self.faults;
            faults.sort_by_key(|(place, _)| *place);
            Err(Faults(faults.into_iter().map(|(_, fault)| fault).collect()))
        }
    }

    pub(super) fn fault_in(&mut self, source: &Source, key: &str, reason: String) {
        let fault = Fault {
            source: source.to_string(),
            key: key.to_owned(),
            reason,
        };
        self.faults.push((source.place(), fault));
    }

    fn give(&mut self, path: &'static str, text: String, source: Source) {
        self.given.insert(path, Given { text, source });
    }

    /// Takes a secret from a file that `key` names. Beside the secret itself in the same layer there would be two.
    fn give_from_file(&mut self, path: &'static str, key: &str, file: &str, source: Source) {
        if self
            .given
            .get(path)
            .is_some_and(|given| given.source.is_beside(&source))
        {
            return self.fault_in(&source, key, format!("{path} is set as well"));
        }
        match read_secret(Path::new(file)) {
            Ok(secret) => {
                self.warn_if_open(path, Path::new(file));
                self.give(path, secret, source);
            }
            Err(reason) => self.fault_in(&source, key, reason),
        }
    }

    /// A secret that everybody on this machine can read is hardly one. It may be wanted so in a container.
    fn warn_if_open(&mut self, key: &str, file: &Path) {
        #[cfg(unix)]
        if fs::metadata(file).is_ok_and(|metadata| {
            std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o004 != 0
        }) {
            let file = file.display();
            let warning = format!("{key}: everybody on this machine can read {file}");
            self.warnings.push(warning);
        }
    }

    fn add_file(&mut self, inputs: &Inputs) {
        let Some((path, text)) = self.read_file(inputs) else {
            return;
        };
        self.file = Some(path.clone());
        let (table, errors) = DeTable::parse_recoverable(&text);
        let lines = Lines::of(path, &text, &table);
        // The first of a line; what else is wrong with it mostly follows from that, as does what it seems to say.
        let mut torn = BTreeSet::new();
        for error in &errors {
            let line = error.span().map(|span| lines.number(span.start));
            if torn.insert(line) {
                let source = Source::File(lines.path.clone(), line);
                self.fault_in(&source, "", error.message().to_owned());
            }
        }
        let table = self.values(&lines, &torn, "", table.into_inner());
        self.add_table(&lines, "", &table);
    }

    /// What a table holds, without what stands on a line that could not be read, or is no value.
    fn values(
        &mut self,
        lines: &Lines<'_>,
        torn: &BTreeSet<Option<usize>>,
        prefix: &str,
        table: DeTable<'_>,
    ) -> toml::Table {
        let mut values = toml::Table::new();
        for (key, value) in table {
            let name = key.into_inner();
            let path = below(prefix, &name);
            let value = if value.get_ref().is_table() {
                let DeValue::Table(table) = value.into_inner() else {
                    continue;
                };
                toml::Value::Table(self.values(lines, torn, &path, table))
            } else if torn.contains(&lines.of.get(&path).copied()) {
                continue;
            } else {
                let is_number = value.get_ref().is_integer();
                match toml::Value::deserialize(ValueDeserializer::from(value)) {
                    Ok(value) => value,
                    Err(error) => {
                        let reason = match is_number {
                            true => "the number is too large",
                            false => error.message(),
                        };
                        self.fault_in(&lines.source(&path), &path, reason.to_owned());
                        continue;
                    }
                }
            };
            values.insert(name.into_owned(), value);
        }
        values
    }

    fn read_file(&mut self, inputs: &Inputs) -> Option<(PathBuf, String)> {
        let asked_for = inputs.config_file.is_some();
        let path: &Path = inputs
            .config_file
            .as_ref()
            .or(inputs.default_file.as_ref())?;
        match fs::read_to_string(path) {
            Ok(text) => Some((path.to_owned(), text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !asked_for => None,
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::InvalidData => "is not text in UTF-8".to_owned(),
                    _ => format!("cannot be read: {error}"),
                };
                self.fault_in(&Source::File(path.to_owned(), None), "", reason);
                None
            }
        }
    }

    fn add_table(&mut self, lines: &Lines, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let path = below(prefix, name);
            let source = &lines.source(&path);
            if path == oauth::SECTION {
                self.add_providers(lines, value);
                continue;
            }
            if let Some(key) = path.strip_suffix(FILE_SUFFIX).and_then(key::find_secret) {
                match text_of(Kind::Text, value) {
                    Ok(file) => self.give_from_file(key.path, &path, &file, source.clone()),
                    Err(reason) => self.fault_in(source, &path, reason),
                }
                continue;
            }
            match (key::find(&path), value) {
                (Some(key), value) => match text_of(key.kind, value) {
                    Ok(text) => self.give(key.path, text, source.clone()),
                    Err(reason) => self.fault_in(source, key.path, reason),
                },
                (None, toml::Value::Table(section)) if is_section(&path) => {
                    self.add_table(lines, &path, section)
                }
                (None, _) => self.fault_in(source, &path, unknown(&path)),
            }
        }
    }

    fn add_providers(&mut self, lines: &Lines, section: &toml::Value) {
        let reason = "must be sections such as [auth.oauth.example]";
        let Some(section) = section.as_table() else {
            let source = lines.source(oauth::SECTION);
            return self.fault_in(&source, oauth::SECTION, reason.to_owned());
        };
        for (name, provider) in section {
            let path = format!("{}.{name}", oauth::SECTION);
            let Some(provider) = provider.as_table() else {
                self.fault_in(&lines.source(&path), &path, reason.to_owned());
                continue;
            };
            for (key, value) in provider {
                let source = lines.source(&format!("{path}.{key}"));
                match oauth::key(key).and_then(|key| Ok((key, oauth::text_of(value)?))) {
                    Ok((key, text)) => self.give_provider(name, key, text, source),
                    Err(reason) => self.fault_in(&source, &format!("{path}.{key}"), reason),
                }
            }
        }
    }

    fn give_provider(&mut self, name: &str, key: &'static str, text: String, source: Source) {
        let (key, text) = if key == oauth::SECRET_FILE {
            let path = format!("{}.{name}.{key}", oauth::SECTION);
            let set = self
                .providers
                .get(name)
                .and_then(|keys| keys.get(oauth::SECRET));
            if set.is_some_and(|given| given.source.is_beside(&source)) {
                return self.fault_in(&source, &path, "client_secret is set as well".to_owned());
            }
            match read_secret(Path::new(&text)) {
                Ok(secret) => {
                    self.warn_if_open(&path, Path::new(&text));
                    (oauth::SECRET, secret)
                }
                Err(reason) => return self.fault_in(&source, &path, reason),
            }
        } else {
            (key, text)
        };
        let keys = self.providers.entry(name.to_owned()).or_default();
        keys.insert(key, Given { text, source });
    }

    fn add_env(&mut self, env: &[(String, String)]) {
        let names: BTreeMap<String, &'static key::Key> =
            KEYS.iter().map(|key| (key.env(), key)).collect();
        let files: BTreeMap<String, &'static key::Key> = KEYS
            .iter()
            .filter_map(|key| Some((key.file_env()?, key)))
            .collect();
        // Files last, whatever the order of the environment: each sees whether its secret is set as well.
        let (files_given, env): (Vec<_>, Vec<_>) = env
            .iter()
            .partition(|(name, _)| name.to_ascii_lowercase().ends_with(FILE_SUFFIX));
        let env = env.into_iter().chain(files_given);
        for (name, value) in env {
            // An empty variable is how a compose file or a shell says "not set".
            if value.is_empty() {
                continue;
            }
            let source = Source::Env(name.clone());
            if let Some(key) = names.get(name) {
                self.give(key.path, value.clone(), source);
            } else if let Some(key) = files.get(name) {
                self.give_from_file(key.path, "", value, source);
            } else if let Some(found) = oauth::of_variable(name) {
                match found {
                    Ok((provider, key)) => {
                        self.give_provider(&provider, key, value.clone(), source)
                    }
                    Err(reason) => self.fault_in(&source, "", reason),
                }
            } else if let Some(reason) = suspicious_variable(name, names.keys().chain(files.keys()))
            {
                self.fault_in(&source, "", reason);
            }
        }
    }
}

/// Where in a file a setting stands.
struct Lines<'t> {
    path: PathBuf,
    text: &'t str,
    /// By the setting's whole name.
    of: BTreeMap<String, usize>,
}

impl<'t> Lines<'t> {
    fn of(path: PathBuf, text: &'t str, table: &Spanned<DeTable<'_>>) -> Self {
        let of = BTreeMap::new();
        let mut lines = Self { path, text, of };
        lines.add("", table.get_ref());
        lines
    }

    fn add(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = below(prefix, key.get_ref());
            if let Some(table) = value.get_ref().as_table() {
                self.add(&name, table);
            }
            self.of.insert(name, self.number(key.span().start));
        }
    }

    fn number(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or("");
        before.matches('\n').count() + 1
    }

    fn source(&self, setting: &str) -> Source {
        Source::File(self.path.clone(), self.of.get(setting).copied())
    }
}

fn below(section: &str, name: &str) -> String {
    match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    }
}

/// A secret as a file holds it, without the line end that editors put behind it.
fn read_secret(file: &Path) -> Result<String, String> {
    let cannot = |error: io::Error| format!("{} cannot be read: {error}", file.display());
    // A pipe or a device might never end.
    let metadata = fs::metadata(file).map_err(cannot)?;
    if !metadata.is_file() || metadata.len() > MAX_SECRET_BYTES {
        return Err(format!(
            "{} is not a file that holds a secret",
            file.display()
        ));
    }
    let text = fs::read_to_string(file).map_err(cannot)?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    Ok(secret.to_owned())
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| {
        let below = key.path.strip_prefix(path);
        below.is_some_and(|below| below.starts_with('.'))
    })
}

/// A TOML value as the text that the environment would have given, if it is of the right kind.
fn text_of(kind: Kind, value: &toml::Value) -> Result<String, String> {
    match (kind, value) {
        (Kind::Text | Kind::Secret, toml::Value::String(text)) => Ok(text.clone()),
        (Kind::Bare, toml::Value::Integer(number)) => Ok(number.to_string()),
        (Kind::Bare, toml::Value::Boolean(flag)) => Ok(flag.to_string()),
        (Kind::OneOrList, toml::Value::String(text)) => Ok(text.clone()),
        (Kind::List | Kind::OneOrList, toml::Value::Array(items)) => items
            .iter()
            .map(|item| {
                item.as_str()
                    .ok_or_else(|| "must be an array of strings".to_owned())
            })
            .collect::<Result<Vec<_>, _>>()
            .map(|items| items.join(",")),
        (Kind::Text | Kind::Secret, _) => Err("must be a string".into()),
        (Kind::Bare, _) => Err("must be a number, or true or false, without quotes".into()),
        (Kind::List, _) => Err("must be an array of strings".into()),
        (Kind::OneOrList, _) => Err("must be a string or an array of strings".into()),
    }
}

fn unknown(path: &str) -> String {
    let path = path.to_ascii_lowercase();
    let sections = KEYS.iter().map(|key| key.section());
    let known = KEYS.iter().map(|key| key.path).chain(sections);
    // In the wrong section, or in none.
    let last = path.rsplit('.').next();
    let elsewhere = || KEYS.iter().find(|key| key.path.rsplit('.').next() == last);
    let near = nearest(&path, known.filter(|known| !known.is_empty()));
    match near.or_else(|| elsewhere().map(|key| key.path)) {
        Some(section) if is_section(section) => {
            format!("unknown setting; did you mean the section [{section}]?")
        }
        Some(known) => format!("unknown setting; did you mean {known}?"),
        None => "unknown setting".into(),
    }
}

/// Why a variable that is none of ours is a fault all the same. The prefix is not ours alone (Haskell's build tool has
/// `STACK_ROOT`, Kubernetes names variables after a service), so that only what is clearly meant for the gateway is
/// refused: a name in one of its sections or behind one of its settings, or a slip of the pen.
fn suspicious_variable<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    if name == FILE_VARIABLE {
        return None;
    }
    let known: Vec<_> = known.map(String::as_str).collect();
    let told = |known| format!("unknown variable; did you mean {known}?");
    if name.starts_with("AUTH_") {
        return nearest(name, known.into_iter()).map(told);
    }
    let rest = name.strip_prefix("STACK_")?;
    let in_section = KEYS
        .iter()
        .map(|key| key.section())
        .filter(|section| !section.is_empty())
        .any(|section| {
            rest.to_ascii_lowercase()
                .strip_prefix(section)
                .is_some_and(|tail| tail.starts_with('_'))
        });
    // Such as `STACK_LOG_LEVEL`, of what others call the setting.
    let behind = |known: &&str| {
        let tail = name.strip_prefix(known);
        tail.is_some_and(|tail| tail.starts_with('_'))
    };
    let near = nearest(name, known.iter().copied());
    let longest = || {
        known
            .iter()
            .copied()
            .filter(behind)
            .max_by_key(|known| known.len())
    };
    match near.or_else(longest) {
        Some(known) => Some(told(known)),
        None if in_section => Some("unknown variable".into()),
        None => None,
    }
}

/// The known name that differs by at most two letters.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const SLIPS: usize = 2;
    known
        .map(|known| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= SLIPS)
        .min()
        .map(|(_, known)| known)
}

/// How many letters have to be put in, left out or changed to make one word of the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
