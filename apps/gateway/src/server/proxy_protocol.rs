//! The PROXY protocol, versions 1 and 2: what a proxy says in front of a connection of whose it is.
//!
//! It is read from configured proxies only, and from them nothing else is taken: without it a connection would count
//! as the proxy's own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How version 2 begins.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1, its end included.
const LINE_BYTES: usize = 107;

/// Addresses take 216 bytes at most; what a proxy adds about TLS, a few hundred.
const MAX_BYTES: u16 = 4096;

/// Whose connection it is; `None` when it is the proxy's own, to look whether the gateway is there. Not a byte of what
/// stands behind is taken.
///
/// # Errors
/// It is not the PROXY protocol, or the connection is broken.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest line of version 1 is longer.
    let mut begin = [0; SIGNATURE.len()];
    stream.read_exact(&mut begin).await?;
    if begin == *SIGNATURE {
        return binary(stream).await;
    }
    if !begin.starts_with(b"PROXY ") {
        return Err(malformed("it does not begin like the PROXY protocol"));
    }
    let mut line = begin.to_vec();
    // Byte by byte, once in a connection's life: what stands behind is TLS or HTTP.
    while !line.ends_with(b"\r\n") {
        if line.len() == LINE_BYTES {
            return Err(malformed("its line does not end"));
        }
        line.push(stream.read_u8().await?);
    }
    let line = line.strip_suffix(b"\r\n").unwrap_or_default();
    text(std::str::from_utf8(line).map_err(|_| malformed("its line is not text"))?)
}

fn text(line: &str) -> io::Result<Option<SocketAddr>> {
    let words: Vec<_> = line.split(' ').collect();
    let (family, source, port) = match words[..] {
        [_, "UNKNOWN", ..] => return Ok(None),
        [_, family, source, _, port, _] => (family, source, port),
        _ => return Err(malformed("its line has too few words or too many")),
    };
    let ip: Option<IpAddr> = source.parse().ok();
    let ip = ip.filter(|ip| match family {
        "TCP4" => ip.is_ipv4(),
        "TCP6" => ip.is_ipv6(),
        _ => false,
    });
    match (ip, port.parse()) {
        (Some(ip), Ok(port)) => Ok(Some(SocketAddr::new(ip, port))),
        _ => Err(malformed("its line has no address")),
    }
}

async fn binary(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let [command, family] = [stream.read_u8().await?, stream.read_u8().await?];
    let length = stream.read_u16().await?;
    if length > MAX_BYTES {
        return Err(malformed("it is too long"));
    }
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await?;
    match command {
        // The proxy's own.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(malformed("its version or command is not known")),
    }
    let source = match family {
        0x11 => four(&body),
        0x21 => six(&body),
        // What has no address, and Unix sockets.
        0x00 | 0x31 => return Ok(None),
        // A client whose address is not understood must not count as the proxy.
        _ => return Err(malformed("its kind of address is not known")),
    };
    source
        .map(Some)
        .ok_or_else(|| malformed("its addresses are cut off"))
}

fn four(body: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 4] = body.get(..4)?.try_into().ok()?;
    let port: [u8; 2] = body.get(8..10)?.try_into().ok()?;
    body.get(..12)?;
    Some((Ipv4Addr::from(ip), u16::from_be_bytes(port)).into())
}

fn six(body: &[u8]) -> Option<SocketAddr> {
    let ip: [u8; 16] = body.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = body.get(32..34)?.try_into().ok()?;
    body.get(..36)?;
    Some((Ipv6Addr::from(ip), u16::from_be_bytes(port)).into())
}

fn malformed(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read, and what is left of the stream.
    async fn read_all(bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, Vec<u8>) {
        let mut stream = bytes;
        let read = read(&mut stream).await;
        let read = read.map(|source| source.map(|source| source.to_string()));
        (read.map_err(|error| error.kind()), stream.to_vec())
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes.extend(b"GET");
        bytes
    }

    #[tokio::test]
    async fn the_source_is_read_and_nothing_behind_it() {
        let mut six = [0; 36];
        six[15] = 1;
        six[32..34].copy_from_slice(&7_u16.to_be_bytes());
        // An extension stands behind the addresses.
        let mut four = vec![192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        four.extend([4, 0, 1, 0]);
        for (bytes, source) in [
            (
                b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\nGET".to_vec(),
                Some("192.0.2.1:56324"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 1 2\r\nGET".to_vec(),
                Some("[2001:db8::1]:1"),
            ),
            (b"PROXY UNKNOWN\r\nGET".to_vec(), None),
            (b"PROXY UNKNOWN a b c d\r\nGET".to_vec(), None),
            (version_2(0x21, 0x11, &four), Some("192.0.2.1:4660")),
            (version_2(0x21, 0x21, &six), Some("[::1]:7")),
            (version_2(0x20, 0, &[]), None),
            (version_2(0x21, 0x31, &[0; 216]), None),
            (version_2(0x21, 0x00, &[0; 8]), None),
        ] {
            let (read, rest) = read_all(&bytes).await;
            assert_eq!(read, Ok(source.map(str::to_owned)));
            assert_eq!(rest, b"GET");
        }
    }

    #[tokio::test]
    async fn what_is_none_is_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b' '; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 1\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 a b 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 2\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.1 10.0.0.1 1 2\r\n".to_vec(),
            long,
            version_2(0x31, 0x11, &[0; 12]),
            version_2(0x22, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 11]),
            // Datagrams, and what there is not.
            version_2(0x21, 0x12, &[0; 12]),
            version_2(0x21, 0x22, &[0; 36]),
            version_2(0x21, 0x32, &[0; 216]),
            version_2(0x21, 0x41, &[0; 12]),
            version_2(0x21, 0x21, &[0; 35]),
            version_2(0x21, 0x11, &[0; 5000]),
        ] {
            let (read, _) = read_all(&bytes).await;
            assert_eq!(read, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        for cut in [0, 5, 12, 15, 20] {
            let bytes = &version_2(0x21, 0x11, &[0; 12])[..cut];
            let (read, _) = read_all(bytes).await;
            assert_eq!(read, Err(io::ErrorKind::UnexpectedEof), "{cut}");
        }
    }
}
