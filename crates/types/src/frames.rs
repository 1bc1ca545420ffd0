//! Frames that are ready to send: JSON texts laid out one behind the other in one shared buffer, each behind the
//! header of an unmasked WebSocket text frame. A run of them goes to a socket in one write, without a copy; one
//! of them alone is a slice. What is encoded once is thus written, published, logged and paged from one buffer.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::Seq;

/// Where one frame stands in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    header: u32,
    body: u32,
    end: u32,
}

/// Some frames in one buffer. Cloning shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    bytes: Bytes,
    marks: Arc<[Mark]>,
}

impl Frames {
    /// One frame.
    #[must_use]
    pub fn one(json: &[u8]) -> Self {
        // Every event that comes over a wire goes through here: two allocations, of just what is needed.
        let body = text_header_len(json.len());
        let mut bytes = Vec::with_capacity(body + json.len());
        push_text_header(json.len(), &mut bytes);
        bytes.extend_from_slice(json);
        let offset = |at: usize| u32::try_from(at).expect(BELOW_4_GIB);
        let mark = Mark {
            header: 0,
            body: offset(body),
            end: offset(bytes.len()),
        };
        Self {
            bytes: bytes.into(),
            marks: Arc::new([mark]),
        }
    }

    /// Frames that were laid out before: `wire` as [`Frames::wire`] gave it, `ends` where each frame ends in it.
    /// `None` when the two do not fit together.
    #[must_use]
    pub fn from_wire(wire: Bytes, ends: impl IntoIterator<Item = u32>) -> Option<Self> {
        let mut marks = Vec::new();
        let mut header = 0;
        for end in ends {
            let frame = wire.get(header as usize..end as usize)?;
            let body = header + header_len(frame)?;
            marks.push(Mark { header, body, end });
            header = end;
        }
        (header as usize == wire.len()).then(|| Self {
            bytes: wire,
            marks: marks.into(),
        })
    }

    /// Where each frame ends in [`Frames::wire`].
    pub fn ends(&self) -> impl Iterator<Item = u32> + '_ {
        self.marks.iter().map(|mark| mark.end)
    }

    /// How many frames these are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// All of them as they go to a socket.
    #[must_use]
    pub fn wire(&self) -> &Bytes {
        &self.bytes
    }

    /// The frames of `range` as they go to a socket. Empty for an empty range.
    #[must_use]
    pub fn wire_range(&self, range: Range<usize>) -> Bytes {
        match self.marks.get(range) {
            Some([first, .., last]) => self.bytes.slice(first.header as usize..last.end as usize),
            Some([only]) => self.bytes.slice(only.header as usize..only.end as usize),
            _ => Bytes::new(),
        }
    }

    /// The frames from `index` on as they go to a socket. Empty behind the last.
    #[must_use]
    pub fn wire_from(&self, index: usize) -> &[u8] {
        let start = self.marks.get(index).map(|mark| mark.header as usize);
        start.map_or(&[], |start| &self.bytes[start..])
    }

    /// How many whole frames the first `bytes` bytes of `wire_range(from..)` hold, and where in that slice the
    /// frame ends that the boundary cuts; `None` when it cuts none.
    #[must_use]
    pub fn split_at(&self, from: usize, bytes: usize) -> (usize, Option<usize>) {
        let Some(start) = self.marks.get(from).map(|mark| mark.header as usize) else {
            return (0, None);
        };
        let reached = start.saturating_add(bytes);
        let whole = self.marks[from..].partition_point(|mark| mark.end as usize <= reached);
        let cut = self
            .marks
            .get(from + whole)
            .filter(|mark| (mark.header as usize) < reached)
            .map(|mark| mark.end as usize - start);
        (whole, cut)
    }

    /// The JSON text of frame `index`.
    ///
    /// # Panics
    /// When there is no such frame.
    #[must_use]
    pub fn json(&self, index: usize) -> Bytes {
        let mark = self.marks[index];
        self.bytes.slice(mark.body as usize..mark.end as usize)
    }

    /// The JSON texts in order.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> + '_ {
        (0..self.len()).map(|index| self.json(index))
    }
}

