//! Where a request comes from. What a client says of itself is believed only when a configured proxy says it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of the TCP connection; the server puts it into every request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// The client's address. `X-Forwarded-For` is read right to left, since each proxy appends whom it saw: as long as
/// the address at hand is a trusted proxy, the next one to the left is believed. An entry that is not an address
/// ends the walk at the proxy that wrote it.
pub(crate) fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(&ip));
    let values: Vec<&str> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .map(|value| value.to_str().unwrap_or(""))
        .collect();
    let mut forwarded = values
        .iter()
        .rev()
        .flat_map(|value| value.rsplit(','))
        .map(str::trim);

    let mut ip = peer.to_canonical();
    while is_trusted(ip) {
        match forwarded.next().and_then(parse) {
            Some(next) => ip = next,
            None => break,
        }
    }
    ip
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>()
        .ok()
        .or_else(|| entry.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, value.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        client_ip(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(seen("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
    }

    #[test]
    fn a_chain_is_read_from_the_right_to_the_first_stranger() {
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.7, 198.51.100.9, 10.0.0.2"]),
            "198.51.100.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.7", "198.51.100.9"]),
            "198.51.100.9"
        );
        assert_eq!(seen("::1", &["2001:db8::1"]), "2001:db8::1");
    }

    #[test]
    fn odd_entries_end_the_walk() {
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.9, unknown"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &["10.0.0.3"]), "10.0.0.3");
        assert_eq!(
            seen("::ffff:10.0.0.1", &["[2001:db8::1]:443"]),
            "2001:db8::1"
        );
    }
}
