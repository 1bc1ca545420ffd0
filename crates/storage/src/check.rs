//! Looking a file over that no gateway has open: whether the engine finds it sound, whether its records can be read,
//! and whether every room's log is there without a hole. The file is not changed.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError,
};
use stack_types::{EventCodec, RoomId, Seq, Timestamp};
use thiserror::Error;

use crate::accounts::{self, AccountCounts};
use crate::block::RunRef;
use crate::overlay::Overlay;
use crate::room::RoomRecord;
use crate::{OpenError, StoreError, commit_row, record, schema, tables};

/// Memory for the file's pages while it is looked at.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// Why a file is not one that a gateway could go on with.
#[derive(Debug, Error)]
pub enum CheckError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[from] io::Error),
    /// It belongs to a gateway that runs.
    #[error("the file is in use by another process")]
    InUse,
    /// It is no database, or its pages are not what was written.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// A record or a room's log is not what it should be.
    #[error("the file is damaged")]
    Content(#[from] StoreError),
    /// A newer version wrote it, or its schema cannot be brought to today's.
    #[error(transparent)]
    Schema(#[from] OpenError),
}

/// What a sound file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// How large it is.
    pub bytes: u64,
    /// Its schema.
    pub schema: u32,
    /// The newest schema, to which opening it brings it.
    pub newest_schema: u32,
    /// Its rooms, in the order of their ids; deleted ones are not among them.
    pub rooms: Vec<CheckedRoom>,
    /// What there is of accounts.
    pub accounts: AccountCounts,
}

impl Checked {
    /// Events of all rooms.
    #[must_use]
    pub fn events(&self) -> u64 {
        let of_room = |room: &CheckedRoom| (room.head.0 + 1).saturating_sub(room.first.0);
        self.rooms.iter().map(of_room).sum()
    }
}

/// A room whose log is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedRoom {
    /// Its slug.
    pub id: RoomId,
    /// The first event that is still there.
    pub first: Seq,
    /// The last event. Every one between is there.
    pub head: Seq,
}

/// Hears how far the look has got: rows of logs that were read, and how many there are.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// Looks a file over. An older schema is brought to today's in memory.
///
/// # Errors
/// See [`CheckError`].
pub fn check(
    path: &Path,
    codec: &dyn EventCodec,
    progress: OnProgress<'_>,
) -> Result<Checked, CheckError> {
    check_file(File::open(path)?, codec, progress)
}

/// [`check`], of a file that is open already.
///
/// # Errors
/// See [`CheckError`].
pub fn check_file(
    file: File,
    codec: &dyn EventCodec,
    progress: OnProgress<'_>,
) -> Result<Checked, CheckError> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(CheckError::Damaged("it is no regular file".to_owned()));
    }
    if metadata.len() == 0 {
        // The engine would take it for a new database.
        return Err(CheckError::Damaged("it is empty".to_owned()));
    }
    // The engine trusts what its pages say of each other, and panics over some that are not what it wrote. All that it
    // holds is gone with it, and the file is as it was.
    let looked = catch_unwind(AssertUnwindSafe(|| look(file, codec, progress)));
    let (schema, rooms, accounts) = looked.unwrap_or_else(|_| {
        let reason = "its pages make no sense";
        Err(CheckError::Damaged(reason.to_owned()))
    })?;
    Ok(Checked {
        bytes: metadata.len(),
        schema: schema.schema,
        newest_schema: schema.newest,
        rooms,
        accounts,
    })
}

fn look(
    file: File,
    codec: &dyn EventCodec,
    progress: OnProgress<'_>,
) -> Result<(schema::Found, Vec<CheckedRoom>, AccountCounts), CheckError> {
    let mut database = open(file)?;
    let is_sound = database.check_integrity().map_err(of_engine)?;
    if !is_sound {
        let reason = "its pages do not add up";
        return Err(CheckError::Damaged(reason.to_owned()));
    }
    let before = schema::found(&database)?;
    if before.schema != before.newest {
        schema::prepare(&database, schema::MIGRATIONS)?;
    }
    let tx = database.begin_read().map_err(StoreError::from)?;
    Ok((before, rooms(&tx, codec, progress)?, accounts::count(&tx)?))
}

fn open(file: File) -> Result<Database, CheckError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
        .create_with_backend(Overlay::new(file)?)
        .map_err(of_engine)
}

