//! The writer thread: group commit.
//!
//! It waits for one job, takes whatever else is queued by then, runs them all in one transaction, commits once and
//! answers them all. There is no timer: under load a batch grows by itself while the thread waits for the disk.
//! A job that refuses has written nothing; a fault of the engine or a panic aborts the whole batch, and every job
//! of it is answered with the fault, since none of it happened. Whatever panics, every job is answered.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redb::WriteTransaction;
use stack_types::trace::{CommitStep, Trace};
use stack_types::{Event, EventBatch, FramesBuilder, RoomId, Seq, Timestamp};
use tokio::sync::mpsc;

use crate::accounts::take_audited;
use crate::block::Run;
use crate::engine::Health;
use crate::fold::{self, Unfolded};
use crate::room::{Ban, ByUser, Membership, RoomCell, RoomRecord, RoomRef};
use crate::room_tx::{AfterCommit, Effect};
use crate::store::{CommitReport, Committed, Inner, Moment, OnCommit};
use crate::tail::{self, Tail, TailRun};
use crate::{StoreError, commit_row, keys, log, recover, tables};

/// Jobs in one commit at most: bounds how long the first of them waits and how much an abort undoes.
const MAX_JOBS_PER_COMMIT: usize = 2048;

/// Bytes of events in one commit at most, about: a commit must fit into the room that is kept on the disk.
const MAX_BYTES_PER_COMMIT: usize = 4 * 1024 * 1024;
/// Room for the events of one room in one commit, to begin with.
const FRAMES_BYTES: usize = 1024;
/// While the file waits to be opened again, the writer looks so often, whether or not anybody writes.
const MEND_EVERY: Duration = Duration::from_millis(500);

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

impl Command {
    /// Answers that the store is closed.
    pub(crate) fn refuse(self) {
        if let Self::Run(job) = self {
            finish(job, Err(StoreError::closed()));
        }
    }
}

/// The thread's body. Ends on [`Command::Stop`] or when nobody can send any more.
pub(crate) fn run(
    inner: &Inner,
    mut queue: mpsc::Receiver<Command>,
    commits: &mpsc::Sender<Vec<Committed>>,
    on_commit: Option<&OnCommit>,
    log: Log,
) {
    let mut jobs = VecDeque::new();
    let work = || work(inner, &mut queue, &mut jobs, commits, on_commit, log);
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("the writer panicked, nothing is written any more");
    }
    queue.close();
    for job in jobs {
        finish(job, Err(StoreError::closed()));
    }
    while let Ok(command) = queue.try_recv() {
        command.refuse();
    }
}

