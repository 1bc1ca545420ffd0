//! Rooms on their way in: lines, until the last. Nothing of them shows before that.

mod people;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::BoxFuture;
use stack_auth::{AuditAction, Keeper};
use stack_ipc::service::{Import, ImportOptions, ImportReport, ImportedRoom as Reported};
use stack_proto::JsonCodec;
use stack_rooms::imported::{check_event, check_room, check_why};
use stack_storage::{
    AuditEntry, AuditOutcome, Ban, CompleteRoom, ImportRefused, ImportedRoom, Membership, Store,
};
use stack_types::{
    Clock as _, ErrorCode, EventBody, EventCodec as _, Problem, RoomAction, RoomId, RoomRole,
    RoomSettings, Seq, SystemClock, Timestamp, UserId,
};

use super::line::{
    self, BanLine, FORMAT, Header, LINE_BYTES, Line, MemberLine, RoomLine, Trailer, VERSION,
};

use people::{People, person};

/// What is written with one commit, about.
const PIECE_BYTES: usize = 256 * 1024;
/// Rooms of one import at most: they come in with one commit.
const MOST_ROOMS: usize = 20_000;
/// Members, bans and mutes of one import at most.
const MOST_MEMBERS: usize = 1_000_000;
/// How far another machine's clock may be ahead. A time that never comes would hold a room's times for ever.
const CLOCKS_DIFFER: Duration = Duration::from_secs(24 * 60 * 60);
/// The greatest number that JSON carries everywhere.
const MOST_SEQ: Seq = Seq((1 << 53) - 1);
/// Names and ids that are tried one after the other.
const TRIES: u32 = 10_000;

/// An import.
pub(crate) struct Importer {
    store: Store,
    options: ImportOptions,
    owner: Option<UserId>,
    now: Timestamp,
    line: u64,
    stage: Stage,
    people: People,
    going: Option<Going>,
    complete: Vec<(CompleteRoom, Reported)>,
    members: usize,
    events: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Rooms,
    /// The trailer was there.
    Ended,
    /// Finished, or refused.
    Over,
}

/// A room that is being taken in.
struct Going {
    from: RoomId,
    id: RoomId,
    title: String,
    settings: RoomSettings,
    created_at: Timestamp,
    room: ImportedRoom,
    first: Seq,
    members: BTreeMap<UserId, Membership>,
    bans: BTreeMap<UserId, Ban>,
    mutes: BTreeMap<UserId, Ban>,
    /// Those of its owners who can sign in.
    owners: Vec<UserId>,
}

impl Importer {
    /// Begins an import.
    ///
    /// # Errors
    /// `forbidden` to anybody but the operator; `invalid_field` for options that make no sense; `unavailable`.
    pub(crate) fn begin(
        keeper: &Keeper,
        store: Store,
        options: ImportOptions,
    ) -> Result<Self, Problem> {
        keeper.require_operator()?;
        if let Some(id) = &options.as_id {
            let id = id.parse::<RoomId>();
            id.map_err(|error| Problem::invalid_field("as", error.to_string()))?;
        }
        let owner = match &options.owner {
            None => None,
            Some(name) => Some(person(&store, name)?.ok_or_else(|| {
                let detail = format!("{name} is nobody who can sign in here");
                Problem::invalid_field("owner", detail)
            })?),
        };
        let now = SystemClock.now();
        Ok(Self {
            people: People::new(store.clone(), options.match_names, now),
            store,
            owner: owner.map(|owner| owner.user.id),
            options,
            now,
            line: 0,
            stage: Stage::Header,
            going: None,
            complete: Vec::new(),
            members: 0,
            events: 0,
        })
    }

    async fn take(&mut self, lines: &[u8]) -> Result<(), Problem> {
        if self.stage == Stage::Over {
            return Err(over());
        }
        let taken = self.take_lines(lines).await;
        if taken.is_err() {
            self.give_up();
        }
        taken
    }

