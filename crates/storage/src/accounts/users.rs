//! Accounts: made once, found by id, username or e-mail address, changed, never removed.

use std::fmt;
use std::ops::Bound;

use redb::{
    ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stack_types::{GlobalRole, Timestamp, User, UserId, Username};
use thiserror::Error;

use super::audit::{self, AuditAction, AuditEntry};
use super::invites::{self, InviteUse};
use super::sessions::{self, NewSession, Session};
use super::tables;
use crate::{Store, StoreError, record};

/// What stands behind an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountKind {
    /// Somebody who signs in here.
    #[default]
    Person,
    /// A program with an API key. It has no way to sign in, and never gets to be an admin.
    Bot,
    /// A user of somebody else's product, whose backend vouches for them. They have no way to sign in either.
    External,
}

/// An account with what only its owner and the sign-in may know.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// What others see.
    pub user: User,
    /// The e-mail address in its one spelling.
    pub email: Option<String>,
    /// Whether the owner has shown that the address is theirs.
    pub email_verified: bool,
    /// The password's PHC string; `None` for an account without one.
    pub password_hash: Option<String>,
    /// Nobody can sign in, and no session works.
    pub disabled: bool,
    /// What stands behind it.
    pub kind: AccountKind,
}

impl Account {
    /// Whether somebody can sign in to it at all.
    #[must_use]
    pub fn may_sign_in(&self) -> bool {
        !self.disabled && self.kind == AccountKind::Person
    }

    /// Whether it is an admin's, and may be used.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.may_sign_in() && self.user.role == GlobalRole::Admin
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A log is no place for addresses and hashes.
        f.debug_struct("Account")
            .field("user", &self.user)
            .field("disabled", &self.disabled)
            .finish_non_exhaustive()
    }
}

/// An account as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct UserRecord {
    user: User,
    email: Option<String>,
    email_verified: bool,
    password_hash: Option<String>,
    disabled: bool,
    kind: AccountKind,
}

impl From<UserRecord> for Account {
    fn from(record: UserRecord) -> Self {
        Self {
            user: record.user,
            email: record.email,
            email_verified: record.email_verified,
            password_hash: record.password_hash,
            disabled: record.disabled,
            kind: record.kind,
        }
    }
}

impl From<Account> for UserRecord {
    fn from(account: Account) -> Self {
        Self {
            user: account.user,
            email: account.email,
            email_verified: account.email_verified,
            password_hash: account.password_hash,
            disabled: account.disabled,
            kind: account.kind,
        }
    }
}

/// An account to make.
#[derive(Clone)]
pub struct NewUser {
    /// Its id.
    pub id: UserId,
    /// Its username.
    pub username: Username,
    /// What people see.
    pub display_name: String,
    /// Its e-mail address in its one spelling.
    pub email: Option<String>,
    /// Whether the owner has shown that the address is theirs.
    pub email_verified: bool,
    /// Its password's PHC string.
    pub password_hash: Option<String>,
    /// Its role on the whole server.
    pub role: GlobalRole,
    /// What stands behind it.
    pub kind: AccountKind,
    /// The invitation that it is made with. It is used up with it, and says what its role is.
    pub invite: Option<InviteUse>,
}

/// Why an account could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CreateUserError {
    /// The id is another account's: a backend chooses those of its users.
    #[error("the id is taken")]
    IdTaken,
    /// Another account has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Another account has the e-mail address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// The invitation is used up, over, withdrawn, or none.
    #[error("the invitation is no good any more")]
    InviteClosed,
}

/// The account of this id.
pub(super) fn get(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    id: &str,
) -> Result<Option<Account>, StoreError> {
    match table.get(id)? {
        Some(bytes) => Ok(Some(record::decode::<UserRecord>(bytes.value())?.into())),
        None => Ok(None),
    }
}

/// Whether somebody is an admin of the whole server, and may be one.
pub(crate) fn is_admin(tx: &WriteTransaction, id: &UserId) -> Result<bool, StoreError> {
    let account = get(&tx.open_table(tables::USERS)?, id.as_str())?;
    Ok(account.is_some_and(|account| account.is_admin()))
}

/// How many accounts there are.
pub(crate) fn count_users(tx: &ReadTransaction) -> Result<u64, StoreError> {
    Ok(tx.open_table(tables::USERS)?.len()?)
}

