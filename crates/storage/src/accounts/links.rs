//! Accounts at identity providers that sign in to one of ours. Who somebody is there is issuer and subject, never an
//! e-mail address.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{LinkId, Timestamp, UserId};
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::sessions::{self, NewSession, Session, Stale};
use super::users::{self, Account};
use super::ways_in::{self, Removal, rows_of};
use super::{CreateUserError, NewUser, tables};
use crate::{Store, StoreError, record};

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OauthLink {
    /// Its id in requests.
    pub id: LinkId,
    /// Our account.
    pub user_id: UserId,
    /// The provider's name in the configuration when it was linked.
    pub provider: String,
    /// Who vouches for the subject.
    pub issuer: String,
    /// The account there.
    pub subject: String,
    /// The address that the provider told, for people.
    pub email: Option<String>,
    /// Since when.
    pub linked_at: Timestamp,
    /// When it last signed in.
    pub last_used_at: Option<Timestamp>,
}

/// A link to make.
#[derive(Debug, Clone)]
pub struct NewLink {
    /// Its id in requests.
    pub id: LinkId,
    /// Our account.
    pub user_id: UserId,
    /// The provider's name in the configuration.
    pub provider: String,
    /// Who vouches for the subject.
    pub issuer: String,
    /// The account there.
    pub subject: String,
    /// The address that the provider told.
    pub email: Option<String>,
}

/// The account there is linked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the account at the provider is linked already")]
pub struct LinkTaken;

fn get(
    tx: &WriteTransaction,
    issuer: &str,
    subject: &str,
) -> Result<Option<OauthLink>, StoreError> {
    match tx.open_table(tables::OAUTH_LINKS)?.get((issuer, subject))? {
        Some(row) => record::decode(row.value()).map(Some),
        None => Ok(None),
    }
}

fn put(tx: &WriteTransaction, link: &OauthLink) -> Result<(), StoreError> {
    let bytes = record::encode(link)?;
    tx.open_table(tables::OAUTH_LINKS)?.insert(
        (link.issuer.as_str(), link.subject.as_str()),
        bytes.as_slice(),
    )?;
    tx.open_table(tables::USER_OAUTH_LINKS)?.insert(
        (link.user_id.as_str(), link.id.as_str()),
        (link.issuer.as_str(), link.subject.as_str()),
    )?;
    Ok(())
}

/// Makes a link.
fn add(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewLink,
) -> Result<Result<OauthLink, LinkTaken>, StoreError> {
    if get(tx, &new.issuer, &new.subject)?.is_some() {
        return Ok(Err(LinkTaken));
    }
    let link = OauthLink {
        id: new.id,
        user_id: new.user_id,
        provider: new.provider,
        issuer: new.issuer,
        subject: new.subject,
        email: new.email,
        linked_at: now,
        last_used_at: None,
    };
    put(tx, &link)?;
    Ok(Ok(link))
}

/// Removes a link of a user; `false` when there is none.
fn remove(tx: &WriteTransaction, owner: UserId, id: LinkId) -> Result<bool, StoreError> {
    let identity = {
        let mut by_user = tx.open_table(tables::USER_OAUTH_LINKS)?;
        let row = by_user.remove((owner.as_str(), id.as_str()))?;
        row.map(|row| {
            let (issuer, subject) = row.value();
            (issuer.to_owned(), subject.to_owned())
        })
    };
    let Some((issuer, subject)) = identity else {
        return Ok(false);
    };
    tx.open_table(tables::OAUTH_LINKS)?
        .remove((issuer.as_str(), subject.as_str()))?;
    Ok(true)
}