    async fn take_lines(&mut self, lines: &[u8]) -> Result<(), Problem> {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            self.line += 1;
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let taken = self.take_line(line).await;
            taken.map_err(|problem| in_line(problem, self.line))?;
        }
        Ok(())
    }

    async fn take_line(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        if bytes.len() > LINE_BYTES {
            let detail = format!("a line is at most {LINE_BYTES} bytes");
            return Err(Problem::new(ErrorCode::PayloadTooLarge, detail));
        }
        if self.stage == Stage::Ended {
            return Err(bad("there is something behind the trailer"));
        }
        if line::is_event(bytes) {
            self.event(bytes)?;
            return self.write(false).await;
        }
        let read = serde_json::from_slice(bytes);
        let read = read.map_err(|error| bad(format!("this is no line of an export: {error}")))?;
        match (self.stage, read) {
            (Stage::Header, Line::Header(header)) => self.header(&header),
            (Stage::Header, _) => Err(bad("the first line is not the header of an export")),
            (_, Line::Header(_)) => Err(bad("there is a second header")),
            (_, Line::User(user)) => self.people.learn(&user),
            (_, Line::Room(room)) => self.room(room).await,
            (_, Line::Member(member)) => self.member(member),
            (_, Line::Ban(ban)) => self.kept_out(ban, true),
            (_, Line::Mute(mute)) => self.kept_out(mute, false),
            (_, Line::RoomEnd(end)) => {
                self.write(true).await?;
                self.room_end(&end.id, end.events)
            }
            (_, Line::Trailer(trailer)) => self.trailer(&trailer),
        }
    }

    fn header(&mut self, header: &Header) -> Result<(), Problem> {
        if header.format != FORMAT {
            return Err(bad(format!("the format is not {FORMAT}")));
        }
        if header.version != VERSION {
            let version = header.version;
            return Err(bad(format!(
                "the format has version {version}, and version {VERSION} is known here"
            )));
        }
        self.stage = Stage::Rooms;
        Ok(())
    }

    async fn room(&mut self, room: RoomLine) -> Result<(), Problem> {
        if let Some(going) = &self.going {
            return Err(bad(format!("the room {} has not ended", going.from)));
        }
        if self.complete.len() == MOST_ROOMS {
            return Err(too_many("rooms", MOST_ROOMS));
        }
        check_room(&room.title, &room.settings)?;
        if room.first == Seq::ZERO || room.first > MOST_SEQ {
            return Err(Problem::invalid_field(
                "first",
                "first is no event's number",
            ));
        }
        self.check_time("created_at", room.created_at)?;
        let last_ts = room.last_ts.unwrap_or_default();
        self.check_time("last_ts", last_ts)?;
        let id = self.id_of(&room.id)?;
        let staged = self.store.begin_import(room.first, last_ts).await?;
        self.going = Some(Going {
            from: room.id,
            id,
            title: room.title,
            settings: room.settings,
            created_at: room.created_at,
            room: staged,
            first: room.first,
            members: BTreeMap::new(),
            bans: BTreeMap::new(),
            mutes: BTreeMap::new(),
            owners: Vec::new(),
        });
        Ok(())
    }

    /// The id that a room gets.
    fn id_of(&self, from: &RoomId) -> Result<RoomId, Problem> {
        let wanted = match &self.options.as_id {
            None => from.clone(),
            Some(_) if !self.complete.is_empty() => {
                let detail = "there are several rooms, and one id for them";
                return Err(Problem::invalid_field("as", detail));
            }
            Some(id) => id
                .parse()
                .map_err(|error: stack_types::InvalidName| bad(error.to_string()))?,
        };
        let is_taken = |id: &RoomId| -> Result<bool, Problem> {
            let here = self.complete.iter().any(|(room, _)| room.id == *id);
            Ok(here || self.store.is_room_id_taken(id)?)
        };
        if !is_taken(&wanted)? {
            return Ok(wanted);
        }
        if !self.options.new_ids {
            return Err(taken(format!(
                "there is a room {wanted}, or was one; --as and --new-ids give another id"
            )));
        }
        for number in 2..TRIES {
            let tried = numbered(wanted.as_str(), number, 64);
            let tried: RoomId = tried
                .parse()
                .map_err(|error: stack_types::InvalidName| bad(error.to_string()))?;
            if !is_taken(&tried)? {
                return Ok(tried);
            }
        }
        Err(taken(format!("no id is free that is like {wanted}")))
    }

    fn member(&mut self, member: MemberLine) -> Result<(), Problem> {
        self.check_time("joined_at", member.joined_at)?;
        let target = self.people.known("user_id", member.user_id)?;
        let with_roles = self.options.with_roles;
        let going = self.count_member()?;
        let role = match with_roles && target.is_somebody {
            true => member.role,
            false => member.role.min(RoomRole::Member),
        };
        if role == RoomRole::Owner && target.may_sign_in {
            going.owners.push(target.id);
        }
        let membership = Membership {
            role,
            joined_at: member.joined_at,
            joined_seq: member.joined_seq,
        };
        if going.members.insert(target.id, membership).is_some() {
            return Err(bad(format!("{} is a member twice", member.user_id)));
        }
        Ok(())
    }

    fn kept_out(&mut self, ban: BanLine, is_ban: bool) -> Result<(), Problem> {
        self.check_time("created_at", ban.created_at)?;
        check_why(ban.reason.as_deref())?;
        let target = self.people.known("user_id", ban.user_id)?;
        let by = self.people.known("by", ban.by)?;
        let going = self.count_member()?;
        let all = match is_ban {
            true => &mut going.bans,
            false => &mut going.mutes,
        };
        let ban = Ban {
            user_id: target.id,
            by: by.id,
            reason: ban.reason,
            created_at: ban.created_at,
            expires_at: ban.expires_at,
        };
        all.insert(target.id, ban);
        Ok(())
    }

    fn count_member(&mut self) -> Result<&mut Going, Problem> {
        if self.members == MOST_MEMBERS {
            return Err(too_many("members, bans and mutes", MOST_MEMBERS));
        }
        self.members += 1;
        self.going
            .as_mut()
            .ok_or_else(|| bad("this stands in no room"))
    }

    fn event(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let event = JsonCodec.decode(bytes);
        let mut event = event.map_err(|malformed| {
            let source = std::error::Error::source(&malformed);
            let why = source.map_or_else(|| malformed.to_string(), ToString::to_string);
            bad(format!("this is no event: {why}"))
        })?;
        let Some(going) = &self.going else {
            return Err(bad("this event stands in no room"));
        };
        if event.room != going.from {
            let (found, from) = (&event.room, &going.from);
            return Err(bad(format!(
                "this event is of the room {found}, and stands in {from}"
            )));
        }
        check_event(event.seq, &event.body)?;
        self.check_time("ts", event.ts)?;
        if event.seq > MOST_SEQ {
            return Err(Problem::invalid_field("seq", "seq is too large"));
        }
        let is_beginning = matches!(
            event.body,
            EventBody::Room {
                action: RoomAction::Created,
                ..
            }
        );
        if is_beginning != (event.seq == Seq::FIRST) {
            return Err(bad(
                "event 1 of a room tells that it was made, and no other",
            ));
        }
        event.sender = self.people.known("sender", event.sender)?.id;
        if let EventBody::Member { user_id, .. } = &mut event.body {
            *user_id = self.people.known("user_id", *user_id)?.id;
        }
        if let Some(going) = &mut self.going {
            event.room = going.id.clone();
            let added = self.store.import_event(&mut going.room, &event);
            added.map_err(|error| bad(error.to_string()))?;
        }
        Ok(())
    }

    fn check_time(&self, field: &'static str, time: Timestamp) -> Result<(), Problem> {
        if time > self.now.plus(CLOCKS_DIFFER) {
            let detail = format!("{field} is {}, which has not come yet", time.0);
            return Err(Problem::invalid_field(field, detail));
        }
        Ok(())
    }

    /// Writes events when they are enough for a commit, or all.
    async fn write(&mut self, all: bool) -> Result<(), Problem> {
        if let Some(going) = &mut self.going
            && (all || going.room.waiting_bytes() >= PIECE_BYTES)
        {
            self.store.write_import(&mut going.room, all).await?;
        }
        Ok(())
    }

    /// A room ends. All its events are written.
    fn room_end(&mut self, id: &RoomId, events: u64) -> Result<(), Problem> {
        let of_it = self.going.take_if(|going| going.from == *id);
        let Some(mut going) = of_it else {
            return Err(bad(format!("the room {id} has not begun")));
        };
        let head = going.room.next().prev();
        let found = going.room.next().0 - going.first.0;
        // One whose events have all become too old has had its first.
        let is_unborn = found == 0 && going.first == Seq::FIRST;
        if is_unborn || found != events {
            let detail = match is_unborn {
                true => format!("the room {id} has no event"),
                false => format!("the room {id} has {found} events, and should have {events}"),
            };
            self.going = Some(going);
            return Err(bad(detail));
        }
        if let Some(owner) = self.owner {
            let joined_at = going.created_at;
            let member = going.members.entry(owner).or_insert(Membership {
                role: RoomRole::Owner,
                joined_at,
                joined_seq: Seq::ZERO,
            });
            member.role = RoomRole::Owner;
            going.bans.remove(&owner);
            going.mutes.remove(&owner);
            going.owners.push(owner);
        }
        // Whoever may not come in is not in.
        going
            .members
            .retain(|user, _| !going.bans.contains_key(user));
        for member in going.members.values_mut() {
            member.joined_seq = member.joined_seq.min(head);
        }
        self.events += events;
        let is_in = |owner: &UserId| going.members.contains_key(owner);
        let reported = Reported {
            from: going.from.to_string(),
            id: going.id.clone(),
            events,
            has_owner: going.owners.iter().any(is_in),
        };
        let complete = CompleteRoom {
            audit: entry(AuditAction::RoomImported, going.id.to_string()),
            room: going.room,
            id: going.id,
            title: going.title,
            settings: going.settings,
            created_at: going.created_at,
            members: going.members.into_iter().collect(),
            bans: going.bans.into_values().collect(),
            mutes: going.mutes.into_values().collect(),
        };
        self.complete.push((complete, reported));
        Ok(())
    }

    fn trailer(&mut self, trailer: &Trailer) -> Result<(), Problem> {
        if let Some(going) = &self.going {
            return Err(bad(format!("the room {} has not ended", going.from)));
        }
        let found = [
            ("rooms", trailer.rooms, self.complete.len() as u64),
            ("users", trailer.users, self.people.len() as u64),
            ("events", trailer.events, self.events),
        ];
        for (what, told, found) in found {
            if told != found {
                return Err(bad(format!(
                    "the trailer tells of {told} {what}, and there are {found}"
                )));
            }
        }
        self.stage = Stage::Ended;
        Ok(())
    }

    async fn complete(&mut self) -> Result<ImportReport, Problem> {
        match self.stage {
            Stage::Over => return Err(over()),
            Stage::Header | Stage::Rooms => {
                self.give_up();
                let detail = format!(
                    "it ends behind line {} without a trailer: something is missing",
                    self.line
                );
                return Err(bad(detail));
            }
            Stage::Ended => self.stage = Stage::Over,
        }
        let placeholders = self.people.take_placeholders();
        let (made, users) = (placeholders.len(), self.people.len());
        let placeholders = placeholders.into_iter().map(|user| {
            let made = entry(AuditAction::PlaceholderMade, user.id.to_string());
            (user, made)
        });
        let (rooms, reported) = std::mem::take(&mut self.complete).into_iter().unzip();
        let completed = self
            .store
            .complete_import(rooms, placeholders.collect())
            .await?;
        completed.map_err(|refused| match refused {
            ImportRefused::RoomTaken(_) => taken(refused.to_string()),
            ImportRefused::UserTaken(_) | ImportRefused::Over => {
                Problem::new(ErrorCode::Conflict, refused.to_string())
            }
        })?;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(ImportReport {
            rooms: reported,
            events: self.events,
            matched: count(users - made),
            placeholders: count(made),
        })
    }

    /// Leaves what was written to the sweeper.
    fn give_up(&mut self) {
        self.stage = Stage::Over;
        let complete = std::mem::take(&mut self.complete).into_iter();
        let rooms = complete.map(|(complete, _)| complete.room);
        let going = self.going.take().map(|going| going.room);
        self.store.abandon_import(rooms.chain(going).collect());
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl Import for Importer {
    fn lines(&mut self, lines: Vec<u8>) -> BoxFuture<'_, Result<(), Problem>> {
        Box::pin(async move { self.take(&lines).await })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<ImportReport, Problem>> {
        Box::pin(self.complete())
    }
}

fn numbered(name: &str, number: u32, most: usize) -> String {
    let suffix = format!("-{number}");
    let keep = name.len().min(most.saturating_sub(suffix.len()));
    format!("{}{suffix}", &name[..keep])
}

fn entry(action: AuditAction, target: String) -> AuditEntry {
    AuditEntry {
        actor: None,
        ip: String::new(),
        session: None,
        action,
        target: Some(target),
        outcome: AuditOutcome::Ok,
    }
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Problem::new(ErrorCode::BadRequest, detail)
}

fn taken(detail: String) -> Problem {
    Problem::new(ErrorCode::Conflict, detail).with_field("room")
}

fn too_many(what: &str, most: usize) -> Problem {
    let detail = format!("an import has at most {most} {what}");
    Problem::new(ErrorCode::LimitExceeded, detail)
}

fn over() -> Problem {
    Problem::new(ErrorCode::Conflict, "this import is over")
}

fn in_line(mut problem: Problem, line: u64) -> Problem {
    problem.detail = format!("line {line}: {}", problem.detail).into();
    problem
}
