//! The second factor behind a password: one-time codes and recovery codes, turned on and off, asked for at sign-in, and
//! shown again by somebody who is signed in.
//!
//! A code is counted before it is looked at, and one counter stands for every place where codes are asked for, so that
//! trying side by side, or here and there, gains nothing. A factor is spent in the transaction that accepts it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use stack_storage::{
    Account, AuditAction, AuditEntry, AuditOutcome, Ceremony, CeremonyOwner, Delivery, Factor,
    SecondFactorRefused, SecondFactorSignIn, SignInMethod,
};
use stack_types::{ErrorCode, Problem, Timestamp, UserId};

use super::{Auth, Caller, Tokens, entry_of};
use crate::access::unauthenticated;
use crate::client::Client;
use crate::{password, recovery_codes, secret, throttle, totp};

/// How long a right password waits for its second factor.
const TICKET_LIVES: Duration = Duration::from_secs(5 * 60);

/// The second factor of an account, as its owner sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SecondFactorView {
    /// Whether a sign-in by password asks for it.
    pub enabled: bool,
    /// Since when.
    pub confirmed_at: Option<Timestamp>,
    /// How many recovery codes are left.
    pub recovery_codes_left: usize,
}

/// A secret for an authenticator app, shown while it is not confirmed yet.
#[derive(Clone, Serialize)]
pub struct TotpEnrollment {
    /// For a picture that the app reads.
    pub otpauth_uri: String,
    /// The same secret for typing.
    pub secret: String,
}

/// The second step of a sign-in.
#[derive(Clone)]
pub struct SecondFactor {
    /// What the first step gave.
    pub ticket: String,
    /// A one-time code or a recovery code.
    pub code: String,
}

/// A sign-in whose password was right, as it is remembered until its second factor.
#[derive(Serialize, Deserialize)]
struct Pending {
    user: UserId,
    verified_hash: String,
    new_hash: Option<String>,
    delivery: Delivery,
    /// The counter of wrong passwords that the sign-in stands under.
    counter: Option<String>,
}

