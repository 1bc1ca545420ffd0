//! Answers that come from the writer thread: it leaves them here, and the connection takes all that have come at once.

use parking_lot::Mutex;
use stack_rooms::Sent;
use stack_types::Problem;
use tokio::sync::Notify;

/// The answer to a request of this id.
pub(super) type Reply = (Option<u64>, Result<Sent, Problem>);

/// Where they are left.
#[derive(Default)]
pub(super) struct Replies {
    come: Mutex<Vec<Reply>>,
    news: Notify,
}

impl Replies {
    /// Leaves an answer. The connection is woken by the first of those that it takes together.
    pub(super) fn leave(&self, reply: Reply) {
        let mut come = self.come.lock();
        come.push(reply);
        if come.len() == 1 {
            self.news.notify_one();
        }
    }

    /// Takes all that have come, at least one. Cancel safe.
    pub(super) async fn take(&self) -> Vec<Reply> {
        loop {
            let come = std::mem::take(&mut *self.come.lock());
            if !come.is_empty() {
                return come;
            }
            self.news.notified().await;
        }
    }
}
