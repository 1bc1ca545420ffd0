//! The one file everything durable is in: the log of every room, accounts, sessions and counters.
//!
//! One thread writes. It takes all that is queued, applies it in one transaction, commits once with an fsync, and
//! only then answers ([`Store::room_op`] and the account operations resolve after the commit). Readers work on
//! snapshots and never wait for the writer. What holds here:
//!
//! - An answer means durable. An operation that was refused has changed nothing; one whose commit failed has
//!   changed nothing and is answered with [`StoreError`].
//! - In a room `seq` counts 1, 2, 3 … without a hole, and `ts` never falls.
//! - Commits are told in commit order through the [`Commits`] that [`Store::open`] returns.
//!
//! Nothing of the engine below shows in this interface, since another may take its place.

mod accounts;
mod block;
mod check;
mod commit_row;
mod engine;
mod erasure;
mod error;
#[cfg(test)]
mod faults;
mod fold;
mod import;
mod keys;
mod last_seen;
mod log;
mod migrate_identity;
mod migrate_retention;
mod migrate_rows;
mod offline;
mod overlay;
mod pace;
mod record;
mod recover;
mod retention;
mod rewrite;
mod room;
mod room_ops;
mod room_tx;
mod schema;
mod snapshot;
mod store;
mod sweep;
mod tables;
mod tail;
mod writer;

pub use accounts::{
    Account, AccountCounts, AccountKind, AccountSweepCursor, AddLinkError, AddPasskeyError, ApiKey,
    AuditAction, AuditEntry, AuditFilter, AuditOutcome, AuditRecord, Ceremony, CeremonyOwner,
    ClaimSetup, ConfirmByPasskey, Counter, CreateUserError, Delivery, Factor, Fingerprint, Invite,
    InviteUse, LastAdmin, LinkByEmail, LinkTaken, MOST_PASSKEYS, NewApiKey, NewInvite, NewLink,
    NewPasskey, NewSession, NewUser, OauthLink, Passkey, PasswordChange, Placeholder, ProfilePatch,
    Recover, Recovered, Removal, Revived, RoleRefused, Rotate, Rotation, Scope,
    SecondFactorRefused, SecondFactorSignIn, Session, SetupRefused, Shown, SignIn, SignInMethod,
    Stale, Standing, SweptAccounts, Totp, UsePasskey, WaysIn, WebauthnHandle,
};
pub use check::{CheckError, Checked, CheckedRoom, OnProgress, check, check_file};
pub use erasure::{EraseRefused, EraseWalk, ErasedBy, Erasure, MOST_ERASURES, NewErasure};
pub use error::{OpenError, StoreError};
pub use fold::KeptLog;
pub use import::{CompleteRoom, ImportRefused, ImportedRoom, OutOfLine};
pub use log::PageLimit;
pub use offline::{Compacted, compact, revive};
pub use retention::{Purged, Retention};
pub use room::{Ban, Membership, RoomRef};
pub use room_ops::{Counts, CreateRoom, RoomFacts};
pub use room_tx::{Appended, RoomTx};
pub use snapshot::{SnapshotError, place, sync_folder};
pub use store::{
    CommitReport, Commits, Committed, Location, Moment, OnCommit, StorageUsage, Store, StoreConfig,
    StoreHandle, Submitted,
};
pub use sweep::{SweepCursor, Swept};
