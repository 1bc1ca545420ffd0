//! A channel's messages as a room's events, a day at a time: numbered, in the order of their times, edits and reactions
//! among them.

use std::collections::{BTreeMap, HashMap};

use stack_proto::JsonCodec;
use stack_types::{
    Event, EventBody, EventCodec as _, MemberAction, RoomAction, RoomId, RoomRole, RoomSettings,
    Seq, Timestamp, UserId,
};

use super::people::{People, SLACKBOT};
use super::records::{Attachment, Channel, File, Message};
use super::{Left, add, mrkdwn};
use crate::exchange::line::{self, Line, MemberLine, RoomEnd, RoomLine};

/// A title in bytes at most.
const TITLE_BYTES: usize = 200;
/// The text of a message in bytes at most. Slack's own has 40,000 characters; attachments come on top.
const BODY_BYTES: usize = 64 * 1024;
/// What stands where nothing of a message can be carried: replies and reactions may belong to it.
const NOTHING: &str = "(nothing of this message could be carried over)";

/// A channel that is being converted.
pub(super) struct Converting {
    channel: Channel,
    room: RoomId,
    title: String,
    next: Seq,
    last_ts: Timestamp,
    /// Where messages stand, by their identity.
    places: HashMap<String, Seq>,
    /// Edits to come, by their time and in their order.
    edits: BTreeMap<(Timestamp, Seq), (UserId, String)>,
}

impl Converting {
    pub(super) fn begin(
        channel: Channel,
        room: RoomId,
        people: &mut People,
        left: &mut Left,
        out: &mut Vec<u8>,
    ) -> Self {
        let title = title_of(channel.name.as_deref().unwrap_or(&channel.id));
        let converting = Self {
            room,
            title,
            next: Seq::FIRST,
            last_ts: Timestamp(0),
            places: HashMap::new(),
            edits: BTreeMap::new(),
            channel,
        };
        converting.tell(people, left, out);
        converting
    }

    /// The room, and who is in it.
    fn tell(&self, people: &mut People, left: &mut Left, out: &mut Vec<u8>) {
        let channel = &self.channel;
        let created_at = Timestamp(channel.created.unwrap_or(0).saturating_mul(1000));
        let room = RoomLine {
            id: self.room.clone(),
            title: self.title.clone(),
            settings: self.settings(),
            created_at,
            first: Seq::FIRST,
            last_ts: None,
        };
        line::write(&Line::Room(room), out);
        let mut told = std::collections::HashSet::new();
        for member in channel.members.iter().flatten() {
            let user_id = people.id_of(member, None, out);
            if told.insert(user_id) {
                let member = MemberLine {
                    user_id,
                    role: RoomRole::Member,
                    joined_at: created_at,
                    joined_seq: Seq::ZERO,
                };
                line::write(&Line::Member(member), out);
            }
        }
        let archived = usize::from(channel.is_archived == Some(true));
        add(
            left,
            "archived channels, which are open rooms now",
            archived,
        );
        let texts = [&channel.topic, &channel.purpose];
        let texts = texts.into_iter().flatten();
        let texts = texts.filter(|text| text.value.as_ref().is_some_and(|text| !text.is_empty()));
        add(
            left,
            "topics and purposes of channels left out",
            texts.count(),
        );
        let pins = channel.pins.as_ref().map_or(0, Vec::len);
        add(left, "pins left out", pins);
    }

    fn settings(&self) -> RoomSettings {
        RoomSettings {
            public: self.channel.is_public,
            ..RoomSettings::default()
        }
    }

    /// A day's messages.
    pub(super) fn day(
        &mut self,
        mut messages: Vec<Message>,
        people: &mut People,
        left: &mut Left,
        out: &mut Vec<u8>,
    ) {
        messages.sort_by_key(|message| micros(&message.ts));
        for message in messages {
            let Some(micros) = micros(&message.ts) else {
                add(left, "messages left out that have no time", 1);
                continue;
            };
            let ts = Timestamp(micros / 1000);
            if self.next == Seq::FIRST {
                self.create(Some(ts), people, out);
            }
            self.edit_until(ts, out);
            let is_late = usize::from(ts < self.last_ts);
            add(
                left,
                "messages moved to the time of the one in front",
                is_late,
            );
            self.message(message, ts, people, left, out);
        }
    }

