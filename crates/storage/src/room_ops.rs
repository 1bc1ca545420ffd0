//! Rooms, members, bans and read cursors: creating, loading and listing them, and how their rows are written.

use std::collections::HashMap;
use std::ops::Bound;

use parking_lot::RwLock;
use redb::{ReadTransaction, ReadableTable, WriteTransaction};
use stack_types::{
    Event, EventBody, RoomAction, RoomId, RoomRole, RoomSettings, Seq, Timestamp, UserId,
};

use crate::room::{Ban, ByUser, Membership, RoomCell, RoomRecord, RoomRef, RoomState};
use crate::tail::Tail;
use crate::writer::{Batch, Staged};
use crate::{Store, StoreError, log, record, tables};

const NEXT_ROOM: &str = "next_room";

/// A room to be made.
#[derive(Debug, Clone)]
pub struct CreateRoom {
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// Who makes it, and owns it then.
    pub owner: UserId,
}

/// What there is to know of a room without being in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomFacts {
    /// Its slug.
    pub id: RoomId,
    /// Its title.
    pub title: String,
    /// Its settings.
    pub settings: RoomSettings,
    /// The first event that is still there.
    pub first: Seq,
    /// The last event.
    pub head: Seq,
    /// How many are in it.
    pub members: usize,
    /// When it was made.
    pub created_at: Timestamp,
}

impl RoomFacts {
    /// The facts of a room that is there; `None` for one that was deleted or is not yet.
    fn of(cell: &RoomCell) -> Option<Self> {
        let state = cell.state.read();
        let RoomRecord {
            title,
            settings,
            created_at,
            first,
            deleted,
            ..
        } = &state.record;
        (state.born && !deleted).then(|| Self {
            id: cell.id.clone(),
            title: title.clone(),
            settings: *settings,
            first: *first,
            head: state.head,
            members: state.members.len(),
            created_at: *created_at,
        })
    }
}

/// How much there is in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Accounts.
    pub users: u64,
    /// Rooms.
    pub rooms: u64,
}

impl Store {
    /// Counts what there is. It looks at every room.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.read_blocking(|tx| {
            let mut rooms = 0;
            for entry in tx.open_table(tables::ROOMS)?.iter()? {
                let room: RoomRecord = record::decode(entry?.1.value())?;
                rooms += u64::from(!room.deleted);
            }
            let users = crate::accounts::count_users(tx)?;
            Ok(Counts { users, rooms })
        })
        .await
    }

    /// The rooms behind this one in the order of their slugs, at most `limit` and at least one if there is one. Those
    /// that nobody uses are not kept in memory for it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list_rooms(
        &self,
        after: Option<RoomId>,
        limit: usize,
    ) -> Result<Vec<RoomFacts>, StoreError> {
        let inner = self.inner.clone();
        self.read_blocking(move |tx| {
            let names = tx.open_table(tables::ROOM_NAMES)?;
            let after = after.as_ref().map_or("", RoomId::as_str);
            let mut rooms = Vec::new();
            for entry in names.range::<&str>((Bound::Excluded(after), Bound::Unbounded))? {
                let id = entry?.0.value().parse().map_err(StoreError::damaged)?;
                // In memory a room is newer than in the snapshot; one that is not there has not changed since.
                let facts = match inner.cell(&id) {
                    Some(cell) => RoomFacts::of(&cell),
                    None => load(tx, &id)?.and_then(|cell| RoomFacts::of(&cell)),
                };
                rooms.extend(facts);
                if rooms.len() >= limit {
                    break;
                }
            }
            Ok(rooms)
        })
        .await
    }

    /// Makes a room, with its first event. `None` when the slug is taken, also by a room that was deleted.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn create_room(&self, room: CreateRoom) -> Result<Option<RoomRef>, StoreError> {
        let id = room.id.clone();
        let created = self.write_batch(move |batch| create(batch, room)).await?;
        if created { self.room(&id) } else { Ok(None) }
    }

    /// The rooms that somebody is a member of.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn rooms_of(&self, user: UserId) -> Result<Vec<RoomRef>, StoreError> {
        let ids = self
            .read_blocking(move |tx| {
                let rooms = tx.open_table(tables::ROOMS)?;
                let mine = tx.open_table(tables::USER_ROOMS)?;
                let user = user.as_str();
                let range = mine.range((user, 0)..=(user, u64::MAX))?;
                range
                    .map(|entry| room_id(&rooms, entry?.0.value().1))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        self.resolve(ids)
    }

    /// The rooms that everybody signed in may see.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn public_rooms(&self) -> Result<Vec<RoomRef>, StoreError> {
        let ids = self
            .read_blocking(|tx| {
                let rooms = tx.open_table(tables::ROOMS)?;
                let public = tx.open_table(tables::PUBLIC_ROOMS)?;
                let range = public.iter()?;
                range
                    .map(|entry| room_id(&rooms, entry?.0.value()))
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        self.resolve(ids)
    }

    /// How far somebody has read, by room; a room that was never read is absent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn read_cursors(&self, user: UserId) -> Result<HashMap<RoomId, Seq>, StoreError> {
        self.read_blocking(move |tx| {
            let rooms = tx.open_table(tables::ROOMS)?;
            let cursors = tx.open_table(tables::READ_CURSORS)?;
            let user = user.as_str();
            let mut read = HashMap::new();
            for entry in cursors.range((user, 0)..=(user, u64::MAX))? {
                let (key, seq) = entry?;
                if let Some(id) = room_id(&rooms, key.value().1)? {
                    read.insert(id, Seq(seq.value()));
                }
            }
            Ok(read)
        })
        .await
    }

    /// How far somebody has read in one room; zero before any reading.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read_cursor(&self, user: &UserId, room: &RoomRef) -> Result<Seq, StoreError> {
        self.read(|tx| {
            let cursors = tx.open_table(tables::READ_CURSORS)?;
            let row = cursors.get((user.as_str(), room.0.number))?;
            Ok(row.map_or(Seq::ZERO, |row| Seq(row.value())))
        })
    }

    /// How far each of these has read in one room; who has read nothing is absent.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn read_by(
        &self,
        room: &RoomRef,
        users: Vec<UserId>,
    ) -> Result<HashMap<UserId, Seq>, StoreError> {
        let number = room.0.number;
        self.read_blocking(move |tx| {
            let cursors = tx.open_table(tables::READ_CURSORS)?;
            let mut read = HashMap::new();
            for user in users {
                if let Some(row) = cursors.get((user.as_str(), number))? {
                    read.insert(user, Seq(row.value()));
                }
            }
            Ok(read)
        })
        .await
    }

    /// Moves somebody's read cursor forward and gives where it stands; it never goes back.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn set_read(
        &self,
        user: UserId,
        room: &RoomRef,
        seq: Seq,
    ) -> Result<Seq, StoreError> {
        let number = room.0.number;
        self.write(move |tx, _| {
            let mut cursors = tx.open_table(tables::READ_CURSORS)?;
            let key = (user.as_str(), number);
            let before = cursors.get(key)?.map_or(0, |row| row.value());
            if seq.0 > before {
                cursors.insert(key, seq.0)?;
            }
            Ok(Seq(seq.0.max(before)))
        })
        .await
    }

    fn resolve(&self, ids: Vec<Option<RoomId>>) -> Result<Vec<RoomRef>, StoreError> {
        let mut rooms = Vec::with_capacity(ids.len());
        for id in ids.into_iter().flatten() {
            rooms.extend(self.room(&id)?);
        }
        Ok(rooms)
    }
}

