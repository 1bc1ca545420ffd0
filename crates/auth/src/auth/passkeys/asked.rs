//! Answers to a request for a passkey: signing in, and showing again who one is.
//!
//! Whatever is wrong with an answer, it is told as one thing. Wrong answers are not counted against an account: nobody
//! guesses a key, and a lock would be a weapon against its owner.

use serde_json::Value;
use stack_storage::{
    AuditAction, AuditEntry, AuditOutcome, Ceremony, CeremonyOwner, ConfirmByPasskey, Delivery,
    Passkey, SignInMethod, UsePasskey,
};
use stack_types::{ErrorCode, Problem, UserId};
use webauthn_rs::prelude::DiscoverableAuthentication;

use super::super::tokens::Tokens;
use super::super::{Auth, Caller, entry_of};
use super::Begun;
use crate::client::Client;
use crate::passkeys::{
    Asked, Asking, Assertion, MOST_LISTED, Refused, Who, binding_of, challenge_in, decoys,
};
use crate::secret;

/// Who wants to sign in by passkey.
#[derive(Debug, Clone, Default)]
pub struct AskForPasskey {
    /// A username; without it whoever the authenticator says.
    pub login: Option<String>,
    /// Whether the browser is to offer passkeys among the suggestions of a field.
    pub conditional: bool,
}

/// A passkey, as the browser answers.
#[derive(Debug, Clone)]
pub struct AssertPasskey {
    /// What the ceremony was named; what the answer says that it is to when absent.
    pub ceremony: Option<String>,
    /// The browser's answer as JSON.
    pub credential: Value,
}

/// An answer that was verified.
struct Shown {
    passkey: Passkey,
    updated: String,
}

