//! A copy of the whole file as it stands at one moment, made while everything goes on. To copy the live file would
//! give pages of different moments.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use redb::{
    Database, Key, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata,
    TableDefinition, TableHandle, Value, WriteTransaction,
};
use thiserror::Error;

use crate::tables::{self, EachTable};
use crate::{Store, StoreError, engine};

/// Memory for the copy's pages, beside that of the file itself.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Why there is no copy. What was begun of one is gone.
#[derive(Debug, Error)]
pub enum SnapshotError {
    /// A copy never takes the place of another file.
    #[error("{0} is there already")]
    Exists(PathBuf),
    /// The folder of the copy is not there.
    #[error("the folder of {0} is not there")]
    NoFolder(PathBuf),
    /// It cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// What was to be written.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another copy is being made.
    #[error("another copy is being made")]
    Busy,
    /// The file cannot be read, or the copy is not sound.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Copies everything that is committed now into a new file, for its owner alone, opens that to see that it is
    /// sound, and gives its size. Nothing stands under `path` before all of that is done. It is done also when nobody
    /// waits for it any more.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn snapshot(&self, path: PathBuf) -> Result<u64, SnapshotError> {
        let turn = self.inner.snapshots.clone().try_acquire_owned();
        let turn = turn.map_err(|_| SnapshotError::Busy)?;
        let bytes = self.file_bytes()?;
        self.read_blocking(move |tx| {
            let copied = snapshot(tx, &path, bytes);
            drop(turn);
            Ok(copied)
        })
        .await?
    }

    /// The same copy in a file without a name, beside that of the store: it is gone when it is closed, whatever happens.
    /// Whoever gets it opens it to see that it is sound ([`check_file`](crate::check_file)), which takes longer than the
    /// copying. One of a store in memory is where the system keeps what is temporary.
    ///
    /// It waits for another copy that is being made, and ends, refused, soon after `stop` says so.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub async fn copy(
        &self,
        stop: impl Fn() -> bool + Send + 'static,
    ) -> Result<File, SnapshotError> {
        // Never closed.
        let turn = self.inner.snapshots.clone().acquire_owned().await;
        let turn = turn.map_err(|_| SnapshotError::Busy)?;
        let bytes = self.file_bytes()?;
        let folder = match self.inner.file.as_deref().map(Path::parent) {
            Some(Some(folder)) => folder.to_owned(),
            Some(None) => PathBuf::from("."),
            None => std::env::temp_dir(),
        };
        self.read_blocking(move |tx| {
            let copied = copy_without_name(tx, &folder, bytes, &stop);
            drop(turn);
            Ok(copied)
        })
        .await?
    }

    /// Whether a copy can be at this place, as far as that can be told without making one.
    ///
    /// # Errors
    /// [`SnapshotError::Exists`] and [`SnapshotError::NoFolder`].
    pub fn check_snapshot(&self, path: &Path) -> Result<(), SnapshotError> {
        check_place(path).map(|_| ())
    }

    /// How large the file is; 0 in memory.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn file_bytes(&self) -> Result<u64, StoreError> {
        let Some(path) = &self.inner.file else {
            return Ok(0);
        };
        let metadata = fs::metadata(path).map_err(StoreError::broken)?;
        Ok(metadata.len())
    }
}

fn snapshot(tx: &ReadTransaction, path: &Path, bytes: u64) -> Result<u64, SnapshotError> {
    let folder = check_place(path)?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let cannot = |source| SnapshotError::Write {
        path: path.to_owned(),
        source,
    };
    engine::room_on_disk(folder, bytes).map_err(cannot)?;
    let file = new_file(&part)?;
    let done = copy_and_look(tx, &file)
        .map_err(SnapshotError::from)
        .and_then(|bytes| {
            place(&part, path).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => SnapshotError::Exists(path.to_owned()),
                _ => cannot(source),
            })?;
            Ok(bytes)
        });
    if done.is_err() {
        // What was begun is worth nothing; a disk that does not let it go has said so already.
        let _ = fs::remove_file(&part);
    }
    let bytes = done?;
    sync_folder(path).map_err(cannot)?;
    Ok(bytes)
}

