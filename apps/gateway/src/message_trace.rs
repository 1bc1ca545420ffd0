//! Why a message did not arrive: when it was committed and handed out, where it is with each reader of its room, and who
//! has read it.
//!
//! Nothing is recorded for a message and a reader. What delivery runs on, cursors and read markers, is looked at when
//! somebody asks. What cannot be known is not said: what was handed over to a socket's writer may still lie in a buffer
//! of the network, and of a person only the read marker tells.

mod answer;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Instant, UNIX_EPOCH};

use serde::Deserialize;
use stack_delivery::{Departure, HandedOut, Reader, Standing};
use stack_ipc::service::TraceQuery;
use stack_proto::JsonCodec;
use stack_storage::{AuditOutcome, Membership, PageLimit, RoomRef};
use stack_types::{
    ConnectionId, EventBody, EventCodec as _, Problem, Seq, SessionId, Timestamp, User, UserId,
    Username,
};

use crate::app::App;
use crate::ws::{Gone, Open, Way};
use answer::{
    Arrival, By, Closed, Commit, Connection, Had, Kept, Message, Named, NotListed, Person, Room,
    State,
};

pub(crate) use answer::MessageTrace;

/// People of one answer at most; the sums count all.
const PEOPLE: usize = 500;
/// Connections of one answer at most, and as many that have closed.
const CONNECTIONS: usize = 200;

/// What is put on record of a look: the room, the number, and whose place was asked for. What is not there is `-`, since
/// nothing that somebody typed goes on record.
///
/// # Errors
/// `unavailable`.
pub(crate) fn target(app: &App, asked: &TraceQuery) -> Result<String, Problem> {
    let room = app.store().room(&asked.room)?;
    let room = room.as_ref().map_or("-", |room| room.id().as_str());
    let target = format!("{room} {}", asked.seq);
    let Some(who) = &asked.user else {
        return Ok(target);
    };
    Ok(match look_up(app, who)? {
        Some(user) => format!("{target} {user}"),
        None => format!("{target} -"),
    })
}

/// How a look is put on record: that nothing was found is too.
pub(crate) fn outcome(found: &Result<MessageTrace, Problem>) -> AuditOutcome {
    match found {
        Ok(_) => AuditOutcome::Ok,
        Err(_) => AuditOutcome::Refused,
    }
}

/// Finds out where a message is. Whoever calls this puts it on record by [`target`].
///
/// # Errors
/// `not_found` for a room, an event or a user that is not there; `unavailable`.
pub(crate) async fn trace(app: &App, asked: &TraceQuery) -> Result<MessageTrace, Problem> {
    let room = app.store().room(&asked.room)?;
    let room = room.ok_or_else(|| Problem::not_found("there is no such room"))?;
    let only = asked.user.as_deref().map(|who| find_user(app, who));
    let only = only.transpose()?;
    let message = message(app, &room, asked.seq).await?;
    let commit = app.hub().handed_out(room.id(), asked.seq);
    let look = Look {
        now: Instant::now(),
        at: app.clock().now(),
        seq: asked.seq,
        sender: message.sender.as_ref().map(|sender| sender.id),
        committed: commit.as_ref().map(|commit| commit.committed.instant),
        ts: message.ts,
    };
    let is_asked = |user: &UserId| only.is_none_or(|only| only == *user);
    let mut readers = app.hub().whereabouts(room.id());
    readers.retain(|reader| is_asked(&reader.user));
    let mut departures = app.hub().departures(room.id());
    departures.retain(|departure| is_asked(&departure.user));

    let people = look.people(app, &room, only, &readers, &departures).await?;
    readers.sort_by_key(|reader| (look.state(reader), reader.user, reader.begun));
    departures.sort_by_key(|departure| look.had(departure));
    let not_listed = NotListed {
        people: people.len().saturating_sub(PEOPLE),
        connections: readers.len().saturating_sub(CONNECTIONS),
        closed: departures.len().saturating_sub(CONNECTIONS),
    };
    let people_by_arrival = sums(people.iter().map(|found| found.arrival));
    let connections_by_state = sums(readers.iter().map(|reader| look.state(reader)));
    readers.truncate(CONNECTIONS);
    departures.truncate(CONNECTIONS);
    let people = &people[..people.len().min(PEOPLE)];
    let told = Told::of(app, look, people, &readers, &departures)?;
    let connections = readers.iter().map(|reader| told.connection(reader));
    let closed = departures.iter().map(|departure| told.closed(departure));
    Ok(MessageTrace {
        at: look.at,
        room: Room {
            id: room.id().clone(),
            title: room.title(),
            first: room.first(),
            head: room.head(),
            members: room.members().len(),
        },
        message,
        commit: commit.as_ref().map(commit_told),
        remembered_since: (app.hub().remembers_since(look.at)).unwrap_or(started(app)),
        people_by_arrival,
        connections_by_state,
        people: people.iter().map(|found| told.person(found)).collect(),
        connections: connections.collect(),
        closed: closed.collect(),
        not_listed,
    })
}

