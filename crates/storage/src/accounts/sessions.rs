//! Sessions: one per sign-in, with the family of refresh tokens that keeps it alive.
//!
//! A session's row holds the fingerprint of its current refresh token and of the one before. A token of the
//! family that is neither was used at least two rotations ago. Whether a token is of the family at all is decided
//! before the store is asked; see the refresh tokens of `stack-auth`.

use std::time::Duration;

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{SessionId, Timestamp, UserId};
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::users::{self, Account};
use super::{counters, tables, totp};
use crate::{Store, StoreError, record};

/// The SHA-256 of a refresh token's secret.
pub type Fingerprint = [u8; 32];

/// How a session's tokens reach the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// As cookies; for browsers.
    #[default]
    Cookie,
    /// In the answer's body; for programs.
    Body,
}

/// How somebody has shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum SignInMethod {
    #[default]
    Password,
    PasswordAndTotp,
    PasswordAndRecoveryCode,
    Passkey,
    Oauth,
    RecoveryLink,
    Setup,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// What the client calls itself.
    pub device: String,
    /// From where it signed in or refreshed last.
    pub ip: String,
    /// When it signed in.
    pub created_at: Timestamp,
    /// When it was last heard of, to the minute.
    pub last_seen_at: Timestamp,
    /// When it ends, however much it is used.
    pub expires_at: Timestamp,
    /// When it ends unless it is refreshed.
    pub refresh_expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// How its tokens reach the client.
    pub delivery: Delivery,
    /// When its owner last showed who they are; a refresh shows nothing.
    pub authenticated_at: Timestamp,
    /// And how.
    pub method: SignInMethod,
}

impl Session {
    /// Whether it works at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at
    }

    /// Whether it can still be refreshed at `now`.
    #[must_use]
    pub fn is_refreshable(&self, now: Timestamp) -> bool {
        self.is_live(now) && now < self.refresh_expires_at
    }
}

/// A session as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct SessionRecord {
    pub(super) session: Session,
    pub(super) current: Fingerprint,
    pub(super) spent: Option<Spent>,
}

/// The token before the current one.
#[derive(Serialize, Deserialize)]
pub(super) struct Spent {
    pub(super) fingerprint: Fingerprint,
    pub(super) at: Timestamp,
}

/// A session's row as schemas up to 3 stored it.
#[derive(Serialize, Deserialize)]
struct SessionRecord2 {
    session: Session2,
    current: Fingerprint,
    spent: Option<Spent>,
}

/// A session as schemas up to 3 stored it.
#[derive(Serialize, Deserialize)]
struct Session2 {
    id: SessionId,
    user_id: UserId,
    device: String,
    ip: String,
    created_at: Timestamp,
    last_seen_at: Timestamp,
    expires_at: Timestamp,
    refresh_expires_at: Timestamp,
    revoked_at: Option<Timestamp>,
    delivery: Delivery,
}

impl From<SessionRecord2> for SessionRecord {
    fn from(old: SessionRecord2) -> Self {
        let session = old.session;
        Self {
            session: Session {
                id: session.id,
                user_id: session.user_id,
                device: session.device,
                ip: session.ip,
                created_at: session.created_at,
                last_seen_at: session.last_seen_at,
                expires_at: session.expires_at,
                refresh_expires_at: session.refresh_expires_at,
                revoked_at: session.revoked_at,
                delivery: session.delivery,
                authenticated_at: session.created_at,
                method: SignInMethod::Password,
            },
            current: old.current,
            spent: old.spent,
        }
    }
}

/// A session to begin.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// What the client calls itself.
    pub device: String,
    /// From where it signs in.
    pub ip: String,
    /// How its tokens reach the client.
    pub delivery: Delivery,
    /// How its owner has shown who they are.
    pub method: SignInMethod,
    /// Its first refresh token.
    pub refresh: Fingerprint,
    /// How long it lives.
    pub lifetime: Duration,
    /// How long it lives unless it is refreshed.
    pub idle: Duration,
}

/// A sign-in whose password was found right.
pub struct SignIn {
    /// The session to begin.
    pub session: NewSession,
    /// The hash that the password was verified against. If the account has another by now, the sign-in is void.
    pub verified_hash: String,
    /// A dearer hash of the same password, to replace the verified one.
    pub new_hash: Option<String>,
    /// The counter of wrong passwords, which ends here.
    pub clear_counter: String,
    /// What to put on record.
    pub audit: AuditEntry,
}

/// What was looked at has changed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the account or session has changed in between")]
pub struct Stale;

pub(super) fn get(
    tx: &WriteTransaction,
    id: SessionId,
) -> Result<Option<SessionRecord>, StoreError> {
    match tx.open_table(tables::SESSIONS)?.get(id.as_str())? {
        Some(bytes) => record::decode(bytes.value()).map(Some),
        None => Ok(None),
    }
}

