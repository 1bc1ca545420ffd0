//! The audit log, as admins look at it.

use std::net::IpAddr;

use stack_storage::{AuditAction, AuditEntry, AuditFilter, AuditOutcome, AuditRecord};
use stack_types::{Problem, Timestamp, UserId};

use super::{Auth, Caller, entry_of};
use crate::client::Client;

const USUAL_PAGE: usize = 50;
const LARGEST_PAGE: usize = 500;

/// Which entries of the audit log. What is absent matches everything.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Those before the one of this number.
    pub before: Option<u64>,
    /// Those from this time on.
    pub since: Option<Timestamp>,
    /// Those of this actor.
    pub actor: Option<UserId>,
    /// Those of this action.
    pub action: Option<String>,
    /// Those that were done to this.
    pub target: Option<String>,
    /// At most so many, 1 to 500; 50 when absent.
    pub limit: Option<u64>,
}

impl Auth {
    /// Entries of the audit log, newest first, and the number before which the next ones stand.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `invalid_field`; `unavailable`.
    pub async fn audit_log(
        &self,
        caller: &Caller,
        query: AuditQuery,
    ) -> Result<(Vec<AuditRecord>, Option<u64>), Problem> {
        caller.require_admin()?;
        self.audit_page(query).await
    }

    pub(super) async fn audit_page(
        &self,
        query: AuditQuery,
    ) -> Result<(Vec<AuditRecord>, Option<u64>), Problem> {
        let limit = query.limit.map_or(Ok(USUAL_PAGE), usize::try_from);
        let limit = limit
            .ok()
            .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
        let limit =
            limit.ok_or_else(|| Problem::invalid_field("limit", "limit is from 1 to 500"))?;
        let before = query.before;
        Ok(self.0.store.find_audit(query.into(), before, limit).await?)
    }
}

impl Auth {
    /// Puts on record that somebody takes the log away, before they do.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub async fn record_export(&self, caller: &Caller, client: &Client) -> Result<(), Problem> {
        caller.require_admin()?;
        let entry = entry_of(caller, client, AuditAction::AuditExported);
        Ok(self.0.store.audit(entry).await?)
    }

    /// Puts on record that somebody looks where a message is, before they are told it, or that it is not there.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub async fn record_trace(
        &self,
        caller: &Caller,
        client: &Client,
        message: String,
        outcome: AuditOutcome,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        let entry = AuditEntry {
            target: Some(message),
            outcome,
            ..entry_of(caller, client, AuditAction::MessageTraced)
        };
        Ok(self.0.store.audit(entry).await?)
    }

    /// Puts on record that somebody was refused, known or not; also when they do not wait for it.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn record_refusal(
        &self,
        caller: Option<&Caller>,
        ip: IpAddr,
        action: AuditAction,
        target: String,
    ) -> Result<(), Problem> {
        let entry = AuditEntry {
            actor: caller.map(|caller| caller.user.id),
            ip: ip.to_string(),
            session: caller.map(|caller| caller.session_id),
            action,
            target: Some(target),
            outcome: AuditOutcome::Refused,
        };
        let store = self.0.store.clone();
        let recorded = async move { Ok(store.audit(entry).await?) };
        self.to_the_end(recorded).await
    }
}

impl From<AuditQuery> for AuditFilter {
    fn from(query: AuditQuery) -> Self {
        Self {
            since: query.since,
            actor: query.actor,
            action: query.action,
            target: query.target,
        }
    }
}
