//! What a client sends over `stack.v1.capnp`, read into the same requests as frames of JSON.

use std::fmt;

use ::capnp::{NotInSchema, serialize, text};
use stack_types::{ErrorCode, JsonValue, PresenceStatus, Problem, RoomId, Seq, Timestamp};

use super::event::{json, message_to, optional, optional_seq};
use super::values::{status_from, status_to};
use super::{Unreadable, new_message, one_message};
use crate::gateway_capnp::{client_frame as frame, cursor, start};
use crate::incoming::MAX_ID;
use crate::{Request, SendMessage};

/// It is not a frame; the socket closes with 4000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAFrame {
    /// Not one unpacked message, or one that points to where nothing is, or with texts that are not UTF-8.
    Malformed,
    /// An `id` beyond 2^53−1.
    BadId,
}

impl fmt::Display for NotAFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a frame is one unpacked message ClientFrame of gateway.capnp",
            Self::BadId => "an id is an integer from 0 to 2^53-1",
        })
    }
}

impl std::error::Error for NotAFrame {}

/// What keeps a frame from being a request.
enum Fault {
    NotAFrame,
    Refused(Problem),
}

impl From<::capnp::Error> for Fault {
    fn from(_: ::capnp::Error) -> Self {
        Self::NotAFrame
    }
}

impl From<std::str::Utf8Error> for Fault {
    fn from(_: std::str::Utf8Error) -> Self {
        Self::NotAFrame
    }
}

impl From<NotInSchema> for Fault {
    fn from(_: NotInSchema) -> Self {
        let detail = "the frame is of a kind that is unknown here";
        Self::Refused(Problem::new(ErrorCode::BadRequest, detail))
    }
}

impl From<Unreadable> for Fault {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Malformed(error) => error.into(),
            Unreadable::Newer(error) => error.into(),
            Unreadable::Invalid(field) => Self::Refused(Problem::invalid_field(
                field,
                format!("{field} is not valid"),
            )),
        }
    }
}

/// Reads a frame: its id, if it has one, and its request, or why that is refused. Fields that a newer schema has
/// added are not looked at.
///
/// # Errors
/// See [`NotAFrame`].
pub fn read_client_frame(
    bytes: &[u8],
) -> Result<(Option<u64>, Result<Request, Problem>), NotAFrame> {
    let message = one_message(bytes).map_err(|_| NotAFrame::Malformed)?;
    let frame: frame::Reader<'_> = message.get_root().map_err(|_| NotAFrame::Malformed)?;
    let id = frame.get_has_id().then(|| frame.get_id());
    if id.is_some_and(|id| id > MAX_ID) {
        return Err(NotAFrame::BadId);
    }
    match request(frame) {
        Ok(request) => Ok((id, Ok(request))),
        Err(Fault::Refused(problem)) => Ok((id, Err(problem))),
        Err(Fault::NotAFrame) => Err(NotAFrame::Malformed),
    }
}

fn request(from: frame::Reader<'_>) -> Result<Request, Fault> {
    Ok(match from.which()? {
        frame::Ping(()) => Request::Ping,
        frame::Auth(from) => Request::Auth {
            token: from.get_token()?.to_string()?,
        },
        frame::Subscribe(from) => Request::Subscribe {
            room: room(from.get_room()?)?,
            after: match from.get_start()?.which()? {
                start::Live(()) => None,
                start::After(seq) => Some(Seq(seq)),
            },
        },
        frame::Unsubscribe(from) => Request::Unsubscribe {
            room: room(from.get_room()?)?,
        },
        frame::Send(from) => {
            let message = from.get_message()?;
            Request::Send(SendMessage {
                room: room(from.get_room()?)?,
                body: message.get_body()?.to_string()?,
                data: json(message.get_data()?)?,
                key: optional(message.get_key()?)?,
                reply_to: optional_seq(message.get_reply_to()),
            })
        }
        frame::Edit(from) => Request::Edit {
            room: room(from.get_room()?)?,
            seq: Seq(from.get_seq()),
            body: from.get_body()?.to_string()?,
        },
        frame::Redact(from) => Request::Redact {
            room: room(from.get_room()?)?,
            seq: Seq(from.get_seq()),
            reason: optional(from.get_reason()?)?,
        },
        frame::React(from) => Request::React {
            room: room(from.get_room()?)?,
            seq: Seq(from.get_seq()),
            emoji: from.get_emoji()?.to_string()?,
            remove: from.get_remove(),
        },
        frame::Join(from) => Request::Join {
            room: room(from.get_room()?)?,
        },
        frame::Leave(from) => Request::Leave {
            room: room(from.get_room()?)?,
        },
        frame::History(from) => {
            let (mut after, mut before, mut after_ts) = (None, None, None);
            match from.get_cursor()?.which()? {
                cursor::Newest(()) => {}
                cursor::After(seq) => after = Some(Seq(seq)),
                cursor::Before(seq) => before = Some(Seq(seq)),
                cursor::AfterTs(ts) => after_ts = Some(Timestamp(ts)),
            }
            Request::History {
                room: room(from.get_room()?)?,
                after,
                before,
                after_ts,
                limit: match from.get_limit() {
                    0 => None,
                    limit => Some(u64::from(limit)),
                },
            }
        }
        frame::Read(from) => Request::Read {
            room: room(from.get_room()?)?,
            seq: Seq(from.get_seq()),
        },
        frame::Typing(from) => Request::Typing {
            room: room(from.get_room()?)?,
            on: from.get_on(),
        },
        frame::Presence(from) => Request::Presence {
            status: match from.get_status().map(status_from) {
                Ok(PresenceStatus::Offline) | Err(_) => {
                    return Err(Fault::Refused(Problem::invalid_field(
                        "status",
                        "status is online, away or busy",
                    )));
                }
                Ok(status) => status,
            },
            text: optional(from.get_text()?)?,
        },
    })
}

