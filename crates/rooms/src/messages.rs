//! Saying something, and changing what was said.

use std::ops::RangeInclusive;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::Serialize;
use stack_rate::Quota;
use stack_storage::{Appended, RoomRef, RoomTx, Submitted};
use stack_types::{
    ErrorCode, Event, EventBody, EventDraft, JsonValue, Problem, RoomId, RoomSettings, Seq,
    Timestamp, UserId,
};
use tokio::sync::oneshot;

use crate::Rooms;
use crate::rights::{self, Action, At, Look, Standing};
use crate::rooms::reads_from;

/// How long a reaction is at most: the longest emoji sequences take about 35 bytes.
const MAX_EMOJI_BYTES: usize = 64;
/// How long the reason of a redaction is at most, in bytes.
const MAX_REASON_BYTES: usize = 500;
/// How deep `data` is nested at most: readers in other languages recurse.
const MAX_DATA_DEPTH: usize = 64;
/// The window of a room's own limit of messages.
const WINDOW: Duration = Duration::from_secs(10);

/// A message on its way in.
#[derive(Debug, Clone, PartialEq)]
pub struct SendMessage {
    /// The text.
    pub body: String,
    /// Anything the application wants to send along.
    pub data: Option<JsonValue>,
    /// Repeated with the same key, the message is sent once.
    pub key: Option<String>,
    /// The message this one answers.
    pub reply_to: Option<Seq>,
}

/// Where something said got its place. It is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// The room.
    pub room: RoomId,
    /// The event's number.
    pub seq: Seq,
    /// The event's time.
    pub ts: Timestamp,
}

/// Something that somebody says: what is answered once it is on disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Say {
    /// A message.
    Message(SendMessage),
    /// One's own message gets a new text.
    Edit {
        /// The message.
        target: Seq,
        /// Its new text.
        body: String,
    },
    /// A message is taken back: one's own, or as a moderator anybody's. Its text and that of its edits are gone from
    /// the log then.
    Redact {
        /// The message.
        target: Seq,
        /// Why.
        reason: Option<String>,
    },
    /// A message gets a reaction, or loses it.
    React {
        /// The message.
        target: Seq,
        /// With what.
        emoji: String,
        /// Whether the reaction is taken back.
        remove: bool,
    },
}

