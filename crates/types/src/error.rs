//! The one closed set of error codes, and the problem that carries one to a client.
//!
//! Every code maps exactly once to an HTTP status, to whether repeating the request can help, and, where it ends
//! a socket, to a WebSocket close code. What a [`Problem`] says in its detail is for clients; what caused it is
//! its source, which is logged and never sent.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a request was refused, for programs. The set is closed and shared by HTTP, WebSocket and IPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are the documentation; PROTOCOL.md says when each is sent"
)]
pub enum ErrorCode {
    BadRequest,
    InvalidField,
    Unauthenticated,
    InvalidCredentials,
    TokenExpired,
    TokenReused,
    SecondFactorRequired,
    Forbidden,
    CsrfFailed,
    NotFound,
    MethodNotAllowed,
    Conflict,
    LimitExceeded,
    Gone,
    PayloadTooLarge,
    UnsupportedMediaType,
    RateLimited,
    Internal,
    Timeout,
    Unavailable,
}

impl ErrorCode {
    /// Every code, for tests and documents.
    pub const ALL: [Self; 20] = [
        Self::BadRequest,
        Self::InvalidField,
        Self::Unauthenticated,
        Self::InvalidCredentials,
        Self::TokenExpired,
        Self::TokenReused,
        Self::SecondFactorRequired,
        Self::Forbidden,
        Self::CsrfFailed,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::LimitExceeded,
        Self::Gone,
        Self::PayloadTooLarge,
        Self::UnsupportedMediaType,
        Self::RateLimited,
        Self::Internal,
        Self::Timeout,
        Self::Unavailable,
    ];

    /// The code as it stands in an answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::InvalidField => "invalid_field",
            Self::Unauthenticated => "unauthenticated",
            Self::InvalidCredentials => "invalid_credentials",
            Self::TokenExpired => "token_expired",
            Self::TokenReused => "token_reused",
            Self::SecondFactorRequired => "second_factor_required",
            Self::Forbidden => "forbidden",
            Self::CsrfFailed => "csrf_failed",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::LimitExceeded => "limit_exceeded",
            Self::Gone => "gone",
            Self::PayloadTooLarge => "payload_too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
        }
    }

    /// A short title for people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "Bad request",
            Self::InvalidField => "A field is not valid",
            Self::Unauthenticated => "Not signed in",
            Self::InvalidCredentials => "Wrong name or password",
            Self::TokenExpired => "The token has expired",
            Self::TokenReused => "The token was used before",
            Self::SecondFactorRequired => "A second factor is required",
            Self::Forbidden => "Not allowed",
            Self::CsrfFailed => "Cross-site request refused",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::LimitExceeded => "A limit is reached",
            Self::Gone => "Gone",
            Self::PayloadTooLarge => "Too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::RateLimited => "Too many requests",
            Self::Internal => "Internal error",
            Self::Timeout => "Timed out",
            Self::Unavailable => "Unavailable",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthenticated
            | Self::InvalidCredentials
            | Self::TokenExpired
            | Self::TokenReused
            | Self::SecondFactorRequired => 401,
            Self::Forbidden | Self::CsrfFailed => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::LimitExceeded => 409,
            Self::Gone => 410,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::InvalidField => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The WebSocket close code, for the codes that can end a socket. Most are answered and the socket lives.
    #[must_use]
    pub fn ws_close(self) -> Option<u16> {
        match self {
            Self::Unauthenticated
            | Self::InvalidCredentials
            | Self::TokenExpired
            | Self::TokenReused => Some(4001),
            Self::Forbidden => Some(4003),
            Self::LimitExceeded => Some(4008),
            Self::PayloadTooLarge => Some(1009),
            Self::RateLimited => Some(4029),
            Self::Internal => Some(4500),
            Self::Unavailable => Some(1001),
            Self::BadRequest => Some(4000),
            Self::InvalidField
            | Self::SecondFactorRequired
            | Self::CsrfFailed
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::Gone
            | Self::UnsupportedMediaType
            | Self::Timeout => None,
        }
    }

    /// Whether the same request may succeed later, without a change by the client.
    #[must_use]
    pub fn retryable(self) -> bool {
        match self {
            Self::RateLimited | Self::Timeout | Self::Unavailable | Self::Internal => true,
            Self::BadRequest
            | Self::InvalidField
            | Self::Unauthenticated
            | Self::InvalidCredentials
            | Self::TokenExpired
            | Self::TokenReused
            | Self::SecondFactorRequired
            | Self::Forbidden
            | Self::CsrfFailed
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::Conflict
            | Self::LimitExceeded
            | Self::Gone
            | Self::PayloadTooLarge
            | Self::UnsupportedMediaType => false,
        }
    }
}

impl ErrorCode {
    /// When to come back, where nobody knows better. Those two codes are never told without.
    fn usual_retry_after(self) -> Option<Duration> {
        const SOON: Duration = Duration::from_secs(1);
        matches!(self, Self::RateLimited | Self::Unavailable).then_some(SOON)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refused or failed request: what the client is told, and, apart from it, what the log is told.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The code for programs.
    pub code: ErrorCode,
    /// One sentence for people. It holds nothing internal.
    pub detail: Cow<'static, str>,
    /// The request's field at fault, with `invalid_field`.
    pub field: Option<Cow<'static, str>>,
    /// When to come back, with `rate_limited` and `unavailable`.
    pub retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A problem with a detail for people.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            field: None,
            retry_after: code.usual_retry_after(),
            source: None,
        }
    }

    /// `invalid_field`: this field of the request is not valid.
    #[must_use]
    pub fn invalid_field(
        field: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(ErrorCode::InvalidField, detail)
        }
    }

    /// The same, about one field of the request.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// `rate_limited`: come back after this long.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(ErrorCode::RateLimited, "too many requests, slow down")
        }
    }

    /// `unavailable`: the gateway cannot do this now, for this internal reason.
    #[must_use]
    pub fn unavailable(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..Self::new(ErrorCode::Unavailable, "the gateway cannot do this now")
        }
    }

    /// `internal`: something is broken; the source is for the log.
    #[must_use]
    pub fn internal(source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..Self::new(
                ErrorCode::Internal,
                "something went wrong here; it has been logged",
            )
        }
    }

    /// `not_found`: there is no such thing, or none that the caller may know of.
    #[must_use]
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::NotFound, detail)
    }

    /// `forbidden`: the caller sees it, but may not do this with it.
    #[must_use]
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::Forbidden, detail)
    }

    /// The internal cause, for the log alone.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// `retry_after` in whole milliseconds, at least one.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after
            .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_come_back_is_told_when() {
        for code in ErrorCode::ALL {
            let says_when = matches!(code, ErrorCode::Unavailable | ErrorCode::RateLimited);
            let problem = Problem::new(code, "no");
            assert_eq!(
                problem.retry_after_ms(),
                says_when.then_some(1000),
                "{code}"
            );
        }
    }

    #[test]
    fn a_code_reads_the_same_everywhere() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert!((400..600).contains(&code.http_status()), "{code}");
        }
    }
}
