//! The messages of `schema/gateway.capnp`, to and from the shared types.
//!
//! A text or a number that is optional in the types is, where it is absent, empty or zero in a message; an empty one
//! in the types reads back as absent. Nothing else is lost on the way there and back.

mod client_frame;
mod event;
mod server_frame;
mod values;

use std::fmt;

use ::capnp::message::{Builder, HeapAllocator, ReaderOptions};
use ::capnp::serialize;

pub use client_frame::{NotAFrame, client_frame, read_client_frame};
pub use event::{event_from, event_to};
pub use server_frame::{ServerFrame, Untranslatable, server_frame_json};
pub use values::{
    history_from, history_to, problem_from, problem_to, role_from, role_to, settings_from,
    settings_to, status_from, status_to,
};

/// The name of the sub-protocol whose frames are these messages.
pub const CAPNP_SUBPROTOCOL: &str = "stack.v1.capnp";

/// A message cannot be read into the shared types.
#[derive(Debug)]
pub enum Unreadable {
    /// It is damaged, or no message of this kind at all.
    Malformed(::capnp::Error),
    /// It holds a value that a newer schema knows, such as another kind of event.
    Newer(::capnp::NotInSchema),
    /// This field holds what it may not hold.
    Invalid(&'static str),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(_) => f.write_str("the message is malformed"),
            Self::Newer(_) => f.write_str("the message is of a newer schema"),
            Self::Invalid(field) => write!(f, "{field} is not valid"),
        }
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Malformed(source) => Some(source),
            Self::Newer(source) => Some(source),
            Self::Invalid(_) => None,
        }
    }
}

impl From<::capnp::Error> for Unreadable {
    fn from(source: ::capnp::Error) -> Self {
        Self::Malformed(source)
    }
}

impl From<std::str::Utf8Error> for Unreadable {
    fn from(source: std::str::Utf8Error) -> Self {
        Self::Malformed(source.into())
    }
}

impl From<::capnp::NotInSchema> for Unreadable {
    fn from(source: ::capnp::NotInSchema) -> Self {
        Self::Newer(source)
    }
}

/// The deepest that our messages nest is four: a page's event's message. What is deeper is not looked at.
const NESTING_LIMIT: i32 = 16;

/// Each word is looked at about once; what points to the same words again and again is refused.
fn reader_options(bytes: usize) -> ReaderOptions {
    let mut options = ReaderOptions::new();
    options
        .traversal_limit_in_words(Some(bytes / 8 * 2 + 64))
        .nesting_limit(NESTING_LIMIT);
    options
}

/// Reads bytes that are one unpacked message and nothing behind it. What it takes is in proportion to the bytes.
fn one_message(
    bytes: &[u8],
) -> ::capnp::Result<::capnp::message::Reader<serialize::OwnedSegments>> {
    let mut rest = bytes;
    let message = serialize::read_message(&mut rest, reader_options(bytes.len()))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(::capnp::Error::failed(
            "there is something behind the message".to_owned(),
        ))
    }
}

/// A message to be filled, with room for about so many bytes.
fn new_message(bytes: usize) -> Builder<HeapAllocator> {
    /// Of the structs around the texts.
    const AROUND_WORDS: usize = 32;
    let words = u32::try_from(bytes / 8 + AROUND_WORDS).unwrap_or(u32::MAX);
    Builder::new(HeapAllocator::new().first_segment_words(words))
}
