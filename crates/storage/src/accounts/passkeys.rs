//! Passkeys: what an authenticator holds of an account. The library's own record of one is kept as its JSON, which
//! only `stack-auth` reads.

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{PasskeyId, SessionId, Timestamp, UserId};
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::sessions::{self, NewSession, Session, SignInMethod, Stale};
use super::users::{self, Account};
use super::ways_in::{self, Removal, rows_of};
use super::{CreateUserError, NewUser, tables};
use crate::{Store, StoreError, record};

/// Passkeys that one account may have. Nobody owns more devices, and every sign-in by name lists them all.
pub const MOST_PASSKEYS: usize = 20;

/// What an authenticator knows an account by: random, and told to nobody else.
pub type WebauthnHandle = [u8; 16];

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// Its id in requests.
    pub id: PasskeyId,
    /// Whose.
    pub user_id: UserId,
    /// The authenticator's id of it.
    pub credential_id: Vec<u8>,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last signed in.
    pub last_used_at: Option<Timestamp>,
    /// When it was found to be copied. It signs nobody in any more.
    pub suspended_at: Option<Timestamp>,
    /// The library's record as JSON: public key, counter, flags.
    pub credential: String,
}

/// A passkey to add.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// Its id in requests.
    pub id: PasskeyId,
    /// Whose.
    pub user_id: UserId,
    /// The authenticator's id of it.
    pub credential_id: Vec<u8>,
    /// What its owner calls it.
    pub name: String,
    /// The library's record as JSON.
    pub credential: String,
}

/// Why a passkey was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddPasskeyError {
    /// It is there already, of this account or another.
    #[error("the credential is known already")]
    Taken,
    /// The account has as many as it may.
    #[error("the account has {MOST_PASSKEYS} passkeys")]
    TooMany,
    /// The account may not be used.
    #[error("the account may not be used")]
    Stale,
}

/// A sign-in by passkey that was found right.
pub struct UsePasskey {
    /// The passkey.
    pub credential_id: Vec<u8>,
    /// The library's record that the answer was verified against. If it is another by now, the sign-in is void: of
    /// two answers with the same counter one is a copy's.
    pub expected: String,
    /// The record after it.
    pub updated: String,
    /// The session to begin.
    pub session: NewSession,
    /// What to put on record.
    pub audit: AuditEntry,
}

/// Somebody in a session who has shown by passkey who they are; the fields are those of [`UsePasskey`].
#[expect(missing_docs, reason = "the fields are those of `UsePasskey`")]
pub struct ConfirmByPasskey {
    pub owner: UserId,
    pub session: SessionId,
    pub credential_id: Vec<u8>,
    pub expected: String,
    pub updated: String,
    pub audit: AuditEntry,
}

fn decode(bytes: &[u8]) -> Result<Passkey, StoreError> {
    record::decode(bytes)
}

fn get(tx: &WriteTransaction, credential_id: &[u8]) -> Result<Option<Passkey>, StoreError> {
    match tx.open_table(tables::CREDENTIALS)?.get(credential_id)? {
        Some(row) => decode(row.value()).map(Some),
        None => Ok(None),
    }
}

fn put(tx: &WriteTransaction, passkey: &Passkey) -> Result<(), StoreError> {
    let bytes = record::encode(passkey)?;
    tx.open_table(tables::CREDENTIALS)?
        .insert(passkey.credential_id.as_slice(), bytes.as_slice())?;
    Ok(())
}

/// A passkey that may be used and is as it was when the answer to it was looked at.
fn unchanged(
    tx: &WriteTransaction,
    credential_id: &[u8],
    expected: &str,
    owner: UserId,
) -> Result<Option<Passkey>, StoreError> {
    Ok(get(tx, credential_id)?.filter(|passkey| {
        passkey.user_id == owner && passkey.suspended_at.is_none() && passkey.credential == expected
    }))
}

