//! Erasing what somebody has said: every message, every text of an edit, every reaction, and every reason that they gave.
//!
//! What is left of each is what a redaction leaves, at its number, so that a room's numbers go on without a hole. It is a
//! job that stands in the file from the moment it is asked for until it is done, and is carried out in steps, each a
//! small commit among everybody's. A step rewrites what it finds, says so to the room by an event of its own, and moves
//! the job's place, all at once: a job that was cut off anywhere goes on there, and nothing is done or told twice.
//!
//! A room is gone through up to where it stood when the job came to it. What is said later stays.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{Event, EventBatch, EventBody, RoomId, Seq, SessionId, Timestamp, UserId};

use crate::accounts::{self, AuditAction, AuditEntry, AuditOutcome};
use crate::room::{Ban, ByUser, RoomRecord};
use crate::writer::{Batch, Staged};
use crate::{PageLimit, RoomRef, Store, StoreError, record, room_ops, tables};

/// Jobs that wait or are under way at most: each goes through the whole log.
pub const MOST_ERASURES: usize = 32;
/// Jobs that are remembered when they are done.
const REMEMBERED: usize = 200;
/// What one step looks at: read off the runtime, and held in memory meanwhile.
const PAGE: PageLimit = PageLimit {
    events: 4096,
    bytes: 1024 * 1024,
};
/// Events that one commit changes at most. They stand in the one event that tells of it.
const STEP: usize = 256;
/// Bytes of rows that one commit writes anew, about.
const STEP_BYTES: usize = 1024 * 1024;
/// Steps that find nothing move the job's place in the file only so often; a job that was cut off looks there again.
const QUIET_STEPS: u32 = 64;

/// What is to be erased, for whom, and who asks for it.
#[derive(Debug, Clone)]
pub struct NewErasure {
    /// Whose messages.
    pub user: UserId,
    /// In this room only.
    pub room: Option<RoomId>,
    /// Who asks, as it is put on record: by [`AuditAction::ErasureRequested`], and with each room that was gone through
    /// by [`AuditAction::MessagesErased`]. What was done and to what is filled in here.
    pub by: ErasedBy,
}

/// Who asks for an erasure. See [`AuditEntry`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in an entry of the audit log")]
pub struct ErasedBy {
    pub actor: Option<UserId>,
    pub ip: String,
    pub session: Option<SessionId>,
}

/// Why nothing is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraseRefused {
    /// There is no such room.
    NoRoom,
    /// [`MOST_ERASURES`] are under way.
    TooMany,
}

/// An erasure, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its number; later ones have larger ones.
    pub id: u64,
    /// Whose messages.
    pub user: UserId,
    /// In this room only.
    pub room: Option<RoomId>,
    /// Who asked for it; `None` for the machine's operator.
    pub by: Option<UserId>,
    /// When that was.
    pub requested_at: Timestamp,
    /// When it was done.
    pub finished_at: Option<Timestamp>,
    /// Rooms in which something was erased so far.
    pub rooms: u64,
    /// Events that were changed so far.
    pub events: u64,
}

/// A job as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ErasureRow {
    user: UserId,
    room: Option<RoomId>,
    by: ErasedBy,
    requested_at: Timestamp,
    finished_at: Option<Timestamp>,
    rooms: u64,
    events: u64,
    place: Place,
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// Every room in front of this number is done.
    Before(u64),
    /// In a room.
    In {
        number: u64,
        /// Everything up to here is done.
        after: Seq,
        /// Where the room stood when the job came to it.
        until: Seq,
        /// Events that were changed in it.
        changed: u64,
    },
    /// Done.
    End,
}

impl ErasureRow {
    fn view(self, id: u64) -> Erasure {
        Erasure {
            id,
            user: self.user,
            room: self.room,
            by: self.by.actor,
            requested_at: self.requested_at,
            finished_at: self.finished_at,
            rooms: self.rooms,
            events: self.events,
        }
    }

    fn entry(&self, action: AuditAction, target: String) -> AuditEntry {
        let ErasedBy { actor, ip, session } = self.by.clone();
        AuditEntry {
            actor,
            ip,
            session,
            action,
            target: Some(target),
            outcome: AuditOutcome::Ok,
        }
    }

