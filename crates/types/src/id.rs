//! Opaque ids: at most 24 characters, sortable by the time they were made.
//!
//! An id is 128 bits, 48 of Unix milliseconds and 80 of randomness, in base 58 at a fixed width of 22
//! characters. The base-58 alphabet rises in ASCII, so ids sort as strings in the order of their time.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;

const MAX_LEN: usize = 24;
const GENERATED_LEN: usize = 22;

/// The string is not an id: empty, longer than 24 characters, or with characters other than `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id is 1 to 24 characters of A-Z, a-z, 0-9, _ and -")
    }
}

impl std::error::Error for InvalidId {}

/// The text of an id, in place: an id is copied, never allocated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Text {
    // Unused bytes are zero, so that comparing the array compares the strings.
    bytes: [u8; MAX_LEN],
    len: u8,
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.bytes);
    }
}

impl Text {
    fn generate(now: Timestamp) -> Self {
        let mut raw = [0u8; 16];
        raw[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        // An id without randomness would collide and be guessable; a machine that has none cannot go on.
        getrandom::fill(&mut raw[6..]).expect("the operating system gives random bytes");
        Self::from_raw(raw)
    }

    fn from_raw(raw: [u8; 16]) -> Self {
        const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
        let mut value = u128::from_be_bytes(raw);
        let mut bytes = [0u8; MAX_LEN];
        for slot in bytes[..GENERATED_LEN].iter_mut().rev() {
            *slot = ALPHABET[(value % 58) as usize];
            value /= 58;
        }
        Self {
            bytes,
            len: GENERATED_LEN as u8,
        }
    }

    fn parse(text: &str) -> Result<Self, InvalidId> {
        let source = text.as_bytes();
        let sane = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if source.is_empty() || source.len() > MAX_LEN || !source.iter().all(sane) {
            return Err(InvalidId);
        }
        let mut bytes = [0u8; MAX_LEN];
        bytes[..source.len()].copy_from_slice(source);
        Ok(Self {
            bytes,
            len: source.len() as u8,
        })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Text);

        impl $name {
            /// A new id, made now.
            #[must_use]
            pub fn generate(now: Timestamp) -> Self {
                Self(Text::generate(now))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Text::parse(text).map(Self)
            }
        }

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
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type! {
    /// An account.
    UserId
}
id_type! {
    /// A signed-in device: a refresh-token family and every socket opened under it.
    SessionId
}
id_type! {
    /// One open socket, for as long as it is open.
    ConnectionId
}
id_type! {
    /// A passkey of an account, as its owner names it in requests. The authenticator's own id is longer.
    PasskeyId
}
id_type! {
    /// An account at an identity provider that signs in to one of ours.
    LinkId
}
id_type! {
    /// An API key; its secret part is another matter.
    ApiKeyId
}
id_type! {
    /// An invitation.
    InviteId
}

/// Whatever was opened with an API key is revoked under the key's id, as what was opened in a session is under the
/// session's. Both are generated alike, so that they never meet.
impl From<ApiKeyId> for SessionId {
    fn from(id: ApiKeyId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_sort_by_time() {
        let mut ids: Vec<UserId> = [
            5u64,
            1_700_000_000_000,
            1_700_000_000_001,
            281_474_976_710_655,
        ]
        .into_iter()
        .map(|ms| UserId::generate(Timestamp(ms)))
        .collect();
        let made = ids.clone();
        ids.sort_by_key(ToString::to_string);
        assert_eq!(ids, made);
        ids.sort();
        assert_eq!(ids, made);
        assert!(ids.iter().all(|id| id.as_str().len() == 22));
    }

    #[test]
    fn ids_of_one_millisecond_differ() {
        let now = Timestamp(1_700_000_000_000);
        assert_ne!(UserId::generate(now), UserId::generate(now));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "a b", "ü", "../x", "1234567890123456789012345"] {
            assert_eq!(text.parse::<UserId>(), Err(InvalidId), "{text}");
        }
        assert_eq!(
            "123456789012345678901234"
                .parse::<UserId>()
                .unwrap()
                .as_str()
                .len(),
            24
        );
    }
}
