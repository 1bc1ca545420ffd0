//! The bus of one process. Publishing is one lock and, for each subscription that wants the topic, a clone of two
//! shared pointers; nothing is copied, nothing waits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;

use crate::{
    Bus, Feed, Message, Offer, Prefix, PublishError, SubscribeError, Subscribing, Subscription,
    Topic, subscription,
};

/// How many messages a subscription queues by default. A message is a committed batch, so this is seconds of a
/// busy gateway; more would only put off the reading from the log that a reader this far behind needs anyway.
pub const DEFAULT_QUEUE: usize = 1024;

/// The bus of one process. Cloning it gives another handle on the same bus.
#[derive(Debug, Clone)]
pub struct MemBus {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    queue: usize,
    dropped: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    // Subscriptions of one topic are found by it, so that a topic costs nothing to those who listen to others.
    exact: HashMap<Topic, Vec<Listener>>,
    other: Vec<(Prefix, Listener)>,
    next_id: u64,
    closed: bool,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    feed: Feed,
}

impl Default for MemBus {
    fn default() -> Self {
        Self::new(DEFAULT_QUEUE)
    }
}

impl MemBus {
    /// A bus whose subscriptions queue at most `queue` messages.
    ///
    /// # Panics
    /// When `queue` is zero.
    #[must_use]
    pub fn new(queue: usize) -> Self {
        assert!(queue > 0, "a subscription queues at least one message");
        Self {
            inner: Arc::new(Inner {
                queue,
                dropped: AtomicU64::new(0),
                state: RwLock::default(),
            }),
        }
    }

    /// How many subscriptions there are.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        let state = self.inner.state.read();
        state.other.len() + state.exact.values().map(Vec::len).sum::<usize>()
    }

    /// A subscription. `over` runs once, when it is dropped.
    pub(crate) fn attach(
        &self,
        prefix: Prefix,
        over: impl FnOnce() + Send + Sync + 'static,
    ) -> Result<Subscription, SubscribeError> {
        let mut state = self.inner.state.write();
        if state.closed {
            return Err(SubscribeError::Closed);
        }
        let id = state.next_id;
        state.next_id += 1;
        let bus = Arc::downgrade(&self.inner);
        let wanted = prefix.clone();
        let (feed, subscription) = subscription(self.inner.queue, move || {
            detach(&bus, &wanted, id);
            over();
        });
        let listener = Listener { id, feed };
        match prefix {
            Prefix::Exactly(topic) => state.exact.entry(topic).or_default().push(listener),
            prefix @ (Prefix::StartingWith(_) | Prefix::Everything) => {
                state.other.push((prefix, listener));
            }
        }
        Ok(subscription)
    }

    /// So many messages whose topics start so will never come.
    #[cfg(any(feature = "with-nng", feature = "with-zmq"))]
    pub(crate) fn lost(&self, start: &str, count: u64) {
        let state = self.inner.state.read();
        let exact = state
            .exact
            .iter()
            .filter(|(topic, _)| topic.as_str().starts_with(start))
            .flat_map(|(_, listeners)| listeners);
        let other = state.other.iter().filter(|(prefix, _)| match prefix {
            Prefix::Exactly(topic) => topic.as_str().starts_with(start),
            Prefix::StartingWith(wanted) => {
                let wanted = wanted.as_str();
                wanted.starts_with(start) || start.starts_with(wanted)
            }
            Prefix::Everything => true,
        });
        for listener in exact.chain(other.map(|(_, listener)| listener)) {
            listener.feed.lost(count);
        }
    }
}

fn detach(bus: &Weak<Inner>, prefix: &Prefix, id: u64) {
    let Some(inner) = bus.upgrade() else {
        return;
    };
    let mut state = inner.state.write();
    match prefix {
        Prefix::Exactly(topic) => {
            if let Some(listeners) = state.exact.get_mut(topic) {
                listeners.retain(|listener| listener.id != id);
                if listeners.is_empty() {
                    state.exact.remove(topic);
                }
            }
        }
        Prefix::StartingWith(_) | Prefix::Everything => {
            state.other.retain(|(_, listener)| listener.id != id);
        }
    }
}

impl Bus for MemBus {
    fn publish(&self, message: Message) -> Result<(), PublishError> {
        let state = self.inner.state.read();
        if state.closed {
            return Err(PublishError::Closed);
        }
        let topic = message.topic.clone();
        let exact = state.exact.get(&topic).into_iter().flatten();
        let other = state
            .other
            .iter()
            .filter(|(prefix, _)| prefix.matches(&topic))
            .map(|(_, listener)| listener);
        let mut listeners = exact.chain(other).peekable();
        let mut message = Some(message);
        while let Some(listener) = listeners.next() {
            // The last one gets it, the others a share of it.
            let shared = match listeners.peek() {
                Some(_) => message.clone(),
                None => message.take(),
            };
            let Some(shared) = shared else {
                break;
            };
            if listener.feed.offer(shared) == Offer::Dropped {
                self.inner.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_> {
        Box::pin(async move { self.attach(prefix, || {}) })
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped.load(Ordering::Relaxed)
    }

    fn close(&self) {
        let (exact, other) = {
            let mut state = self.inner.state.write();
            state.closed = true;
            (
                std::mem::take(&mut state.exact),
                std::mem::take(&mut state.other),
            )
        };
        // Dropping the feeds ends the subscriptions and wakes their readers; the lock is not needed for that.
        drop(exact);
        drop(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_subscription_leaves_nothing_behind() {
        let bus = MemBus::default();
        let topic: Topic = "room.a".parse().unwrap();
        let exact = bus.subscribe(Prefix::Exactly(topic.clone())).await.unwrap();
        let twin = bus.subscribe(Prefix::Exactly(topic)).await.unwrap();
        let family = bus.subscribe(Prefix::rooms()).await.unwrap();
        assert_eq!(bus.subscriptions(), 3);
        drop(exact);
        drop(family);
        assert_eq!(bus.subscriptions(), 1);
        drop(twin);
        assert_eq!(bus.subscriptions(), 0);
        assert!(bus.inner.state.read().exact.is_empty());
    }

    #[tokio::test]
    async fn drops_are_exact_and_add_up() {
        let bus = MemBus::new(4);
        let slow = bus.subscribe(Prefix::rooms()).await.unwrap();
        let slower = bus.subscribe(Prefix::Everything).await.unwrap();
        for n in 0..10u8 {
            bus.publish(Message::one("room.a".parse().unwrap(), &[n]))
                .unwrap();
        }
        bus.publish(Message::one("user.a".parse().unwrap(), b""))
            .unwrap();
        assert_eq!(
            (slow.dropped(), slower.dropped(), bus.dropped()),
            (6, 7, 13)
        );
    }

    #[tokio::test]
    async fn a_message_is_shared_not_copied() {
        let bus = MemBus::default();
        let mut subscription = bus.subscribe(Prefix::Everything).await.unwrap();
        let message = Message::one("t".parse().unwrap(), &[7; 1000]);
        let address = message.frames.wire().as_ptr();
        bus.publish(message).unwrap();
        assert_eq!(
            subscription.recv().await.unwrap().frames.wire().as_ptr(),
            address
        );
    }
}
