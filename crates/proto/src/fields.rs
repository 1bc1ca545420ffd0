//! The fields of a payload, taken one by one, so that what is wrong is said of the field that is wrong.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use stack_types::{ErrorCode, JsonValue, Problem};

/// A payload's fields. Unknown ones stay unlooked at; of one that is given twice the last counts.
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of a payload; none when it is absent.
    pub(crate) fn of(payload: Option<&'a RawValue>) -> Result<Self, Problem> {
        let Some(payload) = payload else {
            return Ok(Self(Vec::new()));
        };
        serde_json::from_str(payload.get())
            .map_err(|_| Problem::new(ErrorCode::BadRequest, "a payload is an object"))
    }

    /// A field that may be absent or `null`.
    pub(crate) fn optional<T: DeserializeOwned>(
        &self,
        name: &'static str,
        what: &'static str,
    ) -> Result<Option<T>, Problem> {
        match self.raw(name) {
            None => Ok(None),
            Some(raw) => serde_json::from_str(raw.get())
                .map(Some)
                .map_err(|_| Problem::invalid_field(name, format!("{name} is {what}"))),
        }
    }

    /// A field that must be there.
    pub(crate) fn required<T: DeserializeOwned>(
        &self,
        name: &'static str,
        what: &'static str,
    ) -> Result<T, Problem> {
        self.optional(name, what)?.ok_or_else(|| missing(name))
    }

    /// A string field that must be there and be a name of some kind.
    pub(crate) fn parsed<T>(&self, name: &'static str) -> Result<T, Problem>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text: String = self.required(name, "a string")?;
        text.parse()
            .map_err(|error: T::Err| Problem::invalid_field(name, error.to_string()))
    }

    /// A field of any JSON value, kept as it was written. `null` counts as absent.
    pub(crate) fn json(&self, name: &'static str) -> Option<JsonValue> {
        self.raw(name).map(|raw| JsonValue(raw.to_owned()))
    }

    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(field, _)| field == name);
        found.map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }
}

fn missing(name: &'static str) -> Problem {
    Problem::invalid_field(name, format!("{name} is missing"))
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut pairs = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    pairs.push((name, map.next_value()?));
                }
                Ok(pairs)
            }
        }

        deserializer.deserialize_map(Pairs).map(Fields)
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(Text).map(Name)
    }
}
