//! How many connections may be open: in all, and from one address. A WebSocket keeps the place of the connection it
//! came from. On HTTP/2 a WebSocket and a request beside another count like connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use prometheus::IntCounter;
use stack_rate::IpKey;

use crate::config::{Config, ConnectionLimits};

/// Whoever is refused comes again at once, thousands of times a second; the log need not follow.
const LOGGED_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// The places. Cloning shares them.
#[derive(Debug, Clone)]
pub(crate) struct Places(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    refused: IntCounter,
    taken: Mutex<Taken>,
}

/// How many places there are.
#[derive(Debug)]
struct Share {
    limits: ConnectionLimits,
    /// Who stands for many.
    proxies: Vec<IpNet>,
}

#[derive(Debug)]
struct Taken {
    share: Share,
    total: usize,
    /// Only addresses with a connection are in here, so that it is no larger than `total`.
    by_ip: HashMap<IpKey, usize>,
    unlogged: u64,
    logged_at: Option<Instant>,
}

/// An open connection's place. Dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    /// Whose, where that is counted.
    ip: Option<IpKey>,
}

/// More places for somebody who has one already. Cloning shares them.
#[derive(Clone)]
pub(super) struct Beside {
    places: Places,
    ip: Option<IpKey>,
    peer: IpAddr,
}

impl Beside {
    /// Takes one, if there is one.
    pub(super) fn take(&self) -> Option<Place> {
        self.places.take_as(self.ip, self.peer)
    }
}

impl Places {
    /// None of them is taken. Those who find none are counted in `refused`.
    pub(crate) fn new(config: &Config, refused: IntCounter) -> Self {
        Self::with(Share::of(config), refused)
    }

    /// So many in all, for whomever.
    pub(crate) fn few(total: usize, refused: IntCounter) -> Self {
        let per_ip = total;
        Self::of(ConnectionLimits { total, per_ip }, refused)
    }

    /// So many, for whomever: nobody but this machine stands for others.
    pub(crate) fn of(limits: ConnectionLimits, refused: IntCounter) -> Self {
        let proxies = Vec::new();
        Self::with(Share { limits, proxies }, refused)
    }

    fn with(share: Share, refused: IntCounter) -> Self {
        let taken = Taken {
            share,
            total: 0,
            by_ip: HashMap::new(),
            unlogged: 0,
            logged_at: None,
        };
        Self(Arc::new(Inner {
            refused,
            taken: Mutex::new(taken),
        }))
    }

    /// There are as many from now on as this says. Nobody loses a place by it.
    pub(crate) fn set(&self, config: &Config) {
        self.0.taken.lock().share = Share::of(config);
    }

    /// Takes a place for a connection from this address, if there is one.
    pub(crate) fn take(&self, peer: IpAddr) -> Option<Place> {
        let ip = self.0.taken.lock().share.counted(peer);
        self.take_as(ip, peer)
    }

    fn take_as(&self, ip: Option<IpKey>, peer: IpAddr) -> Option<Place> {
        let mut taken = self.0.taken.lock();
        let of_ip = ip.and_then(|ip| taken.by_ip.get(&ip)).copied().unwrap_or(0);
        let limits = taken.share.limits;
        if taken.total >= limits.total || of_ip >= limits.per_ip {
            self.refuse(&mut taken, peer);
            return None;
        }
        taken.total += 1;
        if let Some(ip) = ip {
            taken.by_ip.insert(ip, of_ip + 1);
        }
        Some(Place {
            places: self.clone(),
            ip,
        })
    }

    fn refuse(&self, taken: &mut Taken, peer: IpAddr) {
        self.0.refused.inc();
        taken.unlogged += 1;
        let due = |at: Instant| at.elapsed() >= LOGGED_AT_MOST_EVERY;
        if taken.logged_at.is_none_or(due) {
            let (refused, open) = (taken.unlogged, taken.total);
            tracing::warn!(
                refused, open, %peer,
                "too many connections: {refused} refused, {open} are open, the last one came from {peer}"
            );
            taken.unlogged = 0;
            taken.logged_at = Some(Instant::now());
        }
    }
}

impl Share {
    fn of(config: &Config) -> Self {
        Self {
            limits: config.connections,
            proxies: [&config.trusted_proxies[..], &config.proxy_protocol].concat(),
        }
    }

    /// Under which address a connection counts. A trusted proxy stands for all of its clients, and on this machine are
    /// developers, tests, and proxies whose address nobody has configured.
    fn counted(&self, peer: IpAddr) -> Option<IpKey> {
        let peer = peer.to_canonical();
        let is_proxy = self.proxies.iter().any(|net| net.contains(&peer));
        (!is_proxy && !peer.is_loopback()).then(|| IpKey::from(peer))
    }
}

impl Place {
    /// The same place for a connection that turns out to come from this address, if that one has one left. It counts for
    /// that address whichever it is: who stands for many is who connects, not who is said to.
    pub(crate) fn of(self, client: IpAddr) -> Option<Self> {
        let places = self.places.clone();
        // First given back, so that the total is not too large by one.
        drop(self);
        places.take_as(Some(IpKey::from(client)), client)
    }

