//! Which bus a process has: its addresses, and what makes them safe.

use std::sync::Arc;

use crate::{Bus, BusUrl, Curve, DEFAULT_QUEUE, Endpoint, MemBus};

/// What a bus is opened from.
#[derive(Debug, Clone)]
pub struct BusConfig {
    /// Where others dial to hear what is published here.
    pub url: BusUrl,
    /// Further addresses to publish to, which are dialled.
    pub publish: Vec<BusUrl>,
    /// Addresses of publishers to hear, which are dialled.
    pub subscribe: Vec<BusUrl>,
    /// The keys of ZeroMQ over TCP; without them it is plain.
    pub curve: Option<Curve>,
    /// How many messages a subscription queues.
    pub queue: usize,
}

/// What is done at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Others dial it.
    Bind,
    /// It is dialled.
    Dial,
}

/// Why an address is not used as it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// nng over TCP beyond this machine.
    #[error(
        "nng has no encryption here that also asks who reads; over TCP it is for loopback addresses, use zmq+tcp with CURVE keys, nng+ipc or a tunnel"
    )]
    NngInTheOpen,
    /// ZeroMQ over TCP beyond this machine, without keys.
    #[error("ZeroMQ over TCP leaves this machine only with CURVE keys")]
    ZmqInTheOpen,
    /// Keys, and nobody who may dial.
    #[error("nobody may dial it: there are CURVE keys, and no list of authorized keys")]
    NobodyAuthorized,
    /// Keys, and not that of who is dialled.
    #[error("the CURVE key of who is dialled is not known")]
    NoServerKey,
    /// Every port is one's own.
    #[error("port 0 cannot be dialled")]
    NoPort,
}

/// A bus cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenBusError {
    /// The transport of the address is not in this program.
    #[error("the transport of {url} is not compiled in")]
    NotCompiledIn {
        /// The address.
        url: BusUrl,
    },
    /// The address is not safe, or cannot work.
    #[error("{url} is refused")]
    Refused {
        /// The address.
        url: BusUrl,
        /// Why.
        #[source]
        doubt: Doubt,
    },
    /// The address cannot be bound.
    #[error("cannot listen on {url}: {reason}")]
    Bind {
        /// The address.
        url: BusUrl,
        /// What the transport says.
        reason: String,
    },
    /// The address cannot be dialled, now or ever.
    #[error("cannot dial {url}: {reason}")]
    Dial {
        /// The address.
        url: BusUrl,
        /// What the transport says.
        reason: String,
    },
    /// A socket cannot be made.
    #[error("cannot make a socket of the bus: {reason}")]
    Socket {
        /// What the transport says.
        reason: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread of the bus: {reason}")]
    Thread {
        /// What the system says.
        reason: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Randomness,
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            url: BusUrl::Mem,
            publish: Vec::new(),
            subscribe: Vec::new(),
            curve: None,
            queue: DEFAULT_QUEUE,
        }
    }
}

impl BusConfig {
    /// Whether messages leave this process, or come from elsewhere.
    #[must_use]
    pub fn has_wire(&self) -> bool {
        self.all().any(|(url, _)| *url != BusUrl::Mem)
    }

    fn all(&self) -> impl Iterator<Item = (&BusUrl, Role)> {
        let dialled = self.publish.iter().chain(&self.subscribe);
        std::iter::once((&self.url, Role::Bind)).chain(dialled.map(|url| (url, Role::Dial)))
    }

    /// Looks at every address as [`BusUrl::doubt`] does.
    ///
    /// # Errors
    /// With the first that is refused.
    pub fn check(&self) -> Result<(), OpenBusError> {
        for (url, role) in self.all() {
            if let Some(doubt) = url.doubt(role, self.curve.as_ref()) {
                return Err(OpenBusError::Refused {
                    url: url.clone(),
                    doubt,
                });
            }
        }
        Ok(())
    }
}

impl BusUrl {
    /// Why this address is not used so.
    #[must_use]
    pub fn doubt(&self, role: Role, curve: Option<&Curve>) -> Option<Doubt> {
        if let (Some(Endpoint::Tcp { port: 0, .. }), Role::Dial) = (self.endpoint(), role) {
            return Some(Doubt::NoPort);
        }
        match (self, curve) {
            (Self::Nng(_), _) if self.leaves_the_machine() => Some(Doubt::NngInTheOpen),
            (Self::Zmq(Endpoint::Tcp { .. }), None) if self.leaves_the_machine() => {
                Some(Doubt::ZmqInTheOpen)
            }
            (Self::Zmq(Endpoint::Tcp { .. }), Some(curve)) => match role {
                Role::Bind => curve
                    .authorized
                    .is_empty()
                    .then_some(Doubt::NobodyAuthorized),
                Role::Dial => curve.server.is_none().then_some(Doubt::NoServerKey),
            },
            _ => None,
        }
    }
}

/// Opens the bus. Without an address beyond this process it is a [`MemBus`].
///
/// # Errors
/// An address cannot be used.
pub fn open(config: &BusConfig) -> Result<Arc<dyn Bus>, OpenBusError> {
    if !config.has_wire() {
        return Ok(Arc::new(MemBus::new(config.queue)));
    }
    #[cfg(any(feature = "with-nng", feature = "with-zmq"))]
    return Ok(Arc::new(crate::WireBus::open(config)?));
    #[cfg(not(any(feature = "with-nng", feature = "with-zmq")))]
    Err(OpenBusError::NotCompiledIn {
        url: config
            .all()
            .map(|(url, _)| url)
            .find(|url| **url != BusUrl::Mem)
            .unwrap_or(&config.url)
            .clone(),
    })
}
