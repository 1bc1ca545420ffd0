//! A row of the log: everything that one commit added, room by room.
//!
//! ```text
//! section   any number of times: room u64 LE, first seq u64 LE, length u32 LE, a run (see `block`)
//! ```

use bytes::BufMut;
use stack_types::{Frames, Seq, Timestamp};

use crate::StoreError;
use crate::block::{self, RunRef};

const HEAD_BYTES: usize = 20;

/// One room's part of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section<'a> {
    pub(crate) room: u64,
    pub(crate) first: Seq,
    pub(crate) run: RunRef<'a>,
}

/// How many bytes [`push`] writes.
pub(crate) fn pushed_len(frames: &Frames) -> usize {
    HEAD_BYTES + block::encoded_len(frames)
}

/// Appends a section to a row.
pub(crate) fn push(
    room: u64,
    first: Seq,
    frames: &Frames,
    times: &[Timestamp],
    row: &mut impl BufMut,
) {
    row.put_u64_le(room);
    row.put_u64_le(first.0);
    // A commit holds some thousand events of at most some ten kilobytes.
    row.put_u32_le(u32::try_from(block::encoded_len(frames)).unwrap_or(u32::MAX));
    block::encode(frames, times, row);
}

/// The sections of a row.
pub(crate) fn sections(mut row: &[u8]) -> impl Iterator<Item = Result<Section<'_>, StoreError>> {
    std::iter::from_fn(move || {
        if row.is_empty() {
            return None;
        }
        let section = split(row);
        row = section.as_ref().map_or(&[], |(_, rest)| rest);
        Some(section.map(|(section, _)| section))
    })
}

fn split(row: &[u8]) -> Result<(Section<'_>, &[u8]), StoreError> {
    let damaged = || StoreError::damaged("a commit in the log is cut short");
    let (head, rest) = row.split_first_chunk::<HEAD_BYTES>().ok_or_else(damaged)?;
    let number = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let mut length = [0; 4];
    length.copy_from_slice(&head[16..]);
    let length = u32::from_le_bytes(length) as usize;
    let (run, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
    let section = Section {
        room: number(0),
        first: Seq(number(8)),
        run: RunRef::of(run)?,
    };
    Ok((section, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_apart_into_its_sections() {
        let mut row = Vec::new();
        push(7, Seq(3), &Frames::one(b"{}"), &[Timestamp(5)], &mut row);
        push(9, Seq(1), &Frames::one(b"[1]"), &[Timestamp(6)], &mut row);
        let found: Vec<_> = sections(&row).map(Result::unwrap).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].room, found[1].first), (9, Seq(1)));
        assert_eq!(found[1].run.to_run().unwrap().frames, Frames::one(b"[1]"));
        assert!(sections(&row[..row.len() - 1]).any(|section| section.is_err()));
        assert_eq!(sections(&[]).count(), 0);
    }
}
