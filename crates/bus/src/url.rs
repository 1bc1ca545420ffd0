//! The addresses of a bus: `mem:`, `nng+tcp://host:port`, `nng+ipc:///path`, `zmq+tcp://host:port`, `zmq+ipc:///path`.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where messages travel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BusUrl {
    /// Within this process.
    Mem,
    /// By nng.
    Nng(Endpoint),
    /// By ZeroMQ.
    Zmq(Endpoint),
}

/// One end of a socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP port.
    Tcp {
        /// A name or a number, an IPv6 one without its brackets.
        host: String,
        /// 0 takes a free one where it is bound.
        port: u16,
    },
    /// A Unix domain socket.
    Ipc(PathBuf),
}

/// Why a text is no address of a bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBusUrl {
    /// It has another form.
    #[error(
        "\"{0}\" is not a bus URL such as mem:, nng+tcp://127.0.0.1:5555 or zmq+ipc:///run/stack/bus.sock"
    )]
    Form(String),
    /// This program was built without it.
    #[error("the transport of \"{0}\" is not compiled into this gateway; it has {has}", has = compiled_in())]
    NotCompiledIn(String),
}

fn compiled_in() -> String {
    let mut all = vec!["mem:"];
    if cfg!(feature = "with-nng") {
        all.extend(["nng+tcp:", "nng+ipc:"]);
    }
    if cfg!(feature = "with-zmq") {
        all.extend(["zmq+tcp:", "zmq+ipc:"]);
    }
    all.join(", ")
}

impl BusUrl {
    /// The end of the socket, where there is one.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            Self::Mem => None,
            Self::Nng(endpoint) | Self::Zmq(endpoint) => Some(endpoint),
        }
    }

    /// Whether what is sent there may leave this machine.
    #[must_use]
    pub fn leaves_the_machine(&self) -> bool {
        self.endpoint()
            .is_some_and(|endpoint| !endpoint.is_on_this_machine())
    }
}

impl Endpoint {
    /// Whether the other end is on this machine too.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Ipc(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// The same with another port.
    #[cfg(any(feature = "with-nng", feature = "with-zmq"))]
    pub(crate) fn with_port(&self, port: u16) -> Self {
        match self {
            Self::Tcp { host, .. } => Self::Tcp {
                host: host.clone(),
                port,
            },
            Self::Ipc(path) => Self::Ipc(path.clone()),
        }
    }

    fn parse(scheme: &str, rest: &str) -> Option<Self> {
        match scheme {
            "tcp" => {
                let (host, port) = rest.rsplit_once(':')?;
                let port = port.parse().ok()?;
                let host = match host.strip_prefix('[') {
                    Some(number) => {
                        let number = number.strip_suffix(']')?;
                        number.parse::<std::net::Ipv6Addr>().ok()?;
                        number
                    }
                    None => host,
                };
                let tame = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
                let named = !host.is_empty() && host.chars().all(tame);
                let plain = !host.contains(':') || host.parse::<IpAddr>().is_ok();
                (named && plain).then(|| Self::Tcp {
                    host: host.to_owned(),
                    port,
                })
            }
            "ipc" => {
                let path = Path::new(rest);
                (path.is_absolute() && path.file_name().is_some() && !rest.contains('\0'))
                    .then(|| Self::Ipc(path.to_owned()))
            }
            _ => None,
        }
    }
}

/// As the libraries write it, which is the same for both. They do not look names up where they bind, so the one
/// name that needs no looking up is a number here.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host == "localhost" => write!(f, "tcp://127.0.0.1:{port}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(f, "ipc://{}", path.display()),
        }
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mem => f.write_str("mem:"),
            Self::Nng(endpoint) => write!(f, "nng+{endpoint}"),
            Self::Zmq(endpoint) => write!(f, "zmq+{endpoint}"),
        }
    }
}

impl FromStr for BusUrl {
    type Err = InvalidBusUrl;

    fn from_str(text: &str) -> Result<Self, InvalidBusUrl> {
        if text == "mem:" {
            return Ok(Self::Mem);
        }
        let no_form = || InvalidBusUrl::Form(text.to_owned());
        let (scheme, rest) = text.split_once("://").ok_or_else(no_form)?;
        let (library, scheme) = scheme.split_once('+').ok_or_else(no_form)?;
        let endpoint = Endpoint::parse(scheme, rest).ok_or_else(no_form)?;
        match library {
            "nng" if cfg!(feature = "with-nng") => Ok(Self::Nng(endpoint)),
            "zmq" if cfg!(feature = "with-zmq") => Ok(Self::Zmq(endpoint)),
            "nng" | "zmq" => Err(InvalidBusUrl::NotCompiledIn(text.to_owned())),
            _ => Err(no_form()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "with-nng", feature = "with-zmq"))]
    #[test]
    fn addresses_are_read_and_written() {
        for text in [
            "mem:",
            "nng+tcp://127.0.0.1:5555",
            "nng+ipc:///run/stack/bus.sock",
            "zmq+tcp://[::1]:0",
            "zmq+tcp://origin.example:5556",
            "zmq+ipc:///tmp/a b",
        ] {
            assert_eq!(text.parse::<BusUrl>().unwrap().to_string(), text);
        }
        let local: BusUrl = "zmq+tcp://localhost:1".parse().unwrap();
        assert_eq!(local.to_string(), "zmq+tcp://127.0.0.1:1");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "mem",
            "mem://",
            "nng://127.0.0.1:1",
            "tcp://127.0.0.1:1",
            "nng+tcp://127.0.0.1",
            "nng+tcp://:1",
            "nng+tcp://*:1",
            "nng+tcp://a b:1",
            "nng+tcp://::1:1:",
            "nng+tcp://[127.0.0.1]:1",
            "nng+tcp://a:70000",
            "nng+ipc://relative",
            "nng+ipc:///",
            "nng+udp://127.0.0.1:1",
            "nats+tcp://127.0.0.1:1",
        ] {
            let refused = bad.parse::<BusUrl>();
            assert!(matches!(refused, Err(InvalidBusUrl::Form(_))), "{bad:?}");
        }
    }

    #[cfg(not(feature = "with-nng"))]
    #[test]
    fn what_is_not_compiled_in_is_refused() {
        let refused = "nng+tcp://127.0.0.1:1".parse::<BusUrl>().unwrap_err();
        assert!(matches!(refused, InvalidBusUrl::NotCompiledIn(_)));
        assert!(refused.to_string().contains("mem:"));
    }

    #[cfg(feature = "with-zmq")]
    #[test]
    fn only_loopback_and_files_stay_on_the_machine() {
        let leaves = |text: &str| text.parse::<BusUrl>().unwrap().leaves_the_machine();
        for here in [
            "mem:",
            "zmq+ipc:///a",
            "zmq+tcp://127.8.0.1:1",
            "zmq+tcp://[::1]:1",
            "zmq+tcp://localhost:1",
        ] {
            assert!(!leaves(here), "{here}");
        }
        for away in [
            "zmq+tcp://0.0.0.0:1",
            "zmq+tcp://[::]:1",
            "zmq+tcp://10.0.0.1:1",
            "zmq+tcp://localhost.example:1",
        ] {
            assert!(leaves(away), "{away}");
        }
    }
}
