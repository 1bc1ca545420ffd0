//! A `send` in the form that nearly every client writes it, read in one pass.
//!
//! [`Incoming`](crate::Incoming) and [`Request`] go over a frame three times, so that whatever is wrong with it can be
//! said of the field that is wrong. That is most of what a message costs. So a frame that looks like a `send` is first
//! read here, and only if that fails for any reason the long way, which then says why.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use stack_types::{JsonValue, Seq};

use crate::incoming::MAX_ID;
use crate::request::{Request, SendMessage};

/// How such a frame begins.
const BEGINNING: &str = r#"{"type":"send","#;

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    id: Option<u64>,
    #[serde(borrow)]
    payload: Object<Payload<'a>>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    room: &'a str,
    #[serde(borrow)]
    body: Cow<'a, str>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    reply_to: Option<Seq>,
}

/// A struct that stands as an object. serde would take an array of its fields too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AsMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AsMap<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(AsMap(PhantomData)).map(Object)
    }
}

/// Reads a `send`; `None` for everything else, also for one with a mistake or an unusual form.
#[must_use]
pub fn quick_send(text: &str) -> Option<(Option<u64>, Request)> {
    if !text.starts_with(BEGINNING) {
        return None;
    }
    let frame: Frame<'_> = serde_json::from_str(text).ok()?;
    // `null` is no id, and absent means that there is none: only the long way tells them apart.
    let id = frame.id.filter(|id| *id <= MAX_ID)?;
    if frame.kind != "send" {
        return None;
    }
    let Object(payload) = frame.payload;
    let message = SendMessage {
        room: payload.room.parse().ok()?,
        body: payload.body.into_owned(),
        data: payload.data.map(|data| JsonValue(data.to_owned())),
        key: payload.key,
        reply_to: payload.reply_to,
    };
    Some((Some(id), Request::Send(message)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::Incoming;

    fn long_way(text: &str) -> Option<(Option<u64>, Request)> {
        let incoming = Incoming::parse(text).ok()?;
        Some((incoming.id, Request::parse(&incoming).ok()?))
    }

    #[test]
    fn the_usual_form_is_read() {
        let text = r#"{"type":"send","id":7,"payload":{"room":"a","body":"x\n","data":{"b": [1.0]},"key":"k","reply_to":3}}"#;
        let quick = quick_send(text);
        assert!(quick.is_some());
        assert_eq!(quick, long_way(text));
    }

    #[test]
    fn a_payload_that_is_an_array_is_refused() {
        let text = r#"{"type":"send","id":7,"payload":["a","text"]}"#;
        assert_eq!(quick_send(text), None);
        assert_eq!(long_way(text), None);
    }

    const FIELDS: [&str; 24] = [
        r#""room":"a""#,
        r#""room":"a.b-c_9""#,
        r#""room":"\u0061""#,
        r#""room":"A""#,
        r#""room":7"#,
        r#""body":"plain""#,
        r#""body":"an \"escape\" \u00e4""#,
        r#""body":"\ud800""#,
        r#""body":null"#,
        r#""data": {"a" : [1.0, null]}"#,
        r#""data":null"#,
        r#""data":"x""#,
        r#""data":{"#,
        r#""key":"k""#,
        r#""key":"\u006b""#,
        r#""key":null"#,
        r#""key":1"#,
        r#""reply_to":3"#,
        r#""reply_to":3.0"#,
        r#""reply_to":-3"#,
        r#""reply_to":null"#,
        r#""more":[{}]"#,
        r#""BODY":"x""#,
        "",
    ];
    const IDS: [&str; 9] = [
        r#""id":7,"#,
        r#""id":9007199254740991,"#,
        r#""id":9007199254740992,"#,
        r#""id":null,"#,
        r#""id":1.0,"#,
        r#""id":-1,"#,
        r#""id":1,"id":2,"#,
        r#""type":"ping","#,
        "",
    ];

    proptest! {
        #[test]
        fn what_is_read_quickly_reads_the_same_the_long_way(
            id in select(&IDS[..]),
            fields in proptest::collection::vec(select(&FIELDS[..]), 0..6),
            (begin, end) in select(&[
                ("{", "}"),
                ("{", "} "),
                ("{", "},\"x\":1"),
                ("{", ""),
                ("[", "]"),
                ("[\"a\",\"b\"", "]"),
                ("null", ""),
            ][..]),
        ) {
            let fields = fields.join(",");
            let text = format!(r#"{BEGINNING}{id}"payload":{begin}{fields}{end}}}"#);
            if let Some(quick) = quick_send(&text) {
                prop_assert_eq!(Some(quick), long_way(&text));
            }
        }
    }
}
