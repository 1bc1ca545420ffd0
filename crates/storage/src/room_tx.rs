//! What an operation on one room sees and says, on the writer thread.

use redb::ReadableTable;
use stack_types::{
    Event, EventBody, EventDraft, Problem, RoomId, RoomSettings, Seq, Timestamp, UserId,
};

use crate::accounts::{self, AuditEntry};
use crate::room::{Ban, Membership, RoomRecord};
use crate::writer::{Batch, Staged};
use crate::{StoreError, room_ops, tables};

/// Where an event got its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its number in the room.
    pub seq: Seq,
    /// Its time.
    pub ts: Timestamp,
}

/// One operation on one room. What it reads is the room before this operation; what it says happens only if the
/// operation returns `Ok`, in the order it was said.
pub struct RoomTx<'a, 't> {
    batch: &'a mut Batch<'t>,
    room: &'a Staged,
    effects: Vec<Effect>,
    after: Vec<AfterCommit>,
    appended: u64,
}

/// What is to be done as soon as a commit is visible.
pub(crate) type AfterCommit = Box<dyn FnOnce() + Send>;

/// What an operation says is to change.
pub(crate) enum Effect {
    Append { event: Event, key: Option<String> },
    Rewrite(Event),
    Member(UserId, Option<Membership>),
    Ban(UserId, Option<Ban>),
    Mute(UserId, Option<Ban>),
    Record(RoomRecord),
    Audit(AuditEntry),
}

impl<'a, 't> RoomTx<'a, 't> {
    /// Runs `op` and, unless it refuses, applies what it said.
    pub(crate) fn run<R>(
        batch: &'a mut Batch<'t>,
        room: &mut Staged,
        op: impl FnOnce(&mut RoomTx<'_, 't>) -> Result<R, Problem>,
    ) -> Result<Result<R, Problem>, StoreError> {
        let effects = std::mem::take(&mut batch.effects);
        let mut tx = RoomTx {
            batch,
            room,
            effects,
            after: Vec::new(),
            appended: 0,
        };
        let refused_deleted = tx.record(|record| record.deleted);
        let result = if refused_deleted {
            Err(Problem::not_found("there is no such room"))
        } else {
            op(&mut tx)
        };
        let RoomTx {
            mut effects, after, ..
        } = tx;
        if result.is_ok() {
            batch.after.extend(after);
            for effect in effects.drain(..) {
                apply(batch, room, effect)?;
            }
        }
        effects.clear();
        batch.effects = effects;
        Ok(result)
    }

