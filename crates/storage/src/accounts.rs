//! Accounts and what guards them: sessions, long-term counters and the audit log.
//!
//! Every operation that changes something writes its audit entry in the same transaction, so that what happened
//! and what is told of it are never apart. A refusal is a value and has changed nothing. Secrets are here as
//! hashes only: a password as a PHC string, a refresh token as its SHA-256.

mod audit;
mod changes;
mod counters;
mod rotation;
mod sessions;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod users;

pub use audit::{AuditAction, AuditEntry, AuditOutcome, AuditRecord};
pub use changes::{PasswordChange, ProfilePatch};
pub use counters::Counter;
pub use rotation::{Rotate, Rotation};
pub use sessions::{Delivery, Fingerprint, NewSession, Session, SignIn, Stale};
pub use sweep::{AccountSweepCursor, SweptAccounts};
pub(crate) use tables::create_all;
pub use users::{Account, CreateUserError, NewUser};
