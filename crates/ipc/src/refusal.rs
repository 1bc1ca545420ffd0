//! Problems on their way over the socket: an exception whose reason ends in the problem as JSON.

use std::time::Duration;

use capnp::ErrorKind;
use serde::{Deserialize, Serialize};
use stack_types::{ErrorCode, Problem};

#[derive(Serialize, Deserialize)]
struct Reason {
    code: ErrorCode,
    message: String,
    retryable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The exception that tells of a problem. Its cause stays here.
pub(crate) fn exception(problem: &Problem) -> capnp::Error {
    let reason = Reason {
        code: problem.code,
        message: problem.detail.clone().into_owned(),
        retryable: problem.code.retryable(),
        field: problem.field.as_deref().map(str::to_owned),
        retry_after_ms: problem.retry_after_ms(),
    };
    // Writing strings and numbers cannot fail.
    let reason = serde_json::to_string(&reason).unwrap_or_default();
    match problem.code {
        ErrorCode::RateLimited | ErrorCode::Unavailable | ErrorCode::LimitExceeded => {
            capnp::Error::overloaded(reason)
        }
        _ => capnp::Error::failed(reason),
    }
}

/// The problem that an exception tells of; `None` for one that is not the gateway's own.
pub(crate) fn problem_of(error: &capnp::Error) -> Option<Problem> {
    if error.kind == ErrorKind::Disconnected {
        return None;
    }
    let json = &error.extra[error.extra.find('{')?..];
    let reason = serde_json::Deserializer::from_str(json)
        .into_iter::<Reason>()
        .next()?
        .ok()?;
    let mut problem = Problem::new(reason.code, reason.message);
    if let Some(field) = reason.field {
        problem = problem.with_field(field);
    }
    problem.retry_after = reason.retry_after_ms.map(Duration::from_millis);
    Some(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_comes_back_as_it_went() {
        let problems = [
            Problem::not_found("there is no such room {\"really\"}"),
            Problem::invalid_field("limit", "limit is 1 to 500"),
            Problem::rate_limited(Duration::from_millis(1500)),
        ];
        for problem in problems {
            let mut error = exception(&problem);
            error.extra = format!("remote exception: {}", error.extra);
            let back = problem_of(&error).unwrap();
            assert_eq!(back.code, problem.code);
            assert_eq!(back.detail, problem.detail);
            assert_eq!(back.field, problem.field);
            assert_eq!(back.retry_after, problem.retry_after);
        }
    }

    #[test]
    fn what_the_library_says_is_no_problem_of_ours() {
        for text in ["", "method not implemented", "{", "{\"code\":\"nonsense\"}"] {
            let error = capnp::Error::failed(text.to_owned());
            assert!(problem_of(&error).is_none(), "{text}");
        }
    }
}
