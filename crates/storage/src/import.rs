//! Bringing rooms in from elsewhere, with the numbers, times and senders that their events have.
//!
//! The events go straight into blocks, a piece with each commit, under a room number that no name leads to. Nobody sees
//! them, and nothing else is written, until one commit gives all rooms of an import their names, records and members,
//! and makes the accounts that are missing. An import that does not come to that, be it abandoned or killed, leaves
//! rows under numbers that the sweeper takes: at once, or once the file is opened again.

use redb::{ReadableTable, WriteTransaction};
use stack_types::{Event, EventBody, FramesBuilder, RoomId, RoomSettings, Seq, Timestamp, UserId};
use thiserror::Error;

use crate::accounts::{self, AuditEntry, Placeholder};
use crate::block;
use crate::fold::{BLOCK_BYTES, BLOCK_EVENTS};
use crate::room::{Ban, Membership, RoomRecord};
use crate::writer::Batch;
use crate::{Store, StoreError, keys, room_ops, tables};

/// A room that is being brought in.
#[derive(Debug)]
pub struct ImportedRoom {
    number: u64,
    first: Seq,
    next: Seq,
    last_ts: Timestamp,
    /// Events that stand in no block yet.
    open: FramesBuilder,
    times: Vec<Timestamp>,
    /// What goes with the next piece.
    ready: Piece,
}

#[derive(Debug, Default)]
struct Piece {
    /// First event and row of each.
    blocks: Vec<(Seq, Vec<u8>)>,
    bytes: usize,
    /// The edited event and its edit.
    edits: Vec<(Seq, Seq)>,
    /// Sender, key and place of what was sent with a key.
    keys: Vec<(UserId, String, (Seq, Timestamp))>,
}

/// An event that cannot be the next of its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OutOfLine {
    /// Its number is not the next one.
    #[error("seq is {found}, and {expected} comes next")]
    Seq {
        /// Its number.
        found: Seq,
        /// The number that comes next.
        expected: Seq,
    },
    /// Its time is before that of the event in front of it.
    #[error("ts is {found}, and the event in front of it has {last}")]
    Time {
        /// Its time, in Unix milliseconds.
        found: u64,
        /// That of the event in front of it.
        last: u64,
    },
}

impl ImportedRoom {
    /// The number that comes next.
    #[must_use]
    pub fn next(&self) -> Seq {
        self.next
    }

    /// Bytes that wait for [`Store::write_import`].
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.ready.bytes
    }

    fn close_block(&mut self) {
        if self.times.is_empty() {
            return;
        }
        let frames = std::mem::take(&mut self.open).finish();
        let mut row = Vec::with_capacity(block::encoded_len(&frames));
        block::encode(&frames, &self.times, &mut row);
        let first = Seq(self.next.0 - self.times.len() as u64);
        self.times.clear();
        self.ready.bytes += row.len();
        self.ready.blocks.push((first, row));
    }
}

/// A room whose events are all written.
#[derive(Debug)]
pub struct CompleteRoom {
    /// The room.
    pub room: ImportedRoom,
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who is in it.
    pub members: Vec<(UserId, Membership)>,
    /// Who may not come in.
    pub bans: Vec<Ban>,
    /// Who may not speak.
    pub mutes: Vec<Ban>,
    /// What to put on record.
    pub audit: AuditEntry,
}

/// Why rooms did not come in. Nothing of them has then.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ImportRefused {
    /// There is such a room, or was one.
    #[error("the room id {0} is taken")]
    RoomTaken(RoomId),
    /// An id or a username has been taken meanwhile.
    #[error("an account of the name {0} has been made meanwhile")]
    UserTaken(String),
    /// What was written of a room has been given up.
    #[error("the import has ended already")]
    Over,
}

