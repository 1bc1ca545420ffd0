//! Who may make an account, and invitations. An invitation is used up in the transaction that makes the account, so
//! that of fifty who show the last use of one a single one gets in. It ends with the power of whoever made it.

use std::time::Duration;

use serde::Serialize;
use stack_storage::{AuditAction, AuditEntry, Invite, InviteUse, NewInvite};
use stack_types::{GlobalRole, InviteId, Problem, RoomId, RoomRole, Timestamp, UserId};

use super::{Auth, Caller, Credential, entry_of};
use crate::client::Client;
use crate::config::Registration;
use crate::secret;

/// How long an invitation is good unless somebody says otherwise.
const USUAL_LIFE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// And at most. Who is invited for longer than that has an account.
const LONGEST_LIFE: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// One that makes an admin is good for a single one, and for a day.
const ADMIN_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
const MOST_USES: u32 = 10_000;
const MOST_ROOMS: usize = 32;
const MAX_NOTE_CHARS: usize = 200;

/// A room that an invitation leads into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvitedRoom {
    /// Which.
    pub room: RoomId,
    /// As what.
    pub role: RoomRole,
}

/// An invitation to make.
#[derive(Debug, Clone, Default)]
pub struct MakeInvite {
    /// The role of accounts that are made with it; member when absent.
    pub role: Option<GlobalRole>,
    /// The rooms that they are brought into.
    pub rooms: Vec<(RoomId, RoomRole)>,
    /// How many accounts; one when absent.
    pub max_uses: Option<u32>,
    /// For how long; a week when absent, a day for an admin.
    pub expires_in_s: Option<u64>,
    /// What the inviter notes of it, at most 200 characters.
    pub note: Option<String>,
}

/// An invitation as admins see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `Invite`")]
pub struct InviteView {
    pub id: InviteId,
    pub role: GlobalRole,
    pub rooms: Vec<InvitedRoom>,
    pub note: Option<String>,
    pub created_by: UserId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub max_uses: u32,
    pub uses: u32,
    pub revoked_at: Option<Timestamp>,
    /// Whether an account can be made with it now.
    pub open: bool,
}

/// An invitation that was made, with the text that is shown once.
#[derive(Clone)]
pub struct MadeInvite {
    /// The invitation.
    pub invite: InviteView,
    /// What the invited shows.
    pub text: String,
}

/// An invitation as the invited sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InviteLook {
    /// The role they get.
    pub role: GlobalRole,
    /// Until when.
    pub expires_at: Timestamp,
    /// The display name of who invites.
    pub invited_by: String,
}

impl InviteView {
    fn new(invite: Invite, now: Timestamp) -> Self {
        let open = invite.is_open(now);
        let rooms = invite.rooms.into_iter();
        Self {
            id: invite.id,
            role: invite.role,
            rooms: rooms
                .map(|(room, role)| InvitedRoom { room, role })
                .collect(),
            note: invite.note,
            created_by: invite.created_by,
            created_at: invite.created_at,
            expires_at: invite.expires_at,
            max_uses: invite.max_uses,
            uses: invite.uses,
            revoked_at: invite.revoked_at,
            open,
        }
    }
}

impl Auth {
    /// Who may make an account here.
    #[must_use]
    pub fn registration(&self) -> Registration {
        self.0.registration()
    }

