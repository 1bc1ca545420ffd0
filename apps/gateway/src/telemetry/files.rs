//! Log files: one that is written, and a few before it, so that what they take on the disk is bounded.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The file that is written; older ones have `.1`, `.2` … behind it.
const NAME: &str = "stack-gateway.log";

/// Writes into a folder, and begins a new file when the last one is full.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
    file: Option<File>,
    bytes: u64,
    most_bytes: u64,
    /// Files in all, the written one among them.
    keep: usize,
}

impl Files {
    /// Opens the file in `folder`, which is made when it is missing. What is in it stays.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub(super) fn open(folder: &Path, most_bytes: u64, keep: usize) -> io::Result<Self> {
        let mut files = Self {
            folder: folder.to_owned(),
            file: None,
            bytes: 0,
            most_bytes,
            keep,
        };
        files.begin()?;
        Ok(files)
    }

    fn path(&self, age: usize) -> PathBuf {
        match age {
            0 => self.folder.join(NAME),
            age => self.folder.join(format!("{NAME}.{age}")),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        // Lines say who was here from where; they are the operator's alone.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.folder)?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(self.path(0))?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one on. The oldest is overwritten.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.keep == 1 {
            fs::remove_file(self.path(0))?;
        }
        for age in (0..self.keep - 1).rev() {
            match fs::rename(self.path(age), self.path(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.begin()
    }
}

impl Write for Files {
    /// Takes whole lines, so that none is in two files.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let is_full = self.bytes > 0 && self.bytes + lines.len() as u64 > self.most_bytes;
        if self.file.is_some() && is_full {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.begin()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if let Err(error) = file.write_all(lines) {
            // Opened again with the next line: the disk may have room then.
            self.file = None;
            return Err(error);
        }
        self.bytes += lines.len() as u64;
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &Files, age: usize) -> String {
        fs::read_to_string(files.path(age)).unwrap_or_default()
    }

    #[test]
    fn a_full_file_is_moved_on_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::open(&folder.path().join("made"), 10, 3).unwrap();
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n", "seven\n"] {
            files.write_all(line.as_bytes()).unwrap();
        }
        let all: Vec<_> = (0..4).map(|age| read(&files, age)).collect();
        assert_eq!(all, ["seven\n", "four\nfive\n", "three\n", ""]);
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::open(folder.path(), 5, 1).unwrap();
        files.write_all(b"one\n").unwrap();
        files.write_all(b"two\n").unwrap();
        assert_eq!([read(&files, 0), read(&files, 1)], ["two\n", ""]);
    }

    #[test]
    fn a_start_goes_on_in_the_file_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        for line in ["one\n", "two\n"] {
            let mut files = Files::open(folder.path(), 1000, 2).unwrap();
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
}
