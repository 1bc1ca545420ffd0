//! Where events went, for whoever asks why one has not arrived: when a commit was published and handed out, where each
//! reader of a room stands, and who has left.
//!
//! Nothing is kept for an event and a reader. Where a reader stands is read off its cursor when somebody asks; what is
//! kept is one entry for a commit's part of a room and one for a subscription that has ended, each in a ring.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stack_storage::Moment;
use stack_types::{ConnectionId, EventBatch, RoomId, Seq, Timestamp, UnsubscribeReason, UserId};

/// Commits that are remembered, counted once for each room. At a commit of one room each second these are the last two
/// hours; together they take less than 1 MiB.
const COMMITS: usize = 8192;
/// Subscriptions that have ended that are remembered: as many as a restart of a busy room ends at once. They take less
/// than 1 MiB.
const DEPARTURES: usize = 4096;

/// How a commit's events of one room went out.
#[derive(Debug, Clone)]
pub struct HandedOut {
    /// The first of them.
    pub first: Seq,
    /// The last of them.
    pub last: Seq,
    /// When the commit was through.
    pub committed: Moment,
    /// How much later they were on the bus.
    pub published_after: Duration,
    /// How much later they had been written for every live reader.
    pub handed_after: Duration,
    /// Live readers that took all of what went out with them.
    pub readers: u64,
    /// Live readers that fell behind with what went out with them.
    pub fell_behind: u64,
}

/// A reader of a room, and where it stands.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Whose it is.
    pub user: UserId,
    /// Over which connection, if that has said so.
    pub connection: Option<ConnectionId>,
    /// When it subscribed.
    pub begun: Instant,
    /// What it asked for lies behind this event.
    pub from: Seq,
    /// The last event that was handed over to the writer of its socket. Not known of a relayed one.
    pub cursor: Seq,
    /// How it gets its events.
    pub standing: Standing,
    /// Bytes that wait for its socket.
    pub waiting_bytes: usize,
}

/// How a reader gets its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As they come.
    Live,
    /// From the log, since then.
    Behind(Instant),
    /// From another gateway, which knows how far it is.
    Relayed,
}

/// A subscription that has ended. One whose connection goes on with another in its place is none.
#[derive(Debug, Clone)]
pub struct Departure {
    /// Whose it was.
    pub user: UserId,
    /// Over which connection.
    pub connection: Option<ConnectionId>,
    /// When it subscribed.
    pub begun: Instant,
    /// What it asked for lay behind this event.
    pub from: Seq,
    /// At least up to this event it was handed everything: what was being written just then is not counted. Not known of
    /// a relayed one.
    pub cursor: Seq,
    /// Whether its events came from another gateway.
    pub is_relayed: bool,
    /// When it ended.
    pub ended: Instant,
    /// Why, if it was told.
    pub reason: Option<UnsubscribeReason>,
}

/// What is remembered.
#[derive(Default)]
pub(crate) struct Memory {
    commits: Mutex<VecDeque<Entry>>,
    departures: Mutex<VecDeque<(RoomId, Departure)>>,
}

/// A commit's events of one room.
pub(crate) struct CommitPart {
    room: RoomId,
    first: Seq,
    last: Seq,
    moment: Moment,
}

/// The same, as it is kept.
pub(crate) struct Entry {
    part: CommitPart,
    out: Out,
}

/// How they went out.
#[derive(Clone, Copy)]
pub(crate) struct Out {
    pub(crate) published: Instant,
    pub(crate) handed: Instant,
    pub(crate) readers: u64,
    pub(crate) fell_behind: u64,
}

impl Out {
    /// Nobody reads the room here.
    pub(crate) fn to_nobody(published: Instant) -> Self {
        Self {
            published,
            handed: published,
            readers: 0,
            fell_behind: 0,
        }
    }
}

impl Memory {
    pub(crate) fn note(&self, entries: impl Iterator<Item = Entry>) {
        let mut commits = self.commits.lock();
        for entry in entries {
            push(&mut commits, COMMITS, entry);
        }
    }

    pub(crate) fn note_departure(&self, room: RoomId, departure: Departure) {
        push(&mut self.departures.lock(), DEPARTURES, (room, departure));
    }

    pub(crate) fn commit_of(&self, room: &RoomId, seq: Seq) -> Option<HandedOut> {
        let commits = self.commits.lock();
        let is_it = |entry: &&Entry| entry.part.has(room, seq);
        commits.iter().rev().find(is_it).map(Entry::told)
    }

