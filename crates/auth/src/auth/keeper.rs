//! What is looked after from the machine itself: by the operator, who has no account and is on record without an actor,
//! and by programs whose API key has the scope `admin`.

use stack_storage::{Account, AuditAction, AuditEntry, AuditOutcome, AuditRecord, Store};
use stack_types::{ErrorCode, Problem, SessionId, UserId, Username};

use super::audit::AuditQuery;
use super::users::no_account;
use super::{Auth, Caller};
use crate::profile::SessionView;

/// What tells an id from a username where a text is one's id and another's name.
const BY_ID: &str = "id:";
const BY_NAME: &str = "name:";

/// Who looks after the server from the machine it runs on.
#[derive(Debug, Clone)]
pub enum Keeper {
    /// Whoever runs it.
    Operator,
    /// A program. Whether its key still stands, and still has the scope, is looked up with every call.
    Program(Box<Caller>),
}

impl Keeper {
    /// Asks for the operator, for what an admin does only a short while after signing in: no program does that.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_operator(&self) -> Result<(), Problem> {
        match self {
            Self::Operator => Ok(()),
            Self::Program(_) => Err(Problem::forbidden("an API key may not do this")),
        }
    }

    fn entry(&self, action: AuditAction, target: Option<String>) -> AuditEntry {
        let caller = match self {
            Self::Operator => None,
            Self::Program(caller) => Some(caller),
        };
        AuditEntry {
            actor: caller.map(|caller| caller.user.id),
            ip: String::new(),
            session: caller.map(|caller| caller.session_id),
            action,
            target,
            outcome: AuditOutcome::Ok,
        }
    }
}

impl Auth {
    /// Whether a keeper may still look after the server.
    ///
    /// # Errors
    /// `unauthenticated` when the program's key does not stand any more, `forbidden` when it has not the scope.
    pub fn check_keeper(&self, keeper: &Keeper) -> Result<(), Problem> {
        match keeper {
            Keeper::Operator => Ok(()),
            Keeper::Program(caller) => self.current(caller)?.require_admin(),
        }
    }

    /// Puts on record what a keeper does elsewhere than here.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `unavailable`.
    pub async fn record_keeping(
        &self,
        keeper: &Keeper,
        action: AuditAction,
        target: Option<String>,
    ) -> Result<(), Problem> {
        self.check_keeper(keeper)?;
        let entry = keeper.entry(action, target);
        Ok(self.store_of_keeper(keeper).audit(entry).await?)
    }

    /// Puts on record that a keeper looks where a message is; see [`Auth::record_trace`].
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `unavailable`.
    pub async fn record_look(
        &self,
        keeper: &Keeper,
        message: String,
        outcome: AuditOutcome,
    ) -> Result<(), Problem> {
        self.check_keeper(keeper)?;
        let entry = AuditEntry {
            outcome,
            ..keeper.entry(AuditAction::MessageTraced, Some(message))
        };
        Ok(self.store_of_keeper(keeper).audit(entry).await?)
    }

    /// The accounts behind this one in the order they were made.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `unavailable`.
    pub async fn kept_accounts(
        &self,
        keeper: &Keeper,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<Account>, Problem> {
        self.check_keeper(keeper)?;
        Ok(self.0.store.list_users(after, limit).await?)
    }

    /// The account that is meant by a username or an id. `name:` or `id:` in front says which of both it is.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `not_found`; `conflict` when it is one's name and another's id; `unavailable`.
    pub fn kept_account(&self, keeper: &Keeper, who: &str) -> Result<Account, Problem> {
        self.check_keeper(keeper)?;
        let store = &self.0.store;
        let by_name = |name: &str| match name.parse::<Username>() {
            Ok(name) => store.account_by_login(name.as_str()),
            Err(_) => Ok(None),
        };
        let by_id = |id: &str| match id.parse::<UserId>() {
            Ok(id) => store.account(id),
            Err(_) => Ok(None),
        };
        let found = if let Some(name) = who.strip_prefix(BY_NAME) {
            by_name(name)?
        } else if let Some(id) = who.strip_prefix(BY_ID) {
            by_id(id)?
        } else {
            match (by_name(who)?, by_id(who)?) {
                (Some(one), Some(other)) if one.user.id != other.user.id => {
                    return Err(Problem::new(
                        ErrorCode::Conflict,
                        "this is one user's name and another's id; put name: or id: in front",
                    ));
                }
                (one, other) => one.or(other),
            }
        };
        found.ok_or_else(no_account)
    }

    /// Somebody's sessions, oldest first.
    ///
    /// # Errors
    /// As [`Auth::kept_account`].
    pub fn kept_sessions(
        &self,
        keeper: &Keeper,
        who: &str,
    ) -> Result<(UserId, Vec<SessionView>), Problem> {
        let owner = self.kept_account(keeper, who)?.user.id;
        let sessions = self.0.store.sessions_of(owner)?;
        // None of them asks.
        let views = sessions.into_iter().map(SessionView::of_another);
        Ok((owner, views.collect()))
    }

    /// Revokes one session of somebody, or all of them, and says how many these were.
    ///
    /// # Errors
    /// As [`Auth::kept_account`]; `not_found` for a session that is over, unknown or of another.
    pub async fn revoke_kept(
        &self,
        keeper: &Keeper,
        who: &str,
        session: Option<SessionId>,
    ) -> Result<usize, Problem> {
        let owner = self.kept_account(keeper, who)?.user.id;
        let (auth, store) = (self.clone(), self.store_of_keeper(keeper));
        let (action, target) = match session {
            Some(session) => (AuditAction::SessionRevoked, session.to_string()),
            None => (AuditAction::SessionsRevoked, owner.to_string()),
        };
        let entry = keeper.entry(action, Some(target));
        self.to_the_end(async move {
            let revoked = match session {
                Some(session) => {
                    if !store.revoke_session(session, owner, entry).await? {
                        return Err(Problem::not_found("there is no such session of this user"));
                    }
                    vec![session]
                }
                None => store.revoke_sessions_of(owner, None, entry).await?,
            };
            let count = revoked.len();
            auth.tell_revoked(owner, revoked);
            Ok(count)
        })
        .await
    }

    /// Entries of the audit log, newest first, and the number before which the next ones stand.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `invalid_field`; `unavailable`.
    pub async fn kept_audit(
        &self,
        keeper: &Keeper,
        query: AuditQuery,
    ) -> Result<(Vec<AuditRecord>, Option<u64>), Problem> {
        self.check_keeper(keeper)?;
        self.audit_page(query).await
    }

    /// The store for what a keeper does: a program's key must still stand when it is written.
    fn store_of_keeper(&self, keeper: &Keeper) -> Store {
        match keeper {
            Keeper::Operator => self.0.store.clone(),
            Keeper::Program(caller) => self.store_of_admin(caller),
        }
    }
}
