//! A client of the model: it has cursors, and a connection as long as that holds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use stack_delivery::{Hub, Outlet, Pumped, Room, Subscription};
use stack_proto::JsonCodec;
use stack_types::{EventCodec, Frames, Seq, UserId};
use tokio::task::JoinSet;

use crate::pipe::Pipe;
use crate::said::{Said, room_of};

/// A hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// The one that gets the commits.
    Own,
    /// One that has the bus, and the store.
    Other,
    /// One that has the bus, and a log that is far.
    Far,
}

pub(crate) struct Client {
    pub(crate) user: UserId,
    /// Which of the hubs it connects to.
    pub(crate) on: On,
    /// The last event it has of each room it listens to.
    pub(crate) cursors: BTreeMap<usize, u64>,
    pub(crate) connection: Option<Connection>,
    /// What it had subscribed to when its connection broke.
    pub(crate) wanted: Vec<usize>,
}

pub(crate) struct Connection {
    hub: Hub,
    pub(crate) pipe: Pipe,
    outlet: Arc<Outlet>,
    pub(crate) subscriptions: BTreeMap<usize, Arc<Subscription>>,
    /// Requests whose answer has not been read: where the cursor of a room stands with it.
    asked: VecDeque<(usize, Option<u64>)>,
    pump: JoinSet<()>,
}

impl Client {
    /// Reads what has come: every event stands in line behind its room's cursor, and reads as it was said.
    pub(crate) fn read(&mut self, log: &[Vec<Said>]) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        for frame in connection.pipe.take_frames() {
            let value: serde_json::Value = serde_json::from_slice(&frame).unwrap();
            match value["type"].as_str().unwrap() {
                "ok" => {
                    let (room, cursor) = connection.asked.pop_front().unwrap();
                    set(&mut self.cursors, room, cursor);
                }
                "unsubscribed" => {
                    let room = room_of(&value["payload"]["room"]);
                    let had = self.cursors.remove(&room);
                    assert!(
                        had.is_some(),
                        "the end of what was not begun, or a second end"
                    );
                }
                _ => {
                    let room = room_of(&value["payload"]["room"]);
                    let event = JsonCodec.decode(&frame).unwrap();
                    let cursor = self.cursors.get_mut(&room);
                    let cursor = cursor.unwrap_or_else(|| panic!("unasked for: {value}"));
                    assert_eq!(event.seq.0, *cursor + 1, "out of line: {value}");
                    *cursor += 1;
                    let said = log[room].get(event.seq.0 as usize - 1);
                    assert!(
                        said.is_some_and(|said| said.is(&event)),
                        "never said: {value}"
                    );
                }
            }
        }
    }

    /// The connection is gone. What had come is still to be read, but for the last bytes.
    pub(crate) async fn sever(&mut self, lost: usize) {
        if let Some(connection) = &mut self.connection {
            connection.outlet.close();
            connection.pipe.lose(lost);
            if let Some(pumped) = connection.pump.join_next().await {
                pumped.unwrap();
            }
            for subscription in connection.subscriptions.values() {
                connection.hub.unsubscribe(subscription, None);
            }
        }
    }

    /// Finds that its connection is gone.
    pub(crate) fn hang_up(&mut self, log: &[Vec<Said>]) {
        self.read(log);
        let Some(connection) = self.connection.take() else {
            return;
        };
        // What it asked for without hearing of it, it will ask for again; and it will find out what has ended.
        for (room, cursor) in connection.asked {
            set(&mut self.cursors, room, cursor);
        }
        self.wanted = connection.subscriptions.keys().copied().collect();
        self.cursors.retain(|room, _| self.wanted.contains(room));
    }

    /// Whether it has everything of everything it listens to, and has read every answer.
    pub(crate) fn is_at(&self, heads: &[u64]) -> bool {
        self.connection.as_ref().is_none_or(|connection| {
            connection.asked.is_empty()
                && self.cursors.keys().eq(connection.subscriptions.keys())
                && self.cursors.iter().all(|(room, at)| *at == heads[*room])
        })
    }
}

fn set(cursors: &mut BTreeMap<usize, u64>, room: usize, cursor: Option<u64>) {
    match cursor {
        Some(after) => cursors.insert(room, after),
        None => cursors.remove(&room),
    };
}

impl Connection {
    pub(crate) fn open(hub: Hub) -> Self {
        let pipe = Pipe::open();
        let outlet = Outlet::new(pipe.clone());
        let mut pump = JoinSet::new();
        let (pumping, pumped) = (hub.clone(), outlet.clone());
        pump.spawn(
            async move { while let Pumped::Ended(_) = pumping.pump(&pumped).await.unwrap() {} },
        );
        Self {
            hub,
            pipe,
            outlet,
            subscriptions: BTreeMap::new(),
            asked: VecDeque::new(),
            pump,
        }
    }

    /// As the gateway does it: the new one takes the old one's place, and the answer comes before its events.
    pub(crate) fn subscribe(&mut self, user: UserId, found: Room, room: usize, after: u64) {
        let before = self.subscriptions.get(&room);
        let subscription = before
            .and_then(|before| self.hub.renew(before, || Seq(after)))
            .unwrap_or_else(|| self.hub.subscribe(&self.outlet, found, user, Seq(after)));
        self.subscriptions.insert(room, subscription.clone());
        self.answer(room, Some(after));
        self.hub.begin(&subscription);
    }

    pub(crate) fn unsubscribe(&mut self, room: usize) {
        if let Some(subscription) = self.subscriptions.remove(&room) {
            self.hub.unsubscribe(&subscription, None);
        }
        self.answer(room, None);
    }

    fn answer(&mut self, room: usize, cursor: Option<u64>) {
        self.asked.push_back((room, cursor));
        let frame = Frames::one(br#"{"type":"ok"}"#);
        self.outlet.send(frame.wire().clone());
    }
}
