//! What connections are accepted from: addresses of TCP, Unix sockets, and what a service manager has opened already.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};

use crate::config::Endpoint;
use crate::error::StartError;

/// Connections that wait to be accepted. When thousands come back at once, one that finds no place here tries again a
/// second later; the kernel may allow fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4096;

/// Who may write to a Unix socket may talk to the gateway: its owner, and a proxy in its group.
const SOCKET_MODE: u32 = 0o660;

/// Whoever comes by a Unix socket is on this machine.
const UNIX_PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Something that connections come from.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        /// The file, if it is ours to remove.
        path: Option<PathBuf>,
    },
}

/// A connection that was accepted.
pub(super) enum Accepted {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on all of these.
    pub(crate) fn bind_all(endpoints: &[Endpoint]) -> Result<Vec<Self>, StartError> {
        let bind = |endpoint| Self::bind(endpoint, endpoints);
        endpoints.iter().map(bind).collect()
    }

    fn bind(endpoint: &Endpoint, all: &[Endpoint]) -> Result<Self, StartError> {
        let bound = match endpoint {
            Endpoint::Tcp(addr) => bind_tcp(*addr, all).map(Self::Tcp),
            Endpoint::Unix(path) => bind_unix(path).map(|listener| Self::Unix {
                listener,
                path: Some(path.clone()),
            }),
        };
        bound.map_err(|source| StartError::Listen {
            endpoint: endpoint.to_string(),
            source,
        })
    }

    /// The listening sockets that a service manager has handed to this process. They are taken once.
    pub(crate) fn inherited() -> Result<Vec<Self>, StartError> {
        let mut given = ListenFd::from_env();
        (0..given.len())
            .map(|index| take(&mut given, index))
            .collect::<io::Result<_>>()
            .map_err(|source| StartError::Listen {
                endpoint: "what the service manager has opened (LISTEN_FDS)".into(),
                source,
            })
    }

    /// The address, unless it is a Unix socket.
    pub(crate) fn tcp_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix { .. } => None,
        }
    }

    /// For people: an address, or a path.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => listener
                .local_addr()
                .map_or_else(|_| "?".into(), |addr| addr.to_string()),
            Self::Unix { listener, .. } => {
                let addr = listener.local_addr().ok();
                let path = addr.as_ref().and_then(|addr| addr.as_pathname());
                format!("unix:{}", path.unwrap_or(Path::new("?")).display())
            }
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(Accepted, SocketAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Accepted::Tcp(stream), peer))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::Unix(stream), UNIX_PEER))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix {
            path: Some(path), ..
        } = self
        {
            // One that is left behind is taken over at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Listens on one address; `all` are those listened on beside it.
pub(crate) fn bind_tcp(addr: SocketAddr, all: &[Endpoint]) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // `[::]` takes IPv4 as well, unless that is listened on by itself.
    let beside = SocketAddr::from((Ipv4Addr::UNSPECIFIED, addr.port()));
    if addr.is_ipv6() && addr.port() != 0 && all.contains(&Endpoint::Tcp(beside)) {
        SockRef::from(&socket).set_only_v6(true)?;
    }
    // A gateway that was just stopped leaves connections behind that hold its address for a minute.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // A gateway that was killed leaves its socket behind.
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && is_left_behind(path)? {
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

/// Whether nobody listens on a socket any more. One whose backlog is full, or that is not ours to write to, is not left
/// behind.
fn is_left_behind(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    Ok(socket.connect(&SockAddr::unix(path)?).is_err_and(refused))
}

/// A socket that does not listen would accept nothing, and say so ten times a second.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn check_listens(socket: &impl AsFd) -> io::Result<()> {
    if SockRef::from(socket).is_listener()? {
        return Ok(());
    }
    let reason = "one of its sockets does not listen";
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn check_listens(_: &impl AsFd) -> io::Result<()> {
    Ok(())
}

fn take(given: &mut ListenFd, index: usize) -> io::Result<Listener> {
    let tcp = given.take_tcp_listener(index);
    if let Ok(Some(listener)) = tcp {
        check_listens(&listener)?;
        listener.set_nonblocking(true)?;
        return TcpListener::from_std(listener).map(Listener::Tcp);
    }
    let listener: StdUnixListener = given
        .take_unix_listener(index)?
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a socket stands twice"))?;
    check_listens(&listener)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix {
        listener: UnixListener::from_std(listener)?,
        // The service manager's.
        path: None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as StdTcpStream;
    use std::os::unix::net::{UnixDatagram, UnixStream as StdUnixStream};

    use super::*;

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(is_left_behind(&path).unwrap());
        fs::remove_file(&path).unwrap();

        // Whoever listens may be too busy to accept: the connection does not even wait.
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let _waits = StdUnixStream::connect(&path).unwrap();
        assert!(!is_left_behind(&path).unwrap());
        drop(socket);
        fs::remove_file(&path).unwrap();

        let _other = UnixDatagram::bind(&path).unwrap();
        assert!(!is_left_behind(&path).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_socket_has_to_listen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        check_listens(&listener).unwrap();
        let connected = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let told = check_listens(&connected).unwrap_err().to_string();
        assert!(told.contains("does not listen"), "{told}");
        check_listens(&StdUnixStream::pair().unwrap().0).unwrap_err();
    }
}
