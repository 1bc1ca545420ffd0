//! Where it is written when a user was last seen.

use std::future::Future;
use std::pin::Pin;

use stack_types::{Problem, Timestamp, UserId};

/// When a user was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Who.
    pub user_id: UserId,
    /// When.
    pub at: Timestamp,
}

/// A durable place for last-seen times; the gateway gives it, so that presence does not depend on how it is stored.
///
/// A batch may repeat users of an earlier one with a later time, and, after a failure, with the same. A batch is
/// written whole or not at all.
pub trait LastSeen: Send + Sync + 'static {
    /// Writes a batch.
    fn record(&self, seen: Vec<Seen>) -> Recording<'_>;
}

/// What [`LastSeen::record`] gives: done when the batch is written.
pub type Recording<'a> = Pin<Box<dyn Future<Output = Result<(), Problem>> + Send + 'a>>;
