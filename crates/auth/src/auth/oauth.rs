//! The way to an identity provider and back. What follows for accounts from who somebody is there, is in `linking`.
//!
//! A callback is looked at in this order: its state is taken, so that there is no second try; the browser is the one
//! that began, the provider the one that was begun with, and says so itself if it says anything; only then does what
//! it brings count.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use stack_storage::{
    AuditAction, AuditEntry, AuditOutcome, Ceremony, CeremonyOwner, NewLink, OauthLink, Removal,
    SignInMethod,
};
use stack_types::{ErrorCode, LinkId, Problem, SessionId, Timestamp, UserId};

use super::{Auth, Caller, Tokens, entry_of};
use crate::client::Client;
use crate::oauth::{
    Failure, Identity, Intent, Pending, Provider, ProviderView, Providers, binding_of, return_to,
};
use crate::secret;

/// What the state of a sign-in is sealed as.
const SEALED_AS: &str = "oauth state";
/// How long somebody may stay at the provider.
const STATE_LIVES: Duration = Duration::from_secs(10 * 60);
/// Texts of invitations are shorter.
const MAX_INVITE_BYTES: usize = 128;
/// Codes of providers are shorter.
const MAX_CODE_BYTES: usize = 4096;

/// Why signing in at a provider came to nothing, as the page that people come back to is told. The list is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OauthRefusal {
    /// They said no there.
    Denied,
    /// It took too long, or this callback was used before.
    Expired,
    /// Another browser, or somebody else, began it.
    WrongBrowser,
    /// The provider does not answer.
    ProviderUnavailable,
    /// The provider answers what it must not.
    ProviderError,
    /// An account here has this address. Its owner signs in to it first, and links then.
    EmailExists,
    /// No account here is linked to that one, and none is made.
    NotLinked,
    /// Nobody makes an account here now, or the invitation is no good.
    RegistrationClosed,
    /// The account here is disabled.
    AccountDisabled,
    /// The account there is linked already.
    AlreadyLinked,
    /// The gateway cannot do it now.
    TryLater,
}

impl OauthRefusal {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::Denied,
        Self::Expired,
        Self::WrongBrowser,
        Self::ProviderUnavailable,
        Self::ProviderError,
        Self::EmailExists,
        Self::NotLinked,
        Self::RegistrationClosed,
        Self::AccountDisabled,
        Self::AlreadyLinked,
        Self::TryLater,
    ];

    /// As it stands in the address of the page.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::WrongBrowser => "wrong_browser",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::ProviderError => "provider_error",
            Self::EmailExists => "email_exists",
            Self::NotLinked => "not_linked",
            Self::RegistrationClosed => "registration_closed",
            Self::AccountDisabled => "account_disabled",
            Self::AlreadyLinked => "already_linked",
            Self::TryLater => "try_later",
        }
    }
}

/// Why something came to nothing: refused, or a fault that is told as any other.
#[derive(Debug)]
pub enum OauthError {
    /// For the page.
    Refused(OauthRefusal),
    /// For programs and the log.
    Problem(Problem),
}

impl From<OauthRefusal> for OauthError {
    fn from(refused: OauthRefusal) -> Self {
        Self::Refused(refused)
    }
}

impl From<Failure> for OauthError {
    fn from(failure: Failure) -> Self {
        Self::Refused(match failure {
            Failure::Unavailable => OauthRefusal::ProviderUnavailable,
            Failure::Faulty => OauthRefusal::ProviderError,
        })
    }
}

impl From<Problem> for OauthError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<stack_storage::StoreError> for OauthError {
    fn from(error: stack_storage::StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// A sign-in to begin. Not for the log: it may hold an invitation.
#[derive(Clone, Copy, Default)]
pub struct OauthBegin<'a> {
    /// The provider's name.
    pub provider: &'a str,
    /// A page of ours to come back to.
    pub return_to: Option<&'a str>,
    /// The text of an invitation, for who is new.
    pub invite: Option<&'a str>,
}

/// What a provider's callback brings.
#[derive(Clone, Default)]
pub struct OauthAnswer {
    /// Of the sign-in that was begun.
    pub state: Option<String>,
    /// For whoever began it.
    pub code: Option<String>,
    /// Why there is no code.
    pub error: Option<String>,
    /// Who sends it (RFC 9207).
    pub iss: Option<String>,
}

/// What came of a callback.
pub struct OauthDone {
    /// The page to go to.
    pub return_to: String,
    /// Of whoever signed in; nobody did who came to link an account or to show again who they are.
    pub tokens: Option<Tokens>,
    /// The invitation that an account was made with.
    pub invite: Option<String>,
}

impl fmt::Debug for OauthDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthDone")
            .field("return_to", &self.return_to)
            .finish_non_exhaustive()
    }
}