fn of_engine(error: DatabaseError) -> CheckError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => CheckError::InUse,
        // Cut short, it ends before what it says that it holds.
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() != io::ErrorKind::UnexpectedEof =>
        {
            match error.kind() {
                io::ErrorKind::InvalidData => {
                    CheckError::Damaged("it is no database of a gateway".to_owned())
                }
                _ => CheckError::Read(error),
            }
        }
        error => CheckError::Damaged(error.to_string()),
    }
}

/// A room's log, as far as it was read.
struct Log {
    record: RoomRecord,
    /// The event that comes next.
    next: Option<Seq>,
    last_ts: Timestamp,
}

impl Log {
    /// Reads a run on, which may begin with what was read before.
    fn take(
        &mut self,
        first: Seq,
        run: RunRef<'_>,
        codec: &dyn EventCodec,
    ) -> Result<(), StoreError> {
        let id = &self.record.id;
        let expected = self.next.unwrap_or(self.record.first);
        if first > expected {
            return Err(StoreError::damaged(format!(
                "room {id}: the events from {expected} to {} are missing",
                first.prev()
            )));
        }
        let frames = run.to_run()?.frames;
        for (index, json) in frames.iter().enumerate() {
            let seq = Seq(first.0 + index as u64);
            let event = codec.decode(&json)?;
            if event.room != *id || event.seq != seq || run.time(index) != Some(event.ts) {
                return Err(StoreError::damaged(format!(
                    "room {id}: in the place of event {seq} stands another"
                )));
            }
            if self.next.is_none_or(|next| seq >= next) {
                if event.ts < self.last_ts {
                    let reason = format!("room {id}: event {seq} is older than the one before it");
                    return Err(StoreError::damaged(reason));
                }
                self.last_ts = event.ts;
                self.next = Some(seq.next());
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<CheckedRoom, StoreError> {
        let RoomRecord {
            id, first, last_ts, ..
        } = self.record;
        match self.next {
            // All that it had was too old or too much, and its numbers go on.
            None if first > Seq(1) && last_ts > Timestamp(0) => Ok(CheckedRoom {
                id,
                first,
                head: first.prev(),
            }),
            Some(next) if next > first => Ok(CheckedRoom {
                id,
                first,
                head: next.prev(),
            }),
            _ => Err(StoreError::damaged(format!("room {id}: it has no events"))),
        }
    }
}

fn rooms(
    tx: &ReadTransaction,
    codec: &dyn EventCodec,
    progress: OnProgress<'_>,
) -> Result<Vec<CheckedRoom>, StoreError> {
    let mut logs = HashMap::new();
    for entry in tx.open_table(tables::ROOMS)?.iter()? {
        let (number, row) = entry?;
        let record: RoomRecord = record::decode(row.value())?;
        if !record.deleted {
            let log = Log {
                record,
                next: None,
                last_ts: Timestamp::default(),
            };
            logs.insert(number.value(), log);
        }
    }
    for entry in tx.open_table(tables::ROOM_NAMES)?.iter()? {
        let (name, number) = entry?;
        let is_other = |log: &Log| log.record.id.as_str() != name.value();
        if logs.get(&number.value()).is_some_and(is_other) {
            let reason = format!("room {}: its name leads to another", name.value());
            return Err(StoreError::damaged(reason));
        }
    }
    let blocks = tx.open_table(tables::ROOM_BLOCKS)?;
    let commits = tx.open_table(tables::LOG)?;
    let all = blocks.len()? + commits.len()?;
    let mut seen = 0;
    for entry in blocks.iter()? {
        let (key, row) = entry?;
        let (number, first) = key.value();
        if let Some(log) = logs.get_mut(&number) {
            log.take(Seq(first), RunRef::of(row.value())?, codec)?;
        }
        seen += 1;
        progress(seen, all);
    }
    for entry in commits.iter()? {
        let (_, row) = entry?;
        for section in commit_row::sections(row.value()) {
            let section = section?;
            if let Some(log) = logs.get_mut(&section.room) {
                log.take(section.first, section.run, codec)?;
            }
        }
        seen += 1;
        progress(seen, all);
    }
    let rooms = logs.into_values().map(Log::finish);
    let mut rooms: Vec<_> = rooms.collect::<Result<_, _>>()?;
    rooms.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(rooms)
}
