//! The first run: whoever shows the setup token makes the first admin, once. Nobody becomes an admin by being first.

use std::sync::atomic::Ordering;

use stack_storage::{
    AuditAction, AuditEntry, AuditOutcome, CeremonyOwner, ClaimSetup, Delivery, NewPasskey,
    NewUser, SetupRefused, SignInMethod, WebauthnHandle,
};
use stack_types::{ErrorCode, GlobalRole, Problem, UserId};

use super::passkeys::{ceremony_over, new_user, not_added, passkey_name, person};
use super::sign_in::{hash_new, not_created};
use super::{Auth, Begun, NewPasskeyAnswer, Tokens};
use crate::client::Client;
use crate::passkeys::NewFor;
use crate::password;
use crate::setup::SetupToken;

/// The origin that was settled with the setup.
const PUBLIC_URL: &str = "setup.public_url";
/// What passkeys are bound to since then.
const RP_ID: &str = "setup.rp_id";

/// The first admin.
#[derive(Clone)]
pub struct SetupPerson {
    /// The setup token.
    pub token: String,
    /// Folded to lower case.
    pub username: String,
    /// Optional.
    pub email: Option<String>,
    /// The username when absent.
    pub display_name: Option<String>,
}

/// A first admin with a password.
#[derive(Clone)]
pub struct SetUpByPassword {
    /// Who.
    pub person: SetupPerson,
    /// At least 15 characters.
    pub password: String,
    /// How the tokens reach the client.
    pub delivery: Delivery,
}

