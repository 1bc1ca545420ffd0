//! API keys and the room tokens made with them. Both are looked up each time they are shown: a key that is revoked ends
//! at once, with every token that it made and every socket that was opened with either.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use stack_storage::{
    Account, AccountKind, ApiKey, AuditAction, AuditEntry, NewApiKey, NewUser, Scope, Store,
};
use stack_types::{
    ApiKeyId, ErrorCode, GlobalRole, Problem, SessionId, Timestamp, User, UserId, Username,
};

use super::sign_in::not_created;
use super::{Auth, Caller, Credential, entry_of};
use crate::access::{RoomAccess, expired, unauthenticated};
use crate::client::Client;
use crate::room_token::RoomGrant;
use crate::{profile, secret};

const PREFIX: &str = "stk_";
const MAX_NAME_CHARS: usize = 64;
/// A key without an end of its own: an open socket of it looks again after so long.
const ENDLESS: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How exact `last_used_at` is.
const USED_EVERY: Duration = Duration::from_secs(60);
/// How long a room token lives: a short while, since its rooms are those of when it was made.
const TTL_S: std::ops::RangeInclusive<u64> = 10..=3600;
const USUAL_TTL_S: u64 = 300;
/// Rooms in one token; it has to fit in a header.
const MAX_ROOMS: usize = 50;
/// How many names are tried for an account whose name is taken.
const NAME_TRIES: u8 = 4;

/// An API key to make.
#[derive(Debug, Clone)]
pub struct MakeApiKey {
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// As whom it acts.
    pub acts_as: ActsAs,
}

/// As whom an API key acts.
#[derive(Debug, Clone)]
pub enum ActsAs {
    /// A new bot. Without a username it gets one from the key's name.
    New {
        /// Folded to lower case.
        username: Option<String>,
        /// The key's name when absent.
        display_name: Option<String>,
    },
    /// A bot that is there.
    Bot(UserId),
}

/// A key that was made.
#[derive(Clone, Serialize)]
pub struct MadeApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// The key itself, told this once.
    pub key: String,
    /// As whom it acts.
    pub user: User,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for MadeApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeApiKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A key as admins see it.
#[derive(Debug, Clone, Serialize)]
pub struct ApiKeyView {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// As whom it acts.
    pub user: Option<User>,
    /// Who made it.
    pub created_by: UserId,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

/// A room token to make.
#[derive(Debug, Clone)]
pub struct MakeRoomToken {
    /// For whom.
    pub user_id: UserId,
    /// Where, and for what; everywhere its user is when there are none.
    pub rooms: Option<Vec<RoomGrant>>,
    /// For how long, 10 to 3600 s; 300 when absent.
    pub ttl_s: Option<u64>,
}

/// A room token.
#[derive(Clone, Serialize)]
pub struct RoomToken {
    /// The token.
    pub token: String,
    /// Always `Bearer`.
    pub token_type: &'static str,
    /// How long it lives.
    pub expires_in_s: u64,
    /// For whom.
    pub user: User,
}

impl fmt::Debug for RoomToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomToken")
            .field("user", &self.user.id)
            .finish_non_exhaustive()
    }
}

