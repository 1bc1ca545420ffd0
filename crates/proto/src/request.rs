//! What a client can ask for over a socket.

use serde_json::value::RawValue;
use stack_types::{ErrorCode, JsonValue, PresenceStatus, Problem, RoomId, Seq, Timestamp};

use crate::fields::Fields;
use crate::incoming::Incoming;

/// A client's request, its fields of the right kinds. Whether they are allowed is not decided yet.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of PROTOCOL.md's table")]
pub enum Request {
    Auth {
        token: String,
    },
    Subscribe {
        room: RoomId,
        after: Option<Seq>,
    },
    Unsubscribe {
        room: RoomId,
    },
    Send(SendMessage),
    Edit {
        room: RoomId,
        seq: Seq,
        body: String,
    },
    Redact {
        room: RoomId,
        seq: Seq,
        reason: Option<String>,
    },
    React {
        room: RoomId,
        seq: Seq,
        emoji: String,
        remove: bool,
    },
    Join {
        room: RoomId,
    },
    Leave {
        room: RoomId,
    },
    History {
        room: RoomId,
        after: Option<Seq>,
        before: Option<Seq>,
        after_ts: Option<Timestamp>,
        limit: Option<u64>,
    },
    Read {
        room: RoomId,
        seq: Seq,
    },
    Typing {
        room: RoomId,
        on: bool,
    },
    Presence {
        status: PresenceStatus,
        text: Option<String>,
    },
    Ping,
}

/// A message on its way in.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of PROTOCOL.md's table")]
pub struct SendMessage {
    pub room: RoomId,
    pub body: String,
    pub data: Option<JsonValue>,
    pub key: Option<String>,
    pub reply_to: Option<Seq>,
}

const SEQ: &str = "an event's number";
const TEXT: &str = "a string";
const FLAG: &str = "true or false";

impl Request {
    /// Reads a frame's payload as its type asks for.
    ///
    /// # Errors
    /// `bad_request` for an unknown type or a payload that is no object, `invalid_field` for a field that is
    /// missing or of the wrong kind.
    pub fn parse(frame: &Incoming<'_>) -> Result<Self, Problem> {
        Self::of(&frame.kind, frame.payload)
    }

    fn of(kind: &str, payload: Option<&RawValue>) -> Result<Self, Problem> {
        let fields = || Fields::of(payload);
        match kind {
            "auth" => fields()?
                .required("token", TEXT)
                .map(|token| Self::Auth { token }),
            "subscribe" => subscribe(&fields()?),
            "unsubscribe" => fields()?
                .parsed("room")
                .map(|room| Self::Unsubscribe { room }),
            "send" => send(&fields()?).map(Self::Send),
            "edit" => edit(&fields()?),
            "redact" => redact(&fields()?),
            "react" => react(&fields()?),
            "join" => fields()?.parsed("room").map(|room| Self::Join { room }),
            "leave" => fields()?.parsed("room").map(|room| Self::Leave { room }),
            "history" => history(&fields()?),
            "read" => read(&fields()?),
            "typing" => typing(&fields()?),
            "presence" => presence(&fields()?),
            "ping" => fields().map(|_| Self::Ping),
            _ => Err(Problem::new(
                ErrorCode::BadRequest,
                "this type of frame is unknown",
            )),
        }
    }
}

fn subscribe(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::Subscribe {
        room: fields.parsed("room")?,
        after: fields.optional("after", SEQ)?,
    })
}

fn send(fields: &Fields<'_>) -> Result<SendMessage, Problem> {
    Ok(SendMessage {
        room: fields.parsed("room")?,
        body: fields.required("body", TEXT)?,
        data: fields.json("data"),
        key: fields.optional("key", TEXT)?,
        reply_to: fields.optional("reply_to", SEQ)?,
    })
}

fn edit(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::Edit {
        room: fields.parsed("room")?,
        seq: fields.required("seq", SEQ)?,
        body: fields.required("body", TEXT)?,
    })
}

fn redact(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::Redact {
        room: fields.parsed("room")?,
        seq: fields.required("seq", SEQ)?,
        reason: fields.optional("reason", TEXT)?,
    })
}

fn react(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::React {
        room: fields.parsed("room")?,
        seq: fields.required("seq", SEQ)?,
        emoji: fields.required("emoji", TEXT)?,
        remove: fields.optional("remove", FLAG)?.unwrap_or(false),
    })
}

fn history(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::History {
        room: fields.parsed("room")?,
        after: fields.optional("after", SEQ)?,
        before: fields.optional("before", SEQ)?,
        after_ts: fields.optional("after_ts", "a time in Unix milliseconds")?,
        limit: fields.optional("limit", "a number of events")?,
    })
}

fn read(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::Read {
        room: fields.parsed("room")?,
        seq: fields.required("seq", SEQ)?,
    })
}

fn typing(fields: &Fields<'_>) -> Result<Request, Problem> {
    Ok(Request::Typing {
        room: fields.parsed("room")?,
        on: fields.required("on", FLAG)?,
    })
}

fn presence(fields: &Fields<'_>) -> Result<Request, Problem> {
    let status = fields.required("status", "online, away or busy")?;
    if status == PresenceStatus::Offline {
        return Err(Problem::invalid_field(
            "status",
            "status is online, away or busy",
        ));
    }
    Ok(Request::Presence {
        status,
        text: fields.optional("text", TEXT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Request, Problem> {
        Request::parse(&Incoming::parse(text).unwrap())
    }

    #[test]
    fn a_send_keeps_its_data_as_written() {
        let text = r#"{"type":"send","payload":{"room":"a","body":"\u00e4","data": [1.0, {"b":null}] ,"reply_to":3}}"#;
        let Ok(Request::Send(message)) = parse(text) else {
            panic!("not a send");
        };
        assert_eq!(message.body, "ä");
        assert_eq!(message.data.unwrap().as_str(), r#"[1.0, {"b":null}]"#);
        assert_eq!((message.key, message.reply_to), (None, Some(Seq(3))));
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let cases = [
            (r#"{"type":"send","payload":{"body":"x"}}"#, "room"),
            (
                r#"{"type":"send","payload":{"room":"A","body":"x"}}"#,
                "room",
            ),
            (r#"{"type":"send","payload":{"room":"a"}}"#, "body"),
            (r#"{"type":"send","payload":{"room":"a","body":7}}"#, "body"),
            (
                r#"{"type":"send","payload":{"room":"a","body":"\ud800"}}"#,
                "body",
            ),
            (
                r#"{"type":"subscribe","payload":{"room":"a","after":-1}}"#,
                "after",
            ),
            (
                r#"{"type":"presence","payload":{"status":"offline"}}"#,
                "status",
            ),
            (
                r#"{"type":"typing","payload":{"room":"a","on":null}}"#,
                "on",
            ),
            (r#"{"type":"ping"}"#, ""),
        ];
        for (text, field) in cases {
            match parse(text) {
                Ok(request) => assert_eq!((request, field), (Request::Ping, "")),
                Err(problem) => {
                    assert_eq!(problem.code, ErrorCode::InvalidField, "{text}");
                    assert_eq!(problem.field.as_deref(), Some(field), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_type_or_a_payload_that_is_no_object_is_a_bad_request() {
        for text in [r#"{"type":"nonsense"}"#, r#"{"type":"ping","payload":[]}"#] {
            assert_eq!(
                parse(text).unwrap_err().code,
                ErrorCode::BadRequest,
                "{text}"
            );
        }
    }
}
