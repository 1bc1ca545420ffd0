//! Opening, closing, and the way an operation takes to the writer and back.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::{ReadTransaction, WriteTransaction};
use stack_types::trace::{self, Trace};
use stack_types::{Clock, ErrorCode, EventBatch, EventCodec, Problem, RoomId, Timestamp};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::accounts::{AuditAction, AuditOutcome, Standing};
use crate::engine::{Engine, FileOpener, Opener};
use crate::fold::KeptLog;
use crate::pace::Pace;
use crate::recover::recover;
use crate::retention::Retention;
use crate::room::{RoomCell, RoomRef};
use crate::writer::{self, Batch, Command, Job};
use crate::{OpenError, RoomTx, StoreError, schema};

/// Operations that wait for the writer at most. When it is full, callers wait for a place.
const QUEUE: usize = 8192;

/// Scans of the file at the same time at most; more would only queue at the disk.
const CONCURRENT_SCANS: usize = 16;

/// Commits that wait for delivery at most. When it is full, the writer waits.
const COMMITS: usize = 64;

/// Where the file is.
#[derive(Debug, Clone)]
pub enum Location {
    /// On disk. The folder is made if it is missing.
    File(PathBuf),
    /// In memory, for tests: gone with the store.
    Memory,
}

/// What a commit did, for whoever measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReport {
    /// Operations in it, of any kind.
    pub operations: usize,
    /// Events that it added to logs.
    pub events: usize,
    /// How long it took, from its first operation to the end of its fsync.
    pub took: Duration,
    /// How much of that the engine needed to get it onto the disk.
    pub synced: Duration,
}

/// The file and its cache, as they are now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageUsage {
    /// Bytes of the file; zero in memory.
    pub file_bytes: u64,
    /// Bytes of pages in the cache.
    pub cache_bytes: u64,
    /// Pages that were found in the cache, since the file was opened.
    pub cache_hits: u64,
    /// Pages that were read from the file.
    pub cache_misses: u64,
    /// Pages that made room for others.
    pub cache_evictions: u64,
}

/// Hears of every commit, on the writer thread: it must be quick.
pub type OnCommit = Arc<dyn Fn(CommitReport) + Send + Sync>;

/// How to open the store.
#[derive(Clone)]
pub struct StoreConfig {
    /// Where the file is.
    pub location: Location,
    /// Memory for the engine's page cache, in bytes.
    pub cache_bytes: usize,
    /// Two fsyncs per commit instead of one: withstands a disk that lies about the order of writes.
    pub two_phase_commit: bool,
    /// Hears of every commit.
    pub on_commit: Option<OnCommit>,
    /// How much stays in the log before it is folded into the blocks of its rooms.
    pub kept_log: KeptLog,
    /// What a room keeps of its past at most, whatever its settings say.
    pub retention: Retention,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            location: Location::Memory,
            cache_bytes: 256 * 1024 * 1024,
            two_phase_commit: false,
            on_commit: None,
            kept_log: KeptLog::default(),
            retention: Retention::default(),
        }
    }
}

/// When a commit was through.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// By the clock.
    pub at: Timestamp,
    /// To measure from.
    pub instant: Instant,
}

/// Events that a commit added to a room.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The room.
    pub room: RoomId,
    /// The events, ready to send.
    pub batch: EventBatch,
    /// When the commit was through; `None` where that is not known, as of what comes from another gateway.
    pub moment: Option<Moment>,
    /// Who wants to hear what becomes of them: those of the requests that are traced.
    pub traces: Vec<Arc<dyn Trace>>,
}

/// Every commit's events, in commit order.
#[derive(Debug)]
pub struct Commits(mpsc::Receiver<Vec<Committed>>);

impl Commits {
    /// The next commit that added events; `None` after the store has shut down.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<Vec<Committed>> {
        self.0.recv().await
    }
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) codec: Arc<dyn EventCodec>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) two_phase_commit: bool,
    /// Bounds the memory and the threads of those who read pages at the same time.
    scans: Semaphore,
    pub(crate) pace: Pace,
    /// What a room keeps of its past at most.
    pub(crate) retention: Retention,
    /// The file, where there is one.
    pub(crate) file: Option<PathBuf>,
    /// One copy of the file is made at a time.
    pub(crate) snapshots: Arc<Semaphore>,
    /// An erasure was asked for.
    pub(crate) erasures: Notify,
    /// A room keeps less than before.
    pub(crate) retention_changed: Arc<Notify>,
    /// Entries of the audit log since the start, by what was done and whether it was.
    pub(crate) audited: Mutex<HashMap<(AuditAction, AuditOutcome), u64>>,
    cells: Mutex<HashMap<RoomId, Arc<RoomCell>>>,
}

