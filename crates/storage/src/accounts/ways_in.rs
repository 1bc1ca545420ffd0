//! The ways in which somebody can sign in. The last one cannot be taken away.

use redb::{ReadableTable, WriteTransaction};
use stack_types::{SessionId, Timestamp, UserId};

use super::audit::{self, AuditAction, AuditEntry};
use super::sessions::{self, SignInMethod};
use super::totp::Totp;
use super::{tables, users};
use crate::{Store, StoreError, record};

/// The ways in which somebody can sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WaysIn {
    /// There is a password.
    pub password: bool,
    /// How many passkeys there are that may be used.
    pub passkeys: usize,
    /// How many accounts elsewhere are linked.
    pub links: usize,
    /// A second factor is asked for behind the password.
    pub totp: bool,
}

impl WaysIn {
    /// How many ways there are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.password) + self.passkeys + self.links
    }
}

/// What became of taking a way in away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// It is the last one, and stays.
    LastWayIn,
    /// The account has no such thing.
    Unknown,
}

/// The rows of one user in an index by (user, something).
macro_rules! rows_of {
    ($table:expr, $owner:expr) => {{
        let owner: &str = $owner;
        let mut rows = Vec::new();
        for entry in $table.range((owner, "")..)? {
            let (key, value) = entry?;
            let (user, id) = key.value();
            if user != owner {
                break;
            }
            rows.push((id.to_owned(), value));
        }
        rows
    }};
}
pub(super) use rows_of;

/// The ways in, as this transaction sees them.
macro_rules! ways_in {
    ($tx:expr, $owner:expr) => {{
        let (tx, owner): (_, UserId) = ($tx, $owner);
        let owner = owner.as_str();
        let account = users::get(&tx.open_table(tables::USERS)?, owner)?;
        let credentials = tx.open_table(tables::CREDENTIALS)?;
        let mut passkeys = 0;
        let by_user = tx.open_table(tables::USER_CREDENTIALS)?;
        for (_, credential) in rows_of!(by_user, owner) {
            if let Some(row) = credentials.get(credential.value())? {
                let passkey: super::passkeys::Passkey = record::decode(row.value())?;
                passkeys += usize::from(passkey.suspended_at.is_none());
            }
        }
        let totp = tx.open_table(tables::TOTP)?;
        let totp = match totp.get(owner)? {
            Some(row) => record::decode::<Totp>(row.value())?.is_on(),
            None => false,
        };
        let by_user = tx.open_table(tables::USER_OAUTH_LINKS)?;
        let links = rows_of!(by_user, owner).len();
        WaysIn {
            password: account.is_some_and(|account| account.password_hash.is_some()),
            passkeys,
            links,
            totp,
        }
    }};
}

/// The ways in, with everything the transaction has done so far.
pub(super) fn in_transaction(tx: &WriteTransaction, owner: UserId) -> Result<WaysIn, StoreError> {
    Ok(ways_in!(tx, owner))
}

/// Ends the sessions but one that were begun in a way that is taken away, and gives them: whoever has the lost device,
/// or the account elsewhere, may be in one of them. `entry` is what taking it away is put on record as.
pub(super) fn end_sessions_begun_by(
    tx: &WriteTransaction,
    now: Timestamp,
    owner: UserId,
    method: SignInMethod,
    keep: SessionId,
    entry: AuditEntry,
) -> Result<Vec<SessionId>, StoreError> {
    let which = |session: &sessions::Session| session.method == method && session.id != keep;
    let revoked = sessions::revoke_those(tx, now, owner, which)?;
    if !revoked.is_empty() {
        let entry = AuditEntry {
            action: AuditAction::SessionsRevoked,
            target: Some(owner.to_string()),
            ..entry
        };
        audit::append(tx, now, entry)?;
    }
    Ok(revoked)
}

impl Store {
    /// The ways in which somebody can sign in.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ways_in(&self, owner: UserId) -> Result<WaysIn, StoreError> {
        self.read(|tx| Ok(ways_in!(tx, owner)))
    }
}
