//! The thread that hears one publisher by ZeroMQ.
//!
//! The publisher filters, so a subscription holds when the publisher has it, and that is asked for: behind each change
//! goes a subscription to a topic that nobody else has, which the publisher answers at once.

use std::sync::mpsc;

use tokio::sync::watch;
use zmq::{Context, PollItem, Socket};

use super::{Waker, dial, heard, socket, socket_error, start};
use crate::wire::{Answers, Heard, PULSE_WIRE, Receiver, Standing, WELCOME};
use crate::wire_bus::{Dialled, Link, LinkParts};
use crate::{Curve, Endpoint, OpenBusError};

/// Messages that are read before whoever subscribes has a turn again.
const MESSAGES: usize = 1000;

/// Opens the receiving end.
pub(crate) fn link(
    parts: LinkParts,
    endpoint: &Endpoint,
    curve: Option<&Curve>,
) -> Result<Link, OpenBusError> {
    let url = parts.url.clone();
    let context = Context::new();
    let socket = socket(&context, zmq::SUB, endpoint)?;
    let (waker, wake) = Waker::new(&context)?;
    socket.set_subscribe(PULSE_WIRE).map_err(socket_error)?;
    dial(&socket, &url, endpoint, curve)?;
    let mut name = [0; 8];
    getrandom::fill(&mut name).map_err(|_| OpenBusError::Randomness)?;
    let name = format!("{:016x}", u64::from_be_bytes(name));
    let (receiver, standing) = parts.receiver(Answers::WhenAsked, name.clone());
    let (requests, asked) = mpsc::channel();
    let watched = standing.subscribe();
    let thread = Thread {
        socket,
        wake,
        asked,
        receiver,
        name,
        asks_for: None,
    };
    let handle = Handle {
        waker: waker.clone(),
        requests,
        standing,
    };
    let told = url.to_string();
    let run = move || {
        if let Err(error) = thread.run() {
            tracing::error!(%error, url = told, "the bus of {told} is not heard any more: {error}");
        }
        waker.close();
        drop(waker);
        drop(context);
    };
    Ok(Link {
        url,
        socket: Box::new(handle),
        standing: watched,
        answers: Answers::WhenAsked,
        thread: start("bus-zmq-sub", run)?,
    })
}

enum Request {
    Want(Option<Vec<u8>>, u64),
    Unwant(Vec<u8>),
    End,
}

struct Handle {
    waker: Waker,
    requests: mpsc::Sender<Request>,
    standing: watch::Sender<Standing>,
}

impl Handle {
    fn ask(&self, request: Request) {
        // A thread that has ended has closed the bus, or said why.
        if self.requests.send(request).is_ok() {
            self.waker.wake();
        }
    }
}

impl Dialled for Handle {
    fn want(&self, prefix: Option<&[u8]>, ticket: u64) {
        self.ask(Request::Want(prefix.map(<[u8]>::to_vec), ticket));
    }

    fn unwant(&self, prefix: &[u8]) {
        self.ask(Request::Unwant(prefix.to_vec()));
    }

    fn give_up(&self) {
        self.standing.send_modify(|standing| standing.away = true);
    }

    fn close(&self) {
        self.ask(Request::End);
    }
}

struct Thread {
    socket: Socket,
    wake: Socket,
    asked: mpsc::Receiver<Request>,
    receiver: Receiver,
    name: String,
    /// The newest ticket that a welcome was asked for and has not come for.
    asks_for: Option<u64>,
}

impl Thread {
    fn run(mut self) -> zmq::Result<()> {
        let mut message = zmq::Message::new();
        loop {
            let mut items =
                [&self.wake, &self.socket].map(|socket| socket.as_poll_item(zmq::POLLIN));
            match zmq::poll(&mut items, -1) {
                Ok(_) => {}
                Err(zmq::Error::EINTR) => continue,
                Err(error) => return Err(error),
            }
            let [called, arrived] = items.each_ref().map(PollItem::is_readable);
            if called {
                heard(&self.wake);
                if self.serve()? == Ended::Yes {
                    return Ok(());
                }
            }
            if arrived {
                self.receive(&mut message)?;
            }
        }
    }

    fn serve(&mut self) -> zmq::Result<Ended> {
        while let Ok(request) = self.asked.try_recv() {
            match request {
                Request::Want(prefix, ticket) => {
                    if let Some(prefix) = prefix {
                        self.socket.set_subscribe(&prefix)?;
                    }
                    self.ask_for(ticket)?;
                }
                Request::Unwant(prefix) => self.socket.set_unsubscribe(&prefix)?,
                Request::End => return Ok(Ended::Yes),
            }
        }
        Ok(Ended::No)
    }

    /// Asks for a welcome; the one for an earlier ticket is not needed any more.
    fn ask_for(&mut self, ticket: u64) -> zmq::Result<()> {
        if let Some(before) = self.asks_for.replace(ticket) {
            self.socket.set_unsubscribe(&self.welcome(before))?;
        }
        self.socket.set_subscribe(&self.welcome(ticket))
    }

    fn welcome(&self, ticket: u64) -> Vec<u8> {
        format!("{WELCOME}{}.{ticket}\0", self.name).into_bytes()
    }

    fn receive(&mut self, message: &mut zmq::Message) -> zmq::Result<()> {
        for _ in 0..MESSAGES {
            match self.socket.recv(message, zmq::DONTWAIT) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(()),
                Err(error) => return Err(error),
            }
            let Heard::Pulse { is_other, welcome } = self.receiver.take(message) else {
                continue;
            };
            if let Some(ticket) = welcome.filter(|ticket| self.asks_for == Some(*ticket)) {
                self.asks_for = None;
                self.socket.set_unsubscribe(&self.welcome(ticket))?;
            } else if is_other && self.asks_for.is_none() && welcome.is_none() {
                // What this one has of ours, and since when, it has to say itself.
                self.ask_for(self.receiver.ticket())?;
            }
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Ended {
    Yes,
    No,
}
