//! Files that survive a crash of the process and of the machine.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a lock that is held is tried again.
const LOCKED_WITHIN: Duration = Duration::from_secs(2);

/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Puts `bytes` in the place of what a file holds, for its owner only. After a crash at any point the file holds either
/// all of what it held or all of what it should hold; after the return it is the latter.
///
/// # Errors
/// The disk is full, or any other fault of the system; then the file is one of the two all the same, and the call may be
/// repeated.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".tmp");
    let temporary = folder.join(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder(folder)
}

/// Makes what was created, renamed or removed in a folder durable.
///
/// # Errors
/// A fault of the system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Makes a folder for its owner only, with those above it; one that is there stays as it is.
///
/// # Errors
/// A fault of the system.
pub fn create_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Keeps a folder for this process until it is dropped, or the process is gone.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes the lock, which is the file `lock` in the folder; `None` when another process has it and keeps it.
    ///
    /// Who was killed while it started a program leaves the lock to that one, until it becomes the program a moment
    /// later: so a lock that is held is tried again for a while.
    ///
    /// # Errors
    /// A fault of the system.
    pub async fn take(folder: &Path) -> io::Result<Option<Self>> {
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let given_up = Instant::now() + LOCKED_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file, path })),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) if Instant::now() >= given_up => return Ok(None),
                Err(TryLockError::WouldBlock) => sleep(LOCK_PAUSE).await,
            }
        }
    }

    /// The lock's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        replace(&path, b"a longer text").unwrap();
        replace(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_one_holder() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path()).await.unwrap();
        assert!(held.is_some());
        assert!(FolderLock::take(folder.path()).await.unwrap().is_none());
        drop(held);
        assert!(FolderLock::take(folder.path()).await.unwrap().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_is_about_to_go_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let held = FolderLock::take(folder.path()).await.unwrap();
        let going = async {
            sleep(LOCKED_WITHIN / 2).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(FolderLock::take(folder.path()), going);
        assert!(taken.unwrap().is_some());
    }

    #[test]
    fn folders_are_made_for_their_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a").join("b");
        create_folder(&path).unwrap();
        create_folder(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
