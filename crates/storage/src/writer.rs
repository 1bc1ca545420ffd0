//! The writer thread: group commit.
//!
//! It waits for one job, takes whatever else is queued by then, runs them all in one transaction, commits once and
//! answers them all. There is no timer: under load a batch grows by itself while the thread waits for the disk.
//! A job that refuses has written nothing; a fault of the engine or a panic aborts the whole batch, and every job
//! of it is answered with the fault, since none of it happened.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use redb::{Table, WriteTransaction};
use stack_types::{Event, EventBatch, FramesBuilder, RoomId, Seq, Timestamp, UserId};
use tokio::sync::mpsc;

use crate::room::{Ban, Membership, RoomCell, RoomRecord, RoomRef};
use crate::store::{CommitReport, Committed, Inner, OnCommit};
use crate::{StoreError, log, tables};

/// Jobs in one commit at most: bounds how long the first of them waits and how much an abort undoes.
const MAX_JOBS_PER_COMMIT: usize = 2048;

/// One operation on its way through the writer.
pub(crate) trait Job: Send {
    /// Does the work. An error aborts the batch; a refusal is the job's own result.
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError>;
    /// Answers the caller, after the commit or after its failure.
    fn finish(self: Box<Self>, outcome: Result<(), StoreError>);
}

/// What the writer's queue holds.
pub(crate) enum Command {
    Run(Box<dyn Job>),
    Stop,
}

/// The thread's body. Ends on [`Command::Stop`] or when nobody can send any more.
pub(crate) fn run(
    inner: &Inner,
    mut queue: mpsc::Receiver<Command>,
    commits: &mpsc::Sender<Vec<Committed>>,
    on_commit: Option<&OnCommit>,
) {
    let mut jobs: Vec<Box<dyn Job>> = Vec::new();
    let mut stopping = false;
    while !stopping {
        match queue.blocking_recv() {
            Some(Command::Run(job)) => jobs.push(job),
            Some(Command::Stop) | None => break,
        }
        while jobs.len() < MAX_JOBS_PER_COMMIT {
            match queue.try_recv() {
                Ok(Command::Run(job)) => jobs.push(job),
                Ok(Command::Stop) => {
                    stopping = true;
                    break;
                }
                Err(_) => break,
            }
        }
        let start = Instant::now();
        let outcome = commit(inner, &mut jobs);
        let (answer, committed) = match outcome {
            Ok(committed) => {
                if let Some(on_commit) = on_commit {
                    let events = |committed: &Committed| committed.batch.frames().len();
                    on_commit(CommitReport {
                        operations: jobs.len(),
                        events: committed.iter().map(events).sum(),
                        took: start.elapsed(),
                    });
                }
                (Ok(()), committed)
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    jobs = jobs.len(),
                    "commit failed, nothing of it was written"
                );
                (Err(error), Vec::new())
            }
        };
        for job in jobs.drain(..) {
            job.finish(answer.clone());
        }
        // When the reader of commits is behind, waiting here holds the writers back instead of growing a queue.
        // It is gone only when the gateway ends, and then nobody is left to tell.
        if !committed.is_empty() {
            let _ = commits.blocking_send(committed);
        }
    }
    queue.close();
    while let Ok(command) = queue.try_recv() {
        if let Command::Run(job) = command {
            job.finish(Err(StoreError::closed()));
        }
    }
}

/// Runs the jobs in one transaction and makes their effect visible in memory.
fn commit(inner: &Inner, jobs: &mut [Box<dyn Job>]) -> Result<Vec<Committed>, StoreError> {
    let mut tx = inner.db.begin_write()?;
    tx.set_two_phase_commit(inner.two_phase_commit);
    let staged = {
        let mut batch = Batch::new(inner, &tx);
        for job in jobs.iter_mut() {
            catch_unwind(AssertUnwindSafe(|| job.run(&mut batch)))
                .unwrap_or_else(|_| Err(StoreError::damaged("an operation panicked")))?;
        }
        batch.write_records()?;
        batch.rooms
    };
    tx.commit()?;
    let mut committed = Vec::new();
    for (id, room) in staged {
        if let Some(batch) = room.publish(inner) {
            committed.push(Committed { room: id, batch });
        }
    }
    Ok(committed)
}

/// One transaction under way, with what it will change in memory.
pub(crate) struct Batch<'t> {
    pub(crate) tx: &'t WriteTransaction,
    pub(crate) now: Timestamp,
    pub(crate) inner: &'t Inner,
    pub(crate) rooms: HashMap<RoomId, Staged>,
    events: Option<Table<'t, (u64, u64), &'static [u8]>>,
    scratch: Vec<u8>,
}