impl Inner {
    /// The room of this slug, from memory or from the file.
    pub(crate) fn room(&self, id: &RoomId) -> Result<Option<RoomRef>, StoreError> {
        // The lock is held while loading: the writer looks a room up here before it changes it, so a room loaded
        // from an older snapshot can never overwrite what the writer made of it since.
        let mut cells = self.cells.lock();
        if let Some(cell) = cells.get(id) {
            return Ok(live(cell));
        }
        let Some(cell) = crate::room_ops::load(&self.engine.snapshot()?, id)? else {
            return Ok(None);
        };
        let cell = Arc::new(cell);
        cells.insert(id.clone(), cell.clone());
        Ok(live(&cell))
    }

    /// Lists a room that is about to be committed, or one that was found in the log. Before its commit nobody sees
    /// it, and nobody loads it from the file a second time either.
    pub(crate) fn remember(&self, cell: Arc<RoomCell>) {
        self.cells.lock().insert(cell.id.clone(), cell);
    }

    /// Takes the rooms off the list whose commit has failed.
    pub(crate) fn forget_unborn(&self) {
        self.cells.lock().retain(|_, cell| cell.state.read().born);
    }

    /// A room, if it is in memory.
    pub(crate) fn cell(&self, id: &RoomId) -> Option<Arc<RoomCell>> {
        self.cells.lock().get(id).cloned()
    }

    /// Every room in memory.
    pub(crate) fn all_rooms(&self) -> Vec<Arc<RoomCell>> {
        self.cells.lock().values().cloned().collect()
    }
}

fn live(cell: &Arc<RoomCell>) -> Option<RoomRef> {
    let there = {
        let state = cell.state.read();
        state.born && !state.record.deleted
    };
    there.then(|| RoomRef(cell.clone()))
}

/// The store. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    queue: mpsc::Sender<Command>,
    /// What every account operation through this handle asks of whoever asked for it.
    pub(crate) standing: Option<Standing>,
}

/// Ends the writer.
#[derive(Debug)]
pub struct StoreHandle {
    queue: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
}

impl StoreHandle {
    /// Commits what is queued, refuses what comes later, and waits for the writer to end.
    pub async fn shutdown(self) {
        // A closed queue means that the writer has ended already.
        let _ = self.queue.send(Command::Stop).await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the writer thread ended by a panic");
        }
    }
}

impl Store {
    /// Opens the file, migrates it if it is older, and starts the writer.
    ///
    /// # Errors
    /// See [`OpenError`]. A file that cannot be opened is left as it is.
    pub fn open(
        config: StoreConfig,
        codec: Arc<dyn EventCodec>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, StoreHandle, Commits), OpenError> {
        let opener = FileOpener {
            location: config.location.clone(),
            cache_bytes: config.cache_bytes,
        };
        Self::open_with(Box::new(opener), config, codec, clock)
    }

