//! The engine's database, and what is done about a disk that fails or is full.
//!
//! A commit is not begun while the disk has little room left: the engine never meets its end, reads go on, and
//! writing goes on by itself when there is room again. Should a write fail all the same, the engine refuses
//! everything that touches the disk until it is opened anew; the writer does that, under the readers' feet, before
//! its next commit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, WriteTransaction,
};

use crate::store::{Location, StorageUsage};
use crate::{OpenError, StoreError};

/// How long to wait before a file that could not be opened again is tried once more.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// Room on the disk that is not written into, in bytes: several times what a commit and its fold write, which the
/// writer bounds …
const RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// … but on a small disk no more than this part of it.
const RESERVE_PART: u64 = 3;

/// Opens the database, and says whether opening it again makes sense.
pub(crate) trait Opener: Send + Sync {
    /// Opens the database.
    fn open(&self) -> Result<Database, OpenError>;
    /// Whether the disk has room for a commit.
    fn has_room(&self) -> io::Result<()>;
    /// Bytes that it takes on the disk.
    fn file_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
    /// How long to wait between two attempts to open it again.
    fn try_every(&self) -> Duration {
        TRY_EVERY
    }
}

pub(crate) struct Engine {
    opener: Box<dyn Opener>,
    slot: RwLock<Option<Database>>,
}

/// How the engine is, as far as the writer knows.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// A commit has failed since the file was opened.
    failed: bool,
    tried: Option<Instant>,
}

impl Engine {
    pub(crate) fn open(opener: Box<dyn Opener>) -> Result<Self, OpenError> {
        let database = opener.open()?;
        Ok(Self {
            opener,
            slot: RwLock::new(Some(database)),
        })
    }

    pub(crate) fn with<R>(
        &self,
        act: impl FnOnce(&Database) -> Result<R, OpenError>,
    ) -> Result<R, OpenError> {
        match &*self.slot.read() {
            Some(database) => act(database),
            None => Err(OpenError::Prepare(StoreError::closed())),
        }
    }

    /// A snapshot of the file.
    pub(crate) fn snapshot(&self) -> Result<ReadTransaction, StoreError> {
        let slot = self.slot.read();
        Ok(slot.as_ref().ok_or_else(StoreError::closed)?.begin_read()?)
    }

    /// What is on the disk and in memory.
    pub(crate) fn usage(&self) -> io::Result<StorageUsage> {
        let cache = self.slot.read().as_ref().map(Database::cache_stats);
        let cache = cache.map_or_else(StorageUsage::default, |cache| StorageUsage {
            file_bytes: 0,
            cache_bytes: cache.used_bytes() as u64,
            cache_hits: cache.read_hits() + cache.write_hits(),
            cache_misses: cache.read_misses() + cache.write_misses(),
            cache_evictions: cache.evictions(),
        });
        Ok(StorageUsage {
            file_bytes: self.opener.file_bytes()?,
            ..cache
        })
    }

    /// A transaction, if the engine is well.
    pub(crate) fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        let slot = self.slot.read();
        Ok(slot
            .as_ref()
            .ok_or_else(StoreError::closed)?
            .begin_write()?)
    }

    /// Opens the database again. Whoever reads meanwhile fails.
    fn reopen(&self) -> Result<(), OpenError> {
        // Opened outside the lock: repairing may take a while, and whoever reads meanwhile is told at once.
        let before = self.slot.write().take();
        drop(before);
        let database = self.opener.open()?;
        *self.slot.write() = Some(database);
        Ok(())
    }
}

impl Health {
    /// Remembers that a commit failed.
    pub(crate) fn failed(&mut self) {
        self.failed = true;
    }

    /// Whether the engine has to be opened again.
    pub(crate) fn is_broken(&self) -> bool {
        self.failed
    }

    /// Opens the engine again, if it has failed. Says whether it did; the failure is not over before
    /// [`Health::mended`]. This comes before any look at the room on the disk: without it nothing can be read either.
    pub(crate) fn mend(&mut self, engine: &Engine) -> Result<bool, StoreError> {
        if !self.failed {
            return Ok(false);
        }
        let now = Instant::now();
        if self
            .tried
            .is_some_and(|tried| now - tried < engine.opener.try_every())
        {
            return Err(StoreError::broken(
                "the last commit failed, waiting a moment",
            ));
        }
        self.tried = Some(now);
        engine.reopen().map_err(StoreError::broken)?;
        Ok(true)
    }

    /// Everything is as it was before the failure.
    pub(crate) fn mended(&mut self) {
        *self = Self::default();
        tracing::info!("the file was opened again after a failure");
    }
}

impl Engine {
    /// Refuses a commit for which the disk has too little room.
    pub(crate) fn check_room(&self) -> Result<(), StoreError> {
        self.opener.has_room().map_err(StoreError::broken)
    }
}

/// Opens the file of a [`Location`].
pub(crate) struct FileOpener {
    pub(crate) location: Location,
    pub(crate) cache_bytes: usize,
}

impl Opener for FileOpener {
    fn open(&self) -> Result<Database, OpenError> {
        let mut builder = Database::builder();
        builder.set_cache_size(self.cache_bytes);
        match &self.location {
            Location::Memory => {
                let backend = redb::backends::InMemoryBackend::new();
                builder
                    .create_with_backend(backend)
                    .map_err(|source| OpenError::Open {
                        path: PathBuf::from(":memory:"),
                        source: Box::new(source),
                    })
            }
            Location::File(path) => open_file(&builder, path),
        }
    }

    fn has_room(&self) -> io::Result<()> {
        match &self.location {
            Location::Memory => Ok(()),
            Location::File(path) => room_on_disk(path.parent().unwrap_or(Path::new(".")), 0),
        }
    }

    fn file_bytes(&self) -> io::Result<u64> {
        match &self.location {
            Location::Memory => Ok(0),
            Location::File(path) => Ok(fs::metadata(path)?.len()),
        }
    }
}

/// Refuses to write so many bytes where the disk has too little room for them and for the reserve.
#[cfg(unix)]
pub(crate) fn room_on_disk(folder: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let total = disk.f_blocks.saturating_mul(disk.f_frsize);
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let reserve = RESERVE_BYTES.min(total / RESERVE_PART);
    if free < reserve.saturating_add(bytes) {
        return Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{free} bytes are free on the disk, too few to write"),
        ));
    }
    Ok(())
}

/// Elsewhere a full disk shows as a failed commit.
#[cfg(not(unix))]
pub(crate) fn room_on_disk(_: &Path, _: u64) -> io::Result<()> {
    Ok(())
}

fn open_file(builder: &redb::Builder, path: &Path) -> Result<Database, OpenError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| failed(Box::new(source)))?;
    }
    builder.create(path).map_err(|source| match source {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
            path: path.to_owned(),
        },
        DatabaseError::Storage(StorageError::Io(source)) => failed(Box::new(source)),
        other => failed(Box::new(other)),
    })
}