impl Rooms {
    /// Says something. What is said one after the other gets its place in that order.
    ///
    /// `reply` gets the place on the writer thread, as soon as it is on disk; it must be quick. The place is refused
    /// with `not_found` without the room or the message meant, `forbidden`, `invalid_field`, `gone` when the message
    /// meant was redacted, and `unavailable` when it cannot be written. Nothing was said then.
    ///
    /// # Errors
    /// What is refused at once, and then `reply` is not called: `not_found`, `forbidden`, `rate_limited`,
    /// `payload_too_large`, `invalid_field`.
    pub fn say<A>(
        &self,
        user: UserId,
        room: &RoomId,
        say: Say,
        reply: A,
    ) -> Result<Submitted, Problem>
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        let room = self.0.store.room(room)?.ok_or_else(rights::no_such_room)?;
        let standing = {
            let at = At(&room, self.0.clock.now(), &self.0.store);
            match &say {
                Say::Redact { .. } => may_redact(&at, user),
                _ => rights::check(&at, &user, Action::Speak),
            }
        };
        let standing = match standing {
            Ok(standing) => standing,
            Err(refused) => {
                let Say::Message(SendMessage { key: Some(key), .. }) = say else {
                    return Err(refused);
                };
                if !is_told_repeats(&refused) {
                    return Err(refused);
                }
                self.check_key(Some(&key))?;
                return Ok(self.submit_repeat(user, &room, key, refused, reply));
            }
        };
        match say {
            Say::Message(message) => self.message(user, &room, standing, message, reply),
            Say::Edit { target, body } => self.edit(user, &room, target, body, reply),
            Say::Redact { target, reason } => self.redact(user, &room, target, reason, reply),
            Say::React {
                target,
                emoji,
                remove,
            } => self.react(user, &room, target, emoji, remove, reply),
        }
    }

    /// Says something, and waits until it is on disk.
    ///
    /// # Errors
    /// Whatever [`Rooms::say`] refuses or replies; `unavailable` also when the gateway goes down meanwhile.
    pub async fn say_and_wait(
        &self,
        user: UserId,
        room: &RoomId,
        say: Say,
    ) -> Result<Sent, Problem> {
        let (reply, answer) = oneshot::channel();
        // Nobody waits any more when the caller has gone; what was said stands.
        let submitted = self.say(user, room, say, |sent| drop(reply.send(sent)))?;
        submitted.queued().await;
        let gone = |_| Problem::new(ErrorCode::Unavailable, "the gateway is going down");
        answer.await.map_err(gone)?
    }

    fn message<A>(
        &self,
        user: UserId,
        room: &RoomRef,
        standing: Standing,
        message: SendMessage,
        reply: A,
    ) -> Result<Submitted, Problem>
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        self.check_key(message.key.as_deref())?;
        if let Err(refused) = self.admit(user, room, standing, &message) {
            let Some(key) = message.key else {
                return Err(refused);
            };
            return Ok(self.submit_repeat(user, room, key, refused, reply));
        }
        let turn = is_slowed(&room.settings(), standing).then(|| Turn {
            rooms: self.clone(),
            key: (user, room.id().clone()),
            taken: false,
        });
        let op = move |tx: &mut RoomTx<'_, '_>| {
            let may = rights::check(tx, &user, Action::Speak);
            if let Some(key) = &message.key
                && may.as_ref().err().is_none_or(is_told_repeats)
                && let Some(place) = tx.find_key(&user, key)?
            {
                return Ok(place);
            }
            may?;
            let place = append(tx, user, message)?;
            if let Some(turn) = turn {
                tx.after_commit(move || turn.take());
            }
            Ok(place)
        };
        Ok(self.submit(room, op, reply))
    }

    /// Checks sizes and rate of a message.
    fn admit(
        &self,
        user: UserId,
        room: &RoomRef,
        standing: Standing,
        message: &SendMessage,
    ) -> Result<(), Problem> {
        let settings = room.settings();
        self.check_body(&settings, &message.body, message.data.is_some())?;
        self.check_data(message.data.as_ref())?;
        self.take_turn(user, room)?;
        if is_slowed(&settings, standing) {
            let gap = Duration::from_secs(u64::from(settings.slow_mode_s));
            let key = (user, room.id().clone());
            let turn = self.0.slow_mode.check_with(&key, Quota::new(1, gap));
            turn.map_err(|after| Problem::rate_limited(after.0))?;
        }
        Ok(())
    }

    fn edit<A>(
        &self,
        user: UserId,
        room: &RoomRef,
        target: Seq,
        body: String,
        reply: A,
    ) -> Result<Submitted, Problem>
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        self.check_body(&room.settings(), &body, false)?;
        self.take_turn(user, room)?;
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &user, Action::Speak)?;
            if message_at(tx, user, target)?.sender != user {
                return Err(Problem::forbidden("only the author edits a message"));
            }
            Ok(tx.append(EventDraft {
                sender: user,
                body: EventBody::Edited {
                    target_seq: target,
                    body: Some(body),
                },
            }))
        };
        Ok(self.submit(room, op, reply))
    }

    fn redact<A>(
        &self,
        user: UserId,
        room: &RoomRef,
        target: Seq,
        reason: Option<String>,
        reply: A,
    ) -> Result<Submitted, Problem>
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        check_reason(reason.as_deref())?;
        self.take_turn(user, room)?;
        let op = move |tx: &mut RoomTx<'_, '_>| {
            may_redact(tx, user)?;
            if message_at(tx, user, target)?.sender != user {
                rights::check(tx, &user, Action::Moderate)?;
            }
            tx.redact(target)?;
            Ok(tx.append(EventDraft {
                sender: user,
                body: EventBody::Redacted {
                    target_seq: target,
                    reason,
                },
            }))
        };
        Ok(self.submit(room, op, reply))
    }

    fn react<A>(
        &self,
        user: UserId,
        room: &RoomRef,
        target: Seq,
        emoji: String,
        remove: bool,
        reply: A,
    ) -> Result<Submitted, Problem>
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        check_emoji(&emoji)?;
        self.take_turn(user, room)?;
        let op = move |tx: &mut RoomTx<'_, '_>| {
            rights::check(tx, &user, Action::Speak)?;
            message_at(tx, user, target)?;
            Ok(tx.append(EventDraft {
                sender: user,
                body: EventBody::Reacted {
                    target_seq: target,
                    emoji,
                    remove,
                },
            }))
        };
        Ok(self.submit(room, op, reply))
    }

    /// Asks the writer for what was said with this key. Whatever is wrong with a repeat, the first one was said: that is
    /// the answer. The first may still be on its way to the disk.
    fn submit_repeat<A>(
        &self,
        user: UserId,
        room: &RoomRef,
        key: String,
        refused: Problem,
        reply: A,
    ) -> Submitted
    where
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        let repeated = move |tx: &mut RoomTx<'_, '_>| {
            match rights::check(tx, &user, Action::Speak) {
                Err(refused) if !is_told_repeats(&refused) => return Err(refused),
                _ => {}
            }
            tx.find_key(&user, &key)?.ok_or(refused)
        };
        self.submit(room, repeated, reply)
    }

    /// The operation checks the right.
    fn submit<F, A>(&self, room: &RoomRef, op: F, reply: A) -> Submitted
    where
        F: FnOnce(&mut RoomTx<'_, '_>) -> Result<Appended, Problem> + Send + 'static,
        A: FnOnce(Result<Sent, Problem>) + Send + 'static,
    {
        let sent_to = room.id().clone();
        self.0.store.submit(room, op, move |place| {
            reply(place.map(|Appended { seq, ts }| Sent {
                room: sent_to,
                seq,
                ts,
            }));
        })
    }

    /// Keeps the rate of what one user adds to one room.
    pub(crate) fn take_turn(&self, user: UserId, room: &RoomRef) -> Result<(), Problem> {
        if self.0.unlimited.load(Ordering::Relaxed) {
            return Ok(());
        }
        let quota = self.0.config.messages;
        let quota = match room.settings().messages_per_10s {
            own if own > 0 && quota != Quota::UNLIMITED => Quota::new(own, WINDOW),
            _ => quota,
        };
        let turn = self
            .0
            .messages
            .check_with(&(user, room.id().clone()), quota);
        turn.map_err(|after| Problem::rate_limited(after.0))
    }

    fn check_body(&self, settings: &RoomSettings, body: &str, data: bool) -> Result<(), Problem> {
        let server = self.0.config.limits.body_bytes;
        let most = match settings.max_message_bytes {
            0 => server,
            room => server.min(room as usize),
        };
        too_large("body", body.len(), most)?;
        if body.is_empty() && !data {
            return Err(Problem::invalid_field(
                "body",
                "there is nothing in the message",
            ));
        }
        Ok(())
    }

    fn check_data(&self, data: Option<&JsonValue>) -> Result<(), Problem> {
        let Some(data) = data else {
            return Ok(());
        };
        too_large("data", data.as_str().len(), self.0.config.limits.data_bytes)?;
        check_depth(Some(data))
    }

    fn check_key(&self, key: Option<&str>) -> Result<(), Problem> {
        match key {
            None => Ok(()),
            Some("") => Err(Problem::invalid_field("key", "a key is not empty")),
            Some(key) => too_large("key", key.len(), self.0.config.limits.key_bytes),
        }
    }
}

