//! The one place where it is decided who may do what in a room.
//!
//! A person's [`Standing`] in a room follows from membership, bans and the room's settings; [`Action`]s ask for a
//! least standing. [`check`] turns the answer into what the person is told: who cannot see a room is told that
//! there is none, who sees it but may not is told so.

use stack_storage::{Ban, Membership, RoomRef, RoomTx};
use stack_types::{Problem, RoomRole, RoomSettings, Timestamp, UserId};

/// What somebody is to a room, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Cannot see it.
    Outsider,
    /// Sees that a public room exists, but may not come in.
    Banned,
    /// Sees a public room and may come in.
    Visitor,
    /// Reads without being a member, or is a member of role `guest`.
    Guest,
    /// A member.
    Member,
    /// A moderator.
    Moderator,
    /// An owner.
    Owner,
}

/// Something that can be done in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Know of it: its title and settings.
    See,
    /// Become a member.
    Join,
    /// Read and subscribe; see members and presence; keep a read cursor.
    Read,
    /// Send, edit and redact one's own, react, type.
    Speak,
    /// Redact others' messages.
    Moderate,
    /// Bring people in as members or guests, remove and ban those below oneself, see bans.
    ManageMembers,
    /// Give any role; change title and settings; delete the room.
    Own,
}

impl Action {
    /// Every action, for tests and documents.
    pub const ALL: [Self; 7] = [
        Self::See,
        Self::Join,
        Self::Read,
        Self::Speak,
        Self::Moderate,
        Self::ManageMembers,
        Self::Own,
    ];

    /// The least standing that may do it.
    #[must_use]
    pub fn asks_for(self) -> Standing {
        match self {
            Self::See => Standing::Banned,
            Self::Join => Standing::Visitor,
            Self::Read => Standing::Guest,
            Self::Speak => Standing::Member,
            Self::Moderate | Self::ManageMembers => Standing::Moderator,
            Self::Own => Standing::Owner,
        }
    }
}

impl From<RoomRole> for Standing {
    fn from(role: RoomRole) -> Self {
        match role {
            RoomRole::Guest => Self::Guest,
            RoomRole::Member => Self::Member,
            RoomRole::Moderator => Self::Moderator,
            RoomRole::Owner => Self::Owner,
        }
    }
}

/// A room as the rights look at it, whether in memory or in the transaction.
pub(crate) trait Look {
    fn settings(&self) -> RoomSettings;
    fn member(&self, user: &UserId) -> Option<Membership>;
    fn ban(&self, user: &UserId) -> Option<Ban>;
}

/// A room in memory, at a time.
pub(crate) struct At<'a>(pub(crate) &'a RoomRef, pub(crate) Timestamp);

impl Look for At<'_> {
    fn settings(&self) -> RoomSettings {
        self.0.settings()
    }

    fn member(&self, user: &UserId) -> Option<Membership> {
        self.0.member(user)
    }

    fn ban(&self, user: &UserId) -> Option<Ban> {
        self.0.ban(user, self.1)
    }
}

impl Look for RoomTx<'_, '_> {
    fn settings(&self) -> RoomSettings {
        self.settings()
    }

    fn member(&self, user: &UserId) -> Option<Membership> {
        self.member(user)
    }

    fn ban(&self, user: &UserId) -> Option<Ban> {
        self.ban(user)
    }
}

/// What somebody is to a room.
pub(crate) fn standing(room: &impl Look, user: &UserId) -> Standing {
    if let Some(member) = room.member(user) {
        return member.role.into();
    }
    let settings = room.settings();
    if !settings.public {
        Standing::Outsider
    } else if room.ban(user).is_some() {
        Standing::Banned
    } else if settings.allow_guests {
        Standing::Guest
    } else {
        Standing::Visitor
    }
}

/// Says whether somebody may do something, and what they are to the room.
pub(crate) fn check(room: &impl Look, user: &UserId, action: Action) -> Result<Standing, Problem> {
    let standing = standing(room, user);
    if standing >= action.asks_for() {
        return Ok(standing);
    }
    Err(match standing {
        Standing::Outsider => no_such_room(),
        Standing::Banned => Problem::forbidden("you are banned from this room"),
        Standing::Visitor => Problem::forbidden("join the room first"),
        Standing::Guest => Problem::forbidden("guests may only read"),
        Standing::Member | Standing::Moderator | Standing::Owner => {
            Problem::forbidden("your role in this room does not allow this")
        }
    })
}

/// What somebody is told who cannot see a room, whether there is one or not.
pub(crate) fn no_such_room() -> Problem {
    Problem::not_found("there is no such room")
}

#[cfg(test)]
mod tests {
    use stack_types::Seq;

    use super::*;

    struct Fixed {
        settings: RoomSettings,
        role: Option<RoomRole>,
        banned: bool,
    }

    impl Look for Fixed {
        fn settings(&self) -> RoomSettings {
            self.settings
        }

        fn member(&self, _: &UserId) -> Option<Membership> {
            self.role.map(|role| Membership {
                role,
                joined_at: Timestamp(0),
                joined_seq: Seq::ZERO,
            })
        }

        fn ban(&self, user: &UserId) -> Option<Ban> {
            self.banned.then_some(Ban {
                user_id: *user,
                by: *user,
                reason: None,
                created_at: Timestamp(0),
                expires_at: None,
            })
        }
    }

    fn of(public: bool, guests: bool, role: Option<RoomRole>, banned: bool) -> Standing {
        let settings = RoomSettings {
            public,
            allow_guests: guests,
            ..RoomSettings::default()
        };
        let room = Fixed {
            settings,
            role,
            banned,
        };
        standing(&room, &"u".parse().unwrap())
    }

    #[test]
    fn standing_follows_from_membership_bans_and_settings() {
        assert_eq!(of(false, true, None, false), Standing::Outsider);
        assert_eq!(of(false, true, None, true), Standing::Outsider);
        assert_eq!(of(true, true, None, true), Standing::Banned);
        assert_eq!(of(true, false, None, false), Standing::Visitor);
        assert_eq!(of(true, true, None, false), Standing::Guest);
        assert_eq!(
            of(false, false, Some(RoomRole::Guest), false),
            Standing::Guest
        );
        assert_eq!(
            of(false, false, Some(RoomRole::Owner), false),
            Standing::Owner
        );
    }

    #[test]
    fn the_table_of_rights() {
        use Standing::{Banned, Guest, Member, Moderator, Outsider, Owner, Visitor};
        let may = |standing: Standing| -> Vec<Action> {
            Action::ALL
                .into_iter()
                .filter(|action| standing >= action.asks_for())
                .collect()
        };
        assert_eq!(may(Outsider), []);
        assert_eq!(may(Banned), [Action::See]);
        assert_eq!(may(Visitor), [Action::See, Action::Join]);
        assert_eq!(may(Guest), [Action::See, Action::Join, Action::Read]);
        assert_eq!(may(Member), Action::ALL[..4]);
        assert_eq!(may(Moderator), Action::ALL[..6]);
        assert_eq!(may(Owner), Action::ALL);
    }
}
