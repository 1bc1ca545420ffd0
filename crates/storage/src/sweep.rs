//! What is removed later, in small steps that never hold up a commit: expired idempotency keys and the rows of
//! deleted rooms.

use redb::{ReadableTable, WriteTransaction};

use crate::keys::KeyCursor;
use crate::{Store, StoreError, tables};

/// Rows that one step looks at or removes at most.
const STEP: usize = 1000;

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Keys removed.
    pub keys: usize,
    /// Rows of deleted rooms removed.
    pub rows: usize,
    /// Whether there is more to do now.
    pub more: bool,
}

/// Where the walk over the keys goes on.
#[derive(Debug, Clone, Default)]
pub struct SweepCursor(Option<KeyCursor>);

impl Store {
    /// One step of sweeping. Call it again at once while [`Swept::more`] says so, and every few minutes otherwise.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn sweep(&self, cursor: &mut SweepCursor) -> Result<Swept, StoreError> {
        let from = cursor.0.take();
        let (swept, next) = self
            .write_batch(move |batch| {
                let (rows, more) = sweep_deleted_rooms(batch.tx)?;
                let now = batch.now;
                let (keys, next) = batch.keys()?.expire(now, from, STEP)?;
                let swept = Swept {
                    keys,
                    rows,
                    more: more || next.is_some(),
                };
                Ok((swept, next))
            })
            .await?;
        cursor.0 = next;
        Ok(swept)
    }
}

/// How many rows were removed, and whether rooms are left.
fn sweep_deleted_rooms(tx: &WriteTransaction) -> Result<(usize, bool), StoreError> {
    let mut deleted = tx.open_table(tables::DELETED_ROOMS)?;
    let (mut removed, mut looks) = (0, STEP);
    loop {
        let first = deleted.first()?.map(|(number, _)| number.value());
        let Some(number) = first else {
            return Ok((removed, false));
        };
        if looks == 0 {
            return Ok((removed, true));
        }
        let of_room = sweep_room(tx, number, looks)?;
        removed += of_room;
        looks -= of_room;
        if looks > 0 {
            // That a room has nothing more is a look as well.
            looks -= 1;
            deleted.remove(number)?;
        }
    }
}

/// Removes at most so many rows of a room. When it were fewer there are none left.
fn sweep_room(tx: &WriteTransaction, number: u64, limit: usize) -> Result<usize, StoreError> {
    let mut removed = 0;
    removed += remove_some(
        &mut tx.open_table(tables::ROOM_BLOCKS)?,
        |table, limit| {
            let range = table.range((number, 0)..=(number, u64::MAX))?;
            range
                .take(limit)
                .map(|entry| Ok(entry?.0.value()))
                .collect()
        },
        |table, key| Ok(table.remove(key)?.is_some()),
        limit,
    )?;
    removed += remove_some(
        &mut tx.open_table(tables::EDITS)?,
        |table, limit| {
            let range = table.range((number, 0, 0)..=(number, u64::MAX, u64::MAX))?;
            range
                .take(limit)
                .map(|entry| Ok(entry?.0.value()))
                .collect()
        },
        |table, key| Ok(table.remove(key)?.is_some()),
        limit - removed,
    )?;
    removed += remove_some(
        &mut tx.open_table(tables::MEMBERS)?,
        |table, limit| {
            let range = table.range((number, "")..(number + 1, ""))?;
            range
                .take(limit)
                .map(|entry| Ok(entry?.0.value().1.to_owned()))
                .collect()
        },
        |table, user: String| {
            tx.open_table(tables::USER_ROOMS)?
                .remove((user.as_str(), number))?;
            Ok(table.remove((number, user.as_str()))?.is_some())
        },
        limit - removed,
    )?;
    removed += remove_some(
        &mut tx.open_table(tables::BANS)?,
        |table, limit| {
            let range = table.range((number, "")..(number + 1, ""))?;
            range
                .take(limit)
                .map(|entry| Ok(entry?.0.value().1.to_owned()))
                .collect()
        },
        |table, user: String| Ok(table.remove((number, user.as_str()))?.is_some()),
        limit - removed,
    )?;
    removed += remove_some(
        &mut tx.open_table(tables::MUTES)?,
        |table, limit| {
            let range = table.range((number, "")..(number + 1, ""))?;
            range
                .take(limit)
                .map(|entry| Ok(entry?.0.value().1.to_owned()))
                .collect()
        },
        |table, user: String| Ok(table.remove((number, user.as_str()))?.is_some()),
        limit - removed,
    )?;
    Ok(removed)
}

fn remove_some<T, K>(
    table: &mut T,
    find: impl FnOnce(&T, usize) -> Result<Vec<K>, StoreError>,
    mut remove: impl FnMut(&mut T, K) -> Result<bool, StoreError>,
    limit: usize,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for key in find(table, limit)? {
        removed += usize::from(remove(table, key)?);
    }
    Ok(removed)
}
