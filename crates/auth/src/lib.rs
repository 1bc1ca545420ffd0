//! Who somebody is: accounts, passwords, tokens and sessions. No HTTP.
//!
//! [`Auth`] is the front door. What holds here:
//!
//! - An access token is worth nothing by itself: every request looks its session and account up, so that a
//!   revocation holds from its commit on. Whoever holds the session's sockets is told then.
//! - A refresh token has one successor. It is spent by a compare-and-swap in one write transaction; a second use
//!   other than the repeat of a lost answer revokes the session in that same transaction.
//! - Passwords are hashed a few at a time off the async threads, and every sign-in that fails costs the same time
//!   and gets the same answer, whether there is such an account or not.
//! - Secrets are stored as hashes only, and no `Debug` shows one.

mod access;
mod auth;
mod client;
mod config;
mod csrf;
mod email;
mod hasher;
mod keys;
mod oauth;
mod passkeys;
mod password;
mod profile;
mod recovery_codes;
mod refresh;
mod room_token;
mod sealed;
mod secret;
mod setup;
mod signing;
mod throttle;
mod ticket;
mod totp;

pub use auth::{
    AccountQuery, AccountView, Factors, InviteLook, InviteView, InvitedRoom, MadeInvite,
    MakeAccount, MakeInvite, Recovery, RecoveryLink, RecoveryLook, SecondFactor, SecondFactorView,
    SignIn, TotpEnrollment,
};
pub use auth::{ActsAs, ApiKeyView, AuditQuery, MadeApiKey, MakeApiKey, MakeRoomToken, RoomToken};
pub use auth::{
    AskForPasskey, AssertPasskey, Begun, NewPasskeyAnswer, PasskeyView, SetUpByPassword,
    SetupPerson, SignUpByPasskey, SignedUp,
};
pub use auth::{
    Auth, Caller, Credential, Keeper, Login, OnRevoked, Register, Revoked, Tokens, WsTicket,
};
pub use auth::{LinkView, OauthAnswer, OauthBegin, OauthDone, OauthError, OauthRefusal};
pub use client::Client;
pub use config::{AuthConfig, AuthError, Changeable, Lifetimes, Registration, Throttle};
pub use hasher::HashCost;
pub use keys::{KeyError, KeySource};
pub use oauth::{
    Fetch, FetchError, Fetching, HttpRequest, HttpResponse, OauthConfig, Preset, ProviderConfig,
    ProviderView,
};
pub use passkeys::{PasskeyConfig, PasskeysOff};
pub use password::MIN_CHARS as MIN_PASSWORD_CHARS;
pub use profile::{Me, OwnUser, ProfileUpdate, SessionView};
pub use room_token::{RoomGrant, RoomRight};
pub use setup::{SetupFileError, SetupToken};
pub use signing::{SigningAlgorithm, SigningError, SigningKeyView, SigningKeys};
pub use stack_storage::{
    Account, AccountKind, AuditAction, AuditOutcome, AuditRecord, Counter, Delivery, Scope,
    SignInMethod,
};
