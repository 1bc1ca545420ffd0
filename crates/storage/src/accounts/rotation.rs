//! The exchange of a refresh token for its successor: compare, swap, and on reuse revoke, in one transaction.

use std::time::Duration;

use redb::WriteTransaction;
use stack_types::{SessionId, Timestamp};

use super::audit::{self, AuditAction, AuditEntry, AuditOutcome};
use super::sessions::{self, Delivery, Fingerprint, Session, Spent};
use super::tables;
use super::users::{self, Account};
use crate::{Store, StoreError};

/// A refresh.
#[derive(Debug, Clone)]
pub struct Rotate {
    /// The session whose family the token is of.
    pub session_id: SessionId,
    /// The token presented.
    pub presented: Fingerprint,
    /// How it came: as its session's tokens are delivered, or it is not the client's whom the session is of.
    pub delivery: Delivery,
    /// The one token that can follow it.
    pub successor: Fingerprint,
    /// How long the repeat of a spent token is taken for a lost answer.
    pub grace: Duration,
    /// How long the successor lives unless it is used.
    pub idle: Duration,
    /// From where.
    pub ip: String,
}

/// What became of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rotation {
    /// The token was the current one; now the successor is.
    Rotated(Box<Account>, Session),
    /// The token was spent within the grace, and its successor, not used yet, is the current one. Nothing changed.
    Repeated(Box<Account>, Session),
    /// The token was spent. The session is revoked now.
    Reused(Session),
    /// The session or its token has outlived its time.
    Expired,
    /// The session was revoked before, or its account is disabled.
    Revoked,
    /// There is no such session, or its tokens are delivered in another way. Nothing changed.
    Unknown,
}

fn rotate(tx: &WriteTransaction, now: Timestamp, asked: Rotate) -> Result<Rotation, StoreError> {
    let Some(mut record) = sessions::get(tx, asked.session_id)? else {
        return Ok(Rotation::Unknown);
    };
    if record.session.delivery != asked.delivery {
        return Ok(Rotation::Unknown);
    }
    if record.session.revoked_at.is_some() {
        return Ok(Rotation::Revoked);
    }
    if !record.session.is_refreshable(now) {
        return Ok(Rotation::Expired);
    }
    let owner = record.session.user_id;
    let account = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
    let Some(account) = account.filter(|account| !account.disabled) else {
        return Ok(Rotation::Revoked);
    };
    if record.current == asked.presented {
        record.spent = Some(Spent {
            fingerprint: asked.presented,
            at: now,
        });
        record.current = asked.successor;
        record.session.refresh_expires_at = now.plus(asked.idle).min(record.session.expires_at);
        record.session.last_seen_at = now;
        record.session.ip = asked.ip;
        sessions::put(tx, &record)?;
        return Ok(Rotation::Rotated(Box::new(account), record.session));
    }
    // That the current token is the presented one's successor says at once that it is unused and that the
    // presented one is the last that was spent.
    let repeat = record.spent.as_ref().is_some_and(|spent| {
        spent.fingerprint == asked.presented && now.since(spent.at) <= asked.grace
    });
    if repeat && record.current == asked.successor {
        return Ok(Rotation::Repeated(Box::new(account), record.session));
    }
    record.session.revoked_at = Some(now);
    sessions::put(tx, &record)?;
    let entry = AuditEntry {
        actor: Some(owner),
        ip: asked.ip,
        session: Some(asked.session_id),
        action: AuditAction::RefreshReused,
        target: Some(asked.session_id.to_string()),
        outcome: AuditOutcome::Refused,
    };
    audit::append(tx, now, entry)?;
    Ok(Rotation::Reused(record.session))
}

impl Store {
    /// Exchanges a refresh token for its successor: compares, swaps, and on reuse revokes, in one transaction.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn rotate_refresh(&self, asked: Rotate) -> Result<Rotation, StoreError> {
        self.write(move |tx, now| rotate(tx, now, asked)).await
    }
}
