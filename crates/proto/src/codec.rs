//! Events as JSON frames and back, and signals as JSON frames.
//!
//! The fields of an event stand in a fixed order, `room`, `seq`, `ts` and `sender` first, and a field without a
//! value is left out: the same event always gives the same bytes.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use stack_types::{
    Event, EventBody, EventCodec, GapReason, JsonValue, MalformedEvent, MemberAction, RoomAction,
    RoomId, RoomRole, RoomSettings, Seq, Signal, Timestamp, UnsubscribeReason, UserId,
};

use crate::outgoing::encode;

/// The codec of `stack.v1.json`.
#[derive(Debug, Default, Clone, Copy)]
pub struct JsonCodec;

/// An event's payload: the union of what the kinds of event carry.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    room: RoomId,
    seq: Seq,
    ts: Timestamp,
    sender: UserId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_seq: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    targets: Option<std::borrow::Cow<'a, [Seq]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    action: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_id: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoomRole>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    title: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<RoomSettings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    emoji: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remove: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<std::borrow::Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redacted: Option<bool>,
}

#[derive(Serialize, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

impl<'a> Payload<'a> {
    fn of(event: &'a Event) -> (&'static str, Self) {
        let mut payload = Self {
            room: event.room.clone(),
            seq: event.seq,
            ts: event.ts,
            sender: event.sender,
            target_seq: None,
            targets: None,
            action: None,
            user_id: None,
            role: None,
            title: None,
            settings: None,
            body: None,
            data: None,
            key: None,
            reply_to: None,
            emoji: None,
            remove: None,
            reason: None,
            redacted: None,
        };
        let kind = match &event.body {
            EventBody::Message {
                body,
                data,
                key,
                reply_to,
            } => {
                payload.body = Some(body.into());
                payload.data = data.as_ref().map(|data| data.0.as_ref());
                payload.key = key.as_ref().map(Into::into);
                payload.reply_to = *reply_to;
                "message"
            }
            EventBody::Tombstone => {
                payload.redacted = Some(true);
                "message"
            }
            EventBody::Edited { target_seq, body } => {
                payload.target_seq = Some(*target_seq);
                payload.body = body.as_ref().map(Into::into);
                payload.redacted = body.is_none().then_some(true);
                "edited"
            }
            EventBody::Redacted { target_seq, reason } => {
                payload.target_seq = Some(*target_seq);
                payload.reason = reason.as_ref().map(Into::into);
                "redacted"
            }
            EventBody::Erased { targets } => {
                // For who does not know the list.
                payload.target_seq = targets.first().copied();
                payload.targets = Some(targets.into());
                "redacted"
            }
            EventBody::Reacted {
                target_seq,
                emoji,
                remove,
            } => {
                payload.target_seq = Some(*target_seq);
                payload.emoji = (!emoji.is_empty()).then(|| emoji.into());
                payload.redacted = emoji.is_empty().then_some(true);
                payload.remove = Some(*remove);
                "reacted"
            }
            EventBody::Room {
                action,
                title,
                settings,
            } => {
                payload.action = Some(room_action(*action).into());
                payload.title = Some(title.into());
                payload.settings = Some(*settings);
                "room"
            }
            EventBody::Member {
                action,
                user_id,
                role,
                reason,
            } => {
                payload.action = Some(member_action(*action).into());
                payload.user_id = Some(*user_id);
                payload.role = *role;
                payload.reason = reason.as_ref().map(Into::into);
                "member"
            }
        };
        (kind, payload)
    }