/// As much of a frame as says what it is.
#[derive(Deserialize)]
struct Typed {
    r#type: String,
}

async fn message(app: &App, room: &RoomRef, seq: Seq) -> Result<Message, Problem> {
    let head = room.head();
    if seq == Seq::ZERO || seq > head {
        let detail = format!("there is no event {seq} in this room; its last is {head}");
        return Err(Problem::not_found(detail));
    }
    let one = PageLimit {
        events: 1,
        bytes: 1,
    };
    let page = app.store().page_after(room, seq.prev(), one).await?;
    if page.frames().is_empty() || page.first() != seq {
        return Ok(Message {
            seq,
            state: Kept::Dropped,
            r#type: None,
            sender: None,
            ts: None,
            bytes: None,
        });
    }
    let json = page.frames().json(0);
    let event = JsonCodec.decode(&json).map_err(Problem::internal)?;
    let Typed { r#type } = serde_json::from_slice(&json).map_err(Problem::internal)?;
    let user = app.store().user(event.sender)?;
    Ok(Message {
        seq,
        state: match event.body {
            EventBody::Tombstone => Kept::Redacted,
            _ => Kept::Stored,
        },
        r#type: Some(r#type),
        sender: Some(Named::of(event.sender, user.as_ref())),
        ts: Some(event.ts),
        bytes: Some(json.len()),
    })
}

fn find_user(app: &App, who: &str) -> Result<UserId, Problem> {
    let found = look_up(app, who)?;
    found.ok_or_else(|| Problem::not_found("there is no such user"))
}

fn look_up(app: &App, who: &str) -> Result<Option<UserId>, Problem> {
    let store = app.store();
    let by_name = match who.parse::<Username>() {
        Ok(name) => store.account_by_login(name.as_str())?,
        Err(_) => None,
    };
    let found = match (by_name, who.parse()) {
        (None, Ok(id)) => store.account(id)?,
        (found, _) => found,
    };
    Ok(found.map(|found| found.user.id))
}

/// When the gateway was started.
fn started(app: &App) -> Timestamp {
    let started = app.measures().started().duration_since(UNIX_EPOCH);
    let started = started.unwrap_or_default().as_millis();
    Timestamp(u64::try_from(started).unwrap_or(0))
}

fn sums<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, usize> {
    let mut sums = BTreeMap::new();
    for key in keys {
        *sums.entry(key).or_default() += 1;
    }
    sums
}

fn commit_told(commit: &HandedOut) -> Commit {
    let us = |after: std::time::Duration| u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
    Commit {
        first: commit.first,
        last: commit.last,
        committed_at: commit.committed.at,
        published_us: us(commit.published_after),
        handed_us: us(commit.handed_after),
        readers: commit.readers,
        fell_behind: commit.fell_behind,
    }
}

/// A look at a message.
#[derive(Clone, Copy)]
struct Look {
    now: Instant,
    at: Timestamp,
    seq: Seq,
    sender: Option<UserId>,
    /// When its commit was through, where that is remembered.
    committed: Option<Instant>,
    ts: Option<Timestamp>,
}

/// Somebody whom it concerns.
struct Found {
    user: UserId,
    arrival: Arrival,
    member: Option<Membership>,
    read_seq: Seq,
    first: Seq,
    connections: usize,
    subscriptions: usize,
}

impl Look {
    fn when(&self, instant: Instant) -> Timestamp {
        self.at.minus(self.now.saturating_duration_since(instant))
    }

    fn state(&self, reader: &Reader) -> State {
        match reader.standing {
            _ if reader.from >= self.seq => State::Later,
            Standing::Relayed => State::AtEdge,
            _ if reader.cursor >= self.seq => State::Handed,
            Standing::Live => State::OnItsWay,
            Standing::Behind(_) => State::Behind,
        }
    }

    fn had(&self, departure: &Departure) -> Had {
        // By the clock only where nothing better is known: it may have been set meanwhile.
        let before = match (self.committed, self.ts) {
            (Some(committed), _) => departure.ended < committed,
            (None, Some(ts)) => self.when(departure.ended) < ts,
            (None, None) => false,
        };
        match () {
            () if departure.from >= self.seq => Had::Later,
            () if before => Had::Before,
            () if departure.is_relayed => Had::AtEdge,
            () if departure.cursor >= self.seq => Had::Handed,
            () => Had::Missed,
        }
    }

    /// Everybody in the room and everybody who reads it, those first to whom it did not come.
    async fn people(
        &self,
        app: &App,
        room: &RoomRef,
        only: Option<UserId>,
        readers: &[Reader],
        departures: &[Departure],
    ) -> Result<Vec<Found>, Problem> {
        let mut best: HashMap<UserId, Arrival> = HashMap::new();
        let mut note = |user, arrival: Arrival| {
            let best = best.entry(user).or_insert(arrival);
            *best = arrival.max(*best);
        };
        for departure in departures {
            match self.had(departure) {
                Had::Handed => note(departure.user, Arrival::Handed),
                Had::Missed => note(departure.user, Arrival::Missed),
                // It had nothing to do with it, or nobody here knows.
                Had::Before | Had::Later | Had::AtEdge => {}
            }
        }
        let mut subscriptions: HashMap<UserId, usize> = HashMap::new();
        for reader in readers {
            *subscriptions.entry(reader.user).or_default() += 1;
            note(reader.user, self.state(reader).into());
        }
        let members: HashMap<_, _> = room.members().into_iter().collect();
        let mut users: HashSet<UserId> = match only {
            Some(only) => HashSet::from([only]),
            None => members.keys().copied().collect(),
        };
        users.extend(subscriptions.keys());
        let read = app.store().read_by(room, users.iter().copied().collect());
        let read = read.await?;
        let open = app.sockets().of(&users);
        let mut found: Vec<_> = users
            .into_iter()
            .map(|user| {
                let member = members.get(&user).copied();
                let read_seq = read.get(&user).copied().unwrap_or(Seq::ZERO);
                let first = app.rooms().first_for(room, &user);
                let connections = open.get(&user).map_or(0, Vec::len);
                let arrival = match best.get(&user).copied() {
                    _ if self.sender == Some(user) => Arrival::Sent,
                    _ if read_seq >= self.seq => Arrival::Read,
                    Some(best @ (Arrival::Handed | Arrival::AtEdge)) => best,
                    _ if is_theirs_later(room, member, first, self.seq) => Arrival::NotTheirs,
                    Some(best) => best,
                    None if connections > 0 => Arrival::NotSubscribed,
                    None if member.is_none() => Arrival::NotInRoom,
                    None => Arrival::Away,
                };
                Found {
                    user,
                    arrival,
                    member,
                    read_seq,
                    first,
                    connections,
                    subscriptions: subscriptions.get(&user).copied().unwrap_or(0),
                }
            })
            .collect();
        found.sort_by_key(|found| (found.arrival, found.user));
        Ok(found)
    }
}

/// Whether a member's history begins behind an event, and not because that was dropped for all.
fn is_theirs_later(room: &RoomRef, member: Option<Membership>, first: Seq, seq: Seq) -> bool {
    member.is_some() && first > seq && first > room.first()
}

impl From<State> for Arrival {
    fn from(state: State) -> Self {
        match state {
            State::Behind => Self::Behind,
            State::OnItsWay => Self::OnItsWay,
            State::Later => Self::Later,
            State::AtEdge => Self::AtEdge,
            State::Handed => Self::Handed,
        }
    }
}

/// What is looked up for those who are listed.
struct Told {
    look: Look,
    users: HashMap<UserId, User>,
    last_seen: HashMap<UserId, Timestamp>,
    open: HashMap<ConnectionId, Open>,
    gone: HashMap<ConnectionId, Gone>,
    sessions: HashMap<SessionId, (String, String)>,
}

impl Told {
    fn of(
        app: &App,
        look: Look,
        people: &[Found],
        readers: &[Reader],
        departures: &[Departure],
    ) -> Result<Self, Problem> {
        let store = app.store();
        let of_connections: HashSet<UserId> = (readers.iter().map(|reader| reader.user))
            .chain(departures.iter().map(|departure| departure.user))
            .collect();
        let users: HashSet<UserId> = people.iter().map(|found| found.user).collect();
        let users: Vec<UserId> = users.union(&of_connections).copied().collect();
        let gone = departures
            .iter()
            .filter_map(|departure| departure.connection);
        let open = app.sockets().of(&of_connections).into_values().flatten();
        let open: HashMap<_, _> = open.map(|open| (open.connection, open)).collect();
        let gone = app.sockets().gone(&gone.collect());
        let mut sessions = HashMap::new();
        let shown = readers.iter().filter_map(|reader| reader.connection);
        let shown = shown.filter_map(|connection| open.get(&connection).map(|open| open.session));
        for session in shown.chain(gone.values().map(|gone| gone.session)) {
            if sessions.contains_key(&session) {
                continue;
            }
            // That of a program is its key's, of which there is no session.
            if let Some((found, _)) = store.session_with_account(session)? {
                sessions.insert(session, (found.device, found.ip));
            }
        }
        Ok(Self {
            look,
            last_seen: store.last_seen(&users)?,
            users: (store.users(&users)?.into_iter())
                .map(|user| (user.id, user))
                .collect(),
            open,
            gone,
            sessions,
        })
    }

    fn named(&self, user: UserId) -> Named {
        Named::of(user, self.users.get(&user))
    }

    fn by(&self, id: Option<ConnectionId>, is_relayed: bool) -> By {
        let open = id.and_then(|id| self.open.get(&id));
        let gone = id.and_then(|id| self.gone.get(&id));
        let session = open.map(|open| open.session);
        let session = session.or_else(|| gone.map(|gone| gone.session));
        let way = open
            .map(|open| open.way)
            .or_else(|| gone.map(|gone| gone.way));
        let of_session = session.and_then(|session| self.sessions.get(&session));
        By {
            id,
            way: way.or_else(|| is_relayed.then_some(Way::Edge)),
            session,
            device: of_session.map(|(device, _)| device.clone()),
            ip: of_session.map(|(_, ip)| ip.clone()),
        }
    }

    fn person(&self, found: &Found) -> Person {
        // Who is connected is seen now; what is kept of it is of the last time they left.
        let last_seen_at = match found.connections {
            0 => self.last_seen.get(&found.user).copied(),
            _ => Some(self.look.at),
        };
        Person {
            user: self.named(found.user),
            arrival: found.arrival,
            role: found.member.map(|member| member.role),
            read_seq: found.read_seq,
            first: found.first,
            connections: found.connections,
            subscriptions: found.subscriptions,
            last_seen_at,
        }
    }

    fn connection(&self, reader: &Reader) -> Connection {
        let is_relayed = reader.standing == Standing::Relayed;
        Connection {
            user: self.named(reader.user),
            connection: self.by(reader.connection, is_relayed),
            state: self.look.state(reader),
            subscribed_at: self.look.when(reader.begun),
            from: reader.from,
            cursor: (!is_relayed).then_some(reader.cursor),
            behind_since: match reader.standing {
                Standing::Behind(since) => Some(self.look.when(since)),
                Standing::Live | Standing::Relayed => None,
            },
            waiting_bytes: reader.waiting_bytes,
        }
    }

    fn closed(&self, departure: &Departure) -> Closed {
        let id = departure.connection;
        Closed {
            user: self.named(departure.user),
            connection: self.by(id, departure.is_relayed),
            state: self.look.had(departure),
            subscribed_at: self.look.when(departure.begun),
            ended_at: self.look.when(departure.ended),
            from: departure.from,
            cursor: (!departure.is_relayed).then_some(departure.cursor),
            reason: departure.reason,
            is_open: id.is_some_and(|id| self.open.contains_key(&id)),
            ending: id
                .and_then(|id| self.gone.get(&id))
                .and_then(|gone| gone.ending.clone()),
        }
    }
}

impl Named {
    fn of(id: UserId, user: Option<&User>) -> Self {
        Self {
            id,
            username: user.map(|user| user.username.clone()),
            display_name: user.map(|user| user.display_name.clone()),
        }
    }
}