    pub(crate) fn open_with(
        opener: Box<dyn Opener>,
        config: StoreConfig,
        codec: Arc<dyn EventCodec>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, StoreHandle, Commits), OpenError> {
        let engine = Engine::open(opener)?;
        engine.with(|db| schema::prepare(db, schema::MIGRATIONS))?;
        let inner = Arc::new(Inner {
            engine,
            codec,
            clock,
            two_phase_commit: config.two_phase_commit,
            scans: Semaphore::new(CONCURRENT_SCANS),
            pace: Pace::new(),
            retention: config.retention,
            file: match config.location {
                Location::File(path) => Some(path),
                Location::Memory => None,
            },
            snapshots: Arc::new(Semaphore::new(1)),
            erasures: Notify::new(),
            retention_changed: Arc::default(),
            audited: Mutex::default(),
            cells: Mutex::new(HashMap::new()),
        });
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (commits_in, commits_out) = mpsc::channel(COMMITS);
        let kept_log = config.kept_log;
        let log = recover(&inner, kept_log)?;
        let for_writer = inner.clone();
        let on_commit = config.on_commit;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(&for_writer, jobs, &commits_in, on_commit.as_ref(), log))
            .map_err(OpenError::Thread)?;
        let handle = StoreHandle {
            queue: queue.clone(),
            thread,
        };
        let store = Self {
            inner,
            queue,
            standing: None,
        };
        Ok((store, handle, Commits(commits_out)))
    }

    /// Whether its writer has ended: nothing can be written any more, until the process is started again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.queue.is_closed()
    }

    /// The room of this slug; `None` when there is none or it was deleted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn room(&self, id: &RoomId) -> Result<Option<RoomRef>, StoreError> {
        self.inner.room(id)
    }

    /// Queues an operation on one room. Operations queued one after the other are carried out in that order.
    ///
    /// `op` runs on the writer thread. It sees the room as every operation before it left it, decides, and says
    /// through the [`RoomTx`] what is to change; that happens only if it returns `Ok`, and all in one transaction.
    /// It must be quick and must not block.
    ///
    /// `reply` gets the answer there too, after the commit: `not_found` without the room, what `op` refused with,
    /// `unavailable` when the commit failed or the store is closed. It must be as quick.
    pub fn submit<R, F, A>(&self, room: &RoomRef, op: F, reply: A) -> Submitted
    where
        R: Send + 'static,
        F: FnOnce(&mut RoomTx<'_, '_>) -> Result<R, Problem> + Send + 'static,
        A: FnOnce(Result<R, Problem>) + Send + 'static,
    {
        let job = RoomJob {
            room: room.clone(),
            op: Some(op),
            result: None,
            reply,
            trace: trace::current(),
        };
        match self.queue.try_send(Command::Run(Box::new(job))) {
            Ok(()) => Submitted::Queued,
            Err(TrySendError::Full(command)) => {
                let queue = self.queue.clone();
                Submitted::Waiting(Box::pin(async move {
                    if let Err(SendError(command)) = queue.send(command).await {
                        command.refuse();
                    }
                }))
            }
            Err(TrySendError::Closed(command)) => {
                command.refuse();
                Submitted::Queued
            }
        }
    }

    /// [`Store::submit`], and waits for the answer.
    ///
    /// # Errors
    /// What `op` refused with, `not_found` without the room, `unavailable` when it could not be committed.
    pub async fn room_op<R, F>(&self, room: &RoomId, op: F) -> Result<R, Problem>
    where
        R: Send + 'static,
        F: FnOnce(&mut RoomTx<'_, '_>) -> Result<R, Problem> + Send + 'static,
    {
        let room = self.room(room)?.ok_or_else(no_such_room)?;
        let (reply, answer) = oneshot::channel();
        // Nobody waits any more when the caller has gone; the operation stands.
        let submitted = self.submit(&room, op, |result| drop(reply.send(result)));
        submitted.queued().await;
        answer
            .await
            .unwrap_or_else(|_| Err(StoreError::closed().into()))
    }

    /// Runs `op` in the writer's next transaction. It must check before it writes: a refusal is a value in `R`,
    /// an error aborts everybody's commit.
    pub(crate) async fn write<R, F>(&self, op: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&WriteTransaction, Timestamp) -> Result<R, StoreError> + Send + 'static,
    {
        let standing = self.standing;
        let written = self.write_batch(move |batch| {
            let refusal = match standing {
                Some(standing) => standing.refusal(batch.tx, batch.now)?,
                None => None,
            };
            match refusal {
                Some(refusal) => Ok(Err(refusal)),
                None => op(batch.tx, batch.now).map(Ok),
            }
        });
        written.await?.map_err(StoreError::refused)
    }

    /// [`Store::write`] for an operation that also changes rooms.
    pub(crate) async fn write_batch<R, F>(&self, op: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&mut Batch<'_>) -> Result<R, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = WriteJob {
            op: Some(op),
            result: None,
            reply,
        };
        self.enqueue(Box::new(job)).await?;
        answer.await.map_err(|_| StoreError::closed())?
    }

    /// [`Store::write_batch`] for what nobody waits for. It is left out when the queue is full.
    pub(crate) fn write_later<F>(&self, op: F)
    where
        F: FnOnce(&mut Batch<'_>) -> Result<(), StoreError> + Send + 'static,
    {
        let job = WriteJob {
            op: Some(op),
            result: None,
            reply: oneshot::channel().0,
        };
        // Full or closed: whoever calls this says what becomes of it then.
        let _ = self.queue.try_send(Command::Run(Box::new(job)));
    }

    async fn enqueue(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        let sent = self.queue.send(Command::Run(job)).await;
        sent.map_err(|_| StoreError::closed())
    }

    /// How much the file holds on the disk, and what the engine keeps of it in memory.
    ///
    /// # Errors
    /// The file cannot be looked at.
    pub fn usage(&self) -> io::Result<StorageUsage> {
        self.inner.engine.usage()
    }

    /// Entries that the audit log has got since the start, by what was done and whether it was.
    #[must_use]
    pub fn audited(&self) -> Vec<(AuditAction, AuditOutcome, u64)> {
        let counts = self.inner.audited.lock();
        counts
            .iter()
            .map(|((action, outcome), count)| (*action, *outcome, *count))
            .collect()
    }

    /// A quick look at a snapshot: a few rows by their keys.
    pub(crate) fn read<R>(
        &self,
        op: impl FnOnce(&ReadTransaction) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        op(&self.inner.engine.snapshot()?)
    }

    /// A longer look at a snapshot, off the runtime.
    pub(crate) async fn read_blocking<R, F>(&self, op: F) -> Result<R, StoreError>
    where
        R: Send + 'static,
        F: FnOnce(&ReadTransaction) -> Result<R, StoreError> + Send + 'static,
    {
        // Never closed, so a failure means that there is no limit any more, which cannot be.
        let _turn = self.inner.scans.acquire().await;
        let inner = self.inner.clone();
        let read = tokio::task::spawn_blocking(move || op(&inner.engine.snapshot()?));
        read.await.map_err(StoreError::damaged)?
    }
}

