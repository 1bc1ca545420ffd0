//! The settings of edges: where an edge's origin is, and where an origin listens for edges.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::endpoint::Endpoint;
use super::layers::Reader;
use super::value::Setting;

/// Both ends' settings.
#[derive(Debug, Clone, Default)]
pub struct EdgeSettings {
    /// Where an edge finds its origin.
    pub origin: Option<OriginUrl>,
    /// Where an origin listens for edges on other machines.
    pub listen: Option<SocketAddr>,
    /// What this end shows the other.
    pub tls_cert: Option<PathBuf>,
    /// The key of that.
    pub tls_key: Option<PathBuf>,
    /// Whom an origin takes for an edge: whose certificate is by one of these.
    pub client_ca: Option<PathBuf>,
    /// Whom an edge takes for its origin.
    pub origin_ca: Option<PathBuf>,
}

/// Where an edge's origin is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginUrl {
    /// On this machine, at its local socket.
    Local(PathBuf),
    /// On another one, behind TLS.
    Tls {
        /// The name that its certificate has.
        host: String,
        /// The port.
        port: u16,
    },
}

impl Setting for OriginUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted =
            || format!("\"{text}\" is neither unix:/path/to/gateway.sock nor tls://host:port");
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return (path.starts_with('/'))
                .then(|| Self::Local(path.into()))
                .ok_or_else(wanted);
        }
        if text.starts_with("tcp:") || text.starts_with("http") {
            return Err(format!(
                "\"{text}\" would be in the clear; an origin on another machine is tls://host:port"
            ));
        }
        let (host, port) = text
            .strip_prefix("tls://")
            .and_then(|place| place.rsplit_once(':'))
            .ok_or_else(wanted)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.parse().map_err(|_| wanted())?;
        if host.is_empty() || port == 0 {
            return Err(wanted());
        }
        Ok(Self::Tls {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "unix:{}", path.display()),
            Self::Tls { host, port } => write!(f, "tls://{host}:{port}"),
        }
    }
}

fn listen(reader: &mut Reader) -> Option<SocketAddr> {
    let endpoint = reader.get_set::<Endpoint>("edge.listen")?;
    if endpoint.tcp().is_none() {
        let reason = "must be an address and a port; on one machine an edge uses ipc.path";
        reader.fault("edge.listen", reason.into());
    }
    endpoint.tcp()
}

pub(super) fn read(reader: &mut Reader) -> EdgeSettings {
    let settings = EdgeSettings {
        origin: reader.get_set("edge.origin"),
        listen: listen(reader),
        tls_cert: reader.get_set("edge.tls_cert"),
        tls_key: reader.get_set("edge.tls_key"),
        client_ca: reader.get_set("edge.client_ca"),
        origin_ca: reader.get_set("edge.origin_ca"),
    };
    let needed = [
        ("edge.tls_cert", settings.tls_cert.is_some()),
        ("edge.tls_key", settings.tls_key.is_some()),
    ];
    if settings.listen.is_some() {
        for (path, is_set) in needed
            .into_iter()
            .chain([("edge.client_ca", settings.client_ca.is_some())])
        {
            if !is_set {
                reader.fault(
                    path,
                    "edge.listen needs it: edges are never served in the clear".into(),
                );
            }
        }
    }
    if matches!(settings.origin, Some(OriginUrl::Tls { .. })) {
        for (path, is_set) in needed
            .into_iter()
            .chain([("edge.origin_ca", settings.origin_ca.is_some())])
        {
            if !is_set {
                reader.fault(path, "an origin at tls:// needs it".into());
            }
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_on_this_machine_or_behind_tls() {
        let local = OriginUrl::Local("/run/stack/gateway.sock".into());
        assert_eq!(
            OriginUrl::parse("unix:/run/stack/gateway.sock"),
            Ok(local.clone())
        );
        assert_eq!(
            OriginUrl::parse("unix:///run/stack/gateway.sock"),
            Ok(local)
        );
        let far = OriginUrl::Tls {
            host: "chat.example".into(),
            port: 8443,
        };
        assert_eq!(OriginUrl::parse("tls://chat.example:8443"), Ok(far));
        for wrong in [
            "unix:gateway.sock",
            "tls://chat.example",
            "tls://:1",
            "chat.example:1",
            "",
        ] {
            assert!(OriginUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert!(
            OriginUrl::parse("tcp://10.0.0.1:1")
                .unwrap_err()
                .contains("in the clear")
        );
    }
}