    /// The end; says how many events there are.
    pub(super) fn end(mut self, people: &mut People, left: &mut Left, out: &mut Vec<u8>) -> u64 {
        if self.next == Seq::FIRST {
            self.create(None, people, out);
            add(left, "channels without messages", 1);
        }
        self.edit_until(Timestamp(u64::MAX), out);
        let events = self.next.prev().0;
        let end = RoomEnd {
            id: self.room,
            events,
        };
        line::write(&Line::RoomEnd(end), out);
        events
    }

    /// The room was made, at the latest with its first message.
    fn create(&mut self, first: Option<Timestamp>, people: &mut People, out: &mut Vec<u8>) {
        let created = self
            .channel
            .created
            .map(|created| Timestamp(created.saturating_mul(1000)));
        let at = match (created, first) {
            (Some(created), Some(first)) => created.min(first),
            (created, first) => created.or(first).unwrap_or_default(),
        };
        let creator = self.channel.creator.clone();
        let creator = creator.filter(|creator| !creator.is_empty());
        let sender = people.id_of(creator.as_deref().unwrap_or(SLACKBOT), None, out);
        let body = EventBody::Room {
            action: RoomAction::Created,
            title: self.title.clone(),
            settings: self.settings(),
        };
        self.append(at, sender, body, out);
    }

    fn message(
        &mut self,
        message: Message,
        ts: Timestamp,
        people: &mut People,
        left: &mut Left,
        out: &mut Vec<u8>,
    ) {
        if message.kind.as_deref().unwrap_or("message") != "message" {
            return add(left, "entries left out that are no messages", 1);
        }
        let subtype = message.subtype.as_deref().unwrap_or_default();
        let sender = people.sender(&message, out);
        let action = match subtype {
            "channel_join" | "group_join" => Some(MemberAction::Joined),
            "channel_leave" | "group_leave" => Some(MemberAction::Left),
            _ => None,
        };
        if let Some(action) = action {
            let body = EventBody::Member {
                action,
                user_id: sender,
                role: (action == MemberAction::Joined).then_some(RoomRole::Member),
                reason: None,
            };
            self.append(ts, sender, body, out);
            return;
        }
        match subtype {
            "message_changed" | "message_deleted" => {
                return add(left, "records of changes left out", 1);
            }
            "tombstone" => {
                let seq = self.append(ts, sender, EventBody::Tombstone, out);
                self.places.insert(message.ts, seq);
                return;
            }
            "" | "bot_message" | "file_share" | "me_message" | "thread_broadcast" => {}
            _ => add(left, "notices of Slack's, carried as messages", 1),
        }
        let body = body_of(&message, people, left);
        let reply_to = self.reply_to(&message, left);
        let sent = EventBody::Message {
            body: body.clone(),
            data: None,
            key: None,
            reply_to,
        };
        let seq = self.append(ts, sender, sent, out);
        if let Some(edited) = &message.edited {
            add(
                left,
                "edited messages, of which Slack tells the last text only",
                1,
            );
            let by = match &edited.user {
                Some(user) => people.id_of(user, None, out),
                None => sender,
            };
            let at = edited.ts.as_deref().and_then(micros);
            let at = at.map_or(ts, |micros| Timestamp(micros / 1000)).max(ts);
            self.edits.insert((at, seq), (by, body));
        }
        for reaction in message.reactions.iter().flatten() {
            let users = reaction.users.as_deref().unwrap_or_default();
            let count = reaction.count.unwrap_or(0);
            let nameless = usize::try_from(count)
                .unwrap_or(usize::MAX)
                .saturating_sub(users.len());
            add(
                left,
                "reactions left out whose senders are not told",
                nameless,
            );
            for user in users {
                let sender = people.id_of(user, None, out);
                let body = EventBody::Reacted {
                    target_seq: seq,
                    emoji: mrkdwn::emoji(&reaction.name),
                    remove: false,
                };
                self.append(ts, sender, body, out);
            }
        }
        self.places.insert(message.ts, seq);
    }