    /// The room of this number is done.
    fn leave_room(
        &mut self,
        tx: &WriteTransaction,
        now: Timestamp,
        number: u64,
        room: Option<&RoomId>,
        changed: u64,
    ) -> Result<(), StoreError> {
        if changed > 0 {
            self.rooms += 1;
            let room = room.map_or("-", RoomId::as_str);
            let target = format!("{} {room} {changed}", self.user);
            accounts::append_audit(tx, now, self.entry(AuditAction::MessagesErased, target))?;
        }
        self.place = match self.room {
            Some(_) => Place::End,
            None => Place::Before(number + 1),
        };
        Ok(())
    }
}

/// Where the walk of erasures stands. It may be begun anew at any time.
#[derive(Debug)]
pub struct EraseWalk {
    /// A job's place, when it is further than the file says.
    further: Option<(u64, Place)>,
    quiet_steps: u32,
    /// Events that one commit changes at most.
    pub(crate) step: usize,
}

impl Default for EraseWalk {
    fn default() -> Self {
        Self {
            further: None,
            quiet_steps: 0,
            step: STEP,
        }
    }
}

impl Store {
    /// Asks for an erasure. It is on disk then, and is carried out by [`Store::erase_step`].
    ///
    /// # Errors
    /// The commit failed.
    pub async fn erase(
        &self,
        new: NewErasure,
    ) -> Result<Result<Erasure, EraseRefused>, StoreError> {
        let asked = self.write(move |tx, now| ask(tx, now, new)).await?;
        if asked.is_ok() {
            self.inner.erasures.notify_one();
        }
        Ok(asked)
    }

    /// Resolves when an erasure was asked for since it did so last. For one task.
    pub async fn erasure_requested(&self) {
        self.inner.erasures.notified().await;
    }

