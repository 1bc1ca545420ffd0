//! Who is in a room: joining, leaving, roles, removing and banning.

use stack_storage::{AuditAction, Ban, Membership, RoomTx};
use stack_types::{
    ErrorCode, EventBody, EventDraft, MemberAction, Problem, RoomId, RoomRole, Seq, Timestamp,
    UnsubscribeReason, User, UserId,
};

use crate::rights::{self, Action, Standing};
use crate::view::{BanView, Member};
use crate::{Actor, Rooms};

const MAX_REASON_BYTES: usize = 500;

/// A ban or a mute to be put on somebody.
#[derive(Debug, Clone, Default)]
pub struct NewBan {
    /// Why.
    pub reason: Option<String>,
    /// Until when; `None` until it is lifted.
    pub expires_at: Option<Timestamp>,
}

impl NewBan {
    fn put_on(&self, user: UserId, by: UserId, now: Timestamp) -> Ban {
        Ban {
            user_id: user,
            by,
            reason: self.reason.clone(),
            created_at: now,
            expires_at: self.expires_at,
        }
    }
}

impl Rooms {
    /// Everybody in a room, in the order they came.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub fn members(&self, user: UserId, room: &RoomId) -> Result<Vec<Member>, Problem> {
        let (room, _) = self.check(&user, room, Action::Read)?;
        let members = room.members();
        let ids: Vec<_> = members.iter().map(|(user, _)| *user).collect();
        let users = self.0.store.users(&ids)?;
        let seen = self.0.store.last_seen(&ids)?;
        let member = |user: User| {
            let Membership {
                role, joined_at, ..
            } = room.member(&user.id)?;
            let last_seen_at = seen.get(&user.id).copied();
            Some(Member {
                user,
                role,
                joined_at,
                last_seen_at,
            })
        };
        Ok(users.into_iter().filter_map(member).collect())
    }

    /// Joins a public room. Who is in already stays what they are.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub async fn join(&self, user: UserId, room: &RoomId) -> Result<RoomRole, Problem> {
        let (found, _) = self.check(&user, room, Action::Join)?;
        if let Some(member) = found.member(&user) {
            return Ok(member.role);
        }
        self.take_turn(user, &found)?;
        self.0.store.room_op(room, move |tx| join(tx, user)).await
    }

    /// Leaves a room.
    ///
    /// # Errors
    /// `not_found`, also for who is not in it; `conflict` for the last owner.
    pub async fn leave(&self, user: UserId, room: &RoomId) -> Result<(), Problem> {
        let (found, _) = self.check(&user, room, Action::See)?;
        self.take_turn(user, &found)?;
        let rooms = self.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            leave(tx, user)?;
            rooms.end_readers_after(tx, user, UnsubscribeReason::Left);
            Ok(())
        };
        self.0.store.room_op(room, op).await
    }

    /// Brings somebody into a room or gives them another role; oneself as `member` joins.
    ///
    /// # Errors
    /// `not_found`, `forbidden`; `conflict` for a banned user, or when the last owner would be none.
    pub async fn put_member(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
        role: RoomRole,
    ) -> Result<Member, Problem> {
        let by = actor.into();
        let actor = by.user;
        let own_join = actor == user && role == RoomRole::Member;
        let action = if own_join {
            Action::Join
        } else {
            Action::ManageMembers
        };
        let (found, _) = self.check(&actor, room, action)?;
        let who = self.0.store.user(user)?;
        let who = who.ok_or_else(|| Problem::not_found("there is no such user"))?;
        if own_join
            && found
                .member(&user)
                .is_none_or(|member| member.role <= RoomRole::Member)
        {
            self.join(user, room).await?;
        } else {
            let op = move |tx: &mut RoomTx<'_, '_>| put_member(tx, by, user, role);
            self.0.store.room_op(room, op).await?;
        }
        let place = found.member(&user).ok_or_else(rights::no_such_room)?;
        Ok(Member {
            user: who,
            role: place.role,
            joined_at: place.joined_at,
            last_seen_at: self.0.store.last_seen(&[user])?.get(&user).copied(),
        })
    }

    /// Whether somebody may bring people into a room.
    ///
    /// # Errors
    /// `not_found` or `forbidden`.
    pub fn may_bring_people(&self, user: UserId, room: &RoomId) -> Result<(), Problem> {
        self.check(&user, room, Action::ManageMembers).map(|_| ())
    }

    /// Whether somebody has a place of this role or more in a room.
    ///
    /// # Errors
    /// `not_found` without the room.
    pub fn has_place(&self, user: UserId, room: &RoomId, role: RoomRole) -> Result<bool, Problem> {
        let room = self.0.store.room(room)?.ok_or_else(rights::no_such_room)?;
        Ok(room.member(&user).is_some_and(|member| member.role >= role))
    }

    /// Removes somebody from a room; oneself leaves.
    ///
    /// # Errors
    /// `not_found` when they are not in it; `forbidden` for somebody who is not below the caller; `conflict` for the
    /// last owner.
    pub async fn remove_member(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
    ) -> Result<(), Problem> {
        let by = actor.into();
        let actor = by.user;
        if actor == user {
            return self.leave(user, room).await;
        }
        self.check(&actor, room, Action::ManageMembers)?;
        let rooms = self.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            let place = member_below(tx, actor, user)?;
            place.ok_or_else(not_a_member)?;
            tx.set_member(user, None);
            tx.append(told(actor, user, MemberAction::Removed, None, None));
            audit(tx, by, AuditAction::MemberRemoved, user);
            rooms.end_readers_after(tx, user, UnsubscribeReason::Removed);
            Ok(())
        };
        self.0.store.room_op(room, op).await
    }

    /// Bans somebody: they are removed and cannot come back while the ban holds.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `invalid_field`.
    pub async fn ban(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
        ban: NewBan,
    ) -> Result<BanView, Problem> {
        let by = actor.into();
        let actor = by.user;
        self.check(&actor, room, Action::ManageMembers)?;
        if actor == user {
            return Err(Problem::forbidden("nobody bans themselves"));
        }
        self.check_ban(&ban, "a ban ends in the future")?;
        if self.0.store.user(user)?.is_none() {
            return Err(Problem::not_found("there is no such user"));
        }
        let rooms = self.clone();
        let op = move |tx: &mut RoomTx<'_, '_>| {
            let place = member_below(tx, actor, user)?;
            check_put_below(tx, actor, tx.ban(&user))?;
            let record = ban.put_on(user, actor, tx.now());
            tx.set_ban(user, Some(record.clone()));
            if place.is_some() {
                tx.set_member(user, None);
            }
            tx.append(told(actor, user, MemberAction::Banned, None, ban.reason));
            audit(tx, by, AuditAction::Banned, user);
            rooms.end_readers_after(tx, user, UnsubscribeReason::Banned);
            Ok(record)
        };
        let record = self.0.store.room_op(room, op).await?;
        Ok(record.into())
    }

    /// Lifts a ban.
    ///
    /// # Errors
    /// `not_found` when none holds; `forbidden`.
    pub async fn unban(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
    ) -> Result<(), Problem> {
        self.lift(actor.into(), room, user, Kept::Out).await
    }

    /// The bans that hold, oldest first.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub fn bans(&self, actor: UserId, room: &RoomId) -> Result<Vec<BanView>, Problem> {
        let (room, _) = self.check(&actor, room, Action::ManageMembers)?;
        Ok(room
            .bans(self.0.clock.now())
            .into_iter()
            .map(BanView::from)
            .collect())
    }

    /// Mutes somebody: they read and do not speak while the mute holds, also when they leave and come back.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `invalid_field`.
    pub async fn mute(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
        mute: NewBan,
    ) -> Result<BanView, Problem> {
        let by = actor.into();
        let actor = by.user;
        self.check(&actor, room, Action::ManageMembers)?;
        if actor == user {
            return Err(Problem::forbidden("nobody mutes themselves"));
        }
        self.check_ban(&mute, "a mute ends in the future")?;
        if self.0.store.user(user)?.is_none() {
            return Err(Problem::not_found("there is no such user"));
        }
        let op = move |tx: &mut RoomTx<'_, '_>| {
            let place = member_below(tx, actor, user)?;
            // Nothing keeps an owner silent: a mute that does not hold is not put.
            if place.is_some_and(|member| member.role == RoomRole::Owner) {
                return Err(Problem::forbidden("an owner cannot be muted"));
            }
            check_put_below(tx, actor, tx.mute(&user))?;
            let record = mute.put_on(user, actor, tx.now());
            tx.set_mute(user, Some(record.clone()));
            tx.append(told(actor, user, MemberAction::Muted, None, mute.reason));
            audit(tx, by, AuditAction::Muted, user);
            Ok(record)
        };
        let record = self.0.store.room_op(room, op).await?;
        Ok(record.into())
    }

    /// Lifts a mute.
    ///
    /// # Errors
    /// `not_found` when none holds; `forbidden`.
    pub async fn unmute(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
    ) -> Result<(), Problem> {
        self.lift(actor.into(), room, user, Kept::Silent).await
    }

    /// The mutes that hold, oldest first.
    ///
    /// # Errors
    /// `not_found`, `forbidden`.
    pub fn mutes(&self, actor: UserId, room: &RoomId) -> Result<Vec<BanView>, Problem> {
        let (room, _) = self.check(&actor, room, Action::ManageMembers)?;
        let mutes = room.mutes(self.0.clock.now());
        Ok(mutes.into_iter().map(BanView::from).collect())
    }

    /// Makes a member the owner in the caller's place, who is a moderator then: both in one commit, so that the room
    /// is never without an owner.
    ///
    /// # Errors
    /// `not_found` for who is no member; `forbidden`; `conflict` for oneself.
    pub async fn transfer(
        &self,
        actor: impl Into<Actor>,
        room: &RoomId,
        user: UserId,
    ) -> Result<(), Problem> {
        let by = actor.into();
        let actor = by.user;
        self.check(&actor, room, Action::Own)?;
        if actor == user {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "the room is yours already",
            ));
        }
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &actor, Action::Own)?;
            let (Some(own), Some(member)) = (tx.member(&actor), tx.member(&user)) else {
                return Err(not_a_member());
            };
            for (who, place, role) in [
                (user, member, RoomRole::Owner),
                (actor, own, RoomRole::Moderator),
            ] {
                if place.role != role {
                    tx.set_member(who, Some(Membership { role, ..place }));
                    tx.append(told(actor, who, MemberAction::Role, Some(role), None));
                }
            }
            audit(tx, by, AuditAction::OwnershipTransferred, user);
            Ok(())
        };
        self.0.store.room_op(room, op).await
    }

    fn check_ban(&self, ban: &NewBan, ends: &'static str) -> Result<(), Problem> {
        let too_long = |reason: &String| reason.len() > MAX_REASON_BYTES;
        if ban.reason.as_ref().is_some_and(too_long) {
            let detail = format!("a reason is at most {MAX_REASON_BYTES} bytes");
            return Err(Problem::invalid_field("reason", detail));
        }
        let now = self.0.clock.now();
        if ban.expires_at.is_some_and(|until| until <= now) {
            return Err(Problem::invalid_field("expires_at", ends));
        }
        Ok(())
    }

    /// Ends somebody's subscriptions with the commit: not when the answer arrives, which nobody may be there for.
    fn end_readers_after(&self, tx: &mut RoomTx<'_, '_>, user: UserId, reason: UnsubscribeReason) {
        let (hub, room) = (self.0.hub.clone(), tx.id().clone());
        tx.after_commit(move || {
            hub.end(&room, reason, |subscription| subscription.user() == user);
        });
    }

    async fn lift(
        &self,
        by: Actor,
        room: &RoomId,
        user: UserId,
        kept: Kept,
    ) -> Result<(), Problem> {
        let actor = by.user;
        self.check(&actor, room, Action::ManageMembers)?;
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &actor, Action::ManageMembers)?;
            let (none, lifted, action) = match kept {
                Kept::Out => (
                    "this user is not banned",
                    MemberAction::Unbanned,
                    AuditAction::Unbanned,
                ),
                Kept::Silent => (
                    "this user is not muted",
                    MemberAction::Unmuted,
                    AuditAction::Unmuted,
                ),
            };
            let put = kept.by(tx, user);
            if put.is_none() {
                return Err(Problem::not_found(none));
            }
            check_put_below(tx, actor, put)?;
            kept.put(tx, user, None);
            tx.append(told(actor, user, lifted, None, None));
            audit(tx, by, action, user);
            Ok(())
        };
        self.0.store.room_op(room, op).await
    }
}

