//! The way out to a client of `stack.v1.capnp`. Everybody writes frames of JSON, as for every other socket; here each
//! becomes the message that says the same. Control frames go through as they are.
//!
//! Whole frames are taken, and only while nothing is left of those before, so that what comes always begins with one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use stack_delivery::Sink;
use stack_proto::capnp::{ServerFrame, Untranslatable};
use stack_types::{ErrorCode, Problem};

/// No further frame is taken when so much is translated: about the most that a reader who stalls makes the gateway
/// hold, unless one frame alone is longer.
const CHUNK_BYTES: usize = 16 * 1024;

/// A sink that translates, in front of one that sends.
pub(super) struct Translated<S> {
    inner: S,
    left: Mutex<Left>,
    /// The length of what is left. It changes under the lock only.
    backlog: AtomicUsize,
}

/// What was translated and not sent.
#[derive(Default)]
struct Left {
    bytes: Vec<u8>,
    sent: usize,
    /// A frame could not be translated. The client is told, and nothing follows.
    failed: bool,
}

/// What was lately translated on this thread, the newest first. The hub writes the same to one subscriber after the
/// other, a batch at a time.
#[derive(Default)]
struct Lately(VecDeque<Chunk>);

/// Whole frames, and the messages that say the same.
#[derive(Default)]
struct Chunk {
    frames: Vec<u8>,
    messages: Vec<u8>,
}

/// About as much as a batch holds. A thread keeps no more than so many chunks.
const MOST_CHUNKS: usize = 16;

thread_local! {
    static LATELY: RefCell<Lately> = RefCell::default();
}

impl<S: Sink> Translated<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            inner,
            left: Mutex::default(),
            backlog: AtomicUsize::new(0),
        }
    }

    /// Sends what is left, as far as the sink takes it.
    fn flush(&self, left: &mut Left) -> io::Result<()> {
        left.sent += send(&self.inner, &left.bytes[left.sent..])?;
        if left.sent == left.bytes.len() {
            // An idle socket keeps no room for it.
            left.bytes = Vec::new();
            left.sent = 0;
        }
        self.note(left);
        Ok(())
    }

    fn note(&self, left: &Left) {
        let backlog = left.bytes.len() - left.sent;
        self.backlog.store(backlog, Ordering::Release);
    }

    /// Sends messages of which nothing is left of those before, and keeps what the sink does not take.
    fn pass_on(&self, left: &mut Left, messages: &[u8]) -> io::Result<()> {
        let sent = send(&self.inner, messages)?;
        left.bytes = messages[sent..].to_vec();
        left.sent = 0;
        self.note(left);
        Ok(())
    }
}

/// Sends as much as the sink takes and says how much that was. When that is not all, the sink has been asked until it
/// refused: only then does it say when it takes more.
fn send(inner: &impl Sink, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match inner.try_write(&bytes[sent..]) {
            Ok(0) => break,
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

impl<S: Sink> Sink for Translated<S> {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut left = self.left.lock();
        self.flush(&mut left)?;
        if !left.bytes.is_empty() || self.inner.backlog() > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if bytes.is_empty() {
            return Ok(0);
        }
        if left.failed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        LATELY.with_borrow_mut(|lately| match lately.translated(bytes) {
            Ok(chunk) => {
                self.pass_on(&mut left, &chunk.messages)?;
                Ok(chunk.frames.len())
            }
            Err(fault) => {
                tracing::error!(
                    error = &fault as &dyn std::error::Error,
                    "a frame cannot be told over stack.v1.capnp, the socket ends"
                );
                left.failed = true;
                self.pass_on(&mut left, &last_words())?;
                Ok(bytes.len())
            }
        })
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner.poll_writable(cx)
    }

    fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Acquire) + self.inner.backlog()
    }

    fn try_flush(&self) -> io::Result<()> {
        let mut left = self.left.lock();
        self.inner.try_flush()?;
        self.flush(&mut left)
    }
}

impl Lately {
    /// The translation of whole frames from the beginning of `bytes` on, at least one. There must be some.
    fn translated(&mut self, bytes: &[u8]) -> Result<&Chunk, Fault> {
        let known = self
            .0
            .iter()
            .position(|chunk| bytes.starts_with(&chunk.frames));
        let chunk = match known.and_then(|at| self.0.remove(at)) {
            Some(chunk) => chunk,
            None => {
                let oldest = self.0.len() == MOST_CHUNKS;
                let mut chunk = oldest
                    .then(|| self.0.pop_back())
                    .flatten()
                    .unwrap_or_default();
                chunk.translate(bytes)?;
                chunk
            }
        };
        // A page is read once. It is not worth keeping, nor is the room that it took.
        self.0
            .retain(|chunk| chunk.messages.len() <= 2 * CHUNK_BYTES);
        self.0.push_front(chunk);
        Ok(&self.0[0])
    }
}