    /// Erasures that are under way and the last that were done, the newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        self.read(|tx| {
            let mut found = Vec::new();
            for entry in tx.open_table(tables::ERASURES)?.iter()?.rev() {
                let (id, row) = entry?;
                let row: ErasureRow = record::decode(row.value())?;
                found.push(row.view(id.value()));
            }
            Ok(found)
        })
    }

    /// One step of the oldest erasure that is not done; says whether there is more to do. For one task at a time.
    ///
    /// # Errors
    /// The file cannot be read, or the commit failed. The step is taken again then.
    pub async fn erase_step(&self, walk: &mut EraseWalk) -> Result<bool, StoreError> {
        let Some((id, row)) = self.read(oldest)? else {
            walk.further = None;
            return Ok(false);
        };
        let further = walk.further.filter(|(job, _)| *job == id);
        let place = further.map_or(row.place, |(_, place)| place);
        let next = match place {
            Place::Before(number) => self.enter_next(id, &row, number).await?,
            Place::In {
                number,
                after,
                until,
                changed,
            } => {
                let at = InRoom {
                    number,
                    after,
                    until,
                    changed,
                };
                self.look_on(id, &row, at, walk.step).await?
            }
            Place::End => return Ok(false),
        };
        walk.further = match next {
            Next::Written => {
                walk.quiet_steps = 0;
                None
            }
            Next::Quiet(place) => {
                walk.quiet_steps += 1;
                if walk.quiet_steps >= QUIET_STEPS {
                    walk.quiet_steps = 0;
                    self.note_place(id, place).await?;
                    None
                } else {
                    Some((id, place))
                }
            }
        };
        Ok(true)
    }

    /// Finds the room that comes next.
    async fn enter_next(&self, id: u64, row: &ErasureRow, number: u64) -> Result<Next, StoreError> {
        let only = row.room.clone();
        let found = self
            .read_blocking(move |tx| next_room(tx, number, only.as_ref()))
            .await?;
        let Some((number, room)) = found else {
            self.finish_erasure(id).await?;
            return Ok(Next::Written);
        };
        let Some(room) = self.room(&room)? else {
            // Deleted just now.
            return Ok(Next::Quiet(Place::Before(number + 1)));
        };
        let until = room.head();
        Ok(Next::Quiet(Place::In {
            number,
            after: Seq::ZERO,
            until,
            changed: 0,
        }))
    }

    /// Looks at a page of a room, and erases what it finds.
    async fn look_on(
        &self,
        id: u64,
        row: &ErasureRow,
        at: InRoom,
        most: usize,
    ) -> Result<Next, StoreError> {
        let room = self.read(|tx| room_ops::room_id(&tx.open_table(tables::ROOMS)?, at.number))?;
        let room = match room {
            Some(room) => self.room(&room)?,
            None => None,
        };
        let user = row.user;
        let found = match &room {
            Some(room) if at.after < at.until => {
                let page = self.page_after(room, at.after, PAGE).await?;
                self.find(page, at, user, most).await?
            }
            _ => Found {
                seqs: Vec::new(),
                through: at.until,
            },
        };
        let is_done = found.through >= at.until;
        let reasons = room.as_ref().is_some_and(|room| gave_reasons(room, &user));
        if found.seqs.is_empty() && !is_done {
            let after = found.through;
            return Ok(Next::Quiet(Place::In {
                number: at.number,
                after,
                until: at.until,
                changed: at.changed,
            }));
        }
        if found.seqs.is_empty() && at.changed == 0 && !reasons {
            let next = match row.room {
                Some(_) => Place::End,
                None => Place::Before(at.number + 1),
            };
            if next != Place::End {
                return Ok(Next::Quiet(next));
            }
        }
        self.write_batch(move |batch| erase_found(batch, id, room.as_ref(), at, &found))
            .await?;
        Ok(Next::Written)
    }

    /// Which events of a page are to be changed. Off the runtime: a page may have thousands.
    async fn find(
        &self,
        page: EventBatch,
        at: InRoom,
        user: UserId,
        most: usize,
    ) -> Result<Found, StoreError> {
        if page.frames().is_empty() {
            // What was there has expired meanwhile.
            return Ok(Found {
                seqs: Vec::new(),
                through: at.until,
            });
        }
        let codec = self.inner.codec.clone();
        let search = tokio::task::spawn_blocking(move || {
            let mut through = page.last().min(at.until);
            let mut seqs = Vec::new();
            for (seq, frame) in (page.first().0..).map(Seq).zip(page.frames().iter()) {
                if seq > at.until {
                    break;
                }
                if seqs.len() == most {
                    through = seq.prev();
                    break;
                }
                // Whoever said something stands in it by their id.
                if contains(&frame, user.as_str().as_bytes())
                    && erased(codec.decode(&frame)?, &user).is_some()
                {
                    seqs.push(seq);
                }
            }
            Ok(Found { seqs, through })
        });
        search.await.map_err(StoreError::damaged)?
    }

    async fn note_place(&self, id: u64, place: Place) -> Result<(), StoreError> {
        self.write(move |tx, _| change(tx, id, |row| row.place = place))
            .await
    }

    async fn finish_erasure(&self, id: u64) -> Result<(), StoreError> {
        self.write(move |tx, now| {
            change(tx, id, |row| {
                (row.place, row.finished_at) = (Place::End, Some(now));
            })
        })
        .await
    }
}

/// What became of a step.
enum Next {
    /// The job's place in the file has moved.
    Written,
    /// There was nothing to write: its place is this.
    Quiet(Place),
}

#[derive(Clone, Copy)]
struct InRoom {
    number: u64,
    after: Seq,
    until: Seq,
    changed: u64,
}

/// Events that are to be changed, and up to where everything was looked at.
struct Found {
    seqs: Vec<Seq>,
    through: Seq,
}

