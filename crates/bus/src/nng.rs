//! nng. Its sockets may be used by many threads; its subscribers filter, and its publishers send everything to everybody.

mod link;
mod publisher;

use nng::options::{
    Options as _, ReconnectMaxTime, ReconnectMinTime, RecvBufferSize, RecvMaxSize, SendBufferSize,
};
use nng::{Protocol, Socket};
use std::time::Duration;

use crate::OpenBusError;

pub(crate) use link::link;
pub(crate) use publisher::publisher;

/// Messages that a socket keeps for a peer, or for its reader, that is behind: the most that the library allows, and
/// some megabytes of common events. What comes on top pushes out the oldest.
const BUFFER: i32 = 8192;

/// The largest message that is taken, several times what a frame may be.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// How soon, and after many attempts how seldom, a lost connection is tried again.
const RECONNECT: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(50)..=Duration::from_secs(2);

fn socket_error(error: nng::Error) -> OpenBusError {
    OpenBusError::Socket {
        reason: error.to_string(),
    }
}

fn socket(protocol: Protocol) -> Result<Socket, OpenBusError> {
    let made = || {
        let socket = Socket::new(protocol)?;
        match protocol {
            Protocol::Sub0 => socket.set_opt::<RecvBufferSize>(BUFFER)?,
            _ => socket.set_opt::<SendBufferSize>(BUFFER)?,
        }
        socket.set_opt::<RecvMaxSize>(MAX_MESSAGE)?;
        socket.set_opt::<ReconnectMinTime>(Some(*RECONNECT.start()))?;
        socket.set_opt::<ReconnectMaxTime>(Some(*RECONNECT.end()))?;
        Ok(socket)
    };
    made().map_err(socket_error)
}
