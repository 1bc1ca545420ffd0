//! Recovery without e-mail: an admin gives a link to somebody who cannot sign in any more, and it sets a new password.
//!
//! A link is good once and for half an hour, and void as soon as the password is another than when it was made, or its
//! maker is no admin any more. It stands for the password alone: a second factor stays, and is asked for, unless the admin took it off with the link.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stack_storage::{
    Account, AuditAction, AuditEntry, AuditOutcome, Ceremony, CeremonyOwner, Delivery, Recover,
    SignInMethod, Store,
};
use stack_types::{ErrorCode, GlobalRole, Problem, Timestamp, UserId, Username};

use super::admin::operators;
use super::sign_in::{SignIn, hash_new};
use super::users::no_account;
use super::{Auth, Caller, entry_of};
use crate::client::Client;
use crate::{password, secret, throttle};

/// How long a link is good.
const LIVES: Duration = Duration::from_secs(30 * 60);

/// A link that was made.
#[derive(Clone)]
pub struct RecoveryLink {
    /// What its owner shows. It is told this once.
    pub token: String,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A link as whoever has it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveryLook {
    /// Whose account it is for.
    pub username: Username,
    /// When it ends.
    pub expires_at: Timestamp,
    /// How long the new password has to be.
    pub min_chars: usize,
}

/// A link that somebody redeems.
#[derive(Clone)]
pub struct Recovery {
    /// The link's text.
    pub token: String,
    /// The new password.
    pub new_password: String,
    /// How the tokens reach the client.
    pub delivery: Delivery,
}

/// A link as it is remembered.
#[derive(Serialize, Deserialize)]
struct Link {
    user: UserId,
    /// `None` for the machine's operator.
    made_by: Option<UserId>,
    expected_hash: Option<String>,
    reset_second_factor: bool,
    expires_at: Timestamp,
}

impl Auth {
    /// A link with which somebody gets back in.
    ///
    /// # Errors
    /// `forbidden` unless the caller is an admin who has signed in a short while ago; `not_found`; `conflict` for an
    /// account that nobody signs in to; `unavailable`.
    pub async fn make_recovery_link(
        &self,
        caller: &Caller,
        user: UserId,
        reset_second_factor: bool,
        client: &Client,
    ) -> Result<RecoveryLink, Problem> {
        caller.require_admin()?;
        caller.require_recent(self.0.clock.now())?;
        let account = self.0.store.account(user)?.ok_or_else(no_account)?;
        let entry = entry_of(caller, client, AuditAction::RecoveryLinkMade);
        let store = self.store_of_admin(caller);
        self.link_for(&store, account, reset_second_factor, entry)
            .await
    }

    /// The same as the operator: for the one admin who has lost every way in.
    ///
    /// # Errors
    /// `not_found`; `conflict` for an account that nobody signs in to; `unavailable`.
    pub async fn operators_recovery_link(
        &self,
        username: &Username,
        reset_second_factor: bool,
    ) -> Result<RecoveryLink, Problem> {
        let account = self.0.store.account_by_login(username.as_str())?;
        let account = account.ok_or_else(no_account)?;
        let entry = operators(AuditAction::RecoveryLinkMade);
        self.link_for(&self.0.store, account, reset_second_factor, entry)
            .await
    }

    async fn link_for(
        &self,
        store: &Store,
        account: Account,
        reset_second_factor: bool,
        entry: AuditEntry,
    ) -> Result<RecoveryLink, Problem> {
        if !account.may_sign_in() {
            return Err(Problem::new(
                ErrorCode::Conflict,
                "nobody may sign in to this account",
            ));
        }
        let link = Link {
            user: account.user.id,
            made_by: entry.actor,
            expected_hash: account.password_hash,
            reset_second_factor,
            expires_at: self.0.clock.now().plus(LIVES),
        };
        let expires_at = link.expires_at;
        let state = serde_json::to_string(&link).map_err(Problem::internal)?;
        let token = secret::random()?;
        let (kind, key) = (Ceremony::RecoveryLink, secret::fingerprint(&token));
        let owner = CeremonyOwner::User(account.user.id);
        store.put_ceremony(kind, owner, key, state, LIVES).await?;
        let entry = AuditEntry {
            target: Some(account.user.id.to_string()),
            ..entry
        };
        self.0.store.audit(entry).await?;
        Ok(RecoveryLink {
            token: secret::to_text(&token),
            expires_at,
        })
    }

