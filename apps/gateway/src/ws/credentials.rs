//! What an upgrade brings along to say who is there.

use axum::extract::Request;
use http::header;
use stack_auth::Caller;
use stack_types::Problem;

use crate::app::AppState;
use crate::http::{identity, origin};

/// Who opens a socket, as far as the upgrade tells.
#[derive(Debug)]
pub(super) enum Credentials {
    /// Nothing was given; the first frame has to say it.
    None,
    /// Somebody.
    Caller(Box<Caller>),
    /// What was given is no good; it is told on the socket.
    Refused(Box<Problem>),
}

/// Looks for credentials in the order bearer token, ticket, cookie, and checks the origin.
///
/// # Errors
/// `forbidden` for an origin that is neither ours nor allowed, and for a cookie without any origin: a page of
/// somebody else's must not open a socket with the cookies of its visitor.
pub(super) fn of(app: &AppState, request: &Request) -> Result<Credentials, Problem> {
    let headers = request.headers();
    let origin = origin::of(headers);
    if origin.is_some_and(|origin| !app.is_own_origin(origin) && !app.origins().is_allowed(origin))
    {
        return Err(Problem::forbidden("this origin may not open a socket"));
    }
    let cookies = app.cookies().read(headers);
    let told = if headers.contains_key(header::AUTHORIZATION) {
        identity::authenticate(app, headers, &cookies)
    } else if let Some(ticket) = ticket(request) {
        app.auth().redeem_ws_ticket(ticket)
    } else if cookies.access.is_some() {
        if origin.is_none() {
            return Err(Problem::forbidden("an upgrade by cookie needs an Origin"));
        }
        identity::authenticate(app, headers, &cookies)
    } else {
        return Ok(Credentials::None);
    };
    Ok(match told {
        Ok(caller) => Credentials::Caller(Box::new(caller)),
        Err(problem) => Credentials::Refused(Box::new(problem)),
    })
}

fn ticket(request: &Request) -> Option<&str> {
    let query = request.uri().query()?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ticket="))
}