    fn reply_to(&self, message: &Message, left: &mut Left) -> Option<Seq> {
        let thread = message.thread_ts.as_ref();
        let thread = thread.filter(|thread| **thread != message.ts)?;
        let place = self.places.get(thread).copied();
        let is_lost = usize::from(place.is_none());
        add(
            left,
            "replies to messages that are not in the export",
            is_lost,
        );
        place
    }

    /// Writes the edits up to a time.
    fn edit_until(&mut self, ts: Timestamp, out: &mut Vec<u8>) {
        while let Some(first) = self.edits.first_entry() {
            if first.key().0 >= ts {
                return;
            }
            let ((at, target_seq), (by, body)) = first.remove_entry();
            let body = Some(body);
            self.append(at, by, EventBody::Edited { target_seq, body }, out);
        }
    }

    fn append(&mut self, ts: Timestamp, sender: UserId, body: EventBody, out: &mut Vec<u8>) -> Seq {
        let seq = self.next;
        self.last_ts = self.last_ts.max(ts);
        let event = Event {
            room: self.room.clone(),
            seq,
            ts: self.last_ts,
            sender,
            body,
        };
        JsonCodec.encode(&event, out);
        out.push(b'\n');
        self.next = seq.next();
        seq
    }
}

/// What is said, with what belongs to it: links to files, and what stands in attachments.
fn body_of(message: &Message, people: &People, left: &mut Left) -> String {
    let mut parts = Vec::new();
    let text = mrkdwn::plain(message.text.as_deref().unwrap_or_default(), people);
    if !text.trim().is_empty() {
        parts.push(match message.subtype.as_deref() {
            Some("me_message") => format!("_{text}_"),
            _ => text,
        });
    }
    let files = message.files.iter().flatten().flatten();
    for file in files.chain(&message.file) {
        add(left, "files, of which the link is carried", 1);
        parts.push(link_of(file));
    }
    for attachment in message.attachments.iter().flatten() {
        add(left, "attachments carried as text", 1);
        parts.extend(text_of(attachment, people));
    }
    if parts.is_empty() {
        add(left, "messages of which nothing could be carried", 1);
        return NOTHING.to_owned();
    }
    let mut body = parts.join("\n");
    if body.len() > BODY_BYTES {
        add(left, "messages that were cut off, for their length", 1);
        body.truncate(body.floor_char_boundary(BODY_BYTES));
    }
    body
}

fn link_of(file: &File) -> String {
    let name = file.title.as_ref().or(file.name.as_ref());
    let name = name.map_or("a file", String::as_str);
    let link = file.permalink.as_ref().or(file.url_private.as_ref());
    match link {
        Some(link) => format!("[file] {name}: {link}"),
        None => format!("[file] {name}"),
    }
}

fn text_of(attachment: &Attachment, people: &People) -> Option<String> {
    let title = match (&attachment.title, &attachment.title_link) {
        (Some(title), Some(link)) => Some(format!("{title} ({link})")),
        (title, link) => title.clone().or_else(|| link.clone()),
    };
    let plain = |text: &Option<String>| text.as_deref().map(|text| mrkdwn::plain(text, people));
    let lines = [
        plain(&attachment.pretext),
        title,
        plain(&attachment.text),
        attachment.image_url.clone(),
    ];
    let lines: Vec<_> = lines
        .into_iter()
        .flatten()
        .filter(|line| !line.is_empty())
        .collect();
    if !lines.is_empty() {
        return Some(format!("> {}", lines.join("\n").replace('\n', "\n> ")));
    }
    let rest = plain(&attachment.fallback).or_else(|| attachment.from_url.clone())?;
    (!rest.is_empty()).then(|| format!("> {}", rest.replace('\n', "\n> ")))
}

fn title_of(name: &str) -> String {
    let name: String = name.chars().filter(|char| !char.is_control()).collect();
    let name = name.trim();
    let name = name[..name.floor_char_boundary(TITLE_BYTES)].trim();
    match name {
        "" => "A channel".to_owned(),
        name => name.to_owned(),
    }
}

/// The microseconds of a message's identity, such as `1355517523.000005`.
fn micros(ts: &str) -> Option<u64> {
    let (seconds, rest) = ts.split_once('.').unwrap_or((ts, "0"));
    let seconds: u64 = seconds.parse().ok()?;
    let digits: String = rest.chars().chain("000000".chars()).take(6).collect();
    let micros: u64 = digits.parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros)
}
