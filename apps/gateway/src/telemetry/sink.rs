//! Where log lines go without anybody waiting for it: a bounded queue and a thread that writes.
//!
//! Whoever logs never touches the file or the pipe. When nobody takes the lines the queue fills up, and what comes then
//! is dropped and counted; when it goes on, a line says how many are missing.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait at most …
const LINES: usize = 8192;
/// … and their bytes.
const BYTES: usize = 4 * 1024 * 1024;
/// Lines are written together up to so many bytes: what a pipe holds.
const AT_ONCE_BYTES: usize = 64 * 1024;
/// A line is cut here: no message of ours is as long, and one of elsewhere must not fill the queue.
const LINE_BYTES: usize = 32 * 1024;

/// Lines lost in this process. There is one log of a process, so there is one count.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines that were lost because nobody took them, since the start of the process.
#[must_use]
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Makes the line that says how many are missing, and why they could not be written; without that nobody took them.
pub(super) type Missing = fn(u64, Option<&io::Error>) -> String;

/// The near end of the queue. Cloning shares it.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    queue: SyncSender<Entry>,
    waiting: Arc<AtomicUsize>,
    dropped: &'static AtomicU64,
    /// Lines are written, or no more; a writer that panicked must not leave anybody waiting for it.
    writing: Arc<AtomicBool>,
}

enum Entry {
    Line(Vec<u8>),
    /// Told when everything in front of it is written.
    Flush(SyncSender<()>),
}

impl Sink {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// There can be no more threads.
    pub(super) fn start(out: impl Write + Send + 'static, missing: Missing) -> io::Result<Self> {
        Self::with(out, missing, LINES, &DROPPED)
    }

    fn with(
        out: impl Write + Send + 'static,
        missing: Missing,
        lines: usize,
        dropped: &'static AtomicU64,
    ) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(lines);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writing = Arc::new(AtomicBool::new(true));
        let writer = Writer {
            entries,
            out,
            missing,
            waiting: waiting.clone(),
            told: dropped.load(Ordering::Relaxed),
            failed: None,
            dropped,
        };
        let guard = Writing(writing.clone());
        thread::Builder::new()
            .name("log-writer".into())
            .spawn(move || {
                let _guard = guard;
                writer.run();
            })?;
        Ok(Self {
            queue,
            waiting,
            dropped,
            writing,
        })
    }

    /// Queues a line, or counts it as lost. Never waits.
    pub(super) fn line(&self, line: &[u8]) {
        let line = &line[..line.len().min(LINE_BYTES)];
        let waiting = self.waiting.fetch_add(line.len(), Ordering::Relaxed);
        let has_room = waiting + line.len() <= BYTES;
        if has_room && self.queue.try_send(Entry::Line(line.to_vec())).is_ok() {
            return;
        }
        self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until everything is written, but no longer than this: who reads the log may never read on.
    pub(super) fn flush(&self, patience: Duration) {
        const PAUSE: Duration = Duration::from_millis(5);
        let (told, written) = mpsc::sync_channel(1);
        let mut entry = Entry::Flush(told);
        let mut left = patience;
        while self.writing.load(Ordering::Acquire) {
            match self.queue.try_send(entry) {
                Ok(()) => {
                    let _ = written.recv_timeout(left);
                    return;
                }
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => entry = back,
            }
            if left.is_zero() {
                return;
            }
            let pause = PAUSE.min(left);
            thread::sleep(pause);
            left -= pause;
        }
    }
}

