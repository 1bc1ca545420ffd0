//! Backups: copies of the file that go elsewhere, on a schedule or when somebody asks.
//!
//! A copy is made beside the file, in one without a name, and looked over whole; then it travels, enciphered for whoever
//! may open it, to a folder or a bucket, where it stands under its name only when all of it is there and was read back.
//! What holds: who takes it slowly holds nothing but that copy; a failure leaves nothing under a name; and older backups
//! go only after a new one is there, those of the gateway's own naming alone.

mod bucket;
mod folder;
mod name;
mod schedule;
mod seal;
mod source;

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write};

use stack_proto::JsonCodec;
use stack_storage::{CheckError, Checked, SnapshotError, StoreError, check_file};
use tokio_util::sync::CancellationToken;

use crate::config::{BackupSettings, BackupUrl};

pub(crate) use bucket::Bucket;
pub(crate) use folder::{begin, write_new};
pub(crate) use name::Name;
pub(crate) use schedule::{Backups, remove_old, ship};
pub(crate) use seal::{Identities, Recipients};
pub(crate) use source::{Plain, Source};

/// What is moved at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Why there is no backup, or why one cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The copy cannot be made.
    #[error(transparent)]
    Copy(#[from] SnapshotError),
    /// The copy, or the backup, is not sound.
    #[error("it is not sound")]
    Unsound(#[from] CheckError),
    /// It is not on record that one is made.
    #[error("the audit log cannot be written")]
    Record(#[from] StoreError),
    /// Something cannot be read or written.
    #[error("{what}")]
    Io {
        /// What was done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// What arrived is not what was sent.
    #[error("{0} was read back, and is not what was written")]
    Changed(String),
    /// The bucket's server refuses, or is not there.
    #[error("the bucket {bucket} cannot be used: {reason}")]
    Bucket {
        /// Its name.
        bucket: String,
        /// What went wrong. The library's errors tell their causes themselves.
        reason: String,
    },
    /// There is a file already.
    #[error("{0} is there already")]
    Exists(String),
    /// Settings are missing.
    #[error("{0}")]
    Settings(&'static str),
    /// It is enciphered, and nobody said by which key.
    #[error("it is enciphered: --identity names the file of the secret key that opens it")]
    NoIdentity,
    /// It cannot be opened by the keys.
    #[error("it cannot be opened with this key")]
    Sealed(#[source] age::DecryptError),
    /// The file of the secret key.
    #[error("{path}: {reason}")]
    Identity {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else.
    #[error("it is no backup: it begins like neither a database nor a file of age")]
    Foreign,
    /// Somebody ends the gateway meanwhile.
    #[error("it was not finished, since the gateway goes down")]
    Stopped,
}

impl BackupError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Hears of how many bytes more were moved.
pub(crate) type OnBytes = Box<dyn FnMut(u64) + Send>;

/// What a backup is made of: a copy of the file, and for whom.
pub(crate) struct Parcel {
    pub(crate) copy: File,
    pub(crate) recipients: Recipients,
    pub(crate) on_bytes: OnBytes,
    pub(crate) stopping: CancellationToken,
}

impl Parcel {
    /// Writes it out, from its beginning.
    pub(crate) fn write(mut self, out: &mut dyn Write) -> io::Result<()> {
        self.copy.rewind()?;
        let Self {
            mut copy,
            recipients,
            mut on_bytes,
            stopping,
        } = self;
        recipients.seal(out, |out| {
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                if stopping.is_cancelled() {
                    return Err(io::Error::other("the gateway goes down"));
                }
                match copy.read(&mut piece)? {
                    0 => return Ok(()),
                    bytes => {
                        out.write_all(&piece[..bytes])?;
                        on_bytes(bytes as u64);
                    }
                }
            }
        })
    }
}

/// Where backups are.
#[derive(Clone)]
pub(crate) enum Place {
    Folder(std::path::PathBuf),
    Bucket(Bucket),
}

impl Place {
    /// The place that is configured.
    pub(crate) fn of(url: &BackupUrl, settings: &BackupSettings) -> Result<Self, BackupError> {
        Ok(match url {
            BackupUrl::Folder(folder) => Self::Folder(folder.clone()),
            BackupUrl::Bucket { bucket, prefix } => {
                Self::Bucket(Bucket::open(bucket, prefix, settings)?)
            }
        })
    }

    /// The backups in it, the newest first.
    pub(crate) async fn names(&self) -> Result<Vec<(Name, u64)>, BackupError> {
        let mut names = match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder::names(&folder)).await?
            }
            Self::Bucket(bucket) => bucket.names().await?,
        };
        names.sort_by_key(|(name, _)| std::cmp::Reverse(*name));
        Ok(names)
    }

    /// Puts one there, and says how large it is.
    pub(crate) async fn put(&self, name: Name, parcel: Parcel) -> Result<u64, BackupError> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || {
                    folder::remove_left_over(&folder)?;
                    write_new(&folder.join(name.to_string()), |out| parcel.write(out))
                })
                .await
            }
            Self::Bucket(bucket) => bucket.put(&name.to_string(), parcel).await,
        }
    }

    /// Removes one.
    pub(crate) async fn remove(&self, name: Name) -> Result<(), BackupError> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name.to_string());
                blocking(move || {
                    let what = format!("cannot remove {}", path.display());
                    std::fs::remove_file(&path).map_err(BackupError::io(what))
                })
                .await
            }
            Self::Bucket(bucket) => bucket.remove(&name.to_string()).await,
        }
    }
}

/// Does what may take a while off the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BackupError> + Send + 'static,
) -> Result<T, BackupError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(BackupError::Io {
            what: "it was not finished".to_owned(),
            source: io::Error::other(error),
        })
    })
}

/// Looks a plain copy over, all of it.
pub(crate) fn look_over(
    copy: &File,
    progress: stack_storage::OnProgress<'_>,
) -> Result<Checked, BackupError> {
    let copy = copy
        .try_clone()
        .map_err(BackupError::io("the copy cannot be read"))?;
    Ok(check_file(copy, &JsonCodec, progress)?)
}