pub(super) fn put(tx: &WriteTransaction, record: &SessionRecord) -> Result<(), StoreError> {
    let bytes = record::encode(record)?;
    let mut table = tx.open_table(tables::SESSIONS)?;
    table.insert(record.session.id.as_str(), bytes.as_slice())?;
    Ok(())
}

/// Begins a session.
pub(super) fn create(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewSession,
) -> Result<Session, StoreError> {
    let expires_at = now.plus(new.lifetime);
    let record = SessionRecord {
        session: Session {
            id: new.id,
            user_id: new.user_id,
            device: new.device,
            ip: new.ip,
            created_at: now,
            last_seen_at: now,
            expires_at,
            refresh_expires_at: now.plus(new.idle).min(expires_at),
            revoked_at: None,
            delivery: new.delivery,
            authenticated_at: now,
            method: new.method,
        },
        current: new.refresh,
        spent: None,
    };
    put(tx, &record)?;
    tx.open_table(tables::USER_SESSIONS)?
        .insert((new.user_id.as_str(), new.id.as_str()), ())?;
    Ok(record.session)
}

/// Begins the session of a person whose account may be used.
pub(super) fn begin(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewSession,
    entry: AuditEntry,
) -> Result<Result<(Account, Session), Stale>, StoreError> {
    let found = users::get(&tx.open_table(tables::USERS)?, new.user_id.as_str())?;
    let Some(account) = found.filter(Account::may_sign_in) else {
        return Ok(Err(Stale));
    };
    let session = create(tx, now, new)?;
    audit::append(tx, now, entry)?;
    Ok(Ok((account, session)))
}

/// Whether this session of this user works.
pub(super) fn is_live(
    tx: &WriteTransaction,
    id: SessionId,
    owner: UserId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let found = get(tx, id)?;
    Ok(found.is_some_and(|record| record.session.user_id == owner && record.session.is_live(now)))
}

/// Revokes every live session of a user except one, and gives those that were revoked.
pub(super) fn revoke_all(
    tx: &WriteTransaction,
    now: Timestamp,
    owner: UserId,
    except: Option<SessionId>,
) -> Result<Vec<SessionId>, StoreError> {
    revoke_those(tx, now, owner, |session| Some(session.id) != except)
}

/// Revokes those live sessions of a user of which `which` says so, and gives them.
pub(super) fn revoke_those(
    tx: &WriteTransaction,
    now: Timestamp,
    owner: UserId,
    which: impl Fn(&Session) -> bool,
) -> Result<Vec<SessionId>, StoreError> {
    let ids = ids_of(&tx.open_table(tables::USER_SESSIONS)?, owner)?;
    let mut revoked = Vec::new();
    for id in ids {
        let Some(mut record) = get(tx, id)? else {
            continue;
        };
        if record.session.is_live(now) && which(&record.session) {
            record.session.revoked_at = Some(now);
            put(tx, &record)?;
            revoked.push(id);
        }
    }
    Ok(revoked)
}

fn ids_of(
    table: &impl ReadableTable<(&'static str, &'static str), ()>,
    owner: UserId,
) -> Result<Vec<SessionId>, StoreError> {
    let mut ids = Vec::new();
    for entry in table.range((owner.as_str(), "")..)? {
        let (key, ()) = entry.map(|(key, _)| (key, ()))?;
        let (user, session) = key.value();
        if user != owner.as_str() {
            break;
        }
        ids.push(session.parse().map_err(StoreError::damaged)?);
    }
    Ok(ids)
}

/// Notes that the owner of a live session has shown again who they are; `false` when there is none.
pub(super) fn confirm(
    tx: &WriteTransaction,
    now: Timestamp,
    id: SessionId,
    owner: UserId,
    method: SignInMethod,
    entry: AuditEntry,
) -> Result<bool, StoreError> {
    let found = get(tx, id)?;
    let is_theirs =
        |record: &SessionRecord| record.session.user_id == owner && record.session.is_live(now);
    let Some(mut record) = found.filter(is_theirs) else {
        return Ok(false);
    };
    record.session.authenticated_at = now;
    record.session.method = method;
    put(tx, &record)?;
    audit::append(tx, now, entry)?;
    Ok(true)
}

impl Store {
    /// Begins the session of a sign-in.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when the account was disabled, got another password or a second factor since it was
    /// looked at.
    pub async fn sign_in(
        &self,
        asked: SignIn,
    ) -> Result<Result<(Account, Session), Stale>, StoreError> {
        self.write(move |tx, now| {
            let owner = asked.session.user_id;
            let found = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
            let verified = Some(asked.verified_hash);
            let Some(mut account) =
                found.filter(|account| !account.disabled && account.password_hash == verified)
            else {
                return Ok(Err(Stale));
            };
            if totp::is_on(tx, owner)? {
                return Ok(Err(Stale));
            }
            if asked.new_hash.is_some() {
                account.password_hash = asked.new_hash;
                users::put(tx, account.clone())?;
            }
            let session = create(tx, now, asked.session)?;
            counters::reset(tx, &asked.clear_counter, now)?;
            audit::append(tx, now, asked.audit)?;
            Ok(Ok((account, session)))
        })
        .await
    }

