//! Accounts as admins look after them: listed, made, disabled. Nobody is made by being first, and the last admin stays.

use serde::Serialize;
use stack_storage::{
    Account, AccountKind, AuditAction, AuditEntry, LastAdmin, NewUser, RoleRefused, Store, WaysIn,
};
use stack_types::{ErrorCode, GlobalRole, Problem, Timestamp, UserId, Username};

use super::recovery::RecoveryLink;
use super::sign_in::not_created;
use super::{Auth, Caller, entry_of};
use crate::client::Client;
use crate::email::Email;
use crate::profile::{self, OwnUser};

/// Accounts in one answer, unless asked otherwise, and at most.
const USUAL_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;
/// What is looked for has an end: it is compared with every account.
const MAX_QUERY_CHARS: usize = 100;

/// An account as admins see it.
#[derive(Debug, Clone, Serialize)]
pub struct AccountView {
    /// Who.
    #[serde(flatten)]
    pub user: OwnUser,
    /// Whether nobody may sign in.
    pub disabled: bool,
    /// What stands behind it.
    pub kind: AccountKind,
    /// The ways in which its owner can sign in.
    pub factors: Factors,
    /// When they were last here.
    pub last_seen_at: Option<Timestamp>,
}

/// The ways in which somebody can sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the fields are those of `WaysIn`")]
pub struct Factors {
    pub password: bool,
    pub passkeys: usize,
    pub links: usize,
    pub totp: bool,
}

/// Which accounts to list.
#[derive(Debug, Clone, Default)]
pub struct AccountQuery {
    /// Those made after this one.
    pub after: Option<UserId>,
    /// At most so many, 1 to 200; 50 when absent.
    pub limit: Option<u64>,
    /// Those with this in their username, display name or e-mail address.
    pub part: Option<String>,
}

/// An account that an admin makes. Its owner sets a password by the link that comes with it.
#[derive(Debug, Clone)]
pub struct MakeAccount {
    /// Folded to lower case.
    pub username: String,
    /// Optional.
    pub email: Option<String>,
    /// The username when absent.
    pub display_name: Option<String>,
    /// Member when absent.
    pub role: Option<GlobalRole>,
}

impl From<WaysIn> for Factors {
    fn from(ways: WaysIn) -> Self {
        Self {
            password: ways.password,
            passkeys: ways.passkeys,
            links: ways.links,
            totp: ways.totp,
        }
    }
}

impl Auth {
    /// Accounts in the order they were made.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `invalid_field`; `unavailable`.
    pub async fn accounts(
        &self,
        caller: &Caller,
        query: AccountQuery,
    ) -> Result<Vec<AccountView>, Problem> {
        caller.require_admin()?;
        let limit = query.limit.map_or(Ok(USUAL_PAGE), usize::try_from);
        let limit = limit
            .ok()
            .filter(|limit| (1..=LARGEST_PAGE).contains(limit));
        let limit =
            limit.ok_or_else(|| Problem::invalid_field("limit", "limit is from 1 to 200"))?;
        let part = query.part.unwrap_or_default().trim().to_lowercase();
        if part.chars().count() > MAX_QUERY_CHARS {
            return Err(Problem::invalid_field(
                "q",
                "a search has at most 100 characters",
            ));
        }
        let store = &self.0.store;
        let accounts = match part.is_empty() {
            true => store.list_users(query.after, limit).await?,
            false => store.find_users(part, query.after, limit).await?,
        };
        accounts
            .into_iter()
            .map(|account| self.account_view(account))
            .collect()
    }

