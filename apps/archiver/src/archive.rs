//! The archive of one room: a folder with finished files, at most one unfinished file, and a cursor.
//!
//! ```text
//! <room>/cursor.json                                          how far the archive goes
//! <room>/00000000000000000001-00000000000000004711.jsonl.gz   finished: its first and last seq; never touched again
//! <room>/00000000000000004712.jsonl.gz.part                   unfinished: its first seq
//! ```
//!
//! A file is a run of gzip members, one for each time that something was kept; `zcat` reads it like any other. The
//! cursor names the unfinished file and how many of its bytes count. It is written after those bytes are on disk, so that
//! what a crash leaves behind it is half a member or a whole one that will come again: both are cut off at the next start.
//! What the cursor counts is whole, and is never written again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use stack_daemon::{create_folder, replace, sync_folder};
use stack_types::{RoomId, Seq, Timestamp};

/// The version of the cursor's file.
const VERSION: u32 = 1;

const CURSOR: &str = "cursor.json";
const FINISHED: &str = ".jsonl.gz";
const UNFINISHED: &str = ".jsonl.gz.part";

/// When a file is full and the next one begins. A file of nothing is never made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    /// At this many bytes, compressed; the last member may reach over it.
    pub(crate) bytes: u64,
    /// At this age.
    pub(crate) age: Duration,
}

/// Lines that belong into the archive together, and the numbers that they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lines {
    /// The first number.
    pub(crate) first: Seq,
    /// The last number.
    pub(crate) last: Seq,
    /// Compressed, one gzip member.
    member: Vec<u8>,
}

impl Lines {
    /// Compresses lines.
    ///
    /// # Errors
    /// None that is known; writing to memory is infallible.
    pub(crate) fn compress(first: Seq, last: Seq, text: &[u8]) -> io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text)?;
        let member = encoder.finish()?;
        Ok(Self {
            first,
            last,
            member,
        })
    }
}

/// How far an archive goes, as its file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    version: u32,
    /// Everything up to here is kept.
    seq: Seq,
    part: Option<Part>,
}

/// The unfinished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    /// Its first number, after which it is named.
    first: Seq,
    /// How many of its bytes count.
    bytes: u64,
    /// When it was begun.
    since: Timestamp,
}

/// Why an archive does not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    /// The system failed; the same may be tried again, and nothing is lost by it.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The folder holds something that no crash of the archiver leaves.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// Lines that do not follow what is there.
    #[error("seq {first} does not follow {seq}")]
    Hole {
        /// The first of the lines.
        first: Seq,
        /// The archive's last.
        seq: Seq,
    },
}

fn io_error<'a>(
    doing: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> ArchiveError + 'a {
    move |source| ArchiveError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

/// The archive of one room.
#[derive(Debug)]
pub(crate) struct Archive {
    folder: PathBuf,
    rotation: Rotation,
    cursor: Cursor,
    file: Option<File>,
}

impl Archive {
    /// Opens a room's archive below `parent`, and clears away what a crash has left. The caller holds the lock of `parent`.
    pub(crate) fn open(
        parent: &Path,
        room: &RoomId,
        rotation: Rotation,
    ) -> Result<Self, ArchiveError> {
        // A room's id is a slug: it holds no slash and does not begin with a dot.
        let folder = parent.join(room.as_str());
        create_folder(&folder).map_err(io_error("make", &folder))?;
        let mut archive = Self {
            cursor: read_cursor(&folder)?,
            folder,
            rotation,
            file: None,
        };
        archive.recover()?;
        Ok(archive)
    }

    /// The last number that is kept; zero when there is nothing yet.
    pub(crate) fn seq(&self) -> Seq {
        self.cursor.seq
    }

