//! Who calls, and what they have shown for it.

use std::time::Duration;

use stack_storage::{Scope, Shown, SignInMethod, Standing};
use stack_types::{ApiKeyId, GlobalRole, Problem, RoomId, SessionId, Timestamp, User};

use crate::access::Access;
use crate::room_token::{RoomGrant, RoomRight};

/// How long after they have shown who they are somebody may change how they sign in.
const RECENT: Duration = Duration::from_secs(10 * 60);

/// The field that is named when somebody has to show again who they are: a client asks them, and repeats the request.
const REAUTHENTICATE: &str = "reauthenticate";

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who, as of now: the role is looked up with each request.
    pub user: User,
    /// What a revocation calls what they have shown: their session, or their API key under its id as one.
    pub session_id: SessionId,
    /// What they have shown.
    pub credential: Credential,
    /// When that ends. A socket closes then, without leeway.
    pub expires_at: Timestamp,
}

/// What a caller has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token of a session: it is the person.
    Session {
        /// When they last showed who they are.
        authenticated_at: Timestamp,
        /// And how.
        method: SignInMethod,
    },
    /// An API key: it is a program.
    ApiKey {
        /// Which.
        id: ApiKeyId,
        /// What it may do. Those that are an admin's to give are among them only while its maker is one.
        scopes: Vec<Scope>,
    },
    /// A token that somebody's backend has made for one of its users.
    RoomToken {
        /// With which key.
        key: ApiKeyId,
        /// Where it is good, and for what; everywhere its user is when there are none.
        rooms: Option<Vec<RoomGrant>>,
    },
}

