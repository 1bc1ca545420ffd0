//! A socket, split the way the gateway uses it: the library reads frames from here, and whatever it wants to write
//! (pongs, the close handshake) goes the same way out as everything else, so that no two frames ever mix.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use stack_delivery::{Outlet, Sink};

use crate::server::Wire;

/// What is taken from the kernel at once. All sockets of a thread share it; what the library does not take of it is
/// kept by its socket until it does.
const SCRATCH_BYTES: usize = 8 * 1024;

/// The library keeps the room it made for a frame; from here on that is worth taking back.
const LONG_BYTES: u64 = 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// The writing half, for the outlet.
pub(super) struct Egress(Arc<Wire>);

impl Egress {
    pub(super) fn new(wire: Arc<Wire>) -> Self {
        Self(wire)
    }
}

impl Sink for Egress {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_write_ready(cx)
    }

    fn backlog(&self) -> usize {
        self.0.backlog()
    }

    fn try_flush(&self) -> io::Result<()> {
        self.0.try_flush()
    }
}

/// The reading half, for the library. It reads nothing before [`Ingress::poll_readable`] has said that it may: asking
/// the runtime each time is what lets other tasks have their turn.
pub(super) struct Ingress {
    wire: Arc<Wire>,
    outlet: Arc<Outlet>,
    /// What is read already: what came with the upgrade request, and what the library did not take.
    ahead: Bytes,
    /// The socket may be read once.
    readable: bool,
    /// How far the library has been given frames.
    given: Given,
}

impl Ingress {
    pub(super) fn new(wire: Arc<Wire>, outlet: Arc<Outlet>, read_ahead: Bytes) -> Self {
        Self {
            wire,
            outlet,
            ahead: unless_empty(read_ahead),
            readable: false,
            given: Given::default(),
        }
    }

    /// Whether a long frame has gone by, and the library has since been given whole messages and nothing behind them.
    /// If it has no more to say about them either, it holds nothing but the room that the long frame took.
    pub(super) fn is_between_after_long(&self) -> bool {
        self.given.long && self.given.is_between()
    }

    /// The same socket for a library that starts anew.
    pub(super) fn renewed(&mut self) -> Self {
        Self {
            wire: self.wire.clone(),
            outlet: self.outlet.clone(),
            ahead: std::mem::take(&mut self.ahead),
            readable: self.readable,
            given: Given::default(),
        }
    }

    /// Ready when there is something to read, or the socket is broken.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_read_ready(cx))?;
        self.readable = true;
        Poll::Ready(Ok(()))
    }
}

impl io::Read for Ingress {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.len());
            buf[..taken].copy_from_slice(&self.ahead[..taken]);
            self.given.pass(&buf[..taken]);
            self.ahead.advance(taken);
            self.ahead = unless_empty(std::mem::take(&mut self.ahead));
            return Ok(taken);
        }
        if !std::mem::take(&mut self.readable) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let read = self.wire.try_read(scratch)?;
            let taken = read.min(buf.len());
            buf[..taken].copy_from_slice(&scratch[..taken]);
            self.given.pass(&buf[..taken]);
            self.ahead = Bytes::copy_from_slice(&scratch[taken..read]);
            Ok(taken)
        })
    }
}

impl io::Write for Ingress {
    /// Takes everything at once: the outlet holds what the socket does not take now. The connection reads no
    /// further frame while much of it waits there, so a flood of pings does not grow it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.outlet.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.outlet.send(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where what the library was given stands among the frames. It looks at the headers alone and takes them for well
/// formed: the library ends a connection on which they are not.
#[derive(Debug, Default)]
struct Given {
    at: At,
    /// The length as far as it is read, and then what is left of the payload.
    rest: u64,
    /// The last fragment of a message is still to come.
    fragmented: bool,
    /// A long frame was among them.
    long: bool,
}

/// What comes next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    First,
    Second,
    /// So many bytes of the length.
    Length(u8),
    /// So many bytes of the mask.
    Mask(u8),
    Payload,
}

impl Given {
    fn is_between(&self) -> bool {
        self.at == At::First && !self.fragmented
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while let [byte, behind @ ..] = bytes {
            if self.at == At::Payload {
                let taken =
                    usize::try_from(self.rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
                self.rest -= taken as u64;
                bytes = &bytes[taken..];
            } else {
                self.header(*byte);
                bytes = behind;
            }
            if self.at == At::Payload && self.rest == 0 {
                self.at = At::First;
            }
        }
    }

    fn header(&mut self, byte: u8) {
        self.at = match self.at {
            At::First => {
                let is_data = byte & 0x0f < 8;
                if is_data {
                    self.fragmented = byte & 0x80 == 0;
                }
                At::Second
            }
            At::Second => {
                let short = byte & 0x7f;
                self.rest = 0;
                match short {
                    126 => At::Length(2),
                    127 => At::Length(8),
                    _ => {
                        self.rest = u64::from(short);
                        At::Mask(4)
                    }
                }
            }
            At::Length(left) => {
                self.rest = self.rest << 8 | u64::from(byte);
                match left {
                    1 => {
                        self.long |= self.rest > LONG_BYTES;
                        At::Mask(4)
                    }
                    _ => At::Length(left - 1),
                }
            }
            At::Mask(1) | At::Payload => At::Payload,
            At::Mask(left) => At::Mask(left - 1),
        };
    }
}

/// The same bytes. An empty slice would keep the buffer it was cut from for as long as the socket lives.
fn unless_empty(bytes: Bytes) -> Bytes {
    if bytes.is_empty() {
        Bytes::new()
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..126 => frame.push(0x80 | payload as u8),
            126..65536 => {
                frame.push(0x80 | 126);
                frame.extend((payload as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([0xff; 4]);
        // Looks like anything but a header.
        frame.extend(std::iter::repeat_n(0x01, payload));
        frame
    }

    #[test]
    fn a_frame_ends_where_its_header_says_however_it_comes() {
        for chunk in [1, 2, 3, 7, 256, usize::MAX] {
            let mut given = Given::default();
            for payload in [0, 1, 125, 126, 1024, 1025, 65535, 65536, 70_000] {
                let frame = frame(0x81, payload);
                let (last, front) = frame.split_last().unwrap();
                for part in front.chunks(chunk.min(front.len())) {
                    given.pass(part);
                    assert!(!given.is_between(), "{payload} by {chunk}");
                }
                given.pass(&[*last]);
                assert!(given.is_between(), "{payload} by {chunk}");
                assert_eq!(given.long, payload > 1024);
            }
        }
    }

    #[test]
    fn a_message_in_fragments_ends_with_the_last_of_them() {
        let mut given = Given::default();
        given.pass(&frame(0x01, 2000));
        assert!(!given.is_between());
        given.pass(&frame(0x89, 4));
        assert!(!given.is_between(), "a ping stands between fragments");
        given.pass(&frame(0x00, 5));
        assert!(!given.is_between());
        given.pass(&frame(0x80, 0));
        assert!(given.is_between() && given.long);
    }
}
