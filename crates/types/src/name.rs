//! Names that people choose: the slug of a room, and a username.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not a name of the wanted kind; says what one looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidName(&'static str);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for InvalidName {}

/// The id of a room: a slug, `[a-z0-9][a-z0-9._-]{0,63}`. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bytes = text.as_bytes();
        let starts = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let well_formed = (1..=64).contains(&bytes.len())
            && starts(bytes[0])
            && bytes
                .iter()
                .all(|&byte| starts(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if well_formed {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(
                "a room id is 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit",
            ))
        }
    }
}

/// The name a person signs in with: 2 to 32 characters of a-z, 0-9, `.`, `_` and `-`, starting with a letter or
/// digit. What a person types is folded to lower case, so that nobody can take a name that only looks new.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Username(Arc<str>);

impl Username {
    /// The name as text, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Username {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let folded = text.to_ascii_lowercase();
        let bytes = folded.as_bytes();
        let starts = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let well_formed = (2..=32).contains(&bytes.len())
            && starts(bytes[0])
            && bytes
                .iter()
                .all(|&byte| starts(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if well_formed {
            Ok(Self(folded.into()))
        } else {
            Err(InvalidName(
                "a username is 2 to 32 characters of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit",
            ))
        }
    }
}

macro_rules! text_impls {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_impls!(RoomId);
text_impls!(Username);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ids_are_slugs() {
        let longest = "a".repeat(64);
        for good in ["a", "0", "general", "team.one_two-3", longest.as_str()] {
            assert!(good.parse::<RoomId>().is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in [
            "",
            "-a",
            ".a",
            "_a",
            "A",
            "a b",
            "ä",
            "a/b",
            "a\0",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<RoomId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn usernames_fold_to_lower_case() {
        assert_eq!("Alice".parse::<Username>().unwrap().as_str(), "alice");
        for bad in ["", "a", "a@b", "al ice", "älice", "-al"] {
            assert!(bad.parse::<Username>().is_err(), "{bad:?}");
        }
    }
}
