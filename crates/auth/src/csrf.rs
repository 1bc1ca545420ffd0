//! CSRF tokens: a random value and an HMAC that binds it to the session, or to nobody before sign-in. The same
//! value stands in a cookie that scripts can read and, with an unsafe request, in a header. Another site can make
//! the browser send the cookie, but cannot read it; and a cookie that it managed to plant is not bound to the
//! victim's session.

use aws_lc_rs::hmac;
use stack_types::{Problem, SessionId};

use crate::secret;

const RANDOM_BYTES: usize = 16;
const TAG_BYTES: usize = 32;
const TOKEN_BYTES: usize = RANDOM_BYTES + TAG_BYTES;

/// A new token.
pub(crate) fn issue(key: &hmac::Key, session: Option<SessionId>) -> Result<String, Problem> {
    let mut token = [0u8; TOKEN_BYTES];
    secret::fill(&mut token[..RANDOM_BYTES])?;
    let tag = tag(key, &token[..RANDOM_BYTES], session);
    token[RANDOM_BYTES..].copy_from_slice(tag.as_ref());
    Ok(secret::to_text(&token))
}

/// Whether the header's token is the cookie's, is ours, and is bound to this session.
pub(crate) fn verify(
    key: &hmac::Key,
    header: &str,
    cookie: &str,
    session: Option<SessionId>,
) -> bool {
    let Some(token) = secret::from_text::<TOKEN_BYTES>(header) else {
        return false;
    };
    let (random, given) = token.split_at(RANDOM_BYTES);
    secret::same(header.as_bytes(), cookie.as_bytes())
        && secret::same(tag(key, random, session).as_ref(), given)
}

fn tag(key: &hmac::Key, random: &[u8], session: Option<SessionId>) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(random);
    match session {
        Some(session) => {
            context.update(b"session ");
            context.update(session.as_str().as_bytes());
        }
        None => context.update(b"nobody"),
    }
    context.sign()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stack_types::Timestamp;

    use super::*;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[3; 32])
    }

    #[test]
    fn a_token_is_good_for_its_session_alone() {
        let (mine, other) = (
            SessionId::generate(Timestamp(1)),
            SessionId::generate(Timestamp(1)),
        );
        for owner in [None, Some(mine)] {
            let token = issue(&key(), owner).unwrap();
            for session in [None, Some(mine), Some(other)] {
                assert_eq!(verify(&key(), &token, &token, session), session == owner);
            }
            assert!(!verify(
                &key(),
                &token,
                &issue(&key(), owner).unwrap(),
                owner
            ));
            assert!(!verify(
                &hmac::Key::new(hmac::HMAC_SHA256, &[4; 32]),
                &token,
                &token,
                owner
            ));
        }
    }

    proptest! {
        #[test]
        fn any_pair_is_answered(header in any::<String>(), cookie in any::<String>()) {
            prop_assert!(!verify(&key(), &header, &cookie, None));
            prop_assert!(!verify(&key(), &header, &header, None));
        }

        #[test]
        fn what_looks_like_one_is_refused(token in "[A-Za-z0-9_-]{64}") {
            prop_assert!(!verify(&key(), &token, &token, None));
        }
    }
}