/// Takes jobs and carries them out. What it holds when it panics is left in `jobs`.
fn work(
    inner: &Inner,
    queue: &mut mpsc::Receiver<Command>,
    jobs: &mut VecDeque<Box<dyn Job>>,
    commits: &mpsc::Sender<Vec<Committed>>,
    on_commit: Option<&OnCommit>,
    mut log: Log,
) {
    let mut stopping = false;
    while !stopping || !jobs.is_empty() {
        if log.health.is_broken() {
            // Reads fail too, so this must not wait for somebody to write.
            let mended = catch_unwind(AssertUnwindSafe(|| mend(inner, &mut log)));
            if let Err(error) =
                mended.unwrap_or_else(|_| Err(StoreError::broken("mending panicked")))
            {
                tracing::debug!(error = &error as &dyn std::error::Error, "still broken");
                std::thread::sleep(MEND_EVERY);
            }
        } else if jobs.is_empty() {
            match queue.blocking_recv() {
                Some(Command::Run(job)) => jobs.push_back(job),
                Some(Command::Stop) | None => break,
            }
        }
        while jobs.len() < MAX_JOBS_PER_COMMIT && !stopping {
            match queue.try_recv() {
                Ok(Command::Run(job)) => jobs.push_back(job),
                Ok(Command::Stop) => stopping = true,
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => stopping = true,
            }
        }
        if jobs.is_empty() {
            continue;
        }
        let start = Instant::now();
        let mut done = 0;
        let together = jobs.make_contiguous();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            commit(inner, together, &mut done, &mut log)
        }));
        let outcome = outcome.unwrap_or_else(|_| {
            // What is in memory may not be what is in the file: both are read anew.
            log.health.failed();
            Err(StoreError::broken("a commit panicked"))
        });
        let (answer, committed) = match outcome {
            Ok((committed, synced)) => {
                inner.count_audited();
                let took = start.elapsed();
                let step = CommitStep {
                    began: start,
                    took,
                    synced,
                    operations: done,
                };
                for trace in committed.iter().flat_map(|committed| &committed.traces) {
                    trace.committed(&step);
                }
                if let Some(on_commit) = on_commit {
                    let events = |committed: &Committed| committed.batch.frames().len();
                    on_commit(CommitReport {
                        operations: done,
                        events: committed.iter().map(events).sum(),
                        took,
                        synced,
                    });
                }
                (Ok(()), committed)
            }
            Err(error) => {
                drop(take_audited());
                inner.forget_unborn();
                if error.is_engine() {
                    log.health.failed();
                }
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    jobs = done,
                    "commit failed, nothing of it was written"
                );
                (Err(error), Vec::new())
            }
        };
        // Those behind the ones that filled the commit go into the next; a commit that was never begun fails them all.
        let answered = if answer.is_ok() { done } else { jobs.len() };
        for _ in 0..answered {
            if let Some(job) = jobs.pop_front() {
                finish(job, answer.clone());
            }
        }
        // When the reader of commits is behind, waiting here holds the writers back instead of growing a queue.
        // It is gone only when the gateway ends, and then nobody is left to tell.
        if !committed.is_empty() {
            let _ = commits.blocking_send(committed);
        }
    }
}

impl Inner {
    /// Counts the entries of the audit log that the last commit has written.
    fn count_audited(&self) {
        let appended = take_audited();
        if appended.is_empty() {
            return;
        }
        let mut audited = self.audited.lock();
        for entry in appended {
            *audited.entry(entry).or_default() += 1;
        }
    }
}

/// Answers one caller. A panic of what takes the answer is that caller's alone.
fn finish(job: Box<dyn Job>, outcome: Result<(), StoreError>) {
    if catch_unwind(AssertUnwindSafe(|| job.finish(outcome))).is_err() {
        tracing::error!("what takes an answer panicked");
    }
}

/// The log as the writer keeps it.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) health: Health,
    pub(crate) queue: fold::Queue,
    pub(crate) next_commit: u64,
}

/// Opens the file again if it has failed, and reads anew what is in memory of it.
fn mend(inner: &Inner, log: &mut Log) -> Result<(), StoreError> {
    if log.health.mend(&inner.engine)? {
        let Log {
            queue, next_commit, ..
        } = recover::recover(inner, log.queue.kept())?;
        (log.queue, log.next_commit) = (queue, next_commit);
        log.health.mended();
    }
    Ok(())
}

