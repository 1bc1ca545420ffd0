//! The thread that sends by ZeroMQ, answers who asks for a welcome, and says who may dial.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use zmq::{Context, PollItem, Socket};

use super::{Waker, dial, heard, socket, socket_error, start};
use crate::listening::{self, File};
use crate::outbox::{Outbox, Work};
use crate::wire::{self, Counters, PULSE, PULSE_EVERY, Sender};
use crate::wire_bus::Publisher;
use crate::{BusConfig, BusUrl, Curve, CurveKey, Endpoint, Message, OpenBusError};

/// Requests of subscribers that are read before what waits to be sent has its turn again.
const REQUESTS: usize = 1000;

/// Where the library asks whether somebody may dial (<https://rfc.zeromq.org/spec/27/>).
const ASKED: &str = "inproc://zeromq.zap.01";

/// Opens the sending end, where the configuration has addresses for one.
pub(crate) fn publisher(
    config: &BusConfig,
    id: &str,
    counters: Arc<Counters>,
) -> Result<Option<Publisher>, OpenBusError> {
    let bind = match &config.url {
        BusUrl::Zmq(endpoint) => Some(endpoint),
        _ => None,
    };
    let mut dialled = config.publish.iter().filter_map(|url| match url {
        BusUrl::Zmq(endpoint) => Some((url, endpoint)),
        _ => None,
    });
    let context = Context::new();
    let curve = config.curve.as_ref();
    // Before anybody can dial.
    let door = match curve {
        Some(curve) if bind.is_some() => Some(Door::open(&context, curve)?),
        _ => None,
    };
    let mut sockets = Vec::new();
    let mut bound = None;
    let mut file = None;
    if let Some(endpoint) = bind {
        let socket = socket(&context, zmq::XPUB, endpoint)?;
        let (at, made) = bind_at(&socket, &config.url, endpoint, curve)?;
        (bound, file) = (Some(BusUrl::Zmq(at)), made);
        sockets.push(socket);
    }
    dialled.try_for_each(|(url, endpoint)| {
        let socket = socket(&context, zmq::XPUB, endpoint)?;
        dial(&socket, url, endpoint, curve)?;
        sockets.push(socket);
        Ok(())
    })?;
    if sockets.is_empty() {
        return Ok(None);
    }
    let (waker, wake) = Waker::new(&context)?;
    let calls = waker.clone();
    let outbox = Arc::new(Outbox::new(counters, move || calls.wake()));
    let thread = Thread {
        outbox: outbox.clone(),
        sender: Sender::new(id),
        sockets,
        wake,
        door,
    };
    // The context is dropped last, which waits for what lingers, and the file goes when nobody can dial any more.
    let run = move || {
        thread.run();
        waker.close();
        drop(waker);
        drop(context);
        drop(file);
    };
    let thread = start("bus-zmq-pub", run)?;
    Ok(Some(Publisher {
        outbox,
        thread,
        bound,
    }))
}

fn bind_at(
    socket: &Socket,
    url: &BusUrl,
    endpoint: &Endpoint,
    curve: Option<&Curve>,
) -> Result<(Endpoint, File), OpenBusError> {
    let plain = |error: zmq::Error| error.to_string();
    let ipc = |at: &str| socket.bind(at).map_err(plain);
    let tcp = |at: &str| {
        if let Some(curve) = curve {
            socket.set_curve_server(true).map_err(plain)?;
            socket
                .set_curve_secretkey(curve.keys.secret())
                .map_err(plain)?;
            socket.set_zap_domain("bus").map_err(plain)?;
        }
        socket.bind(at).map_err(plain)?;
        let at = socket.get_last_endpoint().map_err(plain)?;
        at.ok()
            .and_then(|at| at.rsplit_once(':')?.1.parse().ok())
            .ok_or_else(|| "it does not say its port".to_owned())
    };
    listening::bind(url, endpoint, ipc, tcp)
}

struct Thread {
    outbox: Arc<Outbox>,
    sender: Sender,
    sockets: Vec<Socket>,
    wake: Socket,
    door: Option<Door>,
}

impl Thread {
    fn run(mut self) {
        if let Err(error) = self.run_inner() {
            tracing::error!(%error, "the bus does not send by ZeroMQ any more: {error}");
            // What comes now is counted as lost.
            self.outbox.close();
        }
    }

