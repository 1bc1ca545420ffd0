//! Providers of OpenID Connect: what they are is discovered at their issuer, and who somebody is stands in a signed
//! ID token.

use std::time::{Duration, SystemTime};

use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, CsrfToken, PkceCodeChallenge, PkceCodeVerifier,
    RequestTokenError, TokenResponse as _, TokenUrl,
};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreClaimName, CoreClaimType,
    CoreClient, CoreClientAuthMethod, CoreGrantType, CoreIdToken, CoreIdTokenClaims,
    CoreIdTokenVerifier, CoreJsonWebKey, CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm, CoreJwsSigningAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{
    AdditionalProviderMetadata, ClaimsVerificationError, DiscoveryError, EndpointNotSet,
    EndpointSet, IssuerUrl, JsonWebKeySet, Nonce, ProviderMetadata, SignatureVerificationError,
    TokenResponse as _,
};
use serde::{Deserialize, Serialize};
use stack_types::Timestamp;
use tokio::sync::Mutex;
use url::Url;

use super::fetch::{self, FetchError, faulty, unavailable};
use super::{Begun, Failure, Identity, Line, Pending, SKEW_S};
use crate::email::Email;
use crate::secret;

/// What is asked for unless the operator says otherwise.
pub(super) const SCOPES: &[&str] = &["openid", "email", "profile"];

/// How long it is believed what a provider says of itself.
const METADATA_LIVES: Duration = Duration::from_secs(60 * 60);
/// How long it is not asked again after it failed: people press the button again.
const FAILURE_LIVES: Duration = Duration::from_secs(5);
/// How often its keys are asked for because a token names one that is not known. Anybody can make such a token.
const KEYS_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// What an ID token may be signed with. A shared secret is none: it is not the provider's alone.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 5] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// What providers say of themselves beyond what the library reads.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Additional {
    /// RFC 9207: callbacks say who sends them.
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Additional {}

type Metadata = ProviderMetadata<
    Additional,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
    EndpointNotSet,
>;

/// A provider of OpenID Connect.
pub(super) struct Oidc {
    issuer: IssuerUrl,
    /// Held while the provider is asked, so that it is asked once.
    known: Mutex<Known>,
}

/// What is known of a provider.
#[derive(Default)]
struct Known {
    metadata: Option<(Timestamp, Metadata)>,
    failed: Option<(Timestamp, Failure)>,
    keys_asked_at: Option<Timestamp>,
}

/// What the endpoint for claims tells.
#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    email: Option<String>,
    // Anything but `true` is taken for no.
    email_verified: Option<serde_json::Value>,
    name: Option<String>,
    preferred_username: Option<String>,
}

