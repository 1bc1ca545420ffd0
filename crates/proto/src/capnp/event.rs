//! Events of a room's log.

use ::capnp::text;
use serde_json::value::RawValue;
use stack_types::{Event, EventBody, JsonValue, MemberAction, RoomAction, Seq, Timestamp};

use super::Unreadable;
use super::values::{role_from, role_to, settings_from, settings_to};
use crate::gateway_capnp::{event, member_change, message, room_change};

/// Fills in an event.
pub fn event_to(event: &Event, mut to: event::Builder<'_>) {
    // Taken apart, here and below, so that a new field cannot be forgotten.
    let Event {
        room,
        seq,
        ts,
        sender,
        body,
    } = event;
    to.set_room(room.as_str());
    to.set_seq(seq.0);
    to.set_ts(ts.0);
    to.set_sender(sender.as_str());
    match body {
        EventBody::Message {
            body,
            data,
            key,
            reply_to,
        } => {
            let data = data.as_ref().map(JsonValue::as_str);
            message_to(body, data, key.as_deref(), *reply_to, to.init_message());
        }
        EventBody::Tombstone => to.set_tombstone(()),
        EventBody::Edited { target_seq, body } => {
            let mut to = to.init_edited();
            to.set_target(target_seq.0);
            to.set_body(body.as_deref().unwrap_or_default());
            to.set_stripped(body.is_none());
        }
        EventBody::Redacted { target_seq, reason } => {
            let mut to = to.init_redacted();
            to.set_target(target_seq.0);
            to.set_reason(reason.as_deref().unwrap_or_default());
        }
        EventBody::Erased { targets } => {
            let mut to = to.init_redacted();
            // For who does not know the list.
            to.set_target(targets.first().copied().unwrap_or_default().0);
            let mut list = to.init_targets(u32::try_from(targets.len()).unwrap_or(u32::MAX));
            for (index, target) in (0..list.len()).zip(targets) {
                list.set(index, target.0);
            }
        }
        EventBody::Reacted {
            target_seq,
            emoji,
            remove,
        } => {
            let mut to = to.init_reacted();
            to.set_target(target_seq.0);
            to.set_emoji(emoji.as_str());
            to.set_remove(*remove);
        }
        EventBody::Room {
            action,
            title,
            settings,
        } => {
            let mut to = to.init_room_change();
            to.set_action(room_action_to(*action));
            to.set_title(title.as_str());
            settings_to(settings, to.init_settings());
        }
        EventBody::Member {
            action,
            user_id,
            role,
            reason,
        } => {
            let mut to = to.init_member_change();
            to.set_action(member_action_to(*action));
            to.set_user_id(user_id.as_str());
            to.set_role(role_to(*role));
            to.set_reason(reason.as_deref().unwrap_or_default());
        }
    }
}

/// Reads an event.
///
/// # Errors
/// It is malformed, of a newer schema, or says what an event cannot say.
pub fn event_from(from: event::Reader<'_>) -> Result<Event, Unreadable> {
    let body = match from.which()? {
        event::Message(from) => {
            let from = from?;
            EventBody::Message {
                body: from.get_body()?.to_string()?,
                data: json(from.get_data()?)?,
                key: optional(from.get_key()?)?,
                reply_to: optional_seq(from.get_reply_to()),
            }
        }
        event::Tombstone(()) => EventBody::Tombstone,
        event::Edited(from) => {
            let from = from?;
            let body = from.get_body()?.to_string()?;
            EventBody::Edited {
                target_seq: Seq(from.get_target()),
                body: (!from.get_stripped()).then_some(body),
            }
        }
        event::Redacted(from) => {
            let from = from?;
            let targets = from.get_targets()?;
            if targets.is_empty() {
                EventBody::Redacted {
                    target_seq: Seq(from.get_target()),
                    reason: optional(from.get_reason()?)?,
                }
            } else {
                let targets = targets.iter().map(Seq).collect();
                EventBody::Erased { targets }
            }
        }
        event::Reacted(from) => {
            let from = from?;
            EventBody::Reacted {
                target_seq: Seq(from.get_target()),
                emoji: from.get_emoji()?.to_string()?,
                remove: from.get_remove(),
            }
        }
        event::RoomChange(from) => {
            let from = from?;
            EventBody::Room {
                action: room_action_from(from.get_action()?),
                title: from.get_title()?.to_string()?,
                settings: settings_from(from.get_settings()?)?,
            }
        }
        event::MemberChange(from) => {
            let from = from?;
            EventBody::Member {
                action: member_action_from(from.get_action()?),
                user_id: parsed(from.get_user_id()?, "user_id")?,
                role: role_from(from.get_role()?),
                reason: optional(from.get_reason()?)?,
            }
        }
    };
    Ok(Event {
        room: parsed(from.get_room()?, "room")?,
        seq: Seq(from.get_seq()),
        ts: Timestamp(from.get_ts()),
        sender: parsed(from.get_sender()?, "sender")?,
        body,
    })
}

