//! What programs on this machine are served over the local socket.

pub(crate) mod admin;