fn ask(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewErasure,
) -> Result<Result<Erasure, EraseRefused>, StoreError> {
    let mut table = tx.open_table(tables::ERASURES)?;
    let mut rows = Vec::new();
    for entry in table.iter()? {
        let (id, row) = entry?;
        let row: ErasureRow = record::decode(row.value())?;
        rows.push((id.value(), row.finished_at.is_some()));
    }
    if rows.iter().filter(|(_, done)| !done).count() >= MOST_ERASURES {
        return Ok(Err(EraseRefused::TooMany));
    }
    let from = match &new.room {
        None => 0,
        Some(room) => match live_room(tx, room)? {
            Some(number) => number,
            None => return Ok(Err(EraseRefused::NoRoom)),
        },
    };
    let done: Vec<u64> = rows
        .iter()
        .filter(|(_, done)| *done)
        .map(|(id, _)| *id)
        .collect();
    for id in done.iter().rev().skip(REMEMBERED - 1) {
        table.remove(id)?;
    }
    let id = rows.last().map_or(1, |(id, _)| id + 1);
    let row = ErasureRow {
        user: new.user,
        room: new.room,
        by: new.by,
        requested_at: now,
        finished_at: None,
        rooms: 0,
        events: 0,
        place: Place::Before(from),
    };
    table.insert(id, record::encode(&row)?.as_slice())?;
    let target = match &row.room {
        Some(room) => format!("{} {room}", row.user),
        None => row.user.to_string(),
    };
    accounts::append_audit(tx, now, row.entry(AuditAction::ErasureRequested, target))?;
    Ok(Ok(row.view(id)))
}

fn live_room(tx: &WriteTransaction, room: &RoomId) -> Result<Option<u64>, StoreError> {
    let names = tx.open_table(tables::ROOM_NAMES)?;
    let Some(number) = names.get(room.as_str())?.map(|row| row.value()) else {
        return Ok(None);
    };
    let rooms = tx.open_table(tables::ROOMS)?;
    let row = rooms.get(number)?;
    let row = row.ok_or_else(|| StoreError::damaged("a room's record is missing"))?;
    let record: RoomRecord = record::decode(row.value())?;
    Ok((!record.deleted).then_some(number))
}

/// The oldest job that is not done.
fn oldest(tx: &ReadTransaction) -> Result<Option<(u64, ErasureRow)>, StoreError> {
    for entry in tx.open_table(tables::ERASURES)?.iter()? {
        let (id, row) = entry?;
        let row: ErasureRow = record::decode(row.value())?;
        if row.finished_at.is_none() {
            return Ok(Some((id.value(), row)));
        }
    }
    Ok(None)
}

/// The first room from this number on that is there; with `only`, that one alone.
fn next_room(
    tx: &ReadTransaction,
    number: u64,
    only: Option<&RoomId>,
) -> Result<Option<(u64, RoomId)>, StoreError> {
    for entry in tx.open_table(tables::ROOMS)?.range(number..)? {
        let (number, row) = entry?;
        let room: RoomRecord = record::decode(row.value())?;
        if only.is_some_and(|only| *only != room.id) {
            return Ok(None);
        }
        if !room.deleted {
            return Ok(Some((number.value(), room.id)));
        }
    }
    Ok(None)
}

/// Changes a job, if it is still there.
fn change(
    tx: &WriteTransaction,
    id: u64,
    act: impl FnOnce(&mut ErasureRow),
) -> Result<(), StoreError> {
    let mut table = tx.open_table(tables::ERASURES)?;
    let row = table.get(id)?.map(|row| record::decode(row.value()));
    if let Some(row) = row {
        let mut row: ErasureRow = row?;
        act(&mut row);
        table.insert(id, record::encode(&row)?.as_slice())?;
    }
    Ok(())
}

/// One commit's part of an erasure: what was found in a room, as much as one commit should change, and the job's place.
fn erase_found(
    batch: &mut Batch<'_>,
    id: u64,
    room: Option<&RoomRef>,
    at: InRoom,
    found: &Found,
) -> Result<(), StoreError> {
    let (tx, now) = (batch.tx, batch.now);
    let row = {
        let table = tx.open_table(tables::ERASURES)?;
        let row = table.get(id)?;
        row.map(|row| record::decode::<ErasureRow>(row.value()))
    };
    let Some(mut row) = row.transpose()? else {
        return Ok(());
    };
    let mut through = found.through;
    let mut changed = 0;
    if let Some(room) = room.filter(|room| !room.is_deleted()) {
        let mut staged = batch.take_room(room);
        // Some may have expired since they were found.
        let first = staged.first();
        let seqs: Vec<Seq> = found
            .seqs
            .iter()
            .copied()
            .filter(|seq| *seq >= first)
            .collect();
        let fits = batch.rewritable(&staged, &seqs, STEP_BYTES)?;
        if let Some(next) = seqs.get(fits) {
            through = next.prev();
        }
        changed = erase_in(batch, &mut staged, &row.user, &seqs[..fits])?;
        if through >= at.until {
            forget_reasons(tx, &mut staged, &row.user)?;
        }
        batch.stage(staged);
    }
    row.events += changed;
    let changed = at.changed + changed;
    if through >= at.until {
        row.leave_room(tx, now, at.number, room.map(RoomRef::id), changed)?;
        if row.place == Place::End {
            row.finished_at = Some(now);
        }
    } else {
        row.place = Place::In {
            number: at.number,
            after: through,
            until: at.until,
            changed,
        };
    }
    change(tx, id, |there| *there = row)
}