/// A number that no room has had.
pub(crate) fn take_number(tx: &WriteTransaction) -> Result<u64, StoreError> {
    let mut meta = tx.open_table(tables::META)?;
    let number = meta.get(NEXT_ROOM)?.map_or(1, |row| row.value());
    meta.insert(NEXT_ROOM, number + 1)?;
    Ok(number)
}

/// The number that the next room will have.
pub(crate) fn next_number(tx: &WriteTransaction) -> Result<u64, StoreError> {
    let meta = tx.open_table(tables::META)?;
    Ok(meta.get(NEXT_ROOM)?.map_or(1, |row| row.value()))
}

fn create(batch: &mut Batch<'_>, room: CreateRoom) -> Result<bool, StoreError> {
    let number = {
        let mut names = batch.tx.open_table(tables::ROOM_NAMES)?;
        if names.get(room.id.as_str())?.is_some() {
            return Ok(false);
        }
        let number = take_number(batch.tx)?;
        names.insert(room.id.as_str(), number)?;
        number
    };
    let membership = Membership {
        role: RoomRole::Owner,
        joined_at: batch.now,
        joined_seq: Seq::ZERO,
    };
    let record = RoomRecord {
        id: room.id.clone(),
        title: room.title.clone(),
        settings: room.settings,
        created_at: batch.now,
        first: Seq::FIRST,
        deleted: false,
        last_ts: Timestamp(0),
    };
    write_record(batch.tx, number, &record)?;
    write_member(batch.tx, number, &room.owner, Some(&membership))?;
    let cell = std::sync::Arc::new(RoomCell {
        number,
        id: room.id.clone(),
        state: RwLock::new(RoomState {
            record,
            born: false,
            head: Seq::ZERO,
            last_ts: Timestamp(0),
            folded: Seq::ZERO,
            tail: Tail::default(),
            open_block: None,
            members: ByUser::from_iter([(room.owner, membership)]),
            bans: ByUser::default(),
            mutes: ByUser::default(),
        }),
    });
    batch.inner.remember(cell.clone());
    let mut staged = Box::new(Staged::of(cell));
    let created = Event {
        room: room.id,
        seq: Seq::FIRST,
        ts: batch.now,
        sender: room.owner,
        body: EventBody::Room {
            action: RoomAction::Created,
            title: room.title,
            settings: room.settings,
        },
    };
    batch.append(&mut staged, &created);
    batch.stage(staged);
    Ok(true)
}

