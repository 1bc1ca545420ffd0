//! Whose bucket it is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stack_types::UserId;

/// Where a request comes from, as far as limits care: an IPv4 address, or the /64 of an IPv6 address, since that is
/// what one household or one machine is given and can pick addresses from at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpKey(Net);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Net {
    V4(Ipv4Addr),
    /// The upper 64 bits.
    V6(u64),
    /// `::1`, which shares its /64 with nothing that travels.
    Loopback6,
}

impl IpKey {
    /// Whether the request comes from this machine.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        match self.0 {
            Net::V4(address) => address.is_loopback(),
            Net::V6(_) => false,
            Net::Loopback6 => true,
        }
    }
}

impl From<IpAddr> for IpKey {
    fn from(address: IpAddr) -> Self {
        // A dual-stack socket shows an IPv4 peer as `::ffff:a.b.c.d`; all of them share one /64.
        Self(match address.to_canonical() {
            IpAddr::V4(address) => Net::V4(address),
            IpAddr::V6(Ipv6Addr::LOCALHOST) => Net::Loopback6,
            IpAddr::V6(address) => Net::V6((u128::from(address) >> 64) as u64),
        })
    }
}

/// `192.0.2.1`, `2001:db8:1:2::/64` or `::1`: also the name under which a long-term counter is kept.
impl fmt::Display for IpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Net::V4(address) => address.fmt(f),
            Net::V6(upper) => write!(f, "{}/64", Ipv6Addr::from(u128::from(upper) << 64)),
            Net::Loopback6 => Ipv6Addr::LOCALHOST.fmt(f),
        }
    }
}

/// Who calls the API: the user, or, before sign-in, the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerKey {
    /// Somebody signed in.
    User(UserId),
    /// Somebody unknown.
    Ip(IpKey),
}

impl From<UserId> for CallerKey {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl From<IpKey> for CallerKey {
    fn from(ip: IpKey) -> Self {
        Self::Ip(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IpKey {
        IpKey::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn ipv4_counts_whole_and_ipv6_by_its_64() {
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(
            key("2001:db8:1:2::1"),
            key("2001:db8:1:2:ffff:ffff:ffff:ffff")
        );
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("192.0.2.1").to_string(), "192.0.2.1");
        assert_eq!(key("2001:db8:1:2::1").to_string(), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address() {
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.2.2"));
        assert!(key("::ffff:127.0.0.1").is_loopback());
    }

    #[test]
    fn loopback_is_known_in_both_families() {
        for local in ["127.0.0.1", "127.9.9.9", "::1"] {
            assert!(key(local).is_loopback(), "{local}");
        }
        for remote in ["192.168.0.1", "::2", "::", "fe80::1"] {
            assert!(!key(remote).is_loopback(), "{remote}");
        }
        assert_eq!(key("::1").to_string(), "::1");
    }
}