impl Auth {
    /// Whether the server waits for its first admin.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn setup_is_open(&self) -> Result<bool, Problem> {
        if self.0.is_set_up.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let is_open = self.0.store.setup_is_open().await?;
        if !is_open {
            self.0.is_set_up.store(true, Ordering::Relaxed);
        }
        Ok(is_open)
    }

    /// The token to set the server up with, made when there is none that lives; `None` when the server is set up. To
    /// be called at the start.
    ///
    /// # Errors
    /// `unavailable`; `internal` when the token's file cannot be read or written.
    pub async fn setup_token(&self) -> Result<Option<SetupToken>, Problem> {
        self.warn_when_moved()?;
        if !self.setup_is_open().await? {
            self.0.setup.forget().map_err(Problem::internal)?;
            return Ok(None);
        }
        let token = self.0.setup.live_or_new(self.0.clock.now());
        token.map(Some).map_err(Problem::internal)
    }

    /// Makes the first admin with a password.
    ///
    /// # Errors
    /// `forbidden` with the field `token` when it is not the one or has ended; `conflict` when the server is set up or
    /// a name is taken; `invalid_field`, `unavailable`.
    pub async fn set_up_by_password(
        &self,
        asked: SetUpByPassword,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        let claimed = asked.person;
        let token = self.check_setup(&claimed.token).await?;
        let email = claimed.email.as_deref();
        let who = person(&claimed.username, email, claimed.display_name.as_deref())?;
        password::check_length("password", &asked.password, false)?;
        let own_names = vec![who.username.to_string(), who.display_name.clone()];
        let own_names = own_names.into_iter().chain(who.email.clone()).collect();
        let turn = self.0.hasher.turn().await?;
        let (turn, hash) = hash_new(turn, "password", asked.password, own_names).await?;
        drop(turn);
        let id = UserId::generate(self.0.clock.now());
        let admin = NewUser {
            password_hash: Some(hash),
            ..new_user(id, who, GlobalRole::Admin, None)
        };
        self.claim(&token, admin, None, asked.delivery, client)
            .await
    }

    /// Asks a browser for the passkey of the first admin.
    ///
    /// # Errors
    /// `forbidden` with the field `token` when it is not the one or has ended; `conflict` when the server is set up or
    /// there can be no passkeys here; `invalid_field`, `unavailable`.
    pub async fn begin_setup(
        &self,
        claimed: SetupPerson,
        browser: Option<&str>,
    ) -> Result<Begun, Problem> {
        let token = self.check_setup(&claimed.token).await?;
        let email = claimed.email.as_deref();
        let person = person(&claimed.username, email, claimed.display_name.as_deref())?;
        // Whoever has the token: there is one, whatever address they come from.
        let owner = CeremonyOwner::Network("setup".to_owned());
        self.ask_new_person(NewFor::Setup { person, token }, owner, browser)
            .await
    }

    /// Makes the first admin with a passkey.
    ///
    /// # Errors
    /// `forbidden` with the field `token` when it was replaced meanwhile; `conflict` when the server is set up or a
    /// name is taken; `invalid_field` when the ceremony is over or the answer is wrong; `unavailable`.
    pub async fn set_up_by_passkey(
        &self,
        answer: NewPasskeyAnswer,
        delivery: Delivery,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        let name = passkey_name(answer.name.as_deref(), client)?;
        let making = self.take_new(&answer, browser).await?;
        let NewFor::Setup { person, token } = making.what else {
            return Err(ceremony_over());
        };
        let made = self
            .webauthn()?
            .look_at_new(answer.credential, &making.state)?;
        let id = UserId::generate(self.0.clock.now());
        let passkey = (person.handle, self.new_passkey(id, name, made));
        let admin = new_user(id, person, GlobalRole::Admin, None);
        self.claim(&token, admin, Some(passkey), delivery, client)
            .await
    }

    /// The fingerprint of the setup token, if this is it.
    async fn check_setup(&self, token: &str) -> Result<String, Problem> {
        if !self.setup_is_open().await? {
            return Err(set_up_already());
        }
        let checked = self.0.setup.check(token, self.0.clock.now());
        match checked.map_err(Problem::internal)? {
            Some(fingerprint) => Ok(fingerprint),
            None => Err(self.not_the_token().await?),
        }
    }

    /// Why a token is none: somebody else may just have claimed the setup with it.
    async fn not_the_token(&self) -> Result<Problem, Problem> {
        Ok(match self.setup_is_open().await? {
            true => no_token(),
            false => set_up_already(),
        })
    }

    async fn claim(
        &self,
        token: &str,
        admin: NewUser,
        passkey: Option<(WebauthnHandle, NewPasskey)>,
        delivery: Delivery,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        // A token that the operator has replaced since the passkey was asked for is void.
        if !self.0.setup.is_current(token).map_err(Problem::internal)? {
            return Err(self.not_the_token().await?);
        }
        let (session, refresh) =
            self.new_session(admin.id, SignInMethod::Setup, delivery, client)?;
        let audit = AuditEntry {
            actor: Some(admin.id),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action: AuditAction::SetupClaimed,
            target: Some(admin.id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let claim = ClaimSetup {
            admin,
            passkey,
            session,
            facts: self.facts(),
            audit,
        };
        let claimed = self.0.store.claim_setup(claim).await?;
        let (account, session) = claimed.map_err(|refused| match refused {
            SetupRefused::Done => set_up_already(),
            SetupRefused::User(refused) => not_created(refused),
            SetupRefused::Passkey(refused) => not_added(refused),
        })?;
        // The token is void by the claim; that its file is left must not undo that.
        if let Err(error) = self.0.setup.forget() {
            tracing::warn!(%error, "the server is set up, but its setup file is left");
        }
        self.tokens(account, &session, &refresh)
    }

    /// What is settled with the setup.
    fn facts(&self) -> Vec<(&'static str, String)> {
        match &self.0.passkeys {
            Ok(passkeys) => vec![
                (PUBLIC_URL, passkeys.origin().to_owned()),
                (RP_ID, passkeys.rp_id().to_owned()),
            ],
            Err(_) => Vec::new(),
        }
    }

    /// Says when passkeys of the time of the setup cannot work any more.
    fn warn_when_moved(&self) -> Result<(), Problem> {
        let Some(settled) = self.0.store.server_fact(RP_ID)? else {
            return Ok(());
        };
        let now = self.0.passkeys.as_ref().map(|passkeys| passkeys.rp_id());
        if now != Ok(settled.as_str()) {
            tracing::warn!(
                settled,
                now = now.unwrap_or("none"),
                "the public URL has another host than at the setup: passkeys made for {settled} do not work any more"
            );
        }
        Ok(())
    }
}

fn set_up_already() -> Problem {
    Problem::new(ErrorCode::Conflict, "this server is set up already").with_field("setup")
}

fn no_token() -> Problem {
    Problem::forbidden("this setup link is not the current one or has ended; have it told again")
        .with_field("token")
}