impl Auth {
    /// Makes an API key, and the bot that it acts as.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `invalid_field`; `not_found` and
    /// `conflict` for the bot; `unavailable`.
    pub async fn make_api_key(
        &self,
        caller: &Caller,
        asked: MakeApiKey,
        client: &Client,
    ) -> Result<MadeApiKey, Problem> {
        let now = self.0.clock.now();
        caller.require_admin()?;
        caller.require_recent(now)?;
        let name = asked.name.trim().to_owned();
        if !(1..=MAX_NAME_CHARS).contains(&name.chars().count())
            || name.chars().any(char::is_control)
        {
            let detail = format!("a name has 1 to {MAX_NAME_CHARS} characters");
            return Err(Problem::invalid_field("name", detail));
        }
        if asked.scopes.is_empty() {
            return Err(Problem::invalid_field(
                "scopes",
                "a key without a scope could do nothing",
            ));
        }
        if asked.expires_at.is_some_and(|end| end <= now) {
            return Err(Problem::invalid_field(
                "expires_at",
                "a key ends in the future",
            ));
        }
        let id = ApiKeyId::generate(now);
        let user = match asked.acts_as {
            ActsAs::Bot(user) => self.bot(user)?,
            ActsAs::New {
                username,
                display_name,
            } => {
                self.make_bot(caller, &name, username, display_name, client)
                    .await?
            }
        };
        let key = secret::random()?;
        let new = NewApiKey {
            id,
            name,
            user_id: user.id,
            created_by: caller.user.id,
            scopes: asked.scopes,
            expires_at: asked.expires_at,
            fingerprint: secret::fingerprint(&key),
        };
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::ApiKeyMade)
        };
        let made = self.store_of_admin(caller).add_api_key(new, entry).await?;
        let made = made.ok_or_else(|| Problem::not_found("there is no such bot"))?;
        Ok(MadeApiKey {
            id,
            key: format!("{PREFIX}{id}_{}", secret::to_text(&key)),
            user,
            name: made.name,
            scopes: made.scopes,
            created_at: made.created_at,
            expires_at: made.expires_at,
        })
    }

    /// The keys that were not revoked, in the order they were made.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `unavailable`.
    pub async fn api_keys(&self, caller: &Caller) -> Result<Vec<ApiKeyView>, Problem> {
        caller.require_admin()?;
        let keys = self.0.store.list_api_keys().await?;
        let keys = keys.into_iter().filter(|key| key.revoked_at.is_none());
        keys.map(|key| {
            Ok(ApiKeyView {
                user: self.0.store.user(key.user_id)?,
                id: key.id,
                name: key.name,
                scopes: key.scopes,
                created_by: key.created_by,
                created_at: key.created_at,
                expires_at: key.expires_at,
                last_used_at: key.last_used_at,
            })
        })
        .collect()
    }

    /// Revokes a key: it ends, with every token it made and every socket opened with either.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin; `not_found`; `unavailable`.
    pub async fn revoke_api_key(
        &self,
        caller: &Caller,
        id: ApiKeyId,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_admin()?;
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::ApiKeyRevoked)
        };
        let (auth, store) = (self.clone(), self.store_of_admin(caller));
        self.to_the_end(async move {
            let revoked = store.revoke_api_key(id, entry).await?;
            let key = revoked.ok_or_else(|| Problem::not_found("there is no such API key"))?;
            auth.tell_revoked(key.user_id, vec![SessionId::from(id)]);
            Ok(())
        })
        .await
    }

    /// Whether an account is there that a backend may vouch for.
    ///
    /// # Errors
    /// `forbidden` when one is there that it may not vouch for; `unavailable`.
    pub fn vouches_for(&self, caller: &Caller, user_id: UserId) -> Result<bool, Problem> {
        caller.require_key(Scope::ChatToken)?;
        let account = self.0.store.account(user_id)?;
        account.as_ref().map_or(Ok(false), |account| {
            may_be_vouched_for(account)
                .map(|()| true)
                .map_err(Problem::forbidden)
        })
    }

    /// The account of one of a backend's users, made when it is not there.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an API key of scope `chat_token`, and for people who sign in here, bots and disabled accounts;
    /// `invalid_field`; `conflict`; `unavailable`.
    pub async fn vouched_user(
        &self,
        caller: &Caller,
        user_id: UserId,
        display_name: Option<&str>,
        client: &Client,
    ) -> Result<User, Problem> {
        caller.require_key(Scope::ChatToken)?;
        let display_name = display_name.map(profile::display_name).transpose()?;
        let account = match self.0.store.account(user_id)? {
            Some(account) => account,
            None => {
                self.make_external(caller, user_id, display_name, client)
                    .await?
            }
        };
        may_be_vouched_for(&account).map_err(Problem::forbidden)?;
        Ok(account.user)
    }

    /// Makes a room token for one of a backend's users, who is there already.
    ///
    /// # Errors
    /// As [`Auth::vouched_user`]; `invalid_field`; `not_found` without the user.
    pub async fn make_room_token(
        &self,
        caller: &Caller,
        asked: MakeRoomToken,
        client: &Client,
    ) -> Result<RoomToken, Problem> {
        let key = caller.require_key(Scope::ChatToken)?;
        let now = self.0.clock.now();
        let ttl_s = Self::check_room_token(asked.rooms.as_deref(), asked.ttl_s)?;
        let account = self.0.store.account(asked.user_id)?;
        let account = account.ok_or_else(|| Problem::not_found("there is no such user"))?;
        may_be_vouched_for(&account).map_err(Problem::forbidden)?;
        let expires_at = now.plus(Duration::from_secs(ttl_s)).min(caller.expires_at);
        let user = account.user;
        let tokens = &self.0.access;
        let token = tokens.issue_room(user.id, key, asked.rooms, expires_at, now)?;
        let entry = AuditEntry {
            target: Some(user.id.to_string()),
            ..entry_of(caller, client, AuditAction::RoomTokenMade)
        };
        self.0.store.audit(entry).await?;
        Ok(RoomToken {
            token,
            token_type: "Bearer",
            expires_in_s: expires_at.since(now).as_secs(),
            user,
        })
    }

    /// Whether a room token of these rooms and this length may be made, and how long it lives. Asked before anything
    /// is changed for it.
    ///
    /// # Errors
    /// `invalid_field`.
    pub fn check_room_token(
        rooms: Option<&[RoomGrant]>,
        ttl_s: Option<u64>,
    ) -> Result<u64, Problem> {
        let ttl_s = ttl_s.unwrap_or(USUAL_TTL_S);
        if !TTL_S.contains(&ttl_s) {
            return Err(Problem::invalid_field(
                "ttl_s",
                "a room token lives 10 to 3600 s",
            ));
        }
        let rooms = rooms.unwrap_or_default();
        if rooms.len() > MAX_ROOMS {
            let detail = format!("a room token names at most {MAX_ROOMS} rooms");
            return Err(Problem::invalid_field("rooms", detail));
        }
        for (at, grant) in rooms.iter().enumerate() {
            let again = rooms[at + 1..].iter().any(|other| other.room == grant.room);
            if grant.rights.is_empty() || again {
                return Err(Problem::invalid_field(
                    "rooms",
                    "each room stands once, with at least one right",
                ));
            }
        }
        Ok(ttl_s)
    }

    /// Who made the key of a caller, for what the key may do on their account. They are an admin still, or the key
    /// would not have its scope.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an API key of scope `chat_token`; `unauthenticated`.
    pub fn maker_of_key(&self, caller: &Caller) -> Result<UserId, Problem> {
        let key = caller.require_key(Scope::ChatToken)?;
        let found = self.0.store.api_key_with_account(key)?;
        let (key, _, _) = found.ok_or_else(unauthenticated)?;
        Ok(key.created_by)
    }

    /// Whether this is an API key, good or not, rather than a token.
    #[must_use]
    pub fn looks_like_api_key(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// The caller behind an API key.
    pub(super) fn caller_of_key(&self, text: &str, now: Timestamp) -> Result<Caller, Problem> {
        let (id, shown) = parse(text).ok_or_else(unauthenticated)?;
        let shown = secret::fingerprint(&shown);
        let (key, account) = self.live_key(id, Some(&shown), now)?;
        self.note_key_used(&key, now);
        self.key_caller(key, account, now)
    }

    /// The caller behind a key that was shown before.
    pub(super) fn current_of_key(&self, id: ApiKeyId, now: Timestamp) -> Result<Caller, Problem> {
        let (key, account) = self.live_key(id, None, now)?;
        self.key_caller(key, account, now)
    }

    /// The caller behind a room token.
    pub(super) fn caller_of_room_token(
        &self,
        access: RoomAccess,
        now: Timestamp,
    ) -> Result<Caller, Problem> {
        if now >= access.expires_at {
            return Err(expired());
        }
        let (key, _) = self.live_key(access.key, None, now)?;
        if !self.scopes_of(&key)?.contains(&Scope::ChatToken) {
            return Err(unauthenticated());
        }
        let account = self.0.store.account(access.user_id)?;
        let account = account
            .filter(|account| may_be_vouched_for(account).is_ok())
            .ok_or_else(unauthenticated)?;
        Ok(Caller {
            user: account.user,
            session_id: SessionId::from(access.key),
            credential: Credential::RoomToken {
                key: access.key,
                rooms: access.rooms,
            },
            expires_at: access.expires_at,
        })
    }

    fn key_caller(&self, key: ApiKey, account: Account, now: Timestamp) -> Result<Caller, Problem> {
        let scopes = self.scopes_of(&key)?;
        Ok(Caller {
            user: account.user,
            session_id: SessionId::from(key.id),
            credential: Credential::ApiKey { id: key.id, scopes },
            expires_at: key.expires_at.unwrap_or_else(|| now.plus(ENDLESS)),
        })
    }

    /// What a key may do now: those scopes that are an admin's to give last as long as its maker is one.
    fn scopes_of(&self, key: &ApiKey) -> Result<Vec<Scope>, Problem> {
        let mut scopes = key.scopes.clone();
        let hangs = |scope: &Scope| matches!(scope, Scope::Admin | Scope::ChatToken);
        if scopes.iter().any(hangs) {
            let maker = self.0.store.account(key.created_by)?;
            if !maker.is_some_and(|maker| maker.is_admin()) {
                scopes.retain(|scope| !hangs(scope));
            }
        }
        Ok(scopes)
    }

    fn live_key(
        &self,
        id: ApiKeyId,
        shown: Option<&[u8; secret::SECRET_BYTES]>,
        now: Timestamp,
    ) -> Result<(ApiKey, Account), Problem> {
        let found = self.0.store.api_key_with_account(id)?;
        let works = |(key, fingerprint, account): &(ApiKey, [u8; 32], Account)| {
            shown.is_none_or(|shown| secret::same(shown, fingerprint))
                && key.is_live(now)
                && !account.disabled
                && account.kind == AccountKind::Bot
        };
        let found = found.filter(works).ok_or_else(unauthenticated)?;
        Ok((found.0, found.2))
    }

    fn note_key_used(&self, key: &ApiKey, now: Timestamp) {
        if key
            .last_used_at
            .is_none_or(|last| now.since(last) >= USED_EVERY)
        {
            self.0.keys_used.lock().insert(key.id, now);
        }
    }

    fn bot(&self, user: UserId) -> Result<User, Problem> {
        let account = self.0.store.account(user)?;
        let account = account.ok_or_else(|| Problem::not_found("there is no such bot"))?;
        match account.kind {
            AccountKind::Bot => Ok(account.user),
            AccountKind::Person | AccountKind::External => Err(Problem::invalid_field(
                "user_id",
                "a key acts as a bot, never as a person",
            )),
        }
    }

    async fn make_bot(
        &self,
        caller: &Caller,
        key_name: &str,
        username: Option<String>,
        display_name: Option<String>,
        client: &Client,
    ) -> Result<User, Problem> {
        let display_name = profile::display_name(display_name.as_deref().unwrap_or(key_name))?;
        let given = username
            .as_deref()
            .map(|typed| typed.trim().parse::<Username>())
            .transpose()
            .map_err(|error| Problem::invalid_field("username", format!("{error}")))?;
        let wish = match &given {
            Some(username) => username.to_string(),
            None => slug("bot", key_name),
        };
        let new = NewUser {
            id: UserId::generate(self.0.clock.now()),
            kind: AccountKind::Bot,
            ..without_sign_in(
                wish.parse().map_err(Problem::internal)?,
                display_name,
                caller,
            )
        };
        let tries = if given.is_some() { 1 } else { NAME_TRIES };
        let store = self.store_of_admin(caller);
        let made = self.make_named(&store, caller, new, tries, client);
        Ok(made.await?.user)
    }

    async fn make_external(
        &self,
        caller: &Caller,
        id: UserId,
        display_name: Option<String>,
        client: &Client,
    ) -> Result<Account, Problem> {
        let username = slug("x", id.as_str());
        let display_name = display_name.unwrap_or_else(|| id.to_string());
        let new = NewUser {
            id,
            kind: AccountKind::External,
            ..without_sign_in(
                username.parse().map_err(Problem::internal)?,
                display_name,
                caller,
            )
        };
        let store = self.store_of(caller);
        self.make_named(&store, caller, new, NAME_TRIES, client)
            .await
    }

    /// Makes an account, with another name when the one that was thought of is taken.
    async fn make_named(
        &self,
        store: &Store,
        caller: &Caller,
        new: NewUser,
        tries: u8,
        client: &Client,
    ) -> Result<Account, Problem> {
        let entry = AuditEntry {
            target: Some(new.id.to_string()),
            ..entry_of(caller, client, AuditAction::AccountMade)
        };
        let mut next = new.clone();
        let mut left = tries;
        loop {
            let refused = match store.create_user(next.clone(), entry.clone()).await? {
                Ok(account) => return Ok(account),
                Err(refused) => refused,
            };
            // Somebody else may have made this very account meanwhile.
            if let Some(account) = self.0.store.account(new.id)? {
                return Ok(account);
            }
            left = left.saturating_sub(1);
            if left == 0 {
                return Err(not_created(refused));
            }
            next.username = another(new.username.as_str())?;
        }
    }
}

