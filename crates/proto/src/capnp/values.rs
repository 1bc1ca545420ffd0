//! Settings, roles, statuses and problems.

use ::capnp::NotInSchema;
use stack_types::{ErrorCode, HistoryVisibility, PresenceStatus, Problem, RoomRole, RoomSettings};
use std::time::Duration;

use super::Unreadable;
use crate::gateway_capnp::{Role, Status, problem, room_settings};

/// A role as it stands in a message; `None` for somebody who is no member.
#[must_use]
pub fn role_to(role: Option<RoomRole>) -> Role {
    match role {
        None => Role::None,
        Some(RoomRole::Guest) => Role::Guest,
        Some(RoomRole::Member) => Role::Member,
        Some(RoomRole::Moderator) => Role::Moderator,
        Some(RoomRole::Owner) => Role::Owner,
    }
}

/// The role that stands in a message.
#[must_use]
pub fn role_from(role: Role) -> Option<RoomRole> {
    match role {
        Role::None => None,
        Role::Guest => Some(RoomRole::Guest),
        Role::Member => Some(RoomRole::Member),
        Role::Moderator => Some(RoomRole::Moderator),
        Role::Owner => Some(RoomRole::Owner),
    }
}

/// A status as it stands in a message.
#[must_use]
pub fn status_to(status: PresenceStatus) -> Status {
    match status {
        PresenceStatus::Online => Status::Online,
        PresenceStatus::Away => Status::Away,
        PresenceStatus::Busy => Status::Busy,
        PresenceStatus::Offline => Status::Offline,
    }
}

/// The status that stands in a message.
#[must_use]
pub fn status_from(status: Status) -> PresenceStatus {
    match status {
        Status::Online => PresenceStatus::Online,
        Status::Away => PresenceStatus::Away,
        Status::Busy => PresenceStatus::Busy,
        Status::Offline => PresenceStatus::Offline,
    }
}

/// What of the past members see, as it stands in a message.
#[must_use]
pub fn history_to(history: HistoryVisibility) -> room_settings::History {
    match history {
        HistoryVisibility::Members => room_settings::History::Members,
        HistoryVisibility::Joined => room_settings::History::Joined,
    }
}

/// What of the past members see.
#[must_use]
pub fn history_from(history: room_settings::History) -> HistoryVisibility {
    match history {
        room_settings::History::Members => HistoryVisibility::Members,
        room_settings::History::Joined => HistoryVisibility::Joined,
    }
}

/// Fills in a room's settings.
pub fn settings_to(settings: &RoomSettings, mut to: room_settings::Builder<'_>) {
    // Taken apart, so that a new setting cannot be forgotten.
    let RoomSettings {
        public,
        history,
        retention_days,
        retention_messages,
        max_message_bytes,
        slow_mode_s,
        allow_guests,
        messages_per_10s,
    } = *settings;
    to.set_public(public);
    to.set_history(history_to(history));
    to.set_retention_days(retention_days);
    to.set_retention_messages(retention_messages);
    to.set_max_message_bytes(max_message_bytes);
    to.set_slow_mode_s(slow_mode_s);
    to.set_allow_guests(allow_guests);
    to.set_messages_per10s(messages_per_10s);
}

/// Reads a room's settings.
///
/// # Errors
/// A value is of a newer schema.
pub fn settings_from(from: room_settings::Reader<'_>) -> Result<RoomSettings, NotInSchema> {
    Ok(RoomSettings {
        public: from.get_public(),
        history: history_from(from.get_history()?),
        retention_days: from.get_retention_days(),
        retention_messages: from.get_retention_messages(),
        max_message_bytes: from.get_max_message_bytes(),
        slow_mode_s: from.get_slow_mode_s(),
        allow_guests: from.get_allow_guests(),
        messages_per_10s: from.get_messages_per10s(),
    })
}

/// Fills in why something was refused.
pub fn problem_to(problem: &Problem, mut to: problem::Builder<'_>) {
    to.set_code(problem.code.as_str());
    to.set_detail(&*problem.detail);
    to.set_field(problem.field.as_deref().unwrap_or_default());
    to.set_retryable(problem.code.retryable());
    to.set_retry_after_ms(problem.retry_after_ms().unwrap_or_default());
}

/// Reads why something was refused.
///
/// # Errors
/// It is malformed, or its code is none that is known here.
pub fn problem_from(from: problem::Reader<'_>) -> Result<Problem, Unreadable> {
    let code = from.get_code()?.to_str()?;
    let code = ErrorCode::ALL
        .into_iter()
        .find(|known| known.as_str() == code)
        .ok_or(Unreadable::Invalid("code"))?;
    let mut problem = Problem::new(code, from.get_detail()?.to_string()?);
    let field = from.get_field()?.to_str()?;
    if !field.is_empty() {
        problem = problem.with_field(field.to_owned());
    }
    problem.retry_after = match from.get_retry_after_ms() {
        0 => None,
        ms => Some(Duration::from_millis(ms)),
    };
    Ok(problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capnp::new_message;

    #[test]
    fn settings_come_back_as_they_were() {
        let settings = RoomSettings {
            public: true,
            history: HistoryVisibility::Joined,
            retention_days: 1,
            retention_messages: 5,
            max_message_bytes: 2,
            slow_mode_s: 3,
            allow_guests: true,
            messages_per_10s: 4,
        };
        for settings in [settings, RoomSettings::default()] {
            let mut message = new_message(0);
            settings_to(&settings, message.init_root());
            let read = message.get_root_as_reader().unwrap();
            assert_eq!(settings_from(read).unwrap(), settings);
        }
        // What is not there is what a room is made with.
        let mut empty = new_message(0);
        let empty: room_settings::Builder<'_> = empty.init_root();
        let read = settings_from(empty.into_reader()).unwrap();
        assert_eq!(read, RoomSettings::default());
    }

    #[test]
    fn a_problem_comes_back_as_it_was() {
        let problems = [
            Problem::invalid_field("body", "too \"long\""),
            Problem::rate_limited(Duration::from_millis(7)),
            Problem::not_found("no"),
        ];
        for problem in problems {
            let mut message = new_message(0);
            problem_to(&problem, message.init_root());
            let read = problem_from(message.get_root_as_reader().unwrap()).unwrap();
            assert_eq!((read.code, &read.detail), (problem.code, &problem.detail));
            assert_eq!(read.field, problem.field);
            assert_eq!(read.retry_after, problem.retry_after);
        }
    }
}
