//! The thread that hears one publisher by nng.

use nng::options::Options as _;
use nng::options::protocol::pubsub::{Subscribe, Unsubscribe};
use nng::{PipeEvent, Protocol, Socket};
use tokio::sync::watch;

use super::{socket, socket_error};
use crate::wire::{Answers, PULSE_WIRE, Receiver, Standing};
use crate::wire_bus::{Dialled, Link, LinkParts};
use crate::{Endpoint, OpenBusError};

/// Opens the receiving end.
pub(crate) fn link(parts: LinkParts, endpoint: &Endpoint) -> Result<Link, OpenBusError> {
    let url = parts.url.clone();
    let socket = socket(Protocol::Sub0)?;
    socket
        .set_opt::<Subscribe>(PULSE_WIRE.to_vec())
        .map_err(socket_error)?;
    let (receiver, standing) = parts.receiver(Answers::Never, String::new());
    let told = standing.clone();
    let notice = move |_, event| {
        if event == PipeEvent::RemovePost {
            Receiver::unheard(&told);
        }
    };
    socket.pipe_notify(notice).map_err(socket_error)?;
    socket
        .dial_async(&endpoint.to_string())
        .map_err(|error| OpenBusError::Dial {
            url: url.clone(),
            reason: error.to_string(),
        })?;
    let heard = socket.clone();
    let from = url.to_string();
    let thread = std::thread::Builder::new()
        .name("bus-nng-sub".into())
        .spawn(move || {
            if let Err(error) = run(&heard, receiver) {
                tracing::error!(%error, url = from, "the bus of {from} is not heard any more: {error}");
            }
        })
        .map_err(|error| OpenBusError::Thread {
            reason: error.to_string(),
        })?;
    Ok(Link {
        url,
        standing: standing.subscribe(),
        socket: Box::new(Handle { socket, standing }),
        answers: Answers::Never,
        thread,
    })
}

fn run(socket: &Socket, mut receiver: Receiver) -> Result<(), nng::Error> {
    loop {
        match socket.recv() {
            Ok(message) => {
                receiver.take(message.as_slice());
            }
            Err(nng::Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

struct Handle {
    socket: Socket,
    standing: watch::Sender<Standing>,
}

impl Handle {
    fn set(&self, set: Result<(), nng::Error>) {
        match set {
            // Then the bus is closed.
            Ok(()) | Err(nng::Error::Closed) => {}
            Err(error) => {
                tracing::error!(%error, "a subscription of the bus cannot be set: {error}")
            }
        }
    }
}

impl Dialled for Handle {
    fn want(&self, prefix: Option<&[u8]>, _ticket: u64) {
        if let Some(prefix) = prefix {
            self.set(self.socket.set_opt::<Subscribe>(prefix.to_vec()));
        }
    }

    fn unwant(&self, prefix: &[u8]) {
        self.set(self.socket.set_opt::<Unsubscribe>(prefix.to_vec()));
    }

    fn give_up(&self) {
        self.standing.send_modify(|standing| standing.away = true);
    }

    fn close(&self) {
        self.socket.close();
    }
}
