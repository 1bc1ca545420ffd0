//! The bot from the outside: the program beside a gateway, asked by people, killed and started again.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod commands;
mod floods;
mod life;
mod reminders;
mod restarts;
mod support;