    /// What to use up with a new account. Every way of making one oneself asks here first: by password, by passkey,
    /// and through an identity provider.
    ///
    /// # Errors
    /// `forbidden` when nobody may, or with the field `invite` when an invitation is needed or the one shown is no good.
    pub(super) fn admission(&self, invite: Option<&str>) -> Result<Option<InviteUse>, Problem> {
        match (self.0.registration(), invite) {
            (Registration::Closed, _) => Err(Problem::forbidden("registration is closed here")),
            (Registration::Invite, None) => {
                Err(Problem::forbidden("an invitation is needed here").with_field("invite"))
            }
            (Registration::Open, None) => Ok(None),
            (Registration::Open | Registration::Invite, Some(text)) => {
                let (shown, _) = self.open_invite(text)?;
                Ok(Some(shown))
            }
        }
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin, who for an invitation that makes admins has signed in a short while
    /// ago; `invalid_field`; `unavailable`.
    pub async fn make_invite(
        &self,
        caller: &Caller,
        asked: MakeInvite,
        client: &Client,
    ) -> Result<MadeInvite, Problem> {
        let now = self.0.clock.now();
        caller.require_admin()?;
        let role = asked.role.unwrap_or(GlobalRole::Member);
        if role == GlobalRole::Admin {
            caller.require_recent(now)?;
        }
        let (usual, longest, most_uses) = match role {
            GlobalRole::Member => (USUAL_LIFE, LONGEST_LIFE, MOST_USES),
            GlobalRole::Admin => (ADMIN_LIFE, ADMIN_LIFE, 1),
        };
        let lives = asked.expires_in_s.map_or(usual, Duration::from_secs);
        if lives.is_zero() || lives > longest {
            return Err(Problem::invalid_field(
                "expires_in_s",
                "an invitation is good for a second to 90 days, one for an admin to a day",
            ));
        }
        let max_uses = asked.max_uses.unwrap_or(1);
        if !(1..=most_uses).contains(&max_uses) {
            return Err(Problem::invalid_field(
                "max_uses",
                "an invitation is for 1 to 10000 accounts, one for an admin for a single one",
            ));
        }
        if asked.rooms.len() > MOST_ROOMS {
            return Err(Problem::invalid_field(
                "rooms",
                "an invitation leads into 32 rooms at most",
            ));
        }
        if asked.rooms.iter().any(|(_, role)| *role == RoomRole::Owner) {
            return Err(Problem::invalid_field(
                "rooms",
                "an invitation makes nobody the owner of a room",
            ));
        }
        let note = asked.note.map(|note| note.trim().to_owned());
        let note = note.filter(|note| !note.is_empty());
        if note
            .as_ref()
            .is_some_and(|note| note.chars().count() > MAX_NOTE_CHARS)
        {
            return Err(Problem::invalid_field(
                "note",
                "a note has at most 200 characters",
            ));
        }
        let id = InviteId::generate(now);
        let secret = secret::random()?;
        let new = NewInvite {
            id,
            role,
            rooms: asked.rooms,
            note,
            created_by: caller.user.id,
            key: match caller.credential {
                Credential::ApiKey { id, .. } => Some(id),
                Credential::Session { .. } | Credential::RoomToken { .. } => None,
            },
            expires_at: now.plus(lives),
            max_uses,
            fingerprint: secret::fingerprint(&secret),
        };
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::InviteMade)
        };
        let invite = self.store_of_admin(caller).add_invite(new, entry).await?;
        Ok(MadeInvite {
            invite: InviteView::new(invite, now),
            text: format!("{id}.{}", secret::to_text(&secret)),
        })
    }

    /// Every invitation, the newest first.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub async fn invites(&self, caller: &Caller) -> Result<Vec<InviteView>, Problem> {
        caller.require_admin()?;
        let now = self.0.clock.now();
        let invites = self.0.store.list_invites().await?.into_iter().rev();
        Ok(invites.map(|invite| InviteView::new(invite, now)).collect())
    }

    /// Withdraws an invitation.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `not_found` when there is none that is open; `unavailable`.
    pub async fn revoke_invite(
        &self,
        caller: &Caller,
        id: InviteId,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::InviteRevoked)
        };
        let store = self.store_of_admin(caller);
        match store.revoke_invite(id, entry).await? {
            true => Ok(()),
            false => Err(Problem::not_found("there is no such open invitation")),
        }
    }

    /// What an invitation is for, told to whoever has it.
    ///
    /// # Errors
    /// `forbidden` with the field `invite` when it is no good; `unavailable`.
    pub fn look_at_invite(&self, text: &str) -> Result<InviteLook, Problem> {
        let (_, invite) = self.open_invite(text)?;
        let inviter = self.0.store.user(invite.created_by)?;
        Ok(InviteLook {
            role: invite.role,
            expires_at: invite.expires_at,
            invited_by: inviter.map_or_else(String::new, |user| user.display_name),
        })
    }

    /// Who invited with this text and into which rooms, also after it is used up: for bringing somebody into them who
    /// has just made an account with it.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn invited_rooms(&self, text: &str) -> Result<Option<(UserId, Vec<InvitedRoom>)>, Problem> {
        let Some(shown) = read(text) else {
            return Ok(None);
        };
        let found = self.0.store.invite(shown.id)?;
        let found = found.filter(|(_, fingerprint)| *fingerprint == shown.fingerprint);
        Ok(found.map(|(invite, _)| {
            let by = invite.created_by;
            (by, InviteView::new(invite, self.0.clock.now()).rooms)
        }))
    }

    fn open_invite(&self, text: &str) -> Result<(InviteUse, Invite), Problem> {
        let shown = read(text).ok_or_else(no_good)?;
        let (invite, fingerprint) = self.0.store.invite(shown.id)?.ok_or_else(no_good)?;
        if fingerprint != shown.fingerprint
            || !invite.is_open(self.0.clock.now())
            || !self.0.store.inviter_stands(&invite, self.0.clock.now())?
        {
            return Err(no_good());
        }
        Ok((shown, invite))
    }
}

/// The answer to an invitation that is used up, over, withdrawn, or none.
pub(super) fn no_good() -> Problem {
    Problem::forbidden("this invitation is no good any more").with_field("invite")
}

/// An invitation's text: its id, a dot, and its secret.
fn read(text: &str) -> Option<InviteUse> {
    let (id, secret) = text.trim().split_once('.')?;
    let secret: [u8; secret::SECRET_BYTES] = secret::from_text(secret)?;
    Some(InviteUse {
        id: id.parse().ok()?,
        fingerprint: secret::fingerprint(&secret),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_invitation_reads_back() {
        let id = InviteId::generate(Timestamp(1));
        let text = format!(" {id}.{}\n", secret::to_text(&[7; 32]));
        let shown = read(&text).unwrap();
        assert_eq!(shown.id, id);
        assert_eq!(shown.fingerprint, secret::fingerprint(&[7; 32]));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = read(&text);
        }

        #[test]
        fn what_looks_like_one_is_answered(text in "[A-Za-z0-9]{1,26}\\.[A-Za-z0-9_-]{42,44}") {
            let _ = read(&text);
        }
    }
}
