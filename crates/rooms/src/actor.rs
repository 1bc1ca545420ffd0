//! Who does something that is put on record.

use stack_storage::{AuditAction, AuditEntry, AuditOutcome};
use stack_types::{SessionId, UserId};

/// Somebody who acts on a room or on the people in it, and from where: it goes on record with the act.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Who.
    pub user: UserId,
    /// In which session.
    pub session: Option<SessionId>,
    /// From where; empty when it is not known.
    pub ip: String,
}

impl Actor {
    /// What to put on record of something that was done.
    pub(crate) fn did(self, action: AuditAction, target: String) -> AuditEntry {
        AuditEntry {
            actor: Some(self.user),
            ip: self.ip,
            session: self.session,
            action,
            target: Some(target),
            outcome: AuditOutcome::Ok,
        }
    }
}

/// Somebody of whom nothing else is known.
impl From<UserId> for Actor {
    fn from(user: UserId) -> Self {
        Self {
            user,
            session: None,
            ip: String::new(),
        }
    }
}
