//! What the server sends over `stack.v1.capnp`, made of the frames of JSON that everybody gets, and back.
//!
//! Everything is taken apart with its fields named: a frame that has one more than is known here is refused, so that
//! nothing is ever left out unnoticed.

use std::borrow::Cow;
use std::fmt;

use ::capnp::message::{Builder, HeapAllocator};
use ::capnp::serialize;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stack_types::{
    Event, EventCodec as _, MalformedEvent, PresenceStatus, RoomId, RoomRole, Seq, SessionId,
    Timestamp, UserId,
};

use super::event::{event_from, event_to, parsed};
use super::values::{role_from, role_to, status_from, status_to};
use super::{Unreadable, new_message, one_message};
use crate::JsonCodec;
use crate::gateway_capnp::{ok, server_frame as frame};
use crate::outgoing::{Frame, encode};

/// A frame that cannot be told in the words of the schema.
#[derive(Debug)]
pub enum Untranslatable {
    /// It is no frame, or has fields that its type does not have.
    Frame(serde_json::Error),
    /// It is no event.
    Event(MalformedEvent),
    /// Its type, or the shape of its `ok`, is unknown.
    Unknown(String),
}

impl fmt::Display for Untranslatable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(_) => f.write_str("the frame has no form in the schema"),
            Self::Event(_) => f.write_str("the event has no form in the schema"),
            Self::Unknown(kind) => write!(f, "a frame of type {kind} has no form in the schema"),
        }
    }
}

impl std::error::Error for Untranslatable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Frame(source) => Some(source),
            Self::Event(source) => Some(source),
            Self::Unknown(_) => None,
        }
    }
}

impl From<serde_json::Error> for Untranslatable {
    fn from(source: serde_json::Error) -> Self {
        Self::Frame(source)
    }
}

impl From<MalformedEvent> for Untranslatable {
    fn from(source: MalformedEvent) -> Self {
        Self::Event(source)
    }
}

/// A frame, translated.
pub struct ServerFrame(Builder<HeapAllocator>);

impl ServerFrame {
    /// Translates a frame of JSON.
    ///
    /// # Errors
    /// It has no form in the schema.
    pub fn of(json: &[u8]) -> Result<Self, Untranslatable> {
        let mut message = new_message(json.len());
        fill(json, message.init_root())?;
        Ok(Self(message))
    }

    /// How many bytes [`ServerFrame::push_to`] appends.
    #[must_use]
    pub fn bytes(&self) -> usize {
        serialize::compute_serialized_size_in_words(&self.0) * 8
    }

    /// Appends the message.
    pub fn push_to(&self, out: &mut Vec<u8>) {
        serialize::write_message(out, &self.0).expect("a vector takes everything");
    }
}

