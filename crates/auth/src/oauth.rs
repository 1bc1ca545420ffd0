//! Signing in at somebody else's: OAuth 2 with PKCE, and OpenID Connect on top of it.
//!
//! Here is what goes on between us and a provider; what follows from it for accounts is in `auth::oauth`. What holds:
//!
//! - Who somebody is there is issuer and subject. An e-mail address is a hint, and only worth something when the
//!   provider says that it is verified.
//! - A callback is worth nothing without its state, and a state is good once, for one browser and one provider.
//! - A provider with a fault in its configuration stops the start; one that fails later refuses the sign-in.

mod config;
mod fetch;
mod flow;
mod identity;
mod oidc;
mod plain;
mod return_to;

use std::sync::Arc;

use oauth2::{ClientId, ClientSecret, PkceCodeVerifier, RedirectUrl, Scope};
use serde::Serialize;
use stack_types::{Clock, Timestamp};
use url::Url;

use crate::config::AuthError;

pub use config::{OauthConfig, Preset, ProviderConfig};
pub use fetch::{Fetch, FetchError, Fetching, HttpRequest, HttpResponse};
pub(crate) use flow::{Intent, Pending, binding_of};
pub(crate) use identity::{Identity, with_suffix};
pub(crate) use return_to::return_to;

/// How far a provider's clock may be behind ours.
const SKEW_S: u64 = 60;

/// Where people sign in who have an account elsewhere.
pub(crate) struct Providers {
    all: Vec<Provider>,
    out: fetch::Out,
    clock: Arc<dyn Clock>,
}

/// One provider.
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) allow_registration: bool,
    preset: Option<Preset>,
    client_id: ClientId,
    client_secret: ClientSecret,
    redirect: RedirectUrl,
    scopes: Vec<Scope>,
    way: Way,
}

/// How a provider is talked to.
enum Way {
    Oidc(Box<oidc::Oidc>),
    Plain(&'static plain::Plain),
}

/// A provider as the page for signing in shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderView {
    /// What it is called in addresses.
    pub name: String,
    /// What people see.
    pub title: String,
    /// Which one it is, if it is one that is known: for its sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
}

/// A way to a provider that was begun.
pub(crate) struct Begun {
    pub(crate) url: Url,
    pub(crate) pkce_verifier: PkceCodeVerifier,
    pub(crate) nonce: Option<String>,
}

/// Why a provider could not tell who somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It does not answer.
    Unavailable,
    /// It answers what it must not.
    Faulty,
}

/// What is needed to talk to a provider.
struct Line<'a> {
    provider: &'a Provider,
    out: fetch::Out,
    now: Timestamp,
}

impl Providers {
    /// Nobody to sign in at.
    pub(crate) fn none(clock: Arc<dyn Clock>) -> Self {
        Self {
            all: Vec::new(),
            out: fetch::Out(Arc::new(fetch::Nowhere)),
            clock,
        }
    }

    /// The configured ones.
    ///
    /// # Errors
    /// One of them has a fault.
    pub(crate) fn new(config: OauthConfig, clock: Arc<dyn Clock>) -> Result<Self, AuthError> {
        let mut all = Vec::with_capacity(config.providers.len());
        for provider in config.providers {
            if all
                .iter()
                .any(|known: &Provider| known.name == provider.name)
            {
                return Err(AuthError::Provider {
                    name: provider.name,
                    fault: "there are two of this name",
                });
            }
            all.push(Provider::new(provider, &config.callbacks)?);
        }
        Ok(Self {
            all,
            out: fetch::Out(config.fetch),
            clock,
        })
    }

