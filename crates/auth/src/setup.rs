//! The setup token: whoever has it makes the first admin. It stands in a file of the data folder that only the owner of
//! the folder can read, so that it can be told again, or replaced, while the gateway runs.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use stack_types::Timestamp;

use crate::keys::KeySource;
use crate::secret;

/// The token's file in the data directory.
const FILE: &str = "setup.json";
/// Reading stops here; a file of this size is not ours.
const MAX_FILE_BYTES: u64 = 1024;
/// How long a token is good.
const LIVES: Duration = Duration::from_secs(30 * 60);

/// A setup token.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetupToken {
    /// The token.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// The token's file cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} the setup file {path}")]
pub struct SetupFileError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Where the token is.
pub(crate) enum SetupPlace {
    File(PathBuf),
    Memory(Mutex<Option<SetupToken>>),
}

impl SetupToken {
    /// The token of a data folder: the one that is there, or a new one when that has ended or there is none.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn of_folder(folder: &Path, now: Timestamp) -> Result<Self, SetupFileError> {
        SetupPlace::File(folder.join(FILE)).live_or_new(now)
    }

    /// Whether a data folder has one: it is removed when the setup is claimed.
    #[must_use]
    pub fn is_in_folder(folder: &Path) -> bool {
        folder.join(FILE).exists()
    }

    fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }

    fn new(now: Timestamp) -> Result<Self, aws_lc_rs::error::Unspecified> {
        let mut token = [0u8; secret::SECRET_BYTES];
        rand::fill(&mut token)?;
        Ok(Self {
            token: secret::to_text(&token),
            expires_at: now.plus(LIVES),
        })
    }
}

impl SetupPlace {
    pub(crate) fn new(keys: &KeySource) -> Self {
        match keys {
            KeySource::Directory(folder) => Self::File(folder.join(FILE)),
            KeySource::Ephemeral => Self::Memory(Mutex::default()),
        }
    }

    /// The token that is there, or a new one when that has ended.
    pub(crate) fn live_or_new(&self, now: Timestamp) -> Result<SetupToken, SetupFileError> {
        if let Some(token) = self.read()?.filter(|token| token.is_live(now)) {
            return Ok(token);
        }
        let token = SetupToken::new(now)
            .map_err(|error| self.fault("make a token for", io::Error::other(error)))?;
        match self {
            Self::Memory(slot) => *slot.lock() = Some(token.clone()),
            Self::File(path) => {
                write(path, &token).map_err(|source| self.fault("write", source))?;
            }
        }
        Ok(token)
    }

    /// The fingerprint of the token, if `shown` is the one and has not ended.
    pub(crate) fn check(
        &self,
        shown: &str,
        now: Timestamp,
    ) -> Result<Option<String>, SetupFileError> {
        let token = self.read()?.filter(|token| token.is_live(now));
        let same = |token: &SetupToken| secret::same(token.token.as_bytes(), shown.as_bytes());
        Ok(token.filter(same).map(|token| fingerprint(&token)))
    }

    /// Whether the token of this fingerprint is still the one. It may have ended meanwhile.
    pub(crate) fn is_current(&self, fingerprint_of_it: &str) -> Result<bool, SetupFileError> {
        let token = self.read()?;
        Ok(token.is_some_and(|token| fingerprint(&token) == fingerprint_of_it))
    }

    /// Removes the token.
    pub(crate) fn forget(&self) -> Result<(), SetupFileError> {
        match self {
            Self::Memory(slot) => *slot.lock() = None,
            Self::File(path) => match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.fault("remove", error));
                }
                _ => {}
            },
        }
        Ok(())
    }

    /// The token that is there. A file that holds something else holds none: the next one replaces it.
    fn read(&self) -> Result<Option<SetupToken>, SetupFileError> {
        let path = match self {
            Self::Memory(slot) => return Ok(slot.lock().clone()),
            Self::File(path) => path,
        };
        let mut bytes = Vec::new();
        let read =
            fs::File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.fault("read", source)),
        }
    }

    fn fault(&self, what: &'static str, source: io::Error) -> SetupFileError {
        let path = match self {
            Self::Memory(_) => PathBuf::new(),
            Self::File(path) => path.clone(),
        };
        SetupFileError { what, path, source }
    }
}

fn fingerprint(token: &SetupToken) -> String {
    secret::to_text(&secret::fingerprint(token.token.as_bytes()))
}

/// Writes the whole token under another name first: a reader sees the old one or the new one.
fn write(path: &Path, token: &SetupToken) -> io::Result<()> {
    let mut suffix = [0u8; 8];
    rand::fill(&mut suffix).map_err(io::Error::other)?;
    let draft = path.with_extension(format!("{}.new", secret::to_text(&suffix)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft)?;
    let written = serde_json::to_vec(token)
        .map_err(io::Error::other)
        .and_then(|text| file.write_all(&text))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // What went wrong is told; the draft is in nobody's way.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn a_token_is_told_again_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let tell = |now| SetupToken::of_folder(folder.path(), now).unwrap().token;
        assert!(!SetupToken::is_in_folder(folder.path()));
        let first = tell(NOW);
        assert!(SetupToken::is_in_folder(folder.path()));
        assert_eq!(tell(NOW.plus(LIVES - Duration::from_millis(1))), first);
        assert_ne!(tell(NOW.plus(LIVES)), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let meta = fs::metadata(folder.path().join(FILE)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn only_the_token_itself_is_taken_and_only_while_it_lives() {
        let folder = tempfile::tempdir().unwrap();
        let place = SetupPlace::File(folder.path().join(FILE));
        assert_eq!(place.check("", NOW).unwrap(), None);
        let token = place.live_or_new(NOW).unwrap().token;
        let shown = place.check(&token, NOW).unwrap().unwrap();
        assert_eq!(place.check(&token, NOW.plus(LIVES)).unwrap(), None);
        assert_eq!(place.check(&token[1..], NOW).unwrap(), None);
        assert!(place.is_current(&shown).unwrap());
        place.live_or_new(NOW.plus(LIVES)).unwrap();
        assert!(!place.is_current(&shown).unwrap());
        place.forget().unwrap();
        place.forget().unwrap();
        assert_eq!(place.check(&token, NOW).unwrap(), None);
    }

    proptest! {
        #[test]
        fn any_file_is_answered(content in any::<Vec<u8>>()) {
            let folder = tempfile::tempdir().unwrap();
            let place = SetupPlace::File(folder.path().join(FILE));
            fs::write(folder.path().join(FILE), content).unwrap();
            prop_assert_eq!(place.check("", NOW).unwrap(), None);
            let token = place.live_or_new(NOW).unwrap().token;
            prop_assert!(place.check(&token, NOW).unwrap().is_some());
        }
    }
}
