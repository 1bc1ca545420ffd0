//! The keys of the gateway. One 256-bit master key is generated at the first start and kept in a file of the
//! data directory; every other key is derived from it by HKDF, each for one purpose, so that no key is ever used
//! for two things. With `AUTH_JWT_SECRET` the access tokens are signed with that secret instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hkdf, hmac, rand};

use crate::sealed::Sealer;
use crate::secret;

/// The master key's file in the data directory: 43 characters of base 64 and a line feed.
const FILE: &str = "auth.key";
/// Reading stops here; a file of this size is not ours.
const MAX_FILE_BYTES: u64 = 256;
/// HS256 with a shorter key can be searched.
const MIN_JWT_SECRET_BYTES: usize = 32;

/// Where the master key is.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// In the file `auth.key` of this folder, generated (mode 0600) when it is missing. The folder must exist.
    Directory(PathBuf),
    /// In memory: every token is void after a restart. For tests.
    Ephemeral,
}

/// The keys cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot {what} the key file {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{0} does not hold a 256-bit key; move it away to have a new one made, which signs everybody out"
    )]
    Malformed(PathBuf),
    /// `AUTH_JWT_SECRET` is too short.
    #[error("the token secret has {0} bytes, at least {MIN_JWT_SECRET_BYTES} are needed")]
    SecretTooShort(usize),
    /// The cryptographic library refused.
    #[error("cannot make keys")]
    Crypto(#[from] Unspecified),
}

/// The derived keys.
pub(crate) struct Keys {
    /// Signs access tokens.
    pub(crate) access: Vec<u8>,
    /// Derives a refresh token's successor.
    pub(crate) successor: hmac::Key,
    /// Marks refresh tokens as ours.
    pub(crate) refresh_tag: hmac::Key,
    /// Marks CSRF tokens as ours.
    pub(crate) csrf: hmac::Key,
    /// Seals secrets that are needed again.
    pub(crate) sealer: Sealer,
    /// Hashes recovery codes, which are too short for a hash without a key.
    pub(crate) recovery_codes: hmac::Key,
    /// Makes up the passkeys of those who are not there.
    pub(crate) decoys: hmac::Key,
}

impl Keys {
    /// Reads or makes the master key and derives the others.
    pub(crate) fn load(source: &KeySource, jwt_secret: Option<&[u8]>) -> Result<Self, KeyError> {
        if let Some(secret) = jwt_secret
            && secret.len() < MIN_JWT_SECRET_BYTES
        {
            return Err(KeyError::SecretTooShort(secret.len()));
        }
        let master = match source {
            KeySource::Directory(folder) => read_or_create(folder)?,
            KeySource::Ephemeral => generate()?,
        };
        let derive = |purpose: &[u8]| derive(&master, purpose);
        let hmac_key =
            |purpose: &[u8]| derive(purpose).map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        Ok(Self {
            access: match jwt_secret {
                Some(secret) => secret.to_vec(),
                None => derive(b"access token v1")?.to_vec(),
            },
            successor: hmac_key(b"refresh successor v1")?,
            refresh_tag: hmac_key(b"refresh tag v1")?,
            csrf: hmac_key(b"csrf v1")?,
            sealer: Sealer::new(&derive(b"secrets at rest v1")?)?,
            recovery_codes: hmac_key(b"recovery code v1")?,
            decoys: hmac_key(b"passkey decoy v1")?,
        })
    }
}

fn generate() -> Result<[u8; 32], Unspecified> {
    let mut master = [0u8; 32];
    rand::fill(&mut master)?;
    Ok(master)
}

fn derive(master: &[u8; 32], purpose: &[u8]) -> Result<[u8; 32], Unspecified> {
    let mut key = [0u8; 32];
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"stack auth")
        .extract(master)
        .expand(&[purpose], hkdf::HKDF_SHA256)?
        .fill(&mut key)?;
    Ok(key)
}

fn read_or_create(folder: &Path) -> Result<[u8; 32], KeyError> {
    let path = folder.join(FILE);
    if let Some(master) = read(&path)? {
        return Ok(master);
    }
    create(folder, &path, &generate()?)?;
    // What counts is what is in the file: somebody else may have been first.
    read(&path)?.ok_or(KeyError::Malformed(path))
}

fn read(path: &Path) -> Result<Option<[u8; 32]>, KeyError> {
    let mut text = String::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(file_error("open", path, source)),
    };
    warn_when_exposed(&file, path);
    match file.take(MAX_FILE_BYTES).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(KeyError::Malformed(path.to_owned()));
        }
        Err(source) => return Err(file_error("read", path, source)),
    }
    secret::from_text(text.trim_end())
        .map(Some)
        .ok_or_else(|| KeyError::Malformed(path.to_owned()))
}

/// Writes the whole key under another name first and then links it to its own: a crash leaves either no key file
/// or a whole one, and a file that is there is never replaced.
fn create(folder: &Path, path: &Path, master: &[u8; 32]) -> Result<(), KeyError> {
    let mut suffix = [0u8; 8];
    rand::fill(&mut suffix)?;
    let draft = folder.join(format!("{FILE}.{}.new", secret::to_text(&suffix)));
    let written = write_new(&draft, format!("{}\n", secret::to_text(master)).as_bytes());
    let linked = written.and_then(|()| match fs::hard_link(&draft, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    });
    let removed = fs::remove_file(&draft);
    linked
        .and(removed)
        .and_then(|()| sync_folder(folder))
        .map_err(|source| file_error("create", path, source))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Volumes of container platforms come with modes of their own, so that a wide mode is told and not refused.
#[cfg(unix)]
fn warn_when_exposed(file: &File, path: &Path) {
    use std::os::unix::fs::PermissionsExt;

    let mode = file
        .metadata()
        .map(|meta| meta.permissions().mode() & 0o777);
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others can read the key file, its mode should be 600");
    }
}

#[cfg(not(unix))]
fn warn_when_exposed(_file: &File, _path: &Path) {}

fn file_error(what: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::File {
        what,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(folder: &Path) -> Result<Keys, KeyError> {
        Keys::load(&KeySource::Directory(folder.to_owned()), None)
    }

    #[test]
    fn the_key_is_made_once_and_read_after() {
        let folder = tempfile::tempdir().unwrap();
        let first = load(folder.path()).unwrap();
        let second = load(folder.path()).unwrap();
        assert_eq!(first.access, second.access);
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, [FILE]);
        assert_ne!(
            first.access,
            load(tempfile::tempdir().unwrap().path()).unwrap().access
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        load(folder.path()).unwrap();
        let mode = fs::metadata(folder.path().join(FILE))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for content in [&b""[..], b"short\n", b"\xff\xfe", &[b'A'; 300]] {
            fs::write(&path, content).unwrap();
            assert!(
                matches!(load(folder.path()), Err(KeyError::Malformed(_))),
                "{content:?}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            load(&folder.path().join("absent")),
            Err(KeyError::File { .. })
        ));
    }

    #[test]
    fn a_given_secret_signs_access_tokens() {
        let short = Keys::load(&KeySource::Ephemeral, Some(&[7; 31]));
        assert!(matches!(short, Err(KeyError::SecretTooShort(31))));
        let keys = Keys::load(&KeySource::Ephemeral, Some(&[7; 32])).unwrap();
        assert_eq!(keys.access, [7; 32]);
    }
}
