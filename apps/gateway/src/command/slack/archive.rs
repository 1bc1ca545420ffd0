//! The files of an export, in a ZIP or in a folder. They are looked up among those that are there, never by a path that
//! an export makes up; links are not followed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use zip::ZipArchive;

use super::records::Message;
use super::{Left, SlackError, add};

/// One file of an export in bytes at most: a day of a channel has some megabytes where much is said.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How much more than its own size a ZIP may unpack to. JSON of this kind packs to a tenth or so, and deflate could go to
/// a thousandth: that is no export.
const UNPACKS_TO: u64 = 200;
/// And so much in any case.
const UNPACKS_AT_LEAST: u64 = 64 * 1024 * 1024;
/// Files of an export at most.
const MOST_FILES: usize = 2_000_000;

pub(super) struct Archive {
    from: From,
    /// By their name in the export, with a slash behind a channel's folder.
    files: HashMap<String, Place>,
}

enum From {
    Folder,
    Zip {
        path: PathBuf,
        zip: ZipArchive<File>,
        /// What may still be unpacked.
        left: u64,
    },
}

enum Place {
    Path(PathBuf),
    Index(usize),
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, SlackError> {
        let cannot = |source| SlackError::Read {
            path: path.to_owned(),
            source,
        };
        let is_folder = fs::metadata(path).map_err(cannot)?.is_dir();
        let (from, files) = match is_folder {
            true => (From::Folder, files_of_folder(path).map_err(cannot)?),
            false => open_zip(path)?,
        };
        if files.len() > MOST_FILES {
            let detail = format!("an export has at most {MOST_FILES} files");
            return Err(SlackError::TooLarge(detail));
        }
        Ok(Self { from, files })
    }

    /// A file that holds a list; `None` when it is not there.
    pub(super) fn list<T: DeserializeOwned>(
        &mut self,
        file: &'static str,
    ) -> Result<Option<Vec<T>>, SlackError> {
        let Some(bytes) = self.read(file)? else {
            return Ok(None);
        };
        let list = serde_json::from_slice(&bytes);
        list.map(Some).map_err(|error| faulty(file, &error))
    }

    /// The messages of a day. Those that cannot be read are counted.
    pub(super) fn messages(
        &mut self,
        day: &str,
        left: &mut Left,
    ) -> Result<Vec<Message>, SlackError> {
        let bytes = self.read(day)?.unwrap_or_default();
        let all: Vec<&RawValue> =
            serde_json::from_slice(&bytes).map_err(|error| faulty(day, &error))?;
        let found = all.len();
        let read = all.into_iter().map(|raw| serde_json::from_str(raw.get()));
        let read: Vec<_> = read.filter_map(Result::ok).collect();
        add(
            left,
            "messages left out that are not in Slack's form",
            found - read.len(),
        );
        Ok(read)
    }

    /// The files of days by their folders, each in the order of the days. Other files in folders are counted.
    pub(super) fn days(&self, left: &mut Left) -> BTreeMap<String, Vec<String>> {
        let mut days: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut others = 0;
        for file in self.files.keys() {
            match file.split_once('/') {
                Some((folder, name)) if is_day(name) => {
                    days.entry(folder.to_owned())
                        .or_default()
                        .push(file.clone());
                }
                Some(_) => others += 1,
                None => others += usize::from(!KNOWN.contains(&&**file)),
            }
        }
        add(left, "files left out that hold no messages", others);
        for files in days.values_mut() {
            files.sort_unstable();
        }
        days
    }

    fn read(&mut self, file: &str) -> Result<Option<Vec<u8>>, SlackError> {
        let mut bytes = Vec::new();
        match (&mut self.from, self.files.get(file)) {
            (_, None) => return Ok(None),
            (_, Some(Place::Path(path))) => {
                let read = File::open(path)
                    .and_then(|open| open.take(FILE_BYTES + 1).read_to_end(&mut bytes));
                read.map_err(|source| SlackError::Read {
                    path: path.clone(),
                    source,
                })?;
            }
            (From::Zip { path, zip, left }, Some(Place::Index(index))) => {
                let entry = zip.by_index(*index).map_err(|source| SlackError::Zip {
                    path: path.clone(),
                    source,
                })?;
                // What the ZIP says of its sizes is not believed.
                let read = entry
                    .take((FILE_BYTES + 1).min(*left + 1))
                    .read_to_end(&mut bytes);
                read.map_err(|error| SlackError::File {
                    file: file.to_owned(),
                    reason: format!("it cannot be unpacked: {error}"),
                })?;
                let Some(rest) = left.checked_sub(bytes.len() as u64) else {
                    let detail = "the ZIP unpacks to far more than an export would";
                    return Err(SlackError::TooLarge(detail.to_owned()));
                };
                *left = rest;
            }
            (From::Folder, Some(Place::Index(_))) => return Ok(None),
        }
        if bytes.len() as u64 > FILE_BYTES {
            let reason = format!("a file of an export is at most {FILE_BYTES} bytes");
            return Err(SlackError::File {
                file: file.to_owned(),
                reason,
            });
        }
        Ok(Some(bytes))
    }
}