/// What somebody is kept from, until it is lifted or is over.
#[derive(Clone, Copy)]
enum Kept {
    /// From the room: a ban.
    Out,
    /// From speaking: a mute.
    Silent,
}

impl Kept {
    fn by(self, tx: &RoomTx<'_, '_>, user: UserId) -> Option<Ban> {
        match self {
            Self::Out => tx.ban(&user),
            Self::Silent => tx.mute(&user),
        }
    }

    fn put(self, tx: &mut RoomTx<'_, '_>, user: UserId, put: Option<Ban>) {
        match self {
            Self::Out => tx.set_ban(user, put),
            Self::Silent => tx.set_mute(user, put),
        }
    }
}

fn join(tx: &mut RoomTx<'_, '_>, user: UserId) -> Result<RoomRole, Problem> {
    if let Some(member) = tx.member(&user) {
        return Ok(member.role);
    }
    rights::check(tx, &user, Action::Join)?;
    enter(tx, user, user, RoomRole::Member);
    Ok(RoomRole::Member)
}

fn leave(tx: &mut RoomTx<'_, '_>, user: UserId) -> Result<(), Problem> {
    let member = tx.member(&user).ok_or_else(not_a_member)?;
    if member.role == RoomRole::Owner && owners(tx) == 1 {
        return Err(Problem::new(
            ErrorCode::Conflict,
            "the last owner cannot leave: give the room another owner, or delete it",
        ));
    }
    tx.set_member(user, None);
    tx.append(told(user, user, MemberAction::Left, None, None));
    Ok(())
}

