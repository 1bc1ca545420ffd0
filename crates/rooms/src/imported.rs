//! What a room that comes from elsewhere may hold. Nobody here has said it, so that no rate and no right is asked for;
//! but what readers and clients count on holds for it as well.

use stack_types::{EventBody, Problem, RoomSettings, Seq};

use crate::create::{check_bounds, clean_title};
use crate::messages::{check_depth, check_emoji, check_reason};

/// An idempotency key of another server, in bytes at most.
const MAX_KEY_BYTES: usize = 1024;

/// Whether a room may have this title and these settings.
///
/// # Errors
/// `invalid_field`.
pub fn check_room(title: &str, settings: &RoomSettings) -> Result<(), Problem> {
    if clean_title(title)? != title {
        let detail = "a title has no blanks around it";
        return Err(Problem::invalid_field("title", detail));
    }
    // Another server's largest message is no fault: here the smaller of both counts.
    check_bounds(settings, u32::MAX)
}

/// Whether this may have happened in a room, at this number.
///
/// # Errors
/// `invalid_field`.
pub fn check_event(seq: Seq, body: &EventBody) -> Result<(), Problem> {
    let earlier = |field: &'static str, target: Seq| {
        if target < seq && target != Seq::ZERO {
            return Ok(());
        }
        let detail = format!("{field} is no event in front of this one");
        Err(Problem::invalid_field(field, detail))
    };
    match body {
        EventBody::Message {
            body,
            data,
            key,
            reply_to,
        } => {
            if body.is_empty() && data.is_none() {
                let detail = "there is nothing in the message";
                return Err(Problem::invalid_field("body", detail));
            }
            check_depth(data.as_ref())?;
            if let Some(key) = key
                && !(1..=MAX_KEY_BYTES).contains(&key.len())
            {
                let detail = format!("a key is 1 to {MAX_KEY_BYTES} bytes");
                return Err(Problem::invalid_field("key", detail));
            }
            reply_to.map_or(Ok(()), |target| earlier("reply_to", target))
        }
        EventBody::Tombstone | EventBody::Member { .. } => Ok(()),
        EventBody::Edited { target_seq, .. } => earlier("target_seq", *target_seq),
        EventBody::Redacted { target_seq, reason } => {
            check_reason(reason.as_deref())?;
            earlier("target_seq", *target_seq)
        }
        EventBody::Reacted {
            target_seq, emoji, ..
        } => {
            // Erased reactions have none.
            if !emoji.is_empty() {
                check_emoji(emoji)?;
            }
            earlier("target_seq", *target_seq)
        }
        EventBody::Erased { targets } => {
            if targets.is_empty() {
                let detail = "nothing was erased";
                return Err(Problem::invalid_field("targets", detail));
            }
            targets
                .iter()
                .try_for_each(|target| earlier("targets", *target))
        }
        EventBody::Room {
            title, settings, ..
        } => check_room(title, settings),
    }
}
