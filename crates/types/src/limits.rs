//! What the gateway accepts at most. Limits are inclusive, sizes are bytes of UTF-8.

use serde::{Deserialize, Serialize};

/// The limits of PROTOCOL.md; each can be configured and is told in `/version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A WebSocket message from a client.
    pub frame_bytes: usize,
    /// The `body` of a message.
    pub body_bytes: usize,
    /// The `data` of a message, as the client wrote it.
    pub data_bytes: usize,
    /// An idempotency key.
    pub key_bytes: usize,
    /// An HTTP request body.
    pub http_body_bytes: usize,
    /// Rooms that one connection subscribes to.
    pub subscriptions_per_connection: usize,
    /// Open connections of one user.
    pub connections_per_user: usize,
    /// The largest `limit` of a page of history.
    pub page_events: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 64 * 1024,
            body_bytes: 16 * 1024,
            data_bytes: 32 * 1024,
            key_bytes: 64,
            http_body_bytes: 1024 * 1024,
            subscriptions_per_connection: 256,
            connections_per_user: 32,
            page_events: 500,
        }
    }
}
