//! Access tokens: short-lived JWTs that say who and which session. A token alone proves nothing for long: the
//! session and the account behind it are looked up each time, so that a revocation holds at once.

use std::time::Duration;

use aws_lc_rs::hmac;
use jsonwebtoken::crypto::aws_lc;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use stack_types::{ErrorCode, Problem, SessionId, Timestamp, UserId};

use crate::secret;

const ISSUER: &str = "stack";
const AUDIENCE: &str = "stack-web";
const ALGORITHM: Algorithm = Algorithm::HS256;
/// Ours have some 400 bytes; nothing longer is decoded.
const MAX_BYTES: usize = 2048;

/// Makes and reads access tokens.
pub(crate) struct AccessTokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    header: Header,
    key_id: String,
    validation: Validation,
    lifetime: Duration,
    leeway: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    /// Checked by the library, which knows that it may also be an array.
    #[serde(skip_deserializing)]
    aud: String,
    sub: UserId,
    sid: SessionId,
    jti: String,
    iat: u64,
    exp: u64,
}

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
    pub(crate) expires_at: Timestamp,
}

impl AccessTokens {
    pub(crate) fn new(key: &[u8], lifetime: Duration, leeway: Duration) -> Self {
        // The library panics when another dependency turns a second provider on and none was chosen. That one is
        // chosen already is no error.
        let _ = aws_lc::DEFAULT_PROVIDER.install_default();
        let key_id = key_id(key);
        let mut validation = Validation::new(ALGORITHM);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The library asks the system for the time; ours is injected.
        validation.validate_exp = false;
        Self {
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            header: Header {
                kid: Some(key_id.clone()),
                ..Header::new(ALGORITHM)
            },
            key_id,
            validation,
            lifetime,
            leeway,
        }
    }

    /// A token for a session that ends at `session_ends`; it never outlives it.
    pub(crate) fn issue(
        &self,
        user_id: UserId,
        session_id: SessionId,
        session_ends: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Timestamp), Problem> {
        let mut id = [0u8; 16];
        secret::fill(&mut id)?;
        let iat = now.0 / 1000;
        let exp = (now.plus(self.lifetime).0 / 1000).min(session_ends.0 / 1000);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id,
            sid: session_id,
            jti: secret::to_text(&id),
            iat,
            exp,
        };
        let token = jsonwebtoken::encode(&self.header, &claims, &self.encoding)
            .map_err(Problem::internal)?;
        Ok((token, Timestamp(exp * 1000)))
    }

    /// Reads a token. Whatever is wrong with it is `unauthenticated`, except that it was good and is over.
    pub(crate) fn read(&self, token: &str, now: Timestamp) -> Result<Access, Problem> {
        if token.len() > MAX_BYTES {
            return Err(unauthenticated());
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| unauthenticated())?;
        // The signature is what counts. Another program that has the shared secret does not know what we call it; a
        // name that is not ours is a token of somebody else's key, or of a key that was replaced.
        if data.header.kid.is_some_and(|kid| kid != self.key_id) {
            return Err(unauthenticated());
        }
        let claims = data.claims;
        let expires_at = Timestamp(claims.exp.saturating_mul(1000));
        if now >= expires_at.plus(self.leeway) {
            return Err(Problem::new(
                ErrorCode::TokenExpired,
                "the access token has expired",
            ));
        }
        Ok(Access {
            user_id: claims.sub,
            session_id: claims.sid,
            expires_at,
        })
    }
}

/// Names the key without telling anything of it.
fn key_id(key: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"stack key id");
    secret::to_text(&tag.as_ref()[..9])
}

