//! One's own sessions: looked at and ended.

use stack_storage::{AuditAction, Store};
use stack_types::{Problem, SessionId};

use super::{Auth, Caller, entry_of};
use crate::client::Client;
use crate::profile::SessionView;

impl Auth {
    /// Signs out: revokes the session and every token of it.
    ///
    /// # Errors
    /// `unavailable`. That the session is over already is none.
    pub async fn logout(&self, caller: &Caller, client: &Client) -> Result<(), Problem> {
        let store = self.0.store.clone();
        self.revoke(
            store,
            caller,
            caller.session_id,
            client,
            AuditAction::Logout,
        )
        .await
        .map(|_| ())
    }

    /// The caller's sessions, oldest first.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn sessions(&self, caller: &Caller) -> Result<Vec<SessionView>, Problem> {
        let sessions = self.0.store.sessions_of(caller.user.id)?;
        Ok(sessions
            .into_iter()
            .map(|session| SessionView::new(session, caller.session_id))
            .collect())
    }

    /// Revokes one of the caller's sessions.
    ///
    /// # Errors
    /// `not_found` for one that is over, unknown or somebody else's; `unauthenticated` when the one that asks is over by
    /// now; `unavailable`.
    pub async fn revoke_session(
        &self,
        caller: &Caller,
        session: SessionId,
        client: &Client,
    ) -> Result<(), Problem> {
        let store = self.store_of(caller);
        match self
            .revoke(store, caller, session, client, AuditAction::SessionRevoked)
            .await?
        {
            true => Ok(()),
            false => Err(Problem::not_found("you have no such session")),
        }
    }

    /// Revokes every session of the caller but the one that asks.
    ///
    /// # Errors
    /// `unauthenticated` when the one that asks is over by now; `unavailable`. That there is no other is none.
    pub async fn revoke_other_sessions(
        &self,
        caller: &Caller,
        client: &Client,
    ) -> Result<(), Problem> {
        let mut entry = entry_of(caller, client, AuditAction::SessionsRevoked);
        entry.target = Some(caller.user.id.to_string());
        let (auth, store) = (self.clone(), self.store_of(caller));
        let (owner, keep) = (caller.user.id, caller.session_id);
        self.to_the_end(async move {
            let revoked = store.revoke_sessions_of(owner, Some(keep), entry).await?;
            auth.tell_revoked(owner, revoked);
            Ok(())
        })
        .await
    }

    async fn revoke(
        &self,
        store: Store,
        caller: &Caller,
        session: SessionId,
        client: &Client,
        action: AuditAction,
    ) -> Result<bool, Problem> {
        let mut entry = entry_of(caller, client, action);
        entry.target = Some(session.to_string());
        let (auth, owner) = (self.clone(), caller.user.id);
        self.to_the_end(async move {
            let revoked = store.revoke_session(session, owner, entry).await?;
            if revoked {
                auth.tell_revoked(owner, vec![session]);
            }
            Ok(revoked)
        })
        .await
    }
}
