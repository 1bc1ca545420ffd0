//! Problems as answers: RFC 9457 `application/problem+json`, for everything that goes wrong.
//!
//! A handler answers with an [`ApiError`], which only marks the response; the body is written in one place, by
//! [`render`], which knows the request's id. What did not come from a handler (no such route, a wrong method, a
//! panic) is a bare status until then and becomes a problem there as well. The cause of a problem is logged there,
//! once, and never sent.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::Write as _;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use stack_types::{ErrorCode, Problem};

use super::request_id::RequestId;

/// A refused or failed request.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    problem: Problem,
    more: More,
}

/// Members of the answer beyond the common ones.
#[derive(Debug, Clone, Default)]
struct More(serde_json::Map<String, serde_json::Value>);

impl ApiError {
    /// Adds a member to the answer, as RFC 9457 allows.
    pub(crate) fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.more.0.insert(name.to_owned(), value.into());
        self
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            more: More::default(),
        }
    }
}

impl From<stack_rate::RetryAfter> for ApiError {
    fn from(refused: stack_rate::RetryAfter) -> Self {
        Problem::from(refused).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status_of(self.problem.code).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler gives back.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

fn status_of(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The problem that a bare status stands for.
fn of_status(status: StatusCode) -> Problem {
    let (code, detail) = match status {
        StatusCode::UNAUTHORIZED => (ErrorCode::Unauthenticated, "sign in first"),
        StatusCode::FORBIDDEN => (ErrorCode::Forbidden, "this is not allowed"),
        StatusCode::NOT_FOUND => (ErrorCode::NotFound, "there is nothing under this address"),
        StatusCode::METHOD_NOT_ALLOWED => (
            ErrorCode::MethodNotAllowed,
            "this address does not know that method",
        ),
        StatusCode::CONFLICT => (ErrorCode::Conflict, "this does not go with what is there"),
        StatusCode::GONE => (ErrorCode::Gone, "this is gone"),
        StatusCode::PAYLOAD_TOO_LARGE => (ErrorCode::PayloadTooLarge, "the body is too large"),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => (
            ErrorCode::UnsupportedMediaType,
            "the body must be application/json",
        ),
        StatusCode::UNPROCESSABLE_ENTITY => (ErrorCode::InvalidField, "a field is not valid"),
        StatusCode::TOO_MANY_REQUESTS => (ErrorCode::RateLimited, "too many requests, slow down"),
        StatusCode::SERVICE_UNAVAILABLE => {
            (ErrorCode::Unavailable, "the gateway cannot do this now")
        }
        StatusCode::GATEWAY_TIMEOUT => (ErrorCode::Timeout, "this took too long"),
        status if status.is_client_error() => {
            (ErrorCode::BadRequest, "the request is not well formed")
        }
        _ => (
            ErrorCode::Internal,
            "something went wrong here; it has been logged",
        ),
    };
    Problem::new(code, detail)
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: ErrorCode,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(flatten)]
    more: &'a serde_json::Map<String, serde_json::Value>,
}

/// Middleware: writes the body of every answer that is an error, and logs its cause.
pub(crate) async fn render(request: Request, next: Next) -> Response {
    let id = request
        .extensions()
        .get::<RequestId>()
        .cloned()
        .unwrap_or_default();
    written(next.run(request).await, &id)
}

/// The same of one answer.
pub(crate) fn written(response: Response, id: &RequestId) -> Response {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    let ApiError { problem, more } = parts
        .extensions
        .remove::<ApiError>()
        .unwrap_or_else(|| of_status(status).into());
    log(&problem, status);

    let document = Document {
        r#type: format!("urn:stack:problem:{}", problem.code),
        title: problem.code.title(),
        status: status.as_u16(),
        detail: &problem.detail,
        code: problem.code,
        request_id: id.as_str(),
        field: problem.field.as_ref(),
        retry_after_ms: problem.retry_after_ms(),
        more: &more.0,
    };
    // Only the map could fail to serialise, and it holds JSON values already.
    let body = serde_json::to_vec(&document).unwrap_or_default();
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    parts.headers.remove(header::CONTENT_LENGTH);
    if let Some(ms) = problem.retry_after_ms() {
        parts
            .headers
            .insert(header::RETRY_AFTER, ms.div_ceil(1000).into());
    }
    if status == StatusCode::UNAUTHORIZED {
        parts
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(parts, Body::from(body))
}

/// A refusal is the client's affair, unless it has an internal cause or is our own failure.
fn log(problem: &Problem, status: StatusCode) {
    let code = problem.code.as_str();
    match problem.cause() {
        Some(cause) => {
            let cause = chain(cause);
            tracing::error!(code, cause, "a request failed: {cause}");
        }
        None if status.is_server_error() => {
            tracing::warn!(code, "a request failed: {}", problem.detail);
        }
        None => tracing::debug!(code, "a request was refused: {}", problem.detail),
    }
}

/// An error and what caused it, on one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::middleware::from_fn;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    use super::*;

    /// However it came to be: from a handler, or from a layer as a bare status.
    #[tokio::test]
    async fn what_is_unavailable_says_when_to_come_back() {
        let unavailable = || async { ApiError::from(Problem::new(ErrorCode::Unavailable, "no")) };
        let router = Router::new()
            .route("/said", get(unavailable))
            .route("/bare", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .layer(from_fn(render));
        for path in ["/said", "/bare"] {
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let answer = router.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), 503, "{path}");
            assert_eq!(answer.headers()[header::RETRY_AFTER], "1", "{path}");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["retry_after_ms"], 1000, "{path}");
        }
    }
}