fn note_use(
    tx: &WriteTransaction,
    now: Timestamp,
    mut passkey: Passkey,
    updated: String,
) -> Result<(), StoreError> {
    passkey.credential = updated;
    passkey.last_used_at = Some(now);
    put(tx, &passkey)
}

/// The credential of a user's passkey.
fn find(
    tx: &WriteTransaction,
    owner: UserId,
    id: PasskeyId,
) -> Result<Option<Passkey>, StoreError> {
    let credential = {
        let table = tx.open_table(tables::USER_CREDENTIALS)?;
        let row = table.get((owner.as_str(), id.as_str()))?;
        row.map(|row| row.value().to_vec())
    };
    match credential {
        Some(credential) => get(tx, &credential),
        None => Ok(None),
    }
}

/// Adds a passkey to an account.
fn add(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewPasskey,
) -> Result<Result<Passkey, AddPasskeyError>, StoreError> {
    let owner = users::get(&tx.open_table(tables::USERS)?, new.user_id.as_str())?;
    if !owner.is_some_and(|account| account.may_sign_in()) {
        return Ok(Err(AddPasskeyError::Stale));
    }
    if is_known(tx, &new.credential_id)? {
        return Ok(Err(AddPasskeyError::Taken));
    }
    let mut by_user = tx.open_table(tables::USER_CREDENTIALS)?;
    if rows_of!(by_user, new.user_id.as_str()).len() >= MOST_PASSKEYS {
        return Ok(Err(AddPasskeyError::TooMany));
    }
    let passkey = Passkey {
        id: new.id,
        user_id: new.user_id,
        credential_id: new.credential_id,
        name: new.name,
        created_at: now,
        last_used_at: None,
        suspended_at: None,
        credential: new.credential,
    };
    put(tx, &passkey)?;
    by_user.insert(
        (passkey.user_id.as_str(), passkey.id.as_str()),
        passkey.credential_id.as_slice(),
    )?;
    Ok(Ok(passkey))
}

/// Whether some account has this credential.
pub(super) fn is_known(tx: &WriteTransaction, credential_id: &[u8]) -> Result<bool, StoreError> {
    Ok(get(tx, credential_id)?.is_some())
}

/// Removes every passkey of an account.
pub(super) fn remove_all(tx: &WriteTransaction, owner: UserId) -> Result<(), StoreError> {
    let mut by_user = tx.open_table(tables::USER_CREDENTIALS)?;
    let rows: Vec<(String, Vec<u8>)> = rows_of!(by_user, owner.as_str())
        .into_iter()
        .map(|(id, credential)| (id, credential.value().to_vec()))
        .collect();
    let mut credentials = tx.open_table(tables::CREDENTIALS)?;
    for (id, credential) in rows {
        by_user.remove((owner.as_str(), id.as_str()))?;
        credentials.remove(credential.as_slice())?;
    }
    Ok(())
}

/// Adds the passkey that a new account is made with. That it is not known was looked at before.
pub(super) fn add_first(
    tx: &WriteTransaction,
    now: Timestamp,
    handle: WebauthnHandle,
    passkey: NewPasskey,
) -> Result<(), StoreError> {
    set_handle(tx, passkey.user_id, handle)?;
    // A new account has no passkeys and may be used.
    add(tx, now, passkey)?.map_err(StoreError::damaged)?;
    Ok(())
}

/// Gives an account the handle that authenticators know it by, unless it has one.
fn set_handle(
    tx: &WriteTransaction,
    owner: UserId,
    proposed: WebauthnHandle,
) -> Result<WebauthnHandle, StoreError> {
    let mut handles = tx.open_table(tables::WEBAUTHN_HANDLES)?;
    let known = match handles.get(owner.as_str())? {
        Some(row) => Some(to_handle(row.value())?),
        None => None,
    };
    if let Some(known) = known {
        return Ok(known);
    }
    handles.insert(owner.as_str(), proposed.as_slice())?;
    tx.open_table(tables::HANDLE_USERS)?
        .insert(proposed.as_slice(), owner.as_str())?;
    Ok(proposed)
}

