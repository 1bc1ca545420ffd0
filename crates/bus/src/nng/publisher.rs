//! The thread that sends by nng.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use nng::options::Options as _;
use nng::options::transport::tcp::BoundPort;
use nng::{ListenerBuilder, PipeEvent, Protocol, Socket};

use super::{socket, socket_error};
use crate::listening::{self, File};
use crate::outbox::{Outbox, Work};
use crate::wire::{self, Counters, PULSE, PULSE_EVERY, Sender};
use crate::wire_bus::Publisher;
use crate::{BusConfig, BusUrl, Endpoint, Message, OpenBusError};

/// How long after the last message the socket is closed: the library throws away what the network has not taken yet,
/// and does not say whether there is something.
const LINGER: Duration = Duration::from_millis(250);

/// Opens the sending end, where the configuration has addresses for one.
pub(crate) fn publisher(
    config: &BusConfig,
    id: &str,
    counters: Arc<Counters>,
) -> Result<Option<Publisher>, OpenBusError> {
    let bind = match &config.url {
        BusUrl::Nng(endpoint) => Some(endpoint),
        _ => None,
    };
    let dialled: Vec<_> = config
        .publish
        .iter()
        .filter_map(|url| match url {
            BusUrl::Nng(endpoint) => Some((url, endpoint)),
            _ => None,
        })
        .collect();
    if bind.is_none() && dialled.is_empty() {
        return Ok(None);
    }
    let socket = socket(Protocol::Pub0)?;
    let waker = Waker::default();
    let (joined, woken) = (Arc::new(AtomicBool::new(false)), waker.clone());
    let joins = joined.clone();
    let notice = move |_, event| {
        if event == PipeEvent::AddPost {
            joins.store(true, Ordering::Release);
            woken.wake();
        }
    };
    socket.pipe_notify(notice).map_err(socket_error)?;
    let (mut bound, mut file) = (None, None);
    if let Some(endpoint) = bind {
        let (at, made) = bind_at(&socket, &config.url, endpoint)?;
        (bound, file) = (Some(BusUrl::Nng(at)), made);
    }
    for (url, endpoint) in dialled {
        socket
            .dial_async(&endpoint.to_string())
            .map_err(|error| OpenBusError::Dial {
                url: url.clone(),
                reason: error.to_string(),
            })?;
    }
    let calls = waker.clone();
    let outbox = Arc::new(Outbox::new(counters, move || calls.wake()));
    let sending = Sending {
        outbox: outbox.clone(),
        sender: Sender::new(id),
        socket,
        joined,
        last: None,
    };
    let run = move || {
        sending.run();
        drop(file);
    };
    let thread = std::thread::Builder::new()
        .name("bus-nng-pub".into())
        .spawn(run)
        .map_err(|error| OpenBusError::Thread {
            reason: error.to_string(),
        })?;
    waker.wakes(thread.thread().clone());
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
) -> Result<(Endpoint, File), OpenBusError> {
    let plain = |error: nng::Error| error.to_string();
    let ipc = |at: &str| socket.listen(at).map_err(plain);
    let tcp = |at: &str| {
        let listener = ListenerBuilder::new(socket, at).map_err(plain)?;
        let listener = listener.start().map_err(|(_, error)| plain(error))?;
        listener.get_opt::<BoundPort>().map_err(plain)
    };
    listening::bind(url, endpoint, ipc, tcp)
}

/// Wakes a thread that may not have started yet.
#[derive(Clone, Default)]
struct Waker(Arc<OnceLock<Thread>>);

impl Waker {
    fn wakes(&self, thread: Thread) {
        // Said once.
        let _ = self.0.set(thread);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = self.0.get() {
            thread.unpark();
        }
    }
}

struct Sending {
    outbox: Arc<Outbox>,
    sender: Sender,
    socket: Socket,
    /// Somebody has dialled, or was dialled, and does not know us yet.
    joined: Arc<AtomicBool>,
    /// When something was sent last.
    last: Option<Instant>,
}

impl Sending {
    fn run(mut self) {
        if let Err(error) = self.run_inner() {
            tracing::error!(%error, "the bus does not send by nng any more: {error}");
            // What comes now is counted as lost.
            self.outbox.close();
        }
        if let Some(left) = self
            .last
            .and_then(|last| LINGER.checked_sub(last.elapsed()))
        {
            std::thread::sleep(left);
        }
        self.socket.close();
    }

    fn run_inner(&mut self) -> Result<(), nng::Error> {
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
            if self.joined.swap(false, Ordering::AcqRel) || now >= next_pulse {
                self.put(self.sender.pulse(PULSE).as_slice().into())?;
                next_pulse = now + PULSE_EVERY;
            }
            if work == Work::None {
                std::thread::park_timeout(next_pulse - now);
            }
        }
    }

    fn send(&mut self, message: &Message) -> Result<(), nng::Error> {
        self.sender.count(message);
        for payload in message.frames.iter() {
            let bytes = wire::frame_len(&message.topic, &payload);
            let mut out = nng::Message::with_capacity(bytes);
            wire::frame(&message.topic, &payload, |part| out.push_back(part));
            self.put(out)?;
        }
        self.last = Some(Instant::now());
        Ok(())
    }

    /// It never waits: what a subscriber has no room for is lost to it alone.
    fn put(&self, message: nng::Message) -> Result<(), nng::Error> {
        match self.socket.try_send(message) {
            Ok(()) | Err((_, nng::Error::TryAgain)) => Ok(()),
            Err((_, error)) => Err(error),
        }
    }
}
