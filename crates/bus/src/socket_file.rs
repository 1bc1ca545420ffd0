//! A socket in the file system that nobody but its owner can ever reach.
//!
//! It is bound in a folder that is closed to others, closed itself, and then moved to its place: at no time does it
//! stand there open. What a dead process left in that place goes; a socket that somebody answers at stays.

use std::fs;
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The file of a bound socket. Dropping it removes the file, if it still is this one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// Binds a socket with mode 0600 at `path`; `bind` gets the path to bind at.
pub(crate) fn bind<T>(
    path: &Path,
    bind: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<(T, SocketFile), String> {
    make_way(path)?;
    let folder = private_folder(path).map_err(told("cannot make a folder beside it"))?;
    let inside = folder.join("s");
    let bound = bind(&inside).and_then(|bound| {
        settle(&inside, path)
            .map(|file| (bound, file))
            .map_err(told("cannot put the socket in its place"))
    });
    let _ = fs::remove_file(&inside);
    let _ = fs::remove_dir(&folder);
    bound
}

fn told(what: &'static str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

/// Refuses the place where it is taken.
fn make_way(path: &Path) -> Result<(), String> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !there.file_type().is_socket() {
        return Err("there is a file that is no socket".into());
    }
    match UnixStream::connect(path) {
        Ok(_) => Err("another process listens there".into()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn private_folder(path: &Path) -> io::Result<PathBuf> {
    let beside = path.parent().unwrap_or(Path::new("/"));
    let mut name = [0; 4];
    getrandom::fill(&mut name).map_err(io::Error::other)?;
    let folder = beside.join(format!(".bus-{:08x}", u32::from_be_bytes(name)));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    Ok(folder)
}

fn settle(inside: &Path, path: &Path) -> io::Result<SocketFile> {
    fs::set_permissions(inside, fs::Permissions::from_mode(0o600))?;
    let inode = fs::symlink_metadata(inside)?.ino();
    fs::rename(inside, path)?;
    Ok(SocketFile {
        path: path.to_owned(),
        inode,
    })
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn listen(path: &Path) -> Result<(UnixListener, SocketFile), String> {
        bind(path, |path| {
            UnixListener::bind(path).map_err(|error| error.to_string())
        })
    }

    #[test]
    fn a_socket_is_its_owners_alone_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sock");
        let (listener, file) = listen(&path).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        UnixStream::connect(&path).unwrap();
        assert!(listen(&path).unwrap_err().contains("another process"));
        drop((listener, file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_dead_left_goes_and_what_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bus.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, old) = listen(&path).unwrap();
        // A successor that took the place keeps it.
        fs::remove_file(&path).unwrap();
        let successor = listen(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
        drop(successor);
        fs::write(&path, "a file").unwrap();
        assert!(listen(&path).unwrap_err().contains("no socket"));
    }
}