    fn into_event(self, kind: &str) -> Option<Event> {
        let owned =
            |text: Option<std::borrow::Cow<'a, str>>| text.map(std::borrow::Cow::into_owned);
        let body = match kind {
            "message" if self.redacted == Some(true) => EventBody::Tombstone,
            "message" => EventBody::Message {
                body: owned(self.body)?,
                data: self.data.map(|data| JsonValue(data.to_owned())),
                key: owned(self.key),
                reply_to: self.reply_to,
            },
            "edited" => EventBody::Edited {
                target_seq: self.target_seq?,
                body: owned(self.body),
            },
            "redacted" if self.targets.is_some() => EventBody::Erased {
                targets: self.targets?.into_owned(),
            },
            "redacted" => EventBody::Redacted {
                target_seq: self.target_seq?,
                reason: owned(self.reason),
            },
            "reacted" => EventBody::Reacted {
                target_seq: self.target_seq?,
                emoji: match self.emoji {
                    None if self.redacted != Some(true) => return None,
                    emoji => owned(emoji).unwrap_or_default(),
                },
                remove: self.remove?,
            },
            "room" => EventBody::Room {
                action: room_action_of(&self.action?)?,
                title: owned(self.title)?,
                settings: self.settings?,
            },
            "member" => EventBody::Member {
                action: member_action_of(&self.action?)?,
                user_id: self.user_id?,
                role: self.role,
                reason: owned(self.reason),
            },
            _ => return None,
        };
        Some(Event {
            room: self.room,
            seq: self.seq,
            ts: self.ts,
            sender: self.sender,
            body,
        })
    }
}

const ROOM_ACTIONS: [(RoomAction, &str); 2] = [
    (RoomAction::Created, "created"),
    (RoomAction::Changed, "changed"),
];

const MEMBER_ACTIONS: [(MemberAction, &str); 8] = [
    (MemberAction::Joined, "joined"),
    (MemberAction::Left, "left"),
    (MemberAction::Removed, "removed"),
    (MemberAction::Banned, "banned"),
    (MemberAction::Unbanned, "unbanned"),
    (MemberAction::Muted, "muted"),
    (MemberAction::Unmuted, "unmuted"),
    (MemberAction::Role, "role"),
];

fn room_action(action: RoomAction) -> &'static str {
    ROOM_ACTIONS
        .iter()
        .find(|(known, _)| *known == action)
        .map_or("changed", |(_, name)| name)
}

fn room_action_of(name: &str) -> Option<RoomAction> {
    ROOM_ACTIONS
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(action, _)| *action)
}

fn member_action(action: MemberAction) -> &'static str {
    MEMBER_ACTIONS
        .iter()
        .find(|(known, _)| *known == action)
        .map_or("role", |(_, name)| name)
}

fn member_action_of(name: &str) -> Option<MemberAction> {
    MEMBER_ACTIONS
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(action, _)| *action)
}

/// The frame of a message, put together by hand: nearly every event is one, and to go over the fields of all kinds of
/// events costs four times as much. Ids need no escapes.
struct MessageFrame<'a>(&'a mut Vec<u8>);

impl<'a> MessageFrame<'a> {
    fn begin(event: &Event, out: &'a mut Vec<u8>) -> Self {
        out.extend_from_slice(br#"{"type":"message","payload":{"room":""#);
        out.extend_from_slice(event.room.as_str().as_bytes());
        out.push(b'"');
        let mut frame = Self(out);
        frame.number("seq", event.seq.0);
        frame.number("ts", event.ts.0);
        frame.raw("sender", "\"");
        frame.0.extend_from_slice(event.sender.as_str().as_bytes());
        frame.0.push(b'"');
        frame
    }

    /// A field with its value in JSON, or the beginning of it.
    fn raw(&mut self, name: &str, json: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.0.extend_from_slice(json.as_bytes());
    }

    fn number(&mut self, name: &str, value: u64) {
        self.raw(name, itoa::Buffer::new().format(value));
    }

    fn text(&mut self, name: &str, value: &str) {
        if is_plain(value) {
            self.raw(name, "\"");
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(b'"');
        } else {
            self.raw(name, "");
            serde_json::to_writer(&mut *self.0, value).expect("a string has a JSON form");
        }
    }

    fn end(self) {
        self.0.extend_from_slice(b"}}");
    }
}

/// Whether a string needs no escapes. It looks at every byte, since that is done many bytes at a time.
fn is_plain(text: &str) -> bool {
    let escaped = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    !text
        .bytes()
        .fold(false, |found, byte| found | escaped(byte))
}

impl EventCodec for JsonCodec {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        if let EventBody::Message {
            body,
            data,
            key,
            reply_to,
        } = &event.body
        {
            let mut frame = MessageFrame::begin(event, out);
            frame.text("body", body);
            if let Some(data) = data {
                frame.raw("data", data.as_str());
            }
            if let Some(key) = key {
                frame.text("key", key);
            }
            if let Some(Seq(seq)) = reply_to {
                frame.number("reply_to", *seq);
            }
            frame.end();
            return;
        }
        let (kind, payload) = Payload::of(event);
        let frame = Frame {
            kind: kind.into(),
            payload,
        };
        serde_json::to_writer(out, &frame).expect("an event has a JSON form");
    }

