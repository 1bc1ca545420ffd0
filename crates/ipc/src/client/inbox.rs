//! What a subscription has got and its owner has not taken yet. It outlives the connection, so that whatever the gateway
//! was told has come is never lost.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::subscription::Delivery;

/// The gateway is told that a batch has come when fewer than so many wait. What it may have on its way besides is
/// bounded by its own window.
const WAITING: usize = 16;

#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// For the one who takes.
    come: Notify,
    /// For those who put in, and for the subscription's task.
    taken: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    /// Nothing comes any more.
    over: bool,
    /// Nobody takes any more.
    dropped: bool,
}

impl Inbox {
    pub(super) fn put(&self, delivery: Delivery) {
        let mut state = self.state.lock();
        if !state.over && !state.dropped {
            state.waiting.push_back(delivery);
            self.come.notify_one();
        }
    }

    /// Nothing comes any more; what waits is still taken.
    pub(super) fn finish(&self) {
        self.state.lock().over = true;
        self.come.notify_one();
    }

    /// Nobody takes any more.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.dropped = true;
        state.waiting.clear();
        drop(state);
        self.taken.notify_waiters();
    }

    /// Waits until there is room again.
    pub(super) async fn room(&self) {
        self.until(|state| state.waiting.len() < WAITING || state.dropped)
            .await;
    }

    /// Waits until nobody takes any more.
    pub(super) async fn abandoned(&self) {
        self.until(|state| state.dropped).await;
    }

    /// What came first; `None` when nothing comes any more. Cancel safe. For one taker.
    pub(super) async fn take(&self) -> Option<Delivery> {
        loop {
            {
                let mut state = self.state.lock();
                if let Some(delivery) = state.waiting.pop_front() {
                    let is_roomy = state.waiting.len() + 1 == WAITING;
                    drop(state);
                    if is_roomy {
                        self.taken.notify_waiters();
                    }
                    return Some(delivery);
                }
                if state.over {
                    return None;
                }
            }
            self.come.notified().await;
        }
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let taken = self.taken.notified();
            if holds(&self.state.lock()) {
                return;
            }
            taken.await;
        }
    }
}