/// A linked account as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkView {
    /// Its id.
    pub id: LinkId,
    /// The provider's name.
    pub provider: String,
    /// What people know the provider by.
    pub title: String,
    /// The address that the provider told when it was linked.
    pub email: Option<String>,
    /// Since when.
    pub linked_at: Timestamp,
    /// When it last signed in.
    pub last_used_at: Option<Timestamp>,
}

impl Auth {
    /// Where people can sign in who have an account elsewhere.
    #[must_use]
    pub fn oauth_providers(&self) -> Vec<ProviderView> {
        self.0.providers.views()
    }

    /// The secret that ties a sign-in to a browser: the one that it has, or a new one.
    ///
    /// # Errors
    /// The machine gives no random bytes.
    pub fn oauth_browser(&self, carried: Option<&str>) -> Result<String, Problem> {
        let known =
            carried.filter(|text| secret::from_text::<{ secret::SECRET_BYTES }>(text).is_some());
        match known {
            // Kept, so that a second tab does not end what the first has begun.
            Some(known) => Ok(known.to_owned()),
            None => Ok(secret::to_text(&secret::random()?)),
        }
    }

    /// Where a browser goes to sign in at a provider.
    ///
    /// # Errors
    /// `not_found` for a provider that is none; `invalid_field`; `unavailable`; or refused, when the provider is not
    /// what it should be.
    pub async fn oauth_begin(
        &self,
        asked: OauthBegin<'_>,
        browser: &str,
        client: &Client,
    ) -> Result<String, OauthError> {
        if asked
            .invite
            .is_some_and(|text| text.len() > MAX_INVITE_BYTES)
        {
            return Err(Problem::invalid_field("invite", "this is no invitation").into());
        }
        let begun_by = client.ceremony_owner();
        self.begin(asked, Intent::SignIn, browser, begun_by).await
    }

    /// Where a browser goes to link an account at a provider to the caller's, or to show there again who they are.
    ///
    /// # Errors
    /// As before; `conflict` for a provider that cannot ask again; `forbidden` for who has not signed in a short while ago, unless they come to do just that.
    pub async fn oauth_link_begin(
        &self,
        caller: &Caller,
        asked: OauthBegin<'_>,
        reauthenticate: bool,
        browser: &str,
    ) -> Result<String, OauthError> {
        let (user, session) = (caller.user.id, caller.session_id);
        let intent = if reauthenticate {
            caller.require_session()?;
            Intent::Reauthenticate { user, session }
        } else {
            caller.require_recent(self.0.clock.now())?;
            Intent::Link { user, session }
        };
        let begun_by = CeremonyOwner::User(user);
        self.begin(asked, intent, browser, begun_by).await
    }

    async fn begin(
        &self,
        asked: OauthBegin<'_>,
        intent: Intent,
        browser: &str,
        begun_by: CeremonyOwner,
    ) -> Result<String, OauthError> {
        let inner = &*self.0;
        let none = || Problem::not_found("there is no such identity provider");
        let provider = inner.providers.find(asked.provider).ok_or_else(none)?;
        let return_to = return_to(asked.return_to)?;
        let state = secret::random()?;
        let again = matches!(intent, Intent::Reauthenticate { .. });
        if again && !Providers::asks_again(provider) {
            let detail = "this provider asks nobody again who they are; sign out and in again";
            return Err(Problem::new(ErrorCode::Conflict, detail).into());
        }
        let state_text = secret::to_text(&state);
        let begun = inner.providers.begin(provider, &state_text, again).await?;
        let pending = Pending {
            provider: provider.name.clone(),
            pkce_verifier: begun.pkce_verifier.into_secret(),
            nonce: begun.nonce,
            binding: binding_of(browser),
            intent,
            return_to,
            invite: asked.invite.map(str::to_owned),
            begun_at: inner.clock.now(),
        };
        let pending = serde_json::to_vec(&pending).map_err(Problem::internal)?;
        let key = secret::fingerprint(&state);
        let owner = secret::to_text(&key);
        // It holds what must stay between us and the provider, and perhaps an invitation.
        let pending = inner.sealer.seal(SEALED_AS, &owner, &pending)?;
        let pending = STANDARD_NO_PAD.encode(pending);
        let store = &inner.store;
        store
            .put_ceremony(Ceremony::OauthState, begun_by, key, pending, STATE_LIVES)
            .await
            .map_err(Problem::from)?;
        Ok(begun.url.into())
    }