    /// Keeps lines that follow what is there. When it returns they are on disk, and stay there once. After an
    /// [`ArchiveError::Io`] the same lines may be tried again; those and no others.
    pub(crate) fn append(&mut self, lines: &Lines, now: Timestamp) -> Result<(), ArchiveError> {
        if lines.first != self.cursor.seq.next() {
            return Err(ArchiveError::Hole {
                first: lines.first,
                seq: self.cursor.seq,
            });
        }
        let part = self.cursor.part.unwrap_or(Part {
            first: lines.first,
            bytes: 0,
            since: now,
        });
        let path = self.part_path(part.first);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.create_part(&path)?),
        };
        file.write_all_at(&lines.member, part.bytes)
            .map_err(io_error("write to", &path))?;
        file.sync_data().map_err(io_error("sync", &path))?;
        self.move_to(Cursor {
            version: VERSION,
            seq: lines.last,
            part: Some(Part {
                bytes: part.bytes + lines.member.len() as u64,
                ..part
            }),
        })
    }

    /// Finishes the unfinished file when it is full. It may be tried again after an error.
    pub(crate) fn rotate_if_due(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<PathBuf>, ArchiveError> {
        match self.cursor.part {
            Some(part)
                if part.bytes >= self.rotation.bytes
                    || now.since(part.since) >= self.rotation.age =>
            {
                self.finish()
            }
            _ => Ok(None),
        }
    }

    /// Finishes the unfinished file, if there is one, and says where it is then. It may be tried again after an error.
    pub(crate) fn finish(&mut self) -> Result<Option<PathBuf>, ArchiveError> {
        let Some(part) = self.cursor.part else {
            return Ok(None);
        };
        let (from, to) = (self.part_path(part.first), self.finished_path(part.first));
        // Not there: the rename was done by the try before, which then failed.
        if from.exists() {
            if to.exists() {
                return Err(ArchiveError::Damaged(format!(
                    "{} and {} are both there",
                    from.display(),
                    to.display()
                )));
            }
            // A try that failed may have left more than the cursor counts.
            cut(&from, part.bytes)?;
            fs::rename(&from, &to).map_err(io_error("rename", &from))?;
        } else if !to.exists() {
            return Err(ArchiveError::Damaged(format!(
                "{} is missing",
                from.display()
            )));
        }
        sync_folder(&self.folder).map_err(io_error("sync", &self.folder))?;
        self.file = None;
        self.move_to(Cursor {
            part: None,
            ..self.cursor
        })?;
        Ok(Some(to))
    }

    fn part_path(&self, first: Seq) -> PathBuf {
        self.folder.join(format!("{:020}{UNFINISHED}", first.0))
    }

    fn finished_path(&self, first: Seq) -> PathBuf {
        let last = self.cursor.seq;
        let name = format!("{:020}-{:020}{FINISHED}", first.0, last.0);
        self.folder.join(name)
    }

    fn create_part(&self, path: &Path) -> Result<File, ArchiveError> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(io_error("create", path))?;
        sync_folder(&self.folder).map_err(io_error("sync", &self.folder))?;
        Ok(file)
    }

    /// Writes the cursor, and only then is where it says.
    fn move_to(&mut self, cursor: Cursor) -> Result<(), ArchiveError> {
        let path = self.folder.join(CURSOR);
        let text = serde_json::to_vec(&cursor)
            .map_err(io::Error::from)
            .map_err(io_error("write", &path))?;
        replace(&path, &text).map_err(io_error("write", &path))?;
        self.cursor = cursor;
        Ok(())
    }

    /// Brings the folder to where the cursor says.
    fn recover(&mut self) -> Result<(), ArchiveError> {
        if let Some(part) = self.cursor.part {
            let path = self.part_path(part.first);
            let finished = self.finished_path(part.first);
            if path.exists() {
                cut(&path, part.bytes)?;
                let open = OpenOptions::new().write(true).open(&path);
                self.file = Some(open.map_err(io_error("open", &path))?);
            } else if fs::metadata(&finished).is_ok_and(|file| file.len() == part.bytes) {
                // Killed between the rename and the cursor.
                self.move_to(Cursor {
                    part: None,
                    ..self.cursor
                })?;
            } else {
                return Err(ArchiveError::Damaged(format!(
                    "{} is missing",
                    path.display()
                )));
            }
        }
        self.remove_unknown_parts()
    }

    /// A file that was begun, and that the cursor has never heard of, holds nothing that counts.
    fn remove_unknown_parts(&self) -> Result<(), ArchiveError> {
        let known = self.cursor.part.map(|part| self.part_path(part.first));
        for path in files(&self.folder)? {
            let name = path.to_string_lossy();
            let leftover = name.ends_with(UNFINISHED) && Some(&path) != known.as_ref();
            if leftover || name.ends_with(".tmp") {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// Cuts a file to what counts of it.
fn cut(path: &Path, bytes: u64) -> Result<(), ArchiveError> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(io_error("open", path))?;
    let length = file.metadata().map_err(io_error("look at", path))?.len();
    if length < bytes {
        return Err(ArchiveError::Damaged(format!(
            "{} has {length} bytes, and had {bytes}",
            path.display()
        )));
    }
    if length > bytes {
        file.set_len(bytes).map_err(io_error("cut", path))?;
        file.sync_all().map_err(io_error("sync", path))?;
    }
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, ArchiveError> {
    let entries = fs::read_dir(folder).map_err(io_error("list", folder))?;
    entries
        .map(|entry| Ok(entry.map_err(io_error("list", folder))?.path()))
        .collect()
}

fn read_cursor(folder: &Path) -> Result<Cursor, ArchiveError> {
    let path = folder.join(CURSOR);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let finished = |path: &PathBuf| path.to_string_lossy().ends_with(FINISHED);
            // Without its cursor an archive would be written a second time.
            if files(folder)?.iter().any(finished) {
                return Err(ArchiveError::Damaged(format!(
                    "{} is missing beside finished files",
                    path.display()
                )));
            }
            return Ok(Cursor {
                version: VERSION,
                seq: Seq::ZERO,
                part: None,
            });
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    match serde_json::from_slice(&text) {
        Ok(
            cursor @ Cursor {
                version: VERSION, ..
            },
        ) => Ok(cursor),
        Ok(Cursor { version, .. }) => Err(ArchiveError::Damaged(format!(
            "{} has version {version}, and this archiver knows {VERSION}",
            path.display()
        ))),
        Err(error) => Err(ArchiveError::Damaged(format!(
            "{} is no cursor: {error}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    use flate2::read::MultiGzDecoder;

    use super::*;

    const BIG: Rotation = Rotation {
        bytes: 1 << 20,
        age: Duration::from_secs(3600),
    };
    const NOW: Timestamp = Timestamp(1_790_000_000_000);

    fn room() -> RoomId {
        "general".parse().unwrap()
    }

    fn lines(first: u64, last: u64) -> Lines {
        let text: String = (first..=last).map(|seq| format!("{seq}\n")).collect();
        Lines::compress(Seq(first), Seq(last), text.as_bytes()).unwrap()
    }

    /// Every line of the archive, finished files first.
    fn kept(parent: &Path) -> Vec<u64> {
        let mut paths = files(&parent.join("general")).unwrap();
        paths.retain(|path| path.to_string_lossy().contains(".jsonl.gz"));
        paths.sort();
        let mut text = String::new();
        for path in paths {
            let file = File::open(path).unwrap();
            MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        }
        text.lines().map(|line| line.parse().unwrap()).collect()
    }

    fn upto(last: u64) -> Vec<u64> {
        (1..=last).collect()
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for path in files(from).unwrap() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }

    #[test]
    fn an_archive_goes_on_where_it_ended() {
        let parent = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        assert_eq!(archive.seq(), Seq::ZERO);
        archive.append(&lines(1, 3), NOW).unwrap();
        drop(archive);
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        assert_eq!(archive.seq(), Seq(3));
        archive.append(&lines(4, 4), NOW).unwrap();
        assert_eq!(kept(parent.path()), upto(4));
        assert!(matches!(
            archive.append(&lines(4, 5), NOW),
            Err(ArchiveError::Hole { .. })
        ));
        assert!(matches!(
            archive.append(&lines(6, 6), NOW),
            Err(ArchiveError::Hole { .. })
        ));
    }

    #[test]
    fn a_torn_end_is_cut_off_wherever_it_was_torn() {
        let parent = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        archive.append(&lines(1, 3), NOW).unwrap();
        drop(archive);
        let folder = parent.path().join("general");
        let more = lines(4, 9);
        for torn in 0..=more.member.len() {
            let crashed = tempfile::tempdir().unwrap();
            copy(&folder, &crashed.path().join("general"));
            let part = crashed
                .path()
                .join("general/00000000000000000001.jsonl.gz.part");
            let mut file = OpenOptions::new().append(true).open(&part).unwrap();
            file.write_all(&more.member[..torn]).unwrap();
            let mut archive = Archive::open(crashed.path(), &room(), BIG).unwrap();
            assert_eq!(archive.seq(), Seq(3));
            assert_eq!(kept(crashed.path()), upto(3), "{torn}");
            // Not what was torn: as many events come together as there are.
            archive.append(&lines(4, 4), NOW).unwrap();
            assert_eq!(kept(crashed.path()), upto(4), "{torn}");
            archive.append(&lines(5, 9), NOW).unwrap();
            assert_eq!(kept(crashed.path()), upto(9), "{torn}");
        }
    }

    #[test]
    fn a_first_file_without_a_cursor_does_not_count() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("general");
        fs::create_dir(&folder).unwrap();
        let part = folder.join("00000000000000000001.jsonl.gz.part");
        fs::write(&part, lines(1, 5).member).unwrap();
        fs::write(folder.join("cursor.json.tmp"), "{").unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        assert_eq!(archive.seq(), Seq::ZERO);
        archive.append(&lines(1, 2), NOW).unwrap();
        assert_eq!(kept(parent.path()), upto(2));
        assert_eq!(files(&folder).unwrap().len(), 2);
    }

    #[test]
    fn full_and_old_files_are_finished_and_stay_as_they_are() {
        let parent = tempfile::tempdir().unwrap();
        let small = Rotation {
            bytes: 40,
            age: Duration::from_secs(60),
        };
        let mut archive = Archive::open(parent.path(), &room(), small).unwrap();
        archive.append(&lines(1, 3), NOW).unwrap();
        assert_eq!(archive.rotate_if_due(NOW).unwrap(), None);
        archive.append(&lines(4, 6), NOW).unwrap();
        let finished = archive.rotate_if_due(NOW).unwrap().unwrap();
        let name = "00000000000000000001-00000000000000000006.jsonl.gz";
        assert!(finished.ends_with(name), "{finished:?}");
        let before = fs::read(&finished).unwrap();
        assert_eq!(archive.rotate_if_due(NOW).unwrap(), None);
        archive.append(&lines(7, 7), NOW).unwrap();
        let later = NOW.plus(Duration::from_secs(60));
        assert!(archive.rotate_if_due(later).unwrap().is_some());
        assert_eq!(fs::read(&finished).unwrap(), before);
        assert_eq!(kept(parent.path()), upto(7));
        for path in files(&parent.path().join("general")).unwrap() {
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path:?}");
        }
    }

    #[test]
    fn a_crash_between_rename_and_cursor_is_made_good() {
        let parent = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        archive.append(&lines(1, 3), NOW).unwrap();
        drop(archive);
        let folder = parent.path().join("general");
        fs::rename(
            folder.join("00000000000000000001.jsonl.gz.part"),
            folder.join("00000000000000000001-00000000000000000003.jsonl.gz"),
        )
        .unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        assert_eq!(archive.seq(), Seq(3));
        archive.append(&lines(4, 5), NOW).unwrap();
        assert_eq!(kept(parent.path()), upto(5));
    }

    #[test]
    fn damage_is_told_and_nothing_is_written_over_it() {
        let begun = || {
            let parent = tempfile::tempdir().unwrap();
            let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
            archive.append(&lines(1, 3), NOW).unwrap();
            let folder = parent.path().join("general");
            (parent, folder)
        };
        let damaged = |parent: &tempfile::TempDir| {
            let error = Archive::open(parent.path(), &room(), BIG).unwrap_err();
            assert!(matches!(error, ArchiveError::Damaged(_)), "{error:?}");
        };
        let part = "00000000000000000001.jsonl.gz.part";

        let (parent, folder) = begun();
        fs::write(folder.join(part), "short").unwrap();
        damaged(&parent);

        let (parent, folder) = begun();
        fs::remove_file(folder.join(part)).unwrap();
        damaged(&parent);

        let (parent, folder) = begun();
        fs::write(folder.join(CURSOR), "{").unwrap();
        damaged(&parent);

        let (parent, folder) = begun();
        fs::write(folder.join(CURSOR), r#"{"version":2,"seq":3,"part":null}"#).unwrap();
        damaged(&parent);

        let (parent, folder) = begun();
        Archive::open(parent.path(), &room(), BIG)
            .unwrap()
            .finish()
            .unwrap();
        fs::remove_file(folder.join(CURSOR)).unwrap();
        damaged(&parent);
    }

    #[test]
    fn what_failed_may_be_tried_again() {
        let parent = tempfile::tempdir().unwrap();
        let mut archive = Archive::open(parent.path(), &room(), BIG).unwrap();
        archive.append(&lines(1, 3), NOW).unwrap();
        // The cursor cannot be replaced while its temporary name is a folder's.
        let blocked = parent.path().join("general/cursor.json.tmp");
        fs::create_dir(&blocked).unwrap();
        for _ in 0..2 {
            let failed = archive.append(&lines(4, 6), NOW);
            assert!(matches!(failed, Err(ArchiveError::Io { .. })));
            assert_eq!(archive.seq(), Seq(3));
        }
        fs::remove_dir(&blocked).unwrap();
        archive.append(&lines(4, 6), NOW).unwrap();
        archive.finish().unwrap();
        assert_eq!(kept(parent.path()), upto(6));
    }
}
