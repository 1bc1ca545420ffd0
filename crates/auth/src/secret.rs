//! Random secrets, their text, and their fingerprints. Nothing here has a `Debug` that shows a secret.

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stack_types::Problem;

/// Secrets are 256 bits.
pub(crate) const SECRET_BYTES: usize = 32;

/// 256 bits that nobody can guess.
pub(crate) fn random() -> Result<[u8; SECRET_BYTES], Problem> {
    let mut bytes = [0u8; SECRET_BYTES];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` with randomness.
pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), Problem> {
    rand::fill(bytes).map_err(Problem::internal)
}

/// How bytes stand in a token: base 64 for URLs, without padding.
pub(crate) fn to_text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The exactly `N` bytes that `text` stands for. Each value has one text only; any other spelling is refused.
pub(crate) fn from_text<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Checked first, so that a megabyte of text is never decoded.
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// What is kept of a secret: its SHA-256. A secret of 256 random bits needs no salt and no slow hash.
pub(crate) fn fingerprint(secret: &[u8]) -> [u8; SECRET_BYTES] {
    let mut out = [0u8; SECRET_BYTES];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret).as_ref());
    out
}

/// Whether two secrets are equal, in a time that does not tell where they differ.
pub(crate) fn same(left: &[u8], right: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(left, right).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_differ_and_read_back() {
        let (one, two) = (random().unwrap(), random().unwrap());
        assert_ne!(one, two);
        assert_eq!(to_text(&one).len(), 43);
        assert_eq!(from_text::<32>(&to_text(&one)), Some(one));
        assert_eq!(from_text::<16>(&to_text(&one)), None);
    }

    proptest! {
        #[test]
        fn a_value_has_one_text(text in "[A-Za-z0-9_=+/-]{43}") {
            if let Some(bytes) = from_text::<32>(&text) {
                prop_assert_eq!(to_text(&bytes), text);
            }
        }

        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = from_text::<32>(&text);
        }
    }
}
