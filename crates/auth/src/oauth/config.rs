//! What is configured of identity providers.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::fetch::Fetch;

/// A provider whose addresses and ways are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// github.com: OAuth without OpenID.
    Github,
    /// Google.
    Google,
    /// GitLab, also one's own.
    Gitlab,
    /// Discord: OAuth without OpenID.
    Discord,
}

/// An identity provider.
#[derive(Clone)]
pub struct ProviderConfig {
    /// What it is called in addresses.
    pub name: String,
    /// What people see.
    pub title: String,
    /// Which one it is, if it is one that is known.
    pub preset: Option<Preset>,
    /// Its issuer, from which the rest is discovered; there is one unless the preset has its own.
    pub issuer: Option<String>,
    /// Who we are there.
    pub client_id: String,
    /// How we show it.
    pub client_secret: String,
    /// What is asked for; empty for what the preset or OpenID asks for.
    pub scopes: Vec<String>,
    /// Whether somebody who is new may make an account by signing in there.
    pub allow_registration: bool,
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderConfig")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .field("issuer", &self.issuer)
            .finish_non_exhaustive()
    }
}

/// The identity providers, and how they are reached.
#[derive(Clone)]
pub struct OauthConfig {
    /// The providers.
    pub providers: Vec<ProviderConfig>,
    /// The address below which their callbacks are: `<this>/<name>/callback`.
    pub callbacks: String,
    /// Sends requests to them.
    pub fetch: Arc<dyn Fetch>,
}

impl fmt::Debug for OauthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OauthConfig")
            .field("providers", &self.providers)
            .field("callbacks", &self.callbacks)
            .finish_non_exhaustive()
    }
}
