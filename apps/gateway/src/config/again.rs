//! What a configuration was made from, so that it can be read again, and what has changed since.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;

use super::key::{self, KEYS};
use super::layers::{Inputs, Reader};
use super::oauth;

/// Settings that name a file which is read at the start and never again: what is in it counts as part of the setting.
const READ_ONCE: [&str; 7] = [
    "tls.acme.ca",
    "bus.curve_secret_key_file",
    "bus.curve_authorized_keys_file",
    "edge.tls_cert",
    "edge.tls_key",
    "edge.client_ca",
    "edge.origin_ca",
];

/// The layers that a configuration was read from, and what each setting said there.
#[derive(Clone, Default)]
pub struct Layers {
    inputs: Inputs,
    /// By the setting's whole name; what stands at its default is not here.
    said: BTreeMap<String, Said>,
}

/// What a setting said. It may be a secret.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    text: String,
    /// Of the file that it names.
    content: Option<u64>,
}

impl Said {
    fn by_default(path: &str) -> Self {
        let text = key::find(path).map_or("", |key| key.default).to_owned();
        Self {
            text,
            content: None,
        }
    }
}

impl Layers {
    /// To be called before the reader gives its providers away.
    pub(super) fn of(inputs: &Inputs, reader: &Reader) -> Self {
        let settings = reader.given().iter().map(|(path, given)| {
            let is_read_once = READ_ONCE.contains(path);
            let content = is_read_once.then(|| fingerprint(&given.text)).flatten();
            let text = given.text.clone();
            ((*path).to_owned(), Said { text, content })
        });
        let providers = reader.given_providers().iter().flat_map(|(name, keys)| {
            keys.iter().map(move |(key, given)| {
                let path = format!("{}.{name}.{key}", oauth::SECTION);
                let text = given.text.clone();
                (
                    path,
                    Said {
                        text,
                        content: None,
                    },
                )
            })
        });
        let mut inputs = inputs.clone();
        // What was there at the start has to be there again: nobody means the defaults by a file that is gone.
        inputs.config_file = inputs.config_file.or(reader.file().map(Path::to_owned));
        Self {
            inputs,
            said: settings.chain(providers).collect(),
        }
    }

    /// Where to read again.
    pub(crate) fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// Settings that say something else there than here, in the order of the documentation; providers last.
    pub(crate) fn changed(&self, there: &Self) -> Vec<String> {
        let providers: BTreeSet<_> = (self.said.keys().chain(there.said.keys()))
            .filter(|path| key::find(path).is_none())
            .collect();
        let settings = KEYS.iter().map(|key| key.path);
        settings
            .chain(providers.into_iter().map(String::as_str))
            .filter(|path| self.of_setting(path) != there.of_setting(path))
            .map(str::to_owned)
            .collect()
    }

    /// This setting now says what it says there.
    pub(crate) fn adopt(&mut self, path: &str, there: &Self) {
        match there.said.get(path) {
            Some(said) => self.said.insert(path.to_owned(), said.clone()),
            None => self.said.remove(path),
        };
    }

    fn of_setting(&self, path: &str) -> Said {
        let said = self.said.get(path).cloned();
        said.unwrap_or_else(|| Said::by_default(path))
    }
}

/// What is in a file, as far as it tells one content from another in this process.
fn fingerprint(file: &str) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read(file).ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

/// There are secrets in it.
impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layers(…)")
    }
}

/// Whether a change of this setting can come into force while the gateway runs.
pub(crate) fn is_live(path: &str) -> bool {
    key::find(path).is_some_and(|key| key.live)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(pairs: &[(&str, &str)]) -> Layers {
        let said = |(path, text): &(&str, &str)| {
            let (text, content) = ((*text).to_owned(), None);
            ((*path).to_owned(), Said { text, content })
        };
        Layers {
            inputs: Inputs::default(),
            said: pairs.iter().map(said).collect(),
        }
    }

    #[test]
    fn each_setting_that_says_something_else_is_told_once() {
        for key in KEYS {
            let other = layers(&[(key.path, "something else")]);
            assert_eq!(Layers::default().changed(&other), [key.path]);
            assert_eq!(other.changed(&Layers::default()), [key.path]);
            // What is said is what counts, not where.
            let the_same = layers(&[(key.path, key.default)]);
            assert!(Layers::default().changed(&the_same).is_empty());
            let mut adopted = Layers::default();
            adopted.adopt(key.path, &other);
            assert!(adopted.changed(&other).is_empty());
        }
    }

    #[test]
    fn providers_come_and_go() {
        let one = layers(&[("auth.oauth.github.title", "GitHub"), ("log", "debug")]);
        let other = layers(&[("auth.oauth.company.title", "Ours")]);
        let expected = ["log", "auth.oauth.company.title", "auth.oauth.github.title"];
        assert_eq!(one.changed(&other), expected);
        assert!(!is_live("auth.oauth.github.title"));
    }

    #[test]
    fn what_is_in_a_file_that_is_read_once_is_part_of_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let read = || {
            let inputs = Inputs {
                env: vec![(
                    "STACK_EDGE_CLIENT_CA".to_owned(),
                    file.to_str().unwrap().to_owned(),
                )],
                ..Inputs::default()
            };
            Layers::of(&inputs, &Reader::open(&inputs))
        };
        std::fs::write(&file, "one").unwrap();
        let before = read();
        assert!(before.changed(&read()).is_empty());
        std::fs::write(&file, "another").unwrap();
        assert_eq!(before.changed(&read()), ["edge.client_ca"]);
    }

    #[test]
    fn nothing_of_it_is_shown() {
        let shown = format!("{:?}", layers(&[("auth.jwt_secret", "hunter2")]));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
