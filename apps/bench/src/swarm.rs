//! Many connections on one thread: one epoll, one read buffer for all, frames looked at where they lie.
//!
//! The generator has to be cheaper than what it measures. A delivery costs it a walk to the next frame's header and
//! a look at a number; a connection costs it a socket and the rest of one frame.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, SockRef, Socket, Type};

use crate::dialect::{Dialect, Heard, Memory};
use crate::frame;

/// One read takes so much at most. Larger than any frame that is asked for.
const BUFFER_BYTES: usize = 1024 * 1024;

/// Connections served between two looks of the scenario at what it heard, so that it answers soon.
const EVENTS_AT_ONCE: usize = 128;

/// The kernel's receive buffer of a reader that is to be slow: it fills soon.
const SLOW_RECEIVE_BUFFER_BYTES: usize = 4096;

/// A connection of a swarm.
pub(crate) type ConnId = usize;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It takes what comes.
    Listener,
    /// It sends messages.
    Speaker,
    /// It will stall, see [`Swarm::stall`].
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Upgrading,
    Open,
    Closed,
}

struct Conn {
    stream: TcpStream,
    stage: Stage,
    /// The start of a frame whose end has not come.
    carry: Vec<u8>,
    /// What the socket did not take yet.
    out: Vec<u8>,
    memory: Memory,
    stalled: bool,
}

/// Connections to one server.
pub(crate) struct Swarm {
    server: SocketAddr,
    dialect: Dialect,
    upgrade: Vec<u8>,
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    buffer: Vec<u8>,
    clock: Instant,
    awake: bool,
    waited_ns: u64,
}

