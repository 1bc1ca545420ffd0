//! The audit log: who did what to whom, from where, and whether it was allowed. It is only appended to, and an
//! entry never holds a secret.

use std::cell::RefCell;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{SessionId, Timestamp, UserId};

use super::tables;
use crate::{Store, StoreError, record};

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum AuditAction {
    Register,
    Login,
    Logout,
    PasswordChanged,
    SessionRevoked,
    RefreshReused,
    RoleChanged,
    AccountDisabled,
    AccountEnabled,
    CounterReset,
    Reauthenticated,
    SetupClaimed,
    SessionsRevoked,
    PasskeyAdded,
    PasskeyRenamed,
    PasskeyRemoved,
    PasskeyCompromised,
    OauthLinked,
    OauthUnlinked,
    OauthRefused,
    AccountAdopted,
    TotpEnabled,
    TotpDisabled,
    SecondFactor,
    RecoveryCodesMade,
    RecoveryCodeUsed,
    RecoveryLinkMade,
    RecoveryLinkUsed,
    InviteMade,
    InviteUsed,
    InviteRevoked,
    AccountMade,
    ApiKeyMade,
    ApiKeyRevoked,
    RoomTokenMade,
    OwnershipTransferred,
    Banned,
    Unbanned,
    Muted,
    Unmuted,
    SigningKeyRotated,
    RoomRoleChanged,
    MemberRemoved,
    RoomMadePublic,
    RoomDeleted,
    AccessRefused,
    AuditExported,
    ApiKeyRefused,
    SnapshotMade,
    RoomTailed,
    ConfigurationReloaded,
    DatabaseRestored,
    ErasureRequested,
    MessageTraced,
    MessagesErased,
    PlaceholderMade,
    RoomExported,
    RoomImported,
    RoomRetentionChanged,
}

impl AuditAction {
    /// The action as it stands in the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Login => "login",
            Self::Logout => "logout",
            Self::PasswordChanged => "password_changed",
            Self::SessionRevoked => "session_revoked",
            Self::RefreshReused => "refresh_reused",
            Self::RoleChanged => "role_changed",
            Self::AccountDisabled => "account_disabled",
            Self::AccountEnabled => "account_enabled",
            Self::CounterReset => "counter_reset",
            Self::Reauthenticated => "reauthenticated",
            Self::SetupClaimed => "setup_claimed",
            Self::SessionsRevoked => "sessions_revoked",
            Self::PasskeyAdded => "passkey_added",
            Self::PasskeyRenamed => "passkey_renamed",
            Self::PasskeyRemoved => "passkey_removed",
            Self::PasskeyCompromised => "passkey_compromised",
            Self::OauthLinked => "oauth_linked",
            Self::OauthUnlinked => "oauth_unlinked",
            Self::OauthRefused => "oauth_refused",
            Self::AccountAdopted => "account_adopted",
            Self::TotpEnabled => "totp_enabled",
            Self::TotpDisabled => "totp_disabled",
            Self::SecondFactor => "second_factor",
            Self::RecoveryCodesMade => "recovery_codes_made",
            Self::RecoveryCodeUsed => "recovery_code_used",
            Self::RecoveryLinkMade => "recovery_link_made",
            Self::RecoveryLinkUsed => "recovery_link_used",
            Self::InviteMade => "invite_made",
            Self::InviteUsed => "invite_used",
            Self::InviteRevoked => "invite_revoked",
            Self::AccountMade => "account_made",
            Self::ApiKeyMade => "api_key_made",
            Self::ApiKeyRevoked => "api_key_revoked",
            Self::RoomTokenMade => "room_token_made",
            Self::OwnershipTransferred => "ownership_transferred",
            Self::Banned => "banned",
            Self::Unbanned => "unbanned",
            Self::Muted => "muted",
            Self::Unmuted => "unmuted",
            Self::SigningKeyRotated => "signing_key_rotated",
            Self::RoomRoleChanged => "room_role_changed",
            Self::MemberRemoved => "member_removed",
            Self::RoomMadePublic => "room_made_public",
            Self::RoomDeleted => "room_deleted",
            Self::AccessRefused => "access_refused",
            Self::AuditExported => "audit_exported",
            Self::ApiKeyRefused => "api_key_refused",
            Self::SnapshotMade => "snapshot_made",
            Self::RoomTailed => "room_tailed",
            Self::DatabaseRestored => "database_restored",
            Self::RoomExported => "room_exported",
            Self::RoomImported => "room_imported",
            Self::PlaceholderMade => "placeholder_made",
            Self::ConfigurationReloaded => "configuration_reloaded",
            Self::ErasureRequested => "erasure_requested",
            Self::MessagesErased => "messages_erased",
            Self::MessageTraced => "message_traced",
            Self::RoomRetentionChanged => "room_retention_changed",
        }
    }
}

/// Whether it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was.
    Ok,
    /// It was refused.
    Refused,
}

