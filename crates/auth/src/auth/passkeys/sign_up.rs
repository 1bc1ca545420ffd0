//! Accounts that are made with a passkey and have no password.

use stack_storage::{
    AccountKind, AuditAction, AuditEntry, AuditOutcome, CeremonyOwner, CreateUserError, Delivery,
    InviteUse, NewUser, SignInMethod,
};
use stack_types::{GlobalRole, Problem, UserId, Username};

use super::super::Auth;
use super::super::sign_in::not_created;
use super::super::tokens::Tokens;
use super::{Begun, NewPasskeyAnswer, ceremony_over, new_handle, not_added, passkey_name};
use crate::client::Client;
use crate::email::Email;
use crate::passkeys::{NewFor, NewPerson};
use crate::{profile, throttle};

/// A new account, to be made with a passkey.
#[derive(Clone, Default)]
pub struct SignUpByPasskey {
    /// Folded to lower case.
    pub username: String,
    /// Optional.
    pub email: Option<String>,
    /// The username when absent.
    pub display_name: Option<String>,
    /// The text of an invitation. While not everybody may register, it is needed.
    pub invite: Option<String>,
}

/// An account that was made with a passkey.
#[derive(Clone)]
pub struct SignedUp {
    /// Its first session.
    pub tokens: Tokens,
    /// The text of the invitation that was used up with it.
    pub invite: Option<String>,
}

impl Auth {
    /// Asks a browser for the passkey that a new account is made with.
    ///
    /// # Errors
    /// `forbidden` when the person may not register; `invalid_field`, `conflict` when there can be no passkeys here or
    /// the username is taken; `rate_limited`, `unavailable`.
    pub async fn begin_sign_up(
        &self,
        asked: SignUpByPasskey,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<Begun, Problem> {
        let inner = &*self.0;
        self.webauthn()?;
        self.admission(asked.invite.as_deref())?;
        let person = person(
            &asked.username,
            asked.email.as_deref(),
            asked.display_name.as_deref(),
        )?;
        throttle::check_registrations(&inner.store, &inner.throttle(), client, inner.clock.now())?;
        // Tells before a passkey is made that it would be for nothing; what counts is the transaction that makes the
        // account. It is told of the username only, which is public: whose address is known here, nobody asks for nothing.
        let taken = inner.store.account_by_login(person.username.as_str())?;
        if taken.is_some() {
            // Asking which are taken costs as much as taking one.
            let now = inner.clock.now();
            throttle::take_registration(&inner.store, &inner.throttle(), client, now).await?;
            return Err(not_created(CreateUserError::UsernameTaken));
        }
        let what = NewFor::SignUp {
            person,
            invite: asked.invite,
        };
        self.ask_new_person(what, client.ceremony_owner(), browser)
            .await
    }

    /// Makes the account and signs it in.
    ///
    /// # Errors
    /// `forbidden` when the invitation was used up meanwhile; `invalid_field` when the ceremony is over or the answer is
    /// wrong; `conflict` when a name or the passkey is taken; `rate_limited`, `unavailable`.
    pub async fn sign_up(
        &self,
        answer: NewPasskeyAnswer,
        delivery: Delivery,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<SignedUp, Problem> {
        let inner = &*self.0;
        let name = passkey_name(answer.name.as_deref(), client)?;
        let making = self.take_new(&answer, browser).await?;
        let NewFor::SignUp { person, invite } = making.what else {
            return Err(ceremony_over());
        };
        let admission = self.admission(invite.as_deref())?;
        let made = self
            .webauthn()?
            .look_at_new(answer.credential, &making.state)?;
        let now = inner.clock.now();
        throttle::take_registration(&inner.store, &inner.throttle(), client, now).await?;

        let user_id = UserId::generate(now);
        let method = SignInMethod::Passkey;
        let (session, refresh) = self.new_session(user_id, method, delivery, client)?;
        let entry = AuditEntry {
            actor: Some(user_id),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action: AuditAction::Register,
            target: Some(user_id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let handle = person.handle;
        let passkey = self.new_passkey(user_id, name, made);
        // Nobody becomes an admin by being first.
        let new = new_user(user_id, person, GlobalRole::Member, admission);
        let registered = inner
            .store
            .register_with_passkey(new, handle, passkey, session, entry);
        let (account, session) = registered.await?.map_err(not_created)?.map_err(not_added)?;
        Ok(SignedUp {
            tokens: self.tokens(account, &session, &refresh)?,
            invite,
        })
    }

    /// Asks for the passkey of somebody who has no account yet.
    pub(in super::super) async fn ask_new_person(
        &self,
        what: NewFor,
        owner: CeremonyOwner,
        browser: Option<&str>,
    ) -> Result<Begun, Problem> {
        let (NewFor::SignUp { person, .. } | NewFor::Setup { person, .. }) = &what else {
            return Err(ceremony_over());
        };
        let (handle, username) = (person.handle, person.username.as_str());
        let library = self.webauthn()?;
        let (public_key, state) =
            library.ask_for_new(handle, username, &person.display_name, Vec::new())?;
        self.remember_new(what, owner, browser, state, public_key)
            .await
    }
}

/// Somebody whose account is to be made, as they call themselves.
pub(in super::super) fn person(
    username: &str,
    email: Option<&str>,
    display_name: Option<&str>,
) -> Result<NewPerson, Problem> {
    let username: Username = username
        .trim()
        .parse()
        .map_err(|error| Problem::invalid_field("username", format!("{error}")))?;
    let email = email.map(Email::from_field).transpose()?;
    let display_name = match display_name {
        Some(typed) => profile::display_name(typed)?,
        None => username.to_string(),
    };
    Ok(NewPerson {
        username,
        display_name,
        email: email.map(Email::into_string),
        handle: new_handle()?,
    })
}

/// The account of somebody who has no password.
pub(in super::super) fn new_user(
    id: UserId,
    person: NewPerson,
    role: GlobalRole,
    invite: Option<InviteUse>,
) -> NewUser {
    NewUser {
        id,
        username: person.username,
        display_name: person.display_name,
        email: person.email,
        email_verified: false,
        password_hash: None,
        role,
        kind: AccountKind::Person,
        invite,
    }
}
