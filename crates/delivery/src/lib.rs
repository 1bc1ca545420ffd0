//! The way from a committed batch to every reader. It knows no transport: a reader is an [`Outlet`] over some
//! [`Sink`] that takes bytes without blocking.
//!
//! **A reader is a cursor.** A [`Subscription`] that keeps up is *live*: the hub writes each batch to its outlet
//! at once, one write, and moves its cursor. When the outlet cannot take a batch the subscription is *behind*:
//! nothing is queued for it; its connection's own task ([`Outlet::pump`]) reads on from the log at the reader's
//! pace and rejoins the live stream when it has caught up. Resuming after a reconnect, lagging, and a hole left by
//! a lossy bus are this one mechanism. What always holds:
//!
//! - A subscription gets every event behind its first cursor once, in order, or a `gap` that names what it cannot
//!   have.
//! - An outlet holds at most the rest of one frame it has begun, and the answers its connection owes.
//! - Nothing of a subscription is written after it has ended.

mod catch_up;
mod hub;
mod log;
mod outlet;
mod room_hub;
mod times;
mod whereabouts;

pub use catch_up::Pumped;
pub use hub::{Hub, HubError, HubHandle, HubStats, Readers, Source};
pub use log::{Log, LogPage, Reading, RemoteLog, RemoteRoom, Room, RoomHead};
pub use outlet::{Outlet, Relay, Sink};
pub use room_hub::Subscription;
pub use times::Spread;
pub use whereabouts::{Departure, HandedOut, Reader, Standing};