    /// What a provider sent a browser back with.
    ///
    /// `caller` is who the browser is signed in as now, if anybody.
    ///
    /// # Errors
    /// Why it came to nothing.
    pub async fn oauth_callback(
        &self,
        provider: &str,
        answer: OauthAnswer,
        browser: Option<&str>,
        caller: Option<&Caller>,
        client: &Client,
    ) -> Result<OauthDone, OauthError> {
        let pending = self.take(answer.state.as_deref()).await?;
        let done = self
            .finish(provider, answer, browser, caller, &pending, client)
            .await;
        if let Err(OauthError::Refused(refused)) = &done {
            self.record_refused(&pending, *refused, client).await?;
        }
        done
    }

    /// The sign-in of a state, which is gone with this.
    async fn take(&self, state: Option<&str>) -> Result<Pending, OauthError> {
        let state = state.and_then(secret::from_text::<{ secret::SECRET_BYTES }>);
        let key = secret::fingerprint(&state.ok_or(OauthRefusal::Expired)?);
        let taken = self
            .0
            .store
            .take_ceremony(Ceremony::OauthState, key)
            .await?;
        let taken = taken.ok_or(OauthRefusal::Expired)?;
        let sealed = STANDARD_NO_PAD.decode(taken).map_err(Problem::internal)?;
        let owner = secret::to_text(&key);
        let pending = self.0.sealer.open(SEALED_AS, &owner, &sealed)?;
        Ok(serde_json::from_slice(&pending).map_err(Problem::internal)?)
    }

    async fn finish(
        &self,
        provider: &str,
        answer: OauthAnswer,
        browser: Option<&str>,
        caller: Option<&Caller>,
        pending: &Pending,
        client: &Client,
    ) -> Result<OauthDone, OauthError> {
        let same = |browser: &str| {
            secret::same(binding_of(browser).as_bytes(), pending.binding.as_bytes())
        };
        if !browser.is_some_and(same) {
            return Err(OauthRefusal::WrongBrowser.into());
        }
        let signed_in = match pending.intent {
            Intent::SignIn => None,
            Intent::Link { session, .. } | Intent::Reauthenticate { session, .. } => Some(session),
        };
        // Somebody else may have signed in to this browser since.
        if let (Some(session), Some(caller)) = (signed_in, caller)
            && caller.session_id != session
        {
            return Err(OauthRefusal::WrongBrowser.into());
        }
        // A provider that is at fault must not be able to spend what another one gave.
        let providers = &self.0.providers;
        let provider = providers
            .find(provider)
            .filter(|provider| provider.name == pending.provider)
            .ok_or(OauthRefusal::ProviderError)?;
        if !providers.is_from(provider, answer.iss.as_deref()).await? {
            return Err(OauthRefusal::ProviderError.into());
        }
        if let Some(error) = &answer.error {
            return Err(refusal_of(error).into());
        }
        let code = answer.code.filter(|code| code.len() <= MAX_CODE_BYTES);
        let code = code.ok_or(OauthRefusal::ProviderError)?;
        let identity = providers.identify(provider, &code, pending).await?;
        let mut done = OauthDone {
            return_to: pending.return_to.clone(),
            tokens: None,
            invite: None,
        };
        match pending.intent {
            Intent::SignIn => {
                let invite = pending.invite.as_deref();
                let (tokens, is_new) = self.sign_in_as(provider, identity, invite, client).await?;
                done.tokens = Some(tokens);
                done.invite = pending.invite.clone().filter(|_| is_new);
            }
            Intent::Link { user, session } => {
                self.link(provider, identity, user, session, client).await?;
            }
            Intent::Reauthenticate { user, session } => {
                self.reauthenticate_as(identity, user, session, client)
                    .await?;
            }
        }
        Ok(done)
    }