fn put_member(
    tx: &mut RoomTx<'_, '_>,
    by: Actor,
    user: UserId,
    role: RoomRole,
) -> Result<(), Problem> {
    let actor = by.user;
    let standing = rights::check(tx, &actor, Action::ManageMembers)?;
    let before = tx.member(&user);
    if before.is_some_and(|member| member.role == role) {
        return Ok(());
    }
    let gives = Standing::from(role);
    let has = before.map_or(Standing::Guest, |member| member.role.into());
    if standing < Standing::Owner && (gives >= Standing::Moderator || has >= Standing::Moderator) {
        return Err(Problem::forbidden("only an owner gives or takes this role"));
    }
    if tx.ban(&user).is_some() {
        return Err(Problem::new(
            ErrorCode::Conflict,
            "this user is banned: lift the ban first",
        ));
    }
    match before {
        None => {
            enter(tx, actor, user, role);
        }
        Some(member) => {
            if member.role == RoomRole::Owner && owners(tx) == 1 {
                return Err(Problem::new(
                    ErrorCode::Conflict,
                    "the last owner stays one: give the room another owner first",
                ));
            }
            tx.set_member(user, Some(Membership { role, ..member }));
            tx.append(told(actor, user, MemberAction::Role, Some(role), None));
        }
    }
    // Power in the room; who is merely let in stands in its log.
    if gives.max(has) >= Standing::Moderator {
        let target = format!("{user} {} {}", tx.id(), named(role));
        tx.audit(by.did(AuditAction::RoomRoleChanged, target));
    }
    Ok(())
}

