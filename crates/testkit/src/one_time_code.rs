//! What an authenticator app shows (RFC 6238: SHA-1, six digits, thirty seconds), made without the library that the
//! gateway checks it with.

use aws_lc_rs::hmac;

/// The code of a secret in base 32 at a time.
#[must_use]
pub fn one_time_code(secret: &str, unix_s: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &from_base32(secret));
    let tag = hmac::sign(&key, &(unix_s / 30).to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 0xf);
    let word: [u8; 4] = tag[at..at + 4].try_into().expect("four bytes");
    format!(
        "{:06}",
        (u32::from_be_bytes(word) & 0x7fff_ffff) % 1_000_000
    )
}

fn from_base32(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut bits, mut held, mut bytes) = (0u32, 0, Vec::new());
    for letter in text.bytes() {
        let five = ALPHABET.iter().position(|known| *known == letter);
        bits = bits << 5 | five.expect("a letter of base 32") as u32;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        assert_eq!(super::one_time_code(secret, 59), "287082");
        assert_eq!(super::one_time_code(secret, 1_111_111_109), "081804");
    }
}
