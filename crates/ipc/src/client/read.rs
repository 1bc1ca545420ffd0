//! Messages into plain types.

use std::str::FromStr;

use capnp::{struct_list, text, text_list};
use stack_proto::capnp::{event_from, role_from, settings_from, status_from};
use stack_proto::gateway_capnp::{
    cursor, erasure as erasure_message, event, figure, gateway, message, place as place_message,
    presence as presence_message, room as room_message, room_view as room_view_message,
    session_view as session_view_message, user,
};
use stack_types::{Event, Presence, Seq, Timestamp};

use super::link::Failure;
use crate::service::{
    Account, Cursor, Erasure, Figure, NewMessage, Place, Room, RoomView, SessionView, Version,
};

/// A text that stands for an id or a name.
pub(super) fn parsed<T: FromStr>(text: text::Reader<'_>) -> Result<T, Failure> {
    let text = text.to_str()?;
    text.parse()
        .map_err(|_| Failure::Malformed(format!("{text:?} is no id")))
}

/// A text that is absent when it is empty.
pub(super) fn optional(text: text::Reader<'_>) -> Result<Option<String>, Failure> {
    let text = text.to_str()?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

pub(super) fn texts(list: text_list::Reader<'_>) -> Result<Vec<String>, Failure> {
    list.iter().map(|text| Ok(text?.to_string()?)).collect()
}

pub(super) fn message_to(message: &NewMessage, mut to: message::Builder<'_>) {
    to.set_body(&message.body[..]);
    if let Some(data) = &message.data {
        to.set_data(data.as_str());
    }
    if let Some(key) = &message.key {
        to.set_key(&key[..]);
    }
    to.set_reply_to(message.reply_to.unwrap_or_default().0);
}

pub(super) fn cursor_to(cursor: Cursor, mut to: cursor::Builder<'_>) {
    match cursor {
        Cursor::Newest => to.set_newest(()),
        Cursor::After(seq) => to.set_after(seq.0),
        Cursor::Before(seq) => to.set_before(seq.0),
        Cursor::AfterTs(ts) => to.set_after_ts(ts.0),
    }
}

pub(super) fn events(list: struct_list::Reader<'_, event::Owned>) -> Result<Vec<Event>, Failure> {
    let mut events: Vec<Event> = Vec::with_capacity(list.len() as usize);
    for event in list {
        let mut event = event_from(event)?;
        // One name for all of them: they are of one room, and whoever takes them gives back much less.
        if let Some(last) = events.last()
            && last.room == event.room
        {
            event.room = last.room.clone();
        }
        events.push(event);
    }
    Ok(events)
}

pub(super) fn place(from: place_message::Reader<'_>) -> Result<Place, Failure> {
    Ok(Place {
        room: parsed(from.get_room()?)?,
        seq: Seq(from.get_seq()),
        ts: Timestamp(from.get_ts()),
    })
}

pub(super) fn version(from: gateway::version_results::Reader<'_>) -> Result<Version, Failure> {
    Ok(Version {
        version: from.get_version()?.to_string()?,
        commit: from.get_commit()?.to_string()?,
        protocols: texts(from.get_protocols()?)?,
    })
}

pub(super) fn presence(from: presence_message::Reader<'_>) -> Result<Presence, Failure> {
    Ok(Presence {
        user_id: parsed(from.get_user_id()?)?,
        status: status_from(from.get_status()?),
        text: optional(from.get_text()?)?,
        last_seen_at: Timestamp(from.get_last_seen_at()),
    })
}

pub(super) fn room(from: room_message::Reader<'_>) -> Result<Room, Failure> {
    Ok(Room {
        id: parsed(from.get_id()?)?,
        title: from.get_title()?.to_string()?,
        settings: settings_from(from.get_settings()?)?,
        role: role_from(from.get_role()?),
        first: Seq(from.get_first()),
        head: Seq(from.get_head()),
        read_seq: Seq(from.get_read_seq()),
        created_at: Timestamp(from.get_created_at()),
    })
}

pub(super) fn room_view(from: room_view_message::Reader<'_>) -> Result<RoomView, Failure> {
    Ok(RoomView {
        id: parsed(from.get_id()?)?,
        title: from.get_title()?.to_string()?,
        settings: settings_from(from.get_settings()?)?,
        first: Seq(from.get_first()),
        head: Seq(from.get_head()),
        members: from.get_members(),
        created_at: Timestamp(from.get_created_at()),
    })
}

pub(super) fn account(from: user::Reader<'_>) -> Result<Account, Failure> {
    Ok(Account {
        id: parsed(from.get_id()?)?,
        username: from.get_username()?.to_string()?,
        display_name: from.get_display_name()?.to_string()?,
        role: from.get_role()?.to_string()?,
        created_at: Timestamp(from.get_created_at()),
        disabled: from.get_disabled(),
        bot: from.get_bot(),
    })
}

pub(super) fn figure(from: figure::Reader<'_>) -> Result<Figure, Failure> {
    Ok(Figure {
        name: from.get_name()?.to_string()?,
        value: from.get_value(),
        unit: optional(from.get_unit()?)?,
    })
}

pub(super) fn session_view(from: session_view_message::Reader<'_>) -> Result<SessionView, Failure> {
    Ok(SessionView {
        id: from.get_id()?.to_string()?,
        user_id: parsed(from.get_user_id()?)?,
        device: from.get_device()?.to_string()?,
        ip: from.get_ip()?.to_string()?,
        created_at: Timestamp(from.get_created_at()),
        last_seen_at: Timestamp(from.get_last_seen_at()),
    })
}

pub(super) fn erasure(from: erasure_message::Reader<'_>) -> Result<Erasure, Failure> {
    let room = from.get_room()?;
    let by = from.get_by()?;
    Ok(Erasure {
        id: from.get_id(),
        user_id: parsed(from.get_user_id()?)?,
        room: (!room.is_empty()).then(|| parsed(room)).transpose()?,
        by: (!by.is_empty()).then(|| parsed(by)).transpose()?,
        requested_at: Timestamp(from.get_requested_at()),
        finished_at: match from.get_finished_at() {
            0 => None,
            at => Some(Timestamp(at)),
        },
        rooms: from.get_rooms(),
        events: from.get_events(),
    })
}