/// Something to put on record.
#[derive(Debug, Clone)]
pub struct AuditEntry {
    /// Who did it; `None` for somebody unknown, and for the machine's operator.
    pub actor: Option<UserId>,
    /// From where; empty for the machine itself.
    pub ip: String,
    /// In which session.
    pub session: Option<SessionId>,
    /// What.
    pub action: AuditAction,
    /// To what: an id or a role, never what somebody typed, since people type passwords into the wrong field.
    pub target: Option<String>,
    /// Whether it was done.
    pub outcome: AuditOutcome,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRecord {
    /// Its number; later entries have larger ones.
    pub id: u64,
    /// When.
    pub at: Timestamp,
    /// See [`AuditEntry::actor`].
    pub actor: Option<UserId>,
    /// See [`AuditEntry::ip`].
    pub ip: String,
    /// See [`AuditEntry::session`].
    pub session: Option<SessionId>,
    /// See [`AuditAction::as_str`].
    pub action: String,
    /// See [`AuditEntry::target`].
    pub target: Option<String>,
    /// See [`AuditEntry::outcome`].
    pub outcome: AuditOutcome,
}

/// An entry as it is stored. The action stands as text, so that an old one can be read after it has gone from
/// [`AuditAction`].
#[derive(Serialize, Deserialize)]
pub(super) struct AuditRow {
    at: Timestamp,
    actor: Option<UserId>,
    ip: String,
    session: Option<SessionId>,
    action: String,
    target: Option<String>,
    outcome: AuditOutcome,
}

/// Which entries to look for. What is absent matches everything.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Those from this time on.
    pub since: Option<Timestamp>,
    /// Those of this actor.
    pub actor: Option<UserId>,
    /// Those of this action.
    pub action: Option<String>,
    /// Those whose target is or begins with this: some name an id and a role.
    pub target: Option<String>,
}

impl AuditFilter {
    fn takes(&self, row: &AuditRow) -> bool {
        self.actor.is_none_or(|actor| row.actor == Some(actor))
            && self
                .action
                .as_ref()
                .is_none_or(|action| row.action == *action)
            && self.target.as_ref().is_none_or(|target| {
                row.target
                    .as_ref()
                    .is_some_and(|said| said.starts_with(target.as_str()))
            })
    }
}

/// Entries that one search looks at.
const MAX_LOOKED_AT: usize = 50_000;

thread_local! {
    /// What the transaction of this thread has appended so far. There is one writer, and it looks after each commit.
    static APPENDED: RefCell<Vec<(AuditAction, AuditOutcome)>> = const { RefCell::new(Vec::new()) };
}

/// What was appended in this thread since it was asked last.
pub(crate) fn take_appended() -> Vec<(AuditAction, AuditOutcome)> {
    APPENDED.take()
}

/// Appends an entry.
pub(crate) fn append(
    tx: &WriteTransaction,
    now: Timestamp,
    entry: AuditEntry,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(tables::AUDIT)?;
    let id = table.last()?.map_or(1, |(id, _)| id.value() + 1);
    let row = AuditRow {
        at: now,
        actor: entry.actor,
        ip: entry.ip,
        session: entry.session,
        action: entry.action.as_str().to_owned(),
        target: entry.target,
        outcome: entry.outcome,
    };
    table.insert(id, record::encode(&row)?.as_slice())?;
    APPENDED.with_borrow_mut(|appended| appended.push((entry.action, entry.outcome)));
    Ok(())
}

/// Reads every entry, and says how many there are.
pub(super) fn count(tx: &ReadTransaction) -> Result<u64, StoreError> {
    let table = tx.open_table(tables::AUDIT)?;
    for entry in table.iter()? {
        record::decode::<AuditRow>(entry?.1.value())?;
    }
    Ok(table.len()?)
}

impl Store {
    /// Appends an entry of its own, for what changes nothing else.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.write(move |tx, now| append(tx, now, entry)).await
    }

    /// The newest `limit` entries, or those before the number `before`, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list_audit(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, StoreError> {
        let all = AuditFilter::default();
        Ok(self.find_audit(all, before, limit).await?.0)
    }

    /// Entries that match, newest first, before the number `before`: at most `limit`, and the number before which to
    /// look on, when there may be more. One call looks at so many entries at most that it holds nothing up, so that
    /// it may find fewer than there are.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn find_audit(
        &self,
        filter: AuditFilter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<AuditRecord>, Option<u64>), StoreError> {
        self.read_blocking(move |tx| {
            let table = tx.open_table(tables::AUDIT)?;
            let range = table.range(..before.unwrap_or(u64::MAX))?;
            let mut records = Vec::new();
            for (looked_at, entry) in range.rev().enumerate() {
                let (id, row) = entry?;
                let row: AuditRow = record::decode(row.value())?;
                // Entries stand in the order of their time.
                if filter.since.is_some_and(|since| row.at < since) {
                    return Ok((records, None));
                }
                let next = id.value() + 1;
                if records.len() == limit || looked_at == MAX_LOOKED_AT {
                    return Ok((records, Some(next)));
                }
                if filter.takes(&row) {
                    records.push(AuditRecord {
                        id: id.value(),
                        at: row.at,
                        actor: row.actor,
                        ip: row.ip,
                        session: row.session,
                        action: row.action,
                        target: row.target,
                        outcome: row.outcome,
                    });
                }
            }
            Ok((records, None))
        })
        .await
    }
}
