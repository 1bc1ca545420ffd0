//! Passkeys of people who are signed in: adding, naming and removing them. And what every ceremony has in common:
//! its state is taken before anything else is looked at, and is good for one browser and one purpose.

mod asked;
mod sign_up;

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stack_storage::{
    AddPasskeyError, AuditAction, AuditEntry, Ceremony, CeremonyOwner, MOST_PASSKEYS, NewPasskey,
    Passkey, Removal,
};
use stack_types::{ErrorCode, PasskeyId, Problem, Timestamp, UserId};
use thiserror::Error;

use super::{Auth, Caller, entry_of};
use crate::client::Client;
use crate::passkeys::{
    self, ANSWER_WITHIN, Made, Making, NewFor, Passkeys, PasskeysOff, binding_of,
};
use crate::{profile, secret};

pub use asked::{AskForPasskey, AssertPasskey};
pub use sign_up::{SignUpByPasskey, SignedUp};
pub(super) use sign_up::{new_user, person};

/// A ceremony that was begun.
#[derive(Clone, Serialize)]
pub struct Begun {
    /// What the answer may name it by: the challenge in the options, which the answer has in it.
    pub ceremony: String,
    /// The `publicKey` member of the options that the browser is given.
    #[serde(rename = "publicKey")]
    pub public_key: Value,
    /// `conditional` when that was asked for: the browser offers passkeys among the suggestions of a field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mediation: Option<&'static str>,
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun")
            .field("mediation", &self.mediation)
            .finish_non_exhaustive()
    }
}

/// A new passkey, as the browser answers.
#[derive(Debug, Clone)]
pub struct NewPasskeyAnswer {
    /// What the ceremony was named; what the answer says that it is to when absent.
    pub ceremony: Option<String>,
    /// What its owner calls it; the device when absent.
    pub name: Option<String>,
    /// The browser's answer as JSON.
    pub credential: Value,
}

/// A passkey as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PasskeyView {
    /// Its id.
    pub id: PasskeyId,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last signed in.
    pub last_used_at: Option<Timestamp>,
    /// Whether it is also kept elsewhere than in the device.
    pub backed_up: bool,
    /// When it was found to be copied. It signs nobody in any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended_at: Option<Timestamp>,
}

impl PasskeyView {
    fn new(passkey: Passkey) -> Result<Self, Problem> {
        Ok(Self {
            backed_up: passkeys::is_backed_up(&passkey)?,
            id: passkey.id,
            name: passkey.name,
            created_at: passkey.created_at,
            last_used_at: passkey.last_used_at,
            suspended_at: passkey.suspended_at,
        })
    }
}

impl Auth {
    /// Why there are no passkeys here; `None` when there are.
    #[must_use]
    pub fn passkeys_off(&self) -> Option<PasskeysOff> {
        self.0.passkeys.as_ref().err().copied()
    }

