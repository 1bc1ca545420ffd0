//! One's own account, and a look at others.

use stack_storage::{Account, AuditAction, AuditEntry, AuditOutcome, PasswordChange, ProfilePatch};
use stack_types::{Problem, User, UserId, Username};

use super::sign_in::{hash_new, invalid_credentials};
use super::{Auth, Caller, Credential, entry_of};
use crate::access::unauthenticated;
use crate::client::Client;
use crate::hasher::{Turn, Verdict};
use crate::profile::{Me, ProfileUpdate};
use crate::{password, profile, throttle};

impl Auth {
    /// The caller's account with its settings. What a backend's token gives stays what its rooms need: neither e-mail
    /// address nor settings.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn me(&self, caller: &Caller) -> Result<Me, Problem> {
        let mut account = self.account_of(caller)?;
        if let Credential::RoomToken { .. } = caller.credential {
            account.email = None;
            return Me::new(account, "{}".to_owned());
        }
        Me::new(account, self.0.store.settings(caller.user.id)?)
    }

    /// Changes the caller's profile.
    ///
    /// # Errors
    /// `invalid_field`, `unavailable`.
    pub async fn update_profile(
        &self,
        caller: &Caller,
        update: ProfileUpdate,
    ) -> Result<Me, Problem> {
        let patch = ProfilePatch {
            display_name: update
                .display_name
                .as_deref()
                .map(profile::display_name)
                .transpose()?,
            settings: update
                .settings
                .as_ref()
                .map(profile::settings)
                .transpose()?,
        };
        if patch.display_name.is_none() && patch.settings.is_none() {
            return self.me(caller);
        }
        let store = self.store_of(caller);
        let changed = store.update_profile(caller.user.id, patch).await?;
        let account = changed.ok_or_else(unauthenticated)?;
        Me::new(account, self.0.store.settings(caller.user.id)?)
    }

    /// Sets a new password and revokes the caller's other sessions.
    ///
    /// # Errors
    /// `invalid_field` with `new_password`, or with `current_password` when it is missing; `invalid_credentials`
    /// when that is wrong, and `rate_limited` when it was too often; `forbidden` when the account has no password yet
    /// and the sign-in is too long ago; `unavailable`.
    pub async fn change_password(
        &self,
        caller: &Caller,
        current: Option<String>,
        new: String,
        client: &Client,
    ) -> Result<(), Problem> {
        let account = self.account_of(caller)?;
        let second_factor = self.has_second_factor(account.user.id)?;
        password::check_length("new_password", &new, second_factor)?;
        if account.password_hash.is_none() {
            caller.require_recent(self.0.clock.now())?;
        }
        let action = AuditAction::PasswordChanged;
        let (turn, account) = self
            .confirm_password(caller, current, "current_password", action, client)
            .await?;

        let needs_second_factor = password::needs_second_factor(&new);
        let own_names = vec![
            account.user.username.to_string(),
            account.user.display_name.clone(),
        ];
        let own_names = own_names.into_iter().chain(account.email).collect();
        let (turn, new_hash) = hash_new(turn, "new_password", new, own_names).await?;
        drop(turn);
        let change = PasswordChange {
            user_id: caller.user.id,
            expected_hash: account.password_hash,
            new_hash,
            needs_second_factor,
            keep: caller.session_id,
            clear_counter: throttle::password_key(caller.user.username.as_str()),
            audit: entry_of(caller, client, AuditAction::PasswordChanged),
        };
        let (auth, owner) = (self.clone(), caller.user.id);
        self.to_the_end(async move {
            // Somebody else changed the password or revoked this session first.
            let changed = auth.0.store.set_password(change).await?;
            let revoked = changed.map_err(|_stale| unauthenticated())?;
            auth.tell_revoked(owner, revoked);
            Ok(())
        })
        .await
    }

    /// What others see of an account.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn user(&self, id: UserId) -> Result<Option<User>, Problem> {
        Ok(self.0.store.user(id)?)
    }

    /// What others see of these accounts, in the order asked for; unknown ids are left out.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn users(&self, ids: &[UserId]) -> Result<Vec<User>, Problem> {
        Ok(self.0.store.users(ids)?)
    }

    /// What others see of the account of this username.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn user_by_name(&self, username: &Username) -> Result<Option<User>, Problem> {
        let found = self.0.store.account_by_login(username.as_str())?;
        Ok(found.map(|account| account.user))
    }

    fn account_of(&self, caller: &Caller) -> Result<Account, Problem> {
        let found = self.0.store.account(caller.user.id)?;
        found
            .filter(|account| !account.disabled)
            .ok_or_else(unauthenticated)
    }

    /// Checks the password of somebody who is signed in, and gives the account as it was then; one without a password
    /// needs none. Whoever finds a browser open must not be able to try passwords for long, here or elsewhere.
    pub(super) async fn confirm_password(
        &self,
        caller: &Caller,
        typed: Option<String>,
        field: &'static str,
        action: AuditAction,
        client: &Client,
    ) -> Result<(Turn, Account), Problem> {
        let inner = &*self.0;
        let key = throttle::password_key(caller.user.username.as_str());
        throttle::check_failures(&inner.store, &inner.throttle(), &key, inner.clock.now())?;
        let turn = inner.hasher.turn_of(caller.user.id).await?;
        // As at login: others may have had their turn in between.
        throttle::check_failures(&inner.store, &inner.throttle(), &key, inner.clock.now())?;
        let account = self.account_of(caller)?;
        if account.password_hash.is_none() {
            return Ok((turn, account));
        }
        let typed =
            typed.ok_or_else(|| Problem::invalid_field(field, "the current password is needed"))?;
        let (turn, verdict) = if password::is_hashable(&typed) {
            let (turn, verdict) = turn.verify(typed, account.password_hash.clone()).await?;
            (Some(turn), verdict)
        } else {
            (None, Verdict::Wrong)
        };
        match (turn, verdict) {
            (Some(turn), Verdict::Right { .. }) => Ok((turn, account)),
            (turn, _) => {
                let entry = AuditEntry {
                    outcome: AuditOutcome::Refused,
                    ..entry_of(caller, client, action)
                };
                let window = inner.throttle.failure_window;
                inner.store.counter_hit(key, window, Some(entry)).await?;
                // Kept until the failure is counted, so that the next in line sees it.
                drop(turn);
                Err(invalid_credentials())
            }
        }
    }
}
