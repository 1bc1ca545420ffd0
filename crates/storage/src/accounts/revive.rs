//! What a file that was restored must not bring back, and a look at what accounts are in a file.

use redb::{
    Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value,
    WriteTransaction,
};
use serde::de::DeserializeOwned;
use stack_types::Timestamp;

use super::api_keys::{self, ApiKeyRow};
use super::audit::AuditRow;
use super::invites::InviteRow;
use super::sessions::SessionRecord;
use super::tables;
use super::totp::Totp;
use super::users::UserRecord;
use crate::{StoreError, record};

/// What has ended, and what goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revived {
    /// Sessions that are gone.
    pub sessions: u64,
    /// Invitations that are gone.
    pub invites: u64,
    /// Recovery codes that are gone.
    pub recovery_codes: u64,
    /// API keys that work again.
    pub api_keys_kept: u64,
    /// API keys that were revoked.
    pub api_keys_revoked: u64,
}

/// What there is of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountCounts {
    /// Accounts.
    pub users: u64,
    /// Sessions, ended ones among them.
    pub sessions: u64,
    /// API keys, revoked ones among them.
    pub api_keys: u64,
    /// Entries of the audit log.
    pub audit: u64,
}

/// Empties a table, and says of how much.
fn empty<K: Key + 'static, V: Value + 'static>(
    tx: &WriteTransaction,
    table: TableDefinition<'static, K, V>,
) -> Result<u64, StoreError> {
    let rows = tx.open_table(table)?.len()?;
    tx.delete_table(table)?;
    tx.open_table(table)?;
    Ok(rows)
}

/// Ends what is good once, or until somebody says otherwise: sessions, what is remembered between two steps of a
/// sign-in, links, invitations and recovery codes, any of which may have been used or withdrawn since.
pub(crate) fn revive(
    tx: &WriteTransaction,
    now: Timestamp,
    keep_api_keys: bool,
) -> Result<Revived, StoreError> {
    let sessions = empty(tx, tables::SESSIONS)?;
    empty(tx, tables::USER_SESSIONS)?;
    for ceremonies in [
        tables::OAUTH_STATE,
        tables::WEBAUTHN_REGISTRATION,
        tables::WEBAUTHN_AUTHENTICATION,
        tables::LOGIN_TICKETS,
        tables::RECOVERY_LINKS,
    ] {
        empty(tx, ceremonies)?;
    }
    empty(tx, tables::CEREMONY_ENDS)?;
    empty(tx, tables::CEREMONY_ORDER)?;
    empty(tx, tables::OWNER_CEREMONIES)?;
    let invites = empty(tx, tables::INVITES)?;
    empty(tx, tables::INVITE_KEYS)?;
    let recovery_codes = empty(tx, tables::RECOVERY_CODES)?;
    let live = api_keys::live(tx, now)?;
    let count = live.len() as u64;
    if !keep_api_keys {
        for row in live {
            api_keys::end(tx, now, row)?;
        }
    }
    Ok(Revived {
        sessions,
        invites,
        recovery_codes,
        api_keys_kept: if keep_api_keys { count } else { 0 },
        api_keys_revoked: if keep_api_keys { 0 } else { count },
    })
}

/// Reads the records of a table, and says how many there are.
fn read_all<T: DeserializeOwned>(
    tx: &ReadTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
) -> Result<u64, StoreError> {
    let table = tx.open_table(table)?;
    for entry in table.iter()? {
        record::decode::<T>(entry?.1.value())?;
    }
    Ok(table.len()?)
}

/// Reads every record of accounts, and says how many there are.
pub(crate) fn count(tx: &ReadTransaction) -> Result<AccountCounts, StoreError> {
    let users = tx.open_table(tables::USERS)?;
    for names in [tables::USERNAMES, tables::EMAILS] {
        for entry in tx.open_table(names)?.iter()? {
            let (_, user) = entry?;
            if users.get(user.value())?.is_none() {
                return Err(StoreError::damaged(
                    "a name leads to an account that is not there",
                ));
            }
        }
    }
    read_all::<Totp>(tx, tables::TOTP)?;
    read_all::<InviteRow>(tx, tables::INVITES)?;
    let audit = tx.open_table(tables::AUDIT)?;
    for entry in audit.iter()? {
        record::decode::<AuditRow>(entry?.1.value())?;
    }
    Ok(AccountCounts {
        users: read_all::<UserRecord>(tx, tables::USERS)?,
        sessions: read_all::<SessionRecord>(tx, tables::SESSIONS)?,
        api_keys: read_all::<ApiKeyRow>(tx, tables::API_KEYS)?,
        audit: audit.len()?,
    })
}
