//! What the server knows of itself, and the one way in which the first admin is made: by whoever holds the setup
//! token. Nobody becomes an admin by being first.

use redb::{ReadableTable, WriteTransaction};
use stack_types::GlobalRole;
use thiserror::Error;

use super::audit::{self, AuditEntry};
use super::passkeys::{self, AddPasskeyError, NewPasskey, WebauthnHandle};
use super::sessions::{self, NewSession, Session};
use super::tables;
use super::users::{self, Account, CreateUserError, NewUser, UserRecord};
use crate::{Store, StoreError, record};

/// When the setup was claimed, as Unix milliseconds.
const SETUP_DONE_AT: &str = "setup.done_at";

/// The setup, as somebody claims it.
pub struct ClaimSetup {
    /// The first admin.
    pub admin: NewUser,
    /// Their passkey, where passkeys can be.
    pub passkey: Option<(WebauthnHandle, NewPasskey)>,
    /// Their first session.
    pub session: NewSession,
    /// What is settled with the setup, by name: the public address, the id that passkeys are bound to.
    pub facts: Vec<(&'static str, String)>,
    /// What to put on record.
    pub audit: AuditEntry,
}

/// Why the setup was not claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SetupRefused {
    /// There is an admin, or there was.
    #[error("the server is set up already")]
    Done,
    /// The account cannot be made.
    #[error(transparent)]
    User(#[from] CreateUserError),
    /// The passkey cannot be added.
    #[error(transparent)]
    Passkey(#[from] AddPasskeyError),
}

macro_rules! is_open {
    ($tx:expr) => {{
        let done = $tx
            .open_table(tables::SERVER)?
            .get(SETUP_DONE_AT)?
            .is_some();
        let mut admin = false;
        if !done {
            for entry in $tx.open_table(tables::USERS)?.iter()? {
                let (_, row) = entry?;
                let account: Account = record::decode::<UserRecord>(row.value())?.into();
                admin |= account.user.role == GlobalRole::Admin;
            }
        }
        !done && !admin
    }};
}

fn set_fact(tx: &WriteTransaction, name: &str, value: &str) -> Result<(), StoreError> {
    tx.open_table(tables::SERVER)?.insert(name, value)?;
    Ok(())
}

impl Store {
    /// Something that the server knows of itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn server_fact(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.read(|tx| {
            let table = tx.open_table(tables::SERVER)?;
            let fact = table.get(name)?;
            Ok(fact.map(|fact| fact.value().to_owned()))
        })
    }

    /// Whether the server waits for its first admin.
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn setup_is_open(&self) -> Result<bool, StoreError> {
        self.read_blocking(|tx| Ok(is_open!(tx))).await
    }

    /// Makes the first admin, if there is none and never was.
    ///
    /// # Errors
    /// The commit failed. The refusal is within.
    pub async fn claim_setup(
        &self,
        claim: ClaimSetup,
    ) -> Result<Result<(Account, Session), SetupRefused>, StoreError> {
        self.write(move |tx, now| {
            if !is_open!(tx) {
                return Ok(Err(SetupRefused::Done));
            }
            // Looked at first: a refusal must have changed nothing.
            if let Some((_, passkey)) = &claim.passkey
                && passkeys::is_known(tx, &passkey.credential_id)?
            {
                return Ok(Err(AddPasskeyError::Taken.into()));
            }
            let admin = NewUser {
                role: GlobalRole::Admin,
                ..claim.admin
            };
            let account = match users::create(tx, now, admin, &claim.audit)? {
                Ok(account) => account,
                Err(refused) => return Ok(Err(refused.into())),
            };
            if let Some((handle, passkey)) = claim.passkey {
                passkeys::add_first(tx, now, handle, passkey)?;
            }
            let session = sessions::create(tx, now, claim.session)?;
            for (name, value) in &claim.facts {
                set_fact(tx, name, value)?;
            }
            set_fact(tx, SETUP_DONE_AT, &now.0.to_string())?;
            audit::append(tx, now, claim.audit)?;
            Ok(Ok((account, session)))
        })
        .await
    }
}
