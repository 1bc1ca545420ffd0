//! How the servers are spoken to. The generator sends the same message everywhere and reads the same out of what
//! comes back: which message it was, and that it is whole.

use anyhow::{Result, bail};

use crate::frame;

/// The room, the subject, the topic.
pub(crate) const ROOM: &str = "bench";

/// Every body is as long.
pub(crate) const BODY_BYTES: usize = 128;

/// A body starts with its message's number in so many digits.
const NUMBER_DIGITS: usize = 12;

/// Request ids start here, so that they all have as many digits.
const FIRST_ID: u64 = 1_000_000_000;
const ID_DIGITS: usize = 10;

/// A way of speaking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    /// Stack's own frames; the peers on Node's `ws` speak them too.
    Stack,
    /// Engine.IO 4 with Socket.IO 5 in it.
    SocketIo,
    /// The NATS client protocol over WebSocket.
    Nats,
}

/// What the generator hears.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// The connection is ready to be spoken on.
    Open,
    /// A message of the room.
    Message {
        /// The number in its body.
        number: u64,
        /// Its place in the room; zero where the server gives none.
        seq: u64,
    },
    /// The answer to a request, or, where answers name none, to the oldest one.
    Answer {
        /// The request; zero where answers name none.
        id: u64,
        /// The whole frame.
        frame: &'a [u8],
    },
    /// The server has refused something, or says that it goes.
    Refused(&'a [u8]),
    /// The connection is over.
    Closed,
}

/// What a dialect remembers of a connection.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What is still incomplete; for dialects whose messages do not keep to frames.
    rest: Vec<u8>,
    /// Whether this connection sends messages and wants each answered.
    speaks: bool,
    /// Whether the server has answered the greeting of a connection that speaks.
    greeted: bool,
}

impl Memory {
    /// Nothing yet, of a connection that sends messages or only listens.
    pub(crate) fn new(speaks: bool) -> Self {
        Self {
            speaks,
            ..Self::default()
        }
    }
}