impl Store {
    /// Whether a room has this slug, or had it before it was deleted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_room_id_taken(&self, id: &RoomId) -> Result<bool, StoreError> {
        self.read(|tx| {
            Ok(tx
                .open_table(tables::ROOM_NAMES)?
                .get(id.as_str())?
                .is_some())
        })
    }

    /// Begins to bring in a room whose first event has this number. None of its events, nor of those that come when it
    /// is there, is earlier than `last_ts`.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn begin_import(
        &self,
        first: Seq,
        last_ts: Timestamp,
    ) -> Result<ImportedRoom, StoreError> {
        let number = self
            .write(|tx, _| {
                let number = room_ops::take_number(tx)?;
                tx.open_table(tables::IMPORTS)?.insert(number, ())?;
                Ok(number)
            })
            .await?;
        Ok(ImportedRoom {
            number,
            first,
            next: first,
            last_ts,
            open: FramesBuilder::default(),
            times: Vec::new(),
            ready: Piece::default(),
        })
    }

    /// Adds an event to a room that is being brought in. It stays in memory until [`Store::write_import`].
    ///
    /// # Errors
    /// [`OutOfLine`]; nothing was added.
    pub fn import_event(&self, room: &mut ImportedRoom, event: &Event) -> Result<(), OutOfLine> {
        if event.seq != room.next {
            let (found, expected) = (event.seq, room.next);
            return Err(OutOfLine::Seq { found, expected });
        }
        if event.ts < room.last_ts {
            let (found, last) = (event.ts.0, room.last_ts.0);
            return Err(OutOfLine::Time { found, last });
        }
        let mut json = Vec::new();
        self.inner.codec.encode(event, &mut json);
        let mut longer = FramesBuilder::default();
        longer.push(&json);
        let bytes = block::len(room.times.len() + 1, room.open.bytes() + longer.bytes());
        if room.times.len() == BLOCK_EVENTS || bytes > BLOCK_BYTES {
            room.close_block();
        }
        room.open.push(&json);
        room.times.push(event.ts);
        room.next = event.seq.next();
        room.last_ts = event.ts;
        match &event.body {
            EventBody::Edited { target_seq, .. } => room.ready.edits.push((*target_seq, event.seq)),
            EventBody::Message { key: Some(key), .. }
                if event.ts >= self.inner.clock.now().minus(keys::KEPT) =>
            {
                let place = (event.seq, event.ts);
                room.ready.keys.push((event.sender, key.clone(), place));
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes what has been added so far, durably. With `all` also what does not fill a block: nothing may be added
    /// behind that.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn write_import(&self, room: &mut ImportedRoom, all: bool) -> Result<(), StoreError> {
        if all {
            room.close_block();
        }
        let piece = std::mem::take(&mut room.ready);
        if piece.blocks.is_empty() && piece.edits.is_empty() && piece.keys.is_empty() {
            return Ok(());
        }
        let number = room.number;
        self.write_batch(move |batch| write_piece(batch, number, piece))
            .await
    }

    /// Makes rooms what they are, and the accounts that they need, all in one commit.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn complete_import(
        &self,
        rooms: Vec<CompleteRoom>,
        users: Vec<(Placeholder, AuditEntry)>,
    ) -> Result<Result<(), ImportRefused>, StoreError> {
        let completed = self
            .write_batch(move |batch| {
                if let Some(refused) = refusal(batch.tx, &rooms, &users)? {
                    return Ok(Err(refused));
                }
                for (user, entry) in users {
                    accounts::create_placeholder(batch.tx, batch.now, user, entry)?;
                }
                for room in rooms {
                    complete(batch, room)?;
                }
                Ok(Ok(()))
            })
            .await?;
        // What came in may be older than its room keeps.
        self.inner.retention_changed.notify_one();
        Ok(completed)
    }

    /// Gives rooms up that were not completed. Where the writer has too much to do to hear of it, or cannot write now,
    /// their rows go when the file is opened again.
    pub fn abandon_import(&self, rooms: Vec<ImportedRoom>) {
        let numbers: Vec<_> = rooms.into_iter().map(|room| room.number).collect();
        if !numbers.is_empty() {
            self.write_later(move |batch| give_up(batch.tx, numbers));
        }
    }
}