impl Oidc {
    pub(super) fn new(issuer: String) -> Result<Self, &'static str> {
        let issuer = IssuerUrl::new(issuer).map_err(|_| "its issuer is no address")?;
        Ok(Self {
            issuer,
            known: Mutex::default(),
        })
    }

    pub(super) async fn begin(
        &self,
        line: &Line<'_>,
        state: &str,
        again: bool,
    ) -> Result<Begun, Failure> {
        let client = client(line, &self.metadata(line).await?)?;
        let nonce = secret::random().map_err(|_| Failure::Unavailable)?;
        let nonce = secret::to_text(&nonce);
        let (challenge, pkce_verifier) = PkceCodeChallenge::new_random_sha256();
        let (given_state, given_nonce) = (state.to_owned(), nonce.clone());
        let mut request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(given_state),
                move || Nonce::new(given_nonce),
            )
            .add_scopes(line.scopes_beyond_openid())
            .set_pkce_challenge(challenge);
        if again {
            request = request
                .add_prompt(CoreAuthPrompt::Login)
                .set_max_age(Duration::ZERO);
        }
        let (url, _, _) = request.url();
        Ok(Begun {
            url,
            pkce_verifier,
            nonce: Some(nonce),
        })
    }

    /// Whether this is our issuer, where the provider says who it is. One that promised to say so must.
    pub(super) async fn is_from(
        &self,
        line: &Line<'_>,
        iss: Option<&str>,
    ) -> Result<bool, Failure> {
        match iss {
            Some(iss) => Ok(iss == self.issuer.as_str()),
            None => {
                let metadata = self.metadata(line).await?;
                let says = metadata.additional_metadata();
                Ok(!says.authorization_response_iss_parameter_supported)
            }
        }
    }

    pub(super) async fn identify(
        &self,
        line: &Line<'_>,
        code: &str,
        pending: &Pending,
    ) -> Result<Identity, Failure> {
        let name = &line.provider.name;
        let metadata = self.metadata(line).await?;
        let answer = client(line, &metadata)?
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(pending.pkce_verifier.clone()))
            .request_async(&line.out)
            .await
            .map_err(|error| match error {
                RequestTokenError::Request(error) => unavailable(name, &error),
                error => faulty(name, "the exchange of the code", &error),
            })?;
        let token = answer
            .id_token()
            .ok_or_else(|| faulty(name, "the ID token", &"there is none"))?;
        let claims = self.claims(line, metadata, token, pending).await?;
        let subject = claims.subject().as_str().to_owned();
        let name_of = |localized: Option<&openidconnect::LocalizedClaim<_>>| {
            let name: Option<&openidconnect::EndUserName> = localized?.get(None);
            name.map(|name| name.as_str().to_owned())
        };
        let mut identity = Identity {
            issuer: self.issuer.as_str().to_owned(),
            subject,
            email: claims.email().and_then(|email| Email::parse(email)),
            email_verified: claims.email_verified() == Some(true),
            username: claims
                .preferred_username()
                .map(|name| name.as_str().to_owned()),
            display_name: name_of(claims.name()),
        };
        if claims.email().is_none() {
            let token = answer.access_token().secret();
            self.ask_for_the_rest(line, token, &mut identity).await?;
        }
        if identity.is_well_formed() {
            Ok(identity)
        } else {
            Err(faulty(name, "the subject", &"it is none"))
        }
    }

    /// The claims of a token that is good. Keys are asked for once more when it names one that is not known.
    async fn claims(
        &self,
        line: &Line<'_>,
        metadata: Metadata,
        token: &CoreIdToken,
        pending: &Pending,
    ) -> Result<CoreIdTokenClaims, Failure> {
        let unknown_key = |error: &ClaimsVerificationError| {
            matches!(
                error,
                ClaimsVerificationError::SignatureVerification(
                    SignatureVerificationError::NoMatchingKey
                )
            )
        };
        let nonce = pending.nonce.as_deref();
        let keys = metadata.jwks().clone();
        let verified = match self.verify(line, keys, token, nonce) {
            Err(error) if unknown_key(&error) => match self.newer_keys(line).await? {
                Some(keys) => self.verify(line, keys, token, nonce),
                None => Err(error),
            },
            verified => verified,
        };
        let reject =
            |reason: &dyn std::fmt::Display| faulty(&line.provider.name, "the ID token", reason);
        let claims = verified.map_err(|error| match &error {
            ClaimsVerificationError::SignatureVerification(cause) => reject(cause),
            error => reject(error),
        })?;
        let party = claims.authorized_party();
        if party.is_some_and(|party| *party != line.provider.client_id) {
            return Err(reject(&"it is for another party"));
        }
        // Who was asked to show again who they are must have done it since. Asked for by an age, the provider has to
        // say when; one that does not may have been content with an earlier sign-in.
        if let super::Intent::Reauthenticate { .. } = pending.intent {
            let Some(at) = claims.auth_time() else {
                return Err(reject(&"it does not say when they signed in"));
            };
            if u64::try_from(at.timestamp()).unwrap_or(0) + SKEW_S < pending.begun_at.0 / 1000 {
                return Err(reject(&"it is of an earlier sign-in"));
            }
        }
        Ok(claims)
    }

    fn verify(
        &self,
        line: &Line<'_>,
        keys: CoreJsonWebKeySet,
        token: &CoreIdToken,
        nonce: Option<&str>,
    ) -> Result<CoreIdTokenClaims, ClaimsVerificationError> {
        let client_id = line.provider.client_id.clone();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(line.now.0);
        let verifier = CoreIdTokenVerifier::new_public_client(client_id, self.issuer.clone(), keys)
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || now.into());
        let nonce = nonce.map(|nonce| Nonce::new(nonce.to_owned()));
        let same = |given: Option<&Nonce>| match (&nonce, given) {
            (Some(ours), Some(given))
                if secret::same(ours.secret().as_bytes(), given.secret().as_bytes()) =>
            {
                Ok(())
            }
            _ => Err("it is not the one that was asked for".to_owned()),
        };
        token.claims(&verifier, same).cloned()
    }

    /// Some providers keep addresses and names out of the ID token, and tell them to who brings the access token.
    async fn ask_for_the_rest(
        &self,
        line: &Line<'_>,
        token: &str,
        identity: &mut Identity,
    ) -> Result<(), Failure> {
        let metadata = self.metadata(line).await?;
        let Some(endpoint) = metadata.userinfo_endpoint() else {
            return Ok(());
        };
        let name = &line.provider.name;
        let told: UserInfo = fetch::json(&line.out, name, endpoint.as_str(), token).await?;
        if told.sub != identity.subject {
            return Err(faulty(name, "the claims", &"they are somebody else's"));
        }
        identity.email = told.email.as_deref().and_then(Email::parse);
        identity.email_verified = told.email_verified == Some(serde_json::Value::Bool(true));
        identity.username = identity.username.take().or(told.preferred_username);
        identity.display_name = identity.display_name.take().or(told.name);
        Ok(())
    }

    /// What the provider says of itself, asked for at most once an hour.
    async fn metadata(&self, line: &Line<'_>) -> Result<Metadata, Failure> {
        let mut known = self.known.lock().await;
        if let Some((at, metadata)) = &known.metadata
            && line.now.since(*at) < METADATA_LIVES
        {
            return Ok(metadata.clone());
        }
        if let Some((at, failure)) = known.failed
            && line.now.since(at) < FAILURE_LIVES
        {
            return Err(failure);
        }
        let found = Metadata::discover_async(self.issuer.clone(), &line.out).await;
        let found = found.map_err(|error| undiscovered(line, error));
        match found.and_then(|metadata| self.check(line, metadata)) {
            Ok(metadata) => {
                known.failed = None;
                known.metadata = Some((line.now, metadata.clone()));
                Ok(metadata)
            }
            Err(failure) => {
                known.failed = Some((line.now, failure));
                Err(failure)
            }
        }
    }

    /// An issuer that is reached by TLS sends nobody to where there is none.
    fn check(&self, line: &Line<'_>, metadata: Metadata) -> Result<Metadata, Failure> {
        let urls = [
            Some(metadata.authorization_endpoint().url()),
            metadata.token_endpoint().map(|url| url.url()),
            metadata.userinfo_endpoint().map(|url| url.url()),
            Some(metadata.jwks_uri().url()),
        ];
        let is_tls = |url: &Url| url.scheme() == "https";
        if is_tls(self.issuer.url()) && !urls.into_iter().flatten().all(is_tls) {
            let name = &line.provider.name;
            return Err(faulty(name, "its addresses", &"one of them is not https"));
        }
        Ok(metadata)
    }

    /// The keys as they are now, unless they were asked for a short while ago.
    async fn newer_keys(&self, line: &Line<'_>) -> Result<Option<CoreJsonWebKeySet>, Failure> {
        let mut known = self.known.lock().await;
        let recently =
            |at: Timestamp| line.now.0 >= at.0 && line.now.since(at) < KEYS_AT_MOST_EVERY;
        if known.keys_asked_at.is_some_and(recently) {
            return Ok(None);
        }
        known.keys_asked_at = Some(line.now);
        let Some((_, metadata)) = &mut known.metadata else {
            return Ok(None);
        };
        let keys = JsonWebKeySet::fetch_async(metadata.jwks_uri(), &line.out)
            .await
            .map_err(|error| undiscovered(line, error))?;
        *metadata = metadata.clone().set_jwks(keys.clone());
        Ok(Some(keys))
    }
}