impl Auth {
    /// The caller's second factor.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn second_factor(&self, caller: &Caller) -> Result<SecondFactorView, Problem> {
        let store = &self.0.store;
        let confirmed_at = store
            .totp(caller.user.id)?
            .and_then(|totp| totp.confirmed_at);
        Ok(SecondFactorView {
            enabled: confirmed_at.is_some(),
            confirmed_at,
            recovery_codes_left: store.recovery_codes_left(caller.user.id)?,
        })
    }

    /// A new secret for the caller's authenticator app. It asks nothing of anybody until it is confirmed.
    ///
    /// # Errors
    /// `conflict` when one is on already; `forbidden` when the sign-in is too long ago; `unavailable`.
    pub async fn enroll_totp(
        &self,
        caller: &Caller,
        site_name: &str,
    ) -> Result<TotpEnrollment, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let (user, plain) = (caller.user.id, totp::new_secret()?);
        let sealed = self.0.sealer.seal(totp::PURPOSE, user.as_str(), &plain)?;
        let store = self.store_of(caller);
        if !store.enroll_totp(user, sealed).await? {
            return Err(is_on());
        }
        let (secret, otpauth_uri) =
            totp::to_show(&plain, site_name, caller.user.username.as_str())?;
        Ok(TotpEnrollment {
            otpauth_uri,
            secret,
        })
    }

    /// Turns the second factor on with a first code, and gives the recovery codes: they are shown this once.
    ///
    /// # Errors
    /// `invalid_credentials` for a wrong code, `rate_limited` after too many; `conflict` when there is nothing to
    /// confirm; `forbidden` when the sign-in is too long ago; `unavailable`.
    pub async fn confirm_totp(
        &self,
        caller: &Caller,
        code: &str,
        client: &Client,
    ) -> Result<Vec<String>, Problem> {
        let now = self.0.clock.now();
        caller.require_recent(now)?;
        let user = caller.user.id;
        let enrolled = self.0.store.totp(user)?;
        let enrolled = enrolled.ok_or_else(|| conflict("ask for a secret first"))?;
        if enrolled.is_on() {
            return Err(is_on());
        }
        self.take_factor_try(caller.user.username.as_str()).await?;
        let sealed = enrolled.sealed_secret;
        let plain = self.0.sealer.open(totp::PURPOSE, user.as_str(), &sealed)?;
        let Some(step) = totp::matching_step(&plain, code.trim(), now)? else {
            let entry = AuditEntry {
                outcome: AuditOutcome::Refused,
                ..entry_of(caller, client, AuditAction::TotpEnabled)
            };
            self.0.store.audit(entry).await?;
            return Err(wrong_code());
        };
        let (codes, hashes) = self.new_codes(user)?;
        let entry = entry_of(caller, client, AuditAction::TotpEnabled);
        let store = self.store_of(caller);
        if !store
            .confirm_totp(user, sealed, step, hashes, entry)
            .await?
        {
            return Err(conflict("the secret is another by now"));
        }
        self.forget_factor_tries(caller, client).await?;
        Ok(codes)
    }

    /// Turns the second factor off. The password has to be one that does without: it is asked for, since its length is
    /// known to nobody.
    ///
    /// # Errors
    /// `invalid_field` with `password` when it is missing, `invalid_credentials` when it is wrong, `conflict` with
    /// `password` when it is too short for an account without a second factor; `not_found` when none is on;
    /// `forbidden` when the sign-in is too long ago; `rate_limited`, `unavailable`.
    pub async fn remove_totp(
        &self,
        caller: &Caller,
        password: Option<String>,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_recent(self.0.clock.now())?;
        if !self.has_second_factor(caller.user.id)? {
            return Err(is_off());
        }
        let is_short = password
            .as_deref()
            .is_some_and(password::needs_second_factor);
        let (turn, account) = self
            .confirm_password(
                caller,
                password,
                "password",
                AuditAction::TotpDisabled,
                client,
            )
            .await?;
        drop(turn);
        if account.password_hash.is_some() && is_short {
            return Err(conflict(
                "this password is too short for an account without a second factor; change it first",
            )
            .with_field("password"));
        }
        let entry = entry_of(caller, client, AuditAction::TotpDisabled);
        let (user, hash) = (caller.user.id, account.password_hash);
        let store = self.store_of(caller);
        match store.remove_totp(user, hash, entry).await? {
            true => Ok(()),
            false => Err(is_off()),
        }
    }

    /// New recovery codes, which void the old: they are shown this once.
    ///
    /// # Errors
    /// `not_found` without a second factor; `forbidden` when the sign-in is too long ago; `unavailable`.
    pub async fn new_recovery_codes(
        &self,
        caller: &Caller,
        client: &Client,
    ) -> Result<Vec<String>, Problem> {
        caller.require_recent(self.0.clock.now())?;
        let user = caller.user.id;
        let (codes, hashes) = self.new_codes(user)?;
        let entry = entry_of(caller, client, AuditAction::RecoveryCodesMade);
        let store = self.store_of(caller);
        match store.replace_recovery_codes(user, hashes, entry).await? {
            true => Ok(codes),
            false => Err(is_off()),
        }
    }

    /// The second step of a sign-in.
    ///
    /// # Errors
    /// `invalid_credentials` for a wrong code and for one that was used: the ticket stays good. `unauthenticated` when
    /// the ticket is over, and the sign-in begins again; `rate_limited` after too many wrong codes; `unavailable`.
    pub async fn finish_login(
        &self,
        asked: SecondFactor,
        client: &Client,
    ) -> Result<Tokens, Problem> {
        let inner = &*self.0;
        let ticket: [u8; 32] = secret::from_text(&asked.ticket).ok_or_else(unauthenticated)?;
        let ticket = secret::fingerprint(&ticket);
        let kind = Ceremony::LoginTicket;
        let state = inner.store.ceremony(kind, ticket)?;
        let pending: Pending =
            serde_json::from_str(&state.ok_or_else(unauthenticated)?).map_err(Problem::internal)?;
        let account = inner.store.account(pending.user)?;
        let account = account
            .filter(Account::may_sign_in)
            .ok_or_else(unauthenticated)?;
        let username = account.user.username.as_str();
        self.take_factor_try(username).await?;

        let Some(factor) = self.factor(account.user.id, &asked.code)? else {
            return Err(self.refuse_factor(account.user.id, client).await?);
        };
        let method = method_of(&factor);
        let (session, refresh) =
            self.new_session(account.user.id, method, pending.delivery, client)?;
        let entry = |action| AuditEntry {
            actor: Some(account.user.id),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action,
            target: Some(account.user.id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let mut audit = vec![entry(AuditAction::Login)];
        if let Factor::RecoveryCode(_) = factor {
            audit.insert(0, entry(AuditAction::RecoveryCodeUsed));
        }
        let sign_in = SecondFactorSignIn {
            ticket,
            factor,
            session,
            verified_hash: pending.verified_hash,
            new_hash: pending.new_hash,
            clear_counters: pending
                .counter
                .into_iter()
                .chain([throttle::factor_key(username)])
                .collect(),
            audit,
        };
        match inner.store.second_factor_sign_in(sign_in).await? {
            Ok((account, session)) => self.tokens(account, &session, &refresh),
            Err(SecondFactorRefused::Over) => Err(unauthenticated()),
            Err(SecondFactorRefused::Spent) => {
                Err(self.refuse_factor(account.user.id, client).await?)
            }
        }
    }

    /// Shows again who the caller is, by password and, where one is on, by a second factor.
    ///
    /// # Errors
    /// `invalid_credentials`; `invalid_field` with `code` when a second factor is on and none is shown; `conflict` with
    /// `password` for an account without one, which has other ways; `rate_limited`, `unavailable`.
    pub async fn reauthenticate(
        &self,
        caller: &Caller,
        password: String,
        code: Option<String>,
        client: &Client,
    ) -> Result<(), Problem> {
        caller.require_session()?;
        let user = caller.user.id;
        let with_factor = self.has_second_factor(user)?;
        if with_factor && code.is_none() {
            return Err(Problem::invalid_field(
                "code",
                "a code of your second factor is needed",
            ));
        }
        let action = AuditAction::Reauthenticated;
        let (turn, account) = self
            .confirm_password(caller, Some(password), "password", action, client)
            .await?;
        drop(turn);
        if account.password_hash.is_none() {
            return Err(
                conflict("this account has no password; use a passkey").with_field("password")
            );
        }
        let mut method = SignInMethod::Password;
        if let (true, Some(code)) = (with_factor, &code) {
            self.take_factor_try(caller.user.username.as_str()).await?;
            let Some(factor) = self.factor(user, code)? else {
                return Err(self.refuse_factor(user, client).await?);
            };
            method = method_of(&factor);
            let action = match factor {
                Factor::Totp { .. } => AuditAction::SecondFactor,
                Factor::RecoveryCode(_) => AuditAction::RecoveryCodeUsed,
            };
            let key = throttle::factor_key(caller.user.username.as_str());
            let entry = entry_of(caller, client, action);
            let spent = self.0.store.spend_factor(user, factor, key, entry).await?;
            if !spent {
                return Err(self.refuse_factor(user, client).await?);
            }
        }
        let entry = entry_of(caller, client, action);
        let session = caller.session_id;
        let store = &self.0.store;
        match store
            .mark_authenticated(session, user, method, entry)
            .await?
        {
            true => Ok(()),
            false => Err(unauthenticated()),
        }
    }

    /// Whose sign-in waits with this ticket, if one does.
    ///
    /// # Errors
    /// `unavailable`.
    pub fn user_of_ticket(&self, ticket: &str) -> Result<Option<UserId>, Problem> {
        let Some(ticket) = secret::from_text::<{ secret::SECRET_BYTES }>(ticket) else {
            return Ok(None);
        };
        let (kind, key) = (Ceremony::LoginTicket, secret::fingerprint(&ticket));
        let Some(state) = self.0.store.ceremony(kind, key)? else {
            return Ok(None);
        };
        let pending: Pending = serde_json::from_str(&state).map_err(Problem::internal)?;
        Ok(Some(pending.user))
    }

    /// Whether a sign-in by password asks this account for a second factor.
    pub(super) fn has_second_factor(&self, user: UserId) -> Result<bool, Problem> {
        let totp = self.0.store.totp(user)?;
        Ok(totp.is_some_and(|totp| totp.is_on()))
    }

    /// Remembers a sign-in whose password was right, and gives the ticket for its second step.
    pub(super) async fn wait_for_factor(
        &self,
        user: UserId,
        verified_hash: String,
        new_hash: Option<String>,
        delivery: Delivery,
        counter: Option<String>,
    ) -> Result<String, Problem> {
        let pending = Pending {
            user,
            verified_hash,
            new_hash,
            delivery,
            counter,
        };
        let state = serde_json::to_string(&pending).map_err(Problem::internal)?;
        let ticket = secret::random()?;
        let key = secret::fingerprint(&ticket);
        let kind = Ceremony::LoginTicket;
        let owner = CeremonyOwner::User(user);
        let store = &self.0.store;
        store
            .put_ceremony(kind, owner, key, state, TICKET_LIVES)
            .await?;
        Ok(secret::to_text(&ticket))
    }

    /// What was typed as a factor of this account, if it looks right; whether it is still good, its spending tells.
    fn factor(&self, user: UserId, typed: &str) -> Result<Option<Factor>, Problem> {
        let typed = typed.trim();
        if !totp::is_code(typed) {
            let hash = recovery_codes::hash(&self.0.recovery_codes, user, typed);
            return Ok(hash.map(Factor::RecoveryCode));
        }
        let Some(enrolled) = self.0.store.totp(user)?.filter(|totp| totp.is_on()) else {
            return Ok(None);
        };
        let sealed = &enrolled.sealed_secret;
        let plain = self.0.sealer.open(totp::PURPOSE, user.as_str(), sealed)?;
        let step = totp::matching_step(&plain, typed, self.0.clock.now())?;
        Ok(step.map(|step| Factor::Totp { step }))
    }

    fn new_codes(&self, user: UserId) -> Result<(Vec<String>, Vec<[u8; 32]>), Problem> {
        let codes = recovery_codes::new_set()?;
        let key = &self.0.recovery_codes;
        let hashes = codes
            .iter()
            .filter_map(|code| recovery_codes::hash(key, user, code))
            .collect();
        Ok((codes, hashes))
    }

    /// Takes one of the tries that an account has for its second factor.
    async fn take_factor_try(&self, username: &str) -> Result<(), Problem> {
        let inner = &*self.0;
        throttle::take_factor_try(&inner.store, &inner.throttle(), username, inner.clock.now())
            .await
    }

    async fn forget_factor_tries(&self, caller: &Caller, client: &Client) -> Result<(), Problem> {
        let key = throttle::factor_key(caller.user.username.as_str());
        let entry = entry_of(caller, client, AuditAction::SecondFactor);
        self.0.store.counter_reset(key, entry).await?;
        Ok(())
    }

    /// Puts a wrong code on record; gives the answer to it.
    async fn refuse_factor(&self, user: UserId, client: &Client) -> Result<Problem, Problem> {
        let entry = AuditEntry {
            actor: None,
            ip: client.ip.to_string(),
            session: None,
            action: AuditAction::SecondFactor,
            target: Some(user.to_string()),
            outcome: AuditOutcome::Refused,
        };
        self.0.store.audit(entry).await?;
        Ok(wrong_code())
    }
}

fn method_of(factor: &Factor) -> SignInMethod {
    match factor {
        Factor::Totp { .. } => SignInMethod::PasswordAndTotp,
        Factor::RecoveryCode(_) => SignInMethod::PasswordAndRecoveryCode,
    }
}

fn wrong_code() -> Problem {
    Problem::new(
        ErrorCode::InvalidCredentials,
        "this code is wrong or was used before",
    )
}

fn is_on() -> Problem {
    conflict("a second factor is on already")
}

fn is_off() -> Problem {
    Problem::not_found("there is no second factor")
}

fn conflict(detail: &'static str) -> Problem {
    Problem::new(ErrorCode::Conflict, detail)
}
