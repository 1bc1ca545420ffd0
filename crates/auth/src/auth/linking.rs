//! Which account here belongs to an account elsewhere.
//!
//! | the provider says the address is | the account here with it | what comes of it |
//! | --- | --- | --- |
//! | (linked already) | | it signs in |
//! | verified | verified | they are linked, and it signs in |
//! | verified | unverified | it is taken from whoever made it: every way in and every session goes, then as above |
//! | verified | either, an admin's | refused: sign in first, then link |
//! | unverified | any | refused: sign in first, then link |
//! | either | none | a new account, where they may be made; it keeps the address only if it is verified |

use stack_storage::{
    Account, AccountKind, AddLinkError, AuditAction, AuditEntry, AuditOutcome, CreateUserError,
    Delivery, LinkByEmail, NewUser, SignInMethod,
};
use stack_types::{ErrorCode, GlobalRole, Problem, UserId, Username};

use super::oauth::{OauthError, OauthRefusal};
use super::{Auth, Tokens};
use crate::client::Client;
use crate::email::Email;
use crate::oauth::{Identity, Provider, with_suffix};
use crate::{secret, throttle};

/// How often it is looked again when something changed while it was looked at.
const TRIES: usize = 3;
/// How many usernames are tried for somebody new.
const NAMES: usize = 8;

/// What one try came to.
enum Tried {
    Done(Box<Tokens>, bool),
    Again,
}

impl Auth {
    /// Signs somebody in who has shown who they are at a provider, and says whether their account is new.
    pub(super) async fn sign_in_as(
        &self,
        provider: &Provider,
        identity: Identity,
        invite: Option<&str>,
        client: &Client,
    ) -> Result<(Tokens, bool), OauthError> {
        for _ in 0..TRIES {
            let tried = self
                .try_sign_in(provider, &identity, invite, client)
                .await?;
            if let Tried::Done(tokens, is_new) = tried {
                return Ok((*tokens, is_new));
            }
        }
        Err(OauthRefusal::TryLater.into())
    }

    async fn try_sign_in(
        &self,
        provider: &Provider,
        identity: &Identity,
        invite: Option<&str>,
        client: &Client,
    ) -> Result<Tried, OauthError> {
        let store = &self.0.store;
        if let Some(link) = store.oauth_link(&identity.issuer, &identity.subject)? {
            let account = store.account(link.user_id)?;
            if !account.is_some_and(|account| account.may_sign_in()) {
                return Err(OauthRefusal::AccountDisabled.into());
            }
            let (session, refresh) = self.oauth_session(link.user_id, client)?;
            let entry = signed_in(&session, AuditAction::Login);
            return match store.use_oauth_link(link.id, session, entry).await? {
                Ok((account, session)) => {
                    let tokens = self.tokens(account, &session, &refresh)?;
                    Ok(Tried::Done(Box::new(tokens), false))
                }
                Err(_stale) => Ok(Tried::Again),
            };
        }
        if let Some(email) = &identity.email
            && let Some(account) = store.account_by_login(email.as_str())?
        {
            return self
                .sign_in_by_email(provider, identity, email, account, client)
                .await;
        }
        self.register_as(provider, identity, invite, client).await
    }

    async fn sign_in_by_email(
        &self,
        provider: &Provider,
        identity: &Identity,
        email: &Email,
        account: Account,
        client: &Client,
    ) -> Result<Tried, OauthError> {
        let adopts = !account.email_verified;
        // What an address opens must not be the whole server, whoever vouches for it.
        if identity.verified_email().is_none() || account.user.role == GlobalRole::Admin {
            return Err(OauthRefusal::EmailExists.into());
        }
        if !account.may_sign_in() {
            return Err(OauthRefusal::AccountDisabled.into());
        }
        let (session, refresh) = self.oauth_session(account.user.id, client)?;
        let asked = LinkByEmail {
            link: self.new_link(provider, identity, account.user.id),
            email: email.as_str().to_owned(),
            audit: signed_in(&session, AuditAction::Login),
            session,
        };
        let begun = if adopts {
            let auth = self.clone();
            self.to_the_end(async move {
                let owner = asked.link.user_id;
                let adopted = auth.0.store.adopt_unverified_account(asked).await?;
                Ok(adopted.map(|(account, session, revoked)| {
                    tracing::info!(
                        user_id = %owner,
                        "a provider vouches for an address that was not verified here; the account is taken over"
                    );
                    auth.tell_revoked(owner, revoked);
                    (account, session)
                }))
            })
            .await?
        } else {
            self.0.store.link_by_email(asked).await?
        };
        match begun {
            Ok((account, session)) => {
                let tokens = self.tokens(account, &session, &refresh)?;
                Ok(Tried::Done(Box::new(tokens), false))
            }
            Err(AddLinkError::Taken | AddLinkError::Stale) => Ok(Tried::Again),
        }
    }