/// It is out of reach: pages, batches and frames are bounded far below it.
const BELOW_4_GIB: &str = "a buffer of frames stays below 4 GiB";

/// Lays frames out one behind the other.
#[derive(Debug, Default)]
pub struct FramesBuilder {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
}

impl FramesBuilder {
    /// A builder with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            marks: Vec::new(),
        }
    }

    /// Appends one frame.
    pub fn push(&mut self, json: &[u8]) {
        let header = self.bytes.len();
        push_text_header(json.len(), &mut self.bytes);
        let body = self.bytes.len();
        self.bytes.extend_from_slice(json);
        let offset = |at: usize| u32::try_from(at).expect(BELOW_4_GIB);
        self.marks.push(Mark {
            header: offset(header),
            body: offset(body),
            end: offset(self.bytes.len()),
        });
    }

    /// Appends frames that are laid out already.
    pub fn extend(&mut self, frames: &Frames, range: Range<usize>) {
        let wire = frames.wire_range(range.clone());
        let Some(first) = frames.marks.get(range.start) else {
            return;
        };
        let (from, to) = (first.header as usize, self.bytes.len());
        let offset = |at: u32| u32::try_from(at as usize - from + to).expect(BELOW_4_GIB);
        self.marks
            .extend(frames.marks[range].iter().map(|mark| Mark {
                header: offset(mark.header),
                body: offset(mark.body),
                end: offset(mark.end),
            }));
        self.bytes.extend_from_slice(&wire);
    }

    /// The JSON text of frame `index`.
    #[must_use]
    pub fn json(&self, index: usize) -> Option<&[u8]> {
        let mark = self.marks.get(index)?;
        self.bytes.get(mark.body as usize..mark.end as usize)
    }

    /// How many bytes there are so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many frames there are so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The frames.
    #[must_use]
    pub fn finish(self) -> Frames {
        Frames {
            bytes: self.bytes.into(),
            marks: self.marks.into(),
        }
    }
}

/// The header of a final, unmasked text frame (RFC 6455, section 5.2).
fn push_text_header(len: usize, out: &mut Vec<u8>) {
    const FINAL_TEXT: u8 = 0x81;
    out.push(FINAL_TEXT);
    if let Ok(short) = u8::try_from(len)
        && short < 126
    {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(len as u64).to_be_bytes());
    }
}

