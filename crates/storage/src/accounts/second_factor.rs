//! What ends in a session beside a password and a passkey: a second factor behind a password, and a recovery link.

use stack_types::{SessionId, UserId};
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::ceremonies::{self, Ceremony};
use super::sessions::{self, Fingerprint, NewSession, Session, Stale};
use super::totp::{self, Factor};
use super::users::{self, Account};
use super::{counters, tables};
use crate::{Store, StoreError};

/// A second factor behind a password that was found right a short while ago.
pub struct SecondFactorSignIn {
    /// The ticket that was given for the password. It is used up with the sign-in, and stays if that is refused.
    pub ticket: Fingerprint,
    /// The factor, which is spent with it.
    pub factor: Factor,
    /// The session to begin.
    pub session: NewSession,
    /// The hash that the password was verified against. If the account has another by now, the sign-in is void.
    pub verified_hash: String,
    /// A dearer hash of the same password, to replace the verified one.
    pub new_hash: Option<String>,
    /// The counters of wrong passwords and codes, which end here.
    pub clear_counters: Vec<String>,
    /// What to put on record.
    pub audit: Vec<AuditEntry>,
}

/// Why a second factor did not sign in. Nothing has changed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecondFactorRefused {
    /// The ticket was used or is over, or the account is not what it was.
    #[error("the sign-in is over")]
    Over,
    /// The factor was spent before, or is none.
    #[error("the factor is spent")]
    Spent,
}

/// A recovery link that somebody redeems.
pub struct Recover {
    /// The link. It is used up.
    pub link: Fingerprint,
    /// Whose account.
    pub user_id: UserId,
    /// The admin who made the link, who must still be one; `None` for the machine's operator.
    pub made_by: Option<UserId>,
    /// The hash the account had when the link was made; with another the link is void.
    pub expected_hash: Option<String>,
    /// The new password's.
    pub new_hash: String,
    /// Whether the second factor goes with the old password.
    pub reset_second_factor: bool,
    /// Whether the new password is a short one, which is for an account with a second factor only.
    pub needs_second_factor: bool,
    /// The session to begin; none while a second factor is still to be shown.
    pub session: Option<NewSession>,
    /// The counters of wrong passwords and codes, which end here.
    pub clear_counters: Vec<String>,
    /// What to put on record.
    pub audit: Vec<AuditEntry>,
}

/// An account that was recovered.
pub struct Recovered {
    /// As it is now.
    pub account: Account,
    /// The session that was asked for.
    pub session: Option<Session>,
    /// The sessions that were revoked: all there were.
    pub revoked: Vec<SessionId>,
}

impl Store {
    /// Begins the session of a sign-in with a second factor: spends the factor and uses the ticket up with it.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn second_factor_sign_in(
        &self,
        asked: SecondFactorSignIn,
    ) -> Result<Result<(Account, Session), SecondFactorRefused>, StoreError> {
        self.write(move |tx, now| {
            let owner = asked.session.user_id;
            let found = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
            let verified = Some(asked.verified_hash);
            let found =
                found.filter(|account| account.may_sign_in() && account.password_hash == verified);
            let Some(mut account) = found else {
                return Ok(Err(SecondFactorRefused::Over));
            };
            // Looked at first: a refusal must have changed nothing.
            if !ceremonies::is_open(tx, now, Ceremony::LoginTicket, &asked.ticket)? {
                return Ok(Err(SecondFactorRefused::Over));
            }
            if !totp::spend(tx, owner, &asked.factor)? {
                return Ok(Err(SecondFactorRefused::Spent));
            }
            ceremonies::take(tx, now, Ceremony::LoginTicket, &asked.ticket)?;
            if asked.new_hash.is_some() {
                account.password_hash = asked.new_hash;
                users::put(tx, account.clone())?;
            }
            let session = sessions::create(tx, now, asked.session)?;
            for key in &asked.clear_counters {
                counters::reset(tx, key, now)?;
            }
            for entry in asked.audit {
                audit::append(tx, now, entry)?;
            }
            Ok(Ok((account, session)))
        })
        .await
    }

    /// Sets the password that a recovery link is redeemed for, and revokes every session of the account.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when the link was used or is over, or the account is not what it was.
    pub async fn recover(&self, asked: Recover) -> Result<Result<Recovered, Stale>, StoreError> {
        self.write(move |tx, now| {
            let owner = asked.user_id;
            let found = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
            let expected = asked.expected_hash;
            let found =
                found.filter(|account| account.may_sign_in() && account.password_hash == expected);
            let Some(mut account) = found else {
                return Ok(Err(Stale));
            };
            if let Some(maker) = asked.made_by
                && !users::is_admin(tx, &maker)?
            {
                return Ok(Err(Stale));
            }
            let has_factor = !asked.reset_second_factor && totp::is_on(tx, owner)?;
            // Who got a second factor in between has to show it; who lost it needs the longer password.
            let fits =
                has_factor == asked.session.is_none() && (has_factor || !asked.needs_second_factor);
            if !fits || !ceremonies::is_open(tx, now, Ceremony::RecoveryLink, &asked.link)? {
                return Ok(Err(Stale));
            }
            ceremonies::take(tx, now, Ceremony::RecoveryLink, &asked.link)?;
            account.password_hash = Some(asked.new_hash);
            users::put(tx, account.clone())?;
            if asked.reset_second_factor {
                totp::remove(tx, owner)?;
            }
            let revoked = sessions::revoke_all(tx, now, owner, None)?;
            let session = match asked.session {
                Some(session) => Some(sessions::create(tx, now, session)?),
                None => None,
            };
            for key in &asked.clear_counters {
                counters::reset(tx, key, now)?;
            }
            for entry in asked.audit {
                audit::append(tx, now, entry)?;
            }
            Ok(Ok(Recovered {
                account,
                session,
                revoked,
            }))
        })
        .await
    }
}