/// Runs as many of the jobs as one commit takes in one transaction, and makes their effect visible in memory.
fn commit(
    inner: &Inner,
    jobs: &mut [Box<dyn Job>],
    done: &mut usize,
    log: &mut Log,
) -> Result<(Vec<Committed>, Duration), StoreError> {
    mend(inner, log)?;
    inner.engine.check_room()?;
    let mut tx = inner.engine.begin_write()?;
    tx.set_two_phase_commit(inner.two_phase_commit);
    let (staged, folded, unfolded, after) = {
        let mut batch = Batch::new(inner, &tx, &log.queue);
        batch.folded = log.queue.step(&batch)?;
        for job in jobs.iter_mut() {
            if batch.bytes > MAX_BYTES_PER_COMMIT {
                break;
            }
            *done += 1;
            catch_unwind(AssertUnwindSafe(|| job.run(&mut batch)))
                .unwrap_or_else(|_| Err(StoreError::damaged("an operation panicked")))?;
        }
        batch.write_records()?;
        let rooms = batch.rooms.drain().map(|(_, room)| room);
        let staged: Vec<Done> = rooms
            .chain(batch.last.take())
            .map(|room| room.finish())
            .collect();
        let unfolded = write_log(&batch, log.next_commit, &staged)?;
        (staged, batch.folded, unfolded, batch.after)
    };
    let began = Instant::now();
    tx.commit()?;
    let moment = Moment {
        at: inner.clock.now(),
        instant: Instant::now(),
    };
    let synced = moment.instant - began;

    log.queue.done(&folded);
    for (cell, folded) in folded.rooms.into_values() {
        let mut state = cell.state.write();
        state.folded = folded.through;
        state.tail.drop_through(folded.through);
        state.open_block = folded.open_block;
    }
    if let Some(unfolded) = unfolded {
        log.next_commit = unfolded.commit + 1;
        log.queue.push(unfolded);
    }
    let publish = |room: Done| room.publish(moment);
    let committed = staged.into_iter().filter_map(publish).collect();
    for act in after {
        if catch_unwind(AssertUnwindSafe(act)).is_err() {
            tracing::error!("what follows a commit panicked");
        }
    }
    Ok((committed, synced))
}

/// Writes what the commit added to rooms, if it added anything.
fn write_log(
    batch: &Batch<'_>,
    commit: u64,
    rooms: &[Done],
) -> Result<Option<Unfolded>, StoreError> {
    let rooms = || rooms.iter().filter(|room| !room.run.times.is_empty());
    let mut row_bytes = 0;
    let mut unfolded = Unfolded {
        commit,
        bytes: 0,
        rooms: Vec::new(),
        of_gone_rooms: false,
    };
    for room in rooms() {
        let frames = &room.run.frames;
        let last = EventBatch::new(room.first, frames.clone()).last();
        let cell = room.staged.cell.clone();
        unfolded.rooms.push((cell, room.first, last));
        unfolded.bytes += frames.wire().len();
        row_bytes += commit_row::pushed_len(frames);
    }
    if unfolded.rooms.is_empty() {
        return Ok(None);
    }
    let mut log = batch.tx.open_table(tables::LOG)?;
    // Laid out where the engine writes it from: nearly all that a commit copies is this row.
    let mut row = log.insert_reserve(commit, row_bytes)?;
    let mut rest = row.as_mut();
    for room in rooms() {
        let Run { frames, times } = &room.run;
        commit_row::push(
            room.staged.cell.number,
            room.first,
            frames,
            times,
            &mut rest,
        );
    }
    drop(row);
    Ok(Some(unfolded))
}

/// One transaction under way, with what it will change in memory.
pub(crate) struct Batch<'t> {
    pub(crate) tx: &'t WriteTransaction,
    pub(crate) now: Timestamp,
    pub(crate) inner: &'t Inner,
    /// The room of the last operation: often the next one's too.
    last: Option<Box<Staged>>,
    /// The other rooms it touches, by number.
    rooms: HashMap<u64, Box<Staged>>,
    /// The idempotency keys, once one was asked for.
    keys: Option<keys::Keys<'t>>,
    /// What one operation says; kept for the next one's use of its memory.
    pub(crate) effects: Vec<Effect>,
    /// What this transaction has folded.
    pub(crate) folded: fold::Step,
    /// What is to be done when the commit is visible.
    pub(crate) after: Vec<AfterCommit>,
    pub(crate) queue: &'t fold::Queue,
    /// Bytes of events so far.
    bytes: usize,
    scratch: Vec<u8>,
}

