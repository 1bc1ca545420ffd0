//! Why a call of the client came to nothing.

use stack_types::{ErrorCode, Problem};

/// A call came to nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    /// The gateway refused it.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The connection broke before the answer came, and the call is none to repeat: whether it was carried out is not
    /// known.
    #[error("the connection to the gateway broke before the answer came")]
    Broken,
    /// The gateway could not be reached in time.
    #[error("the gateway cannot be reached at its socket: {0}")]
    Unreachable(String),
    /// The client is closed.
    #[error("the client is closed")]
    Closed,
    /// The gateway said something that makes no sense.
    #[error("the gateway gave an answer that cannot be read: {0}")]
    Malformed(String),
    /// The client's thread could not be started.
    #[error("cannot start the client's thread")]
    Thread(#[source] std::sync::Arc<std::io::Error>),
}

impl ClientError {
    /// The code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }
}
