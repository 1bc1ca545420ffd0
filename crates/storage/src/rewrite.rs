//! Replacing events that are in the log already, wherever they stand: in the row of their commit, in a block, in both.
//! Each row that holds some of them is written once.

use std::collections::BTreeMap;

use redb::{ReadableTable, WriteTransaction};
use stack_types::Seq;

use crate::block::{self, RunRef};
use crate::log::Blocks;
use crate::tail::replaced;
use crate::writer::{Batch, Staged};
use crate::{StoreError, commit_row, tables};

/// Events, and what stands in their place.
type Events = BTreeMap<Seq, Vec<u8>>;

impl Batch<'_> {
    /// Replaces events of before this batch: nothing of the old ones is left in a row of the file.
    pub(crate) fn rewrite_logged(
        &self,
        room: &mut Staged,
        events: Events,
    ) -> Result<(), StoreError> {
        let number = room.cell.number;
        let through = self.folded.of_room(&room.cell).through;
        let mut commits: Vec<u64> = events
            .keys()
            .filter_map(|seq| self.queue.commit_of(number, *seq, &self.folded))
            .collect();
        commits.dedup();
        for commit in commits {
            rewrite_commit(self.tx, commit, number, &events)?;
        }
        rewrite_blocks(self.tx, number, through, &events)?;
        room.replaced.extend(events);
        Ok(())
    }

    /// How many of these events, which come in the order of their numbers, are replaced by writing about `most` bytes of
    /// rows: at least one, if there is one.
    pub(crate) fn rewritable(
        &self,
        room: &Staged,
        seqs: &[Seq],
        most: usize,
    ) -> Result<usize, StoreError> {
        let number = room.cell.number;
        let through = self.folded.of_room(&room.cell).through;
        let blocks = self.tx.open_table(tables::ROOM_BLOCKS)?;
        let log = self.tx.open_table(tables::LOG)?;
        let (mut block_end, mut last_commit, mut bytes) = (Seq::ZERO, None, 0);
        for (index, seq) in seqs.iter().enumerate() {
            let mut adds = 0;
            if *seq <= through && *seq > block_end {
                let found = (&blocks as Blocks<'_>).last_in((number, 0)..=(number, seq.0))?;
                let (first, row) = found.ok_or_else(missing)?;
                block_end = Seq(first + RunRef::of(row.value())?.len() as u64).prev();
                adds += row.value().len();
            }
            let commit = self.queue.commit_of(number, *seq, &self.folded);
            if let Some(commit) = commit.filter(|commit| last_commit != Some(*commit)) {
                last_commit = Some(commit);
                adds += log.get(commit)?.map_or(0, |row| row.value().len());
            }
            bytes += adds;
            if bytes > most && index > 0 {
                return Ok(index);
            }
        }
        Ok(seqs.len())
    }
}

fn missing() -> StoreError {
    StoreError::damaged("an event is missing")
}

/// Replaces events up to `through` in their blocks.
fn rewrite_blocks(
    tx: &WriteTransaction,
    room: u64,
    through: Seq,
    events: &Events,
) -> Result<(), StoreError> {
    let mut blocks = tx.open_table(tables::ROOM_BLOCKS)?;
    let mut row = Vec::new();
    let mut next = events.keys().next().copied();
    while let Some(seq) = next.filter(|seq| *seq <= through) {
        let (first, run) = {
            let found = (&blocks as Blocks<'_>).last_in((room, 0)..=(room, seq.0))?;
            let (first, row) = found.ok_or_else(missing)?;
            (Seq(first), RunRef::of(row.value())?.to_run()?)
        };
        let behind = Seq(first.0 + run.times.len() as u64);
        if behind <= seq {
            return Err(missing());
        }
        row.clear();
        block::encode(&replaced(&run.frames, first, events), &run.times, &mut row);
        blocks.insert((room, first.0), row.as_slice())?;
        next = events.range(behind..).next().map(|(seq, _)| *seq);
    }
    Ok(())
}

/// Replaces events of a room in the row of their commit.
fn rewrite_commit(
    tx: &WriteTransaction,
    commit: u64,
    room: u64,
    events: &Events,
) -> Result<(), StoreError> {
    let mut log = tx.open_table(tables::LOG)?;
    let mut row = Vec::new();
    {
        let old = log.get(commit)?;
        let old = old.ok_or_else(|| StoreError::damaged("a commit is missing from the log"))?;
        for section in commit_row::sections(old.value()) {
            let section = section?;
            let run = section.run.to_run()?;
            let frames = if section.room == room {
                replaced(&run.frames, section.first, events)
            } else {
                run.frames
            };
            commit_row::push(section.room, section.first, &frames, &run.times, &mut row);
        }
    }
    log.insert(commit, row.as_slice())?;
    Ok(())
}
