//! The tables of accounts. Users and sessions stand in keys as their id's text.

use redb::{TableDefinition, WriteTransaction};

use crate::StoreError;

/// User → [`super::users::UserRecord`].
pub(super) const USERS: TableDefinition<&str, &[u8]> = TableDefinition::new("users");
/// Username → user.
pub(super) const USERNAMES: TableDefinition<&str, &str> = TableDefinition::new("usernames");
/// E-mail address in its one spelling → user.
pub(super) const EMAILS: TableDefinition<&str, &str> = TableDefinition::new("emails");
/// User → the settings object's JSON text. Apart from the account, which every request reads.
pub(super) const USER_SETTINGS: TableDefinition<&str, &str> = TableDefinition::new("user_settings");
/// Session → [`super::sessions::SessionRecord`].
pub(super) const SESSIONS: TableDefinition<&str, &[u8]> = TableDefinition::new("sessions");
/// (user, session): the sessions of a user.
pub(super) const USER_SESSIONS: TableDefinition<(&str, &str), ()> =
    TableDefinition::new("user_sessions");
/// Counter key → [`super::counters::CounterRecord`].
pub(super) const RATE_COUNTERS: TableDefinition<&str, &[u8]> =
    TableDefinition::new("rate_counters");
/// Number in the order of time → [`super::audit::AuditRow`]. Only ever appended to.
pub(super) const AUDIT: TableDefinition<u64, &[u8]> = TableDefinition::new("audit");

/// Opens every table once, so that a reader never meets one that is missing.
pub(crate) fn create_all(tx: &WriteTransaction) -> Result<(), StoreError> {
    tx.open_table(USERS)?;
    tx.open_table(USERNAMES)?;
    tx.open_table(EMAILS)?;
    tx.open_table(USER_SETTINGS)?;
    tx.open_table(SESSIONS)?;
    tx.open_table(USER_SESSIONS)?;
    tx.open_table(RATE_COUNTERS)?;
    tx.open_table(AUDIT)?;
    Ok(())
}