    /// Makes an account, and the link by which its owner gets in.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `invalid_field`; `conflict` with
    /// the field that is taken; `unavailable`.
    pub async fn make_account(
        &self,
        caller: &Caller,
        asked: MakeAccount,
        client: &Client,
    ) -> Result<(AccountView, RecoveryLink), Problem> {
        let now = self.0.clock.now();
        caller.require_admin()?;
        caller.require_recent(now)?;
        let username: Username = asked
            .username
            .trim()
            .parse()
            .map_err(|error| Problem::invalid_field("username", format!("{error}")))?;
        let email = asked.email.as_deref().map(Email::from_field).transpose()?;
        let display_name = match &asked.display_name {
            Some(typed) => profile::display_name(typed)?,
            None => username.to_string(),
        };
        let id = UserId::generate(now);
        let new = NewUser {
            id,
            username,
            display_name,
            email: email.map(Email::into_string),
            email_verified: false,
            password_hash: None,
            role: asked.role.unwrap_or(GlobalRole::Member),
            kind: AccountKind::Person,
            invite: None,
        };
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::AccountMade)
        };
        let made = self.store_of_admin(caller).create_user(new, entry).await?;
        let account = made.map_err(not_created)?;
        let link = self.make_recovery_link(caller, id, false, client).await?;
        Ok((self.account_view(account)?, link))
    }

    /// Disables an account and revokes everything it has open, or enables it again.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `not_found`; `conflict` for the
    /// last admin and for oneself; `unavailable`.
    pub async fn disable(
        &self,
        caller: &Caller,
        user: UserId,
        disabled: bool,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        caller.require_recent(self.0.clock.now())?;
        if disabled && user == caller.user.id {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "nobody disables their own account",
            ));
        }
        let action = match disabled {
            true => AuditAction::AccountDisabled,
            false => AuditAction::AccountEnabled,
        };
        let entry = AuditEntry {
            target: Some(user.to_string()),
            ..entry_of(caller, client, action)
        };
        let store = self.store_of_admin(caller);
        self.disable_and_tell(store, user, disabled, entry).await
    }

    /// Gives somebody a role on the whole server. It holds from their next request on.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `not_found`; `conflict` for the
    /// last admin, and for a bot that would be one; `unavailable`.
    pub async fn set_role(
        &self,
        caller: &Caller,
        user: UserId,
        role: GlobalRole,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        caller.require_recent(self.0.clock.now())?;
        let name = match role {
            GlobalRole::Admin => "admin",
            GlobalRole::Member => "member",
        };
        let entry = AuditEntry {
            target: Some(format!("{user} {name}")),
            ..entry_of(caller, client, AuditAction::RoleChanged)
        };
        let (auth, store) = (self.clone(), self.store_of_admin(caller));
        self.to_the_end(async move {
            store.set_role(user, role, entry).await?.map_err(no_role)?;
            auth.tell_power_changed(user);
            Ok(())
        })
        .await
    }

    /// One account as admins see it.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `not_found`; `unavailable`.
    pub fn account(&self, caller: &Caller, user: UserId) -> Result<AccountView, Problem> {
        caller.require_admin()?;
        let account = self.0.store.account(user)?;
        self.account_view(account.ok_or_else(no_account)?)
    }

    pub(super) async fn disable_and_tell(
        &self,
        store: Store,
        user: UserId,
        disabled: bool,
        entry: AuditEntry,
    ) -> Result<(), Problem> {
        let auth = self.clone();
        self.to_the_end(async move {
            let revoked = store.set_disabled(user, disabled, entry).await?;
            let revoked = revoked.map_err(last_admin)?.ok_or_else(no_account)?;
            if disabled {
                auth.tell_out(user, revoked);
            }
            Ok(())
        })
        .await
    }

    fn account_view(&self, account: Account) -> Result<AccountView, Problem> {
        let id = account.user.id;
        Ok(AccountView {
            disabled: account.disabled,
            kind: account.kind,
            factors: self.0.store.ways_in(id)?.into(),
            last_seen_at: self.0.store.last_seen(&[id])?.get(&id).copied(),
            user: account.into(),
        })
    }
}

/// The answer to whoever would leave nobody to look after the server.
pub(super) fn last_admin(_: LastAdmin) -> Problem {
    Problem::new(
        ErrorCode::Conflict,
        "this is the last admin; make another one first",
    )
}

/// Why somebody did not get a role, for whoever wanted it.
pub(super) fn no_role(refused: RoleRefused) -> Problem {
    match refused {
        RoleRefused::Unknown => no_account(),
        RoleRefused::LastAdmin(refused) => last_admin(refused),
        RoleRefused::NoPerson => Problem::new(ErrorCode::Conflict, "only a person can be an admin"),
    }
}

pub(super) fn no_account() -> Problem {
    Problem::not_found("there is no such account")
}
