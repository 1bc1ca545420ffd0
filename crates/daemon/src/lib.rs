//! What daemons beside the gateway share: their run from start to signal, log lines, files that survive a crash, the token's file, durations.
//!
//! Nothing here knows a room or an event.

mod duration;
mod files;
mod running;
mod signals;
mod telemetry;
mod token;

pub use duration::{InvalidDuration, format_duration, parse_duration};
pub use files::{FolderLock, create_folder, replace, sync_folder};
pub use running::run;
pub use telemetry::{LogFormat, init_telemetry};
pub use token::{InvalidToken, read_token};
