//! Following one request through threads that know nothing of each other: whoever carries it out says what becomes of
//! it to the [`Trace`] that came along.
//!
//! A trace is entered by the thread that asks, taken along by what is queued meanwhile, and told by whoever does it. It
//! costs nothing where nobody is traced: [`current`] is a look at a thread's own variable.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hears what becomes of a request. It is told in the middle of the work: it must be quick and must not block.
pub trait Trace: Send + Sync + fmt::Debug {
    /// What was asked for is on disk.
    fn committed(&self, commit: &CommitStep);
    /// The events that it made went out to those who read along.
    fn handed_out(&self, fan_out: &FanOutStep);
}

/// A commit, as one of the requests in it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitStep {
    /// When it began.
    pub began: Instant,
    /// How long it took, the fsync included.
    pub took: Duration,
    /// How much of that the engine needed to get it onto the disk.
    pub synced: Duration,
    /// Operations in it.
    pub operations: usize,
}

/// A batch on its way to the readers of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanOutStep {
    /// When it began.
    pub began: Instant,
    /// How long it took.
    pub took: Duration,
    /// Events that were written, counted for each reader.
    pub deliveries: u64,
    /// Readers that could not take all of it.
    pub fell_behind: u64,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Trace>>> = const { RefCell::new(None) };
}

/// The trace that this thread works for now.
#[must_use]
pub fn current() -> Option<Arc<dyn Trace>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Works for `trace` until the guard is dropped. What is awaited meanwhile may go on on another thread: enter anew at
/// every poll.
#[must_use]
pub fn enter(trace: Arc<dyn Trace>) -> Entered {
    Entered(CURRENT.replace(Some(trace)))
}

/// Puts back what was there before.
#[derive(Debug)]
pub struct Entered(Option<Arc<dyn Trace>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Nobody;

    impl Trace for Nobody {
        fn committed(&self, _: &CommitStep) {}
        fn handed_out(&self, _: &FanOutStep) {}
    }

    #[test]
    fn a_trace_holds_until_its_guard_goes_and_for_its_thread_alone() {
        let [outer, inner]: [Arc<dyn Trace>; 2] = [Arc::new(Nobody), Arc::new(Nobody)];
        let is = |trace: &Arc<dyn Trace>| current().is_some_and(|now| Arc::ptr_eq(&now, trace));
        assert!(current().is_none());
        let first = enter(outer.clone());
        let second = enter(inner.clone());
        assert!(is(&inner));
        std::thread::spawn(|| assert!(current().is_none()))
            .join()
            .unwrap();
        drop(second);
        assert!(is(&outer));
        drop(first);
        assert!(current().is_none());
    }
}