/// Writes an account's row.
pub(super) fn put(tx: &WriteTransaction, account: Account) -> Result<(), StoreError> {
    let id = account.user.id;
    let bytes = record::encode(&UserRecord::from(account))?;
    tx.open_table(tables::USERS)?
        .insert(id.as_str(), bytes.as_slice())?;
    Ok(())
}

/// Makes an account. `entry` is what its making is put on record as; the use of an invitation is put there beside it.
pub(super) fn create(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewUser,
    entry: &AuditEntry,
) -> Result<Result<Account, CreateUserError>, StoreError> {
    if get(&tx.open_table(tables::USERS)?, new.id.as_str())?.is_some() {
        return Ok(Err(CreateUserError::IdTaken));
    }
    let mut usernames = tx.open_table(tables::USERNAMES)?;
    let mut emails = tx.open_table(tables::EMAILS)?;
    if usernames.get(new.username.as_str())?.is_some() {
        return Ok(Err(CreateUserError::UsernameTaken));
    }
    if let Some(email) = &new.email
        && emails.get(email.as_str())?.is_some()
    {
        return Ok(Err(CreateUserError::EmailTaken));
    }
    let role = match new.invite {
        None => new.role,
        Some(invite) => match invites::take_use(tx, now, invite)? {
            Some(invite) => {
                let used = AuditEntry {
                    action: AuditAction::InviteUsed,
                    target: Some(invite.id.to_string()),
                    ..entry.clone()
                };
                audit::append(tx, now, used)?;
                invite.role
            }
            None => return Ok(Err(CreateUserError::InviteClosed)),
        },
    };
    usernames.insert(new.username.as_str(), new.id.as_str())?;
    if let Some(email) = &new.email {
        emails.insert(email.as_str(), new.id.as_str())?;
    }
    let account = Account {
        user: User {
            id: new.id,
            username: new.username,
            display_name: new.display_name,
            role,
            created_at: now,
        },
        email: new.email,
        email_verified: new.email_verified,
        password_hash: new.password_hash,
        disabled: false,
        kind: new.kind,
    };
    put(tx, account.clone())?;
    Ok(Ok(account))
}

fn find_by_login(tx: &ReadTransaction, login: &str) -> Result<Option<Account>, StoreError> {
    // A username never holds an '@', an address always does.
    let names = if login.contains('@') {
        tx.open_table(tables::EMAILS)?
    } else {
        tx.open_table(tables::USERNAMES)?
    };
    match names.get(login)? {
        Some(id) => get(&tx.open_table(tables::USERS)?, id.value()),
        None => Ok(None),
    }
}