/// Says that the writer has ended, however it ends.
struct Writing(Arc<AtomicBool>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

struct Writer<W> {
    entries: Receiver<Entry>,
    out: W,
    missing: Missing,
    waiting: Arc<AtomicUsize>,
    dropped: &'static AtomicU64,
    /// Lost lines that a line has told of.
    told: u64,
    /// Why the last of them could not be written.
    failed: Option<io::Error>,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut together = Vec::new();
        while let Ok(first) = self.entries.recv() {
            let mut next = Some(first);
            let mut flushes = Vec::new();
            let mut lines = 0;
            while let Some(entry) = next {
                match entry {
                    Entry::Line(line) => {
                        lines += 1;
                        self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                        together.extend_from_slice(&line);
                        if !line.ends_with(b"\n") {
                            together.push(b'\n');
                        }
                    }
                    Entry::Flush(told) => flushes.push(told),
                }
                next = match together.len() < AT_ONCE_BYTES {
                    true => self.entries.try_recv().ok(),
                    false => None,
                };
            }
            self.write(&together, lines);
            together.clear();
            self.tell_missing();
            for told in flushes {
                // Who asked may have stopped waiting.
                let _ = told.try_send(());
            }
        }
    }

    fn write(&mut self, bytes: &[u8], lines: u64) {
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        if let Err(error) = written {
            // There is nowhere to tell it yet: the metric does.
            self.dropped.fetch_add(lines, Ordering::Relaxed);
            self.failed = Some(error);
        }
    }

    fn tell_missing(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped == self.told {
            return;
        }
        let line = (self.missing)(dropped - self.told, self.failed.as_ref());
        if self.out.write_all(line.as_bytes()).is_ok() {
            self.told = dropped;
            self.failed = None;
        }
    }
}

/// One line: the formatter writes each with a single call.
#[derive(Debug)]
pub(super) struct LineWriter<'a>(&'a Sink);

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter(self)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A count of the test's own.
    fn count() -> &'static AtomicU64 {
        Box::leak(Box::default())
    }

    fn lost(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }

    /// Says what it is to write, and goes on when it is told to.
    struct Held {
        asked: Sender<String>,
        go_on: Receiver<()>,
    }

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            self.asked
                .send(text)
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            // Told once and for all when the other side is gone.
            let _ = self.go_on.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn missing(count: u64, failed: Option<&io::Error>) -> String {
        let why = failed.map(|error| format!(", {}", error.kind()));
        format!("{count} missing{}\n", why.unwrap_or_default())
    }

    #[test]
    fn who_logs_never_waits_and_what_is_lost_is_told() {
        let dropped = count();
        let (asked, written) = channel();
        let (go, go_on) = channel();
        let sink = Sink::with(Held { asked, go_on }, missing, 2, dropped).unwrap();
        sink.line(b"one\n");
        // The writer is held up with it, so that the queue fills.
        assert_eq!(written.recv().unwrap(), "one\n");
        for line in ["two\n", "three\n", "four\n", "five\n"] {
            sink.line(line.as_bytes());
        }
        assert_eq!(lost(dropped), 2);
        sink.flush(Duration::from_millis(20));
        drop(go);
        assert_eq!(written.recv().unwrap(), "2 missing\n");
        assert_eq!(written.recv().unwrap(), "two\nthree\n");
        sink.line(b"six\n");
        sink.flush(Duration::from_secs(20));
        assert_eq!(written.recv().unwrap(), "six\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let dropped = count();
        let sink = Sink::with(Broken, missing, LINES, dropped).unwrap();
        sink.line(b"one\n");
        sink.flush(Duration::from_secs(20));
        assert_eq!(lost(dropped), 1);
    }

    #[test]
    fn why_lines_are_missing_is_told_when_there_is_room_again() {
        /// Full at first, and then hands on what it is given.
        struct Full {
            is_full: bool,
            written: Sender<String>,
        }
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if std::mem::take(&mut self.is_full) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                let _ = self.written.send(text);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (asked, written) = channel();
        let out = Full {
            is_full: true,
            written: asked,
        };
        let sink = Sink::with(out, missing, LINES, count()).unwrap();
        sink.line(b"one\n");
        assert_eq!(written.recv().unwrap(), "1 missing, no storage space\n");
    }

    #[test]
    fn bytes_that_wait_are_bounded_as_lines_are() {
        let dropped = count();
        let (asked, written) = channel();
        let (go, go_on) = channel::<()>();
        let sink = Sink::with(Held { asked, go_on }, missing, LINES, dropped).unwrap();
        sink.line(b"first\n");
        assert_eq!(written.recv().unwrap(), "first\n");
        let longest = [b'x'; 2 * LINE_BYTES];
        for _ in 0..BYTES / LINE_BYTES {
            sink.line(&longest);
        }
        assert_eq!(lost(dropped), 0);
        sink.line(b"one more\n");
        assert_eq!(lost(dropped), 1);
        drop((go, written));
    }
}