fn without_sign_in(username: Username, display_name: String, caller: &Caller) -> NewUser {
    NewUser {
        id: caller.user.id,
        username,
        display_name,
        email: None,
        email_verified: false,
        password_hash: None,
        // Neither a bot nor a backend's user is ever an admin.
        role: GlobalRole::Member,
        kind: AccountKind::External,
        invite: None,
    }
}

/// A backend vouches for its own users, never for somebody who signs in here themselves, and never for a bot.
fn may_be_vouched_for(account: &Account) -> Result<(), &'static str> {
    match account.kind {
        AccountKind::External => {}
        AccountKind::Person => return Err("no token is made for somebody who signs in here"),
        AccountKind::Bot => return Err("no token is made for a bot"),
    }
    if account.user.role == GlobalRole::Admin {
        return Err("no token is made for an admin");
    }
    if account.disabled {
        return Err("this account is disabled");
    }
    Ok(())
}

fn parse(text: &str) -> Option<(ApiKeyId, [u8; secret::SECRET_BYTES])> {
    // From the end: both an id and base 64 may hold the underscore, but the secret's length is known.
    let rest = text.strip_prefix(PREFIX)?;
    let at = rest.len().checked_sub(SECRET_CHARS + 1)?;
    let (id, shown) = rest.split_at_checked(at)?;
    Some((
        id.parse().ok()?,
        secret::from_text(shown.strip_prefix('_')?)?,
    ))
}