/// How long the header is that [`push_text_header`] writes.
fn text_header_len(len: usize) -> usize {
    match len {
        0..126 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

/// How long the header in front of a frame is; `None` when the bytes are none of ours.
fn header_len(frame: &[u8]) -> Option<u32> {
    let (len, told) = match *frame.get(1)? {
        126 => (
            4,
            usize::from(u16::from_be_bytes(frame.get(2..4)?.try_into().ok()?)),
        ),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(frame.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    (told.checked_add(len as usize)? == frame.len()).then_some(len)
}

/// Consecutive events of one room, as frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventBatch {
    first: Seq,
    frames: Frames,
}

impl EventBatch {
    /// Frames numbered from `first` on.
    #[must_use]
    pub fn new(first: Seq, frames: Frames) -> Self {
        Self { first, frames }
    }

    /// Batches that follow each other without a hole, as one.
    ///
    /// # Panics
    /// When there are none.
    #[must_use]
    pub fn joined(batches: &[Self]) -> Self {
        if let [only] = batches {
            return only.clone();
        }
        let bytes = batches.iter().map(|batch| batch.frames.wire().len()).sum();
        let mut builder = FramesBuilder::with_capacity(bytes);
        for batch in batches {
            builder.extend(&batch.frames, 0..batch.frames.len());
        }
        Self::new(batches[0].first, builder.finish())
    }

    /// The number of the first event.
    #[must_use]
    pub fn first(&self) -> Seq {
        self.first
    }

    /// The number of the last event; the one before `first` when there is none.
    #[must_use]
    pub fn last(&self) -> Seq {
        Seq(self.first.0 + self.frames.len() as u64).prev()
    }

    /// The frames.
    #[must_use]
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    /// The index of the first frame behind `cursor`; `len()` when there is none.
    #[must_use]
    pub fn index_after(&self, cursor: Seq) -> usize {
        let skipped = cursor.next().0.saturating_sub(self.first.0);
        usize::try_from(skipped).map_or(self.frames.len(), |skipped| skipped.min(self.frames.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Frames {
        let mut builder = FramesBuilder::default();
        builder.push(b"{}");
        builder.push(&[b'x'; 300]);
        builder.push(&[b'y'; 70_000]);
        builder.finish()
    }

    #[test]
    fn frames_carry_their_headers() {
        let frames = three();
        assert_eq!(&frames.wire()[..4], &[0x81, 2, b'{', b'}']);
        assert_eq!(&frames.wire_range(1..2)[..4], &[0x81, 126, 1, 44]);
        assert_eq!(
            &frames.wire_range(2..3)[..10],
            &[0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
        );
        assert_eq!(frames.json(1).len(), 300);
        assert_eq!(frames.wire_range(0..3), frames.wire());
        assert!(frames.wire_range(3..3).is_empty());
        assert_eq!(frames.wire_from(1), frames.wire_range(1..3));
        assert!(frames.wire_from(3).is_empty());
    }

    #[test]
    fn one_frame_is_as_one_of_many() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            let json = vec![b'x'; len];
            let mut builder = FramesBuilder::default();
            builder.push(&json);
            assert_eq!(Frames::one(&json), builder.finish(), "{len}");
        }
    }

    #[test]
    fn a_cut_falls_in_or_between_frames() {
        let frames = three();
        assert_eq!(frames.split_at(0, 0), (0, None));
        assert_eq!(frames.split_at(0, 1), (0, Some(4)));
        assert_eq!(frames.split_at(0, 4), (1, None));
        assert_eq!(frames.split_at(0, 5), (1, Some(308)));
        assert_eq!(frames.split_at(1, 304), (1, None));
        assert_eq!(frames.split_at(1, 305), (1, Some(304 + 70_010)));
        assert_eq!(frames.split_at(3, 0), (0, None));
    }

    #[test]
    fn frames_come_back_from_their_bytes_and_join() {
        let frames = three();
        let ends: Vec<u32> = frames.ends().collect();
        let again = Frames::from_wire(frames.wire().clone(), ends.clone()).unwrap();
        assert_eq!(again, frames);
        assert!(Frames::from_wire(frames.wire().slice(1..), ends.clone()).is_none());
        assert!(Frames::from_wire(frames.wire().clone(), ends[..2].to_vec()).is_none());

        let mut builder = FramesBuilder::default();
        builder.push(b"[]");
        builder.extend(&frames, 1..3);
        builder.extend(&frames, 3..3);
        assert_eq!(builder.json(1).unwrap().len(), 300);
        let joined = builder.finish();
        assert_eq!(
            joined.iter().map(|json| json.len()).collect::<Vec<_>>(),
            [2, 300, 70_000]
        );
        assert_eq!(joined.json(2), frames.json(2));
    }

    #[test]
    fn batches_that_follow_each_other_are_joined() {
        let batches = [10, 13].map(|first| EventBatch::new(Seq(first), three()));
        let joined = EventBatch::joined(&batches);
        assert_eq!((joined.first(), joined.last()), (Seq(10), Seq(15)));
        assert_eq!(joined.frames().json(5), three().json(2));
        assert_eq!(EventBatch::joined(&batches[..1]), batches[0]);
    }

    #[test]
    fn a_batch_finds_what_a_cursor_has_not_seen() {
        let batch = EventBatch::new(Seq(10), three());
        assert_eq!(batch.last(), Seq(12));
        let index = |cursor| batch.index_after(Seq(cursor));
        assert_eq!(
            [index(0), index(9), index(10), index(12), index(99)],
            [0, 0, 1, 3, 3]
        );
    }
}