/// Checks that the actor stands above somebody, and gives their place if they have one.
fn member_below(
    tx: &mut RoomTx<'_, '_>,
    actor: UserId,
    user: UserId,
) -> Result<Option<Membership>, Problem> {
    let standing = rights::check(tx, &actor, Action::ManageMembers)?;
    let place = tx.member(&user);
    // Owners may remove each other; everybody else only who stands below them.
    let below = place
        .is_none_or(|member| standing == Standing::Owner || Standing::from(member.role) < standing);
    if below {
        Ok(place)
    } else {
        Err(Problem::forbidden("this member does not stand below you"))
    }
}

/// Checks that a ban or a mute that holds already was not put by somebody who stands above the actor.
fn check_put_below(tx: &RoomTx<'_, '_>, actor: UserId, put: Option<Ban>) -> Result<(), Problem> {
    let standing = rights::check(tx, &actor, Action::ManageMembers)?;
    match put {
        Some(put) if rights::standing(tx, &put.by) > standing => {
            Err(Problem::forbidden("this was put by somebody above you"))
        }
        _ => Ok(()),
    }
}

/// A role as it stands in the audit log.
fn named(role: RoomRole) -> &'static str {
    match role {
        RoomRole::Guest => "guest",
        RoomRole::Member => "member",
        RoomRole::Moderator => "moderator",
        RoomRole::Owner => "owner",
    }
}

/// Puts on record, in the same commit, what was done to somebody.
fn audit(tx: &mut RoomTx<'_, '_>, by: Actor, action: AuditAction, user: UserId) {
    let target = format!("{user} {}", tx.id());
    tx.audit(by.did(action, target));
}

fn enter(tx: &mut RoomTx<'_, '_>, actor: UserId, user: UserId, role: RoomRole) -> Seq {
    tx.set_member(
        user,
        Some(Membership {
            role,
            joined_at: tx.now(),
            joined_seq: tx.head(),
        }),
    );
    tx.append(told(actor, user, MemberAction::Joined, Some(role), None))
        .seq
}

fn owners(tx: &RoomTx<'_, '_>) -> usize {
    tx.count_members(|member| member.role == RoomRole::Owner)
}

fn not_a_member() -> Problem {
    Problem::not_found("this user is not a member of the room")
}

fn told(
    actor: UserId,
    user: UserId,
    action: MemberAction,
    role: Option<RoomRole>,
    reason: Option<String>,
) -> EventDraft {
    EventDraft {
        sender: actor,
        body: EventBody::Member {
            action,
            user_id: user,
            role,
            reason,
        },
    }
}