impl<'t> Batch<'t> {
    fn new(inner: &'t Inner, tx: &'t WriteTransaction) -> Self {
        Self {
            tx,
            now: inner.clock.now(),
            inner,
            rooms: HashMap::new(),
            events: None,
            scratch: Vec::new(),
        }
    }

    /// The log's table, opened once per batch.
    pub(crate) fn events(
        &mut self,
    ) -> Result<&mut Table<'t, (u64, u64), &'static [u8]>, StoreError> {
        if self.events.is_none() {
            self.events = Some(self.tx.open_table(tables::EVENTS)?);
        }
        self.events.as_mut().ok_or_else(StoreError::closed)
    }

    /// Takes the room's staged state out of the batch; `None` when there is no such room. Put it back with
    /// [`Batch::stage`].
    pub(crate) fn take_room(&mut self, id: &RoomId) -> Result<Option<Staged>, StoreError> {
        if let Some(staged) = self.rooms.remove(id) {
            return Ok(Some(staged));
        }
        let found = self.inner.room(id)?;
        Ok(found.map(|RoomRef(cell)| Staged::of(cell)))
    }

    /// Puts a room's staged state back.
    pub(crate) fn stage(&mut self, room: Staged) {
        self.rooms.insert(room.cell.id.clone(), room);
    }

    /// Writes an event's row and gives its frame to the room's batch.
    pub(crate) fn append(&mut self, room: &mut Staged, event: &Event) -> Result<(), StoreError> {
        let mut row = std::mem::take(&mut self.scratch);
        log::encode_row(self.inner.codec.as_ref(), event, &mut row);
        self.events()?
            .insert((room.cell.number, event.seq.0), row.as_slice())?;
        if room.frames.is_empty() {
            room.frames_first = event.seq;
        }
        room.frames.push(log::frame_of(&row)?);
        room.head = event.seq;
        room.last_ts = event.ts;
        self.scratch = row;
        Ok(())
    }

    /// Replaces the row of an event that is already in the log.
    pub(crate) fn rewrite(&mut self, room: &Staged, event: &Event) -> Result<(), StoreError> {
        let mut row = std::mem::take(&mut self.scratch);
        log::encode_row(self.inner.codec.as_ref(), event, &mut row);
        self.events()?
            .insert((room.cell.number, event.seq.0), row.as_slice())?;
        self.scratch = row;
        Ok(())
    }

    /// Writes the records of the rooms whose title, settings or existence changed.
    fn write_records(&mut self) -> Result<(), StoreError> {
        for room in self.rooms.values() {
            if let Some(record) = &room.record {
                crate::room_ops::write_record(self.tx, room.cell.number, record)?;
            }
        }
        Ok(())
    }
}

/// A room as this batch leaves it, before the commit makes it so.
pub(crate) struct Staged {
    pub(crate) cell: Arc<RoomCell>,
    /// The record, when the batch changes it.
    pub(crate) record: Option<RoomRecord>,
    pub(crate) head: Seq,
    pub(crate) last_ts: Timestamp,
    /// Changed memberships; `None` for one that ends.
    pub(crate) members: HashMap<UserId, Option<Membership>>,
    /// Changed bans; `None` for one that is lifted.
    pub(crate) bans: HashMap<UserId, Option<Ban>>,
    frames: FramesBuilder,
    frames_first: Seq,
}

impl Staged {
    /// A room as it is, before anything of this batch.
    pub(crate) fn of(cell: Arc<RoomCell>) -> Self {
        let (head, last_ts) = {
            let state = cell.state.read();
            (state.head, state.last_ts)
        };
        Self {
            cell,
            record: None,
            head,
            last_ts,
            members: HashMap::new(),
            bans: HashMap::new(),
            frames: FramesBuilder::default(),
            frames_first: Seq::FIRST,
        }
    }

    /// Makes the committed change visible, and gives the events it added.
    fn publish(self, inner: &Inner) -> Option<EventBatch> {
        {
            let mut state = self.cell.state.write();
            if let Some(record) = self.record {
                state.record = record;
            }
            state.head = self.head;
            state.last_ts = self.last_ts;
            for (user, membership) in self.members {
                match membership {
                    Some(membership) => state.members.insert(user, membership),
                    None => state.members.remove(&user),
                };
            }
            for (user, ban) in self.bans {
                match ban {
                    Some(ban) => state.bans.insert(user, ban),
                    None => state.bans.remove(&user),
                };
            }
        }
        inner.remember(self.cell);
        let frames = self.frames;
        (!frames.is_empty()).then(|| EventBatch::new(self.frames_first, frames.finish()))
    }
}