fn to_handle(bytes: &[u8]) -> Result<WebauthnHandle, StoreError> {
    bytes.try_into().map_err(StoreError::damaged)
}

fn of(tx: &ReadTransaction, owner: UserId) -> Result<Vec<Passkey>, StoreError> {
    let credentials = tx.open_table(tables::CREDENTIALS)?;
    let mut passkeys = Vec::new();
    for (_, credential) in rows_of!(tx.open_table(tables::USER_CREDENTIALS)?, owner.as_str()) {
        if let Some(row) = credentials.get(credential.value())? {
            passkeys.push(decode(row.value())?);
        }
    }
    Ok(passkeys)
}

impl Store {
    /// The handle that authenticators know an account by: `proposed`, sixteen random bytes, unless it has one.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn webauthn_handle(
        &self,
        owner: UserId,
        proposed: WebauthnHandle,
    ) -> Result<WebauthnHandle, StoreError> {
        let known = self.read(|tx| {
            let table = tx.open_table(tables::WEBAUTHN_HANDLES)?;
            let row = table.get(owner.as_str())?;
            row.map(|row| to_handle(row.value())).transpose()
        })?;
        match known {
            Some(known) => Ok(known),
            None => {
                self.write(move |tx, _| set_handle(tx, owner, proposed))
                    .await
            }
        }
    }

    /// The account that authenticators know by this handle.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn account_by_handle(
        &self,
        handle: &WebauthnHandle,
    ) -> Result<Option<Account>, StoreError> {
        self.read(|tx| {
            match tx
                .open_table(tables::HANDLE_USERS)?
                .get(handle.as_slice())?
            {
                Some(owner) => users::get(&tx.open_table(tables::USERS)?, owner.value()),
                None => Ok(None),
            }
        })
    }

    /// The passkeys of an account in the order they were made, suspended ones too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn passkeys_of(&self, owner: UserId) -> Result<Vec<Passkey>, StoreError> {
        self.read(|tx| of(tx, owner))
    }

    /// The passkey of this credential id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn passkey(&self, credential_id: &[u8]) -> Result<Option<Passkey>, StoreError> {
        self.read(
            |tx| match tx.open_table(tables::CREDENTIALS)?.get(credential_id)? {
                Some(row) => decode(row.value()).map(Some),
                None => Ok(None),
            },
        )
    }

    /// Adds a passkey to an account.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn add_passkey(
        &self,
        new: NewPasskey,
        entry: AuditEntry,
    ) -> Result<Result<Passkey, AddPasskeyError>, StoreError> {
        self.write(move |tx, now| {
            let added = add(tx, now, new)?;
            if added.is_ok() {
                audit::append(tx, now, entry)?;
            }
            Ok(added)
        })
        .await
    }

    /// Makes an account with a passkey, and its first session.
    ///
    /// # Errors
    /// The commit failed. The refusals are within: [`AddPasskeyError`] in the account's place when the credential is
    /// known already.
    pub async fn register_with_passkey(
        &self,
        new: NewUser,
        handle: WebauthnHandle,
        passkey: NewPasskey,
        session: NewSession,
        entry: AuditEntry,
    ) -> Result<Result<Result<(Account, Session), AddPasskeyError>, CreateUserError>, StoreError>
    {
        self.write(move |tx, now| {
            // Looked at first: a refusal must have changed nothing.
            if is_known(tx, &passkey.credential_id)? {
                return Ok(Ok(Err(AddPasskeyError::Taken)));
            }
            let account = match users::create(tx, now, new, &entry)? {
                Ok(account) => account,
                Err(refused) => return Ok(Err(refused)),
            };
            add_first(tx, now, handle, passkey)?;
            let session = sessions::create(tx, now, session)?;
            audit::append(tx, now, entry)?;
            Ok(Ok(Ok((account, session))))
        })
        .await
    }

    /// Calls a passkey something else, and gives it as it is then.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn rename_passkey(
        &self,
        owner: UserId,
        id: PasskeyId,
        name: String,
        entry: AuditEntry,
    ) -> Result<Option<Passkey>, StoreError> {
        self.write(move |tx, now| {
            let Some(mut passkey) = find(tx, owner, id)? else {
                return Ok(None);
            };
            passkey.name = name;
            put(tx, &passkey)?;
            audit::append(tx, now, entry)?;
            Ok(Some(passkey))
        })
        .await
    }

    /// Removes a passkey, unless it is the last way in, and revokes the sessions but `keep` that were begun by passkey,
    /// which are given back.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn remove_passkey(
        &self,
        owner: UserId,
        id: PasskeyId,
        keep: SessionId,
        entry: AuditEntry,
    ) -> Result<(Removal, Vec<SessionId>), StoreError> {
        self.write(move |tx, now| {
            let Some(passkey) = find(tx, owner, id)? else {
                return Ok((Removal::Unknown, Vec::new()));
            };
            // A suspended one is no way in, so that it can always go.
            if passkey.suspended_at.is_none() && ways_in::in_transaction(tx, owner)?.count() == 1 {
                return Ok((Removal::LastWayIn, Vec::new()));
            }
            tx.open_table(tables::CREDENTIALS)?
                .remove(passkey.credential_id.as_slice())?;
            tx.open_table(tables::USER_CREDENTIALS)?
                .remove((owner.as_str(), id.as_str()))?;
            audit::append(tx, now, entry.clone())?;
            let method = SignInMethod::Passkey;
            let revoked = ways_in::end_sessions_begun_by(tx, now, owner, method, keep, entry)?;
            Ok((Removal::Removed, revoked))
        })
        .await
    }

    /// Begins the session of a sign-in by passkey, and keeps the passkey's new counter and flags.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when account or passkey changed since they were looked at.
    pub async fn use_passkey(
        &self,
        asked: UsePasskey,
    ) -> Result<Result<(Account, Session), Stale>, StoreError> {
        self.write(move |tx, now| {
            let owner = asked.session.user_id;
            let Some(passkey) = unchanged(tx, &asked.credential_id, &asked.expected, owner)? else {
                return Ok(Err(Stale));
            };
            let begun = sessions::begin(tx, now, asked.session, asked.audit)?;
            if begun.is_ok() {
                note_use(tx, now, passkey, asked.updated)?;
            }
            Ok(begun)
        })
        .await
    }

    /// Notes that the owner of a live session has shown by passkey who they are, and keeps the passkey's new counter
    /// and flags; `false` when session or passkey changed since they were looked at.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn confirm_by_passkey(&self, asked: ConfirmByPasskey) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let Some(passkey) = unchanged(tx, &asked.credential_id, &asked.expected, asked.owner)?
            else {
                return Ok(false);
            };
            let method = SignInMethod::Passkey;
            let (session, owner, audit) = (asked.session, asked.owner, asked.audit);
            let confirmed = sessions::confirm(tx, now, session, owner, method, audit)?;
            if confirmed {
                note_use(tx, now, passkey, asked.updated)?;
            }
            Ok(confirmed)
        })
        .await
    }

    /// Suspends a passkey that was found to be copied, and revokes its owner's sessions, which are given back.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn suspend_passkey(
        &self,
        credential_id: Vec<u8>,
        entry: AuditEntry,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.write(move |tx, now| {
            let found = get(tx, &credential_id)?;
            let Some(mut passkey) = found.filter(|passkey| passkey.suspended_at.is_none()) else {
                return Ok(Vec::new());
            };
            passkey.suspended_at = Some(now);
            put(tx, &passkey)?;
            audit::append(tx, now, entry)?;
            sessions::revoke_all(tx, now, passkey.user_id, None)
        })
        .await
    }
}
