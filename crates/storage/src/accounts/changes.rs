//! Changes to an account that is there: profile, password, role, and whether it may be used.

use redb::WriteTransaction;
use stack_types::{GlobalRole, SessionId, User, UserId};

use super::audit::{self, AuditEntry};
use super::sessions::{self, Stale};
use super::users::{Account, get, put};
use super::{counters, tables};
use crate::{Store, StoreError};

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
    /// The session that asks. It must be live, and is the only one that stays.
    pub keep: SessionId,
    /// The counter of wrong passwords, which ends here.
    pub clear_counter: String,
    /// What to put on record.
    pub audit: AuditEntry,
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
            if !sessions::is_live(tx, new.keep, new.user_id, now)? {
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

    /// Gives an account a role; `None` without the account.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn set_role(
        &self,
        id: UserId,
        role: GlobalRole,
        entry: AuditEntry,
    ) -> Result<Option<User>, StoreError> {
        self.write(move |tx, now| {
            let changed = change(tx, id, |account| account.user.role = role)?;
            if changed.is_some() {
                audit::append(tx, now, entry)?;
            }
            Ok(changed.map(|account| account.user))
        })
        .await
    }

    /// Disables an account and revokes its sessions, which are given back, or enables it again; `None` without the
    /// account.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn set_disabled(
        &self,
        id: UserId,
        disabled: bool,
        entry: AuditEntry,
    ) -> Result<Option<Vec<SessionId>>, StoreError> {
        self.write(move |tx, now| {
            if change(tx, id, |account| account.disabled = disabled)?.is_none() {
                return Ok(None);
            }
            audit::append(tx, now, entry)?;
            if disabled {
                sessions::revoke_all(tx, now, id, None).map(Some)
            } else {
                Ok(Some(Vec::new()))
            }
        })
        .await
    }
}
