//! Topics, and prefixes of topics.
//!
//! On the wire a message is `topic 0x00 payload`, and a subscriber asks for everything that starts with some bytes.
//! So a topic never holds a NUL, and a prefix that ends in one matches exactly the topic before it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use stack_types::{RoomId, UserId};

/// The longest topic, in bytes; far above every topic of ours, and below what any transport carries.
const MAX_TOPIC_BYTES: usize = 255;

const ROOM: &str = "room.";
const PRESENCE: &str = "presence.";
const USER: &str = "user.";
const CONTROL: &str = "control.";

/// The text is not a topic: empty, longer than 255 bytes, or with a NUL in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a topic is 1 to 255 bytes without a NUL")]
pub struct InvalidTopic;

/// What a message is about. Cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

impl Topic {
    /// `room.<room id>`: the events of a room.
    #[must_use]
    pub fn room(room: &RoomId) -> Self {
        Self::of(ROOM, room.as_str())
    }

    /// `presence.<room id>`: who comes to a room and goes.
    #[must_use]
    pub fn presence(room: &RoomId) -> Self {
        Self::of(PRESENCE, room.as_str())
    }

    /// `user.<user id>`: what goes to the devices of one user.
    #[must_use]
    pub fn user(user: UserId) -> Self {
        Self::of(USER, user.as_str())
    }

    /// `control.<kind>`: what gateways tell each other, such as revocations.
    ///
    /// # Errors
    /// When the topic would be too long, or `kind` is empty or holds a NUL.
    pub fn control(kind: &str) -> Result<Self, InvalidTopic> {
        if kind.is_empty() {
            return Err(InvalidTopic);
        }
        format!("{CONTROL}{kind}").parse()
    }

    // Ids are short and hold no NUL, so that family and id always make a topic.
    fn of(family: &str, id: &str) -> Self {
        Self([family, id].concat().into())
    }

    /// The topic as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The room of a `room.` topic.
    #[must_use]
    pub fn room_id(&self) -> Option<RoomId> {
        self.0.strip_prefix(ROOM)?.parse().ok()
    }

    /// The room of a `presence.` topic.
    #[must_use]
    pub fn presence_room_id(&self) -> Option<RoomId> {
        self.0.strip_prefix(PRESENCE)?.parse().ok()
    }

    /// The user of a `user.` topic.
    #[must_use]
    pub fn user_id(&self) -> Option<UserId> {
        self.0.strip_prefix(USER)?.parse().ok()
    }

    /// The kind of a `control.` topic.
    #[must_use]
    pub fn control_kind(&self) -> Option<&str> {
        self.0.strip_prefix(CONTROL)
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        if (1..=MAX_TOPIC_BYTES).contains(&text.len()) && !text.contains('\0') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTopic)
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({})", self.0)
    }
}

/// Which topics a subscription wants.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// This topic and no longer one: on the wire the topic and its 0x00.
    Exactly(Topic),
    /// Every topic that starts with this one, itself included.
    StartingWith(Topic),
    /// Every topic.
    Everything,
}

impl Prefix {
    /// The events of every room.
    #[must_use]
    pub fn rooms() -> Self {
        Self::family(ROOM)
    }

    /// The presence of every room.
    #[must_use]
    pub fn presences() -> Self {
        Self::family(PRESENCE)
    }

    /// What goes to any user.
    #[must_use]
    pub fn users() -> Self {
        Self::family(USER)
    }

    /// What gateways tell each other.
    #[must_use]
    pub fn controls() -> Self {
        Self::family(CONTROL)
    }

    fn family(family: &str) -> Self {
        Self::StartingWith(Topic(family.into()))
    }

    /// Whether the subscription wants this topic.
    #[must_use]
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Self::Exactly(wanted) => wanted == topic,
            Self::StartingWith(start) => topic.as_str().starts_with(start.as_str()),
            Self::Everything => true,
        }
    }

    /// The prefix as a SUB socket wants it: bytes that `topic 0x00 payload` must start with.
    #[must_use]
    pub fn to_wire(&self) -> Vec<u8> {
        match self {
            Self::Exactly(topic) => [topic.as_str().as_bytes(), b"\0"].concat(),
            Self::StartingWith(start) => start.as_str().as_bytes().to_vec(),
            Self::Everything => Vec::new(),
        }
    }
}

/// A prefix as it stands on the wire: empty for everything, with a NUL at its end for exactly that topic.
impl FromStr for Prefix {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        match text.strip_suffix('\0') {
            Some(topic) => topic.parse().map(Self::Exactly),
            None if text.is_empty() => Ok(Self::Everything),
            None => text.parse().map(Self::StartingWith),
        }
    }
}

impl From<Topic> for Prefix {
    fn from(topic: Topic) -> Self {
        Self::Exactly(topic)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(topic) => write!(f, "Prefix({topic}\\0)"),
            Self::StartingWith(start) => write!(f, "Prefix({start})"),
            Self::Everything => f.write_str("Prefix()"),
        }
    }
}

#[cfg(test)]
mod tests {
    use stack_types::Timestamp;

    use super::*;

    #[test]
    fn topics_are_short_and_without_nul() {
        let longest = "t".repeat(255);
        for good in ["a", "room.general", "ünïcode", longest.as_str()] {
            assert_eq!(good.parse::<Topic>().unwrap().as_str(), good);
        }
        let too_long = "t".repeat(256);
        for bad in ["", "\0", "a\0", "a\0b", too_long.as_str()] {
            assert_eq!(bad.parse::<Topic>(), Err(InvalidTopic), "{bad:?}");
        }
    }

    #[test]
    fn families_give_their_ids_back() {
        let room: RoomId = "general".parse().unwrap();
        let user = UserId::generate(Timestamp(1));
        assert_eq!(Topic::room(&room).as_str(), "room.general");
        assert_eq!(Topic::room(&room).room_id(), Some(room.clone()));
        assert_eq!(Topic::room(&room).presence_room_id(), None);
        assert_eq!(Topic::presence(&room).presence_room_id(), Some(room));
        assert_eq!(Topic::user(user).user_id(), Some(user));
        let control = Topic::control("revoked").unwrap();
        assert_eq!(control.as_str(), "control.revoked");
        assert_eq!(control.control_kind(), Some("revoked"));
        assert_eq!(Topic::control(""), Err(InvalidTopic));
        assert_eq!(Topic::control("a\0b"), Err(InvalidTopic));
        assert_eq!(Topic::control(&"k".repeat(248)), Err(InvalidTopic));
    }

    #[test]
    fn a_prefix_reads_as_it_stands_on_the_wire() {
        for wire in ["", "room.", "room.a", "room.a\0"] {
            let prefix: Prefix = wire.parse().unwrap();
            assert_eq!(prefix.to_wire(), wire.as_bytes());
        }
        for bad in ["\0", "a\0\0", "a\0b"] {
            assert_eq!(bad.parse::<Prefix>(), Err(InvalidTopic), "{bad:?}");
        }
    }

    #[test]
    fn a_prefix_matches_what_its_bytes_match() {
        let topics = ["room.a", "room.ab", "room.b", "presence.a"];
        for wire in ["", "r", "room.", "room.a", "room.a\0", "room.ab\0", "x"] {
            let prefix: Prefix = wire.parse().unwrap();
            for topic in topics {
                let expected = format!("{topic}\0").starts_with(wire);
                assert_eq!(
                    prefix.matches(&topic.parse().unwrap()),
                    expected,
                    "{wire:?} {topic}"
                );
            }
        }
    }
}
