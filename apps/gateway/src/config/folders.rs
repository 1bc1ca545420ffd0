//! Folders that a gateway writes into, looked at before it starts.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process;

use super::layers::Reader;
use super::{BackupUrl, Config};

/// Finds what would keep a gateway with this configuration from its folders. Nothing is made for it that stays.
pub(super) fn check(reader: &mut Reader, config: &Config) {
    let folders = [
        ("data_dir", Some(&config.data_dir)),
        ("log_dir", config.log_files.folder.as_ref()),
    ];
    if let Some(BackupUrl::Folder(folder)) = &config.backup.to {
        let there = match fs::metadata(folder) {
            Ok(there) if there.is_dir() => can_write(folder),
            Ok(_) => Err(io::ErrorKind::NotADirectory.into()),
            Err(error) => Err(error),
        };
        if let Err(error) = there {
            let folder = folder.display();
            reader.fault("backup.to", format!("{folder} cannot be written: {error}"));
        }
    }
    for (key, folder) in folders {
        if let Some(folder) = folder
            && let Err(error) = can_write(folder)
        {
            let folder = folder.display();
            reader.fault(key, format!("{folder} cannot be written: {error}"));
        }
    }
}

/// Whether files can be made in a folder, or in the one that it would be made in.
fn can_write(folder: &Path) -> io::Result<()> {
    let is_there = |folder: &&Path| fs::symlink_metadata(folder).is_ok();
    let there = folder.ancestors().find(is_there);
    // A relative one begins where the process is.
    let there = there.filter(|there| !there.as_os_str().is_empty());
    let there = there.unwrap_or(Path::new("."));
    let probe = there.join(format!(".stack-gateway-check-{}", process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&probe)?;
    fs::remove_file(probe)
}