    async fn link(
        &self,
        provider: &Provider,
        identity: Identity,
        user: UserId,
        session: SessionId,
        client: &Client,
    ) -> Result<(), OauthError> {
        let link = self.new_link(provider, &identity, user);
        let entry = AuditEntry {
            actor: Some(user),
            ip: client.ip.to_string(),
            session: Some(session),
            action: AuditAction::OauthLinked,
            target: Some(link.id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let linked = self.0.store.add_oauth_link(link, session, entry).await?;
        match linked {
            Ok(_) => Ok(()),
            Err(stack_storage::AddLinkError::Taken) => Err(OauthRefusal::AlreadyLinked.into()),
            Err(stack_storage::AddLinkError::Stale) => Err(OauthRefusal::Expired.into()),
        }
    }

    async fn reauthenticate_as(
        &self,
        identity: Identity,
        user: UserId,
        session: SessionId,
        client: &Client,
    ) -> Result<(), OauthError> {
        let store = &self.0.store;
        let link = store.oauth_link(&identity.issuer, &identity.subject)?;
        if link.is_none_or(|link| link.user_id != user) {
            return Err(OauthRefusal::NotLinked.into());
        }
        let entry = AuditEntry {
            actor: Some(user),
            ip: client.ip.to_string(),
            session: Some(session),
            action: AuditAction::Reauthenticated,
            target: Some(user.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let method = SignInMethod::Oauth;
        let marked = store.mark_authenticated(session, user, method, entry);
        match marked.await? {
            true => Ok(()),
            false => Err(OauthRefusal::Expired.into()),
        }
    }

    /// The accounts elsewhere that sign in to the caller's.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn oauth_links(&self, caller: &Caller) -> Result<Vec<LinkView>, Problem> {
        let view = |link: OauthLink| LinkView {
            id: link.id,
            title: self.0.providers.title(&link.provider),
            provider: link.provider,
            email: link.email,
            linked_at: link.linked_at,
            last_used_at: link.last_used_at,
        };
        let links = self.0.store.oauth_links_of(caller.user.id)?;
        Ok(links.into_iter().map(view).collect())
    }

    /// Removes one of them, and ends the caller's other sessions that were begun at a provider.
    ///
    /// # Errors
    /// `forbidden` for who has not signed in a short while ago; `not_found`; `conflict` for the last way in;
    /// `unavailable`.
    pub async fn oauth_unlink(
        &self,
        caller: &Caller,
        id: LinkId,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_recent(self.0.clock.now())?;
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::OauthUnlinked)
        };
        let (auth, store) = (self.clone(), self.store_of(caller));
        let (owner, keep) = (caller.user.id, caller.session_id);
        let removed = self.to_the_end(async move {
            let (removed, revoked) = store.remove_oauth_link(owner, id, keep, entry).await?;
            auth.tell_revoked(owner, revoked);
            Ok(removed)
        });
        match removed.await? {
            Removal::Removed => Ok(()),
            Removal::LastWayIn => Err(Problem::new(
                ErrorCode::Conflict,
                "this is your last way in; add another one first",
            )),
            Removal::Unknown => Err(Problem::not_found("you have linked no such account")),
        }
    }

    pub(super) fn new_link(
        &self,
        provider: &Provider,
        identity: &Identity,
        user_id: UserId,
    ) -> NewLink {
        NewLink {
            id: LinkId::generate(self.0.clock.now()),
            user_id,
            provider: provider.name.clone(),
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
            email: identity
                .email
                .as_ref()
                .map(|email| email.as_str().to_owned()),
        }
    }

    /// Puts on record that somebody who came back from a provider was sent away.
    async fn record_refused(
        &self,
        pending: &Pending,
        refused: OauthRefusal,
        client: &Client,
    ) -> Result<(), Problem> {
        // Saying no is no attempt at anything.
        if refused == OauthRefusal::Denied {
            return Ok(());
        }
        let (actor, session) = match pending.intent {
            Intent::SignIn => (None, None),
            Intent::Link { user, session } | Intent::Reauthenticate { user, session } => {
                (Some(user), Some(session))
            }
        };
        let entry = AuditEntry {
            actor,
            ip: client.ip.to_string(),
            session,
            action: AuditAction::OauthRefused,
            target: Some(format!("{} {}", pending.provider, refused.as_str())),
            outcome: AuditOutcome::Refused,
        };
        Ok(self.0.store.audit(entry).await?)
    }
}

/// What a provider's reason for not giving a code comes to.
fn refusal_of(error: &str) -> OauthRefusal {
    match error {
        "access_denied" => OauthRefusal::Denied,
        "server_error" | "temporarily_unavailable" => OauthRefusal::ProviderUnavailable,
        _ => OauthRefusal::ProviderError,
    }
}