    async fn register_as(
        &self,
        provider: &Provider,
        identity: &Identity,
        invite: Option<&str>,
        client: &Client,
    ) -> Result<Tried, OauthError> {
        let inner = &*self.0;
        if !provider.allow_registration {
            return Err(OauthRefusal::NotLinked.into());
        }
        let invite = self.admission(invite).map_err(closed)?;
        let now = inner.clock.now();
        throttle::check_registrations(&inner.store, &inner.throttle(), client, now)
            .map_err(too_often)?;
        throttle::take_registration(&inner.store, &inner.throttle(), client, now)
            .await
            .map_err(too_often)?;
        let email = identity.verified_email();
        let like = identity.username_like();
        let like = like.ok_or_else(|| Problem::internal(NoName))?;
        for name in 0..NAMES {
            let username = match name {
                0 => like.clone(),
                _ => another(&like)?,
            };
            let user_id = UserId::generate(now);
            let (session, refresh) = self.oauth_session(user_id, client)?;
            let entry = signed_in(&session, AuditAction::Register);
            let new = NewUser {
                id: user_id,
                display_name: identity
                    .shown_name()
                    .unwrap_or_else(|| username.to_string()),
                username,
                // One that nobody has shown to be theirs would keep its owner out.
                email: email.map(|email| email.as_str().to_owned()),
                email_verified: email.is_some(),
                password_hash: None,
                // Nobody becomes an admin by being first.
                role: GlobalRole::Member,
                kind: AccountKind::Person,
                invite,
            };
            let link = self.new_link(provider, identity, user_id);
            let made = inner.store.register_with_link(new, link, session, entry);
            match made.await? {
                Ok(Ok((account, session))) => {
                    let tokens = self.tokens(account, &session, &refresh)?;
                    return Ok(Tried::Done(Box::new(tokens), true));
                }
                // Somebody was first: the same person in another tab, or the address's owner.
                Ok(Err(_)) | Err(CreateUserError::EmailTaken) => return Ok(Tried::Again),
                Err(CreateUserError::UsernameTaken | CreateUserError::IdTaken) => {}
                Err(CreateUserError::InviteClosed) => {
                    return Err(OauthRefusal::RegistrationClosed.into());
                }
            }
        }
        Err(OauthRefusal::TryLater.into())
    }

    fn oauth_session(
        &self,
        user: UserId,
        client: &Client,
    ) -> Result<(stack_storage::NewSession, crate::refresh::RefreshToken), Problem> {
        self.new_session(user, SignInMethod::Oauth, Delivery::Cookie, client)
    }
}

/// Not even the fallback is a username.
#[derive(Debug, thiserror::Error)]
#[error("there is no username for a new account")]
struct NoName;

fn signed_in(session: &stack_storage::NewSession, action: AuditAction) -> AuditEntry {
    AuditEntry {
        actor: Some(session.user_id),
        ip: session.ip.clone(),
        session: Some(session.id),
        action,
        target: Some(session.user_id.to_string()),
        outcome: AuditOutcome::Ok,
    }
}

fn another(like: &Username) -> Result<Username, Problem> {
    let mut bytes = [0u8; 4];
    secret::fill(&mut bytes)?;
    let suffix = u32::from_le_bytes(bytes) % 10_000;
    with_suffix(like, suffix).ok_or_else(|| Problem::internal(NoName))
}

fn closed(problem: Problem) -> OauthError {
    match problem.code {
        ErrorCode::Forbidden => OauthRefusal::RegistrationClosed.into(),
        _ => problem.into(),
    }
}

fn too_often(problem: Problem) -> OauthError {
    match problem.code {
        ErrorCode::RateLimited => OauthRefusal::TryLater.into(),
        _ => problem.into(),
    }
}
