//! The end of a room's log that stands in commits only, not yet in the room's blocks: in memory, and rebuilt when
//! the file is opened.

use std::collections::{BTreeMap, VecDeque};

use stack_types::{Frames, FramesBuilder, Seq, Timestamp};

use crate::StoreError;
use crate::block::Run;

/// What one commit added to a room.
#[derive(Debug, Clone)]
pub(crate) struct TailRun {
    pub(crate) first: Seq,
    pub(crate) run: Run,
}

impl TailRun {
    pub(crate) fn last(&self) -> Seq {
        Seq(self.first.0 + self.run.frames.len() as u64).prev()
    }
}

/// What commits have added to a room since its last block, oldest first, without a hole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tail(VecDeque<TailRun>);

impl Tail {
    pub(crate) fn push(&mut self, run: TailRun) {
        self.0.push_back(run);
    }

    /// The first event in it.
    pub(crate) fn first(&self) -> Option<Seq> {
        self.0.front().map(|run| run.first)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &TailRun> {
        self.0.iter()
    }

    /// The run that holds an event.
    pub(crate) fn find(&self, seq: Seq) -> Option<&TailRun> {
        let index = self
            .0
            .partition_point(|run| run.first <= seq)
            .checked_sub(1)?;
        self.0.get(index).filter(|run| seq <= run.last())
    }

    /// Replaces the frames of those events that are in it.
    pub(crate) fn replace(&mut self, events: &BTreeMap<Seq, Vec<u8>>) {
        for run in &mut self.0 {
            if events.range(run.first..=run.last()).next().is_some() {
                run.run.frames = replaced(&run.run.frames, run.first, events);
            }
        }
    }

    /// Drops what stands in blocks now.
    pub(crate) fn drop_through(&mut self, seq: Seq) {
        while self.0.front().is_some_and(|run| run.last() <= seq) {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
    }

    /// The runs from the one that holds `seq` on, as many as hold `events` events, sharing their frames.
    pub(crate) fn from(&self, seq: Seq, events: usize) -> Vec<(Seq, Frames)> {
        let start = self.0.partition_point(|run| run.last() < seq);
        let enough = Seq(seq
            .0
            .saturating_add(u64::try_from(events).unwrap_or(u64::MAX)));
        let wanted = self.0.range(start..).take_while(|run| run.first < enough);
        wanted
            .map(|run| (run.first, run.run.frames.clone()))
            .collect()
    }

    /// The runs from the one that holds `seq` back, as many as hold `events` events, newest first, sharing their
    /// frames.
    pub(crate) fn back_from(&self, seq: Seq, events: usize) -> Vec<(Seq, Frames)> {
        let end = self.0.partition_point(|run| run.first <= seq);
        let enough = Seq(seq
            .0
            .saturating_sub(u64::try_from(events).unwrap_or(u64::MAX)));
        let wanted = self.0.range(..end).rev();
        wanted
            .take_while(|run| run.last() > enough)
            .map(|run| (run.first, run.run.frames.clone()))
            .collect()
    }

    /// The last event whose time is not after `ts`; `None` when there is none in the tail.
    pub(crate) fn last_until(&self, ts: Timestamp) -> Option<Seq> {
        let is_until = |time: &Timestamp| *time <= ts;
        let runs = self
            .0
            .partition_point(|run| run.run.times.first().is_some_and(is_until));
        let run = self.0.get(runs.checked_sub(1)?)?;
        let events = run.run.times.partition_point(is_until);
        Some(Seq(run.first.0 + events as u64).prev())
    }
}

/// `frames`, which start at `first`, with the frames of those of the events replaced that are among them.
pub(crate) fn replaced(frames: &Frames, first: Seq, events: &BTreeMap<Seq, Vec<u8>>) -> Frames {
    let mut builder = FramesBuilder::with_capacity(frames.wire().len());
    let mut next = 0;
    for (seq, json) in events.range(first..Seq(first.0 + frames.len() as u64)) {
        // It is in the range, so that it has an index.
        let index = usize::try_from(seq.0 - first.0).unwrap_or(usize::MAX);
        builder.extend(frames, next..index);
        builder.push(json);
        next = index + 1;
    }
    builder.extend(frames, next..frames.len());
    builder.finish()
}

/// The frame of an event in a run that starts at `first`.
pub(crate) fn frame_in(frames: &Frames, first: Seq, seq: Seq) -> Result<bytes::Bytes, StoreError> {
    let index = usize::try_from(seq.0.wrapping_sub(first.0)).unwrap_or(usize::MAX);
    if index < frames.len() {
        Ok(frames.json(index))
    } else {
        Err(StoreError::damaged("an event is not where the log says"))
    }
}
