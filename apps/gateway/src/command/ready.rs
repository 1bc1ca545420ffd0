//! Whether the gateway that listens where the configuration says is ready for work: what the health check of a container
//! asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::CommandError;
use crate::config::{Config, Endpoint};

/// A gateway that takes longer is not ready.
const WITHIN: Duration = Duration::from_secs(5);

/// Asks the first address that the configuration listens on.
///
/// # Errors
/// Nobody answers there, or the gateway says that it is not ready.
pub(super) async fn ask(config: &Config) -> Result<(), CommandError> {
    let unready = |why: String| CommandError::Unready(why);
    let endpoint = config
        .listen
        .first()
        .ok_or_else(|| unready("nothing is listened on".into()))?;
    // Nothing secret is asked and the answer decides nothing but this, so whose certificate it is does not matter: it is
    // good for the name in public_url and not for this address.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(WITHIN)
        .tls_danger_accept_invalid_certs(true);
    let (client, url) = match endpoint {
        Endpoint::Tcp(addr) => {
            let scheme = if config.tls.is_some() {
                "https"
            } else {
                "http"
            };
            (client, format!("{scheme}://{}/readyz", reachable(*addr)))
        }
        Endpoint::Unix(path) => (
            client.unix_socket(path.as_path()),
            "http://localhost/readyz".to_owned(),
        ),
    };
    let told =
        |error: reqwest::Error| unready(format!("no answer from {endpoint}{}", causes(&error)));
    let client = client.build().map_err(told)?;
    let answer = client.get(url).send().await.map_err(told)?;
    match answer.status() {
        http::StatusCode::OK => Ok(()),
        status => {
            let why = answer.text().await.map_err(told)?;
            Err(unready(format!("{endpoint} answers {status}: {why}")))
        }
    }
}

/// What is behind an error of the library, whose own words say no more than that there is one.
fn causes(error: &reqwest::Error) -> String {
    let mut told = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        told.push_str(&format!(": {error}"));
        cause = error.source();
    }
    told
}

/// Where this machine reaches what is listened on at this address.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