    pub(crate) fn views(&self) -> Vec<ProviderView> {
        let view = |provider: &Provider| ProviderView {
            name: provider.name.clone(),
            title: provider.title.clone(),
            preset: provider.preset,
        };
        self.all.iter().map(view).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Provider> {
        self.all.iter().find(|provider| provider.name == name)
    }

    /// What people know a provider by; its name when it is configured no more.
    pub(crate) fn title(&self, name: &str) -> String {
        self.find(name)
            .map_or_else(|| name.to_owned(), |provider| provider.title.clone())
    }

    /// Where a browser goes to sign in. `again` asks the provider not to be content with an earlier sign-in.
    pub(crate) async fn begin(
        &self,
        provider: &Provider,
        state: &str,
        again: bool,
    ) -> Result<Begun, Failure> {
        let line = self.line(provider);
        match &provider.way {
            Way::Oidc(oidc) => oidc.begin(&line, state, again).await,
            Way::Plain(plain) => plain.begin(&line, state),
        }
    }

    /// Whether a provider can be asked not to be content with an earlier sign-in. Plain OAuth knows no such question.
    pub(crate) fn asks_again(provider: &Provider) -> bool {
        matches!(provider.way, Way::Oidc(_))
    }

    /// Whether a callback comes from the provider that it says it comes from (RFC 9207).
    pub(crate) async fn is_from(
        &self,
        provider: &Provider,
        iss: Option<&str>,
    ) -> Result<bool, Failure> {
        match (&provider.way, iss) {
            (Way::Oidc(oidc), iss) => oidc.is_from(&self.line(provider), iss).await,
            (Way::Plain(plain), Some(iss)) => Ok(plain.issuers.contains(&iss)),
            (Way::Plain(_), None) => Ok(true),
        }
    }

    /// Who brought this code.
    pub(crate) async fn identify(
        &self,
        provider: &Provider,
        code: &str,
        pending: &Pending,
    ) -> Result<Identity, Failure> {
        let line = self.line(provider);
        match &provider.way {
            Way::Oidc(oidc) => oidc.identify(&line, code, pending).await,
            Way::Plain(plain) => plain.identify(&line, code, pending).await,
        }
    }

    fn line<'a>(&'a self, provider: &'a Provider) -> Line<'a> {
        Line {
            provider,
            out: self.out.clone(),
            now: self.clock.now(),
        }
    }
}

impl Provider {
    fn new(config: ProviderConfig, callbacks: &str) -> Result<Self, AuthError> {
        let faulty = |fault| AuthError::Provider {
            name: config.name.clone(),
            fault,
        };
        if config.client_id.is_empty() || config.client_secret.is_empty() {
            return Err(faulty("client_id and client_secret must be set"));
        }
        let redirect = format!("{callbacks}/{}/callback", config.name);
        let redirect =
            RedirectUrl::new(redirect).map_err(|_| faulty("its callback is no address"))?;
        let discovered = |issuer: String| {
            let oidc = oidc::Oidc::new(issuer).map_err(faulty)?;
            Ok::<_, AuthError>((Way::Oidc(Box::new(oidc)), oidc::SCOPES))
        };
        let plain = |plain: &'static plain::Plain| (Way::Plain(plain), plain.scopes);
        let (way, usual) = match (config.preset, config.issuer) {
            (Some(Preset::Github), None) => plain(&plain::GITHUB),
            (Some(Preset::Discord), None) => plain(&plain::DISCORD),
            (Some(Preset::Google), None) => discovered("https://accounts.google.com".to_owned())?,
            (Some(Preset::Gitlab), None) => discovered("https://gitlab.com".to_owned())?,
            (None | Some(Preset::Gitlab), Some(issuer)) => discovered(issuer)?,
            (None, None) => return Err(faulty("either preset or issuer must be set")),
            (Some(_), Some(_)) => return Err(faulty("this preset has an issuer of its own")),
        };
        let mut scopes: Vec<String> = config.scopes;
        if scopes.is_empty() {
            scopes = usual.iter().map(|scope| (*scope).to_owned()).collect();
        }
        Ok(Self {
            name: config.name,
            title: config.title,
            allow_registration: config.allow_registration,
            preset: config.preset,
            client_id: ClientId::new(config.client_id),
            client_secret: ClientSecret::new(config.client_secret),
            redirect,
            scopes: scopes.into_iter().map(Scope::new).collect(),
            way,
        })
    }
}
