//! The socket that is listened on: for the gateway's own user alone, from the moment it is there.

use std::io;
use std::path::{Path, PathBuf};

use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};

use crate::service::Peer;

/// The socket cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another gateway listens there.
    #[error("another gateway listens on {0}")]
    InUse(PathBuf),
    /// Something that is no socket is in its place.
    #[error("{0} is there already and no socket; it is left alone")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// A socket that is listened on. Its file goes with it.
pub(crate) struct Socket {
    listener: Listener,
    #[cfg(unix)]
    own: OwnFile,
}

impl Socket {
    /// Listens at a path. What a gateway that died has left there is replaced. To be called in a runtime.
    pub(crate) fn bind(path: &Path) -> Result<Self, BindError> {
        let failed = |source| BindError::Io {
            path: path.to_owned(),
            source,
        };
        #[cfg(unix)]
        remove_stale(path)?;
        let name = path.to_fs_name::<GenericFilePath>().map_err(failed)?;
        let options = ListenerOptions::new().name(name).reclaim_name(false);
        // Set on the socket before it has its name, so that it is never open to others, not even for a moment.
        #[cfg(unix)]
        let options = {
            use interprocess::os::unix::local_socket::ListenerOptionsExt as _;
            options.mode(0o600)
        };
        let listener = options.create_tokio().map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                BindError::InUse(path.to_owned())
            } else {
                failed(source)
            }
        })?;
        Ok(Self {
            listener,
            #[cfg(unix)]
            own: OwnFile::of(path).map_err(failed)?,
        })
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<Stream> {
        self.listener.accept().await
    }

    /// Stops listening.
    pub(crate) fn close(self) {
        drop(self.listener);
        #[cfg(unix)]
        self.own.remove();
    }
}

/// Connects to the gateway that listens at a path.
pub(crate) async fn connect(path: &Path) -> io::Result<Stream> {
    Stream::connect(path.to_fs_name::<GenericFilePath>()?).await
}

/// Who is at the other end.
#[cfg(unix)]
pub(crate) fn peer_of(stream: &Stream) -> io::Result<Peer> {
    let credentials = stream.peer_creds()?;
    let untold = || {
        io::Error::new(
            io::ErrorKind::Unsupported,
            "the system does not tell who it is",
        )
    };
    Ok(Peer {
        uid: credentials.euid().ok_or_else(untold)?,
        gid: credentials.egid().ok_or_else(untold)?,
        pid: credentials.pid(),
    })
}

/// Who is at the other end. A named pipe is for its maker and administrators alone, so that there is nothing to tell.
#[cfg(not(unix))]
pub(crate) fn peer_of(_: &Stream) -> io::Result<Peer> {
    Ok(Peer {
        uid: 0,
        gid: 0,
        pid: None,
    })
}

/// Whether somebody may connect: the gateway's own user, and root.
#[cfg(unix)]
pub(crate) fn may_connect(peer: &Peer) -> bool {
    peer.uid == 0 || peer.uid == rustix::process::geteuid().as_raw()
}

/// Whether somebody may connect: the system has decided it.
#[cfg(not(unix))]
pub(crate) fn may_connect(_: &Peer) -> bool {
    true
}

/// Removes the socket of a gateway that died: one that nobody listens on.
#[cfg(unix)]
fn remove_stale(path: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt as _;
    use std::os::unix::net::UnixStream;

    let failed = |source| BindError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// The file of a socket, known again by its number: another gateway may have put its own in the place.
#[cfg(unix)]
struct OwnFile {
    path: PathBuf,
    number: (u64, u64),
}

#[cfg(unix)]
impl OwnFile {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            number: Self::number(path)?,
        })
    }

    fn number(path: &Path) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::symlink_metadata(path)?;
        Ok((found.dev(), found.ino()))
    }

    fn remove(self) {
        if Self::number(&self.path).is_ok_and(|number| number == self.number) {
            // One that stays is replaced by the next gateway.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        (folder, path)
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone_and_goes_with_it() {
        let (_folder, path) = path();
        let socket = Socket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        socket.close();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_gateways_socket_is_replaced_and_a_live_ones_is_not() {
        let (_folder, path) = path();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let before = std::fs::metadata(&path).unwrap().ctime_nsec();
        let socket = Socket::bind(&path).unwrap();
        assert_ne!(std::fs::metadata(&path).unwrap().ctime_nsec(), before);
        assert!(matches!(Socket::bind(&path), Err(BindError::InUse(_))));
        // Who was refused has not taken it away.
        let peer = connect(&path).await.unwrap();
        let peer = peer_of(&peer).unwrap();
        assert!(may_connect(&peer) && peer.pid == Some(std::process::id() as i32));
        socket.close();
    }

    #[test]
    fn only_its_own_user_and_root_may_connect_whatever_their_group() {
        let own = rustix::process::geteuid().as_raw();
        let gid = rustix::process::getegid().as_raw();
        let may = |uid| {
            may_connect(&Peer {
                uid,
                gid,
                pid: None,
            })
        };
        assert!(may(own) && may(0));
        for other in [own + 1, own + 1000, u32::MAX] {
            assert!(!may(other), "{other}");
        }
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let (_folder, path) = path();
        std::fs::write(&path, "notes").unwrap();
        assert!(matches!(Socket::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_taken_away() {
        let (_folder, path) = path();
        let first = Socket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Socket::bind(&path).unwrap();
        first.close();
        assert!(path.exists());
        second.close();
    }
}