/// Whether the reason of a redaction may be this.
pub(crate) fn check_reason(reason: Option<&str>) -> Result<(), Problem> {
    if reason.is_some_and(|reason| reason.len() > MAX_REASON_BYTES) {
        let detail = format!("a reason is at most {MAX_REASON_BYTES} bytes");
        return Err(Problem::invalid_field("reason", detail));
    }
    Ok(())
}

/// Whether a reaction may be this.
pub(crate) fn check_emoji(emoji: &str) -> Result<(), Problem> {
    let sane = (1..=MAX_EMOJI_BYTES).contains(&emoji.len())
        && !emoji
            .chars()
            .any(|char| char.is_control() || char.is_whitespace());
    if !sane {
        let detail = format!("an emoji is 1 to {MAX_EMOJI_BYTES} bytes without blanks");
        return Err(Problem::invalid_field("emoji", detail));
    }
    Ok(())
}

/// Whether `data` is nested no deeper than it may be.
pub(crate) fn check_depth(data: Option<&JsonValue>) -> Result<(), Problem> {
    if data.is_some_and(|data| depth(data.as_str()) > MAX_DATA_DEPTH) {
        let detail = format!("data is nested at most {MAX_DATA_DEPTH} deep");
        return Err(Problem::invalid_field("data", detail));
    }
    Ok(())
}