impl Dialect {
    /// The target of the upgrade.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Stack => "/ws",
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket",
            Self::Nats => "/",
        }
    }

    /// More header lines of the upgrade.
    pub(crate) fn headers(self, token: Option<&str>) -> String {
        match (self, token) {
            (Self::Stack, Some(token)) => {
                format!(
                    "sec-websocket-protocol: stack.v1.json\r\nauthorization: Bearer {token}\r\n"
                )
            }
            _ => String::new(),
        }
    }

    /// Whether the server speaks first, and the connection is open only after that.
    pub(crate) fn server_begins(self) -> bool {
        self != Self::Stack
    }

    /// How a client asks for the room's messages. The answer is a [`Heard::Answer`].
    pub(crate) fn subscribe(self, room: &str, after: Option<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Stack => {
                let after = after
                    .map(|after| format!(r#","after":{after}"#))
                    .unwrap_or_default();
                let text = format!(
                    r#"{{"type":"subscribe","id":1,"payload":{{"room":"{room}"{after}}}}}"#
                );
                frame::push(frame::TEXT, text.as_bytes(), &mut out);
            }
            Self::SocketIo => {
                let text = format!(r#"421["subscribe",{{"room":"{room}"}}]"#);
                frame::push(frame::TEXT, text.as_bytes(), &mut out);
            }
            Self::Nats => {
                let text = format!("SUB {room} 1\r\nPING\r\n");
                frame::push(frame::BINARY, text.as_bytes(), &mut out);
            }
        }
        out
    }

    /// Reads a frame. `answer` takes what has to be sent back at once.
    pub(crate) fn read(
        self,
        memory: &mut Memory,
        payload: &[u8],
        answer: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<()> {
        match self {
            Self::Stack => stack(payload, hear),
            Self::SocketIo => socket_io(payload, answer, hear),
            Self::Nats => nats(memory, payload, answer, hear),
        }
    }
}

fn socket_io(payload: &[u8], answer: &mut Vec<u8>, hear: &mut impl FnMut(Heard<'_>)) -> Result<()> {
    const CONNECT: &[u8] = b"40";
    const PONG: &[u8] = b"3";
    match payload {
        [b'2', ..] => frame::push(frame::TEXT, PONG, answer),
        [b'0', ..] => frame::push(frame::TEXT, CONNECT, answer),
        [b'4', b'0', ..] => hear(Heard::Open),
        [b'4', b'2', ..] => hear(Heard::Message {
            number: number_before(payload, r#""}]"#)?,
            seq: 0,
        }),
        [b'4', b'3', rest @ ..] => hear(Heard::Answer {
            id: leading_number(rest),
            frame: payload,
        }),
        _ => hear(Heard::Refused(payload)),
    }
    Ok(())
}

fn nats(
    memory: &mut Memory,
    payload: &[u8],
    answer: &mut Vec<u8>,
    hear: &mut impl FnMut(Heard<'_>),
) -> Result<()> {
    if memory.rest.is_empty() {
        let taken = nats_lines(memory, payload, answer, hear)?;
        memory.rest.extend_from_slice(&payload[taken..]);
    } else {
        let mut bytes = std::mem::take(&mut memory.rest);
        bytes.extend_from_slice(payload);
        let taken = nats_lines(memory, &bytes, answer, hear)?;
        bytes.drain(..taken);
        memory.rest = bytes;
    }
    Ok(())
}

/// Reads whole protocol lines and says how many bytes they were.
fn nats_lines(
    memory: &mut Memory,
    bytes: &[u8],
    answer: &mut Vec<u8>,
    hear: &mut impl FnMut(Heard<'_>),
) -> Result<usize> {
    // MSG, the subject, the subscription's number, the length.
    const MESSAGE: &[u8] = b"MSG bench 1 128\r\n";
    const END: usize = 2;
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with(MESSAGE) {
            let Some(body) = rest.get(MESSAGE.len()..MESSAGE.len() + BODY_BYTES + END) else {
                break;
            };
            hear(Heard::Message {
                number: number_of(body)?,
                seq: 0,
            });
            at += MESSAGE.len() + BODY_BYTES + END;
            continue;
        }
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            break;
        };
        let line = &rest[..end];
        match line {
            [b'I', b'N', ..] => {
                // Who speaks has each message answered by an `+OK`; it costs the server five bytes.
                let hello = format!(r#"CONNECT {{"verbose":{}}}"#, memory.speaks) + "\r\n";
                frame::push(frame::BINARY, hello.as_bytes(), answer);
                if !memory.speaks {
                    hear(Heard::Open);
                }
            }
            [b'+', ..] if !memory.greeted => {
                memory.greeted = true;
                hear(Heard::Open);
            }
            [b'P', b'I', ..] => frame::push(frame::BINARY, b"PONG\r\n", answer),
            [b'+', ..] | [b'P', b'O', ..] => hear(Heard::Answer { id: 0, frame: line }),
            [b'M', ..] => bail!(
                "a message of another kind: {}",
                String::from_utf8_lossy(line)
            ),
            _ => hear(Heard::Refused(line)),
        }
        at += end + 1;
    }
    Ok(at)
}

fn stack(payload: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> Result<()> {
    const MESSAGE: &[u8] = br#"{"type":"message","payload":{"room":""#;
    const OK: &[u8] = br#"{"type":"ok","id":"#;
    const ERROR: &[u8] = br#"{"type":"error""#;
    const DRAIN: &[u8] = br#"{"type":"drain""#;
    const SEQ: &[u8] = br#"","seq":"#;
    if let Some(rest) = payload.strip_prefix(MESSAGE) {
        let room = rest
            .iter()
            .position(|&byte| byte == b'"')
            .unwrap_or_default();
        let seq = rest
            .get(room..)
            .and_then(|rest| rest.strip_prefix(SEQ))
            .map(leading_number);
        let Some(seq) = seq else {
            bail!(
                "an event without its place: {}",
                String::from_utf8_lossy(payload)
            );
        };
        let number = match keyed_body(payload) {
            Some(body) => number_of(body)?,
            None => number_before(payload, r#""}}"#)?,
        };
        hear(Heard::Message { number, seq });
    } else if let Some(rest) = payload.strip_prefix(OK) {
        hear(Heard::Answer {
            id: leading_number(rest),
            frame: payload,
        });
    } else if payload.starts_with(ERROR) || payload.starts_with(DRAIN) {
        hear(Heard::Refused(payload));
    }
    // Anything else (presence, other events of the room) is not what is measured.
    Ok(())
}

/// The digits that `bytes` start with, as a number; zero when there are none.
pub(crate) fn leading_number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |number, byte| number * 10 + u64::from(byte - b'0'))
}

/// The number in a body.
fn number_of(body: &[u8]) -> Result<u64> {
    match body.get(..NUMBER_DIGITS) {
        Some(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(leading_number(digits)),
        _ => bail!("a body without its number"),
    }
}

/// The body of a message that has a key behind it.
fn keyed_body(payload: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = br#"","key":"k"#;
    const TAIL_BYTES: usize = KEY.len() + NUMBER_DIGITS + br#""}}"#.len();
    let (rest, tail) = payload.split_at_checked(payload.len().checked_sub(TAIL_BYTES)?)?;
    let start = rest.len().checked_sub(BODY_BYTES)?;
    tail.starts_with(KEY).then(|| &rest[start..])
}

/// The number in the body that ends in front of `tail`, which ends the payload.
fn number_before(payload: &[u8], tail: &str) -> Result<u64> {
    let start = payload.len().checked_sub(BODY_BYTES + tail.len());
    match start.and_then(|start| payload.get(start..)) {
        Some(body) if body.ends_with(tail.as_bytes()) => number_of(body),
        _ => bail!(
            "not a message of ours: {}",
            String::from_utf8_lossy(payload)
        ),
    }
}

/// A message to send, laid out once; only its digits change.
pub(crate) struct Template {
    opcode: u8,
    text: Vec<u8>,
    id_at: Option<usize>,
    number_at: usize,
    key_at: Option<usize>,
}

impl Template {
    /// A message to a room; `keyed` gives each an idempotency key.
    pub(crate) fn new(dialect: Dialect, room: &str, keyed: bool) -> Self {
        let filler = ".".repeat(BODY_BYTES - NUMBER_DIGITS);
        let id = FIRST_ID;
        let body = format!("{:0NUMBER_DIGITS$}{filler}", 0);
        let key_head = r#"","key":"k"#;
        let (opcode, text) = match dialect {
            Dialect::Stack => {
                let key = if keyed {
                    format!("{key_head}{:0NUMBER_DIGITS$}", 0)
                } else {
                    String::new()
                };
                let text = format!(
                    r#"{{"type":"send","id":{id},"payload":{{"room":"{room}","body":"{body}{key}"}}}}"#
                );
                (frame::TEXT, text)
            }
            Dialect::SocketIo => (
                frame::TEXT,
                format!(r#"42{id}["send",{{"room":"{room}","body":"{body}"}}]"#),
            ),
            Dialect::Nats => (
                frame::BINARY,
                format!("PUB {room} {BODY_BYTES}\r\n{body}\r\n"),
            ),
        };
        Self {
            opcode,
            id_at: text.find(&id.to_string()),
            number_at: text.find(&body).unwrap_or_default(),
            key_at: text.find(key_head).map(|at| at + key_head.len()),
            text: text.into_bytes(),
        }
    }

    /// Appends message `number` as a frame. Its request has the number as id, see [`number_of_id`].
    pub(crate) fn push(&mut self, number: u64, out: &mut Vec<u8>) {
        if let Some(at) = self.id_at {
            write_digits(&mut self.text[at..at + ID_DIGITS], FIRST_ID + number);
        }
        for at in [Some(self.number_at), self.key_at].into_iter().flatten() {
            write_digits(&mut self.text[at..at + NUMBER_DIGITS], number);
        }
        frame::push(self.opcode, &self.text, out);
    }
}

/// Which message a request's id belongs to.
pub(crate) fn number_of_id(id: u64) -> Option<u64> {
    id.checked_sub(FIRST_ID)
}

fn write_digits(out: &mut [u8], mut number: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(dialect: Dialect, frames: &[&[u8]]) -> Vec<String> {
        let mut memory = Memory::default();
        let mut out = Vec::new();
        for frame in frames {
            dialect
                .read(&mut memory, frame, &mut Vec::new(), &mut |heard| {
                    out.push(match heard {
                        Heard::Message { number, seq } => format!("{number}@{seq}"),
                        Heard::Answer { id, .. } => format!("answer {id}"),
                        other => format!("{other:?}"),
                    });
                })
                .unwrap();
        }
        out
    }

    fn body(number: u64) -> String {
        format!("{number:012}{}", ".".repeat(116))
    }

    #[test]
    fn stack_is_understood() {
        let event = format!(
            r#"{{"type":"message","payload":{{"room":"bench","seq":17,"ts":5,"sender":"x","body":"{}"}}}}"#,
            body(42)
        );
        let keyed = format!(
            r#"{{"type":"message","payload":{{"room":"bench","seq":18,"ts":5,"sender":"x","body":"{}","key":"k000000000043"}}}}"#,
            body(43)
        );
        let other = br#"{"type":"presence","payload":{}}"#;
        let ok = br#"{"type":"ok","id":1000000003,"payload":{}}"#;
        assert_eq!(
            heard(
                Dialect::Stack,
                &[event.as_bytes(), keyed.as_bytes(), other, ok]
            ),
            ["42@17", "43@18", "answer 1000000003"]
        );
        assert_eq!(number_of_id(1_000_000_003), Some(3));
    }

    #[test]
    fn nats_messages_may_span_frames() {
        let text = format!("MSG bench 1 128\r\n{}\r\n", body(7)).repeat(3) + "+OK\r\n";
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(
                heard(Dialect::Nats, &[&bytes[..cut], &bytes[cut..]]),
                ["7@0", "7@0", "7@0", "Open"]
            );
        }
    }

    #[test]
    fn socket_io_is_understood() {
        let event = format!(r#"42["message",{{"room":"bench","body":"{}"}}]"#, body(9));
        assert_eq!(
            heard(Dialect::SocketIo, &[event.as_bytes(), b"431000000009[{}]"]),
            ["9@0", "answer 1000000009"]
        );
    }

    #[test]
    fn a_template_says_its_number_everywhere() {
        let mut template = Template::new(Dialect::Stack, "r7", true);
        let mut out = Vec::new();
        template.push(314, &mut out);
        let text = String::from_utf8(template.text).unwrap();
        assert!(text.contains(r#""id":1000000314,"#), "{text}");
        assert!(text.contains(r#""body":"000000000314.."#), "{text}");
        assert!(text.contains(r#""key":"k000000000314"}}"#), "{text}");
    }
}
