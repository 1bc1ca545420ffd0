//! The outside of a client's frame: `{"type": …, "id": …, "payload": …}`.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// The largest `id` a client may pick: integers beyond are not exact in every language.
pub(crate) const MAX_ID: u64 = (1 << 53) - 1;

/// It is not a frame; the socket closes with 4000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not JSON, or not an object.
    NotAnObject,
    /// No `type`, or one that is not a string.
    NoType,
    /// An `id` that is not an integer from 0 to 2^53−1.
    BadId,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAnObject => "a frame is one JSON object",
            Self::NoType => "a frame has a type, which is a string",
            Self::BadId => "an id is an integer from 0 to 2^53-1",
        })
    }
}

impl std::error::Error for Malformed {}

/// A client's frame, its payload not yet looked at.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// What it asks for.
    pub kind: Cow<'a, str>,
    /// The client's number for it; without one only an error is answered.
    pub id: Option<u64>,
    /// The payload, if there is one.
    pub payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Outside<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    payload: Option<&'a RawValue>,
}

/// Keeps an explicit `null` apart from an absent field.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Incoming<'a> {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// See [`Malformed`].
    pub fn parse(text: &'a str) -> Result<Self, Malformed> {
        if !text.trim_start().starts_with('{') {
            return Err(Malformed::NotAnObject);
        }
        let outside: Outside<'a> =
            serde_json::from_str(text).map_err(|_| Malformed::NotAnObject)?;
        let id = outside.id.map(|raw| parse_id(raw.get())).transpose()?;
        let kind = outside.kind.ok_or(Malformed::NoType)?.get();
        // A string without escapes is borrowed, any other is unescaped.
        let kind = match serde_json::from_str::<&str>(kind) {
            Ok(kind) => Cow::Borrowed(kind),
            Err(_) => Cow::Owned(serde_json::from_str(kind).map_err(|_| Malformed::NoType)?),
        };
        Ok(Self {
            kind,
            id,
            payload: outside.payload,
        })
    }
}

fn parse_id(text: &str) -> Result<u64, Malformed> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text
        .parse::<u64>()
        .ok()
        .filter(|id| digits && *id <= MAX_ID);
    id.ok_or(Malformed::BadId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_comes_apart() {
        let text = r#" {"payload": {"a": 1}, "id": 7, "type": "send", "more": []}"#;
        let frame = Incoming::parse(text).unwrap();
        assert_eq!((frame.kind.as_ref(), frame.id), ("send", Some(7)));
        assert_eq!(frame.payload.unwrap().get(), r#"{"a": 1}"#);
        let frame = Incoming::parse(r#"{"type":"p\u0069ng","id":9007199254740991}"#).unwrap();
        assert_eq!((frame.kind.as_ref(), frame.id), ("ping", Some(MAX_ID)));
    }

    #[test]
    fn what_is_malformed_is_named() {
        fn of(text: &str) -> Malformed {
            Incoming::parse(text).unwrap_err()
        }
        for text in [
            "",
            "x",
            "[]",
            "1",
            "null",
            "\"a\"",
            "{",
            "{}x",
            "[\"type\"]",
            "{\"type\":}",
        ] {
            assert_eq!(of(text), Malformed::NotAnObject, "{text}");
        }
        for text in [
            "{}",
            r#"{"type":1}"#,
            r#"{"type":null}"#,
            r#"{"type":["a"]}"#,
        ] {
            assert_eq!(of(text), Malformed::NoType, "{text}");
        }
        for id in [
            "-1",
            "1.5",
            "1.0",
            "1e3",
            "\"1\"",
            "null",
            "true",
            "9007199254740992",
            "[1]",
        ] {
            let text = format!(r#"{{"type":"ping","id":{id}}}"#);
            assert_eq!(of(&text), Malformed::BadId, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = Incoming::parse(&text);
        }
    }
}
