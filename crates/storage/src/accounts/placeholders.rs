//! Accounts for people who are known from an imported room and have none here. Nobody can sign in to one: it is an
//! external account without any way in, and disabled, so that no backend can vouch for it either.

use redb::{ReadableTable, WriteTransaction};
use stack_types::{GlobalRole, Timestamp, User, UserId, Username};

use super::audit::{self, AuditEntry};
use super::tables;
use super::users::{Account, AccountKind, get, put};
use crate::StoreError;

/// Somebody to make a placeholder for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// Its id.
    pub id: UserId,
    /// Its username.
    pub username: Username,
    /// What people see.
    pub display_name: String,
}

impl Account {
    /// Whether it only stands for somebody of an imported room.
    #[must_use]
    pub fn is_placeholder(&self) -> bool {
        self.kind == AccountKind::External && self.disabled
    }
}

/// Whether id and username are free.
pub(crate) fn is_free(tx: &WriteTransaction, new: &Placeholder) -> Result<bool, StoreError> {
    let users = tx.open_table(tables::USERS)?;
    let usernames = tx.open_table(tables::USERNAMES)?;
    Ok(get(&users, new.id.as_str())?.is_none() && usernames.get(new.username.as_str())?.is_none())
}

/// Makes a placeholder whose id and username are free.
pub(crate) fn create(
    tx: &WriteTransaction,
    now: Timestamp,
    new: Placeholder,
    entry: AuditEntry,
) -> Result<(), StoreError> {
    tx.open_table(tables::USERNAMES)?
        .insert(new.username.as_str(), new.id.as_str())?;
    let account = Account {
        user: User {
            id: new.id,
            username: new.username,
            display_name: new.display_name,
            role: GlobalRole::Member,
            created_at: now,
        },
        email: None,
        email_verified: false,
        password_hash: None,
        disabled: true,
        kind: AccountKind::External,
    };
    put(tx, account)?;
    audit::append(tx, now, entry)
}
