//! Access tokens and room tokens: short-lived JWTs that say who, and by which session or key. A token alone proves
//! nothing for long: the session or key and the account behind it are looked up each time, so that a revocation holds
//! at once.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stack_types::{ApiKeyId, ErrorCode, Problem, SessionId, Timestamp, UserId};

use crate::room_token::RoomGrant;
use crate::secret;
use crate::signing::Ring;

const ISSUER: &str = "stack";
const AUDIENCE: &str = "stack-web";
const TYPE: &str = "JWT";
/// A room token is never taken for an access token, nor the other way round: both type and audience differ.
const ROOM_AUDIENCE: &str = "stack-room";
pub(crate) const ROOM_TYPE: &str = "stack-room+jwt";
/// Access tokens have some 400 bytes; nothing longer is decoded.
const MAX_BYTES: usize = 2048;
/// Room tokens name rooms. What a header of a request can hold is the other bound.
const MAX_ROOM_TOKEN_BYTES: usize = 8192;

/// Makes and reads access tokens and room tokens.
pub(crate) struct AccessTokens {
    ring: Ring,
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

#[derive(Debug, Serialize, Deserialize)]
struct RoomClaims {
    iss: String,
    #[serde(skip_deserializing)]
    aud: String,
    sub: UserId,
    sid: ApiKeyId,
    jti: String,
    iat: u64,
    exp: u64,
    rooms: Option<Vec<RoomGrant>>,
}

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) user_id: UserId,
    pub(crate) session_id: SessionId,
    pub(crate) expires_at: Timestamp,
}

/// What a valid room token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoomAccess {
    pub(crate) user_id: UserId,
    pub(crate) key: ApiKeyId,
    pub(crate) rooms: Option<Vec<RoomGrant>>,
    pub(crate) expires_at: Timestamp,
}

impl AccessTokens {
    pub(crate) fn new(ring: Ring, lifetime: Duration, leeway: Duration) -> Self {
        Self {
            ring,
            lifetime,
            leeway,
        }
    }

    /// The keys that sign.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    /// A token for a session that ends at `session_ends`; it never outlives it.
    pub(crate) fn issue(
        &self,
        user_id: UserId,
        session_id: SessionId,
        session_ends: Timestamp,
        now: Timestamp,
    ) -> Result<(String, Timestamp), Problem> {
        let exp = (now.plus(self.lifetime).0 / 1000).min(session_ends.0 / 1000);
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user_id,
            sid: session_id,
            jti: token_id()?,
            iat: now.0 / 1000,
            exp,
        };
        let token = self.ring.sign(TYPE, &claims, now)?;
        Ok((token, Timestamp(exp * 1000)))
    }

    /// A room token that lives this long.
    pub(crate) fn issue_room(
        &self,
        user_id: UserId,
        key: ApiKeyId,
        rooms: Option<Vec<RoomGrant>>,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> Result<String, Problem> {
        let claims = RoomClaims {
            iss: ISSUER.to_owned(),
            aud: ROOM_AUDIENCE.to_owned(),
            sub: user_id,
            sid: key,
            jti: token_id()?,
            iat: now.0 / 1000,
            exp: expires_at.0 / 1000,
            rooms,
        };
        self.ring.sign(ROOM_TYPE, &claims, now)
    }

    /// Reads a token. Whatever is wrong with it is `unauthenticated`, except that it was good and is over.
    pub(crate) fn read(&self, token: &str, now: Timestamp) -> Result<Access, Problem> {
        if token.len() > MAX_BYTES {
            return Err(unauthenticated());
        }
        let claims: Claims = self.ring.read(token, TYPE, ISSUER, AUDIENCE, now)?;
        Ok(Access {
            user_id: claims.sub,
            session_id: claims.sid,
            expires_at: self.live(claims.exp, now)?,
        })
    }

    /// Reads a room token, in the same way.
    pub(crate) fn read_room(&self, token: &str, now: Timestamp) -> Result<RoomAccess, Problem> {
        if token.len() > MAX_ROOM_TOKEN_BYTES {
            return Err(unauthenticated());
        }
        let claims: RoomClaims = self
            .ring
            .read(token, ROOM_TYPE, ISSUER, ROOM_AUDIENCE, now)?;
        Ok(RoomAccess {
            user_id: claims.sub,
            key: claims.sid,
            rooms: claims.rooms,
            expires_at: self.live(claims.exp, now)?,
        })
    }

    fn live(&self, exp: u64, now: Timestamp) -> Result<Timestamp, Problem> {
        let expires_at = Timestamp(exp.saturating_mul(1000));
        if now >= expires_at.plus(self.leeway) {
            return Err(expired());
        }
        Ok(expires_at)
    }
}

fn token_id() -> Result<String, Problem> {
    let mut id = [0u8; 16];
    secret::fill(&mut id)?;
    Ok(secret::to_text(&id))
}

/// The answer to a token that is not ours, or whose session is over.
pub(crate) fn unauthenticated() -> Problem {
    Problem::new(ErrorCode::Unauthenticated, "sign in first")
}

/// The answer to what was good and is over.
pub(crate) fn expired() -> Problem {
    Problem::new(ErrorCode::TokenExpired, "the access token has expired")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::keys::KeySource;
    use crate::signing::{Rules, SigningAlgorithm, key_id};

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const END: Timestamp = Timestamp(1_800_000_000_000);

    fn with_key(key: &[u8], leeway: Duration) -> AccessTokens {
        let rules = Rules {
            first_is_given: false,
            algorithm: SigningAlgorithm::Hs256,
            token_lifetime: Duration::from_secs(600),
        };
        let ring = Ring::load(&KeySource::Ephemeral, key, rules, NOW).unwrap();
        AccessTokens::new(ring, Duration::from_secs(600), leeway)
    }

    fn tokens() -> AccessTokens {
        with_key(KEY, Duration::ZERO)
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
        let lenient = with_key(KEY, Duration::from_secs(5));
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
        let other = with_key(&[9; 32], Duration::ZERO);
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

    #[test]
    fn a_room_token_is_no_access_token() {
        let user = UserId::generate(NOW);
        let end = NOW.plus(Duration::from_secs(300));
        let key = ApiKeyId::generate(NOW);
        let room_token = tokens().issue_room(user, key, None, end, NOW).unwrap();
        assert_eq!(tokens().read_room(&room_token, NOW).unwrap().key, key);
        assert!(tokens().read(&room_token, NOW).is_err());
        let ended = tokens().read_room(&room_token, end).unwrap_err();
        assert_eq!(ended.code, ErrorCode::TokenExpired);
        let (user, session) = ids();
        let (token, _) = tokens().issue(user, session, END, NOW).unwrap();
        assert!(tokens().read_room(&token, NOW).is_err());
    }

    proptest! {
        #[test]
        fn any_room_token_is_answered(token in "[A-Za-z0-9_.=-]{0,300}") {
            let _ = tokens().read_room(&token, NOW);
        }
    }
}