fn write_piece(batch: &mut Batch<'_>, number: u64, piece: Piece) -> Result<(), StoreError> {
    batch.weigh(piece.bytes);
    {
        let mut blocks = batch.tx.open_table(tables::ROOM_BLOCKS)?;
        for (first, row) in &piece.blocks {
            blocks.insert((number, first.0), row.as_slice())?;
        }
        let mut edits = batch.tx.open_table(tables::EDITS)?;
        for (target, edit) in piece.edits {
            edits.insert((number, target.0, edit.0), ())?;
        }
    }
    for (sender, key, (seq, ts)) in piece.keys {
        let place = (seq.0, ts.0);
        let keys = batch.keys()?;
        keys.remember(number, sender.as_str(), &key, place)?;
    }
    Ok(())
}

/// Why it cannot be done, looked at before anything is written.
fn refusal(
    tx: &WriteTransaction,
    rooms: &[CompleteRoom],
    users: &[(Placeholder, AuditEntry)],
) -> Result<Option<ImportRefused>, StoreError> {
    let names = tx.open_table(tables::ROOM_NAMES)?;
    let imports = tx.open_table(tables::IMPORTS)?;
    for room in rooms {
        if imports.get(room.room.number)?.is_none() {
            return Ok(Some(ImportRefused::Over));
        }
        if names.get(room.id.as_str())?.is_some() {
            return Ok(Some(ImportRefused::RoomTaken(room.id.clone())));
        }
    }
    for (user, _) in users {
        if !accounts::is_free(tx, user)? {
            return Ok(Some(ImportRefused::UserTaken(user.username.to_string())));
        }
    }
    Ok(None)
}

fn complete(batch: &Batch<'_>, complete: CompleteRoom) -> Result<(), StoreError> {
    let CompleteRoom {
        room,
        id,
        title,
        settings,
        created_at,
        members,
        bans,
        mutes,
        audit,
    } = complete;
    let (tx, number) = (batch.tx, room.number);
    tx.open_table(tables::IMPORTS)?.remove(number)?;
    tx.open_table(tables::ROOM_NAMES)?
        .insert(id.as_str(), number)?;
    let record = RoomRecord {
        id,
        title,
        settings,
        created_at,
        first: room.first,
        deleted: false,
        last_ts: room.last_ts,
    };
    room_ops::write_record(tx, number, &record)?;
    for (user, membership) in &members {
        room_ops::write_member(tx, number, user, Some(membership))?;
    }
    for ban in &bans {
        room_ops::write_ban(tx, number, &ban.user_id, Some(ban))?;
    }
    for mute in &mutes {
        room_ops::write_mute(tx, number, &mute.user_id, Some(mute))?;
    }
    accounts::append_audit(tx, batch.now, audit)
}

/// Leaves rows to the sweeper.
fn give_up(tx: &WriteTransaction, numbers: Vec<u64>) -> Result<(), StoreError> {
    let mut imports = tx.open_table(tables::IMPORTS)?;
    let mut deleted = tx.open_table(tables::DELETED_ROOMS)?;
    for number in numbers {
        // One that was completed meanwhile is a room.
        if imports.remove(number)?.is_some() {
            deleted.insert(number, ())?;
        }
    }
    Ok(())
}

/// No import outlives the process that it was begun in.
pub(crate) fn give_up_all(tx: &WriteTransaction) -> Result<(), StoreError> {
    let numbers = {
        let imports = tx.open_table(tables::IMPORTS)?;
        let numbers = imports.iter()?;
        numbers
            .map(|entry| Ok(entry?.0.value()))
            .collect::<Result<Vec<_>, StoreError>>()?
    };
    give_up(tx, numbers)
}