    fn decode(&self, frame: &[u8]) -> Result<Event, MalformedEvent> {
        let frame: Frame<'_> =
            serde_json::from_slice(frame).map_err(|error| MalformedEvent(Box::new(error)))?;
        let Frame { kind, payload } = frame;
        payload
            .into_event(&kind)
            .ok_or_else(|| MalformedEvent(format!("{kind} with fields missing").into()))
    }

    fn signal(&self, signal: &Signal) -> Vec<u8> {
        encode(&SignalFrame::of(signal))
    }
}

#[derive(Serialize)]
#[serde(tag = "type", content = "payload", rename_all = "snake_case")]
enum SignalFrame<'a> {
    Typing {
        room: &'a RoomId,
        user_id: UserId,
        on: bool,
    },
    Read {
        room: &'a RoomId,
        user_id: UserId,
        read_seq: Seq,
    },
    Unsubscribed {
        room: &'a RoomId,
        reason: UnsubscribeReason,
    },
    Gap {
        room: &'a RoomId,
        from: Seq,
        to: Seq,
        reason: GapReason,
    },
    Session {
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
    },
    Drain {
        reconnect_in_ms: u64,
    },
}

impl<'a> SignalFrame<'a> {
    fn of(signal: &'a Signal) -> Self {
        match signal {
            Signal::Typing { room, user_id, on } => Self::Typing {
                room,
                user_id: *user_id,
                on: *on,
            },
            Signal::Read {
                room,
                user_id,
                read_seq,
            } => Self::Read {
                room,
                user_id: *user_id,
                read_seq: *read_seq,
            },
            Signal::Unsubscribed { room, reason } => Self::Unsubscribed {
                room,
                reason: *reason,
            },
            Signal::Gap {
                room,
                from,
                to,
                reason,
            } => Self::Gap {
                room,
                from: *from,
                to: *to,
                reason: *reason,
            },
            Signal::SessionExpiring { expires_at } => Self::Session {
                state: "expiring",
                expires_at: Some(*expires_at),
            },
            Signal::SessionRevoked => Self::Session {
                state: "revoked",
                expires_at: None,
            },
            Signal::Drain { reconnect_in_ms } => Self::Drain {
                reconnect_in_ms: *reconnect_in_ms,
            },
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn event(body: EventBody) -> Event {
        Event {
            room: "general".parse().unwrap(),
            seq: Seq(7),
            ts: Timestamp(1_700_000_000_000),
            sender: "u1".parse().unwrap(),
            body,
        }
    }

    fn text(event: &Event) -> String {
        let mut out = Vec::new();
        JsonCodec.encode(event, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn frames_read_as_the_protocol_says() {
        let head = r#""payload":{"room":"general","seq":7,"ts":1700000000000,"sender":"u1""#;
        let message = EventBody::Message {
            body: "hi".into(),
            data: Some(serde_json::from_str(r#"{"a": 1}"#).unwrap()),
            key: Some("k".into()),
            reply_to: Some(Seq(3)),
        };
        assert_eq!(
            text(&event(message)),
            format!(
                r#"{{"type":"message",{head},"body":"hi","data":{{"a": 1}},"key":"k","reply_to":3}}}}"#
            )
        );
        assert_eq!(
            text(&event(EventBody::Tombstone)),
            format!(r#"{{"type":"message",{head},"redacted":true}}}}"#)
        );
        let reacted = EventBody::Reacted {
            target_seq: Seq(2),
            emoji: "👍".into(),
            remove: false,
        };
        assert_eq!(
            text(&event(reacted)),
            format!(r#"{{"type":"reacted",{head},"target_seq":2,"emoji":"👍","remove":false}}}}"#)
        );
        let erased = EventBody::Reacted {
            target_seq: Seq(2),
            emoji: String::new(),
            remove: false,
        };
        assert_eq!(
            text(&event(erased)),
            format!(
                r#"{{"type":"reacted",{head},"target_seq":2,"remove":false,"redacted":true}}}}"#
            )
        );
        let erased = EventBody::Erased {
            targets: vec![Seq(2), Seq(5)],
        };
        assert_eq!(
            text(&event(erased)),
            format!(r#"{{"type":"redacted",{head},"target_seq":2,"targets":[2,5]}}}}"#)
        );
        let removed = EventBody::Member {
            action: MemberAction::Removed,
            user_id: "u2".parse().unwrap(),
            role: None,
            reason: None,
        };
        assert_eq!(
            text(&event(removed)),
            format!(r#"{{"type":"member",{head},"action":"removed","user_id":"u2"}}}}"#)
        );
        let gap = Signal::Gap {
            room: "general".parse().unwrap(),
            from: Seq(1),
            to: Seq(9),
            reason: GapReason::Retention,
        };
        assert_eq!(
            String::from_utf8(JsonCodec.signal(&gap)).unwrap(),
            r#"{"type":"gap","payload":{"room":"general","from":1,"to":9,"reason":"retention"}}"#
        );
    }

    fn text_value() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[\\PC\"\\\\\u{0}-\u{1f}]{0,40}"]
    }

    pub(crate) fn bodies() -> impl Strategy<Value = EventBody> {
        let data = prop_oneof![
            Just("null "),
            Just("[1.50, \"\\u0000\"]"),
            Just("{\"a\":{}}")
        ]
        .prop_filter("null is absent", |text| text.trim() != "null")
        .prop_map(|text| serde_json::from_str::<JsonValue>(text).unwrap());
        let message = (
            text_value(),
            proptest::option::of(data),
            proptest::option::of(text_value()),
            proptest::option::of(any::<u64>().prop_map(Seq)),
        );
        prop_oneof![
            message.prop_map(|(body, data, key, reply_to)| EventBody::Message {
                body,
                data,
                key,
                reply_to
            }),
            Just(EventBody::Tombstone),
            (any::<u64>(), proptest::option::of(text_value())).prop_map(|(seq, body)| {
                EventBody::Edited {
                    target_seq: Seq(seq),
                    body,
                }
            }),
            (any::<u64>(), proptest::option::of(text_value())).prop_map(|(seq, reason)| {
                EventBody::Redacted {
                    target_seq: Seq(seq),
                    reason,
                }
            }),
            proptest::collection::vec(any::<u64>().prop_map(Seq), 1..9)
                .prop_map(|targets| EventBody::Erased { targets }),
            (any::<u64>(), text_value(), any::<bool>()).prop_map(|(seq, emoji, remove)| {
                EventBody::Reacted {
                    target_seq: Seq(seq),
                    emoji,
                    remove,
                }
            }),
            (text_value(), any::<bool>()).prop_map(|(title, public)| EventBody::Room {
                action: RoomAction::Changed,
                title,
                settings: RoomSettings {
                    public,
                    ..RoomSettings::default()
                },
            }),
            (
                proptest::option::of(text_value()),
                proptest::sample::select(&MEMBER_ACTIONS[..])
            )
                .prop_map(|(reason, (action, _))| EventBody::Member {
                    action,
                    user_id: "u2".parse().unwrap(),
                    role: Some(RoomRole::Owner),
                    reason,
                }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_to_itself(body in bodies()) {
            let event = event(body);
            let text = text(&event);
            prop_assert_eq!(JsonCodec.decode(text.as_bytes()).unwrap(), event);
        }

        #[test]
        fn what_is_put_together_by_hand_is_what_serde_writes(body in bodies()) {
            let event = event(body);
            let (kind, payload) = Payload::of(&event);
            let frame = Frame { kind: kind.into(), payload };
            prop_assert_eq!(text(&event), serde_json::to_string(&frame).unwrap());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _ = JsonCodec.decode(&bytes);
        }
    }
}
