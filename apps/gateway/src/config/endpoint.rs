//! Where the gateway listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::value::Setting;

/// Something to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and port of TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// The address, unless it is a Unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "{addr}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `localhost` is understood.
impl Setting for Endpoint {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(Self::Unix(path)),
                false => Err(format!(
                    "\"{text}\" does not name a socket by its whole path"
                )),
            };
        }
        let local = text
            .strip_prefix("localhost:")
            .and_then(|port| port.parse().ok())
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        local
            .or_else(|| text.parse().ok())
            .map(Self::Tcp)
            .ok_or_else(|| {
                format!(
                    "\"{text}\" is neither an address and port such as 127.0.0.1:8080 nor a socket such as \
                     unix:/run/stack.sock"
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_addresses_or_sockets() {
        let parsed = |text| Endpoint::parse(text).map(|endpoint| endpoint.to_string());
        assert_eq!(parsed("localhost:1"), Ok("127.0.0.1:1".into()));
        assert_eq!(parsed("[::1]:0"), Ok("[::1]:0".into()));
        assert_eq!(parsed("unix:/run/a.sock"), Ok("unix:/run/a.sock".into()));
        for bad in ["", "8080", "unix:", "unix:a.sock", "example.com:80"] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
