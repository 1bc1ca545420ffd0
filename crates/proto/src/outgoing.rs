//! The answers to a client's requests.

use serde::Serialize;
use stack_types::{ErrorCode, Problem, RoomId, Seq, Timestamp};

#[derive(Serialize)]
pub(crate) struct Frame<P> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) id: Option<u64>,
    pub(crate) payload: P,
}

#[derive(Serialize)]
struct Refusal<'a> {
    code: ErrorCode,
    message: &'a str,
    retryable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

/// The `ok` that answers request `id`.
#[must_use]
pub fn ok(id: u64, payload: impl Serialize) -> Vec<u8> {
    encode(&Frame {
        kind: "ok",
        id: Some(id),
        payload,
    })
}

/// Appends the `ok` that tells request `id` where what it said has its place. One goes out for every message, so it is
/// put together by hand; a room's id, being a slug, needs no escapes.
pub fn push_sent(id: u64, room: &RoomId, seq: Seq, ts: Timestamp, out: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    out.extend_from_slice(br#"{"type":"ok","id":"#);
    out.extend_from_slice(number.format(id).as_bytes());
    out.extend_from_slice(br#","payload":{"room":""#);
    out.extend_from_slice(room.as_str().as_bytes());
    out.extend_from_slice(br#"","seq":"#);
    out.extend_from_slice(number.format(seq.0).as_bytes());
    out.extend_from_slice(br#","ts":"#);
    out.extend_from_slice(number.format(ts.0).as_bytes());
    out.extend_from_slice(b"}}");
}

/// The `error` that answers request `id`, or a request without one.
#[must_use]
pub fn error(id: Option<u64>, problem: &Problem) -> Vec<u8> {
    encode(&Frame {
        kind: "error",
        id,
        payload: Refusal {
            code: problem.code,
            message: &problem.detail,
            retryable: problem.code.retryable(),
            retry_after_ms: problem.retry_after_ms(),
            field: problem.field.as_deref(),
        },
    })
}

/// The `ok` that answers a `ping`.
#[must_use]
pub fn pong(id: u64, now: Timestamp) -> Vec<u8> {
    #[derive(Serialize)]
    struct Pong {
        ts: Timestamp,
    }
    ok(id, Pong { ts: now })
}

/// Frames are structs of strings and numbers, which always have a JSON form.
pub(crate) fn encode(frame: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(frame).expect("a frame has a JSON form")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn answers_read_as_the_protocol_says() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(pong(7, Timestamp(5))),
            r#"{"type":"ok","id":7,"payload":{"ts":5}}"#
        );
        let mut sent = Vec::new();
        let room = "a.b-c".parse().unwrap();
        push_sent(u64::MAX, &room, Seq(3), Timestamp(5), &mut sent);
        assert_eq!(
            text(sent),
            r#"{"type":"ok","id":18446744073709551615,"payload":{"room":"a.b-c","seq":3,"ts":5}}"#
        );
        let problem = Problem::rate_limited(Duration::from_micros(10));
        assert_eq!(
            text(error(None, &problem)),
            r#"{"type":"error","payload":{"code":"rate_limited","message":"too many requests, slow down","retryable":true,"retry_after_ms":1}}"#
        );
    }
}
