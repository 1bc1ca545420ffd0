//! What waits to be sent. Whoever publishes leaves it here and goes on; a thread that may wait for a socket takes it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::Message;
use crate::wire::Counters;

/// Frames that wait at most: a second of a busy gateway. A thread that is this far behind has no core to run on, and
/// readers will get what is missing from the log.
const MAX_FRAMES: usize = 65_536;

/// Bytes that wait at most. They are shared with whoever else holds the frames.
const MAX_BYTES: usize = 128 * 1024 * 1024;

/// The queue between those who publish and the thread that sends.
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    counters: Arc<Counters>,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Message>,
    frames: usize,
    bytes: usize,
    /// Nobody looks until somebody is woken.
    asleep: bool,
    over: bool,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Messages were handed over.
    Some,
    /// There are none, and the next one will wake the thread.
    None,
    /// There are none, and there will be none.
    Over,
}

impl Outbox {
    /// `wake` is called, from any thread, when there is something new for a thread that was told [`Work::None`].
    pub(crate) fn new(counters: Arc<Counters>, wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            queue: Mutex::default(),
            counters,
            wake: Box::new(wake),
        }
    }

    /// Leaves a message. Where there is no room it is counted and dropped.
    pub(crate) fn put(&self, message: Message) {
        let mut queue = self.queue.lock();
        let (frames, bytes) = (message.frames.len(), message.frames.wire().len());
        // One that is larger than everything allowed still goes out alone.
        let full = queue.frames + frames > MAX_FRAMES || queue.bytes + bytes > MAX_BYTES;
        if queue.over || full && !queue.waiting.is_empty() {
            drop(queue);
            self.counters.unsent.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.frames += frames;
        queue.bytes += bytes;
        queue.waiting.push_back(message);
        if std::mem::take(&mut queue.asleep) {
            drop(queue);
            (self.wake)();
        }
    }

    /// Hands over all that waits, into an empty queue.
    pub(crate) fn take(&self, into: &mut VecDeque<Message>) -> Work {
        let mut queue = self.queue.lock();
        if !queue.waiting.is_empty() {
            std::mem::swap(&mut queue.waiting, into);
            (queue.frames, queue.bytes) = (0, 0);
            return Work::Some;
        }
        if queue.over {
            return Work::Over;
        }
        queue.asleep = true;
        Work::None
    }

    /// Nothing more is taken; what waits still goes out.
    pub(crate) fn close(&self) {
        self.queue.lock().over = true;
        (self.wake)();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn outbox() -> (Outbox, Arc<Counters>, Arc<AtomicUsize>) {
        let counters = Arc::new(Counters::default());
        let woken = Arc::new(AtomicUsize::new(0));
        let seen = woken.clone();
        let wake = move || {
            seen.fetch_add(1, Ordering::Relaxed);
        };
        (Outbox::new(counters.clone(), wake), counters, woken)
    }

    fn message(bytes: usize) -> Message {
        Message::one("t".parse().unwrap(), &vec![0; bytes])
    }

    #[test]
    fn one_that_sleeps_is_woken_once() {
        let (outbox, _, woken) = outbox();
        let mut taken = VecDeque::new();
        outbox.put(message(1));
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        assert_eq!(outbox.take(&mut taken), Work::Some);
        taken.clear();
        assert_eq!(outbox.take(&mut taken), Work::None);
        outbox.put(message(1));
        outbox.put(message(1));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        outbox.close();
        assert_eq!(outbox.take(&mut taken), Work::Some);
        assert_eq!(taken.len(), 2);
        taken.clear();
        assert_eq!(outbox.take(&mut taken), Work::Over);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let (outbox, counters, _) = outbox();
        for _ in 0..MAX_FRAMES + 3 {
            outbox.put(message(1));
        }
        assert_eq!(counters.unsent.load(Ordering::Relaxed), 3);
        let mut taken = VecDeque::new();
        outbox.take(&mut taken);
        assert_eq!(taken.len(), MAX_FRAMES);
        taken.clear();
        for _ in 0..3 {
            outbox.put(message(MAX_BYTES / 2));
        }
        outbox.take(&mut taken);
        assert_eq!(taken.len(), 1);
    }
}