/// Gives a file that is written its name, and takes the one away that it had. A link, unlike a renaming, never replaces a
/// file that has come meanwhile; where the disk knows no links, a look has to do.
///
/// # Errors
/// Something has the name, or it cannot be given.
pub fn place(part: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(part, path) {
        Ok(()) => fs::remove_file(part),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
            ) && path.symlink_metadata().is_err() =>
        {
            fs::rename(part, path)
        }
        Err(error) => Err(error),
    }
}

fn copy_without_name(
    tx: &ReadTransaction,
    folder: &Path,
    bytes: u64,
    stop: &dyn Fn() -> bool,
) -> Result<File, SnapshotError> {
    let cannot = |source| SnapshotError::Write {
        path: folder.to_owned(),
        source,
    };
    engine::room_on_disk(folder, bytes).map_err(cannot)?;
    let file = tempfile::tempfile_in(folder).map_err(cannot)?;
    fill(tx, &file, stop)?;
    Ok(file)
}

/// The folder of a place where a copy can be.
fn check_place(path: &Path) -> Result<&Path, SnapshotError> {
    let folder = match path.parent() {
        Some(folder) if folder.is_dir() => folder,
        _ => return Err(SnapshotError::NoFolder(path.to_owned())),
    };
    // A link that leads nowhere is there too.
    if path.symlink_metadata().is_ok() {
        return Err(SnapshotError::Exists(path.to_owned()));
    }
    Ok(folder)
}

/// A file that was not there, for its owner alone from the start.
fn new_file(path: &Path) -> Result<File, SnapshotError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => SnapshotError::Exists(path.to_owned()),
        _ => SnapshotError::Write {
            path: path.to_owned(),
            source,
        },
    })
}

/// Makes a file's name durable.
///
/// # Errors
/// Its folder cannot be opened or written.
#[cfg(unix)]
pub fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

/// Elsewhere a folder cannot be opened, and the system sees to it.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Fills the file, and opens it again to see that everything is in it.
fn copy_and_look(tx: &ReadTransaction, file: &File) -> Result<u64, StoreError> {
    fill(tx, file, &|| false)?;
    let mut copy = open(file)?;
    if !copy.check_integrity().map_err(of_engine)? {
        return Err(StoreError::damaged("the copy is not sound"));
    }
    tables::each(&mut Compare {
        from: tx,
        to: &copy.begin_read()?,
    })?;
    drop(copy);
    let metadata = file.metadata().map_err(StoreError::broken)?;
    Ok(metadata.len())
}

/// Copies every table into a new file.
fn fill(tx: &ReadTransaction, file: &File, stop: &dyn Fn() -> bool) -> Result<(), StoreError> {
    let copy = open(file)?;
    let to = copy.begin_write()?;
    let mut all = Copy {
        from: tx,
        to: &to,
        stop,
        tables: 0,
    };
    tables::each(&mut all)?;
    if all.tables != tx.list_tables()?.count() {
        return Err(StoreError::damaged(
            "the file has a table that is not known",
        ));
    }
    to.commit()?;
    Ok(())
}

fn open(file: &File) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let file = file.try_clone().map_err(StoreError::broken)?;
    builder.create_file(file).map_err(of_engine)
}

fn of_engine(error: redb::DatabaseError) -> StoreError {
    redb::Error::from(error).into()
}

/// Copies tables, all into one transaction: before its commit the file has none.
struct Copy<'a> {
    from: &'a ReadTransaction,
    to: &'a WriteTransaction,
    stop: &'a dyn Fn() -> bool,
    tables: usize,
}

impl EachTable for Copy<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        let from = self.from.open_table(table)?;
        let mut to = self.to.open_table(table)?;
        for row in from.iter()? {
            if (self.stop)() {
                return Err(StoreError::closed());
            }
            let (key, value) = row?;
            to.insert(key.value(), value.value())?;
        }
        self.tables += 1;
        Ok(())
    }
}

/// Compares how many rows there are.
struct Compare<'a> {
    from: &'a ReadTransaction,
    to: &'a ReadTransaction,
}

impl EachTable for Compare<'_> {
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError> {
        if self.from.open_table(table)?.len()? != self.to.open_table(table)?.len()? {
            let name = table.name();
            return Err(StoreError::damaged(format!(
                "the copy of {name} is not whole"
            )));
        }
        Ok(())
    }
}
