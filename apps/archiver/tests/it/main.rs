//! The archiver from the outside: the program beside a gateway, killed and stopped, and what it has kept.

#![expect(clippy::unwrap_used, reason = "a test stops at what must not happen")]

mod crash;
mod disk;
mod life;
mod support;
