//! Topics and bytes between the parts of a gateway, and between gateways. The bus knows no domain: a topic is a
//! name, what travels under it is ready frames.
//!
//! The bus is quick and may lose. What must not be lost stands in a room's log, under a number; a reader that
//! misses a number reads it from there. So nothing on the bus waits for a slow reader, and every loss is counted.

mod config;
pub mod conformance;
mod curve;
#[cfg(all(unix, any(feature = "with-nng", feature = "with-zmq")))]
mod listening;
mod mem;
#[cfg(feature = "with-nng")]
mod nng;
#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
mod outbox;
#[cfg(all(unix, any(feature = "with-nng", feature = "with-zmq")))]
mod socket_file;
mod subscription;
mod topic;
mod url;
#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
mod wire;
#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
mod wire_bus;
#[cfg(feature = "with-zmq")]
mod zmq;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use stack_types::Frames;

pub use config::{BusConfig, Doubt, OpenBusError, Role, open};
pub use curve::{Curve, CurveKey, CurveKeys, InvalidCurveKey};
pub use mem::{DEFAULT_QUEUE, MemBus};
pub use subscription::{Feed, Offer, Subscription, subscription};
pub use topic::{InvalidTopic, Prefix, Topic};
pub use url::{BusUrl, Endpoint, InvalidBusUrl};
#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
pub use wire_bus::WireBus;

/// Some frames under a topic. Cloning shares both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub topic: Topic,
    /// What is said, ready to send.
    pub frames: Frames,
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(topic: Topic, frames: Frames) -> Self {
        Self { topic, frames }
    }

    /// A message of one frame.
    #[must_use]
    pub fn one(topic: Topic, payload: &[u8]) -> Self {
        Self::new(topic, Frames::one(payload))
    }
}

/// A transport of messages. Every transport keeps this contract, and [`conformance`] checks it:
///
/// - **Order.** What one publisher says under one topic reaches a subscription in that order. Between topics, and
///   between publishers, nothing is promised.
/// - **At most once.** A message reaches a subscription once or, when it cannot keep up or the transport loses it,
///   not at all; never twice, never cut. A transport may hand over the frames of one message in several messages,
///   in order.
/// - **From now on.** When `subscribe` has answered, everything that this process publishes later is seen. What was
///   published before is not.
/// - **Nobody there.** Publishing without a subscriber is not an error.
/// - **Slow readers.** A subscription has a bounded queue. When it is full the new message is dropped for that
///   subscription alone, and counted in [`Subscription::dropped`] and [`Bus::dropped`]. The publisher never waits.
/// - **The end.** After `close`, publishing and subscribing fail, and every subscription ends once it has handed
///   over what it had queued.
pub trait Bus: Send + Sync + 'static {
    /// Says something, without waiting for anybody.
    ///
    /// # Errors
    /// When the bus is closed.
    fn publish(&self, message: Message) -> Result<(), PublishError>;

    /// Listens to every topic with the prefix.
    ///
    /// Dropping the future or the subscription leaves nothing behind.
    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_>;

    /// How many messages were dropped so far because a subscription was full: a message that three full
    /// subscriptions should have had counts three times.
    fn dropped(&self) -> u64;

    /// Everything that was lost so far, as far as it is known.
    fn losses(&self) -> Losses {
        Losses {
            dropped: self.dropped(),
            ..Losses::default()
        }
    }

    /// Ends the bus. Closing it again does nothing.
    fn close(&self);
}

/// What a bus knows to be lost, since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// Messages dropped because a subscription was full, as [`Bus::dropped`] counts them.
    pub dropped: u64,
    /// Messages that never went out, since more was published than the wire took.
    pub unsent: u64,
    /// Frames that a publisher sent and that did not arrive here.
    pub lost: u64,
    /// What arrived here and was no message.
    pub malformed: u64,
}

/// What [`Bus::subscribe`] gives: a subscription, when the transport has confirmed it.
pub type Subscribing<'a> =
    Pin<Box<dyn Future<Output = Result<Subscription, SubscribeError>> + Send + 'a>>;

/// Why nothing was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The bus was closed before.
    #[error("the bus is closed")]
    Closed,
}

/// Why nobody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The bus was closed before.
    #[error("the bus is closed")]
    Closed,
}

impl fmt::Debug for dyn Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}