    fn run_inner(&mut self) -> zmq::Result<()> {
        let mut taken = VecDeque::new();
        let mut next_pulse = Instant::now();
        loop {
            let work = self.outbox.take(&mut taken);
            for message in taken.drain(..) {
                self.send(&message)?;
            }
            if work == Work::Over {
                return Ok(());
            }
            let now = Instant::now();
            if now >= next_pulse {
                let pulse = self.sender.pulse(PULSE);
                for socket in &self.sockets {
                    send(socket, pulse.as_slice())?;
                }
                next_pulse = now + PULSE_EVERY;
            }
            let timeout = match work {
                Work::Some => 0,
                _ => i64::try_from((next_pulse - now).as_millis()).unwrap_or(1) + 1,
            };
            self.wait(timeout)?;
        }
    }

    fn send(&mut self, message: &Message) -> zmq::Result<()> {
        self.sender.count(message);
        for payload in message.frames.iter() {
            let bytes = wire::frame_len(&message.topic, &payload);
            for socket in &self.sockets {
                let mut out = zmq::Message::with_size(bytes);
                let mut at = 0;
                wire::frame(&message.topic, &payload, |part| {
                    out[at..at + part.len()].copy_from_slice(part);
                    at += part.len();
                });
                send(socket, out)?;
            }
        }
        Ok(())
    }

    /// Waits for something to happen, and sees to what subscribers ask.
    fn wait(&self, timeout_ms: i64) -> zmq::Result<()> {
        let mut items: Vec<PollItem<'_>> = [&self.wake]
            .into_iter()
            .chain(&self.sockets)
            .chain(self.door.as_ref().map(|door| &door.socket))
            .map(|socket| socket.as_poll_item(zmq::POLLIN))
            .collect();
        match zmq::poll(&mut items, timeout_ms) {
            Ok(0) | Err(zmq::Error::EINTR) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let ready: Vec<bool> = items.iter().map(PollItem::is_readable).collect();
        if ready[0] {
            heard(&self.wake);
        }
        for (socket, _) in self
            .sockets
            .iter()
            .zip(&ready[1..])
            .filter(|(_, ready)| **ready)
        {
            self.answer(socket)?;
        }
        match &self.door {
            Some(door) if ready[ready.len() - 1] => door.answer(),
            _ => Ok(()),
        }
    }

    /// Who subscribes to a welcome is told at once. What it subscribed to before holds by then.
    fn answer(&self, socket: &Socket) -> zmq::Result<()> {
        const SUBSCRIBES: u8 = 1;
        for _ in 0..REQUESTS {
            let request = match socket.recv_msg(zmq::DONTWAIT) {
                Ok(request) => request,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(()),
                Err(error) => return Err(error),
            };
            if let Some((&SUBSCRIBES, prefix)) = request.split_first()
                && let Some(topic) = wire::welcome_of(prefix)
            {
                send(socket, self.sender.pulse(topic).as_slice())?;
            }
        }
        Ok(())
    }
}

/// It never waits: what a subscriber has no room for is lost to it alone.
fn send(socket: &Socket, message: impl zmq::Sendable) -> zmq::Result<()> {
    match socket.send(message, zmq::DONTWAIT) {
        Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => Ok(()),
        sent => sent,
    }
}

/// Says who may dial.
struct Door {
    socket: Socket,
    authorized: HashSet<CurveKey>,
}

impl Door {
    fn open(context: &Context, curve: &Curve) -> Result<Self, OpenBusError> {
        let opened = || {
            let socket = context.socket(zmq::REP)?;
            socket.set_linger(0)?;
            socket.bind(ASKED)?;
            Ok(socket)
        };
        Ok(Self {
            socket: opened().map_err(socket_error)?,
            authorized: curve.authorized.iter().copied().collect(),
        })
    }

    fn answer(&self) -> zmq::Result<()> {
        loop {
            let asked = match self.socket.recv_multipart(zmq::DONTWAIT) {
                Ok(asked) => asked,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => return Ok(()),
                Err(error) => return Err(error),
            };
            // Version, request, domain, address, identity, mechanism, credentials.
            let (allowed, address) = match asked.as_slice() {
                [_, _, _, address, _, mechanism, key] if mechanism == b"CURVE" => {
                    let key = <[u8; 32]>::try_from(key.as_slice()).map(CurveKey::new);
                    let allowed = key.is_ok_and(|key| self.authorized.contains(&key));
                    (allowed, String::from_utf8_lossy(address).into_owned())
                }
                _ => (false, String::new()),
            };
            if !allowed {
                tracing::warn!(
                    address,
                    "a CURVE key that is not authorized was refused on the bus"
                );
            }
            let (status, text) = if allowed {
                ("200", "OK")
            } else {
                ("400", "not authorized")
            };
            let request = asked.get(1).map_or(&b""[..], Vec::as_slice);
            let answer = [
                b"1.0",
                request,
                status.as_bytes(),
                text.as_bytes(),
                b"",
                b"",
            ];
            self.socket.send_multipart(answer, 0)?;
        }
    }
}
