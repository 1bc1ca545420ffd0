//! Where a backup is read from: a file, standard input, or a bucket.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use super::{BackupError, Bucket, Identities, OnBytes, PIECE_BYTES, blocking};
use crate::config::BackupSettings;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    Object {
        bucket: String,
        prefix: String,
        name: String,
    },
}

/// A backup as the plain file that it is inside.
pub(crate) struct Plain {
    pub(crate) file: File,
    /// Whether it was enciphered.
    pub(crate) sealed: bool,
}

/// What is read, before it is looked at.
struct Raw {
    reader: Box<dyn Read + Send>,
    /// A file that may be looked at where it is.
    file: Option<File>,
}

impl Source {
    /// What was meant on a command line.
    pub(crate) fn of(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        let object = text.strip_prefix("s3://").and_then(|rest| {
            let (bucket, path) = rest.split_once('/')?;
            let (prefix, name) = path.rsplit_once('/').unwrap_or(("", path));
            Some(Self::Object {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
                name: name.to_owned(),
            })
        });
        object.unwrap_or_else(|| Self::File(PathBuf::from(text)))
    }

    /// How many bytes there are to read, where that is known.
    async fn open(&self, settings: &BackupSettings) -> Result<(Raw, Option<u64>), BackupError> {
        match self {
            Self::Stdin => {
                let reader = Box::new(io::stdin());
                Ok((Raw { reader, file: None }, None))
            }
            Self::File(path) => {
                let failed = || BackupError::io(format!("cannot read {}", path.display()));
                let file = File::open(path).map_err(failed())?;
                let metadata = file.metadata().map_err(failed())?;
                if metadata.is_dir() {
                    return Err(failed()(io::ErrorKind::IsADirectory.into()));
                }
                let raw = Raw {
                    reader: Box::new(file.try_clone().map_err(failed())?),
                    file: metadata.is_file().then_some(file),
                };
                Ok((raw, Some(metadata.len()).filter(|bytes| *bytes > 0)))
            }
            Self::Object {
                bucket,
                prefix,
                name,
            } => {
                let bucket = Bucket::open(bucket, prefix, settings)?;
                let (reader, bytes) = bucket.open_object(name).await?;
                Ok((Raw { reader, file: None }, Some(bytes)))
            }
        }
    }

    /// The plain file inside. One that is plain already is looked at where it is; else it is written into one without a
    /// name in this folder.
    pub(crate) async fn plain(
        &self,
        settings: &BackupSettings,
        identities: Identities,
        folder: &Path,
        begin: impl FnOnce(Option<u64>) -> OnBytes,
    ) -> Result<Plain, BackupError> {
        let (Raw { reader, file }, bytes) = self.open(settings).await?;
        let folder = folder.to_owned();
        let on_bytes = begin(bytes);
        blocking(move || {
            let (mut reader, sealed) = identities.open(Box::new(Counted { reader, on_bytes }))?;
            if let Some(mut file) = file
                && !sealed
            {
                // Both handles have one place in the file.
                file.rewind()
                    .map_err(BackupError::io("it cannot be read"))?;
                return Ok(Plain { file, sealed });
            }
            let what = format!("cannot write into {}", folder.display());
            let mut file = tempfile::tempfile_in(&folder).map_err(BackupError::io(what.clone()))?;
            copy(&mut *reader, &mut file, &what)?;
            Ok(Plain { file, sealed })
        })
        .await
    }

    /// Writes the plain file inside into this one.
    pub(crate) async fn write_to(
        &self,
        settings: &BackupSettings,
        identities: Identities,
        path: &Path,
        mut file: File,
        begin: impl FnOnce(Option<u64>) -> OnBytes,
    ) -> Result<(), BackupError> {
        let (Raw { reader, .. }, bytes) = self.open(settings).await?;
        let on_bytes = begin(bytes);
        let what = format!("cannot write {}", path.display());
        blocking(move || {
            let (mut reader, _) = identities.open(Box::new(Counted { reader, on_bytes }))?;
            copy(&mut *reader, &mut file, &what)?;
            file.sync_all().map_err(BackupError::io(what))
        })
        .await
    }
}

/// Copies all of it. What cannot be read and what cannot be written are told apart.
fn copy(from: &mut dyn Read, to: &mut File, what: &str) -> Result<(), BackupError> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece);
        match read.map_err(BackupError::io("it is cut short, or not what was written"))? {
            0 => return Ok(()),
            bytes => to
                .write_all(&piece[..bytes])
                .map_err(BackupError::io(what))?,
        }
    }
}

/// Tells of what is read.
struct Counted {
    reader: Box<dyn Read + Send>,
    on_bytes: OnBytes,
}

impl Read for Counted {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(out)?;
        (self.on_bytes)(bytes as u64);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_file_an_object_or_standard_input() {
        let object = |bucket: &str, prefix: &str, name: &str| Source::Object {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            name: name.to_owned(),
        };
        assert_eq!(Source::of("-"), Source::Stdin);
        assert_eq!(Source::of("a/b.redb"), Source::File("a/b.redb".into()));
        assert_eq!(Source::of("s3://box/b.redb"), object("box", "", "b.redb"));
        assert_eq!(
            Source::of("s3://box/a/c/b.redb"),
            object("box", "a/c", "b.redb")
        );
    }
}
