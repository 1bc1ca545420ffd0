//! The words every other crate speaks: ids, names, sequence numbers, events, roles, limits and error codes.
//!
//! Nothing here does I/O or knows a runtime. A value of these types has been checked where it was made: a
//! [`RoomId`] is a well-formed slug, a [`Seq`] counts from one, a [`Timestamp`] is Unix milliseconds.

mod clock;
mod error;
mod event;
mod frames;
mod id;
mod limits;
mod name;
mod order;
mod room;
mod signal;
pub mod trace;
mod user;

pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{ErrorCode, Problem};
pub use event::{
    Event, EventBody, EventCodec, EventDraft, JsonValue, MalformedEvent, MemberAction, RoomAction,
};
pub use frames::{EventBatch, Frames, FramesBuilder};
pub use id::{ApiKeyId, ConnectionId, InvalidId, InviteId, LinkId, PasskeyId, SessionId, UserId};
pub use limits::Limits;
pub use name::{InvalidName, RoomId, Username};
pub use order::{Seq, Timestamp};
pub use room::{HistoryVisibility, RoomRole, RoomSettings, RoomSettingsPatch, UnsubscribeReason};
pub use signal::{GapReason, Signal};
pub use user::{GlobalRole, Presence, PresenceStatus, User};
