//! What is remembered between two steps of a sign-in, for minutes: the state of a passkey's ceremony, of a sign-in
//! at a provider, of one that waits for its second factor.
//!
//! The client holds a random id, the file its fingerprint. Taking a state removes it in a write transaction, so that
//! of any number of answers to one question a single one is looked at, whatever else is wrong with it.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use stack_types::Timestamp;
use thiserror::Error;

use super::sessions::Fingerprint;
use super::tables::{self, CeremonyTable};
use crate::{Store, StoreError};

/// States of one kind that are kept at the same time. Anybody can begin a sign-in, and each takes some KiB.
const MOST: u64 = 10_000;
/// States that one step of sweeping removes.
const STEP: usize = 1000;

/// What a state is remembered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ceremony {
    /// A sign-in at an identity provider.
    OauthState,
    /// A passkey that is being made.
    WebauthnRegistration,
    /// A passkey that is asked for.
    WebauthnAuthentication,
    /// A sign-in that waits for its second factor.
    LoginTicket,
    /// A link that an admin gave to somebody who cannot sign in any more.
    RecoveryLink,
}

impl Ceremony {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::OauthState,
        Self::WebauthnRegistration,
        Self::WebauthnAuthentication,
        Self::LoginTicket,
        Self::RecoveryLink,
    ];

    fn table(self) -> CeremonyTable {
        match self {
            Self::OauthState => tables::OAUTH_STATE,
            Self::WebauthnRegistration => tables::WEBAUTHN_REGISTRATION,
            Self::WebauthnAuthentication => tables::WEBAUTHN_AUTHENTICATION,
            Self::LoginTicket => tables::LOGIN_TICKETS,
            Self::RecoveryLink => tables::RECOVERY_LINKS,
        }
    }

    /// How the kind stands in the file.
    fn number(self) -> u8 {
        match self {
            Self::OauthState => 1,
            Self::WebauthnRegistration => 2,
            Self::WebauthnAuthentication => 3,
            Self::LoginTicket => 4,
            Self::RecoveryLink => 5,
        }
    }
}

/// Too many states of this kind are kept already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many sign-ins have been begun")]
pub struct CeremoniesFull;

/// Removes a state and gives it, unless its time is over.
pub(super) fn take(
    tx: &WriteTransaction,
    now: Timestamp,
    kind: Ceremony,
    key: &Fingerprint,
) -> Result<Option<String>, StoreError> {
    let removed = {
        let mut table = tx.open_table(kind.table())?;
        let row = table.remove(key.as_slice())?;
        row.map(|row| (row.value().0, row.value().1.to_owned()))
    };
    let Some((ends, state)) = removed else {
        return Ok(None);
    };
    tx.open_table(tables::CEREMONY_ENDS)?
        .remove((ends, kind.number(), key.as_slice()))?;
    Ok((now.0 < ends).then_some(state))
}

/// Whether a state is there and its time is not over.
pub(super) fn is_open(
    tx: &WriteTransaction,
    now: Timestamp,
    kind: Ceremony,
    key: &Fingerprint,
) -> Result<bool, StoreError> {
    let table = tx.open_table(kind.table())?;
    let row = table.get(key.as_slice())?;
    Ok(row.is_some_and(|row| now.0 < row.value().0))
}

/// Removes states whose time is over, the oldest first, and says how many.
fn sweep(tx: &WriteTransaction, now: Timestamp) -> Result<usize, StoreError> {
    let mut ends = tx.open_table(tables::CEREMONY_ENDS)?;
    let mut over = Vec::new();
    for entry in ends.iter()?.take(STEP) {
        let (key, _) = entry?;
        let (end, kind, key) = key.value();
        if now.0 < end {
            break;
        }
        over.push((end, kind, key.to_vec()));
    }
    for (end, number, key) in &over {
        ends.remove((*end, *number, key.as_slice()))?;
        let kind = Ceremony::ALL
            .into_iter()
            .find(|kind| kind.number() == *number);
        if let Some(kind) = kind {
            tx.open_table(kind.table())?.remove(key.as_slice())?;
        }
    }
    Ok(over.len())
}

impl Store {
    /// Remembers a state for so long, under the fingerprint of the id that the client holds.
    ///
    /// # Errors
    /// The commit failed. [`CeremoniesFull`] while too many are kept.
    pub async fn put_ceremony(
        &self,
        kind: Ceremony,
        key: Fingerprint,
        state: String,
        lives: Duration,
    ) -> Result<Result<(), CeremoniesFull>, StoreError> {
        self.write(move |tx, now| {
            let full = || Ok::<_, StoreError>(tx.open_table(kind.table())?.len()? >= MOST);
            if full()? {
                sweep(tx, now)?;
                if full()? {
                    return Ok(Err(CeremoniesFull));
                }
            }
            let mut table = tx.open_table(kind.table())?;
            let end = now.plus(lives).0;
            table.insert(key.as_slice(), (end, state.as_str()))?;
            tx.open_table(tables::CEREMONY_ENDS)?
                .insert((end, kind.number(), key.as_slice()), ())?;
            Ok(Ok(()))
        })
        .await
    }

    /// Takes a state: `None` when there is none, it was taken before, or its time is over.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn take_ceremony(
        &self,
        kind: Ceremony,
        key: Fingerprint,
    ) -> Result<Option<String>, StoreError> {
        // What was never remembered, or is gone, costs no write.
        if self.ceremony(kind, key)?.is_none() {
            return Ok(None);
        }
        self.write(move |tx, now| take(tx, now, kind, &key)).await
    }

    /// A state as it is, without taking it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn ceremony(&self, kind: Ceremony, key: Fingerprint) -> Result<Option<String>, StoreError> {
        let now = self.inner.clock.now();
        self.read(|tx| {
            let table = tx.open_table(kind.table())?;
            let row = table.get(key.as_slice())?;
            Ok(row.and_then(|row| {
                let (end, state) = row.value();
                (now.0 < end).then(|| state.to_owned())
            }))
        })
    }

    /// Removes what is over, at most a thousand at a time, and says how many.
    ///
    /// # Errors
    /// The commit failed.
    pub async fn sweep_ceremonies(&self) -> Result<usize, StoreError> {
        let now = self.inner.clock.now();
        let due = self.read(|tx| {
            let table = tx.open_table(tables::CEREMONY_ENDS)?;
            let first = table.first()?;
            Ok(first.is_some_and(|(key, _)| key.value().0 <= now.0))
        })?;
        match due {
            true => self.write(sweep).await,
            false => Ok(0),
        }
    }
}