fn room(text: text::Reader<'_>) -> Result<RoomId, Fault> {
    let parsed = text.to_str()?.parse::<RoomId>();
    parsed.map_err(|error| Fault::Refused(Problem::invalid_field("room", error.to_string())))
}

/// The frame of a request, as a native client sends it. Of a `history` with several cursors the first counts.
#[must_use]
pub fn client_frame(id: Option<u64>, request: &Request) -> Vec<u8> {
    let mut message = new_message(256);
    let mut to: frame::Builder<'_> = message.init_root();
    to.set_has_id(id.is_some());
    to.set_id(id.unwrap_or_default());
    fill(request, to);
    serialize::write_message_to_words(&message)
}

fn fill(request: &Request, mut to: frame::Builder<'_>) {
    match request {
        Request::Ping => to.set_ping(()),
        Request::Auth { token } => to.init_auth().set_token(token.as_str()),
        Request::Subscribe { room, after } => {
            let mut to = to.init_subscribe();
            to.set_room(room.as_str());
            let mut start = to.init_start();
            match after {
                None => start.set_live(()),
                Some(seq) => start.set_after(seq.0),
            }
        }
        Request::Unsubscribe { room } => to.init_unsubscribe().set_room(room.as_str()),
        Request::Send(said) => {
            let mut to = to.init_send();
            to.set_room(said.room.as_str());
            let data = said.data.as_ref().map(JsonValue::as_str);
            let (key, to) = (said.key.as_deref(), to.init_message());
            message_to(&said.body, data, key, said.reply_to, to);
        }
        Request::Edit { room, seq, body } => {
            let mut to = to.init_edit();
            to.set_room(room.as_str());
            to.set_seq(seq.0);
            to.set_body(body.as_str());
        }
        Request::Redact { room, seq, reason } => {
            let mut to = to.init_redact();
            to.set_room(room.as_str());
            to.set_seq(seq.0);
            to.set_reason(reason.as_deref().unwrap_or_default());
        }
        Request::React {
            room,
            seq,
            emoji,
            remove,
        } => {
            let mut to = to.init_react();
            to.set_room(room.as_str());
            to.set_seq(seq.0);
            to.set_emoji(emoji.as_str());
            to.set_remove(*remove);
        }
        Request::Join { room } => to.init_join().set_room(room.as_str()),
        Request::Leave { room } => to.init_leave().set_room(room.as_str()),
        Request::History {
            room,
            after,
            before,
            after_ts,
            limit,
        } => {
            let mut to = to.init_history();
            to.set_room(room.as_str());
            let limit = limit.unwrap_or_default();
            to.set_limit(u32::try_from(limit).unwrap_or(u32::MAX));
            let mut cursor = to.init_cursor();
            match (after, before, after_ts) {
                (Some(seq), _, _) => cursor.set_after(seq.0),
                (None, Some(seq), _) => cursor.set_before(seq.0),
                (None, None, Some(ts)) => cursor.set_after_ts(ts.0),
                (None, None, None) => cursor.set_newest(()),
            }
        }
        Request::Read { room, seq } => {
            let mut to = to.init_read();
            to.set_room(room.as_str());
            to.set_seq(seq.0);
        }
        Request::Typing { room, on } => {
            let mut to = to.init_typing();
            to.set_room(room.as_str());
            to.set_on(*on);
        }
        Request::Presence { status, text } => {
            let mut to = to.init_presence();
            to.set_status(status_to(*status));
            to.set_text(text.as_deref().unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn words() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[a-z]{1,300}"].prop_filter("absent", |text| !text.is_empty())
    }

    fn requests() -> impl Strategy<Value = Request> {
        let room = || select(&["a", "a.b-c_9"][..]).prop_map(|room| room.parse().unwrap());
        let seq = || any::<u64>().prop_map(Seq);
        let some_seq = || (1..u64::MAX).prop_map(Seq);
        let data = prop_oneof![Just("[1.50, \"\\u0000\"]"), Just("{\"a\" : {}}"), Just("7")];
        let data = data.prop_map(|json| serde_json::from_str::<JsonValue>(json).unwrap());
        let message = (
            room(),
            any::<String>(),
            proptest::option::of(data),
            proptest::option::of(words()),
            proptest::option::of(some_seq()),
        );
        let history = (
            room(),
            0..4,
            any::<u64>(),
            proptest::option::of(1..u64::from(u32::MAX)),
        );
        let statuses = [
            PresenceStatus::Online,
            PresenceStatus::Away,
            PresenceStatus::Busy,
        ];
        prop_oneof![
            Just(Request::Ping),
            any::<String>().prop_map(|token| Request::Auth { token }),
            (room(), proptest::option::of(seq()))
                .prop_map(|(room, after)| Request::Subscribe { room, after }),
            room().prop_map(|room| Request::Unsubscribe { room }),
            message.prop_map(|(room, body, data, key, reply_to)| {
                Request::Send(SendMessage {
                    room,
                    body,
                    data,
                    key,
                    reply_to,
                })
            }),
            (room(), seq(), any::<String>()).prop_map(|(room, seq, body)| Request::Edit {
                room,
                seq,
                body
            }),
            (room(), seq(), proptest::option::of(words()))
                .prop_map(|(room, seq, reason)| Request::Redact { room, seq, reason }),
            (room(), seq(), any::<String>(), any::<bool>()).prop_map(
                |(room, seq, emoji, remove)| Request::React {
                    room,
                    seq,
                    emoji,
                    remove
                }
            ),
            room().prop_map(|room| Request::Join { room }),
            room().prop_map(|room| Request::Leave { room }),
            history.prop_map(|(room, which, at, limit)| Request::History {
                room,
                after: (which == 1).then_some(Seq(at)),
                before: (which == 2).then_some(Seq(at)),
                after_ts: (which == 3).then_some(Timestamp(at)),
                limit,
            }),
            (room(), seq()).prop_map(|(room, seq)| Request::Read { room, seq }),
            (room(), any::<bool>()).prop_map(|(room, on)| Request::Typing { room, on }),
            (select(statuses.to_vec()), proptest::option::of(words()))
                .prop_map(|(status, text)| Request::Presence { status, text }),
        ]
    }

    /// How many bytes of text a request holds.
    fn held(request: &Request) -> usize {
        let some = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        match request {
            Request::Auth { token } => token.len(),
            Request::Send(said) => {
                let data = said.data.as_ref().map_or(0, |data| data.as_str().len());
                said.body.len() + data + some(&said.key)
            }
            Request::Edit { body, .. } => body.len(),
            Request::React { emoji, .. } => emoji.len(),
            Request::Redact { reason: text, .. } | Request::Presence { text, .. } => some(text),
            _ => 0,
        }
    }

    fn bounded(bytes: &[u8]) {
        if let Ok((_, Ok(request))) = read_client_frame(bytes) {
            assert!(held(&request) <= 2 * bytes.len() + 512);
        }
    }

    fn refused(bytes: &[u8]) -> Problem {
        let (id, request) = read_client_frame(bytes).unwrap();
        assert_eq!(id, Some(7));
        request.unwrap_err()
    }

    fn frame_with(fill: impl FnOnce(frame::Builder<'_>)) -> Vec<u8> {
        let mut message = new_message(0);
        let mut to: frame::Builder<'_> = message.init_root();
        to.set_has_id(true);
        to.set_id(7);
        fill(to);
        serialize::write_message_to_words(&message)
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let cases = [
            (frame_with(|to| to.init_join().set_room("A")), "room"),
            (frame_with(|to| to.init_leave().set_room("")), "room"),
            (
                frame_with(|to| {
                    to.init_presence()
                        .set_status(status_to(PresenceStatus::Offline))
                }),
                "status",
            ),
            (
                frame_with(|to| {
                    let mut to = to.init_send();
                    to.set_room("a");
                    to.init_message().set_data("{");
                }),
                "data",
            ),
        ];
        for (bytes, field) in cases {
            let problem = refused(&bytes);
            assert_eq!(problem.code, ErrorCode::InvalidField);
            assert_eq!(problem.field.as_deref(), Some(field));
        }
    }

    #[test]
    fn what_is_no_frame_is_malformed() {
        let good = client_frame(Some(7), &Request::Ping);
        let behind = [&good[..], &[0; 8]].concat();
        let huge = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0];
        // A struct that would begin far behind the end.
        let astray = [0, 0, 0, 0, 1, 0, 0, 0, 0xfc, 0xff, 0xff, 0x0f, 4, 0, 4, 0];
        for bytes in [
            &b""[..],
            b"{}",
            &good[..8],
            &good[..good.len() - 1],
            &behind,
            &huge,
            &astray,
        ] {
            assert_eq!(
                read_client_frame(bytes).unwrap_err(),
                NotAFrame::Malformed,
                "{bytes:?}"
            );
        }
        let edit = Request::Edit {
            room: "a".parse().unwrap(),
            seq: Seq(1),
            body: "\u{e4}bc".to_owned(),
        };
        let mut not_utf8 = client_frame(None, &edit);
        let at = not_utf8
            .windows(2)
            .position(|two| two == "\u{e4}".as_bytes())
            .unwrap();
        not_utf8[at] = 0xff;
        assert_eq!(
            read_client_frame(&not_utf8).unwrap_err(),
            NotAFrame::Malformed
        );

        let beyond = client_frame(Some(MAX_ID + 1), &Request::Ping);
        assert_eq!(read_client_frame(&beyond).unwrap_err(), NotAFrame::BadId);
        let largest = client_frame(Some(MAX_ID), &Request::Ping);
        assert_eq!(read_client_frame(&largest).unwrap().0, Some(MAX_ID));
    }

    #[test]
    fn words_that_are_pointed_to_again_and_again_are_refused() {
        // Room, body, data and key of a `send` are one and the same long text.
        let long = "7".repeat(4096);
        let message = SendMessage {
            room: "a".parse().unwrap(),
            body: String::new(),
            data: Some(serde_json::from_str(&long).unwrap()),
            key: None,
            reply_to: None,
        };
        let mut bytes = client_frame(Some(7), &Request::Send(message));
        let said = |bytes: &[u8]| read_client_frame(bytes).map(|(_, request)| request);
        assert!(said(&bytes).unwrap().is_ok());
        let pointer = pointer_to_list(&bytes, long.len() + 1);
        let data = u64::from_le_bytes(bytes[pointer..pointer + 8].try_into().unwrap());
        // `body` stands in front of `data`, `key` behind it: each has to look one word further or less far.
        let further = |by: i64| data.wrapping_add_signed(by << 2).to_le_bytes();
        bytes[pointer - 8..pointer].copy_from_slice(&further(1));
        bounded(&bytes);
        bytes[pointer + 8..pointer + 16].copy_from_slice(&further(-1));
        assert_eq!(said(&bytes).unwrap_err(), NotAFrame::Malformed);
    }

    /// Where the pointer to a list of so many bytes stands.
    fn pointer_to_list(bytes: &[u8], length: usize) -> usize {
        const BYTES: u64 = 2;
        let wanted = (length as u64) << 3 | BYTES;
        let found = bytes.chunks(8).position(|word| {
            let word = u64::from_le_bytes(word.try_into().unwrap());
            word & 3 == 1 && word >> 32 == wanted
        });
        found.unwrap() * 8
    }

    proptest! {
        #[test]
        fn a_request_comes_back_as_it_was(
            id in proptest::option::of(0..=MAX_ID),
            request in requests(),
        ) {
            let bytes = client_frame(id, &request);
            let (read_id, read) = read_client_frame(&bytes).unwrap();
            prop_assert_eq!((read_id, read.unwrap()), (id, request));
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_much(bytes in any::<Vec<u8>>()) {
            bounded(&bytes);
        }

        #[test]
        fn no_damage_makes_it_panic_or_take_much(
            request in requests(),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
            cut in any::<proptest::sample::Index>(),
            cuts in any::<bool>(),
        ) {
            let mut bytes = client_frame(Some(7), &request);
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if cuts {
                bytes.truncate(cut.index(bytes.len()));
            }
            bounded(&bytes);
            let _ = crate::capnp::server_frame_json(&bytes);
        }
    }
}
