//! What an edge has to know of the frames that it passes on: which requests they answer, and where a subscription's answer
//! says that its room stands. Our own frames are read, whose fields stand in one order; see `stack_proto`.

use bytes::Bytes;
use stack_types::{Frames, Seq};

/// The requests that are answered among some frames.
pub(super) fn answered(frames: &[u8]) -> impl Iterator<Item = u64> + '_ {
    texts(frames).filter_map(|text| {
        let rest = text
            .strip_prefix(br#"{"type":"ok","id":"#)
            .or_else(|| text.strip_prefix(br#"{"type":"error","id":"#))?;
        Some(number(rest).0)
    })
}

/// The answer to `subscribe`, with another head.
pub(super) fn with_head(answer: &Bytes, head: Seq) -> Bytes {
    const HEAD: &[u8] = br#","head":"#;
    let Some(text) = texts(answer).next() else {
        return answer.clone();
    };
    let found = text.windows(HEAD.len()).position(|part| part == HEAD);
    let Some(at) = found.map(|at| at + HEAD.len()) else {
        return answer.clone();
    };
    let (_, len) = number(&text[at..]);
    let changed = [
        &text[..at],
        head.0.to_string().as_bytes(),
        &text[at + len..],
    ]
    .concat();
    Frames::one(&changed).wire().clone()
}

/// The texts of frames that lie one behind the other.
fn texts(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, len): (usize, usize) = match *frames.get(1)? {
            126 => (
                4,
                usize::from(u16::from_be_bytes(frames.get(2..4)?.try_into().ok()?)),
            ),
            127 => (
                10,
                usize::try_from(u64::from_be_bytes(frames.get(2..10)?.try_into().ok()?)).ok()?,
            ),
            short => (2, usize::from(short)),
        };
        let text = frames.get(header..header.checked_add(len)?)?;
        frames = &frames[header + len..];
        Some(text)
    })
}

/// The number at the beginning of a text, and its length.
fn number(text: &[u8]) -> (u64, usize) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold((0, 0), |(number, len), digit| {
        let digit = u64::from(digit - b'0');
        (number.saturating_mul(10).saturating_add(digit), len + 1)
    })
}

#[cfg(test)]
mod tests {
    use stack_proto::{error, ok, pong, push_sent};
    use stack_types::{FramesBuilder, Problem, Timestamp};

    use super::*;

    #[test]
    fn answers_are_known_among_other_frames() {
        let mut frames = FramesBuilder::default();
        frames.push(&pong(7, Timestamp(5)));
        frames.push(br#"{"type":"message","payload":{"body":"{\"type\":\"ok\",\"id\":1}"}}"#);
        frames.push(&error(Some(8), &Problem::not_found("x".repeat(70_000))));
        frames.push(&error(None, &Problem::not_found("no")));
        let mut sent = Vec::new();
        let room = "a".parse().unwrap();
        push_sent(1 << 52, &room, Seq(3), Timestamp(5), &mut sent);
        frames.push(&sent);
        let found: Vec<_> = answered(frames.finish().wire()).collect();
        assert_eq!(found, [7, 8, 1 << 52]);
        assert_eq!(answered(b"\x81\x7e").count(), 0);
    }

    #[test]
    fn a_head_is_changed_and_nothing_else() {
        #[derive(serde::Serialize)]
        struct Subscribed {
            room: &'static str,
            head: u64,
            first: u64,
        }
        let answer = |head| {
            let json = ok(
                3,
                Subscribed {
                    room: "head",
                    head,
                    first: 1,
                },
            );
            Frames::one(&json).wire().clone()
        };
        assert_eq!(with_head(&answer(9), Seq(100_000)), answer(100_000));
        assert_eq!(with_head(&Bytes::new(), Seq(1)), Bytes::new());
    }
}
