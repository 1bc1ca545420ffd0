//! Refresh tokens: what they look like, and how a token leads to its successor.
//!
//! A token is `<session id>.<base 64 of secret ‖ tag>`. The secret has 256 bits, and only its SHA-256 is stored,
//! in the session's row. The tag is an HMAC over session and secret: it says that we made this token for this
//! session. So a session needs to remember two fingerprints, the current token's and the one before it, and yet
//! knows *every* older token of its own for one that was used before, for as long as the session lives. Text that
//! we did not make never reaches the store, and cannot revoke anything.
//!
//! The successor's secret is an HMAC of the old one under a key of its own. It has to be found again when the
//! answer to a refresh was lost and the client repeats it, and a store that holds only fingerprints cannot give it
//! back; derived, it is computed again, by the 50 requests that refresh at the same moment as well as by a
//! gateway that was restarted in between. Who has the file but not the key learns nothing from it; who has an old
//! token but not the key cannot compute the next.

use aws_lc_rs::hmac;
use stack_types::{Problem, SessionId};

use crate::keys::Keys;
use crate::secret::{self, SECRET_BYTES};

const TAG_BYTES: usize = 16;
const BODY_BYTES: usize = SECRET_BYTES + TAG_BYTES;
/// Longer than any token of ours.
const MAX_BYTES: usize = 128;

/// Makes and reads refresh tokens.
pub(crate) struct RefreshTokens {
    successor: hmac::Key,
    tag: hmac::Key,
}

/// A refresh token that we made. Whether it is still good, the session's row says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RefreshToken {
    session_id: SessionId,
    secret: [u8; SECRET_BYTES],
}

impl RefreshToken {
    /// The session it belongs to.
    pub(crate) fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// What the store keeps of it.
    pub(crate) fn fingerprint(&self) -> [u8; SECRET_BYTES] {
        secret::fingerprint(&self.secret)
    }
}

impl RefreshTokens {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self {
            successor: keys.successor.clone(),
            tag: keys.refresh_tag.clone(),
        }
    }

    /// The first token of a session.
    pub(crate) fn first(&self, session_id: SessionId) -> Result<RefreshToken, Problem> {
        Ok(RefreshToken {
            session_id,
            secret: secret::random()?,
        })
    }

    /// The one token that follows `token`.
    pub(crate) fn successor(&self, token: &RefreshToken) -> RefreshToken {
        let mut secret = [0u8; SECRET_BYTES];
        secret.copy_from_slice(hmac::sign(&self.successor, &token.secret).as_ref());
        RefreshToken {
            session_id: token.session_id,
            secret,
        }
    }

    /// The token as the client gets it.
    pub(crate) fn to_text(&self, token: &RefreshToken) -> String {
        let mut body = [0u8; BODY_BYTES];
        body[..SECRET_BYTES].copy_from_slice(&token.secret);
        body[SECRET_BYTES..].copy_from_slice(&self.tag_of(token));
        format!("{}.{}", token.session_id, secret::to_text(&body))
    }

    /// The token that `text` is, when we made it.
    pub(crate) fn read(&self, text: &str) -> Option<RefreshToken> {
        if text.len() > MAX_BYTES {
            return None;
        }
        let (session_id, body) = text.split_once('.')?;
        let session_id = session_id.parse().ok()?;
        let body: [u8; BODY_BYTES] = secret::from_text(body)?;
        let (secret, tag) = body.split_at(SECRET_BYTES);
        let token = RefreshToken {
            session_id,
            secret: secret.try_into().ok()?,
        };
        secret::same(&self.tag_of(&token), tag).then_some(token)
    }

    fn tag_of(&self, token: &RefreshToken) -> [u8; TAG_BYTES] {
        // The secret has a fixed length and stands first, so that no other pair gives the same bytes.
        let mut context = hmac::Context::with_key(&self.tag);
        context.update(&token.secret);
        context.update(token.session_id.as_str().as_bytes());
        let mut tag = [0u8; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stack_types::Timestamp;

    use super::*;
    use crate::keys::KeySource;

    fn tokens() -> RefreshTokens {
        RefreshTokens::new(&Keys::load(&KeySource::Ephemeral, None).unwrap())
    }

    fn session() -> SessionId {
        SessionId::generate(Timestamp(1_700_000_000_000))
    }

    #[test]
    fn a_token_reads_back_and_has_one_successor() {
        let tokens = tokens();
        let first = tokens.first(session()).unwrap();
        let text = tokens.to_text(&first);
        let read = tokens.read(&text).unwrap();
        assert!(read == first);
        let next = tokens.successor(&read);
        assert!(next == tokens.successor(&first));
        assert!(next.fingerprint() != first.fingerprint());
        assert_eq!(next.session_id(), first.session_id());
        assert!(tokens.read(&tokens.to_text(&next)).unwrap() == next);
    }

    #[test]
    fn anothers_token_is_not_ours() {
        let (ours, theirs) = (tokens(), tokens());
        let text = theirs.to_text(&theirs.first(session()).unwrap());
        assert!(ours.read(&text).is_none());
    }

    #[test]
    fn a_token_does_not_move_to_another_session() {
        let tokens = tokens();
        let text = tokens.to_text(&tokens.first(session()).unwrap());
        let (_, body) = text.split_once('.').unwrap();
        assert!(tokens.read(&format!("{}.{body}", session())).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            prop_assert!(tokens().read(&text).is_none());
        }

        #[test]
        fn what_looks_like_one_is_answered(text in "[A-Za-z0-9]{1,24}\\.[A-Za-z0-9_-]{64}") {
            prop_assert!(tokens().read(&text).is_none());
        }
    }
}
