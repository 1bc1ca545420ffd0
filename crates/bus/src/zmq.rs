//! ZeroMQ. A socket of it may be used by one thread at a time, so each thread has its own, and a pair of sockets within
//! the process through which it is woken.

mod link;
mod publisher;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use zmq::{Context, Socket, SocketType};

use crate::{BusUrl, Curve, CurveKeys, Endpoint, OpenBusError};

pub(crate) use link::link;
pub(crate) use publisher::publisher;

/// Messages that a socket keeps for a peer, or for its reader, that is behind: some megabytes of common events. What
/// comes on top is lost to that one.
pub(crate) const HIGH_WATER: i32 = 8192;

/// The largest message that is taken from a publisher, several times what a frame may be.
const MAX_MESSAGE: i64 = 64 * 1024 * 1024;

/// The largest that is taken from a subscriber, who sends prefixes.
const MAX_SUBSCRIPTION: i64 = 1024;

/// How soon, and after many attempts how seldom, a lost connection is tried again.
const RECONNECT_MS: std::ops::RangeInclusive<i32> = 50..=2000;

/// How often a silent peer is asked whether it is there, and after how long it is not.
const ASK_MS: i32 = 5000;
const SILENCE_MS: i32 = 15_000;

/// How long closing waits for what was sent and not yet taken.
const LINGER_MS: i32 = 500;

impl CurveKeys {
    /// A new pair.
    ///
    /// # Errors
    /// The library cannot make one.
    pub fn generate() -> Result<Self, OpenBusError> {
        let pair = zmq::CurveKeyPair::new().map_err(socket_error)?;
        Ok(Self::new(
            crate::CurveKey::new(pair.public_key),
            pair.secret_key,
        ))
    }
}

fn socket_error(error: zmq::Error) -> OpenBusError {
    OpenBusError::Socket {
        reason: error.to_string(),
    }
}

/// A socket for this address, with everything set that has to be before it is bound or dials.
fn socket(
    context: &Context,
    kind: SocketType,
    endpoint: &Endpoint,
) -> Result<Socket, OpenBusError> {
    let made = || {
        let socket = context.socket(kind)?;
        socket.set_sndhwm(HIGH_WATER)?;
        socket.set_rcvhwm(HIGH_WATER)?;
        socket.set_linger(LINGER_MS)?;
        socket.set_reconnect_ivl(*RECONNECT_MS.start())?;
        socket.set_reconnect_ivl_max(*RECONNECT_MS.end())?;
        socket.set_maxmsgsize(match kind {
            SocketType::SUB => MAX_MESSAGE,
            _ => MAX_SUBSCRIPTION,
        })?;
        if let Endpoint::Tcp { host, .. } = endpoint {
            socket.set_heartbeat_ivl(ASK_MS)?;
            socket.set_heartbeat_timeout(SILENCE_MS)?;
            // Also looks names up as such, which one without it must not.
            socket.set_ipv6(host.contains(':'))?;
        }
        Ok(socket)
    };
    made().map_err(socket_error)
}

/// Has a socket that dials present itself, and know whom it dials.
fn dial_with(socket: &Socket, endpoint: &Endpoint, curve: Option<&Curve>) -> zmq::Result<()> {
    let (Endpoint::Tcp { .. }, Some(curve)) = (endpoint, curve) else {
        return Ok(());
    };
    // One without the key was refused before.
    let Some(server) = curve.server else {
        return Err(zmq::Error::EINVAL);
    };
    socket.set_curve_serverkey(server.as_bytes())?;
    socket.set_curve_publickey(curve.keys.public().as_bytes())?;
    socket.set_curve_secretkey(curve.keys.secret())
}

fn dial(
    socket: &Socket,
    url: &BusUrl,
    endpoint: &Endpoint,
    curve: Option<&Curve>,
) -> Result<(), OpenBusError> {
    dial_with(socket, endpoint, curve)
        .and_then(|()| socket.connect(&endpoint.to_string()))
        .map_err(|error| OpenBusError::Dial {
            url: url.clone(),
            reason: error.to_string(),
        })
}

/// Wakes a thread that waits for sockets.
#[derive(Clone)]
struct Waker(Arc<Mutex<Option<Socket>>>);

impl Waker {
    /// The waker, and the socket that its thread waits for too.
    fn new(context: &Context) -> Result<(Self, Socket), OpenBusError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("inproc://wake.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let made = || {
            let (here, there) = (context.socket(zmq::PAIR)?, context.socket(zmq::PAIR)?);
            there.bind(&name)?;
            here.connect(&name)?;
            Ok((here, there))
        };
        let (here, there) = made().map_err(socket_error)?;
        Ok((Self(Arc::new(Mutex::new(Some(here)))), there))
    }

    fn wake(&self) {
        if let Some(socket) = &*self.0.lock() {
            // Full of calls that were not heard yet, of which one is enough.
            let _ = socket.send(&b""[..], zmq::DONTWAIT);
        }
    }

    /// Lets go of its socket, for which the library would wait otherwise.
    fn close(&self) {
        self.0.lock().take();
    }
}

/// Takes the calls off a socket that a [`Waker`] calls on.
fn heard(socket: &Socket) {
    let mut call = zmq::Message::new();
    while socket.recv(&mut call, zmq::DONTWAIT).is_ok() {}
}

/// Starts a thread with a name that tells it from others.
fn start(
    name: &str,
    run: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, OpenBusError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| OpenBusError::Thread {
            reason: error.to_string(),
        })
}
