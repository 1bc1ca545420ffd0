//! Refuses requests that found no place beside the others of their connection.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use stack_types::{ErrorCode, Problem};

use super::problem::ApiError;
use crate::server::Crowded;

/// # Errors
/// There is no place for this request.
pub(crate) fn check(request: &Request) -> Result<(), Problem> {
    match request.extensions().get::<Crowded>() {
        None => Ok(()),
        Some(Crowded) => Err(Problem::new(
            ErrorCode::Unavailable,
            "too many requests and connections are open",
        )),
    }
}

/// Middleware: [`check`].
pub(crate) async fn refuse(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => ApiError::from(problem).into_response(),
    }
}
