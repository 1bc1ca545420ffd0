//! A file that is looked at and never changed. The engine repairs and notes what it likes; that is kept in memory and
//! gone with it.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Bound;

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// What is kept of the engine's writes comes in pieces of this size.
const PIECE: u64 = 4096;

/// The file, and over it what the engine wrote.
#[derive(Debug)]
pub(crate) struct Overlay {
    file: FileBackend,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    /// How long the engine takes the file to be.
    len: u64,
    /// How much of the file itself still shows.
    shown: u64,
    pieces: HashMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Over a file that need not be writable.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self {
            file: FileBackend::new(file).map_err(io::Error::other)?,
            over: Mutex::new(Over {
                len,
                shown: len,
                pieces: HashMap::new(),
            }),
        })
    }

    /// A piece as it was before the engine wrote into it.
    fn read_file(&self, shown: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = shown.saturating_sub(offset).min(out.len() as u64);
        let there = usize::try_from(there).unwrap_or(out.len());
        let (read, zero) = out.split_at_mut(there);
        zero.fill(0);
        match read.is_empty() {
            true => Ok(()),
            false => self.file.read(offset, read),
        }
    }
}

/// The piece that a place is in, the place in it, and how many bytes of `left` are in it.
fn piece_of(offset: u64, left: usize) -> (u64, usize, usize) {
    let within = usize::try_from(offset % PIECE).unwrap_or(0);
    (offset / PIECE, within, left.min(PIECE as usize - within))
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock();
        if offset.saturating_add(out.len() as u64) > over.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if over.pieces.is_empty() {
            return self.read_file(over.shown, offset, out);
        }
        let mut at = 0;
        while at < out.len() {
            let place = offset + at as u64;
            let (number, within, bytes) = piece_of(place, out.len() - at);
            let to = &mut out[at..at + bytes];
            match over.pieces.get(&number) {
                Some(piece) => to.copy_from_slice(&piece[within..within + bytes]),
                None => self.read_file(over.shown, place, to)?,
            }
            at += bytes;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut over = self.over.lock();
        over.len = len;
        over.shown = over.shown.min(len);
        // What is cut off and grown again is zero.
        over.pieces.retain(|number, _| number * PIECE < len);
        if let Some(piece) = over.pieces.get_mut(&(len / PIECE)) {
            let end = usize::try_from(len % PIECE).unwrap_or(0);
            piece[end..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock();
        let mut at = 0;
        while at < data.len() {
            let (number, within, bytes) = piece_of(offset + at as u64, data.len() - at);
            if !over.pieces.contains_key(&number) {
                let mut piece = vec![0; PIECE as usize].into_boxed_slice();
                self.read_file(over.shown, number * PIECE, &mut piece)?;
                over.pieces.insert(number, piece);
            }
            if let Some(piece) = over.pieces.get_mut(&number) {
                piece[within..within + bytes].copy_from_slice(&data[at..at + bytes]);
            }
            at += bytes;
        }
        over.len = over.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    /// Whoever only looks keeps writers out and nobody else.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
