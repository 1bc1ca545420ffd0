//! Erasing what somebody has said: every message, every text of an edit, every reaction, and every reason that they gave.
//!
//! What is left of each is what a redaction leaves, at its number, so that a room's numbers go on without a hole. It is a
//! job that stands in the file from the moment it is asked for until it is done, and is carried out in steps, each a
//! small commit among everybody's. A step rewrites what it finds, says so to the room by an event of its own, and moves
//! the job's place, all at once: a job that was cut off anywhere goes on there, and nothing is done or told twice.
//!
//! A room that was there when it was asked for is gone through up to where it stood when the job came to it. What is said
//! later stays.

mod change;
mod walk;

use std::time::Duration;

use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{RoomId, Seq, SessionId, Timestamp, UserId};

use crate::accounts::{self, AuditAction, AuditEntry, AuditOutcome};
use crate::room::RoomRecord;
use crate::{Store, StoreError, record, room_ops, tables};

pub use walk::EraseWalk;

/// Jobs that wait or are under way at most: each goes through the whole log.
pub const MOST_ERASURES: usize = 32;
/// Somebody who asks for themselves asks again only so much later: each job goes through the whole log.
const OWN_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Jobs that are remembered when they are done.
const REMEMBERED: usize = 200;

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
    /// Somebody who asks for themselves has asked already.
    UnderWay,
    /// Somebody who asks for themselves has asked a short while ago; they may again after this long.
    TooSoon(Duration),
    /// [`MOST_ERASURES`] are under way; of those that people ask for themselves half as many.
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
    /// Rooms from this number on were made later.
    rooms_before: u64,
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
    fn is_of_oneself(&self) -> bool {
        self.by.actor == Some(self.user)
    }

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
}

fn ask(
    tx: &WriteTransaction,
    now: Timestamp,
    new: NewErasure,
) -> Result<Result<Erasure, EraseRefused>, StoreError> {
    let mut table = tx.open_table(tables::ERASURES)?;
    let own = new.by.actor == Some(new.user);
    let (mut rows, mut of_oneself) = (Vec::new(), 0);
    let mut pause = None;
    for entry in table.iter()? {
        let (id, row) = entry?;
        let row: ErasureRow = record::decode(row.value())?;
        rows.push((id.value(), row.finished_at.is_some()));
        of_oneself += usize::from(row.finished_at.is_none() && row.is_of_oneself());
        if own && row.is_of_oneself() && row.user == new.user {
            if row.finished_at.is_none() {
                return Ok(Err(EraseRefused::UnderWay));
            }
            // By a clock that was set back it was asked for later than now: nobody waits for that.
            let left = OWN_PAUSE.saturating_sub(now.since(row.requested_at));
            pause = (row.requested_at <= now && !left.is_zero()).then_some(left);
        }
    }
    if let Some(left) = pause {
        return Ok(Err(EraseRefused::TooSoon(left)));
    }
    let under_way = rows.iter().filter(|(_, done)| !done).count();
    if under_way >= MOST_ERASURES || (own && of_oneself >= MOST_ERASURES / 2) {
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
        rooms_before: room_ops::next_number(tx)?,
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

/// The oldest job that is not done, of those behind `failed` first.
fn next_job(
    tx: &ReadTransaction,
    failed: Option<u64>,
) -> Result<Option<(u64, ErasureRow)>, StoreError> {
    let mut oldest = None;
    for entry in tx.open_table(tables::ERASURES)?.iter()? {
        let (id, row) = entry?;
        let row: ErasureRow = record::decode(row.value())?;
        if row.finished_at.is_some() {
            continue;
        }
        if failed.is_none_or(|failed| id.value() > failed) {
            return Ok(Some((id.value(), row)));
        }
        oldest.get_or_insert((id.value(), row));
    }
    Ok(oldest)
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