impl Caller {
    /// Asks for a person in a session, not for a program that acts for one.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_session(&self) -> Result<(), Problem> {
        match self.credential {
            Credential::Session { .. } => Ok(()),
            Credential::ApiKey { .. } => Err(Problem::forbidden("an API key may not do this")),
            Credential::RoomToken { .. } => Err(Problem::forbidden("a room token may not do this")),
        }
    }

    /// Asks for a person who has shown a short while ago who they are: who finds a browser open must not be able to
    /// make its account theirs.
    ///
    /// # Errors
    /// `forbidden`, with the field `reauthenticate` when it was too long ago.
    pub fn require_recent(&self, now: Timestamp) -> Result<(), Problem> {
        self.require_session()?;
        match self.credential {
            Credential::Session {
                authenticated_at, ..
            } if now.since(authenticated_at) <= RECENT => Ok(()),
            _ => {
                Err(Problem::forbidden("show again who you are to do this")
                    .with_field(REAUTHENTICATE))
            }
        }
    }

    /// Asks for an admin, or for an admin's program with the scope for it.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_admin(&self) -> Result<(), Problem> {
        self.require_scope(Scope::Admin)?;
        match (&self.credential, self.user.role) {
            // A bot is no admin: its key has the scope only while its maker is one.
            (Credential::ApiKey { .. }, _) | (_, GlobalRole::Admin) => Ok(()),
            (_, GlobalRole::Member) => Err(Problem::forbidden("only admins may do this")),
        }
    }

    /// Asks a program for this scope; a person has them all, and a room token those that its rights stand for.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_scope(&self, scope: Scope) -> Result<(), Problem> {
        match &self.credential {
            Credential::Session { .. } => Ok(()),
            Credential::ApiKey { scopes, .. } if scopes.contains(&scope) => Ok(()),
            Credential::ApiKey { .. } => Err(Problem::forbidden(
                "the API key does not have the scope for this",
            )),
            Credential::RoomToken { .. } if RoomRight::of(scope).is_some() => Ok(()),
            Credential::RoomToken { .. } => Err(Problem::forbidden("a room token may not do this")),
        }
    }

    /// Asks for a program with this scope, not for a person; gives its key.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_key(&self, scope: Scope) -> Result<ApiKeyId, Problem> {
        match self.credential {
            Credential::ApiKey { id, .. } => self.require_scope(scope).map(|()| id),
            Credential::Session { .. } | Credential::RoomToken { .. } => {
                Err(Problem::forbidden("only an API key may do this"))
            }
        }
    }

    /// Asks a room token for the right that this scope stands for in a room. What its user may do there is another
    /// question.
    ///
    /// # Errors
    /// `forbidden`, also where there is no such room: the token does not know.
    pub fn require_in_room(&self, scope: Scope, room: &RoomId) -> Result<(), Problem> {
        self.require_scope(scope)?;
        let Some(rooms) = self.rooms() else {
            return Ok(());
        };
        let right = RoomRight::of(scope);
        let granted = |grant: &RoomGrant| {
            grant.room == *room && right.is_some_and(|right| grant.rights.contains(&right))
        };
        if rooms.iter().any(granted) {
            return Ok(());
        }
        Err(Problem::forbidden(
            "the room token is not good for this in this room",
        ))
    }

    /// Asks a room token for the right that this scope stands for in any of its rooms.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_somewhere(&self, scope: Scope) -> Result<(), Problem> {
        self.require_scope(scope)?;
        let Some(rooms) = self.rooms() else {
            return Ok(());
        };
        let right = RoomRight::of(scope);
        let granted = |grant: &RoomGrant| right.is_some_and(|right| grant.rights.contains(&right));
        if rooms.iter().any(granted) {
            return Ok(());
        }
        Err(Problem::forbidden(
            "the room token is not good for this in any room",
        ))
    }

    /// Refuses a room token that is bound to rooms: it is for what goes on there.
    ///
    /// # Errors
    /// `forbidden`.
    pub fn require_unbound(&self, scope: Scope) -> Result<(), Problem> {
        self.require_scope(scope)?;
        match self.rooms() {
            None => Ok(()),
            Some(_) => Err(Problem::forbidden(
                "a room token that is bound to rooms may not do this",
            )),
        }
    }

    /// The rooms to which a room token is bound; `None` for everybody else.
    #[must_use]
    pub fn rooms(&self) -> Option<&[RoomGrant]> {
        match &self.credential {
            Credential::RoomToken { rooms, .. } => rooms.as_deref(),
            Credential::Session { .. } | Credential::ApiKey { .. } => None,
        }
    }

    /// What must still hold of the caller when what they ask for is written.
    pub(crate) fn standing(&self, admin: bool) -> Standing {
        Standing {
            user_id: self.user.id,
            shown: match self.credential {
                Credential::Session { .. } => Shown::Session(self.session_id),
                Credential::ApiKey { id, .. } => Shown::ApiKey(id),
                Credential::RoomToken { key, .. } => Shown::ApiKey(key),
            },
            admin,
        }
    }

    pub(crate) fn access(&self) -> Access {
        Access {
            user_id: self.user.id,
            session_id: self.session_id,
            expires_at: self.expires_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use stack_types::{ErrorCode, UserId};

    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    fn caller(role: GlobalRole, credential: Credential) -> Caller {
        Caller {
            user: User {
                id: UserId::generate(NOW),
                username: "ann".parse().unwrap(),
                display_name: "Ann".to_owned(),
                role,
                created_at: NOW,
            },
            session_id: SessionId::generate(NOW),
            credential,
            expires_at: NOW.plus(RECENT),
        }
    }

    fn person(role: GlobalRole) -> Caller {
        let credential = Credential::Session {
            authenticated_at: NOW,
            method: SignInMethod::Password,
        };
        caller(role, credential)
    }

    fn program(role: GlobalRole, scopes: &[Scope]) -> Caller {
        let credential = Credential::ApiKey {
            id: ApiKeyId::generate(NOW),
            scopes: scopes.to_vec(),
        };
        caller(role, credential)
    }

    #[test]
    fn a_sign_in_is_recent_for_ten_minutes() {
        let caller = person(GlobalRole::Member);
        assert!(caller.require_recent(NOW.plus(RECENT)).is_ok());
        let late = NOW.plus(RECENT + Duration::from_millis(1));
        let refused = caller.require_recent(late).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Forbidden);
        assert_eq!(refused.field.as_deref(), Some("reauthenticate"));
        // Asking a program to sign in again would lead nowhere.
        let refused = program(GlobalRole::Admin, &Scope::ALL).require_recent(NOW);
        assert_eq!(refused.unwrap_err().field, None);
    }

    #[test]
    fn a_program_does_what_its_scopes_say() {
        for scope in Scope::ALL {
            assert!(person(GlobalRole::Member).require_scope(scope).is_ok());
            assert!(
                program(GlobalRole::Member, &[scope])
                    .require_scope(scope)
                    .is_ok()
            );
            let others: Vec<_> = Scope::ALL
                .into_iter()
                .filter(|other| *other != scope)
                .collect();
            let refused = program(GlobalRole::Member, &others).require_scope(scope);
            assert_eq!(refused.unwrap_err().code, ErrorCode::Forbidden);
        }
        assert!(
            program(GlobalRole::Member, &Scope::ALL)
                .require_session()
                .is_err()
        );
    }

    #[test]
    fn admins_are_people_or_have_the_scope() {
        assert!(person(GlobalRole::Admin).require_admin().is_ok());
        assert!(person(GlobalRole::Member).require_admin().is_err());
        assert!(
            program(GlobalRole::Admin, &[Scope::Admin])
                .require_admin()
                .is_ok()
        );
        assert!(
            program(GlobalRole::Admin, &[Scope::Read])
                .require_admin()
                .is_err()
        );
        // The bot is a member; that its maker is an admin is looked up before.
        assert!(
            program(GlobalRole::Member, &[Scope::Admin])
                .require_admin()
                .is_ok()
        );
    }

    #[test]
    fn a_room_token_stays_in_its_rooms() {
        let here: RoomId = "here".parse().unwrap();
        let there: RoomId = "there".parse().unwrap();
        let rooms = vec![RoomGrant {
            room: here.clone(),
            rights: vec![RoomRight::Read],
        }];
        let token = |rooms| {
            let key = ApiKeyId::generate(NOW);
            caller(GlobalRole::Admin, Credential::RoomToken { key, rooms })
        };
        let bound = token(Some(rooms));
        assert!(bound.require_in_room(Scope::Read, &here).is_ok());
        assert!(bound.require_in_room(Scope::Send, &here).is_err());
        assert!(bound.require_in_room(Scope::Read, &there).is_err());
        assert!(token(None).require_in_room(Scope::Send, &there).is_ok());
        for refused in [Scope::Rooms, Scope::ChatToken, Scope::Admin] {
            assert!(token(None).require_in_room(refused, &here).is_err());
        }
        assert!(token(None).require_session().is_err());
        assert!(token(None).require_admin().is_err());
        assert!(
            person(GlobalRole::Member)
                .require_in_room(Scope::Rooms, &there)
                .is_ok()
        );
    }
}
