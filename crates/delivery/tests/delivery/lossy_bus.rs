//! A transport that breaks what a transport may break, and more: it loses messages, repeats them, cuts them in two and
//! hands them over out of order. Which ones is decided by a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use stack_bus::{Bus, MemBus, Message, Prefix, PublishError, Subscribing};
use stack_types::{Frames, FramesBuilder};

/// How many messages of a hundred suffer what.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
    /// Held back until up to [`LONGEST_WAIT`] later messages have gone out.
    pub(crate) late: u64,
    pub(crate) cut: u64,
}

/// So many messages overtake a late one at most.
const LONGEST_WAIT: u64 = 8;

/// What has happened so far, over all cases of a test.
#[derive(Debug, Default)]
pub(crate) struct Suffered {
    pub(crate) lost: AtomicU64,
    pub(crate) repeated: AtomicU64,
    /// Handed over behind a message that was published later.
    pub(crate) overtaken: AtomicU64,
}

/// Events suffer the faults; everything else goes straight through.
pub(crate) struct LossyBus {
    inner: MemBus,
    faults: Faults,
    suffered: Arc<Suffered>,
    state: Mutex<State>,
}

struct State {
    random: u64,
    held: Vec<Held>,
}

struct Held {
    message: Message,
    /// So many messages go out before it.
    wait: u64,
}

impl LossyBus {
    pub(crate) fn new(faults: Faults, seed: u64, suffered: Arc<Suffered>) -> Self {
        Self {
            inner: MemBus::default(),
            faults,
            suffered,
            state: Mutex::new(State {
                random: seed,
                held: Vec::new(),
            }),
        }
    }

    /// Hands over a message or a half of it, now or later or not at all.
    fn hand_over(&self, state: &mut State, message: Message) -> Result<(), PublishError> {
        if state.happens(self.faults.lost) {
            self.suffered.lost.fetch_add(1, Ordering::Relaxed);
            Ok(())
        } else if state.happens(self.faults.late) {
            let wait = 1 + state.below(LONGEST_WAIT);
            state.held.push(Held { message, wait });
            Ok(())
        } else {
            self.inner.publish(message)
        }
    }
}

impl Bus for LossyBus {
    fn publish(&self, message: Message) -> Result<(), PublishError> {
        if message.topic.room_id().is_none() {
            return self.inner.publish(message);
        }
        let mut state = self.state.lock();
        let held_before = state.held.len();
        let repeats = state.happens(self.faults.repeated);
        if repeats {
            self.suffered.repeated.fetch_add(1, Ordering::Relaxed);
        }
        // Each copy is cut or not by itself, so that a half may be followed by the whole.
        for _ in 0..=usize::from(repeats) {
            for part in state.cut(message.clone(), self.faults.cut) {
                self.hand_over(&mut state, part)?;
            }
        }
        for held in &mut state.held[..held_before] {
            held.wait -= 1;
        }
        let due: Vec<_> = state.held.extract_if(.., |held| held.wait == 0).collect();
        for held in due {
            self.suffered.overtaken.fetch_add(1, Ordering::Relaxed);
            self.inner.publish(held.message)?;
        }
        Ok(())
    }

    fn subscribe(&self, prefix: Prefix) -> Subscribing<'_> {
        self.inner.subscribe(prefix)
    }

    fn dropped(&self) -> u64 {
        self.inner.dropped()
    }

    fn close(&self) {
        self.inner.close();
    }
}

impl State {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn happens(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// The message, or its two halves.
    fn cut(&mut self, message: Message, percent: u64) -> Vec<Message> {
        let frames = &message.frames;
        if frames.len() < 2 || !self.happens(percent) {
            return vec![message];
        }
        let middle = frames.len() / 2;
        [0..middle, middle..frames.len()]
            .map(|range| Message::new(message.topic.clone(), part(frames, range)))
            .into()
    }
}

fn part(frames: &Frames, range: std::ops::Range<usize>) -> Frames {
    let mut builder = FramesBuilder::default();
    builder.extend(frames, range);
    builder.finish()
}
