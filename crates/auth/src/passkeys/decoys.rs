//! Passkeys of those who have none: who asks for the passkeys of a name learns nothing from the answer.
//!
//! What is made up depends on the name and a key of ours alone, so that it is the same each time.

use aws_lc_rs::hmac;

/// The lengths that authenticators of today give their credentials.
const LENGTHS: [usize; 8] = [16, 20, 20, 32, 32, 32, 48, 64];
/// As many passkeys of an account are listed at most, so that a longer list is no proof that it is real.
pub(crate) const MOST_LISTED: usize = 3;

/// Made-up credential ids for a name: one to [`MOST_LISTED`] of them.
pub(crate) fn decoys(key: &hmac::Key, login: &str) -> Vec<Vec<u8>> {
    let count = usize::from(part(key, login, 0)[0]) % MOST_LISTED + 1;
    (1..=count)
        .map(|number| {
            // What tells the length is drawn apart from what is shown.
            let [shape, ..] = part(key, login, number);
            let halves = [1, 2].map(|half| part(key, login, number + half * MOST_LISTED));
            let mut id = halves.concat();
            id.truncate(LENGTHS[usize::from(shape) % LENGTHS.len()]);
            id
        })
        .collect()
}

fn part(key: &hmac::Key, login: &str, number: usize) -> [u8; 32] {
    let mut context = hmac::Context::with_key(key);
    context.update(&[u8::try_from(number).unwrap_or(u8::MAX)]);
    context.update(login.as_bytes());
    let mut out = [0u8; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    #[test]
    fn decoys_are_stable_and_look_real() {
        let mut counts = HashSet::new();
        let mut seen = HashSet::new();
        let mut lengths = HashSet::new();
        for number in 0..100 {
            let name = format!("user{number}");
            let made_up = decoys(&key(1), &name);
            assert_eq!(made_up, decoys(&key(1), &name));
            assert_ne!(made_up, decoys(&key(2), &name));
            counts.insert(made_up.len());
            for id in made_up {
                lengths.insert(id.len());
                assert!(seen.insert(id), "two decoys are equal");
            }
        }
        assert_eq!(counts, HashSet::from([1, 2, 3]));
        assert_eq!(lengths, HashSet::from([16, 20, 32, 48, 64]));
    }

    proptest! {
        #[test]
        fn any_name_has_some(login in any::<String>()) {
            prop_assert!((1..=3).contains(&decoys(&key(1), &login).len()));
        }
    }
}