impl fmt::Debug for ServerFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFrame").finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outside<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// By these an `ok` is told from another.
#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    events: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    session_id: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    read_seq: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    role: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    seq: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    ts: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Done {}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    room: RoomId,
    seq: Seq,
    ts: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
    head: Seq,
    first: Seq,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignedIn {
    user_id: UserId,
    session_id: SessionId,
    expires_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribed {
    room: RoomId,
    head: Seq,
    first: Seq,
    role: Option<RoomRole>,
    read_seq: Seq,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joined {
    room: RoomId,
    role: RoomRole,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pong {
    ts: Timestamp,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    field: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unsubscribed<'a> {
    room: RoomId,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Gap<'a> {
    room: RoomId,
    from: Seq,
    to: Seq,
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Typing {
    room: RoomId,
    user_id: UserId,
    on: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PresenceDelta<'a> {
    room: RoomId,
    user_id: UserId,
    status: PresenceStatus,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    room: RoomId,
    user_id: UserId,
    read_seq: Seq,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Session<'a> {
    #[serde(borrow)]
    state: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    reconnect_in_ms: u64,
}

fn fill(json: &[u8], to: frame::Builder<'_>) -> Result<(), Untranslatable> {
    // Nearly every frame is one, and its type stands in front.
    if json.starts_with(br#"{"type":"message","#) {
        event_to(&JsonCodec.decode(json)?, to.init_event());
        return Ok(());
    }
    let outside: Outside<'_> = serde_json::from_slice(json)?;
    let payload = outside.payload.get();
    match (&*outside.kind, outside.id) {
        ("message" | "edited" | "redacted" | "reacted" | "room" | "member", None) => {
            event_to(&JsonCodec.decode(json)?, to.init_event());
        }
        ("ok", Some(id)) => {
            let mut to = to.init_ok();
            to.set_id(id);
            fill_ok(payload, to)?;
        }
        ("error", id) => {
            let refusal: Refusal<'_> = serde_json::from_str(payload)?;
            let mut to = to.init_error();
            to.set_has_id(id.is_some());
            to.set_id(id.unwrap_or_default());
            let mut to = to.init_problem();
            to.set_code(&*refusal.code);
            to.set_detail(&*refusal.message);
            to.set_retryable(refusal.retryable);
            to.set_retry_after_ms(refusal.retry_after_ms.unwrap_or_default());
            to.set_field(refusal.field.as_deref().unwrap_or_default());
        }
        ("unsubscribed", None) => {
            let signal: Unsubscribed<'_> = serde_json::from_str(payload)?;
            let mut to = to.init_unsubscribed();
            to.set_room(signal.room.as_str());
            to.set_reason(&*signal.reason);
        }
        ("gap", None) => {
            let signal: Gap<'_> = serde_json::from_str(payload)?;
            let mut to = to.init_gap();
            to.set_room(signal.room.as_str());
            to.set_from(signal.from.0);
            to.set_to(signal.to.0);
            to.set_reason(&*signal.reason);
        }
        ("typing", None) => {
            let signal: Typing = serde_json::from_str(payload)?;
            let mut to = to.init_typing();
            to.set_room(signal.room.as_str());
            to.set_user_id(signal.user_id.as_str());
            to.set_on(signal.on);
        }
        ("presence", None) => {
            let signal: PresenceDelta<'_> = serde_json::from_str(payload)?;
            let mut to = to.init_presence();
            to.set_room(signal.room.as_str());
            to.set_user_id(signal.user_id.as_str());
            to.set_status(status_to(signal.status));
            to.set_text(signal.text.as_deref().unwrap_or_default());
            to.set_version(signal.version);
        }
        ("read", None) => {
            let signal: Read = serde_json::from_str(payload)?;
            let mut to = to.init_read();
            to.set_room(signal.room.as_str());
            to.set_user_id(signal.user_id.as_str());
            to.set_read_seq(signal.read_seq.0);
        }
        ("session", None) => {
            let signal: Session<'_> = serde_json::from_str(payload)?;
            let mut to = to.init_session();
            to.set_state(&*signal.state);
            to.set_expires_at(signal.expires_at.unwrap_or_default().0);
        }
        ("drain", None) => {
            let signal: Drain = serde_json::from_str(payload)?;
            to.init_drain().set_reconnect_in_ms(signal.reconnect_in_ms);
        }
        (kind, _) => return Err(Untranslatable::Unknown(kind.to_owned())),
    }
    Ok(())
}

fn fill_ok(payload: &str, mut to: ok::Builder<'_>) -> Result<(), Untranslatable> {
    let shape: Shape = serde_json::from_str(payload)?;
    if shape.events.is_some() {
        let page: Page<'_> = serde_json::from_str(payload)?;
        let mut to = to.init_page();
        to.set_head(page.head.0);
        to.set_first(page.first.0);
        let events = u32::try_from(page.events.len());
        let events = events.map_err(|_| Untranslatable::Unknown("ok".to_owned()))?;
        let mut to = to.init_events(events);
        for (index, event) in (0..events).zip(&page.events) {
            event_to(
                &JsonCodec.decode(event.get().as_bytes())?,
                to.reborrow().get(index),
            );
        }
    } else if shape.session_id.is_some() {
        let answer: SignedIn = serde_json::from_str(payload)?;
        let mut to = to.init_signed_in();
        to.set_user_id(answer.user_id.as_str());
        to.set_session_id(answer.session_id.as_str());
        to.set_expires_at(answer.expires_at.0);
    } else if shape.read_seq.is_some() {
        let answer: Subscribed = serde_json::from_str(payload)?;
        let mut to = to.init_subscribed();
        to.set_room(answer.room.as_str());
        to.set_head(answer.head.0);
        to.set_first(answer.first.0);
        to.set_role(role_to(answer.role));
        to.set_read_seq(answer.read_seq.0);
    } else if shape.role.is_some() {
        let answer: Joined = serde_json::from_str(payload)?;
        let mut to = to.init_joined();
        to.set_room(answer.room.as_str());
        to.set_role(role_to(Some(answer.role)));
    } else if shape.seq.is_some() {
        let answer: Place = serde_json::from_str(payload)?;
        let mut to = to.init_place();
        to.set_room(answer.room.as_str());
        to.set_seq(answer.seq.0);
        to.set_ts(answer.ts.0);
    } else if shape.ts.is_some() {
        let answer: Pong = serde_json::from_str(payload)?;
        to.init_pong().set_ts(answer.ts.0);
    } else {
        let Done {} = serde_json::from_str(payload)?;
        to.set_done(());
    }
    Ok(())
}

/// A server's frame, as the frame of JSON that says the same. For clients that would rather read that.
///
/// # Errors
/// It is malformed, of a newer schema, or holds what it may not.
pub fn server_frame_json(bytes: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let message = one_message(bytes)?;
    let from: frame::Reader<'_> = message.get_root()?;
    Ok(match from.which()? {
        frame::Event(event) => event_json(&event_from(event?)?),
        frame::Ok(from) => {
            let from = from?;
            let id = Some(from.get_id());
            match from.which()? {
                ok::Done(()) => outside("ok", id, &Done {}),
                ok::Place(from) => {
                    let from = from?;
                    let place = Place {
                        room: parsed(from.get_room()?, "room")?,
                        seq: Seq(from.get_seq()),
                        ts: Timestamp(from.get_ts()),
                    };
                    outside("ok", id, &place)
                }
                ok::Page(from) => {
                    let from = from?;
                    let mut events = Vec::new();
                    for event in from.get_events()? {
                        events.push(event_json(&event_from(event)?));
                    }
                    let raw = |json| serde_json::from_slice::<&RawValue>(json);
                    let events: Result<Vec<_>, _> = events.iter().map(|json| raw(json)).collect();
                    let page = Page {
                        events: events.map_err(|_| Unreadable::Invalid("events"))?,
                        head: Seq(from.get_head()),
                        first: Seq(from.get_first()),
                    };
                    outside("ok", id, &page)
                }
                ok::SignedIn(from) => {
                    let answer = SignedIn {
                        user_id: parsed(from.get_user_id()?, "user_id")?,
                        session_id: parsed(from.get_session_id()?, "session_id")?,
                        expires_at: Timestamp(from.get_expires_at()),
                    };
                    outside("ok", id, &answer)
                }
                ok::Subscribed(from) => {
                    let answer = Subscribed {
                        room: parsed(from.get_room()?, "room")?,
                        head: Seq(from.get_head()),
                        first: Seq(from.get_first()),
                        role: role_from(from.get_role()?),
                        read_seq: Seq(from.get_read_seq()),
                    };
                    outside("ok", id, &answer)
                }
                ok::Joined(from) => {
                    let answer = Joined {
                        room: parsed(from.get_room()?, "room")?,
                        role: role_from(from.get_role()?).ok_or(Unreadable::Invalid("role"))?,
                    };
                    outside("ok", id, &answer)
                }
                ok::Pong(from) => {
                    let ts = Timestamp(from.get_ts());
                    outside("ok", id, &Pong { ts })
                }
            }
        }
        frame::Error(from) => {
            let id = from.get_has_id().then(|| from.get_id());
            let problem = from.get_problem()?;
            let after = problem.get_retry_after_ms();
            let refusal = Refusal {
                code: problem.get_code()?.to_str()?.into(),
                message: problem.get_detail()?.to_str()?.into(),
                retryable: problem.get_retryable(),
                retry_after_ms: (after != 0).then_some(after),
                field: unless_empty(problem.get_field()?.to_str()?),
            };
            outside("error", id, &refusal)
        }
        frame::Unsubscribed(from) => {
            let signal = Unsubscribed {
                room: parsed(from.get_room()?, "room")?,
                reason: from.get_reason()?.to_str()?.into(),
            };
            outside("unsubscribed", None, &signal)
        }
        frame::Gap(from) => {
            let signal = Gap {
                room: parsed(from.get_room()?, "room")?,
                from: Seq(from.get_from()),
                to: Seq(from.get_to()),
                reason: from.get_reason()?.to_str()?.into(),
            };
            outside("gap", None, &signal)
        }
        frame::Typing(from) => {
            let signal = Typing {
                room: parsed(from.get_room()?, "room")?,
                user_id: parsed(from.get_user_id()?, "user_id")?,
                on: from.get_on(),
            };
            outside("typing", None, &signal)
        }
        frame::Presence(from) => {
            let signal = PresenceDelta {
                room: parsed(from.get_room()?, "room")?,
                user_id: parsed(from.get_user_id()?, "user_id")?,
                status: status_from(from.get_status()?),
                text: unless_empty(from.get_text()?.to_str()?),
                version: from.get_version(),
            };
            outside("presence", None, &signal)
        }
        frame::Read(from) => {
            let signal = Read {
                room: parsed(from.get_room()?, "room")?,
                user_id: parsed(from.get_user_id()?, "user_id")?,
                read_seq: Seq(from.get_read_seq()),
            };
            outside("read", None, &signal)
        }
        frame::Session(from) => {
            let expires_at = from.get_expires_at();
            let signal = Session {
                state: from.get_state()?.to_str()?.into(),
                expires_at: (expires_at != 0).then_some(Timestamp(expires_at)),
            };
            outside("session", None, &signal)
        }
        frame::Drain(from) => {
            let reconnect_in_ms = from.get_reconnect_in_ms();
            outside("drain", None, &Drain { reconnect_in_ms })
        }
    })
}

fn event_json(event: &Event) -> Vec<u8> {
    let mut json = Vec::new();
    JsonCodec.encode(event, &mut json);
    json
}

fn outside(kind: &'static str, id: Option<u64>, payload: &impl Serialize) -> Vec<u8> {
    encode(&Frame { kind, id, payload })
}

fn unless_empty(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str =
        r#"{"type":"message","payload":{"room":"a","seq":1,"ts":2,"sender":"u1","body":"hi"}}"#;

    fn translated(json: &str) -> Result<Vec<u8>, Untranslatable> {
        let frame = ServerFrame::of(json.as_bytes())?;
        let mut out = Vec::new();
        frame.push_to(&mut out);
        assert_eq!(out.len(), frame.bytes());
        Ok(out)
    }

    #[test]
    fn every_frame_of_the_protocol_reads_back_as_it_was() {
        let page = format!(
            r#"{{"type":"ok","id":7,"payload":{{"events":[{EVENT},{EVENT}],"head":9,"first":1}}}}"#
        );
        let frames = [
            EVENT,
            &page,
            r#"{"type":"ok","id":0,"payload":{}}"#,
            r#"{"type":"ok","id":9007199254740991,"payload":{"room":"a","seq":3,"ts":5}}"#,
            r#"{"type":"ok","id":7,"payload":{"events":[],"head":0,"first":1}}"#,
            r#"{"type":"ok","id":7,"payload":{"user_id":"u1","session_id":"s1","expires_at":5}}"#,
            r#"{"type":"ok","id":7,"payload":{"room":"a","head":3,"first":1,"role":"guest","read_seq":0}}"#,
            r#"{"type":"ok","id":7,"payload":{"room":"a","head":3,"first":1,"role":null,"read_seq":2}}"#,
            r#"{"type":"ok","id":7,"payload":{"room":"a","role":"member"}}"#,
            r#"{"type":"ok","id":7,"payload":{"ts":5}}"#,
            r#"{"type":"error","payload":{"code":"rate_limited","message":"slow \"down\"","retryable":true,"retry_after_ms":1}}"#,
            r#"{"type":"error","id":0,"payload":{"code":"invalid_field","message":"no","retryable":false,"field":"body"}}"#,
            r#"{"type":"unsubscribed","payload":{"room":"a","reason":"banned"}}"#,
            r#"{"type":"gap","payload":{"room":"a","from":1,"to":9,"reason":"retention"}}"#,
            r#"{"type":"typing","payload":{"room":"a","user_id":"u1","on":true}}"#,
            r#"{"type":"presence","payload":{"room":"a","user_id":"u1","status":"busy","text":"ä","version":3}}"#,
            r#"{"type":"presence","payload":{"room":"a","user_id":"u1","status":"offline","version":4}}"#,
            r#"{"type":"read","payload":{"room":"a","user_id":"u1","read_seq":3}}"#,
            r#"{"type":"session","payload":{"state":"expiring","expires_at":5}}"#,
            r#"{"type":"session","payload":{"state":"revoked"}}"#,
            r#"{"type":"drain","payload":{"reconnect_in_ms":1200}}"#,
        ];
        for json in frames {
            let back = server_frame_json(&translated(json).unwrap()).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), json);
        }
    }

    #[test]
    fn what_the_schema_has_no_place_for_is_refused_and_not_left_out() {
        for json in [
            r#"{"type":"ok","id":7,"payload":{"new":1}}"#,
            r#"{"type":"ok","id":7,"payload":{"room":"a","seq":3,"ts":5,"new":1}}"#,
            r#"{"type":"ok","id":7,"payload":{"ts":5,"new":1}}"#,
            r#"{"type":"ok","id":7,"payload":{},"new":1}"#,
            r#"{"type":"ok","payload":{}}"#,
            r#"{"type":"error","id":7,"payload":{"code":"gone","message":"no","retryable":false,"new":1}}"#,
            r#"{"type":"typing","payload":{"room":"a","user_id":"u1","on":true,"new":1}}"#,
            r#"{"type":"typing","id":7,"payload":{"room":"a","user_id":"u1","on":true}}"#,
            r#"{"type":"new","payload":{}}"#,
            r#"{"type":"message","payload":{"room":"a"}}"#,
            "",
            "[]",
        ] {
            assert!(translated(json).is_err(), "{json}");
        }
    }
}
