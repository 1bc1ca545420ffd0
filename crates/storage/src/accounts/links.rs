//! Accounts at identity providers that sign in to one of ours. Who somebody is there is issuer and subject, never an
//! e-mail address.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{GlobalRole, LinkId, SessionId, Timestamp, UserId};
use thiserror::Error;

use super::audit::{self, AuditAction, AuditEntry};
use super::ceremonies::{self, Ceremony};
use super::sessions::{self, NewSession, Session, SignInMethod, Stale};
use super::users::{self, Account};
use super::ways_in::{self, Removal, rows_of};
use super::{CreateUserError, NewUser, passkeys, tables, totp};
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

/// Why a link was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AddLinkError {
    /// The account there is linked already, to whomever.
    #[error("the account at the provider is linked already")]
    Taken,
    /// Our account, its address or the session changed since they were looked at.
    #[error("the account or session has changed in between")]
    Stale,
}

/// A sign-in at a provider that vouches for the e-mail address of one of our accounts.
#[derive(Debug, Clone)]
pub struct LinkByEmail {
    /// The link to make.
    pub link: NewLink,
    /// The address, in its one spelling.
    pub email: String,
    /// The session to begin.
    pub session: NewSession,
    /// What to put on record: a link, or an account that was adopted, is put there besides.
    pub audit: AuditEntry,
}

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

/// The account that still may be signed in to and still has this address, verified or not as was seen. An admin's is
/// none: what an address opens must not be the whole server.
fn account_with(
    tx: &WriteTransaction,
    asked: &LinkByEmail,
    verified: bool,
) -> Result<Option<Account>, StoreError> {
    let found = users::get(&tx.open_table(tables::USERS)?, asked.link.user_id.as_str())?;
    Ok(found.filter(|account| {
        account.may_sign_in()
            && account.user.role != GlobalRole::Admin
            && account.email_verified == verified
            && account.email.as_deref() == Some(asked.email.as_str())
    }))
}

/// An entry like this one about something else that was done with it.
fn beside(entry: &AuditEntry, action: AuditAction, target: String) -> AuditEntry {
    AuditEntry {
        action,
        target: Some(target),
        ..entry.clone()
    }
}

/// Removes every link of a user.
fn remove_all(tx: &WriteTransaction, owner: UserId) -> Result<(), StoreError> {
    let ids: Vec<String> = {
        let by_user = tx.open_table(tables::USER_OAUTH_LINKS)?;
        let rows = rows_of!(by_user, owner.as_str());
        rows.into_iter().map(|(id, _)| id).collect()
    };
    for id in ids {
        remove(tx, owner, id.parse().map_err(StoreError::damaged)?)?;
    }
    Ok(())
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

    /// Makes a link for somebody who is signed in.
    ///
    /// # Errors
    /// The commit failed. The refusal is within: also when the session is over by now.
    pub async fn add_oauth_link(
        &self,
        new: NewLink,
        session: SessionId,
        entry: AuditEntry,
    ) -> Result<Result<OauthLink, AddLinkError>, StoreError> {
        self.write(move |tx, now| {
            let owner = users::get(&tx.open_table(tables::USERS)?, new.user_id.as_str())?;
            if !owner.is_some_and(|account| account.may_sign_in())
                || !sessions::is_live(tx, session, new.user_id, now)?
            {
                return Ok(Err(AddLinkError::Stale));
            }
            let Ok(link) = add(tx, now, new)? else {
                return Ok(Err(AddLinkError::Taken));
            };
            audit::append(tx, now, entry)?;
            Ok(Ok(link))
        })
        .await
    }

    /// Links an account whose owner has shown the same e-mail address here and there, and signs in to it.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn link_by_email(
        &self,
        asked: LinkByEmail,
    ) -> Result<Result<(Account, Session), AddLinkError>, StoreError> {
        self.write(move |tx, now| {
            if account_with(tx, &asked, true)?.is_none() {
                return Ok(Err(AddLinkError::Stale));
            }
            let target = asked.link.id.to_string();
            let Ok(_) = add(tx, now, asked.link)? else {
                return Ok(Err(AddLinkError::Taken));
            };
            let linked = beside(&asked.audit, AuditAction::OauthLinked, target);
            audit::append(tx, now, linked)?;
            // The account may be signed in to, as was just seen.
            let begun = sessions::begin(tx, now, asked.session, asked.audit)?;
            Ok(Ok(begun.map_err(StoreError::damaged)?))
        })
        .await
    }

    /// Gives an account that was made with an address nobody had shown to be theirs to whom a provider vouches for
    /// that address. Whoever made it may have been somebody else, waiting for this moment: every way in that they
    /// have laid is taken away, and every session ended. Those that were are given back.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn adopt_unverified_account(
        &self,
        asked: LinkByEmail,
    ) -> Result<Result<(Account, Session, Vec<SessionId>), AddLinkError>, StoreError> {
        self.write(move |tx, now| {
            let owner = asked.link.user_id;
            let Some(mut account) = account_with(tx, &asked, false)? else {
                return Ok(Err(AddLinkError::Stale));
            };
            // Looked at first: a refusal must have changed nothing.
            if get(tx, &asked.link.issuer, &asked.link.subject)?.is_some() {
                return Ok(Err(AddLinkError::Taken));
            }
            account.password_hash = None;
            account.email_verified = true;
            users::put(tx, account)?;
            remove_all(tx, owner)?;
            passkeys::remove_all(tx, owner)?;
            totp::remove(tx, owner)?;
            // Without a password before and after, nothing else would tell that a link is of another time.
            ceremonies::remove_of(tx, Ceremony::RecoveryLink, owner)?;
            let revoked = sessions::revoke_all(tx, now, owner, None)?;
            let target = asked.link.id.to_string();
            add(tx, now, asked.link)?.map_err(StoreError::damaged)?;
            let adopted = beside(&asked.audit, AuditAction::AccountAdopted, owner.to_string());
            audit::append(tx, now, adopted)?;
            let linked = beside(&asked.audit, AuditAction::OauthLinked, target);
            audit::append(tx, now, linked)?;
            let begun = sessions::begin(tx, now, asked.session, asked.audit)?;
            let (account, session) = begun.map_err(StoreError::damaged)?;
            Ok(Ok((account, session, revoked)))
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
            let account = match users::create(tx, now, new, &entry)? {
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

    /// Removes a link, unless it is the last way in, and revokes the sessions but `keep` that were begun at a provider,
    /// which are given back.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn remove_oauth_link(
        &self,
        owner: UserId,
        id: LinkId,
        keep: SessionId,
        entry: AuditEntry,
    ) -> Result<(Removal, Vec<SessionId>), StoreError> {
        self.write(move |tx, now| {
            let there = tx
                .open_table(tables::USER_OAUTH_LINKS)?
                .get((owner.as_str(), id.as_str()))?
                .is_some();
            if !there {
                return Ok((Removal::Unknown, Vec::new()));
            }
            if ways_in::in_transaction(tx, owner)?.count() == 1 {
                return Ok((Removal::LastWayIn, Vec::new()));
            }
            remove(tx, owner, id)?;
            audit::append(tx, now, entry.clone())?;
            let method = SignInMethod::Oauth;
            let revoked = ways_in::end_sessions_begun_by(tx, now, owner, method, keep, entry)?;
            Ok((Removal::Removed, revoked))
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