impl Chunk {
    /// Translates whole frames from the beginning of `bytes` on, until it is enough for once.
    fn translate(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.frames.clear();
        self.messages.clear();
        let mut taken = 0;
        while taken < bytes.len() && self.messages.len() < CHUNK_BYTES {
            match self.translate_one(&bytes[taken..]) {
                Ok(frame) => taken += frame,
                Err(fault) if taken == 0 => return Err(fault),
                // What is in front of it goes out first.
                Err(_) => break,
            }
        }
        self.frames.extend_from_slice(&bytes[..taken]);
        Ok(())
    }

    /// Translates the first frame and says how long it is.
    fn translate_one(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let frame = Frame::first_of(bytes).ok_or(Fault::NotAFrame)?;
        match frame.first & OPCODE {
            TEXT => {
                let message = ServerFrame::of(frame.payload)?;
                push_header(message.bytes(), &mut self.messages);
                message.push_to(&mut self.messages);
            }
            opcode if opcode & CONTROL != 0 => {
                self.messages.extend_from_slice(&bytes[..frame.bytes]);
            }
            _ => return Err(Fault::NotAFrame),
        }
        Ok(frame.bytes)
    }
}

/// Why frames cannot be translated. Neither happens unless something here is wrong.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("what is to be written is no frame of text")]
    NotAFrame,
    #[error(transparent)]
    Untranslatable(#[from] Untranslatable),
}

const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const TEXT: u8 = 0x01;
const FINAL: u8 = 0x80;
const FINAL_BINARY: u8 = FINAL | 0x02;
const FINAL_CLOSE: u8 = FINAL | 0x08;

/// A final, unmasked frame (RFC 6455, section 5.2).
struct Frame<'a> {
    first: u8,
    payload: &'a [u8],
    /// With its header.
    bytes: usize,
}

impl<'a> Frame<'a> {
    /// The frame with which these bytes begin, if all of it is there.
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let (&first, &second) = (bytes.first()?, bytes.get(1)?);
        let (header, payload) = match second {
            126 => {
                let length = bytes.get(2..4)?.try_into().ok()?;
                (4, usize::from(u16::from_be_bytes(length)))
            }
            127 => {
                let length = bytes.get(2..10)?.try_into().ok()?;
                (10, usize::try_from(u64::from_be_bytes(length)).ok()?)
            }
            short @ ..126 => (2, usize::from(short)),
            // A mask is for clients.
            _ => return None,
        };
        let end = payload.checked_add(header)?;
        let payload = bytes.get(header..end)?;
        (first & FINAL != 0).then_some(Self {
            first,
            payload,
            bytes: end,
        })
    }
}

/// The header of a final, unmasked binary frame.
fn push_header(length: usize, out: &mut Vec<u8>) {
    out.push(FINAL_BINARY);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ ..126), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// What a client is told in place of a frame that cannot be translated: an error of ours, and the close.
