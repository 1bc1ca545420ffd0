//! Networks whose word counts. A configuration that is read again may change them while they are asked.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::RwLock;

/// A list of networks. Cloning shares it. It is asked with every connection or request, never with a frame.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks(Arc<RwLock<Arc<[IpNet]>>>);

impl Networks {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(Arc::new(RwLock::new(networks.into())))
    }

    /// Those that count now.
    pub(crate) fn now(&self) -> Arc<[IpNet]> {
        self.0.read().clone()
    }

    /// Whether this address is in one of them. An IPv4 address counts as such however it is written.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0
            .read()
            .iter()
            .any(|network| network.contains(&address))
    }

    /// From now on it is these that count.
    pub(crate) fn set(&self, networks: &[IpNet]) {
        *self.0.write() = networks.into();
    }
}