impl Store {
    /// Makes an account.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn create_user(
        &self,
        new: NewUser,
        entry: AuditEntry,
    ) -> Result<Result<Account, CreateUserError>, StoreError> {
        self.write(move |tx, now| {
            let created = create(tx, now, new, &entry)?;
            if created.is_ok() {
                audit::append(tx, now, entry)?;
            }
            Ok(created)
        })
        .await
    }

    /// Makes an account and its first session.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn register(
        &self,
        new: NewUser,
        session: NewSession,
        entry: AuditEntry,
    ) -> Result<Result<(Account, Session), CreateUserError>, StoreError> {
        self.write(move |tx, now| match create(tx, now, new, &entry)? {
            Ok(account) => {
                let session = sessions::create(tx, now, session)?;
                audit::append(tx, now, entry)?;
                Ok(Ok((account, session)))
            }
            Err(refusal) => Ok(Err(refusal)),
        })
        .await
    }

    /// The account of this id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account(&self, id: UserId) -> Result<Option<Account>, StoreError> {
        self.read(|tx| get(&tx.open_table(tables::USERS)?, id.as_str()))
    }

    /// The account of this username or e-mail address, each in its one spelling.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account_by_login(&self, login: &str) -> Result<Option<Account>, StoreError> {
        self.read(|tx| find_by_login(tx, login))
    }

    /// What others see of this account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        Ok(self.account(id)?.map(|account| account.user))
    }

    /// What others see of these accounts, in the order asked for; unknown ids are left out.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn users(&self, ids: &[UserId]) -> Result<Vec<User>, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::USERS)?;
            let mut users = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(account) = get(&table, id.as_str())? {
                    users.push(account.user);
                }
            }
            Ok(users)
        })
    }

    /// The accounts after this one in the order they were made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list_users(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.read_blocking(move |tx| {
            let table = tx.open_table(tables::USERS)?;
            let from = after.as_ref().map_or("", UserId::as_str);
            let mut accounts = Vec::new();
            for entry in table.range(from..)? {
                let (id, bytes) = entry?;
                if accounts.len() >= limit {
                    break;
                }
                if id.value() != from {
                    accounts.push(record::decode::<UserRecord>(bytes.value())?.into());
                }
            }
            Ok(accounts)
        })
        .await
    }

    /// The accounts after this one in the order they were made whose username, display name or e-mail address has
    /// `part` in it, in small letters. It looks at every account.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn find_users(
        &self,
        part: String,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Account>, StoreError> {
        self.read_blocking(move |tx| {
            let table = tx.open_table(tables::USERS)?;
            let from = after.as_ref().map_or("", UserId::as_str);
            let mut accounts = Vec::new();
            for entry in table.range::<&str>((Bound::Excluded(from), Bound::Unbounded))? {
                if accounts.len() >= limit {
                    break;
                }
                let account: Account = record::decode::<UserRecord>(entry?.1.value())?.into();
                let user = &account.user;
                if user.username.as_str().contains(&part)
                    || user.display_name.to_lowercase().contains(&part)
                    || account
                        .email
                        .as_ref()
                        .is_some_and(|email| email.contains(&part))
                {
                    accounts.push(account);
                }
            }
            Ok(accounts)
        })
        .await
    }

    /// The account's settings object as JSON text; `{}` before any.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn settings(&self, id: UserId) -> Result<String, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::USER_SETTINGS)?;
            let text = table.get(id.as_str())?;
            Ok(text.map_or_else(|| "{}".to_owned(), |text| text.value().to_owned()))
        })
    }
}

/// An account as schemas up to 3 stored it.
#[derive(Serialize, Deserialize)]
struct UserRecord2 {
    user: User,
    email: Option<String>,
    email_verified: bool,
    password_hash: Option<String>,
    disabled: bool,
}

impl From<UserRecord2> for UserRecord {
    fn from(old: UserRecord2) -> Self {
        Self {
            user: old.user,
            email: old.email,
            email_verified: old.email_verified,
            password_hash: old.password_hash,
            disabled: old.disabled,
            kind: AccountKind::Person,
        }
    }
}

/// Rewrites the accounts of schemas up to 3.
pub(crate) fn migrate_users(tx: &WriteTransaction) -> Result<(), StoreError> {
    rewrite::<UserRecord2, UserRecord>(tx, tables::USERS)
}

/// Rewrites every row of a table from one record to another.
pub(super) fn rewrite<Old, New>(
    tx: &WriteTransaction,
    table: TableDefinition<'static, &'static str, &'static [u8]>,
) -> Result<(), StoreError>
where
    Old: DeserializeOwned,
    New: Serialize + From<Old>,
{
    let mut table = tx.open_table(table)?;
    let mut from = None::<String>;
    // A row is read before the next is written, since a table cannot be walked while it changes.
    loop {
        let next = {
            let after = match &from {
                Some(key) => Bound::Excluded(key.as_str()),
                None => Bound::Unbounded,
            };
            let mut rows = table.range::<&str>((after, Bound::Unbounded))?;
            match rows.next().transpose()? {
                Some((key, row)) => {
                    Some((key.value().to_owned(), record::decode::<Old>(row.value())?))
                }
                None => None,
            }
        };
        let Some((key, old)) = next else {
            return Ok(());
        };
        table.insert(key.as_str(), record::encode(&New::from(old))?.as_slice())?;
        from = Some(key);
    }
}

#[cfg(test)]
pub(super) mod older {
    use super::*;

    /// Writes an account as schemas up to 3 did.
    pub(in crate::accounts) fn write(tx: &WriteTransaction, account: &Account) {
        let old = UserRecord2 {
            user: account.user.clone(),
            email: account.email.clone(),
            email_verified: account.email_verified,
            password_hash: account.password_hash.clone(),
            disabled: account.disabled,
        };
        let mut table = tx.open_table(tables::USERS).unwrap();
        let bytes = record::encode(&old).unwrap();
        table
            .insert(account.user.id.as_str(), bytes.as_slice())
            .unwrap();
    }
}
