//! The keys of CurveZMQ, which enciphers ZeroMQ over TCP and lets in whom one knows.
//!
//! Keys are written in Z85, 40 characters for 32 bytes. A pair is in a file as `pyzmq` and `czmq` write it: lines with
//! `public-key = "…"` and `secret-key = "…"`.

use std::fmt;
use std::str::FromStr;

/// The digits of Z85, <https://rfc.zeromq.org/spec/32/>.
const DIGITS: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CurveKey([u8; 32]);

/// A pair of keys. What is secret is never shown.
#[derive(Clone)]
pub struct CurveKeys {
    public: CurveKey,
    secret: [u8; 32],
}

/// How ZeroMQ is enciphered over TCP, at every address of it.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Of this process.
    pub keys: CurveKeys,
    /// Of who is dialled.
    pub server: Option<CurveKey>,
    /// Who may dial.
    pub authorized: Vec<CurveKey>,
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCurveKey {
    /// It is not 40 digits of Z85.
    #[error("a key is 40 characters of Z85")]
    Form,
    /// A file of a pair lacks one of the two.
    #[error("no line says {0} = \"…\"")]
    Missing(&'static str),
}

impl CurveKey {
    /// The key of 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Every key of a file with one on a line; what stands behind a `#` at a line's start is a remark.
    ///
    /// # Errors
    /// With the number of the first line that is no key.
    pub fn list(text: &str) -> Result<Vec<Self>, usize> {
        text.lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(at, line)| line.parse().map_err(|_: InvalidCurveKey| at))
            .collect()
    }
}

impl CurveKeys {
    /// Two keys that belong together, which is not checked.
    #[must_use]
    pub fn new(public: CurveKey, secret: [u8; 32]) -> Self {
        Self { public, secret }
    }

    /// The half that others may know.
    #[must_use]
    pub fn public(&self) -> CurveKey {
        self.public
    }

    #[cfg(feature = "with-zmq")]
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The pair as a file.
    #[must_use]
    pub fn to_file(&self) -> String {
        format!(
            "metadata\ncurve\n    public-key = \"{}\"\n    secret-key = \"{}\"\n",
            self.public,
            encode(&self.secret)
        )
    }
}

impl FromStr for CurveKeys {
    type Err = InvalidCurveKey;

    fn from_str(text: &str) -> Result<Self, InvalidCurveKey> {
        let value = |name: &'static str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(key, _)| key.trim() == name)
                .ok_or(InvalidCurveKey::Missing(name))
                .and_then(|(_, value)| decode(value.trim().trim_matches('"')))
        };
        Ok(Self {
            public: CurveKey(value("public-key")?),
            secret: value("secret-key")?,
        })
    }
}

impl FromStr for CurveKey {
    type Err = InvalidCurveKey;

    fn from_str(text: &str) -> Result<Self, InvalidCurveKey> {
        decode(text).map(Self)
    }
}

impl fmt::Display for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

impl fmt::Debug for CurveKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurveKey({self})")
    }
}

impl fmt::Debug for CurveKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurveKeys")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

fn encode(bytes: &[u8; 32]) -> String {
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .flat_map(|word| {
            let word = u32::from_be_bytes(*word);
            [4, 3, 2, 1, 0].map(|place| word / 85_u32.pow(place) % 85)
        })
        .map(|digit| char::from(DIGITS[digit as usize]))
        .collect()
}

fn decode(text: &str) -> Result<[u8; 32], InvalidCurveKey> {
    if text.len() != 40 {
        return Err(InvalidCurveKey::Form);
    }
    let mut bytes = [0; 32];
    let (words, _) = bytes.as_chunks_mut::<4>();
    let (groups, _) = text.as_bytes().as_chunks::<5>();
    for (group, word) in groups.iter().zip(words) {
        let mut value = 0u64;
        for digit in group {
            let digit = DIGITS.iter().position(|known| known == digit);
            value = value * 85 + digit.ok_or(InvalidCurveKey::Form)? as u64;
        }
        let value = u32::try_from(value).map_err(|_| InvalidCurveKey::Form)?;
        *word = value.to_be_bytes();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the manual of `zmq_curve_keypair`.
    const PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

    #[test]
    fn a_file_of_a_pair_is_read_and_written() {
        let file = format!(
            "#   ****  Generated  ****\nmetadata\ncurve\n    public-key = \"{PUBLIC}\"\n    secret-key = \"{SECRET}\"\n"
        );
        let keys: CurveKeys = file.parse().unwrap();
        assert_eq!(keys.public().to_string(), PUBLIC);
        let again: CurveKeys = keys.to_file().parse().unwrap();
        assert_eq!((again.public, again.secret), (keys.public, keys.secret));
        assert!(!format!("{keys:?}").contains(SECRET));
        let missing = file.replace("secret-key", "other").parse::<CurveKeys>();
        assert_eq!(missing.unwrap_err(), InvalidCurveKey::Missing("secret-key"));
    }

    #[test]
    fn a_list_tells_the_line_that_is_no_key() {
        let good = format!("# the archive\n{PUBLIC}\n\n  {SECRET}  \n");
        assert_eq!(CurveKey::list(&good).unwrap().len(), 2);
        assert_eq!(CurveKey::list(&format!("{PUBLIC}\n\nshort\n")), Err(3));
        assert_eq!(
            "#".repeat(40).parse::<CurveKey>(),
            Err(InvalidCurveKey::Form)
        );
        assert_eq!(
            "é".repeat(20).parse::<CurveKey>(),
            Err(InvalidCurveKey::Form)
        );
    }
}
