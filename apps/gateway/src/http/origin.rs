//! Which web origins are ours, and which others may call with credentials.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use parking_lot::RwLock;

use crate::config::{Config, Origin};

/// The origins a browser may speak from.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    public: Origin,
    own: Vec<Origin>,
    /// Shared by all clones, and changed while requests ask.
    allowed: Arc<RwLock<Vec<Origin>>>,
}

impl Origins {
    /// The origins of a gateway that listens on `bound`. Without a configured public URL it is `localhost` at that
    /// port; whatever is loopback is reached by its three usual names.
    pub(crate) fn new(config: &Config, bound: SocketAddr) -> Self {
        let public = config
            .public_url
            .clone()
            .unwrap_or_else(|| match config.tls {
                Some(_) => Origin::https("localhost", bound.port()),
                None => Origin::http("localhost", bound.port()),
            });
        let own = if public.is_loopback() && !public.is_https() {
            ["localhost", "127.0.0.1", "[::1]"]
                .map(|name| Origin::http(name, public.port()))
                .to_vec()
        } else {
            vec![public.clone()]
        };
        Self {
            public,
            own,
            allowed: Arc::new(RwLock::new(config.cors_origins.clone())),
        }
    }

    /// The origin under which browsers know the gateway.
    pub(crate) fn public(&self) -> &Origin {
        &self.public
    }

    /// Every origin that is ours.
    pub(crate) fn own(&self) -> &[Origin] {
        &self.own
    }

    /// Whether this is, letter by letter, an origin of ours.
    pub(crate) fn is_own(&self, origin: &str) -> bool {
        self.own.iter().any(|own| own.as_str() == origin)
    }

    /// Whether the operator lets pages of this origin call the API with credentials.
    pub(crate) fn is_allowed(&self, origin: &str) -> bool {
        let allowed = self.allowed.read();
        allowed.iter().any(|allowed| allowed.as_str() == origin)
    }

    /// It is these that are allowed from now on, here and in every clone.
    pub(crate) fn allow(&self, origins: &[Origin]) {
        *self.allowed.write() = origins.to_vec();
    }
}

/// The `Origin` header. One that is not text is some origin, and not ours.
pub(crate) fn of(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::ORIGIN)
        .map(|value| value.to_str().unwrap_or("null"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(public_url: Option<&str>) -> Origins {
        let config = Config {
            public_url: public_url.map(|url| {
                let (host, port) = url.rsplit_once(':').unwrap();
                Origin::http(host, port.parse().unwrap())
            }),
            ..Config::default()
        };
        Origins::new(&config, "127.0.0.1:9000".parse().unwrap())
    }

    #[test]
    fn without_a_public_url_the_bound_port_counts() {
        let origins = origins(None);
        assert_eq!(origins.public().as_str(), "http://localhost:9000");
        for own in [
            "http://localhost:9000",
            "http://127.0.0.1:9000",
            "http://[::1]:9000",
        ] {
            assert!(origins.is_own(own), "{own}");
        }
        for foreign in [
            "http://localhost:8080",
            "https://localhost:9000",
            "http://localhost:9000/",
            "null",
            "",
        ] {
            assert!(!origins.is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_public_host_has_one_name() {
        let origins = origins(Some("chat.example:80"));
        assert!(origins.is_own("http://chat.example"));
        assert!(!origins.is_own("http://localhost:9000"));
        assert!(!origins.is_own("http://127.0.0.1"));
    }
}
