//! Makes the key pair by which a gateway is known on the bus.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use stack_bus::{CurveKey, CurveKeys, OpenBusError};

/// Why there is no pair.
#[derive(Debug, thiserror::Error)]
pub enum BusKeysError {
    /// No keys were made.
    #[error(transparent)]
    Keys(#[from] OpenBusError),
    /// The file is there already, or cannot be written.
    #[error("cannot make {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Makes a pair in a new file, for its owner alone, and tells its public half.
///
/// # Errors
/// See [`BusKeysError`].
pub fn make(file: &Path) -> Result<CurveKey, BusKeysError> {
    let keys = CurveKeys::generate()?;
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(file)
        .and_then(|mut file| {
            file.write_all(keys.to_file().as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| BusKeysError::File {
            path: file.to_owned(),
            source,
        })?;
    Ok(keys.public())
}
