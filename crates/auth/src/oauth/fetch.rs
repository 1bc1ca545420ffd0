//! The way out to providers. This crate speaks no HTTP of its own.

use std::pin::Pin;
use std::sync::Arc;

use oauth2::AsyncHttpClient;
use oauth2::http::StatusCode;
use oauth2::http::header::{ACCEPT, AUTHORIZATION};
use serde::de::DeserializeOwned;

use super::Failure;

pub use oauth2::{HttpRequest, HttpResponse};

/// An answer that is on its way.
pub type Fetching<'a> = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'a>>;

/// Sends a request and gives the answer as it is.
///
/// What holds for every implementation: no redirect is followed; an answer takes ten seconds at most and has 256 KiB
/// at most, else it is none; the certificate of an `https` address is verified. Dropping the future drops the request.
pub trait Fetch: Send + Sync {
    /// Sends it.
    fn fetch(&self, request: HttpRequest) -> Fetching<'_>;
}

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The connection could not be made, or broke.
    #[error("the provider cannot be reached: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the provider did not answer in time")]
    TimedOut,
    /// It is longer than anything we ask for.
    #[error("the provider's answer is too long")]
    TooLong,
    /// The provider says that it cannot answer now.
    #[error("the provider answers {0}")]
    Status(u16),
}

/// For a gateway without providers.
pub(super) struct Nowhere;

impl Fetch for Nowhere {
    fn fetch(&self, _request: HttpRequest) -> Fetching<'_> {
        let error = FetchError::Unreachable("there are no providers".to_owned());
        Box::pin(async { Err(error) })
    }
}

/// The way out as the libraries take it, with a provider's own troubles told apart from what it answers.
#[derive(Clone)]
pub(super) struct Out(pub(super) Arc<dyn Fetch>);

impl Out {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let answer = self.0.fetch(request).await?;
        let status = answer.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(FetchError::Status(status.as_u16()));
        }
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for Out {
    type Error = FetchError;
    type Future = Fetching<'c>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Asks for JSON with an access token.
pub(super) async fn json<T: DeserializeOwned>(
    out: &Out,
    provider: &str,
    url: &str,
    token: &str,
) -> Result<T, Failure> {
    let request = oauth2::http::Request::get(url)
        .header(ACCEPT, "application/json")
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Vec::new());
    let request = request.map_err(|error| faulty(provider, "a request", &error))?;
    let answer = out
        .send(request)
        .await
        .map_err(|error| unavailable(provider, &error))?;
    if answer.status() != StatusCode::OK {
        return Err(faulty(provider, "its API", &answer.status()));
    }
    serde_json::from_slice(answer.body()).map_err(|error| faulty(provider, "its API", &error))
}

/// A provider that does not answer, on record for the operator.
pub(super) fn unavailable(provider: &str, reason: &dyn std::fmt::Display) -> Failure {
    let reason = reason.to_string();
    tracing::warn!(
        provider,
        ?reason,
        "the provider {provider} cannot be reached"
    );
    Failure::Unavailable
}

/// A provider that answers what it must not, on record for the operator.
pub(super) fn faulty(provider: &str, what: &str, reason: &dyn std::fmt::Display) -> Failure {
    // Escaped, since a provider wrote it.
    let reason = reason.to_string();
    tracing::warn!(
        provider,
        what,
        ?reason,
        "the provider {provider} is at fault in {what}"
    );
    Failure::Faulty
}
