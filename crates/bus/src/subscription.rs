//! A subscription and the feed that a transport fills it by. Between them stands one bounded queue: whoever feeds
//! never waits, whoever reads sees every drop.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Message;

/// Makes a subscription that queues at most `queue` messages, and the feed to fill it. `detach` runs once, when the
/// subscription is dropped, on the thread that drops it.
///
/// # Panics
/// When `queue` is zero: nothing would ever arrive.
#[must_use]
pub fn subscription(
    queue: usize,
    detach: impl FnOnce() + Send + Sync + 'static,
) -> (Feed, Subscription) {
    assert!(queue > 0, "a subscription queues at least one message");
    let shared = Arc::new(Shared {
        queue,
        state: Mutex::default(),
        news: Notify::new(),
    });
    let subscription = Subscription {
        shared: Arc::clone(&shared),
        detach: Some(Box::new(detach)),
    };
    (Feed { shared }, subscription)
}

struct Shared {
    queue: usize,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Default)]
struct State {
    // Grows as it is used: most subscriptions never queue more than a few messages.
    waiting: VecDeque<Message>,
    dropped: u64,
    over: bool,
}

/// What became of a message offered to a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is queued.
    Taken,
    /// The queue is full; the message was counted and dropped.
    Dropped,
    /// Nobody reads any more.
    Over,
}

/// The transport's end of a subscription. Dropping it ends the subscription once what is queued has been read.
pub struct Feed {
    shared: Arc<Shared>,
}

impl Feed {
    /// Queues the message, or drops it when the queue is full.
    pub fn offer(&self, message: Message) -> Offer {
        let mut state = self.shared.state.lock();
        if state.over {
            return Offer::Over;
        }
        if state.waiting.len() >= self.shared.queue {
            // Counted under the lock of the queue: whoever reads the messages that filled it sees the count.
            state.dropped = state.dropped.saturating_add(1);
            return Offer::Dropped;
        }
        state.waiting.push_back(message);
        drop(state);
        self.shared.news.notify_one();
        Offer::Taken
    }

    /// So many messages were lost before they came here.
    #[cfg(any(feature = "with-nng", feature = "with-zmq"))]
    pub(crate) fn lost(&self, count: u64) {
        let mut state = self.shared.state.lock();
        // The count is what a publisher says, which may be anything.
        state.dropped = state.dropped.saturating_add(count);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.state.lock().over = true;
        self.shared.news.notify_one();
    }
}

/// A reader's end: messages in order, until the bus is closed.
pub struct Subscription {
    shared: Arc<Shared>,
    detach: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Subscription {
    /// The next message; `None` when the bus is closed and everything queued has been read.
    ///
    /// Cancelling it loses nothing.
    pub async fn recv(&mut self) -> Option<Message> {
        loop {
            {
                let mut state = self.shared.state.lock();
                if let Some(message) = state.waiting.pop_front() {
                    return Some(message);
                }
                if state.over {
                    return None;
                }
            }
            // There is one reader, and a notification that nobody waits for is kept: none is missed.
            self.shared.news.notified().await;
        }
    }

    /// The next message that is already here.
    pub fn try_recv(&mut self) -> Option<Message> {
        self.shared.state.lock().waiting.pop_front()
    }

    /// How many messages were dropped so far because this reader was slow, or are known to be lost on a wire.
    ///
    /// It never falls. A drop happens only while the queue is full and is counted before any of those messages is
    /// read; so a reader that looks here after each message, and reads the log when the count has grown, misses
    /// nothing, even when no further message ever comes.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.state.lock().dropped
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.shared.state.lock();
            state.over = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
        if let Some(detach) = self.detach.take() {
            detach();
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("queue", &self.shared.queue)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Subscription")
            .field("waiting", &state.waiting.len())
            .field("dropped", &state.dropped)
            .field("over", &state.over)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message {
        Message::one("t".parse().unwrap(), payload)
    }

    #[tokio::test]
    async fn a_drop_is_counted_before_the_queue_is_read() {
        let (feed, mut subscription) = subscription(2, || {});
        let offers: Vec<Offer> = (0..4).map(|n| feed.offer(message(&[n]))).collect();
        assert_eq!(
            offers,
            [Offer::Taken, Offer::Taken, Offer::Dropped, Offer::Dropped]
        );
        assert_eq!(subscription.recv().await, Some(message(&[0])));
        assert_eq!(subscription.dropped(), 2);
        assert_eq!(feed.offer(message(&[4])), Offer::Taken);
        drop(feed);
        assert_eq!(subscription.recv().await, Some(message(&[1])));
        assert_eq!(subscription.recv().await, Some(message(&[4])));
        assert_eq!(subscription.recv().await, None);
        assert_eq!(subscription.recv().await, None);
    }

    #[cfg(any(feature = "with-nng", feature = "with-zmq"))]
    #[test]
    fn a_count_that_makes_no_sense_ends_nothing() {
        let (feed, subscription) = subscription(1, || {});
        feed.lost(u64::MAX);
        feed.lost(u64::MAX);
        let offers = [feed.offer(message(b"")), feed.offer(message(b""))];
        assert_eq!(offers, [Offer::Taken, Offer::Dropped]);
        assert_eq!(subscription.dropped(), u64::MAX);
    }

    #[tokio::test]
    async fn dropping_the_reader_detaches_once_and_stops_the_feed() {
        let detached = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&detached);
        let (feed, subscription) = subscription(1, move || *seen.lock() += 1);
        drop(subscription);
        assert_eq!(*detached.lock(), 1);
        assert_eq!(feed.offer(message(b"x")), Offer::Over);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken_by_news_and_by_the_end() {
        let (feed, mut subscription) = subscription(1, || {});
        let (received, ()) = tokio::join!(subscription.recv(), async {
            tokio::task::yield_now().await;
            feed.offer(message(b"x"));
        });
        assert_eq!(received, Some(message(b"x")));
        let (received, ()) = tokio::join!(subscription.recv(), async move {
            tokio::task::yield_now().await;
            drop(feed);
        });
        assert_eq!(received, None);
    }
}
