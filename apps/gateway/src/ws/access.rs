//! What each type of frame asks of its caller, in one table, as `http/access.rs` has it for routes: the outer gate in
//! front of what the rooms decide. A type that is not in the table is refused.

use stack_auth::{Caller, Credential, Scope};
use stack_proto::Request;
use stack_types::{Problem, RoomId};

/// What a frame asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameNeed {
    /// Nothing.
    Anyone,
    /// A person who is signed in, or a program whose key or token allows this; in the room that the frame names.
    Scope(Scope),
    /// A person, a program whose key may change members, or a room token that is bound to no rooms.
    Join,
}

/// Every type of frame that a client sends.
pub(crate) const TYPES: &[(&str, FrameNeed)] = &[
    ("auth", FrameNeed::Anyone),
    ("ping", FrameNeed::Anyone),
    ("unsubscribe", FrameNeed::Anyone),
    ("subscribe", FrameNeed::Scope(Scope::Read)),
    ("history", FrameNeed::Scope(Scope::Read)),
    ("send", FrameNeed::Scope(Scope::Send)),
    ("edit", FrameNeed::Scope(Scope::Send)),
    ("redact", FrameNeed::Scope(Scope::Send)),
    ("react", FrameNeed::Scope(Scope::Send)),
    ("read", FrameNeed::Scope(Scope::Presence)),
    ("typing", FrameNeed::Scope(Scope::Presence)),
    ("presence", FrameNeed::Scope(Scope::Presence)),
    ("join", FrameNeed::Join),
    ("leave", FrameNeed::Join),
];

/// Whether the caller has shown what the frame asks for.
///
/// # Errors
/// `forbidden`.
pub(super) fn check(caller: &Caller, request: &Request) -> Result<(), Problem> {
    let (kind, room) = of(request);
    let need = TYPES.iter().find(|(known, _)| *known == kind);
    match need.map(|(_, need)| *need) {
        Some(FrameNeed::Anyone) => Ok(()),
        Some(FrameNeed::Scope(scope)) => match room {
            Some(room) => caller.require_in_room(scope, room),
            None => caller.require_somewhere(scope),
        },
        Some(FrameNeed::Join) => match caller.credential {
            Credential::RoomToken { rooms: None, .. } => Ok(()),
            _ => caller.require_scope(Scope::Rooms),
        },
        None => {
            tracing::error!(
                kind,
                "the type {kind} is not in the table, nobody may send it"
            );
            Err(Problem::forbidden("nobody may do this"))
        }
    }
}

/// What stands in the table for a frame, and the room that it names.
pub(super) fn of(request: &Request) -> (&'static str, Option<&RoomId>) {
    match request {
        Request::Auth { .. } => ("auth", None),
        Request::Ping => ("ping", None),
        Request::Presence { .. } => ("presence", None),
        Request::Subscribe { room, .. } => ("subscribe", Some(room)),
        Request::Unsubscribe { room } => ("unsubscribe", Some(room)),
        Request::Send(message) => ("send", Some(&message.room)),
        Request::Edit { room, .. } => ("edit", Some(room)),
        Request::Redact { room, .. } => ("redact", Some(room)),
        Request::React { room, .. } => ("react", Some(room)),
        Request::Join { room } => ("join", Some(room)),
        Request::Leave { room } => ("leave", Some(room)),
        Request::History { room, .. } => ("history", Some(room)),
        Request::Read { room, .. } => ("read", Some(room)),
        Request::Typing { room, .. } => ("typing", Some(room)),
    }
}
