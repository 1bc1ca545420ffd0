//! Enciphering by age (age-encryption.org): whoever holds the secret key of one recipient opens it, and nobody else, the
//! gateway itself among them.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};

use super::BackupError;

/// How a file of age begins.
const SEALED: &[u8] = b"age-encryption.org/v1\n";
/// How a database begins.
const PLAIN: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// A file of keys that is longer holds something else.
const MAX_KEY_BYTES: u64 = 64 * 1024;
const SECRET: &str = "AGE-SECRET-KEY-1";

/// For whom a backup is enciphered; for nobody, it is plain.
#[derive(Clone)]
pub(crate) struct Recipients(Arc<[Recipient]>);

impl Recipients {
    pub(crate) fn new(recipients: &[Recipient]) -> Self {
        Self(recipients.into())
    }

    /// Whether there is one.
    pub(crate) fn seal_it(&self) -> bool {
        !self.0.is_empty()
    }

    /// Writes what `fill` writes, enciphered.
    pub(super) fn seal(
        &self,
        out: &mut dyn Write,
        fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if self.0.is_empty() {
            return fill(out);
        }
        let recipients = self.0.iter().map(|one| one as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
        let mut sealed = encryptor.wrap_output(out)?;
        fill(&mut sealed)?;
        sealed.finish()?;
        Ok(())
    }
}

/// The secret keys of a file.
pub(crate) struct Identities(Vec<Identity>);

impl Identities {
    /// No keys: what is enciphered stays closed.
    pub(crate) fn none() -> Self {
        Self(Vec::new())
    }

    /// The keys in a file as `age-keygen` writes it: one a line, lines with `#` in front beside them.
    pub(crate) fn of_file(path: &Path) -> Result<Self, BackupError> {
        let wrong = |reason: String| BackupError::Identity {
            path: path.display().to_string(),
            reason,
        };
        let mut text = String::new();
        let file = fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
        let read = file.take(MAX_KEY_BYTES).read_to_string(&mut text);
        read.map_err(|error| wrong(error.to_string()))?;
        let mut keys = Vec::new();
        for (line, key) in text.lines().map(str::trim).enumerate() {
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            // What stands there is a secret, so that none of it is repeated.
            let key = key.parse().map_err(|_| {
                let reason = match key.starts_with(SECRET) {
                    true => "this key is not whole",
                    false => "this is no secret key of age (AGE-SECRET-KEY-1…)",
                };
                wrong(format!("line {}: {reason}", line + 1))
            })?;
            keys.push(key);
        }
        match keys.is_empty() {
            true => Err(wrong("there is no key in it".to_owned())),
            false => Ok(Self(keys)),
        }
    }

    /// What a backup holds, and whether it was enciphered.
    pub(super) fn open(
        &self,
        mut input: Box<dyn Read + Send>,
    ) -> Result<(Box<dyn Read + Send>, bool), BackupError> {
        let mut front = Vec::new();
        let most = SEALED.len() as u64;
        let read = (&mut input).take(most).read_to_end(&mut front);
        read.map_err(BackupError::io("it cannot be read"))?;
        let is_sealed = front == SEALED;
        let is_plain = front.starts_with(PLAIN);
        let whole = Box::new(io::Cursor::new(front).chain(input));
        if is_plain {
            return Ok((whole, false));
        }
        if !is_sealed {
            return Err(BackupError::Foreign);
        }
        if self.0.is_empty() {
            return Err(BackupError::NoIdentity);
        }
        let decryptor = Decryptor::new(whole).map_err(sealed)?;
        let keys = self.0.iter().map(|key| key as &dyn age::Identity);
        let opened = decryptor.decrypt(keys).map_err(sealed)?;
        Ok((Box::new(opened), true))
    }
}

fn sealed(error: DecryptError) -> BackupError {
    match error {
        DecryptError::Io(source) => BackupError::io("it cannot be read")(source),
        error => BackupError::Sealed(error),
    }
}
