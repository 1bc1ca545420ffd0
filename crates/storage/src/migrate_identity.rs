//! Schema 2 did not know what stands behind an account, nor when and how a session's owner had shown who they are.

use redb::WriteTransaction;

use crate::{StoreError, accounts};

/// Rewrites every account as a person's, and every session as one that was begun by password.
pub(crate) fn accounts_and_sessions(tx: &WriteTransaction) -> Result<(), StoreError> {
    accounts::migrate_users(tx)?;
    accounts::migrate_sessions(tx)
}
