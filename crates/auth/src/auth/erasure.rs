//! Erasing what somebody has said: asked for by admins, by whoever runs the server, and by people for themselves. It is
//! on record with the request; the store carries it out.

use stack_storage::{AuditEntry, EraseRefused, ErasedBy, Erasure, NewErasure};
use stack_types::{ErrorCode, Problem, RoomId, UserId};

use super::users::no_account;
use super::{Auth, Caller, Keeper, entry_of};
use crate::AuditAction;
use crate::client::Client;

impl Auth {
    /// Asks that everything that somebody has said be erased, in one room or in all.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `not_found`; `limit_exceeded`
    /// while many erasures are under way; `unavailable`.
    pub async fn erase_messages(
        &self,
        caller: &Caller,
        user: UserId,
        room: Option<RoomId>,
        client: &Client,
    ) -> Result<Erasure, Problem> {
        caller.require_admin()?;
        caller.require_recent(self.0.clock.now())?;
        self.0.store.account(user)?.ok_or_else(no_account)?;
        let by = by(entry_of(caller, client, AuditAction::ErasureRequested));
        let store = self.store_of_admin(caller);
        let asked = store.erase(NewErasure { user, room, by });
        asked.await?.map_err(refused)
    }

    /// Asks that everything that the caller has said be erased.
    ///
    /// # Errors
    /// `forbidden` unless they have signed in a short while ago; `conflict` while it is under way already;
    /// `rate_limited` within an hour of the last; `limit_exceeded` while many erasures are under way; `unavailable`.
    pub async fn erase_own_messages(
        &self,
        caller: &Caller,
        client: &Client,
    ) -> Result<Erasure, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let user = caller.user.id;
        let by = by(entry_of(caller, client, AuditAction::ErasureRequested));
        let room = None;
        let asked = self.0.store.erase(NewErasure { user, room, by });
        asked.await?.map_err(refused)
    }

    /// The caller's erasures that are under way, and those that were done of late, the newest first.
    ///
    /// # Errors
    /// `forbidden` without a session; `unavailable`.
    pub fn own_erasures(&self, caller: &Caller) -> Result<Vec<Erasure>, Problem> {
        caller.require_session()?;
        let mut all = self.0.store.erasures()?;
        all.retain(|erasure| erasure.user == caller.user.id);
        Ok(all)
    }

    /// Erasures that are under way, and those that were done of late, the newest first.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub fn erasures(&self, caller: &Caller) -> Result<Vec<Erasure>, Problem> {
        caller.require_admin()?;
        Ok(self.0.store.erasures()?)
    }

    /// [`Auth::erase_messages`], for whoever runs the server, of a user by name or id.
    ///
    /// # Errors
    /// `forbidden` for a program; as [`Auth::kept_account`] and [`Auth::erase_messages`].
    pub async fn erase_kept(
        &self,
        keeper: &Keeper,
        who: &str,
        room: Option<RoomId>,
    ) -> Result<Erasure, Problem> {
        keeper.require_operator()?;
        let user = self.kept_account(keeper, who)?.user.id;
        let by = ErasedBy::default();
        let asked = self.0.store.erase(NewErasure { user, room, by });
        asked.await?.map_err(refused)
    }

    /// [`Auth::erasures`], for a keeper.
    ///
    /// # Errors
    /// As [`Auth::check_keeper`]; `unavailable`.
    pub fn kept_erasures(&self, keeper: &Keeper) -> Result<Vec<Erasure>, Problem> {
        self.check_keeper(keeper)?;
        Ok(self.0.store.erasures()?)
    }
}

fn by(entry: AuditEntry) -> ErasedBy {
    ErasedBy {
        actor: entry.actor,
        ip: entry.ip,
        session: entry.session,
    }
}

fn refused(refused: EraseRefused) -> Problem {
    match refused {
        EraseRefused::NoRoom => Problem::not_found("there is no such room"),
        EraseRefused::UnderWay => Problem::new(
            ErrorCode::Conflict,
            "your messages are being erased already",
        ),
        EraseRefused::TooSoon(after) => {
            let mut problem = Problem::rate_limited(after);
            problem.detail = "you have asked for an erasure within the last hour".into();
            problem
        }
        EraseRefused::TooMany => Problem::new(
            ErrorCode::LimitExceeded,
            "many erasures are under way; try again when some are done",
        ),
    }
}
