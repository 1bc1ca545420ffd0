//! What admins and the machine's operator do. The operator has no account: what is done from the command line on
//! the machine itself is on record without an actor.

use stack_storage::{AuditAction, AuditEntry, AuditOutcome, Counter};
use stack_types::{GlobalRole, Problem, User, Username};

use super::users::{no_account, no_role};
use super::{Auth, Caller, entry_of};
use crate::client::Client;

/// The most entries and counters that one answer holds.
const PAGE: usize = 500;

impl Auth {
    /// Makes an account an admin, as the operator.
    ///
    /// # Errors
    /// `not_found`; `conflict` for a bot; `unavailable`.
    pub async fn promote(&self, username: &Username) -> Result<User, Problem> {
        let user = self.named(username)?;
        let entry = AuditEntry {
            target: Some(format!("{} admin", user.id)),
            ..operators(AuditAction::RoleChanged)
        };
        // Nobody need be told: power that grows closes no sockets.
        let promoted = self.0.store.set_role(user.id, GlobalRole::Admin, entry);
        promoted.await?.map_err(no_role)
    }

    /// Disables an account and revokes its sessions, or enables it again, as the operator.
    ///
    /// # Errors
    /// `not_found`; `conflict` for the last admin; `unavailable`.
    pub async fn set_disabled(&self, username: &Username, disabled: bool) -> Result<(), Problem> {
        let user = self.named(username)?;
        let action = match disabled {
            true => AuditAction::AccountDisabled,
            false => AuditAction::AccountEnabled,
        };
        let entry = AuditEntry {
            target: Some(user.id.to_string()),
            ..operators(action)
        };
        let store = self.0.store.clone();
        self.disable_and_tell(store, user.id, disabled, entry).await
    }

    /// The long-term counters whose key starts with `prefix`, at most 500.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub async fn counters(
        &self,
        caller: &Caller,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<Counter>, Problem> {
        caller.require_admin()?;
        Ok(self
            .0
            .store
            .counters(prefix.to_owned(), limit.min(PAGE))
            .await?)
    }

    /// Forgets a counter, so that whom it held up may try again.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `not_found` when it does not run; `unavailable`.
    pub async fn counter_reset(
        &self,
        caller: &Caller,
        key: &str,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        let entry = AuditEntry {
            target: Some(key.to_owned()),
            ..entry_of(caller, client, AuditAction::CounterReset)
        };
        let store = self.store_of_admin(caller);
        match store.counter_reset(key.to_owned(), entry).await? {
            true => Ok(()),
            false => Err(Problem::not_found("there is no such counter")),
        }
    }

    fn named(&self, username: &Username) -> Result<User, Problem> {
        self.user_by_name(username)?.ok_or_else(no_account)
    }
}

pub(super) fn operators(action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action,
        target: None,
        outcome: AuditOutcome::Ok,
    }
}
