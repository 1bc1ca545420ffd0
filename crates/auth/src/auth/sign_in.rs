//! Register and login.

use std::fmt;

use stack_storage::{
    Account, AccountKind, AuditAction, AuditEntry, AuditOutcome, CreateUserError, Delivery,
    NewSession, NewUser, SignIn as PasswordSignIn, SignInMethod,
};
use stack_types::{ErrorCode, GlobalRole, Problem, SessionId, UserId, Username};

use super::Auth;
use super::invites;
use super::tokens::Tokens;
use crate::client::Client;
use crate::email::Email;
use crate::hasher::{Turn, Verdict};
use crate::refresh::RefreshToken;
use crate::{password, profile, throttle};

/// A new account.
#[derive(Clone)]
pub struct Register {
    /// Folded to lower case.
    pub username: String,
    /// At least 15 characters.
    pub password: String,
    /// Optional.
    pub email: Option<String>,
    /// The username when absent.
    pub display_name: Option<String>,
    /// The text of an invitation. While not everybody may register, it is needed.
    pub invite: Option<String>,
    /// How the tokens reach the client.
    pub delivery: Delivery,
}

/// A sign-in by password.
#[derive(Clone)]
pub struct Login {
    /// A username or an e-mail address.
    pub login: String,
    /// The password.
    pub password: String,
    /// How the tokens reach the client.
    pub delivery: Delivery,
}

/// How far a sign-in got.
#[derive(Clone)]
pub enum SignIn {
    /// To its end.
    Done(Box<Tokens>),
    /// To where a second factor is asked for.
    SecondFactor {
        /// What to show with it, within five minutes.
        ticket: String,
    },
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(tokens) => f.debug_tuple("Done").field(tokens).finish(),
            Self::SecondFactor { .. } => f.debug_struct("SecondFactor").finish_non_exhaustive(),
        }
    }
}

