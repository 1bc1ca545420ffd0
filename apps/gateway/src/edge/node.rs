//! The edge's end of the link: who is told of it, and the log of the origin as the edge's hub reads it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stack_delivery::{Hub, LogPage, Reading, RemoteLog, RemoteRoom, Room, RoomHead};
use stack_ipc::edge::{CallError, Down, EdgeEvents, EdgeLimits, EdgeLink, Ending, SocketId, Up};
use stack_storage::PageLimit;
use stack_types::{EventBatch, RoomId, Seq};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Lifecycle;

/// How often the origin is asked where rooms stand: what the bus has lost is found by it, and that the origin is there.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// An origin that has not answered by then is out of reach: events must not go on for long to somebody whom it may have
/// put out.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
/// A page that has not come by then does not come on this link.
const PAGE_WITHIN: Duration = Duration::from_secs(10);
/// The pause before a page that was refused is asked for again.
const PAGE_PAUSE: Duration = Duration::from_millis(500);
/// A page that was read serves all who ask for the same so soon after: when the bus loses a batch, everybody in its room
/// does.
const PAGE_SERVES: Duration = Duration::from_millis(200);
/// Pages that are kept for that at most, of 64 KiB or one event each.
const KEPT_PAGES: usize = 32;
/// Rooms that one question names.
const ROOMS_AT_ONCE: usize = 4096;

/// What a socket hears from the link.
pub(crate) enum News {
    /// The origin says something to it.
    Down(Down),
    /// There is another link.
    Linked(EdgeLink),
    /// The link is over.
    Lost,
}

/// The link, and who is told of it. Cloning shares it.
#[derive(Clone, Default)]
pub(crate) struct Upstream(Arc<UpstreamInner>);

struct UpstreamInner {
    next: AtomicU64,
    state: Mutex<State>,
    current: watch::Sender<Option<(EdgeLink, EdgeLimits)>>,
    /// Pages that were just read.
    pages: Mutex<VecDeque<KeptPage>>,
}

struct KeptPage {
    room: RoomId,
    after: Seq,
    read: Instant,
    page: LogPage,
}

#[derive(Default)]
struct State {
    link: Option<EdgeLink>,
    sockets: HashMap<SocketId, Arc<Inbox>>,
}

impl Default for UpstreamInner {
    fn default() -> Self {
        Self {
            // 0 is no socket.
            next: AtomicU64::new(1),
            state: Mutex::default(),
            current: watch::Sender::new(None),
            pages: Mutex::default(),
        }
    }
}

impl Upstream {
    /// The link that stands, if one does, and what it allows.
    pub(crate) fn link(&self) -> Option<(EdgeLink, EdgeLimits)> {
        self.0.current.borrow().clone()
    }

