//! API keys: what programs show instead of signing in. The file knows the fingerprint of a key's secret part.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{ApiKeyId, Timestamp, UserId};

use super::audit::{self, AuditEntry};
use super::sessions::Fingerprint;
use super::tables;
use super::users::{self, Account};
use crate::{Store, StoreError, record};

/// Something that an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// See rooms, members and users, read history, subscribe.
    Read,
    /// Send, edit, redact and react.
    Send,
    /// Make and change rooms and their members.
    Rooms,
    /// Tell presence, typing and what was read.
    Presence,
    /// Vouch for users of one's own, as long as whoever made the key is an admin.
    ChatToken,
    /// What admins do, as long as whoever made the key is one.
    Admin,
}

impl Scope {
    /// Every scope, for tests and documents.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Send,
        Self::Rooms,
        Self::Presence,
        Self::ChatToken,
        Self::Admin,
    ];
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// As whom it acts.
    pub user_id: UserId,
    /// Who made it.
    pub created_by: UserId,
    /// What it may do, in order and each once.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it works at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A key to make.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// As whom it acts.
    pub user_id: UserId,
    /// Who makes it.
    pub created_by: UserId,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Of its secret part.
    pub fingerprint: Fingerprint,
}

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct ApiKeyRow {
    pub(super) key: ApiKey,
    fingerprint: Fingerprint,
}

fn get(tx: &WriteTransaction, id: ApiKeyId) -> Result<Option<ApiKeyRow>, StoreError> {
    match tx.open_table(tables::API_KEYS)?.get(id.as_str())? {
        Some(row) => record::decode(row.value()).map(Some),
        None => Ok(None),
    }
}

/// The key of this id, revoked and ended ones too.
pub(super) fn find(tx: &WriteTransaction, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
    Ok(get(tx, id)?.map(|row| row.key))
}

/// The keys that work at `now`.
pub(super) fn live(tx: &WriteTransaction, now: Timestamp) -> Result<Vec<ApiKeyRow>, StoreError> {
    let mut live = Vec::new();
    for entry in tx.open_table(tables::API_KEYS)?.iter()? {
        let row: ApiKeyRow = record::decode(entry?.1.value())?;
        if row.key.is_live(now) {
            live.push(row);
        }
    }
    Ok(live)
}

/// Revokes a key.
pub(super) fn end(
    tx: &WriteTransaction,
    now: Timestamp,
    mut row: ApiKeyRow,
) -> Result<(), StoreError> {
    row.key.revoked_at = Some(now);
    put(tx, &row)
}

fn put(tx: &WriteTransaction, row: &ApiKeyRow) -> Result<(), StoreError> {
    let bytes = record::encode(row)?;
    tx.open_table(tables::API_KEYS)?
        .insert(row.key.id.as_str(), bytes.as_slice())?;
    Ok(())
}

impl Store {
    /// Makes a key that acts as an account; `None` when that may not be used.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn add_api_key(
        &self,
        new: NewApiKey,
        entry: AuditEntry,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.write(move |tx, now| {
            let owner = users::get(&tx.open_table(tables::USERS)?, new.user_id.as_str())?;
            if owner.is_none_or(|account| account.disabled) {
                return Ok(None);
            }
            let mut scopes = new.scopes;
            scopes.sort_unstable();
            scopes.dedup();
            let key = ApiKey {
                id: new.id,
                name: new.name,
                user_id: new.user_id,
                created_by: new.created_by,
                scopes,
                created_at: now,
                expires_at: new.expires_at,
                last_used_at: None,
                revoked_at: None,
            };
            let row = ApiKeyRow {
                key,
                fingerprint: new.fingerprint,
            };
            put(tx, &row)?;
            tx.open_table(tables::USER_API_KEYS)?
                .insert((row.key.user_id.as_str(), row.key.id.as_str()), ())?;
            audit::append(tx, now, entry)?;
            Ok(Some(row.key))
        })
        .await
    }

    /// A key with the fingerprint of its secret and the account it acts as; revoked and ended ones too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn api_key_with_account(
        &self,
        id: ApiKeyId,
    ) -> Result<Option<(ApiKey, Fingerprint, Account)>, StoreError> {
        self.read(|tx| {
            let Some(row) = tx.open_table(tables::API_KEYS)?.get(id.as_str())? else {
                return Ok(None);
            };
            let row: ApiKeyRow = record::decode(row.value())?;
            let owner = users::get(&tx.open_table(tables::USERS)?, row.key.user_id.as_str())?;
            Ok(owner.map(|account| (row.key, row.fingerprint, account)))
        })
    }

    /// Every key in the order they were made, revoked ones too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list_api_keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        self.read_blocking(|tx| {
            let mut keys = Vec::new();
            for entry in tx.open_table(tables::API_KEYS)?.iter()? {
                let (_, row) = entry?;
                keys.push(record::decode::<ApiKeyRow>(row.value())?.key);
            }
            Ok(keys)
        })
        .await
    }

    /// Revokes a key and gives it; `None` when there is none that was not revoked before.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn revoke_api_key(
        &self,
        id: ApiKeyId,
        entry: AuditEntry,
    ) -> Result<Option<ApiKey>, StoreError> {
        self.write(move |tx, now| {
            let found = get(tx, id)?.filter(|row| row.key.revoked_at.is_none());
            let Some(mut row) = found else {
                return Ok(None);
            };
            row.key.revoked_at = Some(now);
            put(tx, &row)?;
            audit::append(tx, now, entry)?;
            Ok(Some(row.key))
        })
        .await
    }

    /// Notes when keys were last used.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn touch_api_keys(&self, used: Vec<(ApiKeyId, Timestamp)>) -> Result<(), StoreError> {
        if used.is_empty() {
            return Ok(());
        }
        self.write(move |tx, _| {
            for (id, at) in used {
                if let Some(mut row) = get(tx, id)?
                    && row.key.last_used_at.is_none_or(|last| last < at)
                {
                    row.key.last_used_at = Some(at);
                    put(tx, &row)?;
                }
            }
            Ok(())
        })
        .await
    }
}
