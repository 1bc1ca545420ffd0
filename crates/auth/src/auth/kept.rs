//! A caller, written down for somebody who holds the socket for us and shows it when we are there again. It is sealed:
//! who holds it can neither read nor change it. It says who had signed in, not that they still may.

use serde::{Deserialize, Serialize};
use stack_types::{ApiKeyId, Problem, SessionId, Timestamp, UserId};

use super::Auth;
use super::caller::{Caller, Credential};
use crate::access::{Access, RoomAccess, unauthenticated};
use crate::room_token::RoomGrant;

/// What it is sealed as.
const SEALED_AS: &str = "kept_caller";

#[derive(Serialize, Deserialize)]
struct Kept {
    user: UserId,
    session: SessionId,
    until: Timestamp,
    shown: Shown,
}

#[derive(Serialize, Deserialize)]
enum Shown {
    Session,
    Key(ApiKeyId),
    RoomToken {
        key: ApiKeyId,
        rooms: Option<Vec<RoomGrant>>,
    },
}

impl Auth {
    /// Writes a caller down.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn keep(&self, caller: &Caller) -> Result<Vec<u8>, Problem> {
        let kept = Kept {
            user: caller.user.id,
            session: caller.session_id,
            until: caller.expires_at,
            shown: match &caller.credential {
                Credential::Session { .. } => Shown::Session,
                Credential::ApiKey { id, .. } => Shown::Key(*id),
                Credential::RoomToken { key, rooms } => Shown::RoomToken {
                    key: *key,
                    rooms: rooms.clone(),
                },
            },
        };
        let plain = serde_json::to_vec(&kept).map_err(Problem::internal)?;
        self.0.sealer.seal(SEALED_AS, "", &plain)
    }

    /// The caller who was written down, as they are now.
    ///
    /// # Errors
    /// `unauthenticated` when their session or key does not stand any more, or this was not written here.
    pub fn kept(&self, sealed: &[u8]) -> Result<Caller, Problem> {
        let plain = self.0.sealer.open(SEALED_AS, "", sealed);
        let plain = plain.map_err(|_| unauthenticated())?;
        let kept: Kept = serde_json::from_slice(&plain).map_err(Problem::internal)?;
        let now = self.0.clock.now();
        if now >= kept.until {
            return Err(unauthenticated());
        }
        match kept.shown {
            Shown::Session => {
                let access = Access {
                    user_id: kept.user,
                    session_id: kept.session,
                    expires_at: kept.until,
                };
                self.caller(access, now)
            }
            Shown::Key(id) => self.current_of_key(id, now),
            Shown::RoomToken { key, rooms } => {
                let access = RoomAccess {
                    user_id: kept.user,
                    key,
                    rooms,
                    expires_at: kept.until,
                };
                self.caller_of_room_token(access, now)
            }
        }
    }
}
