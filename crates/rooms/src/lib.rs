//! What may happen in a room: who sees it, who speaks in it, and what becomes of what they do.
//!
//! Every action is decided by [`rights`], twice where it matters: on the room in memory, to refuse early and
//! cheaply, and again on the writer thread in front of the commit, so that nobody acts on a right they have just
//! lost. The answer to a write comes after it is durable.

mod actor;
mod create;
mod history;
pub mod imported;
mod members;
mod messages;
pub mod rights;
mod rooms;
mod signals;
mod view;

pub use actor::Actor;
pub use create::{NewRoom, RoomPatch};
pub use history::{Page, PageQuery};
pub use members::NewBan;
pub use messages::{Say, SendMessage, Sent};
pub use rooms::{Rooms, RoomsConfig, Subscribed, SubscribedAnswer};
pub use view::{BanView, Member, Room};