    /// Since when neither a commit nor a subscription that has ended was forgotten; `None` while none ever was.
    pub(crate) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        let commits = oldest_of_full(&self.commits.lock(), COMMITS, |entry| entry.part.moment.at);
        let ended = |(_, departure): &(RoomId, Departure)| now.minus(departure.ended.elapsed());
        let departures = oldest_of_full(&self.departures.lock(), DEPARTURES, ended);
        commits.max(departures)
    }

    /// Newest first.
    pub(crate) fn departures(&self, room: &RoomId) -> Vec<Departure> {
        let departures = self.departures.lock();
        let of_room = departures.iter().rev().filter(|(of, _)| of == room);
        of_room.map(|(_, departure)| departure.clone()).collect()
    }
}

fn push<T>(ring: &mut VecDeque<T>, most: usize, item: T) {
    if ring.len() == most {
        ring.pop_front();
    }
    ring.push_back(item);
}

/// When the oldest of a ring was, if the ring is full: others may have been in front of it.
fn oldest_of_full<T>(
    ring: &VecDeque<T>,
    most: usize,
    when: impl Fn(&T) -> Timestamp,
) -> Option<Timestamp> {
    ring.front().filter(|_| ring.len() == most).map(when)
}

impl CommitPart {
    pub(crate) fn of(room: &RoomId, batch: &EventBatch, moment: Moment) -> Self {
        Self {
            room: room.clone(),
            first: batch.first(),
            last: batch.last(),
            moment,
        }
    }

    pub(crate) fn went(self, out: Out) -> Entry {
        Entry { part: self, out }
    }

    fn has(&self, room: &RoomId, seq: Seq) -> bool {
        (self.first..=self.last).contains(&seq) && self.room == *room
    }
}

impl Entry {
    fn told(&self) -> HandedOut {
        let committed = self.part.moment;
        let after = |instant: Instant| instant.saturating_duration_since(committed.instant);
        HandedOut {
            first: self.part.first,
            last: self.part.last,
            committed,
            published_after: after(self.out.published),
            handed_after: after(self.out.handed),
            readers: self.out.readers,
            fell_behind: self.out.fell_behind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(room: &RoomId, seq: u64) -> Entry {
        let instant = Instant::now();
        let part = CommitPart {
            room: room.clone(),
            first: Seq(seq),
            last: Seq(seq),
            moment: Moment {
                at: Timestamp(seq),
                instant,
            },
        };
        part.went(Out {
            published: instant,
            handed: instant,
            readers: 1,
            fell_behind: 0,
        })
    }

    #[test]
    fn the_oldest_commits_are_forgotten_and_it_is_said_since_when() {
        let memory = Memory::default();
        let (one, other) = ("one".parse().unwrap(), "other".parse().unwrap());
        memory.note([entry(&one, 1)].into_iter());
        assert_eq!(memory.since(Timestamp(1)), None);
        assert_eq!(memory.commit_of(&one, Seq(1)).unwrap().readers, 1);
        assert!(memory.commit_of(&other, Seq(1)).is_none());
        assert!(memory.commit_of(&one, Seq(2)).is_none());
        let many = 2..=u64::try_from(COMMITS).unwrap() + 1;
        memory.note(many.map(|seq| entry(&other, seq)));
        assert!(memory.commit_of(&one, Seq(1)).is_none());
        assert_eq!(memory.since(Timestamp(1)), Some(Timestamp(2)));
        // Whichever was forgotten last counts.
        let ended = Instant::now();
        let departure = Departure {
            user: "ann".parse().unwrap(),
            connection: None,
            begun: ended,
            from: Seq::ZERO,
            cursor: Seq::ZERO,
            is_relayed: false,
            ended,
            reason: None,
        };
        for _ in 0..DEPARTURES {
            assert_eq!(memory.since(Timestamp(u64::MAX)), Some(Timestamp(2)));
            memory.note_departure(one.clone(), departure.clone());
        }
        assert!(memory.since(Timestamp(u64::MAX)) > Some(Timestamp(2)));
        assert!(std::mem::size_of::<Entry>() * COMMITS <= 1024 * 1024);
        assert!(std::mem::size_of::<(RoomId, Departure)>() * DEPARTURES <= 1024 * 1024);
    }
}
