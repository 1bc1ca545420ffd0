//! The one place where it is decided who may do what in a room.
//!
//! A person's [`Standing`] in a room follows from membership, bans and the room's settings; [`Action`]s ask for a
//! least standing. [`check`] turns the answer into what the person is told: who cannot see a room is told that
//! there is none, who sees it but may not is told so.

use stack_storage::{Ban, Membership, RoomRef, RoomTx, Store};
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
    /// Send, edit one's own, react, type.
    Speak,
    /// Redact one's own messages, muted or not: what is taken back disturbs nobody.
    TakeBack,
    /// Redact others' messages.
    Moderate,
    /// Bring people in as members or guests, remove and ban those below oneself, see bans.
    ManageMembers,
    /// Give any role; change title and settings; delete the room.
    Own,
}

impl Action {
    /// Every action, for tests and documents.
    pub const ALL: [Self; 8] = [
        Self::See,
        Self::Join,
        Self::Read,
        Self::Speak,
        Self::TakeBack,
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
            Self::Speak | Self::TakeBack => Standing::Member,
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
    fn mute(&self, user: &UserId) -> Option<Ban>;
    /// Whether somebody is an admin of the whole server.
    fn is_admin(&self, user: &UserId) -> bool;
}

/// A room in memory, at a time.
pub(crate) struct At<'a>(
    pub(crate) &'a RoomRef,
    pub(crate) Timestamp,
    pub(crate) &'a Store,
);

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

    fn mute(&self, user: &UserId) -> Option<Ban> {
        self.0.mute(user, self.1)
    }

    fn is_admin(&self, user: &UserId) -> bool {
        // Whoever cannot be looked up has no power; what is wrong with the file shows where it is needed.
        let account = self.2.account(*user).ok().flatten();
        account.is_some_and(|account| account.is_admin())
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

    fn mute(&self, user: &UserId) -> Option<Ban> {
        self.mute(user)
    }

    fn is_admin(&self, user: &UserId) -> bool {
        RoomTx::is_admin(self, user).unwrap_or(false)
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
        // Owners are never muted. Only owners mute moderators; who became one with a mute on them can lift it.
        if action == Action::Speak && standing < Standing::Owner && room.mute(user).is_some() {
            return Err(Problem::forbidden("you are muted in this room"));
        }
        return Ok(standing);
    }
    // Admins of the server look after every room that everybody sees. What is private stays so.
    if action.asks_for() == Standing::Moderator && room.settings().public && room.is_admin(user) {
        return Ok(Standing::Moderator);
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
        muted: bool,
        admin: bool,
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

        fn mute(&self, user: &UserId) -> Option<Ban> {
            let ban = Fixed {
                banned: self.muted,
                ..*self
            };
            ban.ban(user)
        }

        fn is_admin(&self, _: &UserId) -> bool {
            self.admin
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
            muted: false,
            admin: false,
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

    fn may(public: bool, role: Option<RoomRole>, muted: bool, admin: bool) -> Vec<Action> {
        let room = Fixed {
            settings: RoomSettings {
                public,
                ..RoomSettings::default()
            },
            role,
            banned: false,
            muted,
            admin,
        };
        let user = "u".parse().unwrap();
        let allowed = |action: &Action| check(&room, &user, *action).is_ok();
        Action::ALL.into_iter().filter(allowed).collect()
    }

    #[test]
    fn the_muted_read_and_do_not_speak() {
        use Action::{Join, ManageMembers, Moderate, Own, Read, See, Speak, TakeBack};
        let member = Some(RoomRole::Member);
        assert_eq!(may(true, member, true, false), [See, Join, Read, TakeBack]);
        let unmuted = [See, Join, Read, Speak, TakeBack];
        assert_eq!(may(true, member, false, false), unmuted);
        // A mute holds for a moderator: it keeps them from speaking and from nothing else.
        let moderator = Some(RoomRole::Moderator);
        let all_but_speaking = [See, Join, Read, TakeBack, Moderate, ManageMembers];
        assert_eq!(may(true, moderator, true, false), all_but_speaking);
        let owner = may(true, Some(RoomRole::Owner), true, false);
        assert!(owner.contains(&Own) && owner.contains(&Speak));
    }

    #[test]
    fn admins_look_after_what_everybody_sees() {
        use Action::{Join, ManageMembers, Moderate, See};
        assert_eq!(
            may(true, None, false, true),
            [See, Join, Moderate, ManageMembers]
        );
        assert_eq!(may(false, None, false, true), []);
        let guest = may(false, Some(RoomRole::Guest), false, true);
        assert!(!guest.contains(&Moderate) && !guest.contains(&ManageMembers));
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
        assert_eq!(may(Member), Action::ALL[..5]);
        assert_eq!(may(Moderator), Action::ALL[..7]);
        assert_eq!(may(Owner), Action::ALL);
    }
}
