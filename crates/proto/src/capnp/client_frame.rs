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
