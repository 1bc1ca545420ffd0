//! A run of consecutive events of one room as bytes in the file: what the log keeps of a commit for each room, and
//! what a room's blocks are made of. The frames stand in it ready to send, so that reading parses nothing.
//!
//! ```text
//! count   u32 LE
//! entry   count times: end of the frame in `wire`, u32 LE; time, u64 LE
//! wire    the frames, each behind its WebSocket header
//! ```

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use stack_types::{Frames, Timestamp};

use crate::StoreError;

const COUNT_BYTES: usize = 4;
const ENTRY_BYTES: usize = 12;

/// Some consecutive events: their frames, and the time of each.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) frames: Frames,
    pub(crate) times: Arc<[Timestamp]>,
}

/// How many bytes [`encode`] writes.
pub(crate) fn encoded_len(frames: &Frames) -> usize {
    len(frames.len(), frames.wire().len())
}

/// How long a run of so many events is, whose frames have so many bytes.
pub(crate) fn len(events: usize, bytes: usize) -> usize {
    COUNT_BYTES + events * ENTRY_BYTES + bytes
}

/// Appends the bytes of a run.
pub(crate) fn encode(frames: &Frames, times: &[Timestamp], out: &mut impl BufMut) {
    debug_assert_eq!(frames.len(), times.len());
    // A block holds some dozen events, a commit some thousand.
    out.put_u32_le(u32::try_from(times.len()).unwrap_or(u32::MAX));
    for (end, ts) in frames.ends().zip(times) {
        out.put_u32_le(end);
        out.put_u64_le(ts.0);
    }
    out.put_slice(frames.wire());
}

/// A run in the file, looked at where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunRef<'a> {
    entries: &'a [u8],
    wire: &'a [u8],
}

impl<'a> RunRef<'a> {
    /// Looks at the bytes of one run, and nothing behind it.
    pub(crate) fn of(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let damaged = || StoreError::damaged("a block of events is cut short");
        let (count, rest) = bytes
            .split_first_chunk::<COUNT_BYTES>()
            .ok_or_else(damaged)?;
        let entries = u32::from_le_bytes(*count) as usize * ENTRY_BYTES;
        let (entries, wire) = rest.split_at_checked(entries).ok_or_else(damaged)?;
        Ok(Self { entries, wire })
    }

    /// How many events it holds.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() / ENTRY_BYTES
    }

    /// The time of event `index`.
    pub(crate) fn time(&self, index: usize) -> Option<Timestamp> {
        let entry = self
            .entries
            .get(index * ENTRY_BYTES..)?
            .first_chunk::<ENTRY_BYTES>()?;
        let ts = entry.last_chunk::<8>()?;
        Some(Timestamp(u64::from_le_bytes(*ts)))
    }

    fn end(&self, index: usize) -> Option<u32> {
        let end = self
            .entries
            .get(index * ENTRY_BYTES..)?
            .first_chunk::<4>()?;
        Some(u32::from_le_bytes(*end))
    }

    /// Where its first `events` events end.
    pub(crate) fn end_of(&self, events: usize) -> usize {
        let last = events.checked_sub(1).and_then(|last| self.end(last));
        last.map_or(0, |end| end as usize)
    }

    /// The events from `from` on, at most `events` of them and at most `bytes` of wire, but at least one if there
    /// is one; copied out of the file once.
    pub(crate) fn frames(
        &self,
        from: usize,
        events: usize,
        bytes: usize,
    ) -> Result<Frames, StoreError> {
        let damaged = || StoreError::damaged("a block of events does not fit its header");
        let start = match from.checked_sub(1) {
            None => 0,
            Some(before) => self.end(before).ok_or_else(damaged)?,
        };
        let mut ends = Vec::with_capacity(events.min(self.len().saturating_sub(from)));
        for index in (from..self.len()).take(events) {
            let end = self
                .end(index)
                .and_then(|end| end.checked_sub(start))
                .ok_or_else(damaged)?;
            if !ends.is_empty() && end as usize > bytes {
                break;
            }
            ends.push(end);
        }
        let end = start + ends.last().copied().unwrap_or(0);
        let wire = self
            .wire
            .get(start as usize..end as usize)
            .ok_or_else(damaged)?;
        Frames::from_wire(Bytes::copy_from_slice(wire), ends).ok_or_else(damaged)
    }

    /// All of it, to be changed.
    pub(crate) fn to_run(self) -> Result<Run, StoreError> {
        let frames = self.frames(0, usize::MAX, usize::MAX)?;
        let times = (0..self.len())
            .filter_map(|index| self.time(index))
            .collect();
        Ok(Run { frames, times })
    }
}

#[cfg(test)]
mod tests {
    use stack_types::FramesBuilder;

    use super::*;

    #[test]
    fn a_run_comes_back_whole_and_in_parts() {
        let mut builder = FramesBuilder::default();
        for size in [3, 200, 70_000, 5] {
            builder.push(&vec![b'x'; size]);
        }
        let frames = builder.finish();
        let times: Vec<_> = (1..=4).map(Timestamp).collect();
        let mut bytes = Vec::new();
        encode(&frames, &times, &mut bytes);
        let run = RunRef::of(&bytes).unwrap();
        assert_eq!(
            (run.len(), run.time(2), run.time(4)),
            (4, Some(Timestamp(3)), None)
        );
        let whole = run.to_run().unwrap();
        assert_eq!(
            (whole.frames, whole.times.to_vec()),
            (frames.clone(), times)
        );
        let part = run.frames(1, 2, usize::MAX).unwrap();
        assert_eq!(part.wire(), &frames.wire_range(1..3));
        assert_eq!(run.frames(0, 9, 300).unwrap().len(), 2);
        assert_eq!(run.frames(2, 9, 1).unwrap().len(), 1);
        assert!(run.frames(4, 9, 9).unwrap().is_empty());
    }

    #[test]
    fn damage_is_told() {
        let mut bytes = Vec::new();
        encode(&Frames::one(b"{}"), &[Timestamp(1)], &mut bytes);
        for cut in 0..bytes.len() {
            let read = RunRef::of(&bytes[..cut]).and_then(RunRef::to_run);
            assert!(read.is_err_and(|error| error.is_damage()), "{cut}");
        }
    }
}