impl Swarm {
    /// No connections yet. `token` is for servers that want one.
    ///
    /// # Errors
    /// The system gives no epoll.
    pub(crate) fn new(server: SocketAddr, dialect: Dialect, token: Option<&str>) -> Result<Self> {
        let upgrade = format!(
            "GET {} HTTP/1.1\r\nhost: {server}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            dialect.path(),
            dialect.headers(token)
        );
        Ok(Self {
            server,
            dialect,
            upgrade: upgrade.into_bytes(),
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_AT_ONCE),
            conns: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            clock: Instant::now(),
            awake: false,
            waited_ns: 0,
        })
    }

    /// Waits without sleeping from here on. A thread that sleeps has to be woken by whoever writes to it, which costs
    /// the server more than the write itself where cores are virtual; over a network it would not.
    pub(crate) fn stay_awake(&mut self) {
        self.awake = true;
    }

    /// Nanoseconds that were spent waiting awake, which are no work.
    pub(crate) fn waited_ns(&self) -> u64 {
        self.waited_ns
    }

    /// Nanoseconds since the swarm began.
    pub(crate) fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// How many connections there were so far.
    pub(crate) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Begins a connection.
    ///
    /// # Errors
    /// The system gives no socket.
    pub(crate) fn open(&mut self, kind: Kind) -> Result<ConnId> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        // Closing resets: thousands of connections in TIME_WAIT would use up the ports of the next run.
        socket.set_linger(Some(Duration::ZERO))?;
        if kind == Kind::Slow {
            socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER_BYTES)?;
        }
        match socket.connect(&self.server.into()) {
            Ok(()) => {}
            // EINPROGRESS
            Err(error) if error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error).context("no connection could be begun"),
        }
        let mut stream = TcpStream::from_std(socket.into());
        let id = self.conns.len();
        self.poll.registry().register(
            &mut stream,
            Token(id),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        self.conns.push(Conn {
            stream,
            stage: Stage::Connecting,
            carry: Vec::new(),
            out: Vec::new(),
            memory: Memory::new(kind == Kind::Speaker),
            stalled: false,
        });
        Ok(id)
    }

    /// Sends frames, now or as soon as the socket takes them.
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) {
        let conn = &mut self.conns[id];
        conn.out.extend_from_slice(bytes);
        conn.flush();
    }

    /// Reads no more from a connection. It stays open.
    pub(crate) fn stall(&mut self, id: ConnId) {
        self.conns[id].stalled = true;
    }

    /// Ends a connection by a reset.
    pub(crate) fn close(&mut self, id: ConnId) {
        let conn = &mut self.conns[id];
        conn.stage = Stage::Closed;
        conn.stalled = true;
        // What is left of it goes with the swarm; a broken connection cannot be shut down, and need not be.
        let _ = self.poll.registry().deregister(&mut conn.stream);
        let _ = conn.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Takes in what has come, for at most `wait`. `hear` is told, with the connection and the time. Returns after
    /// a limited number of connections, so call it in a loop.
    ///
    /// # Errors
    /// A server speaks otherwise than its dialect.
    pub(crate) fn turn(
        &mut self,
        wait: Duration,
        mut hear: impl FnMut(ConnId, u64, Heard<'_>),
    ) -> Result<()> {
        let begun = Instant::now();
        let mut waited = Duration::ZERO;
        loop {
            let nap = if self.awake { Duration::ZERO } else { wait };
            match self.poll.poll(&mut self.events, Some(nap)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if !self.events.is_empty() {
                break;
            }
            if !self.awake {
                return Ok(());
            }
            // The look that found something is work; those before it were not.
            waited = begun.elapsed();
            if waited >= wait {
                break;
            }
        }
        self.waited_ns += waited.as_nanos() as u64;
        for event in &self.events {
            let Token(id) = event.token();
            let conn = &mut self.conns[id];
            if conn.stage == Stage::Connecting && !conn.connected(&self.upgrade) {
                if conn.stage == Stage::Closed {
                    hear(id, self.clock.elapsed().as_nanos() as u64, Heard::Closed);
                }
                continue;
            }
            if event.is_writable() {
                conn.flush();
            }
            if (event.is_readable() || event.is_read_closed()) && !conn.stalled {
                let clock = self.clock;
                conn.read(self.dialect, &mut self.buffer, &mut |now, heard| {
                    hear(id, now.duration_since(clock).as_nanos() as u64, heard);
                })?;
            }
        }
        Ok(())
    }

    /// Opens so many connections, at most `at_once` of them on the way at a time, and waits until all are ready.
    /// With a room each subscribes to it first.
    ///
    /// # Errors
    /// The server refuses one, or takes too long.
    pub(crate) fn gather(
        &mut self,
        count: usize,
        at_once: usize,
        subscribe: Option<&str>,
        kind: impl Fn(usize) -> Kind,
    ) -> Result<Vec<ConnId>> {
        const WITHIN: Duration = Duration::from_secs(120);
        let request = subscribe.map(|room| self.dialect.subscribe(room, None));
        let started = Instant::now();
        let first = self.conns.len();
        let mut stages = vec![false; count];
        let (mut begun, mut ready) = (0, 0);
        let mut greeted = Vec::new();
        while ready < count {
            while begun < count && begun - ready < at_once {
                self.open(kind(begun))?;
                begun += 1;
            }
            let mut refused = None;
            self.turn(Duration::from_millis(100), |id, _, heard| match heard {
                Heard::Open => greeted.push(id),
                Heard::Answer { .. } if id >= first && !stages[id - first] => {
                    stages[id - first] = true;
                    ready += 1;
                }
                Heard::Refused(text) => {
                    refused = Some(format!("refused: {}", String::from_utf8_lossy(text)));
                }
                Heard::Closed => refused = Some(format!("connection {id} was closed")),
                _ => {}
            })?;
            if let Some(why) = refused {
                bail!(why);
            }
            for id in greeted.drain(..) {
                match &request {
                    Some(request) => self.send(id, request),
                    None if !stages[id - first] => {
                        stages[id - first] = true;
                        ready += 1;
                    }
                    None => {}
                }
            }
            if started.elapsed() > WITHIN {
                bail!("only {ready} of {count} connections were ready within {WITHIN:?}");
            }
        }
        Ok((first..first + count).collect())
    }
}

impl Conn {
    /// Whether the connection is there; begins the upgrade when it has just come about.
    fn connected(&mut self, upgrade: &[u8]) -> bool {
        match (self.stream.take_error(), self.stream.peer_addr()) {
            (Ok(None), Ok(_)) => {
                self.stage = Stage::Upgrading;
                self.out.extend_from_slice(upgrade);
                self.flush();
                true
            }
            (Ok(None), Err(error)) if error.kind() == io::ErrorKind::NotConnected => false,
            _ => {
                self.stage = Stage::Closed;
                false
            }
        }
    }

    fn flush(&mut self) {
        if matches!(self.stage, Stage::Connecting | Stage::Closed) {
            return;
        }
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => {
                    self.out.drain(..written);
                }
                // A broken connection shows when it is read.
                Err(_) => return,
            }
        }
    }

    fn read(
        &mut self,
        dialect: Dialect,
        buffer: &mut [u8],
        hear: &mut impl FnMut(Instant, Heard<'_>),
    ) -> Result<()> {
        loop {
            let carried = self.carry.len();
            buffer[..carried].copy_from_slice(&self.carry);
            let read = match self.stream.read(&mut buffer[carried..]) {
                Ok(0) => {
                    self.end(hear);
                    return Ok(());
                }
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.end(hear);
                    return Ok(());
                }
            };
            let now = Instant::now();
            let filled = carried + read;
            let taken = self.take(dialect, &buffer[..filled], &mut |heard| hear(now, heard))?;
            self.carry.clear();
            self.carry.extend_from_slice(&buffer[taken..filled]);
            if self.carry.len() > buffer.len() / 2 {
                bail!("a frame of more than {} bytes", buffer.len() / 2);
            }
            if filled < buffer.len() {
                // All that was there; what comes later is another event.
                return Ok(());
            }
        }
    }

    fn end(&mut self, hear: &mut impl FnMut(Instant, Heard<'_>)) {
        if self.stage != Stage::Closed {
            self.stage = Stage::Closed;
            hear(Instant::now(), Heard::Closed);
        }
    }

    /// Reads what is whole and says how many bytes that were.
    fn take(
        &mut self,
        dialect: Dialect,
        bytes: &[u8],
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize> {
        let mut at = 0;
        if self.stage == Stage::Upgrading {
            const END: &[u8] = b"\r\n\r\n";
            let Some(end) = bytes.windows(END.len()).position(|window| window == END) else {
                return Ok(0);
            };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                bail!(
                    "the upgrade was refused: {}",
                    String::from_utf8_lossy(bytes)
                );
            }
            self.stage = Stage::Open;
            at = end + END.len();
            if !dialect.server_begins() {
                hear(Heard::Open);
            }
        }
        let mut answer = Vec::new();
        while let Some(frame) = frame::first(&bytes[at..]) {
            match frame.opcode {
                frame::PING => frame::push(frame::PONG, frame.payload, &mut answer),
                frame::CLOSE => {
                    // The code comes back, as a goodbye has to be answered.
                    let code = frame.payload.get(..2).unwrap_or_default();
                    frame::push(frame::CLOSE, code, &mut answer);
                    hear(Heard::Refused(frame.payload));
                }
                frame::PONG => {}
                _ => dialect.read(&mut self.memory, frame.payload, &mut answer, hear)?,
            }
            at += frame.len;
        }
        if !answer.is_empty() {
            self.out.extend_from_slice(&answer);
            self.flush();
        }
        Ok(at)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        for conn in &self.conns {
            // Closed by a reset, whatever has come since.
            let _ = SockRef::from(&conn.stream).set_linger(Some(Duration::ZERO));
        }
    }
}
