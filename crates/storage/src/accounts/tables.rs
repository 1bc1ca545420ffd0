//! The tables of accounts. Users, sessions and the other ids stand in keys as their text.

use redb::TableDefinition;

use crate::StoreError;
use crate::tables::EachTable;

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

/// The authenticator's credential id → [`super::Passkey`].
pub(super) const CREDENTIALS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("credentials");
/// (user, passkey) → credential id: the passkeys of a user.
pub(super) const USER_CREDENTIALS: TableDefinition<(&str, &str), &[u8]> =
    TableDefinition::new("user_credentials");
/// User → the handle that authenticators know them by: random, so that it tells nothing.
pub(super) const WEBAUTHN_HANDLES: TableDefinition<&str, &[u8]> =
    TableDefinition::new("webauthn_handles");
/// Handle → user.
pub(super) const HANDLE_USERS: TableDefinition<&[u8], &str> = TableDefinition::new("handle_users");
/// (issuer, subject) → [`super::OauthLink`].
pub(super) const OAUTH_LINKS: TableDefinition<(&str, &str), &[u8]> =
    TableDefinition::new("oauth_links");
/// (user, link) → (issuer, subject): the links of a user.
pub(super) const USER_OAUTH_LINKS: TableDefinition<(&str, &str), (&str, &str)> =
    TableDefinition::new("user_oauth_links");
/// User → [`super::Totp`].
pub(super) const TOTP: TableDefinition<&str, &[u8]> = TableDefinition::new("totp");
/// (user, hash of a recovery code): the codes that were not used yet.
pub(super) const RECOVERY_CODES: TableDefinition<(&str, &[u8]), ()> =
    TableDefinition::new("recovery_codes");
/// API key → [`super::api_keys::ApiKeyRow`].
pub(super) const API_KEYS: TableDefinition<&str, &[u8]> = TableDefinition::new("api_keys");
/// (user, API key): the keys that act as a user.
pub(super) const USER_API_KEYS: TableDefinition<(&str, &str), ()> =
    TableDefinition::new("user_api_keys");
/// Invitation → [`super::invites::InviteRow`].
pub(super) const INVITES: TableDefinition<&str, &[u8]> = TableDefinition::new("invites");
/// Invitation → the API key that made it, where one did.
pub(super) const INVITE_KEYS: TableDefinition<&str, &str> = TableDefinition::new("invite_keys");
/// What the server knows of itself, by name; see [`super::server`].
pub(super) const SERVER: TableDefinition<&str, &str> = TableDefinition::new("server");

/// Fingerprint of a ceremony's id → (end, state). One table for each kind of ceremony.
pub(super) type CeremonyTable = TableDefinition<'static, &'static [u8], (u64, &'static str)>;
/// Sign-ins at an identity provider.
pub(super) const OAUTH_STATE: CeremonyTable = TableDefinition::new("oauth_state");
/// Passkeys being made.
pub(super) const WEBAUTHN_REGISTRATION: CeremonyTable =
    TableDefinition::new("webauthn_registration");
/// Passkeys being asked for.
pub(super) const WEBAUTHN_AUTHENTICATION: CeremonyTable =
    TableDefinition::new("webauthn_authentication");
/// Sign-ins that wait for their second factor.
pub(super) const LOGIN_TICKETS: CeremonyTable = TableDefinition::new("login_tickets");
/// Links that an admin gave to somebody who cannot sign in any more.
pub(super) const RECOVERY_LINKS: CeremonyTable = TableDefinition::new("recovery_links");
/// (end, number of the ceremony's kind, fingerprint): what ends next.
pub(super) const CEREMONY_ENDS: TableDefinition<(u64, u8, &[u8]), ()> =
    TableDefinition::new("ceremony_ends");
/// (number of the kind, end, fingerprint) → owner: what is the oldest of a kind, and whose.
pub(super) const CEREMONY_ORDER: TableDefinition<(u8, u64, &[u8]), &str> =
    TableDefinition::new("ceremony_order");
/// (number of the kind, owner, end, fingerprint): what an owner has begun.
pub(super) const OWNER_CEREMONIES: TableDefinition<(u8, &str, u64, &[u8]), ()> =
    TableDefinition::new("owner_ceremonies");

/// Does something with every table of accounts.
pub(crate) fn each_table(act: &mut impl EachTable) -> Result<(), StoreError> {
    act.table(USERS)?;
    act.table(USERNAMES)?;
    act.table(EMAILS)?;
    act.table(USER_SETTINGS)?;
    act.table(SESSIONS)?;
    act.table(USER_SESSIONS)?;
    act.table(RATE_COUNTERS)?;
    act.table(AUDIT)?;
    act.table(CREDENTIALS)?;
    act.table(USER_CREDENTIALS)?;
    act.table(WEBAUTHN_HANDLES)?;
    act.table(HANDLE_USERS)?;
    act.table(OAUTH_LINKS)?;
    act.table(USER_OAUTH_LINKS)?;
    act.table(TOTP)?;
    act.table(RECOVERY_CODES)?;
    act.table(API_KEYS)?;
    act.table(USER_API_KEYS)?;
    act.table(INVITES)?;
    act.table(INVITE_KEYS)?;
    act.table(SERVER)?;
    act.table(OAUTH_STATE)?;
    act.table(WEBAUTHN_REGISTRATION)?;
    act.table(WEBAUTHN_AUTHENTICATION)?;
    act.table(LOGIN_TICKETS)?;
    act.table(RECOVERY_LINKS)?;
    act.table(CEREMONY_ENDS)?;
    act.table(CEREMONY_ORDER)?;
    act.table(OWNER_CEREMONIES)?;
    Ok(())
}
