//! The state of presence, without I/O: every change is given the time and appends what is to be told.
//!
//! Always holds: `people` of a room is how many live leases of each user are in it, and no room and no person
//! stays behind with nobody in it. A lease stays until it is released; one that has expired keeps its rooms and is
//! counted in none.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use stack_bus::Message;
use stack_types::{Presence, PresenceStatus, RoomId, Timestamp, UserId};

use crate::{RoomPresence, Seen, delta};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LeaseId(u64);

pub(crate) struct State {
    leases: HashMap<LeaseId, Holding>,
    people: HashMap<UserId, Person>,
    rooms: HashMap<RoomId, Room>,
    /// People who have gone and whose last-seen time is not written yet.
    gone: HashMap<UserId, Timestamp>,
    count_only_above: usize,
    /// No version of a room that anybody has seen, and that is not kept with the room, is above this.
    version_floor: u64,
    /// Numbers leases and statuses in the order they were made.
    counter: u64,
}

struct Holding {
    user: UserId,
    seen_at: Timestamp,
    live: bool,
    rooms: BTreeSet<RoomId>,
    said: Option<Said>,
}

/// What a user says of itself on one connection.
struct Said {
    order: u64,
    status: Status,
}

#[derive(Clone, PartialEq, Eq)]
struct Status {
    status: PresenceStatus,
    text: Option<String>,
}

impl Status {
    const ONLINE: Self = Self {
        status: PresenceStatus::Online,
        text: None,
    };
}

/// A user with at least one live lease.
struct Person {
    leases: Vec<LeaseId>,
    shown: Status,
    written_at: Timestamp,
}

struct Room {
    people: HashMap<UserId, u32>,
    version: u64,
}

impl State {
    pub(crate) fn new(count_only_above: usize) -> Self {
        Self {
            leases: HashMap::new(),
            people: HashMap::new(),
            rooms: HashMap::new(),
            gone: HashMap::new(),
            count_only_above,
            version_floor: 0,
            counter: 0,
        }
    }

    pub(crate) fn connect(&mut self, user: UserId, now: Timestamp) -> LeaseId {
        self.counter += 1;
        let id = LeaseId(self.counter);
        self.leases.insert(
            id,
            Holding {
                user,
                seen_at: now,
                live: true,
                rooms: BTreeSet::new(),
                said: None,
            },
        );
        self.join_person(user, id);
        id
    }

    /// Keeps a lease alive, and brings an expired one back.
    pub(crate) fn renew(&mut self, id: LeaseId, now: Timestamp, told: &mut Vec<Message>) {
        let Some(lease) = self.leases.get_mut(&id) else {
            return;
        };
        lease.seen_at = now;
        if lease.live {
            return;
        }
        lease.live = true;
        let (user, rooms) = (lease.user, lease.rooms.clone());
        self.join_person(user, id);
        self.show(user, told);
        for room in &rooms {
            self.count_in(room, user, now, told);
        }
    }

