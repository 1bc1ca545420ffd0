//! Invitations: links with which somebody may make an account while not everybody may.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{ApiKeyId, GlobalRole, InviteId, RoomId, RoomRole, Timestamp, UserId};

use super::api_keys::{ApiKeyRow, Scope};
use super::audit::{self, AuditEntry};
use super::sessions::Fingerprint;
use super::tables;
use super::users::{self, Account};
use crate::{Store, StoreError, record};

/// An invitation without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Its id.
    pub id: InviteId,
    /// The role of accounts that are made with it.
    pub role: GlobalRole,
    /// The rooms that they are brought into.
    pub rooms: Vec<(RoomId, RoomRole)>,
    /// What the inviter notes of it.
    pub note: Option<String>,
    /// Who invites.
    pub created_by: UserId,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// How many accounts can be made with it.
    pub max_uses: u32,
    /// How many were.
    pub uses: u32,
    /// When it was withdrawn.
    pub revoked_at: Option<Timestamp>,
}

impl Invite {
    /// Whether an account can be made with it at `now`.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && now < self.expires_at && self.uses < self.max_uses
    }
}

/// An invitation to make.
#[derive(Debug, Clone)]
pub struct NewInvite {
    /// Its id.
    pub id: InviteId,
    /// The role of accounts that are made with it.
    pub role: GlobalRole,
    /// The rooms that they are brought into.
    pub rooms: Vec<(RoomId, RoomRole)>,
    /// What the inviter notes of it.
    pub note: Option<String>,
    /// Who invites.
    pub created_by: UserId,
    /// With which API key, where it is a bot.
    pub key: Option<ApiKeyId>,
    /// Until when.
    pub expires_at: Timestamp,
    /// How many accounts can be made with it.
    pub max_uses: u32,
    /// Of its secret.
    pub fingerprint: Fingerprint,
}

/// An invitation as somebody shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteUse {
    /// Which.
    pub id: InviteId,
    /// Of the secret that they have.
    pub fingerprint: Fingerprint,
}

/// An invitation as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct InviteRow {
    invite: Invite,
    fingerprint: Fingerprint,
}

fn put(tx: &WriteTransaction, row: &InviteRow) -> Result<(), StoreError> {
    let bytes = record::encode(row)?;
    tx.open_table(tables::INVITES)?
        .insert(row.invite.id.as_str(), bytes.as_slice())?;
    Ok(())
}

fn get(tx: &WriteTransaction, id: InviteId) -> Result<Option<InviteRow>, StoreError> {
    match tx.open_table(tables::INVITES)?.get(id.as_str())? {
        Some(row) => record::decode(row.value()).map(Some),
        None => Ok(None),
    }
}

/// Whether an invitation's maker may still make one: what they gave away ends with what they had. A bot made it with a
/// key, which has its power from whoever made the key.
macro_rules! inviter_stands {
    ($tx:expr, $invite:expr, $now:expr) => {{
        let (tx, invite): (_, &Invite) = ($tx, $invite);
        let key: Option<ApiKeyRow> = match tx
            .open_table(tables::INVITE_KEYS)?
            .get(invite.id.as_str())?
        {
            None => None,
            Some(id) => match tx.open_table(tables::API_KEYS)?.get(id.value())? {
                Some(row) => Some(record::decode(row.value())?),
                None => None,
            },
        };
        let accounts = tx.open_table(tables::USERS)?;
        let maker = users::get(&accounts, invite.created_by.as_str())?;
        match (maker, key) {
            (Some(maker), None) => !maker.disabled && maker.user.role == GlobalRole::Admin,
            (Some(bot), Some(ApiKeyRow { key, .. })) => {
                let lender = users::get(&accounts, key.created_by.as_str())?;
                let lends =
                    |lender: Account| !lender.disabled && lender.user.role == GlobalRole::Admin;
                !bot.disabled
                    && key.is_live($now)
                    && key.scopes.contains(&Scope::Admin)
                    && lender.is_some_and(lends)
            }
            (None, _) => false,
        }
    }};
}

/// Uses an invitation for one account, and gives it; `None` when it is used up, over, withdrawn, or none, or when who
/// made it may make none any more.
pub(super) fn take_use(
    tx: &WriteTransaction,
    now: Timestamp,
    shown: InviteUse,
) -> Result<Option<Invite>, StoreError> {
    // The secret has 256 random bits: how long it takes to find it wrong tells nothing that could be used.
    let found = get(tx, shown.id)?
        .filter(|row| row.fingerprint == shown.fingerprint && row.invite.is_open(now));
    let Some(mut row) = found else {
        return Ok(None);
    };
    if !inviter_stands!(tx, &row.invite, now) {
        return Ok(None);
    }
    row.invite.uses += 1;
    put(tx, &row)?;
    Ok(Some(row.invite))
}

impl Store {
    /// Makes an invitation.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn add_invite(
        &self,
        new: NewInvite,
        entry: AuditEntry,
    ) -> Result<Invite, StoreError> {
        self.write(move |tx, now| {
            let invite = Invite {
                id: new.id,
                role: new.role,
                rooms: new.rooms,
                note: new.note,
                created_by: new.created_by,
                created_at: now,
                expires_at: new.expires_at,
                max_uses: new.max_uses,
                uses: 0,
                revoked_at: None,
            };
            let row = InviteRow {
                invite,
                fingerprint: new.fingerprint,
            };
            put(tx, &row)?;
            if let Some(key) = new.key {
                tx.open_table(tables::INVITE_KEYS)?
                    .insert(row.invite.id.as_str(), key.as_str())?;
            }
            audit::append(tx, now, entry)?;
            Ok(row.invite)
        })
        .await
    }

    /// Whether who made an invitation may still make one at `now`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inviter_stands(&self, invite: &Invite, now: Timestamp) -> Result<bool, StoreError> {
        self.read(|tx| Ok(inviter_stands!(tx, invite, now)))
    }

    /// An invitation and the fingerprint of its secret, closed ones too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn invite(&self, id: InviteId) -> Result<Option<(Invite, Fingerprint)>, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::INVITES)?;
            let Some(row) = table.get(id.as_str())? else {
                return Ok(None);
            };
            let row: InviteRow = record::decode(row.value())?;
            Ok(Some((row.invite, row.fingerprint)))
        })
    }

    /// Every invitation in the order they were made.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list_invites(&self) -> Result<Vec<Invite>, StoreError> {
        self.read_blocking(|tx| {
            let mut invites = Vec::new();
            for entry in tx.open_table(tables::INVITES)?.iter()? {
                let (_, row) = entry?;
                invites.push(record::decode::<InviteRow>(row.value())?.invite);
            }
            Ok(invites)
        })
        .await
    }

    /// Withdraws an invitation; `false` when there is none that is open.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn revoke_invite(&self, id: InviteId, entry: AuditEntry) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let Some(mut row) = get(tx, id)?.filter(|row| row.invite.is_open(now)) else {
                return Ok(false);
            };
            row.invite.revoked_at = Some(now);
            put(tx, &row)?;
            audit::append(tx, now, entry)?;
            Ok(true)
        })
        .await
    }
}