impl<'t> Batch<'t> {
    fn new(inner: &'t Inner, tx: &'t WriteTransaction, queue: &'t fold::Queue) -> Self {
        Self {
            tx,
            now: inner.clock.now(),
            inner,
            last: None,
            rooms: HashMap::new(),
            keys: None,
            effects: Vec::new(),
            folded: fold::Step::default(),
            after: Vec::new(),
            queue,
            bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes the staged state of the room with this slug out of the batch; `None` when there is no such room. Put it
    /// back with [`Batch::stage`].
    pub(crate) fn find_room(&mut self, id: &RoomId) -> Result<Option<Box<Staged>>, StoreError> {
        let found = self.inner.room(id)?;
        Ok(found.map(|room| self.take_room(&room)))
    }

    /// [`Batch::find_room`] for a room that is known.
    pub(crate) fn take_room(&mut self, RoomRef(cell): &RoomRef) -> Box<Staged> {
        let staged = match self.last.take_if(|last| last.cell.number == cell.number) {
            None => self.rooms.remove(&cell.number),
            last => last,
        };
        staged.unwrap_or_else(|| Box::new(Staged::of(cell.clone())))
    }

    /// Puts a room's staged state back.
    pub(crate) fn stage(&mut self, room: Box<Staged>) {
        if let Some(before) = self.last.replace(room) {
            self.rooms.insert(before.cell.number, before);
        }
    }

    /// All rooms that it touches.
    fn staged(&self) -> impl Iterator<Item = &Staged> {
        self.rooms.values().chain(&self.last).map(|room| &**room)
    }

    /// The idempotency keys as this batch leaves them.
    pub(crate) fn keys(&mut self) -> Result<&mut keys::Keys<'t>, StoreError> {
        match &mut self.keys {
            Some(keys) => Ok(keys),
            none => Ok(none.insert(keys::Keys::open(self.tx)?)),
        }
    }

    /// Counts bytes of events that were written otherwise than by [`Batch::append`].
    pub(crate) fn weigh(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Adds an event to what the commit writes.
    pub(crate) fn append(&mut self, room: &mut Staged, event: &Event) {
        self.scratch.clear();
        self.inner.codec.encode(event, &mut self.scratch);
        if room.frames.is_empty() {
            room.frames_first = event.seq;
        }
        self.bytes += self.scratch.len();
        room.frames.push(&self.scratch);
        room.times.push(event.ts);
        room.head = event.seq;
        room.last_ts = event.ts;
    }

    /// The event of this number, as this batch leaves it.
    pub(crate) fn event(&self, room: &Staged, seq: Seq) -> Result<Option<Event>, StoreError> {
        let decode = |frame: &[u8]| Ok(Some(self.inner.codec.decode(frame)?));
        if seq < room.first() {
            return Ok(None);
        }
        if let Some(json) = room.replaced.get(&seq) {
            return decode(json);
        }
        if let Some(frame) = room
            .staged_index(seq)
            .and_then(|index| room.frames.json(index))
        {
            return decode(frame);
        }
        let in_tail = {
            let state = room.cell.state.read();
            let run = state.tail.find(seq);
            run.map(|run| tail::frame_in(&run.run.frames, run.first, seq))
                .transpose()?
        };
        if let Some(frame) = in_tail {
            return decode(&frame);
        }
        let blocks = self.tx.open_table(tables::ROOM_BLOCKS)?;
        match log::frame_in_blocks(&blocks, room.cell.number, seq)? {
            Some(frame) => decode(&frame),
            None => Ok(None),
        }
    }

    /// Replaces an event that is already in the log, wherever it stands: nothing of the old one is left.
    pub(crate) fn rewrite(&mut self, room: &mut Staged, event: &Event) -> Result<(), StoreError> {
        let mut json = Vec::new();
        self.inner.codec.encode(event, &mut json);
        let seq = event.seq;
        if let Some(index) = room.staged_index(seq) {
            let frames = std::mem::take(&mut room.frames).finish();
            let json = BTreeMap::from([(seq, json)]);
            let frames = tail::replaced(&frames, room.frames_first, &json);
            debug_assert!(index < frames.len());
            room.frames.extend(&frames, 0..frames.len());
            return Ok(());
        }
        self.rewrite_logged(room, BTreeMap::from([(seq, json)]))
    }

    /// Writes the records of the rooms whose title, settings or existence changed.
    fn write_records(&mut self) -> Result<(), StoreError> {
        for room in self.staged() {
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
    pub(crate) members: ByUser<Option<Membership>>,
    /// Changed bans; `None` for one that is lifted.
    pub(crate) bans: ByUser<Option<Ban>>,
    /// Changed mutes; `None` for one that is lifted.
    pub(crate) mutes: ByUser<Option<Ban>>,
    /// Events that this batch adds.
    frames: FramesBuilder,
    times: Vec<Timestamp>,
    frames_first: Seq,
    /// Events of before that this batch replaces.
    pub(crate) replaced: BTreeMap<Seq, Vec<u8>>,
    /// Those of its operations that are traced.
    pub(crate) traces: Vec<Arc<dyn Trace>>,
}

/// A room whose part of the batch is complete.
struct Done {
    staged: Staged,
    first: Seq,
    run: Run,
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
            members: ByUser::default(),
            bans: ByUser::default(),
            mutes: ByUser::default(),
            frames: FramesBuilder::with_capacity(FRAMES_BYTES),
            times: Vec::new(),
            frames_first: Seq::FIRST,
            replaced: BTreeMap::new(),
            traces: Vec::new(),
        }
    }

    /// The first event that is still there.
    pub(crate) fn first(&self) -> Seq {
        match &self.record {
            Some(record) => record.first,
            None => self.cell.state.read().record.first,
        }
    }

    /// Whether the room is gone.
    pub(crate) fn is_deleted(&self) -> bool {
        match &self.record {
            Some(record) => record.deleted,
            None => self.cell.state.read().record.deleted,
        }
    }

    /// The record, to be changed.
    pub(crate) fn record_mut(&mut self) -> &mut RoomRecord {
        let cell = &self.cell;
        self.record
            .get_or_insert_with(|| cell.state.read().record.clone())
    }

    /// Where an event stands among those that this batch adds.
    fn staged_index(&self, seq: Seq) -> Option<usize> {
        let index = usize::try_from(seq.0.checked_sub(self.frames_first.0)?).ok()?;
        (index < self.frames.len()).then_some(index)
    }

    fn finish(mut self) -> Done {
        Done {
            first: self.frames_first,
            run: Run {
                frames: std::mem::take(&mut self.frames).finish(),
                times: std::mem::take(&mut self.times).into(),
            },
            staged: self,
        }
    }
}

impl Done {
    /// Makes the committed change visible, and gives the events it added.
    fn publish(self, moment: Moment) -> Option<Committed> {
        let Self { staged, first, run } = self;
        let batch = EventBatch::new(first, run.frames.clone());
        {
            let mut state = staged.cell.state.write();
            if let Some(record) = staged.record {
                state.record = record;
            }
            state.tail.replace(&staged.replaced);
            if state.record.deleted {
                state.tail = Tail::default();
            } else if !batch.frames().is_empty() {
                state.tail.push(TailRun { first, run });
            }
            // Nothing of it is folded any more, so that no fold would drop it.
            let gone = state.record.first.prev();
            state.tail.drop_through(gone);
            state.born = true;
            state.head = staged.head;
            state.last_ts = staged.last_ts;
            for (user, membership) in staged.members {
                match membership {
                    Some(membership) => state.members.insert(user, membership),
                    None => state.members.remove(&user),
                };
            }
            for (user, ban) in staged.bans {
                match ban {
                    Some(ban) => state.bans.insert(user, ban),
                    None => state.bans.remove(&user),
                };
            }
            for (user, mute) in staged.mutes {
                match mute {
                    Some(mute) => state.mutes.insert(user, mute),
                    None => state.mutes.remove(&user),
                };
            }
        }
        let room = staged.cell.id.clone();
        (!batch.frames().is_empty()).then_some(Committed {
            room,
            batch,
            moment: Some(moment),
            traces: staged.traces,
        })
    }
}