/// The answer to a token that is not ours, or whose session is over.
pub(crate) fn unauthenticated() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "sign in first")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const END: Timestamp = Timestamp(1_800_000_000_000);

    fn tokens() -> AccessTokens {
        AccessTokens::new(KEY, Duration::from_secs(600), Duration::ZERO)
    }

    fn ids() -> (UserId, SessionId) {
        (UserId::generate(NOW), SessionId::generate(NOW))
    }

    fn code(result: Result<Access, Problem>) -> ErrorCode {
        result.unwrap_err().code
    }

    fn forge(header: serde_json::Value, change: impl FnOnce(&mut serde_json::Value)) -> String {
        let (user, session) = ids();
        let mut claims = json!({"iss": "stack", "aud": "stack-web", "sub": user, "sid": session, "jti": "x",
            "iat": NOW.0 / 1000, "exp": NOW.0 / 1000 + 600});
        change(&mut claims);
        let body = format!(
            "{}.{}",
            secret::to_text(header.to_string().as_bytes()),
            secret::to_text(claims.to_string().as_bytes())
        );
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY), body.as_bytes());
        format!("{body}.{}", secret::to_text(tag.as_ref()))
    }

    fn our_header() -> serde_json::Value {
        json!({"typ": "JWT", "alg": "HS256", "kid": key_id(KEY)})
    }

    #[test]
    fn a_token_says_who_until_it_ends() {
        let (user_id, session_id) = ids();
        let (token, expires_at) = tokens().issue(user_id, session_id, END, NOW).unwrap();
        assert_eq!(expires_at, NOW.plus(Duration::from_secs(600)));
        let access = tokens().read(&token, NOW).unwrap();
        assert_eq!(
            access,
            Access {
                user_id,
                session_id,
                expires_at
            }
        );
        assert!(
            tokens()
                .read(&token, expires_at.minus(Duration::from_millis(1)))
                .is_ok()
        );
        assert_eq!(
            code(tokens().read(&token, expires_at)),
            ErrorCode::TokenExpired
        );
        let lenient = AccessTokens::new(KEY, Duration::from_secs(600), Duration::from_secs(5));
        assert!(lenient.read(&token, expires_at).is_ok());
    }

    #[test]
    fn a_token_never_outlives_its_session() {
        let (user_id, session_id) = ids();
        let end = NOW.plus(Duration::from_secs(60));
        assert_eq!(
            tokens().issue(user_id, session_id, end, NOW).unwrap().1,
            end
        );
    }

    #[test]
    fn the_forge_makes_good_tokens() {
        assert!(tokens().read(&forge(our_header(), |_| {}), NOW).is_ok());
    }

    #[test]
    fn whoever_has_the_secret_may_sign() {
        let bare = || json!({"typ": "JWT", "alg": "HS256"});
        assert!(tokens().read(&forge(bare(), |_| {}), NOW).is_ok());
        let over = forge(bare(), |claims| claims["exp"] = json!(NOW.0 / 1000));
        assert_eq!(code(tokens().read(&over, NOW)), ErrorCode::TokenExpired);
    }

    #[test]
    fn an_audience_may_be_one_of_several() {
        let meant_for = |audience: serde_json::Value| {
            let token = forge(our_header(), |claims| claims["aud"] = audience);
            tokens().read(&token, NOW)
        };
        assert!(meant_for(json!(["stack-web"])).is_ok());
        assert!(meant_for(json!(["other", "stack-web"])).is_ok());
        for other in [json!(["other"]), json!([]), json!([7]), json!(null)] {
            assert_eq!(code(meant_for(other)), ErrorCode::Unauthenticated);
        }
    }

    #[test]
    fn another_algorithm_key_or_claim_is_refused() {
        let refused = |token: String| {
            assert_eq!(code(tokens().read(&token, NOW)), ErrorCode::Unauthenticated)
        };
        for alg in ["none", "None", "HS384", "HS512", "RS256", "EdDSA"] {
            refused(forge(
                json!({"typ": "JWT", "alg": alg, "kid": key_id(KEY)}),
                |_| {},
            ));
        }
        for kid in [json!("other"), json!(""), json!(7)] {
            refused(forge(
                json!({"typ": "JWT", "alg": "HS256", "kid": kid}),
                |_| {},
            ));
        }
        for claim in ["iss", "aud", "sub", "sid", "jti", "iat", "exp"] {
            refused(forge(our_header(), |claims| {
                claims.as_object_mut().unwrap().remove(claim);
            }));
            refused(forge(our_header(), |claims| {
                claims[claim] = json!({"no": 1})
            }));
        }
        refused(forge(our_header(), |claims| claims["iss"] = json!("stick")));
        refused(forge(our_header(), |claims| {
            claims["aud"] = json!("stack-chat")
        }));
        refused(forge(our_header(), |claims| claims["exp"] = json!(-1)));
        let other = AccessTokens::new(&[9; 32], Duration::from_secs(600), Duration::ZERO);
        let (user_id, session_id) = ids();
        refused(other.issue(user_id, session_id, END, NOW).unwrap().0);
        refused("a".repeat(1 << 20));
    }

    #[test]
    fn a_token_without_end_is_not_endless() {
        let token = forge(our_header(), |claims| claims["exp"] = json!(u64::MAX));
        // It was signed with our key, so it is ours; what counts is that nothing overflows.
        assert!(tokens().read(&token, NOW).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            prop_assert_eq!(code(tokens().read(&text, NOW)), ErrorCode::Unauthenticated);
        }

        #[test]
        fn any_three_parts_are_answered(header in "\\PC{0,40}", payload in "\\PC{0,40}", tag in "[A-Za-z0-9_-]{0,50}") {
            let token = format!("{}.{}.{tag}", secret::to_text(header.as_bytes()), secret::to_text(payload.as_bytes()));
            prop_assert_eq!(code(tokens().read(&token, NOW)), ErrorCode::Unauthenticated);
        }

        #[test]
        fn a_changed_token_is_refused(at in 0usize..400, byte in 0u8..128) {
            let (user_id, session_id) = ids();
            let (token, _) = tokens().issue(user_id, session_id, END, NOW).unwrap();
            let mut bytes = token.clone().into_bytes();
            let at = at % bytes.len();
            prop_assume!(bytes[at] != byte);
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(code(tokens().read(&changed, NOW)), ErrorCode::Unauthenticated);
        }
    }
}