/// An operation's way into the writer's queue.
#[must_use = "an operation that still waits for its place in the queue is only carried out when that is awaited"]
pub enum Submitted {
    /// It is in the queue, or was refused already.
    Queued,
    /// The queue is full, and this puts it in as soon as there is a place. Dropped before, nothing happens, and
    /// nobody gets an answer.
    Waiting(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Submitted {
    /// Waits until it is in the queue.
    pub async fn queued(self) {
        match self {
            Self::Queued => {}
            Self::Waiting(place) => place.await,
        }
    }
}

impl std::fmt::Debug for Submitted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Queued => "Queued",
            Self::Waiting(_) => "Waiting",
        })
    }
}

fn no_such_room() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such room")
}

struct RoomJob<R, F, A> {
    room: RoomRef,
    op: Option<F>,
    result: Option<Result<R, Problem>>,
    reply: A,
    trace: Option<Arc<dyn Trace>>,
}

impl<R, F, A> Job for RoomJob<R, F, A>
where
    R: Send,
    F: FnOnce(&mut RoomTx<'_, '_>) -> Result<R, Problem> + Send,
    A: FnOnce(Result<R, Problem>) + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if let Some(op) = self.op.take() {
            let mut staged = batch.take_room(&self.room);
            let result = RoomTx::run(batch, &mut staged, op)?;
            if let Some(trace) = self.trace.take_if(|_| result.is_ok()) {
                staged.traces.push(trace);
            }
            self.result = Some(result);
            batch.stage(staged);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(StoreError::closed().into()),
            (Err(error), _) => Err(error.into()),
        };
        (self.reply)(answer);
    }
}

struct WriteJob<R, F> {
    op: Option<F>,
    result: Option<R>,
    reply: oneshot::Sender<Result<R, StoreError>>,
}

impl<R, F> Job for WriteJob<R, F>
where
    R: Send,
    F: FnOnce(&mut Batch<'_>) -> Result<R, StoreError> + Send,
{
    fn run(&mut self, batch: &mut Batch<'_>) -> Result<(), StoreError> {
        if let Some(op) = self.op.take() {
            self.result = Some(op(batch)?);
        }
        Ok(())
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { result, reply, .. } = *self;
        // Nobody waits any more when the caller has gone; the operation stands.
        let _ = reply.send(outcome.and_then(|()| result.ok_or_else(StoreError::closed)));
    }
}