impl Store {
    /// The link of an account at a provider.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oauth_link(&self, issuer: &str, subject: &str) -> Result<Option<OauthLink>, StoreError> {
        self.read(
            |tx| match tx.open_table(tables::OAUTH_LINKS)?.get((issuer, subject))? {
                Some(row) => record::decode(row.value()).map(Some),
                None => Ok(None),
            },
        )
    }

    /// The links of an account in the order they were made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oauth_links_of(&self, owner: UserId) -> Result<Vec<OauthLink>, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::OAUTH_LINKS)?;
            let mut links = Vec::new();
            for (_, identity) in rows_of!(tx.open_table(tables::USER_OAUTH_LINKS)?, owner.as_str())
            {
                if let Some(row) = table.get(identity.value())? {
                    links.push(record::decode(row.value())?);
                }
            }
            Ok(links)
        })
    }

    /// Makes a link.
    ///
    /// # Errors
    /// The commit failed. [`LinkTaken`] when the account there is linked already, to whomever.
    pub async fn add_oauth_link(
        &self,
        new: NewLink,
        entry: AuditEntry,
    ) -> Result<Result<OauthLink, LinkTaken>, StoreError> {
        self.write(move |tx, now| {
            let added = add(tx, now, new)?;
            if added.is_ok() {
                audit::append(tx, now, entry)?;
            }
            Ok(added)
        })
        .await
    }

    /// Makes an account with a link, and its first session.
    ///
    /// # Errors
    /// The commit failed. The refusals are within: [`LinkTaken`] in the account's place when somebody was first.
    pub async fn register_with_link(
        &self,
        new: NewUser,
        link: NewLink,
        session: NewSession,
        entry: AuditEntry,
    ) -> Result<Result<Result<(Account, Session), LinkTaken>, CreateUserError>, StoreError> {
        self.write(move |tx, now| {
            // Looked at first: a refusal must have changed nothing.
            if get(tx, &link.issuer, &link.subject)?.is_some() {
                return Ok(Ok(Err(LinkTaken)));
            }
            let account = match users::create(tx, now, new)? {
                Ok(account) => account,
                Err(refused) => return Ok(Err(refused)),
            };
            add(tx, now, link)?.map_err(StoreError::damaged)?;
            let session = sessions::create(tx, now, session)?;
            audit::append(tx, now, entry)?;
            Ok(Ok(Ok((account, session))))
        })
        .await
    }

    /// Removes a link, unless it is the last way in.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn remove_oauth_link(
        &self,
        owner: UserId,
        id: LinkId,
        entry: AuditEntry,
    ) -> Result<Removal, StoreError> {
        self.write(move |tx, now| {
            let there = tx
                .open_table(tables::USER_OAUTH_LINKS)?
                .get((owner.as_str(), id.as_str()))?
                .is_some();
            if !there {
                return Ok(Removal::Unknown);
            }
            if ways_in::in_transaction(tx, owner)?.count() == 1 {
                return Ok(Removal::LastWayIn);
            }
            remove(tx, owner, id)?;
            audit::append(tx, now, entry)?;
            Ok(Removal::Removed)
        })
        .await
    }

    /// Begins the session of a sign-in at a provider.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when account or link changed since they were looked at.
    pub async fn use_oauth_link(
        &self,
        link: LinkId,
        session: NewSession,
        entry: AuditEntry,
    ) -> Result<Result<(Account, Session), Stale>, StoreError> {
        self.write(move |tx, now| {
            let identity = {
                let table = tx.open_table(tables::USER_OAUTH_LINKS)?;
                let row = table.get((session.user_id.as_str(), link.as_str()))?;
                row.map(|row| {
                    let (issuer, subject) = row.value();
                    (issuer.to_owned(), subject.to_owned())
                })
            };
            let Some((issuer, subject)) = identity else {
                return Ok(Err(Stale));
            };
            let begun = sessions::begin(tx, now, session, entry)?;
            if begun.is_ok()
                && let Some(mut link) = get(tx, &issuer, &subject)?
            {
                link.last_used_at = Some(now);
                put(tx, &link)?;
            }
            Ok(begun)
        })
        .await
    }
}