fn last_words() -> Vec<u8> {
    let code = ErrorCode::Internal;
    let problem = Problem::new(code, "something went wrong here; it has been logged");
    let mut words = Vec::new();
    if let Ok(message) = ServerFrame::of(&stack_proto::error(None, &problem)) {
        push_header(message.bytes(), &mut words);
        message.push_to(&mut words);
    }
    words.extend_from_slice(&[FINAL_CLOSE, 2]);
    words.extend_from_slice(&code.ws_close().unwrap_or(4500).to_be_bytes());
    words
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use stack_proto::capnp::server_frame_json;
    use stack_types::{Frames, FramesBuilder};

    use super::*;

    /// Takes so many bytes at a time, and none when it is told to.
    #[derive(Clone, Default)]
    struct Fake {
        taken: Arc<Mutex<Vec<u8>>>,
        room: Arc<AtomicUsize>,
    }

    impl Sink for Fake {
        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room.load(Ordering::Relaxed).min(bytes.len());
            if room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room.fetch_sub(room, Ordering::Relaxed);
            self.taken.lock().extend_from_slice(&bytes[..room]);
            Ok(room)
        }

        fn poll_writable(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn pong(id: u64) -> String {
        format!(r#"{{"type":"ok","id":{id},"payload":{{"ts":5}}}}"#)
    }

    fn frames(jsons: &[String]) -> Frames {
        let mut builder = FramesBuilder::default();
        for json in jsons {
            builder.push(json.as_bytes());
        }
        builder.finish()
    }

    /// What a client reads of what was sent: messages as JSON, control frames by their first byte.
    fn read(mut sent: &[u8]) -> Vec<String> {
        let mut said = Vec::new();
        while let Some(frame) = Frame::first_of(sent) {
            said.push(match frame.first {
                FINAL_BINARY => {
                    String::from_utf8(server_frame_json(frame.payload).unwrap()).unwrap()
                }
                control => format!("{control:x}"),
            });
            sent = &sent[frame.bytes..];
        }
        assert!(sent.is_empty());
        said
    }

    #[test]
    fn everything_comes_once_and_in_order_however_little_the_sink_takes() {
        let jsons: Vec<String> = (0..2000).map(pong).collect();
        let wire = frames(&jsons).wire().clone();
        for room in [1, 7, 1000, CHUNK_BYTES + 1] {
            let fake = Fake::default();
            let sink = Translated::new(fake.clone());
            let mut rest = &wire[..];
            while !rest.is_empty() || sink.backlog() > 0 {
                fake.room.store(room, Ordering::Relaxed);
                match sink.try_write(rest) {
                    Ok(taken) => rest = &rest[taken..],
                    Err(error) => {
                        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                        assert!(sink.backlog() <= CHUNK_BYTES + 200, "{}", sink.backlog());
                        sink.try_flush().unwrap();
                    }
                }
            }
            assert_eq!(read(&fake.taken.lock()), jsons);
        }
    }

    #[test]
    fn nothing_more_is_taken_while_something_is_left() {
        let fake = Fake::default();
        let sink = Translated::new(fake.clone());
        let wire = frames(&[pong(1), pong(2)]).wire().clone();
        fake.room.store(10, Ordering::Relaxed);
        assert_eq!(sink.try_write(&wire).unwrap(), wire.len());
        let left = sink.backlog();
        assert!(left > 0);
        let refused = sink.try_write(&wire).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(sink.backlog(), left);
        fake.room.store(1000, Ordering::Relaxed);
        sink.try_flush().unwrap();
        assert_eq!(sink.backlog(), 0);
        assert_eq!(read(&fake.taken.lock()), [pong(1), pong(2)]);
    }

    #[test]
    fn control_frames_go_through_as_they_are() {
        let fake = Fake::default();
        fake.room.store(1000, Ordering::Relaxed);
        let sink = Translated::new(fake.clone());
        let mut wire = vec![0x89, 0];
        wire.extend_from_slice(frames(&[pong(1)]).wire());
        wire.extend_from_slice(&[0x8a, 2, b'h', b'i']);
        assert_eq!(sink.try_write(&wire).unwrap(), wire.len());
        let sent = fake.taken.lock().clone();
        assert_eq!(read(&sent), ["89".to_owned(), pong(1), "8a".to_owned()]);
        assert!(sent.starts_with(&[0x89, 0]) && sent.ends_with(&[0x8a, 2, b'h', b'i']));
    }

    #[test]
    fn a_frame_without_a_translation_ends_the_socket_behind_what_came_before_it() {
        let fake = Fake::default();
        fake.room.store(1000, Ordering::Relaxed);
        let sink = Translated::new(fake.clone());
        let unknown = r#"{"type":"news","payload":{}}"#.to_owned();
        let wire = frames(&[pong(1), unknown, pong(2)]).wire().clone();
        let before = frames(&[pong(1)]).wire().len();
        assert_eq!(sink.try_write(&wire).unwrap(), before);
        sink.try_write(&wire[before..]).unwrap();
        let over = sink.try_write(frames(&[pong(3)]).wire()).unwrap_err();
        assert_eq!(over.kind(), io::ErrorKind::BrokenPipe);
        let sent = fake.taken.lock().clone();
        let said = read(&sent);
        assert_eq!(said.len(), 3);
        assert_eq!(said[0], pong(1));
        assert!(said[1].contains(r#""code":"internal""#), "{}", said[1]);
        assert_eq!(sent[sent.len() - 4..], [0x88, 2, 0x11, 0x94]);
    }

    #[test]
    fn one_subscriber_is_told_the_same_as_the_other() {
        // More than is kept of what was translated, and what begins alike.
        let jsons: Vec<String> = (0..6000).map(pong).collect();
        for range in [0..6000, 0..6000, 0..1, 0..2000, 0..3000, 1..2, 5999..6000] {
            let fake = Fake::default();
            fake.room.store(usize::MAX, Ordering::Relaxed);
            let sink = Translated::new(fake.clone());
            let wire = frames(&jsons[range.clone()]).wire().clone();
            let mut taken = 0;
            while taken < wire.len() {
                taken += sink.try_write(&wire[taken..]).unwrap();
            }
            assert!(
                read(&fake.taken.lock()) == jsons[range.clone()],
                "{range:?}"
            );
        }
    }
}
