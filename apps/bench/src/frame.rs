//! The little of WebSocket framing that a client under load needs: masked frames out, unmasked frames in, without a
//! copy. A library would do more work for each frame than the servers that are measured.

/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub(crate) const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 0x9;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 0xA;

/// Masks are there against proxies that take a payload for a request; there is none here, so one key will do.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a final frame, masked as a client's has to be.
pub(crate) fn push(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    if let Ok(short) = u8::try_from(payload.len())
        && short < 126
    {
        out.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(payload.len()) {
        out.push(0x80 | 126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(0x80 | 127);
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    }
    out.extend_from_slice(&MASK);
    let start = out.len();
    out.extend_from_slice(payload);
    for chunk in out[start..].chunks_mut(MASK.len()) {
        for (byte, mask) in chunk.iter_mut().zip(MASK) {
            *byte ^= mask;
        }
    }
}

/// A frame in a buffer of received bytes.
pub(crate) struct Frame<'a> {
    /// Its opcode; 0 for the continuation of a message.
    pub(crate) opcode: u8,
    /// What it carries.
    pub(crate) payload: &'a [u8],
    /// Its length with its header: where the next one starts.
    pub(crate) len: usize,
}

/// The frame at the start of `bytes`; `None` when it is not there as a whole.
pub(crate) fn first(bytes: &[u8]) -> Option<Frame<'_>> {
    let (&[head, short], rest) = bytes.split_first_chunk::<2>()?;
    let (header, payload_len) = match short & 0x7f {
        126 => {
            let (len, _) = rest.split_first_chunk::<2>()?;
            (4, usize::from(u16::from_be_bytes(*len)))
        }
        127 => {
            let (len, _) = rest.split_first_chunk::<8>()?;
            (10, usize::try_from(u64::from_be_bytes(*len)).ok()?)
        }
        len => (2, usize::from(len)),
    };
    let len = header + payload_len;
    Some(Frame {
        opcode: head & 0x0f,
        payload: bytes.get(header..len)?,
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_found_only_as_a_whole() {
        for size in [0, 125, 126, 65_535, 65_536] {
            let mut server = vec![0x81];
            match size {
                0..126 => server.push(size as u8),
                126..65_536 => {
                    server.push(126);
                    server.extend_from_slice(&(size as u16).to_be_bytes());
                }
                _ => {
                    server.push(127);
                    server.extend_from_slice(&(size as u64).to_be_bytes());
                }
            }
            server.extend(std::iter::repeat_n(b'x', size));
            assert!(first(&server[..server.len() - 1]).is_none());
            server.push(b'!');
            let frame = first(&server).unwrap();
            assert_eq!(
                (frame.opcode, frame.payload.len(), frame.len),
                (TEXT, size, server.len() - 1)
            );
        }
    }

    #[test]
    fn masking_can_be_undone() {
        let mut out = Vec::new();
        push(TEXT, b"hello there", &mut out);
        assert_eq!(&out[..2], &[0x81, 0x80 | 11]);
        let plain: Vec<u8> = out[6..]
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(b, m)| b ^ m)
            .collect();
        assert_eq!(plain, b"hello there");
    }
}
