//! What whoever asks must still be at the moment of the write. They were looked at when they asked, and a sign-out, a
//! new password or a lost role since then has to win.

use redb::WriteTransaction;
use stack_types::{ApiKeyId, ErrorCode, GlobalRole, Problem, SessionId, Timestamp, UserId};

use super::api_keys::{self, Scope};
use super::{sessions, tables, users};
use crate::{Store, StoreError};

/// What somebody has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A token of this session.
    Session(SessionId),
    /// This API key, or a token that was made with it.
    ApiKey(ApiKeyId),
}

/// What must hold of whoever asks for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Who asks.
    pub user_id: UserId,
    /// What they have shown: it must be live, and the account usable.
    pub shown: Shown,
    /// Whether they must be an admin: for an API key, its maker, who has given it the scope for that.
    pub admin: bool,
}

impl Standing {
    /// Why it does not hold; `None` when it does.
    pub(crate) fn refusal(
        self,
        tx: &WriteTransaction,
        now: Timestamp,
    ) -> Result<Option<Problem>, StoreError> {
        let account = users::get(&tx.open_table(tables::USERS)?, self.user_id.as_str())?;
        let Some(account) = account.filter(|account| !account.disabled) else {
            return Ok(Some(over()));
        };
        let is_admin = match self.shown {
            Shown::Session(id) => {
                if !account.may_sign_in() || !sessions::is_live(tx, id, self.user_id, now)? {
                    return Ok(Some(over()));
                }
                account.is_admin()
            }
            Shown::ApiKey(id) => {
                let Some(key) = api_keys::find(tx, id)?.filter(|key| key.is_live(now)) else {
                    return Ok(Some(over()));
                };
                let maker = users::get(&tx.open_table(tables::USERS)?, key.created_by.as_str())?;
                key.scopes.contains(&Scope::Admin)
                    && maker.is_some_and(|maker| {
                        !maker.disabled && maker.user.role == GlobalRole::Admin
                    })
            }
        };
        Ok((self.admin && !is_admin).then(|| Problem::forbidden("only admins may do this")))
    }
}

fn over() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "sign in first")
}

impl Store {
    /// The same store for writes that only somebody of this standing may make: each looks at it in its own
    /// transaction, and is refused with `unauthenticated` or `forbidden` when it does not hold any more.
    #[must_use]
    pub fn on_behalf_of(&self, standing: Standing) -> Self {
        let mut store = self.clone();
        store.standing = Some(standing);
        store
    }
}
