//! Tells every holder of sockets, here and on other nodes, which sessions have been revoked.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stack_auth::{OnRevoked, Revoked};
use stack_bus::{Bus, InvalidTopic, Message, Topic};
use stack_types::{SessionId, UserId};

/// What is said on the bus.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionsRevoked {
    /// The sessions whose sockets are to be closed.
    pub(crate) sessions: Vec<SessionId>,
    /// The user whose sockets are to be closed, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<UserId>,
    /// Whether the sockets of programs and room tokens are to look at what they were opened with again.
    #[serde(default)]
    pub(crate) programs: bool,
}

/// The kind of control message it is.
pub(crate) const KIND: &str = "session_revoked";

/// The topic it is said under.
pub(crate) fn topic() -> Result<Topic, InvalidTopic> {
    Topic::control(KIND)
}

/// What identity calls after a revocation is durable. It only publishes, so it never blocks; a bus that is closed
/// belongs to a gateway whose sockets are gone.
pub(crate) fn publisher(bus: Arc<dyn Bus>) -> Result<OnRevoked, InvalidTopic> {
    let topic = topic()?;
    Ok(Arc::new(move |revoked: Revoked| {
        let told = SessionsRevoked {
            sessions: revoked.sessions,
            user: revoked.everything.then_some(revoked.user_id),
            programs: revoked.programs,
        };
        tracing::info!(user_id = %revoked.user_id, count = told.sessions.len(), "sessions were revoked");
        match serde_json::to_vec(&told) {
            Ok(payload) => {
                if let Err(error) = bus.publish(Message::one(topic.clone(), &payload)) {
                    tracing::warn!(%error, "a revocation was not told: {error}");
                }
            }
            Err(error) => tracing::error!(%error, "a revocation cannot be written down: {error}"),
        }
    }))
}
