//! Pairs of tokens and tickets, from session to client and back.

use std::fmt;

use serde::Serialize;
use stack_storage::{Account, Delivery, Rotate, Rotation, Session};
use stack_types::{ErrorCode, Problem, SessionId, Timestamp};

use super::{Auth, Caller};
use crate::access::unauthenticated;
use crate::client::Client;
use crate::profile::OwnUser;
use crate::refresh::RefreshToken;

/// A pair of tokens for somebody who signed in or refreshed.
#[derive(Clone)]
pub struct Tokens {
    /// Who.
    pub user: OwnUser,
    /// In which session.
    pub session_id: SessionId,
    /// The access token.
    pub access_token: String,
    /// When it ends.
    pub access_expires_at: Timestamp,
    /// How long it lives.
    pub expires_in_s: u64,
    /// The refresh token.
    pub refresh_token: String,
    /// How long it lives unless it is used.
    pub refresh_expires_in_s: u64,
    /// How the pair reaches the client.
    pub delivery: Delivery,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("user", &self.user.id)
            .field("session_id", &self.session_id)
            .finish_non_exhaustive()
    }
}

/// A ticket that opens one WebSocket.
#[derive(Clone, Serialize)]
pub struct WsTicket {
    /// The ticket.
    pub ticket: String,
    /// How long it is good for.
    pub expires_in_s: u64,
}

impl Auth {
    /// Exchanges a refresh token for the next pair. The old one is spent; a repeat within the grace gets the same
    /// next one, as long as that one is unused. Anything else that was spent revokes the session. `delivery` is how the
    /// token came: one that was given as a cookie is good as a cookie only, and one that was given in a body in a body.
    ///
    /// # Errors
    /// `token_reused`; `token_expired`; `unauthenticated` for what is not ours and for a session that was revoked;
    /// `unavailable`.
    pub async fn refresh(
        &self,
        refresh_token: &str,
        delivery: Delivery,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        let presented = self
            .0
            .refresh
            .read(refresh_token)
            .ok_or_else(unauthenticated)?;
        let successor = self.0.refresh.successor(&presented);
        let asked = Rotate {
            session_id: presented.session_id(),
            presented: presented.fingerprint(),
            delivery,
            successor: successor.fingerprint(),
            grace: self.0.refresh_grace(),
            idle: self.0.lifetimes.refresh_idle,
            ip: client.ip.to_string(),
        };
        let auth = self.clone();
        let rotation = self
            .to_the_end(async move {
                let rotation = auth.0.store.rotate_refresh(asked).await?;
                if let Rotation::Reused(session) = &rotation {
                    tracing::warn!(
                        user_id = %session.user_id, session_id = %session.id,
                        "a refresh token was used twice, its session is revoked"
                    );
                    auth.tell_revoked(session.user_id, vec![session.id]);
                }
                Ok(rotation)
            })
            .await?;
        match rotation {
            Rotation::Rotated(account, session) | Rotation::Repeated(account, session) => {
                self.tokens(*account, &session, &successor)
            }
            Rotation::Reused(_) => Err(Problem::new(
                ErrorCode::TokenReused,
                "this refresh token was used before; its session is revoked",
            )),
            Rotation::Expired => Err(Problem::new(
                ErrorCode::TokenExpired,
                "the session has expired, sign in again",
            )),
            Rotation::Revoked | Rotation::Unknown => Err(unauthenticated()),
        }
    }

    /// The session that a refresh token was made for, if we made it; for CSRF checks and limits. It says nothing of
    /// whether the token is still good.
    #[must_use]
    pub fn session_of_refresh(&self, refresh_token: &str) -> Option<SessionId> {
        self.0
            .refresh
            .read(refresh_token)
            .map(|token| token.session_id())
    }

    /// A ticket that opens one WebSocket as the caller, for as long as the caller's token would.
    ///
    /// # Errors
    /// `rate_limited` while too many tickets are out.
    pub fn issue_ws_ticket(&self, caller: &Caller) -> Result<WsTicket, Problem> {
        Ok(WsTicket {
            ticket: self.0.tickets.issue(caller.access(), self.0.clock.now())?,
            expires_in_s: self.0.tickets.lifetime().as_secs(),
        })
    }

    /// Uses a ticket up.
    ///
    /// # Errors
    /// `unauthenticated` when it is unknown, used, over, or its session is; `token_expired` when the token it was
    /// had for is.
    pub fn redeem_ws_ticket(&self, ticket: &str) -> Result<Caller, Problem> {
        let now = self.0.clock.now();
        let access = self.0.tickets.redeem(ticket, now)?;
        if now >= access.expires_at {
            return Err(Problem::new(
                ErrorCode::TokenExpired,
                "the access token has expired",
            ));
        }
        self.caller(access, now)
    }

    pub(super) fn tokens(
        &self,
        account: Account,
        session: &Session,
        refresh: &RefreshToken,
    ) -> Result<Tokens, Problem> {
        let now = self.0.clock.now();
        let (access_token, access_expires_at) =
            self.0
                .access
                .issue(account.user.id, session.id, session.expires_at, now)?;
        Ok(Tokens {
            user: account.into(),
            session_id: session.id,
            access_token,
            access_expires_at,
            expires_in_s: access_expires_at.since(now).as_millis().div_ceil(1000) as u64,
            refresh_token: self.0.refresh.to_text(refresh),
            refresh_expires_in_s: session.refresh_expires_at.since(now).as_secs(),
            delivery: session.delivery,
        })
    }
}
