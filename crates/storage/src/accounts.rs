//! Accounts and what guards them: sessions, long-term counters and the audit log.
//!
//! Every operation that changes something writes its audit entry in the same transaction, so that what happened
//! and what is told of it are never apart. A refusal is a value and has changed nothing. Secrets are here as
//! hashes only: a password as a PHC string, a refresh token as its SHA-256; or, where they are needed again, sealed.

mod api_keys;
mod audit;
mod ceremonies;
mod changes;
mod counters;
mod invites;
mod links;
mod passkeys;
mod placeholders;
mod revive;
mod rotation;
mod second_factor;
mod server;
mod sessions;
mod standing;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod totp;
mod users;
mod ways_in;

pub use api_keys::{ApiKey, NewApiKey, Scope};
pub use audit::{AuditAction, AuditEntry, AuditFilter, AuditOutcome, AuditRecord};
pub(crate) use audit::{append as append_audit, take_appended as take_audited};
pub use ceremonies::{Ceremony, CeremonyOwner};
pub use changes::{LastAdmin, PasswordChange, ProfilePatch, RoleRefused};
pub use counters::Counter;
pub use invites::{Invite, InviteUse, NewInvite};
pub use links::{AddLinkError, LinkByEmail, LinkTaken, NewLink, OauthLink};
pub use passkeys::{
    AddPasskeyError, ConfirmByPasskey, MOST_PASSKEYS, NewPasskey, Passkey, UsePasskey,
    WebauthnHandle,
};
pub use placeholders::Placeholder;
pub(crate) use placeholders::{create as create_placeholder, is_free};
pub use revive::{AccountCounts, Revived};
pub(crate) use revive::{count, revive};
pub use rotation::{Rotate, Rotation};
pub use second_factor::{Recover, Recovered, SecondFactorRefused, SecondFactorSignIn};
pub use server::{ClaimSetup, SetupRefused};
pub(crate) use sessions::migrate_sessions;
pub use sessions::{Delivery, Fingerprint, NewSession, Session, SignIn, SignInMethod, Stale};
pub use standing::{Shown, Standing};
pub use sweep::{AccountSweepCursor, SweptAccounts};
pub(crate) use tables::each_table;
pub use totp::{Factor, Totp};
pub use users::{Account, AccountKind, CreateUserError, NewUser};
pub(crate) use users::{count_users, is_admin, migrate_users};
pub use ways_in::{Removal, WaysIn};