impl Line<'_> {
    /// The library adds the scope `openid` itself.
    fn scopes_beyond_openid(&self) -> impl Iterator<Item = oauth2::Scope> {
        let scopes = self.provider.scopes.iter();
        scopes.filter(|scope| scope.as_str() != "openid").cloned()
    }
}

fn client(line: &Line<'_>, metadata: &Metadata) -> Result<Client, Failure> {
    let provider = line.provider;
    let token_endpoint = metadata
        .token_endpoint()
        .ok_or_else(|| faulty(&provider.name, "its addresses", &"there is none for tokens"))?;
    let auth_type = match metadata.token_endpoint_auth_methods_supported() {
        Some(methods)
            if !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
                && methods.contains(&CoreClientAuthMethod::ClientSecretPost) =>
        {
            AuthType::RequestBody
        }
        _ => AuthType::BasicAuth,
    };
    // ID tokens are verified apart from the client, so that it needs no keys.
    let client = CoreClient::new(
        provider.client_id.clone(),
        metadata.issuer().clone(),
        JsonWebKeySet::new(Vec::new()),
    );
    Ok(client
        .set_client_secret(provider.client_secret.clone())
        .set_auth_type(auth_type)
        .set_auth_uri(AuthUrl::from_url(
            metadata.authorization_endpoint().url().clone(),
        ))
        .set_token_uri(TokenUrl::from_url(token_endpoint.url().clone()))
        .set_redirect_uri(provider.redirect.clone()))
}

fn undiscovered(line: &Line<'_>, error: DiscoveryError<FetchError>) -> Failure {
    let name = &line.provider.name;
    match error {
        DiscoveryError::Request(error) => unavailable(name, &error),
        error => faulty(name, "its description", &error),
    }
}