/// The characters of 256 bits in base 64.
const SECRET_CHARS: usize = 43;

/// A username made of what somebody wrote.
fn slug(prefix: &str, from: &str) -> String {
    let sane: String = from
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        .take(24)
        .collect();
    match sane.is_empty() {
        true => format!("{prefix}-anonymous"),
        false => format!("{prefix}-{sane}"),
    }
}

fn another(name: &str) -> Result<Username, Problem> {
    let mut bytes = [0u8; 2];
    secret::fill(&mut bytes)?;
    let suffix = u16::from_be_bytes(bytes);
    format!("{name}-{suffix:04x}")
        .parse()
        .map_err(|_| Problem::new(ErrorCode::Conflict, "no name can be found for this account"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_reads_back() {
        let id = ApiKeyId::generate(Timestamp(1_700_000_000_000));
        let text = format!("stk_{id}_{}", secret::to_text(&[0xff; 32]));
        assert_eq!(parse(&text), Some((id, [0xff; 32])));
    }

    #[test]
    fn names_are_made_of_anything() {
        for from in ["Hello World", "\u{1f600}", "", "ÄÖ_42"] {
            assert!(slug("bot", from).parse::<Username>().is_ok(), "{from}");
            assert!(another(&slug("x", from)).is_ok());
        }
    }

    proptest! {
        #[test]
        fn any_key_is_answered(text in "(stk_)?.{0,100}") {
            let _ = parse(&text);
        }
    }
}