impl Auth {
    /// Makes an account and signs it in.
    ///
    /// # Errors
    /// `forbidden` when registration is closed, `invalid_field`, `conflict` with the field that is taken,
    /// `rate_limited`, `unavailable`.
    pub async fn register(&self, asked: Register, client: &Client) -> Result<Tokens, Problem> {
        let inner = &*self.0;
        let invite = self.admission(asked.invite.as_deref())?;
        let username: Username = asked
            .username
            .trim()
            .parse()
            .map_err(|error| Problem::invalid_field("username", format!("{error}")))?;
        let email = asked.email.as_deref().map(Email::from_field).transpose()?;
        let email = email.map(Email::into_string);
        let display_name = match &asked.display_name {
            Some(typed) => profile::display_name(typed)?,
            None => username.to_string(),
        };
        password::check_length("password", &asked.password, false)?;
        throttle::check_registrations(&inner.store, &inner.throttle(), client, inner.clock.now())?;

        let own_names = vec![username.to_string(), display_name.clone()];
        let own_names = own_names.into_iter().chain(email.clone()).collect();
        let turn = inner.hasher.turn_to_register().await?;
        // As at login: those before in the line may have used the ration up.
        throttle::check_registrations(&inner.store, &inner.throttle(), client, inner.clock.now())?;
        let (turn, hash) = hash_new(turn, "password", asked.password, own_names).await?;
        drop(turn);
        // Taken only now, so that a password that was refused costs nothing; names that are taken do.
        let now = inner.clock.now();
        throttle::take_registration(&inner.store, &inner.throttle(), client, now).await?;

        let user_id = UserId::generate(now);
        let method = SignInMethod::Password;
        let (session, refresh) = self.new_session(user_id, method, asked.delivery, client)?;
        let new = NewUser {
            id: user_id,
            username,
            display_name,
            email,
            email_verified: false,
            password_hash: Some(hash),
            // Nobody becomes an admin by being first.
            role: GlobalRole::Member,
            kind: AccountKind::Person,
            invite,
        };
        let entry = AuditEntry {
            actor: Some(user_id),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action: AuditAction::Register,
            target: Some(user_id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        match inner.store.register(new, session, entry).await? {
            Ok((account, session)) => self.tokens(account, &session, &refresh),
            Err(refused) => Err(not_created(refused)),
        }
    }

    /// Signs in by password; where a second factor is on, that is asked for next.
    ///
    /// # Errors
    /// `invalid_credentials`, the same and after the same time for an unknown login, an account without a password,
    /// a disabled one and a wrong password; `rate_limited` after too many of these; `unavailable`.
    pub async fn login(&self, asked: Login, client: &Client) -> Result<SignIn, Problem> {
        let inner = &*self.0;
        if !password::is_hashable(&asked.password) {
            return Err(Problem::invalid_field(
                "password",
                "a password is at most 1024 bytes",
            ));
        }
        let login = normalise(&asked.login);
        let typed = login.as_deref().unwrap_or(&asked.login);
        let key = throttle::login_key(self.account_for(login.as_deref())?.as_ref(), typed);
        throttle::check_failures(&inner.store, &inner.throttle(), &key, inner.clock.now())?;
        let turn = inner.hasher.turn().await?;
        // Many may have waited in line for their turn; those before may have used up what was free.
        throttle::check_failures(&inner.store, &inner.throttle(), &key, inner.clock.now())?;

        let account = self.account_for(login.as_deref())?;
        let stored = account.as_ref().filter(|account| !account.disabled);
        let stored = stored.and_then(|account| account.password_hash.clone());
        let (turn, verdict) = turn.verify(asked.password.clone(), stored.clone()).await?;
        let (Verdict::Right { outdated }, Some(account), Some(verified_hash)) =
            (verdict, &account, stored)
        else {
            // The turn is kept until the failure is counted, so that the next in line sees it.
            let refused = self.refuse_login(key, account.as_ref(), client).await;
            drop(turn);
            return Err(refused?);
        };
        let new_hash = match outdated {
            true => Some(turn.hash(asked.password).await?.1),
            false => {
                drop(turn);
                None
            }
        };
        if self.has_second_factor(account.user.id)? {
            let user = account.user.id;
            let waiting =
                self.wait_for_factor(user, verified_hash, new_hash, asked.delivery, Some(key));
            return Ok(SignIn::SecondFactor {
                ticket: waiting.await?,
            });
        }
        let method = SignInMethod::Password;
        let (session, refresh) =
            self.new_session(account.user.id, method, asked.delivery, client)?;
        let entry = AuditEntry {
            actor: Some(account.user.id),
            ip: client.ip.to_string(),
            session: Some(session.id),
            action: AuditAction::Login,
            target: Some(account.user.id.to_string()),
            outcome: AuditOutcome::Ok,
        };
        let sign_in = PasswordSignIn {
            session,
            verified_hash,
            new_hash,
            clear_counter: key,
            audit: entry,
        };
        match inner.store.sign_in(sign_in).await? {
            Ok((account, session)) => {
                let tokens = self.tokens(account, &session, &refresh)?;
                Ok(SignIn::Done(Box::new(tokens)))
            }
            Err(_stale) => Err(invalid_credentials()),
        }
    }

    fn account_for(&self, login: Option<&str>) -> Result<Option<Account>, Problem> {
        match login {
            Some(login) => Ok(self.0.store.account_by_login(login)?),
            None => Ok(None),
        }
    }

    /// Counts a failed sign-in and puts it on record; gives the answer to it.
    async fn refuse_login(
        &self,
        key: String,
        account: Option<&Account>,
        client: &Client,
    ) -> Result<Problem, Problem> {
        let entry = AuditEntry {
            actor: None,
            ip: client.ip.to_string(),
            session: None,
            action: AuditAction::Login,
            target: account.map(|account| account.user.id.to_string()),
            outcome: AuditOutcome::Refused,
        };
        let window = self.0.throttle.failure_window;
        self.0.store.counter_hit(key, window, Some(entry)).await?;
        Ok(invalid_credentials())
    }

    /// A session for somebody who has shown who they are in this way, and its first refresh token.
    pub(super) fn new_session(
        &self,
        user_id: UserId,
        method: SignInMethod,
        delivery: Delivery,
        client: &Client,
    ) -> Result<(NewSession, RefreshToken), Problem> {
        let id = SessionId::generate(self.0.clock.now());
        let refresh = self.0.refresh.first(id)?;
        let session = NewSession {
            id,
            user_id,
            device: client.device.clone(),
            ip: client.ip.to_string(),
            delivery,
            method,
            refresh: refresh.fingerprint(),
            lifetime: self.0.lifetimes.session,
            idle: self.0.lifetimes.refresh_idle,
        };
        Ok((session, refresh))
    }
}

/// Hashes a new password, unless it is a common one.
pub(super) async fn hash_new(
    turn: Turn,
    field: &'static str,
    password: String,
    own_names: Vec<String>,
) -> Result<(Turn, String), Problem> {
    let refuse = move |password: &str| {
        let own_names: Vec<&str> = own_names.iter().map(String::as_str).collect();
        password::is_common(password, &own_names)
    };
    match turn.hash_unless(password, refuse).await? {
        (turn, Some(hash)) => Ok((turn, hash)),
        (_, None) => Err(password::too_common(field)),
    }
}

/// The one answer to every sign-in that fails.
pub(super) fn invalid_credentials() -> Problem {
    Problem::new(ErrorCode::InvalidCredentials, "wrong name or password")
}

/// Why an account was not made, for whoever wanted it.
pub(super) fn not_created(refused: CreateUserError) -> Problem {
    let taken = |field, detail| Problem::new(ErrorCode::Conflict, detail).with_field(field);
    match refused {
        CreateUserError::IdTaken => taken("user_id", "this id is taken"),
        CreateUserError::UsernameTaken => taken("username", "this username is taken"),
        CreateUserError::EmailTaken => taken("email", "this e-mail address is taken"),
        CreateUserError::InviteClosed => invites::no_good(),
    }
}

/// A login in its one spelling; `None` for what no account can have.
pub(super) fn normalise(typed: &str) -> Option<String> {
    if typed.contains('@') {
        return Email::parse(typed).map(Email::into_string);
    }
    let username: Username = typed.trim().parse().ok()?;
    Some(username.to_string())
}