impl Auth {
    /// Asks a browser for a passkey to sign in with. With a name its passkeys are listed, or made-up ones.
    ///
    /// # Errors
    /// `conflict` when there can be no passkeys here; `unavailable`.
    pub async fn ask_for_passkey(
        &self,
        asked: AskForPasskey,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<Begun, Problem> {
        // The suggestions of a field are for whoever is there.
        let login = asked.login.filter(|_| !asked.conditional);
        let (who, listed) = match login {
            None => (Who::Anybody, Vec::new()),
            Some(login) => self.listed(&login)?,
        };
        let owner = client.ceremony_owner();
        let asking = self.ask(Asked::SignIn(who), owner, &listed, browser);
        let mut begun = asking.await?;
        begun.mediation = asked.conditional.then_some("conditional");
        Ok(begun)
    }

    /// Signs in by passkey.
    ///
    /// # Errors
    /// `invalid_credentials` for everything that is wrong; `unavailable`.
    pub async fn login_by_passkey(
        &self,
        answer: AssertPasskey,
        delivery: Delivery,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        let asking = self.take_asking(&answer, browser).await?;
        // What answers no question of ours is no attempt at anybody's account, and costs no entry in the log.
        let Some((Asked::SignIn(who), state)) = asking else {
            return Err(wrong());
        };
        let shown = match self.look_at(who, state, answer.credential, client).await? {
            Ok(shown) => shown,
            Err(owner) => return Err(self.refuse(owner, client).await?),
        };
        let owner = shown.passkey.user_id;
        let (session, refresh) =
            self.new_session(owner, SignInMethod::Passkey, delivery, client)?;
        let audit = AuditEntry {
            actor: Some(owner),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action: AuditAction::Login,
            target: Some(owner.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let used = UsePasskey {
            credential_id: shown.passkey.credential_id,
            expected: shown.passkey.credential,
            updated: shown.updated,
            session,
            audit,
        };
        match self.0.store.use_passkey(used).await? {
            Ok((account, session)) => self.tokens(account, &session, &refresh),
            Err(_stale) => Err(self.refuse(Some(owner), client).await?),
        }
    }

    /// Asks the caller's browser for one of the caller's passkeys, to show again who they are.
    ///
    /// # Errors
    /// `conflict` when there can be no passkeys here or the caller has none; `unavailable`.
    pub async fn ask_again_for_passkey(
        &self,
        caller: &Caller,
        browser: Option<&str>,
    ) -> Result<Begun, Problem> {
        caller.require_session()?;
        let listed = usable(self.0.store.passkeys_of(caller.user.id)?);
        if listed.is_empty() {
            return Err(
                Problem::new(ErrorCode::Conflict, "you have no passkey").with_field("passkeys")
            );
        }
        let asked = Asked::Reauthenticate {
            user: caller.user.id,
            session: caller.session_id,
        };
        let owner = CeremonyOwner::User(caller.user.id);
        self.ask(asked, owner, &listed, browser).await
    }

    /// Notes that the caller has shown again who they are.
    ///
    /// # Errors
    /// `invalid_credentials` for everything that is wrong; `unavailable`.
    pub async fn reauthenticate_by_passkey(
        &self,
        caller: &Caller,
        answer: AssertPasskey,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_session()?;
        let (user, session) = (caller.user.id, caller.session_id);
        let theirs = Asked::Reauthenticate { user, session };
        let asking = self.take_asking(&answer, browser).await?;
        let Some((_, state)) = asking.filter(|(asked, _)| *asked == theirs) else {
            return Err(wrong());
        };
        let who = Who::Account(user);
        let Ok(shown) = self.look_at(who, state, answer.credential, client).await? else {
            let entry = AuditEntry {
                outcome: AuditOutcome::Refused,
                ..entry_of(caller, client, AuditAction::Reauthenticated)
            };
            self.0.store.audit(entry).await?;
            return Err(wrong());
        };
        let confirm = ConfirmByPasskey {
            owner: user,
            session,
            credential_id: shown.passkey.credential_id,
            expected: shown.passkey.credential,
            updated: shown.updated,
            audit: entry_of(caller, client, AuditAction::Reauthenticated),
        };
        match self.0.store.confirm_by_passkey(confirm).await? {
            true => Ok(()),
            false => Err(wrong()),
        }
    }

    async fn ask(
        &self,
        what: Asked,
        owner: CeremonyOwner,
        listed: &[Vec<u8>],
        browser: Option<&str>,
    ) -> Result<Begun, Problem> {
        let (public_key, state) = self.webauthn()?.ask(listed)?;
        let asking = Asking {
            what,
            browser: binding_of(browser),
            state,
        };
        Ok(Begun {
            ceremony: self
                .remember(
                    Ceremony::WebauthnAuthentication,
                    owner,
                    &public_key,
                    &asking,
                )
                .await?,
            public_key,
            mediation: None,
        })
    }

    async fn take_asking(
        &self,
        answer: &AssertPasskey,
        browser: Option<&str>,
    ) -> Result<Option<(Asked, DiscoverableAuthentication)>, Problem> {
        let id = match &answer.ceremony {
            Some(named) => secret::from_text(named),
            None => challenge_in(&answer.credential),
        };
        let Some(id) = id else {
            return Ok(None);
        };
        let taken = self
            .take_state(Ceremony::WebauthnAuthentication, id)
            .await?;
        let ours = taken.filter(|asking: &Asking| asking.browser == binding_of(browser));
        Ok(ours.map(|asking| (asking.what, asking.state)))
    }

    /// Whose passkeys are listed for a name, and which. Who has none is listed with made-up ones, and so is every
    /// e-mail address: one list under two names would tell that they are one account's.
    fn listed(&self, login: &str) -> Result<(Who, Vec<Vec<u8>>), Problem> {
        let normal = super::super::sign_in::normalise(login);
        let account = match &normal {
            Some(username) if !username.contains('@') => self.0.store.account_by_login(username)?,
            _ => None,
        };
        if let Some(account) = account.filter(|account| account.may_sign_in()) {
            let mut listed = usable(self.0.store.passkeys_of(account.user.id)?);
            if !listed.is_empty() {
                // The newest; those before sign in without a name.
                listed.drain(..listed.len().saturating_sub(MOST_LISTED));
                return Ok((Who::Account(account.user.id), listed));
            }
        }
        let login = normal.as_deref().unwrap_or(login);
        Ok((Who::Nobody, decoys(&self.0.decoys, login)))
    }

    /// Looks at an answer: the passkey it was verified against or, when it is wrong, whose it claims to be. A copied
    /// passkey is suspended.
    async fn look_at(
        &self,
        who: Who,
        state: DiscoverableAuthentication,
        answer: Value,
        client: &Client,
    ) -> Result<Result<Shown, Option<UserId>>, Problem> {
        let Some(answer) = Assertion::read(answer) else {
            return Ok(Err(None));
        };
        let Some(passkey) = self.0.store.passkey(answer.credential_id())? else {
            return Ok(Err(None));
        };
        let owner = passkey.user_id;
        let known_as = match answer.handle() {
            Ok(Some(handle)) => {
                let known = self.0.store.account_by_handle(&handle)?;
                match known {
                    Some(account) if account.user.id == owner => Some(owner),
                    _ => return Ok(Err(Some(owner))),
                }
            }
            Ok(None) => None,
            Err(_) => return Ok(Err(Some(owner))),
        };
        let is_who = match who {
            Who::Anybody => known_as.is_some(),
            Who::Account(user) => user == owner,
            Who::Nobody => false,
        };
        if !is_who || passkey.suspended_at.is_some() {
            return Ok(Err(Some(owner)));
        }
        match self.webauthn()?.verify(&answer, state, &passkey)? {
            Ok(verified) => Ok(Ok(Shown {
                passkey,
                updated: verified.updated,
            })),
            Err(Refused::Copied) => {
                self.suspend(passkey, client).await?;
                Ok(Err(Some(owner)))
            }
            Err(Refused::Wrong(error)) => {
                tracing::debug!(%error, user_id = %owner, "an answer with a passkey was refused");
                Ok(Err(Some(owner)))
            }
        }
    }

    /// Suspends a passkey of which there is a copy. Whoever has the copy may be signed in, so that its owner's sessions
    /// end too.
    async fn suspend(&self, passkey: Passkey, client: &Client) -> Result<(), Problem> {
        let owner = passkey.user_id;
        tracing::warn!(
            user_id = %owner, passkey_id = %passkey.id,
            "the counter of a passkey went back: it was copied, and is suspended"
        );
        let entry = AuditEntry {
            actor: None,
            ip: client.ip.to_string(),
            session: None,
            action: AuditAction::PasskeyCompromised,
            target: Some(format!("{owner} {}", passkey.id)),
            outcome: AuditOutcome::Refused,
        };
        let auth = self.clone();
        self.to_the_end(async move {
            let store = &auth.0.store;
            let revoked = store.suspend_passkey(passkey.credential_id, entry).await?;
            auth.tell_revoked(owner, revoked);
            Ok(())
        })
        .await
    }

    /// Puts a refused sign-in on record; gives the answer to it.
    async fn refuse(&self, owner: Option<UserId>, client: &Client) -> Result<Problem, Problem> {
        let entry = AuditEntry {
            actor: None,
            ip: client.ip.to_string(),
            session: None,
            action: AuditAction::Login,
            target: owner.map(|owner| owner.to_string()),
            outcome: AuditOutcome::Refused,
        };
        self.0.store.audit(entry).await?;
        Ok(wrong())
    }
}

/// The credentials of passkeys that may be used.
fn usable(passkeys: Vec<Passkey>) -> Vec<Vec<u8>> {
    let usable = passkeys
        .into_iter()
        .filter(|passkey| passkey.suspended_at.is_none());
    usable.map(|passkey| passkey.credential_id).collect()
}

/// The one answer to every passkey that is refused.
fn wrong() -> Problem {
    Problem::new(
        ErrorCode::InvalidCredentials,
        "this passkey signs nobody in here",
    )
}