    /// Waits for a link that stands.
    pub(crate) async fn linked(&self) -> EdgeLink {
        let mut current = self.0.current.subscribe();
        loop {
            if let Some((link, _)) = current.borrow_and_update().clone()
                && !link.is_over()
            {
                return link;
            }
            if current.changed().await.is_err() {
                // The sender is in `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// A page that was read when the room stood at `known` or beyond. Whatever was taken back is an event too: what was known
    /// to have happened stands in such a page as it is now.
    fn kept(&self, room: &RoomId, after: Seq, known: Seq) -> Option<LogPage> {
        let mut pages = self.0.pages.lock();
        while pages
            .front()
            .is_some_and(|kept| kept.read.elapsed() > PAGE_SERVES)
        {
            pages.pop_front();
        }
        let found = pages
            .iter()
            .rev()
            .find(|kept| kept.after == after && kept.room == *room && kept.page.at.head >= known);
        found.map(|kept| kept.page.clone())
    }

    fn keep(&self, room: &RoomId, after: Seq, page: &LogPage) {
        // Of what is not there yet nothing is kept.
        if page.events.frames().is_empty() {
            return;
        }
        let mut pages = self.0.pages.lock();
        if pages.len() == KEPT_PAGES {
            pages.pop_front();
        }
        pages.push_back(KeptPage {
            room: room.clone(),
            after,
            read: Instant::now(),
            page: page.clone(),
        });
    }

    /// Gives a new socket its number; from here on it hears of the link. `None` without one.
    pub(crate) fn enter(&self) -> Option<(Entered, EdgeLink)> {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::<Inbox>::default();
        let mut state = self.0.state.lock();
        let link = state.link.clone()?;
        state.sockets.insert(id, inbox.clone());
        let entered = Entered {
            upstream: self.clone(),
            id,
            inbox,
        };
        Some((entered, link))
    }
}

impl EdgeEvents for Upstream {
    fn linked(&self, link: EdgeLink, limits: EdgeLimits) {
        tracing::info!("the origin is linked");
        let mut state = self.0.state.lock();
        state.link = Some(link.clone());
        for inbox in state.sockets.values() {
            inbox.leave(News::Linked(link.clone()));
        }
        self.0.current.send_replace(Some((link, limits)));
    }

    fn down(&self, items: Vec<(SocketId, Down)>) {
        let state = self.0.state.lock();
        for (id, item) in items {
            match (state.sockets.get(&id), item) {
                (Some(inbox), item) => inbox.leave(News::Down(item)),
                // Its client went away while the origin was asked for the upgrade. The origin has heard nothing of that:
                // it had no such socket yet.
                (None, Down::Standing(_)) => {
                    if let Some(link) = &state.link {
                        link.up(id, Up::Ended(Ending::Gone));
                    }
                }
                // Of a socket that has gone nothing is left to say.
                (None, _) => {}
            }
        }
    }

    fn lost(&self) {
        tracing::warn!("the link to the origin is lost");
        let mut state = self.0.state.lock();
        state.link = None;
        for inbox in state.sockets.values() {
            inbox.leave(News::Lost);
        }
        self.0.current.send_replace(None);
    }
}

impl RemoteLog for Upstream {
    fn page_after(&self, room: &RemoteRoom, after: Seq, limit: PageLimit) -> Reading {
        let (upstream, known) = (self.clone(), room.head());
        let room = room.id().clone();
        Box::pin(async move {
            loop {
                let link = upstream.linked().await;
                if let Some(page) = upstream.kept(&room, after, known) {
                    return page;
                }
                let page = link.page(&room, after, limit.events, limit.bytes);
                match timeout(PAGE_WITHIN, page).await {
                    Ok(Ok(page)) => {
                        let page = LogPage {
                            events: EventBatch::new(page.from, page.frames),
                            at: head_of(page.at),
                        };
                        upstream.keep(&room, after, &page);
                        return page;
                    }
                    Ok(Err(CallError::Lost)) => sleep(PAGE_PAUSE / 10).await,
                    Ok(Err(CallError::Refused(problem))) => {
                        tracing::warn!(%room, %problem, "a page of {room} was refused: {problem}");
                        sleep(PAGE_PAUSE).await;
                    }
                    Err(_) => link.cut(),
                }
            }
        })
    }
}

fn head_of(at: stack_ipc::edge::RoomHead) -> RoomHead {
    RoomHead {
        head: at.head,
        first: at.first,
        gone: at.gone,
    }
}

/// What the link has for a socket. It is bounded by what the origin sends before it is told that something was taken.
#[derive(Default)]
pub(crate) struct Inbox {
    come: Mutex<Vec<News>>,
    news: Notify,
}

impl Inbox {
    fn leave(&self, news: News) {
        let mut come = self.come.lock();
        come.push(news);
        if come.len() == 1 {
            self.news.notify_one();
        }
    }

    /// All that has come, at least one. Cancel safe. For one task.
    pub(crate) async fn recv(&self) -> Vec<News> {
        loop {
            let come = std::mem::take(&mut *self.come.lock());
            if !come.is_empty() {
                return come;
            }
            self.news.notified().await;
        }
    }
}

/// A socket's place among those that hear of the link. Dropping it gives the place back, and tells the origin.
pub(crate) struct Entered {
    upstream: Upstream,
    id: SocketId,
    inbox: Arc<Inbox>,
}

impl Entered {
    /// What the link calls it.
    pub(crate) fn id(&self) -> SocketId {
        self.id
    }

    /// What the link has for it.
    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        self.inbox.clone()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut state = self.upstream.0.state.lock();
        state.sockets.remove(&self.id);
        if let Some(link) = &state.link {
            link.up(self.id, Up::Ended(Ending::Gone));
        }
    }
}

/// An edge, as its sockets and requests see it. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Node(Arc<NodeInner>);

struct NodeInner {
    hub: Hub,
    upstream: Upstream,
    lifecycle: Lifecycle,
    /// Rooms that somebody begins to read here.
    fresh: Mutex<Vec<RoomId>>,
    is_fresh: Notify,
}

impl Node {
    pub(crate) fn new(hub: Hub, upstream: Upstream, lifecycle: Lifecycle) -> Self {
        Self(Arc::new(NodeInner {
            hub,
            upstream,
            lifecycle,
            fresh: Mutex::default(),
            is_fresh: Notify::new(),
        }))
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.0.upstream
    }

    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.0.lifecycle
    }

    /// Has somebody look at once where a room stands that was not listened to before.
    pub(crate) fn look_at(&self, room: RoomId) {
        self.0.fresh.lock().push(room);
        self.0.is_fresh.notify_one();
    }

    /// Asks the origin where rooms stand, until `stop`.
    pub(crate) async fn run_asking(self, stop: CancellationToken) {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    let rooms = self.0.hub.rooms().into_iter();
                    let ids = rooms.filter_map(|room| match room {
                        Room::Remote(room) => Some(room.id().clone()),
                        Room::Stored(_) => None,
                    });
                    self.ask(ids.collect()).await;
                }
                () = self.0.is_fresh.notified() => {
                    let fresh = std::mem::take(&mut *self.0.fresh.lock());
                    self.ask(fresh.clone()).await;
                    for room in fresh {
                        self.0.hub.heal_at_once(&room);
                    }
                }
            }
        }
    }

    /// Asks about these rooms; about none too, to see that the origin is there.
    async fn ask(&self, rooms: Vec<RoomId>) {
        let Some((link, _)) = self.0.upstream.link() else {
            return;
        };
        let none = rooms.is_empty().then_some(&[][..]);
        for some in rooms.chunks(ROOMS_AT_ONCE).chain(none) {
            match timeout(ANSWERED_WITHIN, link.heads(some.to_vec())).await {
                Ok(Ok(heads)) => {
                    for (room, at) in some.iter().zip(heads) {
                        if let Some(Room::Remote(room)) = self.0.hub.room_of(room) {
                            room.learn(head_of(at));
                        }
                    }
                }
                Ok(Err(error)) => {
                    tracing::debug!(?error, "where rooms stand was not told");
                    return;
                }
                Err(_) => {
                    tracing::warn!("the origin has not answered for {ANSWERED_WITHIN:?}");
                    link.cut();
                    return;
                }
            }
        }
    }
}
