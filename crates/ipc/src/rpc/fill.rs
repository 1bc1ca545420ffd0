//! Plain answers into messages, and parameters into plain types.

use capnp::{Error, text, text_list};
use stack_proto::capnp::{role_to, settings_to, status_to};
use stack_proto::gateway_capnp::{
    cursor, erasure, figure, message, place, presence, room, room_view, session_view, start, user,
};
use stack_types::{JsonValue, Presence, Problem, RoomId, Seq, Timestamp, UserId};

use crate::refusal::exception;
use crate::service::{
    Account, Cursor, Erasure, Figure, NewMessage, Place, Room, RoomView, SessionView, Start,
};

/// The room that is meant.
pub(super) fn room_of(text: text::Reader<'_>) -> Result<RoomId, Error> {
    // What is no room's id is no room's.
    let no_such_room = |_| exception(&Problem::not_found("there is no such room"));
    text.to_str()?.parse().map_err(no_such_room)
}

/// A text that may be absent, which it is when it is empty.
pub(super) fn optional(text: text::Reader<'_>) -> Result<Option<String>, Error> {
    let text = text.to_str()?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// A number that may be absent, which it is when it is zero.
pub(super) fn optional_number(number: u32) -> Option<u32> {
    (number != 0).then_some(number)
}

pub(super) fn start_of(from: start::Reader<'_>) -> Result<Start, Error> {
    Ok(match from.which()? {
        start::Live(()) => Start::Live,
        start::After(seq) => Start::After(Seq(seq)),
    })
}

pub(super) fn cursor_of(from: cursor::Reader<'_>) -> Result<Cursor, Error> {
    Ok(match from.which()? {
        cursor::Newest(()) => Cursor::Newest,
        cursor::After(seq) => Cursor::After(Seq(seq)),
        cursor::Before(seq) => Cursor::Before(Seq(seq)),
        cursor::AfterTs(ts) => Cursor::AfterTs(Timestamp(ts)),
    })
}

pub(super) fn message_of(from: message::Reader<'_>) -> Result<NewMessage, Error> {
    let data = from.get_data()?.to_str()?;
    let data = match data {
        "" => None,
        text => {
            let no_json = |_| exception(&Problem::invalid_field("data", "data is not JSON"));
            Some(JsonValue(serde_json::from_str(text).map_err(no_json)?))
        }
    };
    Ok(NewMessage {
        body: from.get_body()?.to_string()?,
        data,
        key: optional(from.get_key()?)?,
        reply_to: Some(from.get_reply_to()).filter(|seq| *seq != 0).map(Seq),
    })
}

/// Fills a list of texts.
pub(super) fn texts<'a>(texts: &[String], init: impl FnOnce(u32) -> text_list::Builder<'a>) {
    let mut list = init(texts.len() as u32);
    for (index, text) in texts.iter().enumerate() {
        list.set(index as u32, &text[..]);
    }
}

pub(super) fn place(place: &Place, mut to: place::Builder<'_>) {
    to.set_room(place.room.as_str());
    to.set_seq(place.seq.0);
    to.set_ts(place.ts.0);
}

pub(super) fn room(room: &Room, mut to: room::Builder<'_>) {
    to.set_id(room.id.as_str());
    to.set_title(&room.title[..]);
    settings_to(&room.settings, to.reborrow().init_settings());
    to.set_role(role_to(room.role));
    to.set_first(room.first.0);
    to.set_head(room.head.0);
    to.set_read_seq(room.read_seq.0);
    to.set_created_at(room.created_at.0);
}

pub(super) fn room_view(room: &RoomView, mut to: room_view::Builder<'_>) {
    to.set_id(room.id.as_str());
    to.set_title(&room.title[..]);
    settings_to(&room.settings, to.reborrow().init_settings());
    to.set_first(room.first.0);
    to.set_head(room.head.0);
    to.set_members(room.members);
    to.set_created_at(room.created_at.0);
}

pub(super) fn presence(presence: &Presence, mut to: presence::Builder<'_>) {
    to.set_user_id(presence.user_id.as_str());
    to.set_status(status_to(presence.status));
    to.set_text(presence.text.as_deref().unwrap_or_default());
    to.set_last_seen_at(presence.last_seen_at.0);
}

pub(super) fn figure(figure: &Figure, mut to: figure::Builder<'_>) {
    to.set_name(&figure.name[..]);
    to.set_value(figure.value);
    to.set_unit(figure.unit.as_deref().unwrap_or_default());
}

pub(super) fn account(account: &Account, mut to: user::Builder<'_>) {
    to.set_id(account.id.as_str());
    to.set_username(&account.username[..]);
    to.set_display_name(&account.display_name[..]);
    to.set_role(&account.role[..]);
    to.set_created_at(account.created_at.0);
    to.set_disabled(account.disabled);
    to.set_bot(account.bot);
}

pub(super) fn session_view(session: &SessionView, mut to: session_view::Builder<'_>) {
    to.set_id(&session.id[..]);
    to.set_user_id(session.user_id.as_str());
    to.set_device(&session.device[..]);
    to.set_ip(&session.ip[..]);
    to.set_created_at(session.created_at.0);
    to.set_last_seen_at(session.last_seen_at.0);
}

pub(super) fn erasure(erasure: &Erasure, mut to: erasure::Builder<'_>) {
    to.set_id(erasure.id);
    to.set_user_id(erasure.user_id.as_str());
    to.set_room(erasure.room.as_ref().map_or("", RoomId::as_str));
    to.set_by(erasure.by.as_ref().map_or("", UserId::as_str));
    to.set_requested_at(erasure.requested_at.0);
    to.set_finished_at(erasure.finished_at.unwrap_or_default().0);
    to.set_rooms(erasure.rooms);
    to.set_events(erasure.events);
}