    /// The caller's passkeys in the order they were made.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn passkeys(&self, caller: &Caller) -> Result<Vec<PasskeyView>, Problem> {
        let passkeys = self.0.store.passkeys_of(caller.user.id)?;
        passkeys.into_iter().map(PasskeyView::new).collect()
    }

    /// Asks the caller's browser for a new passkey.
    ///
    /// # Errors
    /// `forbidden` when the caller has to show again who they are; `conflict` when there can be no passkeys here;
    /// `unavailable`.
    pub async fn begin_passkey(
        &self,
        caller: &Caller,
        browser: Option<&str>,
    ) -> Result<Begun, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let library = self.webauthn()?;
        let owner = caller.user.id;
        let handle = self.0.store.webauthn_handle(owner, new_handle()?).await?;
        // Suspended ones too: the device that has one would make no better one.
        let known = self.0.store.passkeys_of(owner)?;
        if known.len() >= MOST_PASSKEYS {
            return Err(not_added(AddPasskeyError::TooMany));
        }
        let known = known.into_iter();
        let known = known.map(|passkey| passkey.credential_id).collect();
        let username = caller.user.username.as_str();
        let (public_key, state) =
            library.ask_for_new(handle, username, &caller.user.display_name, known)?;
        let what = NewFor::Account {
            user: owner,
            session: caller.session_id,
        };
        let owner = CeremonyOwner::User(owner);
        self.remember_new(what, owner, browser, state, public_key)
            .await
    }

    /// Adds the passkey that the caller's browser has made.
    ///
    /// # Errors
    /// `forbidden` as above; `invalid_field` when the ceremony is over or the answer is wrong; `conflict` when the
    /// passkey is known already; `limit_exceeded`, `unavailable`.
    pub async fn add_passkey(
        &self,
        caller: &Caller,
        answer: NewPasskeyAnswer,
        browser: Option<&str>,
        client: &Client,
    ) -> Result<PasskeyView, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let name = passkey_name(answer.name.as_deref(), client)?;
        let making = self.take_new(&answer, browser).await?;
        let theirs = NewFor::Account {
            user: caller.user.id,
            session: caller.session_id,
        };
        if making.what != theirs {
            return Err(ceremony_over());
        }
        let made = self
            .webauthn()?
            .look_at_new(answer.credential, &making.state)?;
        let new = self.new_passkey(caller.user.id, name, made);
        let entry = AuditEntry {
            target: Some(new.id.to_string()),
            ..entry_of(caller, client, AuditAction::PasskeyAdded)
        };
        let added = self.store_of(caller).add_passkey(new, entry).await?;
        added.map_err(not_added).and_then(PasskeyView::new)
    }

    /// Calls one of the caller's passkeys something else.
    ///
    /// # Errors
    /// `forbidden` as above; `invalid_field`, `not_found`, `unavailable`.
    pub async fn rename_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        name: &str,
        client: &Client,
    ) -> Result<PasskeyView, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let name = passkey_name(Some(name), client)?;
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::PasskeyRenamed)
        };
        let owner = caller.user.id;
        let store = self.store_of(caller);
        let renamed = store.rename_passkey(owner, id, name, entry).await?;
        renamed.ok_or_else(no_passkey).and_then(PasskeyView::new)
    }

    /// Removes one of the caller's passkeys, and ends their other sessions that were begun by passkey.
    ///
    /// # Errors
    /// `forbidden` as above; `conflict` when it is the last way in; `not_found`, `unavailable`.
    pub async fn remove_passkey(
        &self,
        caller: &Caller,
        id: PasskeyId,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_recent(self.0.clock.now())?;
        let entry = AuditEntry {
            target: Some(id.to_string()),
            ..entry_of(caller, client, AuditAction::PasskeyRemoved)
        };
        let (auth, store) = (self.clone(), self.store_of(caller));
        let (owner, keep) = (caller.user.id, caller.session_id);
        let removed = self.to_the_end(async move {
            let (removed, revoked) = store.remove_passkey(owner, id, keep, entry).await?;
            auth.tell_revoked(owner, revoked);
            Ok(removed)
        });
        match removed.await? {
            Removal::Removed => Ok(()),
            Removal::LastWayIn => Err(Problem::new(
                ErrorCode::Conflict,
                "this is your last way to sign in; add another one first",
            )),
            Removal::Unknown => Err(no_passkey()),
        }
    }

    pub(super) fn webauthn(&self) -> Result<&Passkeys, Problem> {
        self.0.passkeys.as_ref().map_err(|off| {
            let detail = match off {
                PasskeysOff::IpAddress => {
                    "passkeys need a host name; this server is reached by an IP address"
                }
                PasskeysOff::NoOrigin => "passkeys are not configured on this server",
            };
            Problem::new(ErrorCode::Conflict, detail).with_field("passkeys")
        })
    }

    pub(super) fn new_passkey(&self, user_id: UserId, name: String, made: Made) -> NewPasskey {
        NewPasskey {
            id: PasskeyId::generate(self.0.clock.now()),
            user_id,
            credential_id: made.credential_id,
            name,
            credential: made.record,
        }
    }

    pub(super) async fn remember_new(
        &self,
        what: NewFor,
        owner: CeremonyOwner,
        browser: Option<&str>,
        state: webauthn_rs::prelude::PasskeyRegistration,
        public_key: Value,
    ) -> Result<Begun, Problem> {
        let making = Making {
            what,
            browser: binding_of(browser),
            state,
        };
        Ok(Begun {
            ceremony: self
                .remember(Ceremony::WebauthnRegistration, owner, &public_key, &making)
                .await?,
            public_key,
            mediation: None,
        })
    }

    /// Takes the state of a new passkey, for the browser that began it.
    pub(super) async fn take_new(
        &self,
        answer: &NewPasskeyAnswer,
        browser: Option<&str>,
    ) -> Result<Making, Problem> {
        let id = match &answer.ceremony {
            Some(named) => secret::from_text(named).ok_or_else(ceremony_over)?,
            None => passkeys::challenge_in(&answer.credential)
                .ok_or_else(|| passkeys::not_credential("this is no answer of an authenticator"))?,
        };
        let kind = Ceremony::WebauthnRegistration;
        let taken: Option<Making> = self.take_state(kind, id).await?;
        let making = taken.ok_or_else(ceremony_over)?;
        if making.browser != binding_of(browser) {
            return Err(ceremony_over());
        }
        Ok(making)
    }

    /// Remembers a state under the challenge of its question, so that an answer tells by itself what it is to.
    async fn remember(
        &self,
        kind: Ceremony,
        owner: CeremonyOwner,
        options: &Value,
        state: &impl Serialize,
    ) -> Result<String, Problem> {
        let id =
            passkeys::challenge_of(options).ok_or_else(|| Problem::internal(ShortChallenge))?;
        let state = serde_json::to_string(state).map_err(Problem::internal)?;
        let (store, key) = (&self.0.store, secret::fingerprint(&id));
        store
            .put_ceremony(kind, owner, key, state, ANSWER_WITHIN)
            .await?;
        Ok(secret::to_text(&id))
    }

    /// Takes a state: it is gone whatever is wrong with the answer to it.
    async fn take_state<T: DeserializeOwned>(
        &self,
        kind: Ceremony,
        id: [u8; secret::SECRET_BYTES],
    ) -> Result<Option<T>, Problem> {
        let taken = self
            .0
            .store
            .take_ceremony(kind, secret::fingerprint(&id))
            .await?;
        taken
            .map(|state| serde_json::from_str(&state).map_err(Problem::internal))
            .transpose()
    }
}