fn too_large(field: &'static str, size: usize, most: usize) -> Result<(), Problem> {
    if size <= most {
        return Ok(());
    }
    let detail = format!("{field} is at most {most} bytes");
    Err(Problem::new(ErrorCode::PayloadTooLarge, detail).with_field(field))
}

/// Whether somebody who is refused to speak is still told of what they have said: not in a room that is hidden from
/// them, which must not be told from none.
fn is_told_repeats(refused: &Problem) -> bool {
    refused.code == ErrorCode::Forbidden
}

/// Whether somebody may redact some message: their own, or as who looks after the room anybody's.
fn may_redact(room: &impl Look, user: UserId) -> Result<Standing, Problem> {
    let own = rights::check(room, &user, Action::TakeBack);
    own.or_else(|refused| rights::check(room, &user, Action::Moderate).map_err(|_| refused))
}

/// Whether somebody's messages keep the room's slow mode. Moderators are exempt, and so is whatever is no new message: a
/// slip can be taken back.
fn is_slowed(settings: &RoomSettings, standing: Standing) -> bool {
    settings.slow_mode_s > 0 && standing < Standing::Moderator
}

/// Somebody's turn in slow mode. It is given back unless the message was committed: a repeat, a refusal and a full
/// disk cost nobody their turn.
struct Turn {
    rooms: Rooms,
    key: (UserId, RoomId),
    taken: bool,
}

impl Turn {
    fn take(mut self) {
        self.taken = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.taken {
            self.rooms.0.slow_mode.reset(&self.key);
        }
    }
}

/// Appends a message.
fn append(
    tx: &mut RoomTx<'_, '_>,
    user: UserId,
    message: SendMessage,
) -> Result<Appended, Problem> {
    if let Some(target) = message.reply_to
        && !readable(tx, user).contains(&target)
    {
        return Err(Problem::invalid_field(
            "reply_to",
            "there is no such message",
        ));
    }
    Ok(tx.append(EventDraft {
        sender: user,
        body: EventBody::Message {
            body: message.body,
            data: message.data,
            key: message.key,
            reply_to: message.reply_to,
        },
    }))
}

/// The events that somebody may know of.
fn readable(tx: &RoomTx<'_, '_>, user: UserId) -> RangeInclusive<Seq> {
    let from = reads_from(&tx.settings(), tx.member(&user), tx.head());
    from.max(tx.first())..=tx.head()
}

/// The message at `target`, which is still one.
fn message_at(tx: &mut RoomTx<'_, '_>, user: UserId, target: Seq) -> Result<Event, Problem> {
    let no_such = || Problem::not_found("there is no such message");
    if !readable(tx, user).contains(&target) {
        return Err(no_such());
    }
    let event = tx.event(target)?.ok_or_else(no_such)?;
    match event.body {
        EventBody::Message { .. } => Ok(event),
        EventBody::Tombstone => Err(Problem::new(ErrorCode::Gone, "the message was taken back")),
        _ => Err(Problem::invalid_field("seq", "this event is not a message")),
    }
}

/// How deep a JSON text is nested. The text is known to be valid.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_strings() {
        assert_eq!(depth("1"), 0);
        assert_eq!(depth(r#"{"a":[1,[2]],"b":"[[[["}"#), 3);
        assert_eq!(depth(r#""\"[""#), 0);
    }
}
