//! What an erasure changes in a room, on the writer thread.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;

use redb::{ReadableTable, WriteTransaction};
use stack_types::{Event, EventBody, Seq, UserId};

use super::{ErasureRow, Place, change};
use crate::room::{Ban, ByUser};
use crate::writer::{Batch, Staged};
use crate::{RoomRef, StoreError, record, room_ops, tables};

/// Bytes of rows that one commit writes anew, about.
const STEP_BYTES: usize = 1024 * 1024;

#[derive(Clone, Copy)]
pub(super) struct InRoom {
    pub(super) number: u64,
    pub(super) after: Seq,
    pub(super) until: Seq,
    pub(super) changed: u64,
}

/// Events that are to be changed, and up to where everything was looked at.
pub(super) struct Found {
    pub(super) seqs: Vec<Seq>,
    pub(super) through: Seq,
}

/// One commit's part of an erasure: what was found in a room, as much as one commit should change, and the job's place.
pub(super) fn erase_found(
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
    if let Some(room) = room {
        let mut staged = batch.take_room(room);
        if !staged.is_deleted() {
            (changed, through) = erase_some(batch, &mut staged, &row.user, at, found)?;
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

/// Changes what was found, as much of it as one commit should; gives how many events it changed, and up to where.
fn erase_some(
    batch: &mut Batch<'_>,
    room: &mut Staged,
    user: &UserId,
    at: InRoom,
    found: &Found,
) -> Result<(u64, Seq), StoreError> {
    // Some may have expired since they were found.
    let first = room.first();
    let is_there = |seq: &Seq| *seq >= first;
    let seqs: Vec<Seq> = found.seqs.iter().copied().filter(is_there).collect();
    let fits = batch.rewritable(room, &seqs, STEP_BYTES)?;
    let through = seqs.get(fits).map_or(found.through, |next| next.prev());
    let changed = erase_in(batch, room, user, &seqs[..fits])?;
    if through >= at.until {
        forget_reasons(batch.tx, room, user)?;
    }
    Ok((changed, through))
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
pub(super) fn erased(mut event: Event, user: &UserId) -> Option<Event> {
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

pub(super) fn gave_reasons(room: &RoomRef, user: &UserId) -> bool {
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
        if let Entry::Vacant(unchanged) = room.bans.entry(ban.user_id) {
            room_ops::write_ban(tx, number, &ban.user_id, Some(&ban))?;
            unchanged.insert(Some(ban));
        }
    }
    for mute in with_reasons(&state.mutes, user) {
        if let Entry::Vacant(unchanged) = room.mutes.entry(mute.user_id) {
            room_ops::write_mute(tx, number, &mute.user_id, Some(&mute))?;
            unchanged.insert(Some(mute));
        }
    }
    Ok(())
}