/// Writes a room's record and keeps the lists of public and deleted rooms in step with it.
pub(crate) fn write_record(
    tx: &WriteTransaction,
    number: u64,
    room: &RoomRecord,
) -> Result<(), StoreError> {
    tx.open_table(tables::ROOMS)?
        .insert(number, record::encode(room)?.as_slice())?;
    let mut public = tx.open_table(tables::PUBLIC_ROOMS)?;
    if room.settings.public && !room.deleted {
        public.insert(number, ())?;
    } else {
        public.remove(number)?;
    }
    if room.deleted {
        tx.open_table(tables::DELETED_ROOMS)?.insert(number, ())?;
    }
    Ok(())
}

/// Writes or removes a membership, in both directions.
pub(crate) fn write_member(
    tx: &WriteTransaction,
    number: u64,
    user: &UserId,
    membership: Option<&Membership>,
) -> Result<(), StoreError> {
    let mut members = tx.open_table(tables::MEMBERS)?;
    let mut rooms = tx.open_table(tables::USER_ROOMS)?;
    match membership {
        Some(membership) => {
            members.insert(
                (number, user.as_str()),
                record::encode(membership)?.as_slice(),
            )?;
            rooms.insert((user.as_str(), number), ())?;
        }
        None => {
            members.remove((number, user.as_str()))?;
            rooms.remove((user.as_str(), number))?;
        }
    }
    Ok(())
}

/// Writes or removes a ban.
pub(crate) fn write_ban(
    tx: &WriteTransaction,
    number: u64,
    user: &UserId,
    ban: Option<&Ban>,
) -> Result<(), StoreError> {
    let mut bans = tx.open_table(tables::BANS)?;
    match ban {
        Some(ban) => bans.insert((number, user.as_str()), record::encode(ban)?.as_slice())?,
        None => bans.remove((number, user.as_str()))?,
    };
    Ok(())
}

/// Writes or removes a mute.
pub(crate) fn write_mute(
    tx: &WriteTransaction,
    number: u64,
    user: &UserId,
    mute: Option<&Ban>,
) -> Result<(), StoreError> {
    let mut mutes = tx.open_table(tables::MUTES)?;
    match mute {
        Some(mute) => mutes.insert((number, user.as_str()), record::encode(mute)?.as_slice())?,
        None => mutes.remove((number, user.as_str()))?,
    };
    Ok(())
}

/// Reads a room with its members and bans from a snapshot.
pub(crate) fn load(tx: &ReadTransaction, id: &RoomId) -> Result<Option<RoomCell>, StoreError> {
    let Some(number) = tx
        .open_table(tables::ROOM_NAMES)?
        .get(id.as_str())?
        .map(|row| row.value())
    else {
        return Ok(None);
    };
    let rooms = tx.open_table(tables::ROOMS)?;
    let row = rooms.get(number)?;
    let row = row.ok_or_else(|| StoreError::damaged("a room's record is missing"))?;
    let record: RoomRecord = record::decode(row.value())?;

    let mut members = ByUser::default();
    let mut bans = ByUser::default();
    let mut mutes = ByUser::default();
    if !record.deleted {
        for entry in tx
            .open_table(tables::MEMBERS)?
            .range((number, "")..(number + 1, ""))?
        {
            let (key, row) = entry?;
            members.insert(user_id(key.value().1)?, record::decode(row.value())?);
        }
        for entry in tx
            .open_table(tables::BANS)?
            .range((number, "")..(number + 1, ""))?
        {
            let (key, row) = entry?;
            bans.insert(user_id(key.value().1)?, record::decode(row.value())?);
        }
        for entry in tx
            .open_table(tables::MUTES)?
            .range((number, "")..(number + 1, ""))?
        {
            let (key, row) = entry?;
            mutes.insert(user_id(key.value().1)?, record::decode(row.value())?);
        }
    }
    let end = log::end_of_blocks(&tx.open_table(tables::ROOM_BLOCKS)?, number)?;
    // What is no longer kept may be gone from the blocks, also their end.
    let (kept_from, last_ts) = (record.first, record.last_ts);
    let end = end.filter(|end| end.last.next() >= kept_from);
    let (head, last_ts) = match &end {
        Some(end) => (end.last, end.last_ts.max(last_ts)),
        None => (kept_from.prev(), last_ts),
    };
    Ok(Some(RoomCell {
        number,
        id: id.clone(),
        state: RwLock::new(RoomState {
            record,
            born: true,
            head,
            last_ts,
            folded: head,
            tail: Tail::default(),
            open_block: end.and_then(|end| end.open_block),
            members,
            bans,
            mutes,
        }),
    }))
}

fn user_id(text: &str) -> Result<UserId, StoreError> {
    text.parse().map_err(StoreError::damaged)
}

/// The slug of a room; `None` when the room is deleted and swept.
pub(crate) fn room_id(
    rooms: &impl ReadableTable<u64, &'static [u8]>,
    number: u64,
) -> Result<Option<RoomId>, StoreError> {
    let row = rooms.get(number)?;
    row.map(|row| Ok(record::decode::<RoomRecord>(row.value())?.id))
        .transpose()
}
