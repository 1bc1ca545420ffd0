//! One-time codes as RFC 6238 has them and every authenticator app knows them: SHA-1, six digits, thirty seconds, one
//! step either way. Which step was used last is the store's affair.

use stack_types::{Problem, Timestamp};
use totp_rs::{Builder, Secret, Totp};

use crate::secret;

/// What a sealed secret is for.
pub(crate) const PURPOSE: &str = "totp";
/// 160 bits, as RFC 4226 recommends.
const SECRET_BYTES: usize = 20;
const DIGITS: usize = 6;
/// Clocks may differ by one step.
const SKEW: u16 = 1;

/// A new secret.
pub(crate) fn new_secret() -> Result<[u8; SECRET_BYTES], Problem> {
    let mut bytes = [0u8; SECRET_BYTES];
    secret::fill(&mut bytes)?;
    Ok(bytes)
}

/// The secret as people type it, and the address that an authenticator app reads from a picture.
pub(crate) fn to_show(
    secret: &[u8],
    site_name: &str,
    username: &str,
) -> Result<(String, String), Problem> {
    let totp = of(secret, Some(site_name), username)?;
    let uri = totp.to_url().map_err(Problem::internal)?;
    Ok((totp.secret().to_base32(), uri))
}

/// Whether what was typed can be a code at all, and not a recovery code.
pub(crate) fn is_code(typed: &str) -> bool {
    typed.len() == DIGITS && typed.bytes().all(|byte| byte.is_ascii_digit())
}

/// The step that a code stands for, if it does for one around now.
pub(crate) fn matching_step(
    secret: &[u8],
    code: &str,
    now: Timestamp,
) -> Result<Option<u64>, Problem> {
    if !is_code(code) {
        return Ok(None);
    }
    Ok(of(secret, None, "check")?.check(code, now.0 / 1000))
}

fn of(secret: &[u8], issuer: Option<&str>, account: &str) -> Result<Totp, Problem> {
    Builder::new()
        .with_secret(Secret::new(secret.into()))
        .with_skew(SKEW)
        .with_account_name(account)
        .with_issuer(issuer)
        .build()
        .map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The secret and two of the codes of RFC 6238, appendix B, cut to six digits.
    const RFC_SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn codes_are_those_of_the_rfc() {
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804")] {
            let now = Timestamp(seconds * 1000);
            let step = matching_step(RFC_SECRET, code, now).unwrap();
            assert_eq!(step, Some(seconds / 30));
        }
    }

    #[test]
    fn a_code_is_good_one_step_either_way() {
        // The code of the step from 30 s to 59 s.
        for (seconds, good) in [
            (0, true),
            (59, true),
            (89, true),
            (90, false),
            (10_000, false),
        ] {
            let now = Timestamp(seconds * 1000);
            let step = matching_step(RFC_SECRET, "287082", now).unwrap();
            assert_eq!(step, good.then_some(1), "{seconds}");
        }
    }

    #[test]
    fn apps_are_told_who_it_is_for() {
        let (text, uri) = to_show(RFC_SECRET, "My Stack", "ann.b-c").unwrap();
        assert_eq!(text, "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(
            uri.starts_with("otpauth://totp/My%20Stack:ann.b-c?"),
            "{uri}"
        );
        assert!(uri.contains(&format!("secret={text}")), "{uri}");
        assert!(uri.contains("issuer=My%20Stack"), "{uri}");
    }

    proptest! {
        #[test]
        fn any_code_is_answered(code in any::<String>(), digits in "[0-9]{6}", now in any::<u64>()) {
            let now = Timestamp(now);
            prop_assert!(matching_step(RFC_SECRET, &code, now).is_ok());
            prop_assert!(matching_step(RFC_SECRET, &digits, now).is_ok());
        }
    }
}