    /// What a link is for, told to whoever has it.
    ///
    /// # Errors
    /// `gone` when it was used, is over or none; `unavailable`.
    pub fn look_at_recovery(&self, token: &str) -> Result<RecoveryLook, Problem> {
        let (_, link, account) = self.open_link(token)?;
        let with_factor = !link.reset_second_factor && self.has_second_factor(link.user)?;
        Ok(RecoveryLook {
            username: account.user.username,
            expires_at: link.expires_at,
            min_chars: password::min_chars(with_factor),
        })
    }

    /// Sets a new password with a link, revokes every session of the account and signs in; with a second factor on, that
    /// is asked for as at every sign-in.
    ///
    /// # Errors
    /// `gone` when the link was used, is over or none; `invalid_field` with `new_password`, and the link stays good;
    /// `unavailable`.
    pub async fn recover(&self, asked: Recovery, client: &Client) -> Result<SignIn, Problem> {
        let inner = &*self.0;
        // Looked at before anything is hashed, so that nobody without a link makes work here.
        let (_, link, account) = self.open_link(&asked.token)?;
        let with_factor = !link.reset_second_factor && self.has_second_factor(link.user)?;
        password::check_length("new_password", &asked.new_password, with_factor)?;
        let needs_second_factor = password::needs_second_factor(&asked.new_password);
        let user = &account.user;
        let own_names = [user.username.to_string(), user.display_name.clone()];
        let own_names = own_names.into_iter().chain(account.email.clone()).collect();
        let turn = inner.hasher.turn().await?;
        let (turn, new_hash) =
            hash_new(turn, "new_password", asked.new_password, own_names).await?;
        drop(turn);

        let (key, link, account) = self.open_link(&asked.token)?;
        let username = account.user.username.as_str();
        let method = SignInMethod::RecoveryLink;
        let (session, refresh) = self.new_session(link.user, method, asked.delivery, client)?;
        let entry = AuditEntry {
            actor: Some(link.user),
            ip: client.ip.to_string(),
            session: (!with_factor).then_some(session.id),
            action: AuditAction::RecoveryLinkUsed,
            target: Some(link.user.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let mut audit = vec![entry];
        if link.reset_second_factor && self.has_second_factor(link.user)? {
            audit.push(AuditEntry {
                action: AuditAction::TotpDisabled,
                ..audit[0].clone()
            });
        }
        let recover = Recover {
            link: key,
            user_id: link.user,
            made_by: link.made_by,
            expected_hash: link.expected_hash,
            new_hash: new_hash.clone(),
            reset_second_factor: link.reset_second_factor,
            needs_second_factor,
            session: (!with_factor).then_some(session),
            clear_counters: throttle::login_keys(&account)
                .into_iter()
                .chain([
                    throttle::password_key(username),
                    throttle::factor_key(username),
                ])
                .collect(),
            audit,
        };
        let (auth, owner) = (self.clone(), link.user);
        let recovered = self
            .to_the_end(async move {
                let recovered = auth.0.store.recover(recover).await?;
                let mut recovered = recovered.map_err(|_stale| over())?;
                auth.tell_revoked(owner, std::mem::take(&mut recovered.revoked));
                Ok(recovered)
            })
            .await?;
        match recovered.session {
            Some(session) => {
                let tokens = self.tokens(recovered.account, &session, &refresh)?;
                Ok(SignIn::Done(Box::new(tokens)))
            }
            None => {
                let waiting = self.wait_for_factor(owner, new_hash, None, asked.delivery, None);
                Ok(SignIn::SecondFactor {
                    ticket: waiting.await?,
                })
            }
        }
    }

    fn open_link(&self, token: &str) -> Result<([u8; 32], Link, Account), Problem> {
        let token: [u8; 32] = secret::from_text(token.trim()).ok_or_else(over)?;
        let key = secret::fingerprint(&token);
        let state = self.0.store.ceremony(Ceremony::RecoveryLink, key)?;
        let link: Link =
            serde_json::from_str(&state.ok_or_else(over)?).map_err(Problem::internal)?;
        let account = self.0.store.account(link.user)?;
        let account = account
            .filter(|account| account.may_sign_in() && account.password_hash == link.expected_hash)
            .ok_or_else(over)?;
        if let Some(maker) = link.made_by {
            let maker = self.0.store.account(maker)?;
            let stands =
                |maker: &Account| maker.user.role == GlobalRole::Admin && maker.may_sign_in();
            if !maker.is_some_and(|maker| stands(&maker)) {
                return Err(over());
            }
        }
        Ok((key, link, account))
    }
}

fn over() -> Problem {
    Problem::new(
        ErrorCode::Gone,
        "this link was used or is over; ask for another",
    )
}
