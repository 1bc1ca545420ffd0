//! Changes to an account that is there: profile, password, role, and whether it may be used.

use redb::{ReadableTable, WriteTransaction};
use stack_types::{GlobalRole, SessionId, User, UserId};
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::ceremonies::{self, Ceremony};
use super::sessions::{self, Stale};
use super::users::{Account, AccountKind, UserRecord, get, put};
use super::{counters, tables, totp};
use crate::{Store, StoreError, record};

/// What changes about a profile; `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ProfilePatch {
    /// What people see.
    pub display_name: Option<String>,
    /// The settings object's JSON text.
    pub settings: Option<String>,
}

/// A new password.
pub struct PasswordChange {
    /// Whose.
    pub user_id: UserId,
    /// The hash that the old password was verified against; `None` when the account has none.
    pub expected_hash: Option<String>,
    /// The new hash.
    pub new_hash: String,
    /// Whether it is a short one, which is for an account with a second factor only.
    pub needs_second_factor: bool,
    /// The session that asks. It must be live, and is the only one that stays.
    pub keep: SessionId,
    /// The counter of wrong passwords, which ends here.
    pub clear_counter: String,
    /// What to put on record.
    pub audit: AuditEntry,
}

/// Nobody else could look after the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is the last admin")]
pub struct LastAdmin;

/// Why an account did not get a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RoleRefused {
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// Nobody else could look after the server.
    #[error(transparent)]
    LastAdmin(#[from] LastAdmin),
    /// Bots and external accounts are never admins.
    #[error("only a person can be an admin")]
    NoPerson,
}

/// Whether this account is an admin who may sign in, and no other is.
pub(super) fn is_last_admin(tx: &WriteTransaction, id: UserId) -> Result<bool, StoreError> {
    let is_admin =
        |account: &Account| account.user.role == GlobalRole::Admin && account.may_sign_in();
    let users = tx.open_table(tables::USERS)?;
    if !get(&users, id.as_str())?.is_some_and(|account| is_admin(&account)) {
        return Ok(false);
    }
    for entry in users.iter()? {
        let (_, row) = entry?;
        let account: Account = record::decode::<UserRecord>(row.value())?.into();
        if account.user.id != id && is_admin(&account) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Changes an account if it is there, and gives it as it is then.
fn change(
    tx: &WriteTransaction,
    id: UserId,
    change: impl FnOnce(&mut Account),
) -> Result<Option<Account>, StoreError> {
    let found = get(&tx.open_table(tables::USERS)?, id.as_str())?;
    let Some(mut account) = found else {
        return Ok(None);
    };
    change(&mut account);
    put(tx, account.clone())?;
    Ok(Some(account))
}

impl Store {
    /// Changes a profile; `None` without the account.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn update_profile(
        &self,
        id: UserId,
        patch: ProfilePatch,
    ) -> Result<Option<Account>, StoreError> {
        self.write(move |tx, _| {
            let changed = change(tx, id, |account| {
                if let Some(name) = patch.display_name {
                    account.user.display_name = name;
                }
            })?;
            if let (Some(_), Some(settings)) = (&changed, &patch.settings) {
                tx.open_table(tables::USER_SETTINGS)?
                    .insert(id.as_str(), settings.as_str())?;
            }
            Ok(changed)
        })
        .await
    }

    /// Sets a new password and revokes the account's other sessions, which are given back.
    ///
    /// # Errors
    /// The commit failed. [`Stale`] when password, account or session changed since they were looked at.
    pub async fn set_password(
        &self,
        new: PasswordChange,
    ) -> Result<Result<Vec<SessionId>, Stale>, StoreError> {
        self.write(move |tx, now| {
            let found = get(&tx.open_table(tables::USERS)?, new.user_id.as_str())?;
            let Some(mut account) = found
                .filter(|account| !account.disabled && account.password_hash == new.expected_hash)
            else {
                return Ok(Err(Stale));
            };
            if !sessions::is_live(tx, new.keep, new.user_id, now)?
                || (new.needs_second_factor && !totp::is_on(tx, new.user_id)?)
            {
                return Ok(Err(Stale));
            }
            account.password_hash = Some(new.new_hash);
            put(tx, account)?;
            let revoked = sessions::revoke_all(tx, now, new.user_id, Some(new.keep))?;
            counters::reset(tx, &new.clear_counter, now)?;
            audit::append(tx, now, new.audit)?;
            Ok(Ok(revoked))
        })
        .await
    }

    /// Gives an account a role.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn set_role(
        &self,
        id: UserId,
        role: GlobalRole,
        entry: AuditEntry,
    ) -> Result<Result<User, RoleRefused>, StoreError> {
        self.write(move |tx, now| {
            let found = get(&tx.open_table(tables::USERS)?, id.as_str())?;
            let Some(mut account) = found else {
                return Ok(Err(RoleRefused::Unknown));
            };
            match role {
                GlobalRole::Admin if account.kind != AccountKind::Person => {
                    return Ok(Err(RoleRefused::NoPerson));
                }
                GlobalRole::Member if is_last_admin(tx, id)? => {
                    return Ok(Err(LastAdmin.into()));
                }
                GlobalRole::Admin | GlobalRole::Member => {}
            }
            account.user.role = role;
            put(tx, account.clone())?;
            audit::append(tx, now, entry)?;
            Ok(Ok(account.user))
        })
        .await
    }

    /// Disables an account and revokes its sessions, which are given back, or enables it again; `None` without the
    /// account.
    ///
    /// # Errors
    /// The commit failed. [`LastAdmin`] is not disabled.
    pub async fn set_disabled(
        &self,
        id: UserId,
        disabled: bool,
        entry: AuditEntry,
    ) -> Result<Result<Option<Vec<SessionId>>, LastAdmin>, StoreError> {
        self.write(move |tx, now| {
            if disabled && is_last_admin(tx, id)? {
                return Ok(Err(LastAdmin));
            }
            if change(tx, id, |account| account.disabled = disabled)?.is_none() {
                return Ok(Ok(None));
            }
            audit::append(tx, now, entry)?;
            if disabled {
                // Enabled again, the account must not be open to whoever has a link of before.
                ceremonies::remove_of(tx, Ceremony::RecoveryLink, id)?;
                Ok(Ok(Some(sessions::revoke_all(tx, now, id, None)?)))
            } else {
                Ok(Ok(Some(Vec::new())))
            }
        })
        .await
    }
}