/// Fills in what somebody said.
pub(super) fn message_to(
    body: &str,
    data: Option<&str>,
    key: Option<&str>,
    reply_to: Option<Seq>,
    mut to: message::Builder<'_>,
) {
    to.set_body(body);
    // A field that is not set costs a message nothing.
    if let Some(data) = data {
        to.set_data(data);
    }
    if let Some(key) = key {
        to.set_key(key);
    }
    to.set_reply_to(reply_to.unwrap_or_default().0);
}

/// A text that is absent when it is empty.
pub(super) fn optional(text: text::Reader<'_>) -> Result<Option<String>, Unreadable> {
    let text = text.to_str()?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A number that is absent when it is zero: no event has it.
pub(super) fn optional_seq(seq: u64) -> Option<Seq> {
    (seq != 0).then_some(Seq(seq))
}

/// A JSON value in a text, absent when that is empty. `null` counts as absent, as it does in frames of JSON.
pub(super) fn json(text: text::Reader<'_>) -> Result<Option<JsonValue>, Unreadable> {
    let text = text.to_str()?;
    if text.is_empty() {
        return Ok(None);
    }
    let value: Box<RawValue> =
        serde_json::from_str(text).map_err(|_| Unreadable::Invalid("data"))?;
    Ok((value.get() != "null").then_some(JsonValue(value)))
}

/// A text that is an id or a name.
pub(super) fn parsed<T: std::str::FromStr>(
    text: text::Reader<'_>,
    field: &'static str,
) -> Result<T, Unreadable> {
    text.to_str()?
        .parse()
        .map_err(|_| Unreadable::Invalid(field))
}

fn room_action_to(action: RoomAction) -> room_change::Action {
    match action {
        RoomAction::Created => room_change::Action::Created,
        RoomAction::Changed => room_change::Action::Changed,
    }
}

fn room_action_from(action: room_change::Action) -> RoomAction {
    match action {
        room_change::Action::Created => RoomAction::Created,
        room_change::Action::Changed => RoomAction::Changed,
    }
}

fn member_action_to(action: MemberAction) -> member_change::Action {
    match action {
        MemberAction::Joined => member_change::Action::Joined,
        MemberAction::Left => member_change::Action::Left,
        MemberAction::Removed => member_change::Action::Removed,
        MemberAction::Banned => member_change::Action::Banned,
        MemberAction::Unbanned => member_change::Action::Unbanned,
        MemberAction::Muted => member_change::Action::Muted,
        MemberAction::Unmuted => member_change::Action::Unmuted,
        MemberAction::Role => member_change::Action::Role,
    }
}

fn member_action_from(action: member_change::Action) -> MemberAction {
    match action {
        member_change::Action::Joined => MemberAction::Joined,
        member_change::Action::Left => MemberAction::Left,
        member_change::Action::Removed => MemberAction::Removed,
        member_change::Action::Banned => MemberAction::Banned,
        member_change::Action::Unbanned => MemberAction::Unbanned,
        member_change::Action::Muted => MemberAction::Muted,
        member_change::Action::Unmuted => MemberAction::Unmuted,
        member_change::Action::Role => MemberAction::Role,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capnp::{new_message, one_message};
    use crate::codec::tests::{bodies, event};

    /// The event as it reads back: what is optional and empty is absent.
    fn normal(mut event: Event) -> Event {
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        match &mut event.body {
            EventBody::Message { key, reply_to, .. } => {
                *key = some(key.take());
                *reply_to = reply_to.filter(|seq| *seq != Seq::ZERO);
            }
            EventBody::Redacted { reason, .. } | EventBody::Member { reason, .. } => {
                *reason = some(reason.take());
            }
            _ => {}
        }
        event
    }

    fn there_and_back(said: &Event) -> Event {
        let mut message = new_message(0);
        event_to(said, message.init_root());
        let bytes = ::capnp::serialize::write_message_to_words(&message);
        let message = one_message(&bytes).unwrap();
        event_from(message.get_root().unwrap()).unwrap()
    }

    #[test]
    fn an_edit_without_a_text_is_not_one_with_an_empty_text() {
        for body in [None, Some(String::new())] {
            let target_seq = Seq(3);
            let said = event(EventBody::Edited { target_seq, body });
            assert_eq!(there_and_back(&said), said);
        }
    }

    proptest! {
        #[test]
        fn an_event_comes_back_as_it_was(body in bodies()) {
            let said = normal(event(body));
            prop_assert_eq!(there_and_back(&said), said);
        }

        #[test]
        fn an_event_of_json_is_the_same_in_the_words_of_the_schema(body in bodies()) {
            let mut json = Vec::new();
            let codec = crate::JsonCodec;
            stack_types::EventCodec::encode(&codec, &normal(event(body)), &mut json);
            let mut message = Vec::new();
            crate::capnp::ServerFrame::of(&json).unwrap().push_to(&mut message);
            let back = crate::capnp::server_frame_json(&message).unwrap();
            prop_assert_eq!(String::from_utf8(back).unwrap(), String::from_utf8(json).unwrap());
        }
    }
}
