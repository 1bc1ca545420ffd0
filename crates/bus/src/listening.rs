//! Where a bus listens: the same for every library, which only binds.

use crate::socket_file::{self, SocketFile};
use crate::{BusUrl, Endpoint, OpenBusError};

/// The file of a socket in the file system, which goes when this is dropped.
pub(crate) type File = Option<SocketFile>;

/// Binds a library's socket, which gets the address in its own spelling: `ipc` a path that is only on the way to the
/// right one, `tcp` the address itself, and says its port.
pub(crate) fn bind(
    url: &BusUrl,
    endpoint: &Endpoint,
    ipc: impl FnOnce(&str) -> Result<(), String>,
    tcp: impl FnOnce(&str) -> Result<u16, String>,
) -> Result<(Endpoint, File), OpenBusError> {
    let bound = match endpoint {
        Endpoint::Ipc(path) => {
            let inside = |path: &std::path::Path| ipc(&Endpoint::Ipc(path.to_owned()).to_string());
            socket_file::bind(path, inside).map(|((), file)| (endpoint.clone(), Some(file)))
        }
        Endpoint::Tcp { .. } => {
            tcp(&endpoint.to_string()).map(|port| (endpoint.with_port(port), None))
        }
    };
    bound.map_err(|reason| OpenBusError::Bind {
        url: url.clone(),
        reason,
    })
}
