//! Providers of OAuth without OpenID: who somebody is has to be asked of an interface of their own.

use oauth2::basic::BasicClient;
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier,
    RequestTokenError, TokenResponse, TokenUrl,
};
use serde::Deserialize;

use super::fetch::{self, faulty, unavailable};
use super::{Begun, Failure, Identity, Line, Pending};
use crate::email::Email;

/// A provider of plain OAuth.
pub(super) struct Plain {
    /// What stands for it where OpenID has an issuer.
    issuer: &'static str,
    /// Under which names its callbacks may come.
    pub(super) issuers: &'static [&'static str],
    authorize: &'static str,
    token: &'static str,
    /// What is asked for.
    pub(super) scopes: &'static [&'static str],
    who: Who,
}

enum Who {
    Github,
    Discord,
}

pub(super) static GITHUB: Plain = Plain {
    issuer: "https://github.com",
    issuers: &["https://github.com", "https://github.com/login/oauth"],
    authorize: "https://github.com/login/oauth/authorize",
    token: "https://github.com/login/oauth/access_token",
    scopes: &["read:user", "user:email"],
    who: Who::Github,
};

pub(super) static DISCORD: Plain = Plain {
    issuer: "https://discord.com",
    issuers: &["https://discord.com"],
    authorize: "https://discord.com/oauth2/authorize",
    token: "https://discord.com/api/oauth2/token",
    scopes: &["identify", "email"],
    who: Who::Discord,
};

const GITHUB_USER: &str = "https://api.github.com/user";
const GITHUB_EMAILS: &str = "https://api.github.com/user/emails";
const DISCORD_USER: &str = "https://discord.com/api/users/@me";

#[derive(Deserialize)]
struct GithubUser {
    id: u64,
    login: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct GithubEmail {
    email: String,
    primary: bool,
    verified: bool,
}

#[derive(Deserialize)]
struct DiscordUser {
    id: String,
    username: String,
    global_name: Option<String>,
    email: Option<String>,
    verified: Option<bool>,
}

impl Plain {
    pub(super) fn begin(&self, line: &Line<'_>, state: &str) -> Result<Begun, Failure> {
        let (challenge, pkce_verifier) = PkceCodeChallenge::new_random_sha256();
        let state = state.to_owned();
        let name = &line.provider.name;
        let authorize = AuthUrl::new(self.authorize.to_owned())
            .map_err(|error| faulty(name, "its addresses", &error))?;
        let client = BasicClient::new(line.provider.client_id.clone())
            .set_auth_uri(authorize)
            .set_redirect_uri(line.provider.redirect.clone());
        let (url, _) = client
            .authorize_url(move || CsrfToken::new(state))
            .add_scopes(line.provider.scopes.iter().cloned())
            .set_pkce_challenge(challenge)
            .url();
        Ok(Begun {
            url,
            pkce_verifier,
            nonce: None,
        })
    }

    pub(super) async fn identify(
        &self,
        line: &Line<'_>,
        code: &str,
        pending: &Pending,
    ) -> Result<Identity, Failure> {
        let name = &line.provider.name;
        let token = TokenUrl::new(self.token.to_owned())
            .map_err(|error| faulty(name, "its addresses", &error))?;
        let client = BasicClient::new(line.provider.client_id.clone())
            .set_client_secret(line.provider.client_secret.clone())
            .set_auth_type(AuthType::RequestBody)
            .set_token_uri(token)
            .set_redirect_uri(line.provider.redirect.clone());
        let answer = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.pkce_verifier.clone()))
            .request_async(&line.out)
            .await
            .map_err(|error| match error {
                RequestTokenError::Request(error) => unavailable(name, &error),
                error => faulty(name, "the exchange of the code", &error),
            })?;
        let token = answer.access_token().secret();
        let identity = match self.who {
            Who::Github => self.github(line, token).await?,
            Who::Discord => self.discord(line, token).await?,
        };
        if identity.is_well_formed() {
            Ok(identity)
        } else {
            Err(faulty(name, "the subject", &"it is none"))
        }
    }

    /// The address is the primary one, and only if it is verified: a user shows any other as they like.
    async fn github(&self, line: &Line<'_>, token: &str) -> Result<Identity, Failure> {
        let name = &line.provider.name;
        let user: GithubUser = fetch::json(&line.out, name, GITHUB_USER, token).await?;
        let emails: Vec<GithubEmail> = fetch::json(&line.out, name, GITHUB_EMAILS, token).await?;
        let primary = emails.into_iter().find(|email| email.primary);
        Ok(Identity {
            issuer: self.issuer.to_owned(),
            // The login can be changed, and then be somebody else's.
            subject: user.id.to_string(),
            email_verified: primary.as_ref().is_some_and(|email| email.verified),
            email: primary.and_then(|email| Email::parse(&email.email)),
            username: Some(user.login),
            display_name: user.name,
        })
    }

    async fn discord(&self, line: &Line<'_>, token: &str) -> Result<Identity, Failure> {
        let name = &line.provider.name;
        let user: DiscordUser = fetch::json(&line.out, name, DISCORD_USER, token).await?;
        Ok(Identity {
            issuer: self.issuer.to_owned(),
            subject: user.id,
            email: user.email.as_deref().and_then(Email::parse),
            email_verified: user.verified == Some(true),
            username: Some(user.username),
            display_name: user.global_name,
        })
    }
}