    /// Begins a session for somebody who has shown who they are by something other than a password.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when the account is disabled, is not a person's, or is not there.
    pub async fn begin_session(
        &self,
        session: NewSession,
        entry: AuditEntry,
    ) -> Result<Result<(Account, Session), Stale>, StoreError> {
        self.write(move |tx, now| begin(tx, now, session, entry))
            .await
    }

    /// Notes that the owner of a live session has shown again who they are; `false` when there is none.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn mark_authenticated(
        &self,
        id: SessionId,
        owner: UserId,
        method: SignInMethod,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| confirm(tx, now, id, owner, method, entry))
            .await
    }

    /// A session and its account, revoked and disabled ones too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn session_with_account(
        &self,
        id: SessionId,
    ) -> Result<Option<(Session, Account)>, StoreError> {
        self.read(|tx| {
            let Some(bytes) = tx.open_table(tables::SESSIONS)?.get(id.as_str())? else {
                return Ok(None);
            };
            let record: SessionRecord = record::decode(bytes.value())?;
            let owner = record.session.user_id;
            let account = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
            Ok(account.map(|account| (record.session, account)))
        })
    }

    /// The sessions of a user that can still be used, oldest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn sessions_of(&self, owner: UserId) -> Result<Vec<Session>, StoreError> {
        let now = self.inner.clock.now();
        self.read(|tx| {
            let table = tx.open_table(tables::SESSIONS)?;
            let mut sessions = Vec::new();
            for id in ids_of(&tx.open_table(tables::USER_SESSIONS)?, owner)? {
                if let Some(bytes) = table.get(id.as_str())? {
                    let record: SessionRecord = record::decode(bytes.value())?;
                    if record.session.is_refreshable(now) {
                        sessions.push(record.session);
                    }
                }
            }
            Ok(sessions)
        })
    }

    /// Revokes a live session of this user; `false` when there is none.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn revoke_session(
        &self,
        id: SessionId,
        owner: UserId,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let found = get(tx, id)?;
            let live = |record: &SessionRecord| {
                record.session.user_id == owner && record.session.is_live(now)
            };
            let Some(mut record) = found.filter(live) else {
                return Ok(false);
            };
            record.session.revoked_at = Some(now);
            put(tx, &record)?;
            audit::append(tx, now, entry)?;
            Ok(true)
        })
        .await
    }

    /// Revokes the live sessions of a user except one, and gives those that were revoked.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn revoke_sessions_of(
        &self,
        owner: UserId,
        except: Option<SessionId>,
        entry: AuditEntry,
    ) -> Result<Vec<SessionId>, StoreError> {
        self.write(move |tx, now| {
            let revoked = revoke_all(tx, now, owner, except)?;
            if !revoked.is_empty() {
                audit::append(tx, now, entry)?;
            }
            Ok(revoked)
        })
        .await
    }

    /// Notes when sessions were last heard of, except those heard of less than `at_least` before.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn touch_sessions(
        &self,
        seen: Vec<(SessionId, Timestamp)>,
        at_least: Duration,
    ) -> Result<(), StoreError> {
        if seen.is_empty() {
            return Ok(());
        }
        self.write(move |tx, _| {
            for (id, at) in seen {
                if let Some(mut record) = get(tx, id)?
                    && record.session.revoked_at.is_none()
                    && at.since(record.session.last_seen_at) >= at_least
                {
                    record.session.last_seen_at = at;
                    put(tx, &record)?;
                }
            }
            Ok(())
        })
        .await
    }
}

/// Rewrites the sessions of schemas up to 3.
pub(crate) fn migrate_sessions(tx: &WriteTransaction) -> Result<(), StoreError> {
    users::rewrite::<SessionRecord2, SessionRecord>(tx, tables::SESSIONS)
}

#[cfg(test)]
pub(super) mod older {
    use super::*;

    /// Writes a session as schemas up to 3 did.
    pub(in crate::accounts) fn write(
        tx: &WriteTransaction,
        session: &Session,
        current: Fingerprint,
    ) {
        let session = session.clone();
        let old = SessionRecord2 {
            session: Session2 {
                id: session.id,
                user_id: session.user_id,
                device: session.device,
                ip: session.ip,
                created_at: session.created_at,
                last_seen_at: session.last_seen_at,
                expires_at: session.expires_at,
                refresh_expires_at: session.refresh_expires_at,
                revoked_at: session.revoked_at,
                delivery: session.delivery,
            },
            current,
            spent: None,
        };
        let mut table = tx.open_table(tables::SESSIONS).unwrap();
        let bytes = record::encode(&old).unwrap();
        table.insert(session.id.as_str(), bytes.as_slice()).unwrap();
    }
}
