//! The log as a hub needs it: where rooms stand, and pages behind a cursor. It is the store in this process, or that
//! of another gateway.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stack_storage::{PageLimit, RoomRef, Store, StoreError};
use stack_types::{EventBatch, RoomId, Seq};

/// A log that is somewhere else, and may be out of reach for a while.
pub trait RemoteLog: Send + Sync + 'static {
    /// The events of a room behind `after`, oldest first, as much as `limit` allows; none when there are none. It waits
    /// for as long as the log cannot be reached. What is known of the room has happened: a page that was read before that is
    /// not good enough, since what was taken back since may stand in it. Dropping the future leaves nothing behind.
    fn page_after(&self, room: &RemoteRoom, after: Seq, limit: PageLimit) -> Reading;
}

/// What [`RemoteLog::page_after`] gives.
pub type Reading = Pin<Box<dyn Future<Output = LogPage> + Send>>;

/// A page of another gateway's log.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The events.
    pub events: EventBatch,
    /// Where the room stood when it was read.
    pub at: RoomHead,
}

/// Where a room stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoomHead {
    /// Its last event.
    pub head: Seq,
    /// The first event that is still there.
    pub first: Seq,
    /// Whether the room is gone, and its log with it.
    pub gone: bool,
}

/// A room of a [`RemoteLog`], as far as it is known here: never further than it is.
pub struct RemoteRoom {
    id: RoomId,
    head: AtomicU64,
    first: AtomicU64,
    gone: AtomicBool,
}

impl RemoteRoom {
    /// A room that stood here when somebody looked.
    #[must_use]
    pub fn new(id: RoomId, at: RoomHead) -> Arc<Self> {
        Arc::new(Self {
            id,
            head: AtomicU64::new(at.head.0),
            first: AtomicU64::new(at.first.0),
            gone: AtomicBool::new(at.gone),
        })
    }

    /// Its slug.
    #[must_use]
    pub fn id(&self) -> &RoomId {
        &self.id
    }

    /// Its last event, as far as it is known here.
    #[must_use]
    pub fn head(&self) -> Seq {
        Seq(self.head.load(Ordering::Acquire))
    }

    /// Takes in where it stood at some time. What was known may be newer: nothing goes back.
    pub fn learn(&self, at: RoomHead) {
        self.head.fetch_max(at.head.0, Ordering::AcqRel);
        self.first.fetch_max(at.first.0, Ordering::AcqRel);
        if at.gone {
            self.gone.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for RemoteRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRoom")
            .field("id", &self.id)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// Where a hub reads what its readers have missed.
#[derive(Clone)]
pub enum Log {
    /// From the store in this process.
    Stored(Store),
    /// From another gateway.
    Remote(Arc<dyn RemoteLog>),
}

impl From<Store> for Log {
    fn from(store: Store) -> Self {
        Self::Stored(store)
    }
}

/// A room of a [`Log`].
#[derive(Debug, Clone)]
pub enum Room {
    /// Of the store in this process.
    Stored(RoomRef),
    /// Of another gateway.
    Remote(Arc<RemoteRoom>),
}

impl From<&RoomRef> for Room {
    fn from(room: &RoomRef) -> Self {
        Self::Stored(room.clone())
    }
}

impl From<&Arc<RemoteRoom>> for Room {
    fn from(room: &Arc<RemoteRoom>) -> Self {
        Self::Remote(room.clone())
    }
}

impl Room {
    pub(crate) fn id(&self) -> &RoomId {
        match self {
            Self::Stored(room) => room.id(),
            Self::Remote(room) => room.id(),
        }
    }

    /// Its last event, as far as it is known here.
    pub(crate) fn head(&self) -> Seq {
        match self {
            Self::Stored(room) => room.head(),
            Self::Remote(room) => room.head(),
        }
    }

    /// The first event that is still there.
    pub(crate) fn first(&self) -> Seq {
        match self {
            Self::Stored(room) => room.first(),
            Self::Remote(room) => Seq(room.first.load(Ordering::Acquire)),
        }
    }

    /// Whether it is gone. Its log is no longer read then.
    pub(crate) fn is_deleted(&self) -> bool {
        match self {
            Self::Stored(room) => room.is_deleted(),
            Self::Remote(room) => room.gone.load(Ordering::Acquire),
        }
    }
}

impl Log {
    /// Events of a room behind `after`; none when there are none.
    pub(crate) async fn page_after(
        &self,
        room: &Room,
        after: Seq,
        limit: PageLimit,
    ) -> Result<EventBatch, StoreError> {
        match (self, room) {
            (Self::Stored(store), Room::Stored(room)) => store.page_after(room, after, limit).await,
            (Self::Remote(log), Room::Remote(room)) => {
                let page = log.page_after(room, after, limit).await;
                room.learn(page.at);
                Ok(page.events)
            }
            // Whoever has a hub over one log and subscribes to rooms of another has mixed up two gateways.
            _ => unreachable!("the room is of another log"),
        }
    }
}
