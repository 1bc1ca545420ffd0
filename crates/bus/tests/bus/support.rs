//! Buses with a wire, to be tested.

use std::path::PathBuf;
use std::sync::Arc;

use stack_bus::{
    Bus, BusConfig, BusUrl, Curve, Losses, Message, Prefix, PublishError, Subscribing, WireBus,
};
use tempfile::TempDir;

/// An address of a kind that is free, and what it needs.
pub(crate) struct Place {
    pub(crate) url: BusUrl,
    pub(crate) server: Option<Curve>,
    pub(crate) client: Option<Curve>,
    _folder: TempDir,
}

impl Place {
    /// A kind is `nng+tcp` and the like, or `zmq+tcp with CURVE`.
    pub(crate) fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("bus.sock");
        let (scheme, curve) = match kind.split_once(" with ") {
            Some((scheme, "CURVE")) => (scheme, true),
            _ => (kind, false),
        };
        let url = match scheme.split_once('+') {
            Some((_, "ipc")) => format!("{scheme}://{}", path.display()),
            _ => format!("{scheme}://127.0.0.1:0"),
        };
        let (server, client) = if curve { curves() } else { (None, None) };
        Self {
            url: url.parse().unwrap(),
            server,
            client,
            _folder: folder,
        }
    }

    /// Binds the place, and knows from then on the port it got.
    pub(crate) fn publisher(&mut self, queue: usize) -> WireBus {
        let bus = WireBus::open(&BusConfig {
            url: self.url.clone(),
            curve: self.server.clone(),
            queue,
            ..BusConfig::default()
        })
        .unwrap();
        self.url = bus.bound().unwrap().clone();
        bus
    }

    pub(crate) fn subscriber(&self, queue: usize) -> WireBus {
        WireBus::open(&BusConfig {
            subscribe: vec![self.url.clone()],
            curve: self.client.clone(),
            queue,
            ..BusConfig::default()
        })
        .unwrap()
    }
}

#[cfg(feature = "with-zmq")]
pub(crate) fn curves() -> (Option<Curve>, Option<Curve>) {
    use stack_bus::CurveKeys;

    let (server, client) = (
        CurveKeys::generate().unwrap(),
        CurveKeys::generate().unwrap(),
    );
    let at_server = Curve {
        authorized: vec![client.public()],
        server: None,
        keys: server.clone(),
    };
    let at_client = Curve {
        authorized: Vec::new(),
        server: Some(server.public()),
        keys: client,
    };
    (Some(at_server), Some(at_client))
}

#[cfg(not(feature = "with-zmq"))]
fn curves() -> (Option<Curve>, Option<Curve>) {
    (None, None)
}

/// A bus with a bound wire, as those in its own process see it.
pub(crate) fn alone(kind: &str, queue: usize) -> Arc<dyn Bus> {
    Arc::new(Place::new(kind).publisher(queue))
}

/// Two buses: what is published on one is heard on the other.
pub(crate) fn over_the_wire(kind: &str, queue: usize) -> Arc<dyn Bus> {
    let mut place = Place::new(kind);
    Arc::new(Pair {
        here: place.publisher(queue),
        there: place.subscriber(queue),
        _place: place,
    })
}

struct Pair {
    here: WireBus,
    there: WireBus,
    _place: Place,
}

impl Bus for Pair {
    fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.here.publish(message)
    }

    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_> {
        self.there.subscribe(prefix)
    }

    fn dropped(&self) -> u64 {
        let Losses {
            dropped,
            unsent,
            lost,
            malformed,
        } = self.there.losses();
        self.here.losses().unsent + dropped + unsent + lost + malformed
    }

    fn close(&self) {
        self.here.close();
        self.there.close();
    }
}