/// A question of the library that is not 256 random bits.
#[derive(Debug, Error)]
#[error("the challenge of a passkey's ceremony has not 256 bits")]
struct ShortChallenge;

/// What a passkey is called: as its owner says, or like the device it was made on.
pub(super) fn passkey_name(typed: Option<&str>, client: &Client) -> Result<String, Problem> {
    profile::display_name(typed.unwrap_or(&client.device)).map_err(|_| {
        Problem::invalid_field("name", "a name has 1 to 64 characters that can be seen")
    })
}

pub(super) fn new_handle() -> Result<[u8; 16], Problem> {
    let mut handle = [0u8; 16];
    secret::fill(&mut handle)?;
    Ok(handle)
}

/// Why a passkey was not added, for whoever made it.
pub(super) fn not_added(refused: AddPasskeyError) -> Problem {
    match refused {
        AddPasskeyError::Taken => Problem::new(
            ErrorCode::Conflict,
            "this passkey is known already; sign in with it",
        ),
        AddPasskeyError::TooMany => Problem::new(
            ErrorCode::LimitExceeded,
            "an account has 20 passkeys at most; remove one first",
        ),
        AddPasskeyError::Stale => crate::access::unauthenticated(),
    }
}

/// The answer to a ceremony that is over, was answered before, or is another browser's or for something else.
pub(super) fn ceremony_over() -> Problem {
    Problem::invalid_field(
        "ceremony",
        "this took too long or was begun elsewhere; begin again",
    )
}

fn no_passkey() -> Problem {
    Problem::not_found("you have no such passkey")
}
