//! Log files: one that is written, and a few before it, so that what they take on the disk is bounded.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Files that can be kept at most, as the configuration has it.
const MOST_FILES: usize = 1000;

/// Writes into a folder, and begins a new file when the last one is full.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    /// The file that is written; older ones have `.1`, `.2` … behind it.
    name: &'static str,
    file: Option<File>,
    bytes: u64,
    /// So many bytes are too many.
    full_at: u64,
    most_bytes: u64,
    /// Files in all, the written one among them.
    keep: usize,
    /// Held while they are written: another process would move them away.
    _lock: File,
}

impl Files {
    /// Opens the file in `folder`, which is made when it is missing. What is in it stays.
    ///
    /// # Errors
    /// The folder or the file cannot be made, or another process writes there.
    pub(super) fn open(
        folder: &Path,
        name: &'static str,
        most_bytes: u64,
        keep: usize,
    ) -> io::Result<Self> {
        make_folder(folder)?;
        let lock = appending(&folder.join(format!("{name}.lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other(format!(
                    "another process writes {name} there; give each a folder of its own"
                )));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut files = Self {
            folder: folder.to_owned(),
            name,
            file: None,
            bytes: 0,
            full_at: most_bytes,
            most_bytes,
            keep,
            _lock: lock,
        };
        files.tidy();
        files.begin()?;
        Ok(files)
    }

    fn path(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join(self.name),
            age => self.folder.join(format!("{}.{age}", self.name)),
        }
    }

    /// Takes away what is more than is kept now, and makes the rest the operator's alone, as it may not have been when it
    /// was written.
    fn tidy(&self) {
        for age in 1..MOST_FILES {
            let path = self.path(age);
            // What cannot be done is not worth the log: it was there before.
            if age >= self.keep {
                let _ = fs::remove_file(path);
            } else {
                let _ = make_private(&path);
            }
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        make_folder(&self.folder)?;
        let path = self.path(0);
        let mut file = appending(&path)?;
        let _ = make_private(&path);
        let bytes = file.metadata()?.len();
        let is_torn = bytes > 0 && last_byte(&mut file)? != b'\n';
        self.bytes = bytes;
        self.full_at = self.most_bytes;
        if is_torn {
            // Whoever wrote it was cut off, and its last line must not run into the next.
            file.write_all(b"\n")?;
            self.bytes += 1;
        }
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one on, and begins a new one. The oldest is overwritten.
    fn rotate(&mut self) -> io::Result<()> {
        if self.keep == 1 {
            if let Some(file) = &self.file {
                file.set_len(0)?;
            }
            self.bytes = 0;
            return self.begin();
        }
        for age in (0..self.keep - 1).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.begin()
    }

    /// Goes on in a file that cannot be moved away, until there is as much again.
    fn stay(&mut self, error: &io::Error) {
        self.full_at = self.bytes.saturating_add(self.most_bytes);
        let folder = self.folder.display();
        // Queued behind what is written now, or dropped if that is full: this is the thread that writes.
        tracing::warn!(
            %error,
            "the log in {folder} is full and cannot be moved on, the file grows: {error}"
        );
    }

    /// Writes all of it, or as good as nothing.
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(lines) {
            // Half a line is worth less than none, and would run into the next. Where it stays all the same, the next
            // opening sees it.
            let _ = file.set_len(self.bytes);
            // Opened again with the next line: the disk may have room then.
            self.file = None;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(())
    }
}

impl Write for Files {
    /// Takes whole lines, so that none is in two files.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.file.is_none() {
            self.begin()?;
        }
        let is_full = self.bytes > 0 && self.bytes + lines.len() as u64 > self.full_at;
        if is_full && let Err(error) = self.rotate() {
            self.stay(&error);
        }
        self.append(lines)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines say who was here from where; they are the operator's alone.
fn make_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn appending(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A file of the log may be a pipe or a device, which is not the log's.
fn make_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    if fs::metadata(path)?.is_file() {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(())
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "test.log";

    fn open(folder: &Path, most_bytes: u64, keep: usize) -> Files {
        Files::open(folder, NAME, most_bytes, keep).unwrap()
    }

    fn read(files: &Files, age: usize) -> String {
        fs::read_to_string(files.path(age)).unwrap_or_default()
    }

    #[test]
    fn a_full_file_is_moved_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = open(&folder.path().join("made"), 10, 3);
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "seven\n"] {
            files.write_all(line.as_bytes()).unwrap();
        }
        let all: Vec<_> = (0..4).map(|age| read(&files, age)).collect();
        assert_eq!(all, ["seven\n", "four\nfive\n", "three\n", ""]);
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = open(folder.path(), 5, 1);
        files.write_all(b"one\n").unwrap();
        files.write_all(b"two\n").unwrap();
        assert_eq!([read(&files, 0), read(&files, 1)], ["two\n", ""]);
    }

    #[test]
    fn a_start_goes_on_in_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n"] {
            let mut files = open(folder.path(), 1000, 2);
            files.write_all(line.as_bytes()).unwrap();
        }
        let path = folder.path().join(NAME);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_cannot_be_moved_on_grows_and_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = open(folder.path(), 10, 2);
        // Nothing can be renamed onto it.
        fs::create_dir_all(files.path(1).join("in the way")).unwrap();
        let lines = ["one\n", "two\n", "three\n", "four\n", "five\n"];
        for line in lines {
            files.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&files, 0), lines.concat());
        fs::remove_dir_all(files.path(1)).unwrap();
        files.write_all(b"six\n").unwrap();
        assert_eq!(
            [read(&files, 0), read(&files, 1)],
            ["six\n".to_owned(), lines.concat()]
        );
    }

    #[test]
    fn a_file_that_has_gone_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        for keep in [1, 2] {
            let mut files = open(folder.path(), 5, keep);
            files.write_all(b"one\n").unwrap();
            fs::remove_file(files.path(0)).unwrap();
            files.write_all(b"two\n").unwrap();
            files.write_all(b"three\n").unwrap();
        }
        assert_eq!(
            fs::read_to_string(folder.path().join(NAME)).unwrap(),
            "three\n"
        );
    }

    #[test]
    fn half_a_line_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "whole\nhal").unwrap();
        let mut files = open(folder.path(), 1000, 2);
        files.write_all(b"next\n").unwrap();
        assert_eq!(read(&files, 0), "whole\nhal\nnext\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_costs_lines_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = open(folder.path(), 1000, 2);
        files.write_all(b"one\n").unwrap();
        files.file = Some(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let error = files.write(b"two\n").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        files.write_all(b"three\n").unwrap();
        assert_eq!(read(&files, 0), "one\nthree\n");
    }

    #[test]
    fn what_is_more_than_is_kept_goes_and_the_rest_is_private() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "test.log",
            "test.log.1",
            "test.log.4",
            "test.log.20261121",
            "other.log.4",
        ] {
            fs::write(folder.path().join(name), "old\n").unwrap();
        }
        let files = open(folder.path(), 1000, 3);
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(is_there("test.log.1") && !is_there("test.log.4"));
        assert!(is_there("test.log.20261121") && is_there("other.log.4"));
        #[cfg(unix)]
        for age in [0, 1] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(files.path(age)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{age}");
        }
    }

    #[test]
    fn two_do_not_write_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), 1000, 2);
        let second = Files::open(folder.path(), NAME, 1000, 2).unwrap_err();
        assert!(second.to_string().contains("another process"), "{second}");
        assert!(Files::open(folder.path(), "other.log", 1000, 2).is_ok());
        drop(first);
        assert!(Files::open(folder.path(), NAME, 1000, 2).is_ok());
    }
}