    /// More places for the one who has this; `peer` is who that is, for people.
    pub(super) fn beside(&self, peer: IpAddr) -> Beside {
        Beside {
            places: self.places.clone(),
            ip: self.ip,
            peer,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock();
        taken.total -= 1;
        if let Some(ip) = self.ip
            && let Some(of_ip) = taken.by_ip.get_mut(&ip)
        {
            *of_ip -= 1;
            if *of_ip == 0 {
                taken.by_ip.remove(&ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(total: usize, per_ip: usize) -> Places {
        let config = Config {
            connections: ConnectionLimits { total, per_ip },
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            ..Config::default()
        };
        Places::new(&config, IntCounter::new("refused", "refused").unwrap())
    }

    fn take(places: &Places, from: &str, times: usize) -> Vec<Place> {
        let ip = from.parse().unwrap();
        (0..times).filter_map(|_| places.take(ip)).collect()
    }

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let places = places(100, 3);
        let mut first = take(&places, "192.0.2.1", 5);
        assert_eq!(first.len(), 3);
        assert_eq!(take(&places, "::ffff:192.0.2.1", 1).len(), 0);
        assert_eq!(take(&places, "192.0.2.2", 5).len(), 3);
        assert_eq!(places.0.refused.get(), 5);
        drop(first.pop());
        assert_eq!(take(&places, "192.0.2.1", 5).len(), 1);
        drop(first);
        assert!(places.0.taken.lock().by_ip.is_empty());
        assert_eq!(places.0.taken.lock().total, 0);
    }

    #[test]
    fn a_connection_counts_for_whom_its_proxy_says() {
        let places = places(100, 1);
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let mut of_proxy = take(&places, "10.0.0.1", 2);
        let held = of_proxy.pop().unwrap().of(client).unwrap();
        assert!(of_proxy.pop().unwrap().of(client).is_none());
        assert_eq!(take(&places, "192.0.2.1", 1).len(), 0);
        drop(held);
        assert_eq!(places.0.taken.lock().total, 0);
    }

    #[test]
    fn a_client_behind_a_proxy_is_exempt_by_no_address() {
        for client in ["127.0.0.1", "10.0.0.2", "::ffff:10.0.0.2", "::1"] {
            let places = places(100, 1);
            let client: IpAddr = client.parse().unwrap();
            let mut of_proxy = take(&places, "10.0.0.1", 2);
            let _held = of_proxy.pop().unwrap().of(client).unwrap();
            assert!(of_proxy.pop().unwrap().of(client).is_none(), "{client}");
        }
    }

    #[test]
    fn places_beside_one_are_counted_like_it() {
        let places = places(100, 2);
        let client: IpAddr = "127.0.0.1".parse().unwrap();
        let held = take(&places, "10.0.0.1", 1).pop().unwrap();
        let held = held.of(client).unwrap();
        let beside = held.beside(client);
        let second = beside.take().unwrap();
        assert!(beside.take().is_none());
        drop(second);
        assert!(beside.take().is_some());
        // Who is exempt stays so.
        let own = take(&places, "127.0.0.1", 1).pop().unwrap();
        let beside = own.beside(client);
        let more: Vec<_> = (0..9).filter_map(|_| beside.take()).collect();
        assert_eq!(more.len(), 9);
    }

    #[test]
    fn an_address_has_its_share_of_few_too() {
        let limits = ConnectionLimits {
            total: 5,
            per_ip: 2,
        };
        let places = Places::of(limits, IntCounter::new("refused", "refused").unwrap());
        let _held = take(&places, "192.0.2.1", 9);
        assert_eq!(take(&places, "192.0.2.2", 9).len(), 2);
        assert_eq!(take(&places, "192.0.2.1", 1).len(), 0);
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one() {
        let places = places(100, 3);
        let _held = take(&places, "2001:db8::1", 3);
        assert_eq!(take(&places, "2001:db8::2", 1).len(), 0);
        assert_eq!(take(&places, "2001:db8:0:1::1", 1).len(), 1);
    }

    #[test]
    fn proxies_and_this_machine_stand_for_many() {
        let places = places(100, 3);
        for exempt in ["10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1", "::1"] {
            assert_eq!(take(&places, exempt, 10).len(), 10, "{exempt}");
        }
    }

    #[test]
    fn a_share_may_change_while_places_are_taken() {
        let places = places(100, 3);
        let held = take(&places, "192.0.2.1", 3);
        let mut config = Config {
            connections: ConnectionLimits {
                total: 100,
                per_ip: 4,
            },
            ..Config::default()
        };
        places.set(&config);
        let more = take(&places, "192.0.2.1", 9);
        assert_eq!(more.len(), 1);
        assert_eq!(take(&places, "10.0.0.1", 9).len(), 4, "no proxy any more");
        config.connections.per_ip = 1;
        places.set(&config);
        drop(held);
        assert_eq!(take(&places, "192.0.2.1", 9).len(), 0);
        drop(more);
        assert_eq!(take(&places, "192.0.2.1", 9).len(), 1);
        assert_eq!(places.0.taken.lock().total, 0);
    }

    #[test]
    fn all_together_have_no_more_than_there_are() {
        let places = places(4, 3);
        let held = take(&places, "127.0.0.1", 9);
        assert_eq!(held.len(), 4);
        assert_eq!(take(&places, "192.0.2.1", 1).len(), 0);
        drop(held);
        assert_eq!(take(&places, "192.0.2.1", 1).len(), 1);
    }
}
