//! Secrets that are needed again, as they stand in the file: sealed with a key that is not in it. A sealed text is
//! bound to its purpose and its owner, so that nobody can put one account's secret in another's place.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use stack_types::Problem;

use crate::keys::KeyError;
use crate::secret;

/// Seals and opens.
pub(crate) struct Sealer(LessSafeKey);

/// What was sealed with another key, for something else, or was changed.
#[derive(Debug, thiserror::Error)]
#[error("a sealed secret cannot be opened")]
struct Unsealable;

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Result<Self, KeyError> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(
            &CHACHA20_POLY1305,
            key,
        )?)))
    }

    /// Nonce and sealed text. The nonce is random: it repeats with a chance of 2⁻³² after four billion secrets.
    pub(crate) fn seal(
        &self,
        purpose: &str,
        owner: &str,
        plain: &[u8],
    ) -> Result<Vec<u8>, Problem> {
        let mut nonce = [0u8; NONCE_LEN];
        secret::fill(&mut nonce)?;
        let mut sealed = plain.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                aad(purpose, owner),
                &mut sealed,
            )
            .map_err(Problem::internal)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed for this purpose and owner.
    ///
    /// # Errors
    /// `internal`: the key or the file is not what it was.
    pub(crate) fn open(
        &self,
        purpose: &str,
        owner: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, Problem> {
        let unsealable = || Problem::internal(Unsealable);
        let (nonce, text) = sealed.split_first_chunk().ok_or_else(unsealable)?;
        let mut text = text.to_vec();
        let plain = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                aad(purpose, owner),
                &mut text,
            )
            .map_err(|_| unsealable())?;
        Ok(plain.to_vec())
    }
}

/// Purposes are ours and hold no zero, so that the two parts cannot run into each other.
fn aad(purpose: &str, owner: &str) -> Aad<Vec<u8>> {
    Aad::from([purpose.as_bytes(), &[0], owner.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stack_types::ErrorCode;

    use super::*;

    fn sealer(byte: u8) -> Sealer {
        Sealer::new(&[byte; 32]).unwrap()
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_owner_for_its_purpose() {
        let sealed = sealer(1).seal("totp", "ann", b"secret").unwrap();
        assert_eq!(sealer(1).open("totp", "ann", &sealed).unwrap(), b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_ne!(sealer(1).seal("totp", "ann", b"secret").unwrap(), sealed);
        for (key, purpose, owner) in [(2, "totp", "ann"), (1, "other", "ann"), (1, "totp", "bob")] {
            let refused = sealer(key).open(purpose, owner, &sealed).unwrap_err();
            assert_eq!(refused.code, ErrorCode::Internal);
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(sealer(1).open("totp", "ann", &changed).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in any::<Vec<u8>>()) {
            prop_assert!(sealer(1).open("totp", "ann", &bytes).is_err());
        }

        #[test]
        fn any_secret_comes_back(plain in any::<Vec<u8>>()) {
            let sealed = sealer(1).seal("totp", "ann", &plain).unwrap();
            prop_assert_eq!(sealer(1).open("totp", "ann", &sealed).unwrap(), plain);
        }
    }
}
