//! A log in another process, which goes away and comes back; here it is the model's own store behind a door.

use stack_delivery::{Hub, LogPage, Reading, RemoteLog, RemoteRoom, Room, RoomHead};
use stack_storage::{PageLimit, RoomRef, Store};
use stack_types::Seq;
use std::sync::Arc;
use tokio::sync::watch;

/// Readers of it wait while it is away.
pub(crate) struct FarLog {
    store: Store,
    is_away: watch::Sender<bool>,
}

impl FarLog {
    pub(crate) fn of(store: &Store) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            is_away: watch::Sender::new(false),
        })
    }

    pub(crate) fn go(&self, away: bool) {
        self.is_away.send_replace(away);
    }

    /// Looks where the rooms of a hub stand, unless the log is away.
    pub(crate) fn look(&self, hub: &Hub) {
        if *self.is_away.borrow() {
            return;
        }
        for room in hub.rooms() {
            if let Room::Remote(room) = room
                && let Ok(Some(found)) = self.store.room(room.id())
            {
                room.learn(head_of(&found));
            }
        }
    }
}

impl RemoteLog for FarLog {
    fn page_after(&self, room: &RemoteRoom, after: Seq, limit: PageLimit) -> Reading {
        let (store, room) = (self.store.clone(), room.id().clone());
        let mut is_away = self.is_away.subscribe();
        Box::pin(async move {
            loop {
                if is_away.wait_for(|away| !away).await.is_err() {
                    std::future::pending::<()>().await;
                }
                let found = store.room(&room).unwrap().unwrap();
                let events = store.page_after(&found, after, limit).await.unwrap();
                // An answer that was on its way when the log went is lost.
                if !*is_away.borrow_and_update() {
                    let at = head_of(&found);
                    return LogPage { events, at };
                }
            }
        })
    }
}

fn head_of(room: &RoomRef) -> RoomHead {
    RoomHead {
        head: room.head(),
        first: room.first(),
        gone: room.is_deleted(),
    }
}

/// The room as a hub over a far log knows it. Of a new one no more is known than that the reader's cursor is in it: what
/// has come since was for nobody there.
pub(crate) fn room_of(hub: &Hub, room: &RoomRef, after: u64) -> Room {
    hub.room_of(room.id()).unwrap_or_else(|| {
        let at = RoomHead {
            head: Seq(after),
            ..RoomHead::default()
        };
        Room::Remote(RemoteRoom::new(room.id().clone(), at))
    })
}
