//! What is remembered between two steps of a sign-in, for minutes: the state of a passkey's ceremony, of a sign-in
//! at a provider, of one that waits for its second factor.
//!
//! The client holds a random id, the file its fingerprint. Taking a state removes it in a write transaction, so that
//! of any number of answers to one question a single one is looked at, whatever else is wrong with it.
//!
//! Anybody can begin a sign-in, so that what is kept is bounded twice: by owner and in all. Whoever begins more than
//! their share loses their own oldest, and nobody is refused because others have begun much.

use std::time::Duration;

use redb::{ReadableTable, ReadableTableMetadata, WriteTransaction};
use stack_types::{Timestamp, UserId};

use super::sessions::Fingerprint;
use super::tables::{self, CeremonyTable};
use crate::{Store, StoreError};

/// States of one kind that are kept at the same time: each takes some KiB.
const MOST: u64 = 10_000;
/// States of one kind that a user has at the same time: some tabs, and some that were given up.
const MOST_OF_USER: usize = 16;
/// States of one kind that strangers from one network have at the same time: an office behind one address arrives at
/// nine, and every page that offers passkeys begins one.
const MOST_OF_NETWORK: usize = 128;
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

/// Whose a state is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CeremonyOwner {
    /// Somebody who is known, or whom it is for.
    User(UserId),
    /// A stranger, by the network they come from.
    Network(String),
}

impl CeremonyOwner {
    /// How the owner stands in the file.
    fn label(&self) -> String {
        match self {
            Self::User(user) => format!("user:{user}"),
            Self::Network(network) => format!("network:{network}"),
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::User(_) => MOST_OF_USER,
            Self::Network(_) => MOST_OF_NETWORK,
        }
    }
}

/// Removes a state from the tables that lead to it.
fn unlist(tx: &WriteTransaction, kind: u8, end: u64, key: &[u8]) -> Result<(), StoreError> {
    tx.open_table(tables::CEREMONY_ENDS)?
        .remove((end, kind, key))?;
    let mut order = tx.open_table(tables::CEREMONY_ORDER)?;
    // A state of before there were owners has none.
    if let Some(owner) = order.remove((kind, end, key))? {
        tx.open_table(tables::OWNER_CEREMONIES)?
            .remove((kind, owner.value(), end, key))?;
    }
    Ok(())
}

/// Makes room for one more state of an owner: the owner's oldest goes when they have their share, and the oldest of
/// all when there is no room.
fn make_room(
    tx: &WriteTransaction,
    kind: Ceremony,
    owner: &str,
    most: usize,
) -> Result<(), StoreError> {
    let number = kind.number();
    let (first, last) = ([].as_slice(), [u8::MAX; 32]);
    let own = {
        let table = tx.open_table(tables::OWNER_CEREMONIES)?;
        let own = table.range((number, owner, 0, first)..=(number, owner, u64::MAX, &last[..]))?;
        let own = own.map(|entry| {
            let (key, _) = entry?;
            let (_, _, end, key) = key.value();
            Ok((end, key.to_vec()))
        });
        own.collect::<Result<Vec<_>, StoreError>>()?
    };
    let evicted = if own.len() >= most {
        own.into_iter().next()
    } else if tx.open_table(kind.table())?.len()? >= MOST {
        let table = tx.open_table(tables::CEREMONY_ORDER)?;
        let mut all = table.range((number, 0, first)..=(number, u64::MAX, &last[..]))?;
        match all.next() {
            Some(oldest) => {
                let (key, _) = oldest?;
                let (_, end, key) = key.value();
                Some((end, key.to_vec()))
            }
            None => None,
        }
    } else {
        None
    };
    if let Some((end, key)) = evicted {
        tx.open_table(kind.table())?.remove(key.as_slice())?;
        unlist(tx, number, end, &key)?;
    }
    Ok(())
}

/// Removes every state of one kind that is for a user.
pub(super) fn remove_of(
    tx: &WriteTransaction,
    kind: Ceremony,
    user: UserId,
) -> Result<(), StoreError> {
    let (number, owner) = (kind.number(), CeremonyOwner::User(user).label());
    let (first, last) = ([].as_slice(), [u8::MAX; 32]);
    let own = {
        let (table, owner) = (tx.open_table(tables::OWNER_CEREMONIES)?, owner.as_str());
        let own = table.range((number, owner, 0, first)..=(number, owner, u64::MAX, &last[..]))?;
        let own = own.map(|entry| {
            let (key, _) = entry?;
            let (_, _, end, key) = key.value();
            Ok((end, key.to_vec()))
        });
        own.collect::<Result<Vec<_>, StoreError>>()?
    };
    for (end, key) in own {
        tx.open_table(kind.table())?.remove(key.as_slice())?;
        unlist(tx, number, end, &key)?;
    }
    Ok(())
}

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
    unlist(tx, kind.number(), ends, key)?;
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
    let mut over = Vec::new();
    {
        let ends = tx.open_table(tables::CEREMONY_ENDS)?;
        for entry in ends.iter()?.take(STEP) {
            let (key, _) = entry?;
            let (end, kind, key) = key.value();
            if now.0 < end {
                break;
            }
            over.push((end, kind, key.to_vec()));
        }
    }
    for (end, number, key) in &over {
        unlist(tx, *number, *end, key)?;
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
    /// The commit failed.
    pub async fn put_ceremony(
        &self,
        kind: Ceremony,
        owner: CeremonyOwner,
        key: Fingerprint,
        state: String,
        lives: Duration,
    ) -> Result<(), StoreError> {
        self.write(move |tx, now| {
            let (number, label) = (kind.number(), owner.label());
            make_room(tx, kind, &label, owner.most())?;
            let (end, key) = (now.plus(lives).0, key.as_slice());
            tx.open_table(kind.table())?
                .insert(key, (end, state.as_str()))?;
            tx.open_table(tables::CEREMONY_ENDS)?
                .insert((end, number, key), ())?;
            tx.open_table(tables::CEREMONY_ORDER)?
                .insert((number, end, key), label.as_str())?;
            tx.open_table(tables::OWNER_CEREMONIES)?
                .insert((number, label.as_str(), end, key), ())?;
            Ok(())
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
