//! The second factor: the sealed secret of one-time codes, the last step that was accepted, and recovery codes as
//! hashes. A code is good once: its step, or the recovery code itself, is spent in the transaction that accepts it.

use redb::{ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};
use stack_types::{Timestamp, UserId};

use super::audit::{self, AuditEntry};
use super::sessions::Fingerprint;
use super::{counters, tables, users};
use crate::{Store, StoreError, record};

/// The one-time codes of an account.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totp {
    /// The secret, sealed by `stack-auth`.
    pub sealed_secret: Vec<u8>,
    /// When its owner has shown to have it; until then it asks nothing of anybody.
    pub confirmed_at: Option<Timestamp>,
    /// The last step whose code was accepted.
    pub last_step: u64,
}

impl Totp {
    /// Whether a sign-in by password asks for it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.confirmed_at.is_some()
    }
}

/// What shows a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Factor {
    /// A one-time code, by the step it stands for.
    Totp {
        /// The step.
        step: u64,
    },
    /// A recovery code.
    RecoveryCode(Fingerprint),
}

fn get(tx: &WriteTransaction, owner: UserId) -> Result<Option<Totp>, StoreError> {
    match tx.open_table(tables::TOTP)?.get(owner.as_str())? {
        Some(row) => record::decode(row.value()).map(Some),
        None => Ok(None),
    }
}

fn put(tx: &WriteTransaction, owner: UserId, totp: &Totp) -> Result<(), StoreError> {
    let bytes = record::encode(totp)?;
    tx.open_table(tables::TOTP)?
        .insert(owner.as_str(), bytes.as_slice())?;
    Ok(())
}

/// Spends a factor of an account; `false` when it was spent before or is none.
pub(super) fn spend(
    tx: &WriteTransaction,
    owner: UserId,
    factor: &Factor,
) -> Result<bool, StoreError> {
    let Some(mut totp) = get(tx, owner)?.filter(Totp::is_on) else {
        return Ok(false);
    };
    match factor {
        Factor::Totp { step } => {
            if *step <= totp.last_step {
                return Ok(false);
            }
            totp.last_step = *step;
            put(tx, owner, &totp)?;
            Ok(true)
        }
        Factor::RecoveryCode(hash) => {
            let mut codes = tx.open_table(tables::RECOVERY_CODES)?;
            let spent = codes.remove((owner.as_str(), hash.as_slice()))?;
            Ok(spent.is_some())
        }
    }
}

/// Whether a sign-in by password asks this account for a second factor.
pub(super) fn is_on(tx: &WriteTransaction, owner: UserId) -> Result<bool, StoreError> {
    Ok(get(tx, owner)?.is_some_and(|totp| totp.is_on()))
}

/// Forgets every recovery code of an account.
fn clear_codes(tx: &WriteTransaction, owner: UserId) -> Result<(), StoreError> {
    let mut codes = tx.open_table(tables::RECOVERY_CODES)?;
    codes.retain_in(
        (owner.as_str(), [].as_slice())..=(owner.as_str(), [0xff; 33].as_slice()),
        |_, ()| false,
    )?;
    Ok(())
}

fn set_codes(
    tx: &WriteTransaction,
    owner: UserId,
    hashes: &[Fingerprint],
) -> Result<(), StoreError> {
    clear_codes(tx, owner)?;
    let mut codes = tx.open_table(tables::RECOVERY_CODES)?;
    for hash in hashes {
        codes.insert((owner.as_str(), hash.as_slice()), ())?;
    }
    Ok(())
}

/// Takes the second factor off an account, and its recovery codes; `false` when there was none.
pub(super) fn remove(tx: &WriteTransaction, owner: UserId) -> Result<bool, StoreError> {
    let was_there = tx
        .open_table(tables::TOTP)?
        .remove(owner.as_str())?
        .is_some();
    clear_codes(tx, owner)?;
    Ok(was_there)
}

impl Store {
    /// The one-time codes of an account, confirmed or not.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn totp(&self, owner: UserId) -> Result<Option<Totp>, StoreError> {
        self.read(
            |tx| match tx.open_table(tables::TOTP)?.get(owner.as_str())? {
                Some(row) => record::decode(row.value()).map(Some),
                None => Ok(None),
            },
        )
    }

    /// Remembers a secret that its owner has yet to confirm; `false` when one is on already.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn enroll_totp(
        &self,
        owner: UserId,
        sealed_secret: Vec<u8>,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, _| {
            if is_on(tx, owner)? {
                return Ok(false);
            }
            let totp = Totp {
                sealed_secret,
                confirmed_at: None,
                last_step: 0,
            };
            put(tx, owner, &totp)?;
            Ok(true)
        })
        .await
    }

    /// Turns the second factor on with the code of `step`, and gives the account these recovery codes; `false` when
    /// the secret is another than `sealed_secret` by now, or is on already.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn confirm_totp(
        &self,
        owner: UserId,
        sealed_secret: Vec<u8>,
        step: u64,
        codes: Vec<Fingerprint>,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let found =
                get(tx, owner)?.filter(|totp| !totp.is_on() && totp.sealed_secret == sealed_secret);
            let Some(mut totp) = found else {
                return Ok(false);
            };
            totp.confirmed_at = Some(now);
            totp.last_step = step;
            put(tx, owner, &totp)?;
            set_codes(tx, owner, &codes)?;
            audit::append(tx, now, entry)?;
            Ok(true)
        })
        .await
    }

    /// Spends a factor, for what is no sign-in; `false` when it was spent before or is none. The counter of wrong
    /// codes ends with a right one.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn spend_factor(
        &self,
        owner: UserId,
        factor: Factor,
        clear_counter: String,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let spent = spend(tx, owner, &factor)?;
            if spent {
                counters::reset(tx, &clear_counter, now)?;
                audit::append(tx, now, entry)?;
            }
            Ok(spent)
        })
        .await
    }

    /// Takes the second factor off an account, and its recovery codes; `false` when there was none, or when the
    /// password is another than that of `expected_hash` by now: one without a second factor is longer.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn remove_totp(
        &self,
        owner: UserId,
        expected_hash: Option<String>,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            let account = users::get(&tx.open_table(tables::USERS)?, owner.as_str())?;
            if account.is_none_or(|account| account.password_hash != expected_hash) {
                return Ok(false);
            }
            let removed = remove(tx, owner)?;
            if removed {
                audit::append(tx, now, entry)?;
            }
            Ok(removed)
        })
        .await
    }

    /// Gives an account whose second factor is on new recovery codes, which void the old; `false` without one.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn replace_recovery_codes(
        &self,
        owner: UserId,
        codes: Vec<Fingerprint>,
        entry: AuditEntry,
    ) -> Result<bool, StoreError> {
        self.write(move |tx, now| {
            if !is_on(tx, owner)? {
                return Ok(false);
            }
            set_codes(tx, owner, &codes)?;
            audit::append(tx, now, entry)?;
            Ok(true)
        })
        .await
    }

    /// How many recovery codes of an account are left.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn recovery_codes_left(&self, owner: UserId) -> Result<usize, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::RECOVERY_CODES)?;
            let owner = owner.as_str();
            let range = (owner, [].as_slice())..=(owner, [0xff; 33].as_slice());
            Ok(table.range(range)?.count())
        })
    }
}
