//! Recovery codes: 80 random bits each, written in base 32 in four groups. They are hashed with a key, since a hash
//! without one of so few bits could be searched by whoever has the file.

use aws_lc_rs::hmac;
use stack_storage::Fingerprint;
use stack_types::{Problem, UserId};
use totp_rs::Secret;

use crate::secret;

/// How many an account has at once.
pub(crate) const COUNT: usize = 10;
const BYTES: usize = 10;
const CHARS: usize = 16;
const GROUP: usize = 4;

/// A new set, as it is shown once.
pub(crate) fn new_set() -> Result<Vec<String>, Problem> {
    (0..COUNT).map(|_| new()).collect()
}

fn new() -> Result<String, Problem> {
    let mut bytes = [0u8; BYTES];
    secret::fill(&mut bytes)?;
    let text = Secret::new(bytes.into()).to_base32().to_ascii_lowercase();
    let mut shown = String::with_capacity(CHARS + CHARS / GROUP);
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % GROUP == 0 {
            shown.push('-');
        }
        shown.push(character);
    }
    Ok(shown)
}

/// A typed code in its one spelling: case, dashes and blanks do not matter.
fn read(typed: &str) -> Option<String> {
    // Checked first, so that a megabyte of text is never copied.
    if typed.len() > 4 * CHARS {
        return None;
    }
    let code: String = typed
        .chars()
        .filter(|c| *c != '-' && !c.is_whitespace())
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let is_base32 = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    (code.len() == CHARS && code.bytes().all(is_base32)).then_some(code)
}

/// What is kept of a code; `None` for what can be none.
pub(crate) fn hash(key: &hmac::Key, owner: UserId, typed: &str) -> Option<Fingerprint> {
    let code = read(typed)?;
    // The code has a fixed length and stands first, so that no other pair gives the same bytes.
    let tag = hmac::sign(key, format!("{code}{owner}").as_bytes());
    let mut hash = [0u8; 32];
    hash.copy_from_slice(tag.as_ref());
    Some(hash)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use stack_types::Timestamp;

    use super::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[1; 32])
    }

    #[test]
    fn a_set_is_ten_codes_of_eighty_bits() {
        let set = new_set().unwrap();
        assert_eq!(set.iter().collect::<HashSet<_>>().len(), 10);
        for code in &set {
            assert_eq!(code.len(), 19, "{code}");
            assert_eq!(read(code).unwrap().len(), 16);
        }
    }

    #[test]
    fn case_dashes_and_blanks_do_not_matter_and_the_owner_does() {
        let (ann, bob) = (
            UserId::generate(Timestamp(1)),
            UserId::generate(Timestamp(2)),
        );
        let code = new().unwrap();
        let hashed = hash(&key(), ann, &code);
        assert!(hashed.is_some());
        for typed in [
            code.to_uppercase(),
            code.replace('-', ""),
            format!(" {} ", code.replace('-', " - ")),
        ] {
            assert_eq!(hash(&key(), ann, &typed), hashed, "{typed}");
        }
        assert_ne!(hash(&key(), bob, &code), hashed);
        for none in [
            "",
            "aaaa-bbbb-cccc-ddd",
            "aaaa-bbbb-cccc-ddd1",
            "aaaa-bbbb-cccc-dddd-e",
        ] {
            assert_eq!(hash(&key(), ann, none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(typed in any::<String>()) {
            let _ = hash(&key(), UserId::generate(Timestamp(1)), &typed);
        }
    }
}