/// What stands beside the channels' folders and is read.
const KNOWN: [&str; 6] = [
    "users.json",
    "org_users.json",
    "channels.json",
    "groups.json",
    "dms.json",
    "mpims.json",
];

fn open_zip(path: &Path) -> Result<(From, HashMap<String, Place>), SlackError> {
    let cannot = |source| SlackError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(cannot)?;
    let bytes = file.metadata().map_err(cannot)?.len();
    let zip = ZipArchive::new(file).map_err(|source| SlackError::Zip {
        path: path.to_owned(),
        source,
    })?;
    let names: Vec<String> = (0..zip.len())
        .map(|index| match zip.name_for_index(index) {
            Some(Ok(name)) => name.into_owned(),
            // A name that is no text is no name of an export's.
            Some(Err(_)) | None => String::new(),
        })
        .collect();
    // Somebody may have packed the folder instead of what is in it.
    let is_list = |name: &&String| name.ends_with("users.json");
    let list = names.iter().filter(is_list).min_by_key(|name| name.len());
    let prefix = list.and_then(|name| name.rsplit_once('/'));
    let prefix = prefix.map_or(String::new(), |(folder, _)| format!("{folder}/"));
    let mut files = HashMap::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(name) = name.strip_prefix(&prefix)
            && !name.ends_with('/')
            && name.matches('/').count() <= 1
        {
            files.insert(name.to_owned(), Place::Index(index));
        }
    }
    let left = bytes.saturating_mul(UNPACKS_TO).max(UNPACKS_AT_LEAST);
    let from = From::Zip {
        path: path.to_owned(),
        zip,
        left,
    };
    Ok((from, files))
}

fn files_of_folder(root: &Path) -> io::Result<HashMap<String, Place>> {
    let mut files = HashMap::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let (kind, Ok(name)) = (entry.file_type()?, entry.file_name().into_string()) else {
            continue;
        };
        if kind.is_file() {
            files.insert(name, Place::Path(entry.path()));
        } else if kind.is_dir() {
            for entry in fs::read_dir(entry.path())? {
                let entry = entry?;
                if entry.file_type()?.is_file()
                    && let Ok(file) = entry.file_name().into_string()
                {
                    files.insert(format!("{name}/{file}"), Place::Path(entry.path()));
                }
            }
        }
    }
    Ok(files)
}

/// Such as `2024-02-29.json`.
fn is_day(name: &str) -> bool {
    let Some(day) = name.strip_suffix(".json") else {
        return false;
    };
    day.len() == 10
        && day.bytes().enumerate().all(|(index, byte)| match index {
            4 | 7 => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

fn faulty(file: &str, error: &serde_json::Error) -> SlackError {
    SlackError::File {
        file: file.to_owned(),
        reason: format!("this is not in Slack's form: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::SimpleFileOptions;

    use super::*;

    fn zipped(folder: &tempfile::TempDir, files: &[(&str, &[u8])]) -> PathBuf {
        let path = folder.path().join("export.zip");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        for (name, bytes) in files {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    #[test]
    fn a_zip_that_unpacks_to_far_more_than_it_is_is_no_export() {
        let folder = tempfile::tempdir().unwrap();
        // Each is within bounds; together they are a thousand times what the ZIP has.
        let blanks = vec![b' '; 60 * 1024 * 1024];
        let files = [
            ("users.json", &b"[]"[..]),
            ("a/2024-01-01.json", &blanks),
            ("a/2024-01-02.json", &blanks),
        ];
        let mut archive = Archive::open(&zipped(&folder, &files)).unwrap();
        let mut read = |file| archive.read(file);
        assert!(read("a/2024-01-01.json").is_ok());
        let refused = read("a/2024-01-02.json");
        assert!(matches!(refused, Err(SlackError::TooLarge(_))));
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("users.json"),
            vec![b' '; FILE_BYTES as usize + 1],
        )
        .unwrap();
        let mut archive = Archive::open(folder.path()).unwrap();
        let refused = archive.list::<()>("users.json").unwrap_err();
        assert!(refused.to_string().starts_with("users.json: "), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn names_lead_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside.json");
        fs::write(&outside, "[]").unwrap();
        let inside = folder.path().join("export");
        fs::create_dir(&inside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("users.json")).unwrap();
        std::os::unix::fs::symlink(folder.path(), inside.join("general")).unwrap();
        let mut archive = Archive::open(&inside).unwrap();
        assert!(archive.list::<()>("users.json").unwrap().is_none());
        assert!(archive.read("../outside.json").unwrap().is_none());
        assert!(archive.days(&mut Left::new()).is_empty());
        let files = [("users.json", &b"[]"[..]), ("../outside.json", b"[]")];
        let mut archive = Archive::open(&zipped(&folder, &files)).unwrap();
        assert!(archive.days(&mut Left::new()).is_empty());
        assert!(archive.list::<()>("users.json").unwrap().is_some());
    }

    #[test]
    fn an_export_may_be_packed_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("Ours Slack export/users.json", &b"[]"[..]),
            ("Ours Slack export/general/2024-01-01.json", b"[]"),
        ];
        let mut archive = Archive::open(&zipped(&folder, &files)).unwrap();
        assert!(archive.list::<()>("users.json").unwrap().is_some());
        assert_eq!(archive.days(&mut Left::new()).len(), 1);
    }
}
