//! The tables of rooms and their logs. Accounts declare theirs beside their code.
//!
//! A room has a number of its own, so that no hot key holds a string of the room and a deleted room's rows are
//! never taken for another's. Users stand in keys as their id's text.

use redb::{Key, TableDefinition, Value, WriteTransaction};

use crate::StoreError;

/// What the file says of itself: `schema` and `next_room`.
pub(crate) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Slug → room number. A deleted room keeps its slug: a cursor of the old room must not be taken for the new one's.
pub(crate) const ROOM_NAMES: TableDefinition<&str, u64> = TableDefinition::new("room_names");
/// Room number → [`crate::room::RoomRecord`].
pub(crate) const ROOMS: TableDefinition<u64, &[u8]> = TableDefinition::new("rooms");
/// The numbers of public rooms.
pub(crate) const PUBLIC_ROOMS: TableDefinition<u64, ()> = TableDefinition::new("public_rooms");
/// The numbers of deleted rooms whose rows the sweeper still has to remove.
pub(crate) const DELETED_ROOMS: TableDefinition<u64, ()> = TableDefinition::new("deleted_rooms");
/// The numbers of rooms that are being imported: rows without a name and a record, until the import is complete.
pub(crate) const IMPORTS: TableDefinition<u64, ()> = TableDefinition::new("imports");
/// (room, user) → [`crate::Membership`].
pub(crate) const MEMBERS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("members");
/// (user, room): the rooms of a user.
pub(crate) const USER_ROOMS: TableDefinition<(&str, u64), ()> = TableDefinition::new("user_rooms");
/// (room, user) → [`crate::Ban`].
pub(crate) const BANS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("bans");
/// (room, user) → [`crate::Ban`], as a mute.
pub(crate) const MUTES: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("mutes");
/// (user, room) → the last `seq` the user has read.
pub(crate) const READ_CURSORS: TableDefinition<(&str, u64), u64> =
    TableDefinition::new("read_cursors");
/// Commit number → what the commit added, as [`crate::commit_row`] lays it out.
pub(crate) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// (room, first seq) → a block of consecutive events, as [`crate::block`] lays it out.
pub(crate) const ROOM_BLOCKS: TableDefinition<(u64, u64), &[u8]> =
    TableDefinition::new("room_blocks");
/// (room, edited seq, seq of the edit): which edits a redaction has to strip.
pub(crate) const EDITS: TableDefinition<(u64, u64, u64), ()> = TableDefinition::new("edits");
/// Room, sender and idempotency key, as [`crate::keys`] lays them out → (seq, time).
pub(crate) const KEYS: TableDefinition<&[u8], (u64, u64)> = TableDefinition::new("message_keys");

/// Number in the order of asking → [`crate::erasure`]'s job.
pub(crate) const ERASURES: TableDefinition<u64, &[u8]> = TableDefinition::new("erasures");

/// User → when they were last seen.
pub(crate) const PRESENCE: TableDefinition<&str, u64> = TableDefinition::new("presence");

/// Something that is done with every table.
pub(crate) trait EachTable {
    /// Does it with one.
    fn table<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'static, K, V>,
    ) -> Result<(), StoreError>;
}

/// Does something with every table of the file.
pub(crate) fn each(act: &mut impl EachTable) -> Result<(), StoreError> {
    act.table(META)?;
    act.table(ROOM_NAMES)?;
    act.table(ROOMS)?;
    act.table(PUBLIC_ROOMS)?;
    act.table(DELETED_ROOMS)?;
    act.table(IMPORTS)?;
    act.table(MEMBERS)?;
    act.table(USER_ROOMS)?;
    act.table(BANS)?;
    act.table(MUTES)?;
    act.table(READ_CURSORS)?;
    act.table(LOG)?;
    act.table(ROOM_BLOCKS)?;
    act.table(EDITS)?;
    act.table(KEYS)?;
    act.table(ERASURES)?;
    act.table(PRESENCE)?;
    crate::accounts::each_table(act)
}

/// Opens every table once, so that a reader never meets one that is missing.
pub(crate) fn create_all(tx: &WriteTransaction) -> Result<(), StoreError> {
    struct Create<'a>(&'a WriteTransaction);

    impl EachTable for Create<'_> {
        fn table<K: Key + 'static, V: Value + 'static>(
            &mut self,
            table: TableDefinition<'static, K, V>,
        ) -> Result<(), StoreError> {
            self.0.open_table(table)?;
            Ok(())
        }
    }

    each(&mut Create(tx))
}