/// Changes these events, and tells the room.
fn erase_in(
    batch: &mut Batch<'_>,
    room: &mut Staged,
    user: &UserId,
    seqs: &[Seq],
) -> Result<u64, StoreError> {
    let mut events = BTreeMap::new();
    for seq in seqs {
        // It may have been redacted, or have expired, since it was found.
        let event = batch.event(room, *seq)?;
        if let Some(event) = event.and_then(|event| erased(event, user)) {
            let mut frame = Vec::new();
            batch.inner.codec.encode(&event, &mut frame);
            events.insert(*seq, frame);
        }
    }
    if events.is_empty() {
        return Ok(0);
    }
    let targets: Vec<Seq> = events.keys().copied().collect();
    let changed = targets.len() as u64;
    batch.rewrite_logged(room, events)?;
    let told = Event {
        room: room.cell.id.clone(),
        seq: room.head.next(),
        ts: batch.now.max(room.last_ts),
        sender: *user,
        body: EventBody::Erased { targets },
    };
    batch.append(room, &told);
    Ok(changed)
}

/// The event without what this user has written in it; `None` when there is nothing of theirs.
fn erased(mut event: Event, user: &UserId) -> Option<Event> {
    if event.sender != *user {
        return None;
    }
    match &mut event.body {
        body @ EventBody::Message { .. } => *body = EventBody::Tombstone,
        EventBody::Edited { body, .. } => drop(body.take()?),
        EventBody::Reacted { emoji, .. } if !emoji.is_empty() => emoji.clear(),
        EventBody::Redacted { reason, .. } | EventBody::Member { reason, .. } => {
            drop(reason.take()?);
        }
        EventBody::Tombstone
        | EventBody::Erased { .. }
        | EventBody::Reacted { .. }
        | EventBody::Room { .. } => return None,
    }
    Some(event)
}

/// Bans or mutes of a room for which this user gave a reason.
fn with_reasons<'a>(all: &'a ByUser<Ban>, user: &'a UserId) -> impl Iterator<Item = Ban> + 'a {
    let theirs = all
        .values()
        .filter(|ban| ban.by == *user && ban.reason.is_some());
    theirs.map(|ban| Ban {
        reason: None,
        ..ban.clone()
    })
}

fn gave_reasons(room: &RoomRef, user: &UserId) -> bool {
    let state = room.0.state.read();
    let mut bans = with_reasons(&state.bans, user);
    bans.next().is_some() || with_reasons(&state.mutes, user).next().is_some()
}

/// Bans and mutes stay; what this user wrote about them does not.
fn forget_reasons(
    tx: &WriteTransaction,
    room: &mut Staged,
    user: &UserId,
) -> Result<(), StoreError> {
    let number = room.cell.number;
    let cell = room.cell.clone();
    let state = cell.state.read();
    for ban in with_reasons(&state.bans, user) {
        let whom = ban.user_id;
        if !room.bans.contains_key(&whom) {
            room_ops::write_ban(tx, number, &whom, Some(&ban))?;
            room.bans.insert(whom, Some(ban));
        }
    }
    for mute in with_reasons(&state.mutes, user) {
        let whom = mute.user_id;
        if !room.mutes.contains_key(&whom) {
            room_ops::write_mute(tx, number, &whom, Some(&mute))?;
            room.mutes.insert(whom, Some(mute));
        }
    }
    Ok(())
}

fn contains(frame: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(frame, text).is_some()
}