    pub(crate) fn enter(
        &mut self,
        id: LeaseId,
        room: &RoomId,
        now: Timestamp,
        told: &mut Vec<Message>,
    ) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.rooms.insert(room.clone())
            && lease.live
        {
            let user = lease.user;
            self.count_in(room, user, now, told);
        }
    }

    pub(crate) fn leave(&mut self, id: LeaseId, room: &RoomId, told: &mut Vec<Message>) {
        if let Some(lease) = self.leases.get_mut(&id)
            && lease.rooms.remove(room)
            && lease.live
        {
            let user = lease.user;
            self.count_out(room, user, told);
        }
    }

    pub(crate) fn say(
        &mut self,
        id: LeaseId,
        status: PresenceStatus,
        text: Option<String>,
        told: &mut Vec<Message>,
    ) {
        self.counter += 1;
        let order = self.counter;
        if let Some(lease) = self.leases.get_mut(&id) {
            let status = Status { status, text };
            lease.said = Some(Said { order, status });
            let user = lease.user;
            self.show(user, told);
        }
    }

    pub(crate) fn release(&mut self, id: LeaseId, told: &mut Vec<Message>) {
        self.stop(id, told);
        self.leases.remove(&id);
    }

    /// Ends every live lease not renewed for `lease`, and says how many that were.
    pub(crate) fn expire(
        &mut self,
        now: Timestamp,
        lease: Duration,
        told: &mut Vec<Message>,
    ) -> usize {
        let mut late: Vec<LeaseId> = Vec::new();
        for (id, holding) in &mut self.leases {
            // After the clock was set back, the lease runs from now.
            holding.seen_at = holding.seen_at.min(now);
            if holding.live && now.since(holding.seen_at) >= lease {
                late.push(*id);
            }
        }
        late.sort_unstable();
        for id in &late {
            self.stop(*id, told);
        }
        late.len()
    }

    pub(crate) fn snapshot(&mut self, room: &RoomId, now: Timestamp) -> RoomPresence {
        let Some(here) = self.rooms.get(room) else {
            // Whoever enters the room later gets a version above the one told here.
            self.version_floor = self.version_floor.max(now.0);
            return RoomPresence {
                users: Vec::new(),
                count: 0,
                version: self.version_floor,
            };
        };
        let count = here.people.len();
        let mut users: Vec<Presence> = Vec::new();
        if count <= self.count_only_above {
            users.extend(here.people.keys().filter_map(|user| self.presence(*user)));
            users.sort_unstable_by_key(|presence| presence.user_id);
        }
        RoomPresence {
            users,
            count,
            version: here.version,
        }
    }

    pub(crate) fn is_connected(&self, user: UserId) -> bool {
        self.people.contains_key(&user)
    }

    /// Up to `limit` users whose last-seen time is to be written: those who have gone, and those who are here and
    /// whose time was last written `every` ago or longer. They count as written.
    pub(crate) fn take_seen(&mut self, every: Duration, limit: usize) -> Vec<Seen> {
        let mut seen: Vec<Seen> = self
            .gone
            .iter()
            .take(limit)
            .map(|(&user_id, &at)| Seen { user_id, at })
            .collect();
        for written in &seen {
            self.gone.remove(&written.user_id);
        }
        for (&user_id, person) in &mut self.people {
            if seen.len() >= limit {
                break;
            }
            let at = last_seen(&self.leases, person);
            if at > person.written_at && at.since(person.written_at) >= every {
                person.written_at = at;
                seen.push(Seen { user_id, at });
            }
        }
        seen
    }

    /// Takes back what could not be written.
    pub(crate) fn give_back(&mut self, seen: Vec<Seen>) {
        for Seen { user_id, at } in seen {
            match self.people.get_mut(&user_id) {
                Some(person) => person.written_at = Timestamp::default(),
                None => {
                    let kept = self.gone.entry(user_id).or_insert(at);
                    *kept = at.max(*kept);
                }
            }
        }
    }

    fn presence(&self, user: UserId) -> Option<Presence> {
        let person = self.people.get(&user)?;
        Some(Presence {
            user_id: user,
            status: person.shown.status,
            text: person.shown.text.clone(),
            last_seen_at: last_seen(&self.leases, person),
        })
    }

    fn join_person(&mut self, user: UserId, id: LeaseId) {
        let person = self.people.entry(user).or_insert_with(|| Person {
            leases: Vec::new(),
            shown: Status::ONLINE,
            written_at: Timestamp::default(),
        });
        person.leases.push(id);
        // Somebody who is back is written as such later, and then with a later time.
        self.gone.remove(&user);
    }

    /// Takes a live lease out of everything it is counted in.
    fn stop(&mut self, id: LeaseId, told: &mut Vec<Message>) {
        let Some(lease) = self.leases.get_mut(&id).filter(|lease| lease.live) else {
            return;
        };
        lease.live = false;
        let (user, seen_at, rooms) = (lease.user, lease.seen_at, lease.rooms.clone());
        for room in &rooms {
            self.count_out(room, user, told);
        }
        let Some(person) = self.people.get_mut(&user) else {
            return;
        };
        person.leases.retain(|other| *other != id);
        if person.leases.is_empty() {
            self.people.remove(&user);
            self.gone.insert(user, seen_at);
        } else {
            self.show(user, told);
        }
    }

    /// Works out what the user shows now, and tells the rooms it is in when that is new.
    fn show(&mut self, user: UserId, told: &mut Vec<Message>) {
        let Some(person) = self.people.get_mut(&user) else {
            return;
        };
        let live = person.leases.iter().filter_map(|id| self.leases.get(id));
        let latest = live
            .clone()
            .filter_map(|lease| lease.said.as_ref())
            .max_by_key(|said| said.order);
        let shown = latest.map_or(Status::ONLINE, |said| said.status.clone());
        if shown == person.shown {
            return;
        }
        person.shown = shown;
        let rooms: BTreeSet<RoomId> = live.flat_map(|lease| lease.rooms.iter().cloned()).collect();
        for room in &rooms {
            // A lease that is just coming back is not counted in its rooms yet.
            if self
                .rooms
                .get(room)
                .is_some_and(|here| here.people.contains_key(&user))
            {
                self.tell(room, user, told);
            }
        }
    }

    fn count_in(&mut self, room: &RoomId, user: UserId, now: Timestamp, told: &mut Vec<Message>) {
        let version = self.version_floor.max(now.0);
        let here = self.rooms.entry(room.clone()).or_insert_with(|| Room {
            people: HashMap::new(),
            version,
        });
        let connections = here.people.entry(user).or_insert(0);
        *connections += 1;
        if *connections == 1 {
            self.tell(room, user, told);
        }
    }

    fn count_out(&mut self, room: &RoomId, user: UserId, told: &mut Vec<Message>) {
        let Some(here) = self.rooms.get_mut(room) else {
            return;
        };
        let Entry::Occupied(mut connections) = here.people.entry(user) else {
            return;
        };
        *connections.get_mut() -= 1;
        if *connections.get() > 0 {
            return;
        }
        connections.remove();
        self.tell(room, user, told);
        if let Entry::Occupied(here) = self.rooms.entry(room.clone())
            && here.get().people.is_empty()
        {
            self.version_floor = self.version_floor.max(here.remove().version);
        }
    }

    /// Counts a change of the room, and tells it unless the room is too large.
    fn tell(&mut self, room: &RoomId, user: UserId, told: &mut Vec<Message>) {
        let Some(here) = self.rooms.get_mut(room) else {
            return;
        };
        here.version += 1;
        if here.people.len() > self.count_only_above {
            return;
        }
        let shown = self
            .people
            .get(&user)
            .filter(|_| here.people.contains_key(&user));
        let (status, text) = shown.map_or((PresenceStatus::Offline, None), |person| {
            (person.shown.status, person.shown.text.as_deref())
        });
        told.push(delta::message(room, user, status, text, here.version));
    }
}

fn last_seen(leases: &HashMap<LeaseId, Holding>, person: &Person) -> Timestamp {
    let seen = person.leases.iter().filter_map(|id| leases.get(id));
    seen.map(|lease| lease.seen_at).max().unwrap_or_default()
}
