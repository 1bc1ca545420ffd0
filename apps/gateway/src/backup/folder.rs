//! Backups in a folder: each is written under another name first, is on the disk and was read back before it has its
//! own, and never takes the place of another file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use stack_storage::{place, sync_folder};

use super::{BackupError, Name, PIECE_BYTES};

const PART: &str = ".part";

/// The backups in a folder, with their sizes, in no order.
pub(super) fn names(folder: &Path) -> Result<Vec<(Name, u64)>, BackupError> {
    let failed = || BackupError::io(format!("cannot read the folder {}", folder.display()));
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let Some(name) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // Not that of what a link leads to.
        let metadata = entry.metadata().map_err(failed())?;
        if metadata.is_file() {
            names.push((name, metadata.len()));
        }
    }
    Ok(names)
}

/// Removes what was begun by a gateway or a command that ended midway. What somebody is still writing is locked.
pub(super) fn remove_left_over(folder: &Path) -> Result<(), BackupError> {
    let failed = || BackupError::io(format!("cannot use the folder {}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let begun = name.to_str().and_then(|name| name.strip_suffix(PART));
        if begun.is_some_and(|begun| begun.parse::<Name>().is_ok()) {
            match remove_unlocked(&folder.join(&name)) {
                // Whoever wrote it is done with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(failed())?,
            }
        }
    }
    Ok(())
}

fn remove_unlocked(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        // Root's, who has made a backup by hand: whether it is being written cannot be seen, and it is in nobody's way.
        // No test sees this one where tests are root.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        opened => opened?,
    };
    match file.try_lock() {
        Ok(()) => fs::remove_file(path),
        // On a disk that knows no locks nobody can tell.
        Err(_) => Ok(()),
    }
}

/// Writes a new file for its owner alone, reads it back, and says how large it is. Nothing stands under its name before
/// that, and nothing that stood there is touched.
pub(crate) fn write_new(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<u64, BackupError> {
    let shown = path.display().to_string();
    let failed = || BackupError::io(format!("cannot write {shown}"));
    if path.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(shown));
    }
    let (part, file) = begin(path)?;
    let written = write_and_read_back(&file, &part, fill).map_err(failed());
    let placed = written.and_then(|written| {
        let bytes = written.ok_or_else(|| BackupError::Changed(shown.clone()))?;
        place(&part, path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(shown.clone()),
            _ => failed()(error),
        })?;
        Ok(bytes)
    });
    if placed.is_err() {
        // What was begun is worth nothing; a disk that does not let it go has said so already.
        let _ = fs::remove_file(&part);
    }
    let bytes = placed?;
    sync_folder(path).map_err(failed())?;
    Ok(bytes)
}

/// The file that is written before it gets this name.
pub(crate) fn begin(path: &Path) -> Result<(PathBuf, File), BackupError> {
    let mut part = path.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    loop {
        let file = new_file(&part).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(part.display().to_string()),
            _ => BackupError::io(format!("cannot write {}", path.display()))(error),
        })?;
        // On a disk that knows no locks nobody removes it.
        let _ = file.lock();
        // Unless somebody who tidies up was there before the lock.
        if part.exists() {
            return Ok((part, file));
        }
    }
}

fn new_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// How many bytes were written; `None` when others are read.
fn write_and_read_back(
    file: &File,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Option<u64>> {
    let mut out = Summed {
        out: file,
        sum: Context::new(&SHA256),
        bytes: 0,
    };
    fill(&mut out)?;
    let Summed { sum, bytes, .. } = out;
    file.sync_all()?;
    let (read, sum_read) = sum_of(&mut File::open(path)?)?;
    let is_same = read == bytes && sum_read.as_ref() == sum.finish().as_ref();
    Ok(is_same.then_some(bytes))
}

/// How many bytes there are to read, and their sum.
fn sum_of(input: &mut impl Read) -> io::Result<(u64, Digest)> {
    let mut sum = Context::new(&SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    let mut all = 0;
    loop {
        match input.read(&mut piece)? {
            0 => return Ok((all, sum.finish())),
            bytes => {
                sum.update(&piece[..bytes]);
                all += bytes as u64;
            }
        }
    }
}

/// Sums up what is written.
struct Summed<'a> {
    out: &'a File,
    sum: Context,
    bytes: u64,
}

impl Write for Summed<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let bytes = self.out.write(data)?;
        self.sum.update(&data[..bytes]);
        self.bytes += bytes as u64;
        Ok(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_its_owners_and_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let bytes = write_new(&path, |out| out.write_all(b"hello")).unwrap();
        assert_eq!(
            (bytes, fs::read(&path).unwrap().as_slice()),
            (5, &b"hello"[..])
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let again = write_new(&path, |out| out.write_all(b"other"));
        assert!(matches!(again, Err(BackupError::Exists(_))));
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        #[cfg(unix)]
        {
            let link = folder.path().join("link");
            std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
            let through = write_new(&link, |out| out.write_all(b"other"));
            assert!(matches!(through, Err(BackupError::Exists(_))));
            assert!(!folder.path().join("nowhere").exists());
        }
    }

    #[test]
    fn what_fails_midway_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("backup");
        let failed = write_new(&path, |out| {
            out.write_all(b"hello")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(matches!(failed, Err(BackupError::Io { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = write_new(&folder.path().join("no/such/backup"), |_| Ok(()));
        assert!(matches!(nowhere, Err(BackupError::Io { .. })));
    }

    #[test]
    fn only_what_is_called_a_backup_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let there = "stack-20261121T094212.123Z.redb";
        for name in [
            there,
            "stack.redb",
            "notes.txt",
            "stack-20261121T094212.124Z.redb.part",
        ] {
            fs::write(folder.path().join(name), b"x").unwrap();
        }
        fs::create_dir(folder.path().join("stack-20261121T094212.125Z.redb")).unwrap();
        let names = names(folder.path()).unwrap();
        assert_eq!(names, [(there.parse().unwrap(), 1)]);
        let under_way = folder.path().join("stack-20261121T094212.126Z.redb");
        let (part, file) = begin(&under_way).unwrap();
        remove_left_over(folder.path()).unwrap();
        assert!(part.exists());
        drop(file);
        remove_left_over(folder.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(
            left,
            [
                "notes.txt",
                there,
                "stack-20261121T094212.125Z.redb",
                "stack.redb"
            ]
        );
    }
}