    /// The time of this commit. An event's own time is never before that of the event in front of it.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.batch.now
    }

    /// The room's slug.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.room.cell.id
    }

    /// The room's title.
    #[must_use]
    pub fn title(&self) -> String {
        self.record(|record| record.title.clone())
    }

    /// The room's settings.
    #[must_use]
    pub fn settings(&self) -> RoomSettings {
        self.record(|record| record.settings)
    }

    /// The first event that is still there.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.record(|record| record.first)
    }

    /// The last event.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.room.head
    }

    /// Somebody's place in the room.
    #[must_use]
    pub fn member(&self, user: &UserId) -> Option<Membership> {
        match self.room.members.get(user) {
            Some(changed) => *changed,
            None => self.room.cell.state.read().members.get(user).copied(),
        }
    }

    /// How many members satisfy `which`.
    #[must_use]
    pub fn count_members(&self, which: impl Fn(&Membership) -> bool) -> usize {
        let state = self.room.cell.state.read();
        let unchanged = state
            .members
            .iter()
            .filter(|(user, member)| !self.room.members.contains_key(user) && which(member))
            .count();
        unchanged
            + self
                .room
                .members
                .values()
                .flatten()
                .filter(|member| which(member))
                .count()
    }

    /// The ban that holds against somebody now.
    #[must_use]
    pub fn ban(&self, user: &UserId) -> Option<Ban> {
        let ban = match self.room.bans.get(user) {
            Some(changed) => changed.clone(),
            None => self.room.cell.state.read().bans.get(user).cloned(),
        };
        ban.filter(|ban| ban.holds(self.batch.now))
    }

    /// The mute that holds against somebody now.
    #[must_use]
    pub fn mute(&self, user: &UserId) -> Option<Ban> {
        let mute = match self.room.mutes.get(user) {
            Some(changed) => changed.clone(),
            None => self.room.cell.state.read().mutes.get(user).cloned(),
        };
        mute.filter(|mute| mute.holds(self.batch.now))
    }

    /// Whether somebody is an admin of the whole server now.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_admin(&self, user: &UserId) -> Result<bool, StoreError> {
        crate::accounts::is_admin(self.batch.tx, user)
    }

    /// The event of this number, as it stands in the log now; `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn event(&mut self, seq: Seq) -> Result<Option<Event>, StoreError> {
        self.batch.event(self.room, seq)
    }

    /// The place of the event that this sender has sent with this key.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn find_key(&mut self, sender: &UserId, key: &str) -> Result<Option<Appended>, StoreError> {
        let (room, now) = (self.room.cell.number, self.batch.now);
        self.batch.keys()?.find(room, sender.as_str(), key, now)
    }

    /// Appends an event and gives its place.
    pub fn append(&mut self, draft: EventDraft) -> Appended {
        let key = match &draft.body {
            EventBody::Message { key, .. } => key.clone(),
            _ => None,
        };
        self.appended += 1;
        let place = Appended {
            seq: Seq(self.room.head.0 + self.appended),
            ts: self.batch.now.max(self.room.last_ts),
        };
        let event = Event {
            room: self.room.cell.id.clone(),
            seq: place.seq,
            ts: place.ts,
            sender: draft.sender,
            body: draft.body,
        };
        self.effects.push(Effect::Append { event, key });
        place
    }

    /// Replaces a message by its tombstone and strips the text of its edits, here and in the log.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn redact(&mut self, target: Seq) -> Result<(), StoreError> {
        for seq in self.edits_of(target)? {
            if let Some(mut edit) = self.event(seq)?
                && let EventBody::Edited { body, .. } = &mut edit.body
            {
                *body = None;
                self.effects.push(Effect::Rewrite(edit));
            }
        }
        if let Some(mut message) = self.event(target)? {
            message.body = EventBody::Tombstone;
            self.effects.push(Effect::Rewrite(message));
        }
        Ok(())
    }

    /// Gives somebody a place in the room, or takes it.
    pub fn set_member(&mut self, user: UserId, membership: Option<Membership>) {
        self.effects.push(Effect::Member(user, membership));
    }

    /// Bans somebody, or lifts the ban.
    pub fn set_ban(&mut self, user: UserId, ban: Option<Ban>) {
        self.effects.push(Effect::Ban(user, ban));
    }

    /// Mutes somebody, or lifts the mute.
    pub fn set_mute(&mut self, user: UserId, mute: Option<Ban>) {
        self.effects.push(Effect::Mute(user, mute));
    }

    /// Changes title and settings.
    pub fn set_room(&mut self, title: String, settings: RoomSettings) {
        let record = self.record(RoomRecord::clone);
        let kept = |settings: &RoomSettings| (settings.retention_days, settings.retention_messages);
        if kept(&settings) != kept(&record.settings) {
            let changed = self.batch.inner.retention_changed.clone();
            self.after_commit(move || changed.notify_one());
        }
        self.effects.push(Effect::Record(RoomRecord {
            title,
            settings,
            ..record
        }));
    }

    /// Puts the operation on record, in the same commit.
    pub fn audit(&mut self, entry: AuditEntry) {
        self.effects.push(Effect::Audit(entry));
    }

    /// Does something as soon as the commit is visible, before anybody is answered, and whether or not anybody still
    /// waits for the answer. It runs on the writer thread, so it must be quick.
    pub fn after_commit(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }

    /// Deletes the room, its title with it. Its rows go later, in small steps; its slug stays taken.
    pub fn delete(&mut self) {
        let record = self.record(RoomRecord::clone);
        self.effects.push(Effect::Record(RoomRecord {
            title: String::new(),
            deleted: true,
            ..record
        }));
    }

    fn record<R>(&self, look: impl FnOnce(&RoomRecord) -> R) -> R {
        match &self.room.record {
            Some(record) => look(record),
            None => look(&self.room.cell.state.read().record),
        }
    }

    fn edits_of(&self, target: Seq) -> Result<Vec<Seq>, StoreError> {
        let number = self.room.cell.number;
        let edits = self.batch.tx.open_table(tables::EDITS)?;
        let range = edits.range((number, target.0, 0)..=(number, target.0, u64::MAX))?;
        range.map(|entry| Ok(Seq(entry?.0.value().2))).collect()
    }
}

fn apply(batch: &mut Batch<'_>, room: &mut Staged, effect: Effect) -> Result<(), StoreError> {
    let number = room.cell.number;
    match effect {
        Effect::Append { event, key } => {
            batch.append(room, &event);
            if let Some(key) = key {
                let place = (event.seq.0, event.ts.0);
                batch
                    .keys()?
                    .remember(number, event.sender.as_str(), &key, place)?;
            }
            if let EventBody::Edited { target_seq, .. } = &event.body {
                let mut edits = batch.tx.open_table(tables::EDITS)?;
                edits.insert((number, target_seq.0, event.seq.0), ())?;
            }
        }
        Effect::Rewrite(event) => batch.rewrite(room, &event)?,
        Effect::Member(user, membership) => {
            room_ops::write_member(batch.tx, number, &user, membership.as_ref())?;
            room.members.insert(user, membership);
        }
        Effect::Ban(user, ban) => {
            room_ops::write_ban(batch.tx, number, &user, ban.as_ref())?;
            room.bans.insert(user, ban);
        }
        Effect::Mute(user, mute) => {
            room_ops::write_mute(batch.tx, number, &user, mute.as_ref())?;
            room.mutes.insert(user, mute);
        }
        Effect::Record(record) => room.record = Some(record),
        Effect::Audit(entry) => accounts::append_audit(batch.tx, batch.now, entry)?,
    }
    Ok(())
}
