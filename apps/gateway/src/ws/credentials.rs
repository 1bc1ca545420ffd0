//! What an upgrade brings along to say who is there.

use std::net::IpAddr;

use axum::extract::Request;
use http::header;
use stack_auth::Caller;
use stack_types::Problem;

use crate::app::AppState;
use crate::http::refusals::{self, Refusal};
use crate::http::{identity, origin};

/// Who opens a socket, as far as the upgrade tells.
pub(super) enum Credentials {
    /// Nothing was given, from this address; the first frame has to say it.
    None(Box<IpAddr>),
    /// Somebody.
    Caller(Box<Caller>),
    /// What was given is no good; it is told on the socket.
    Refused(Box<Refused>),
}

/// Credentials that are no good.
pub(super) struct Refused {
    /// Why.
    pub(super) problem: Problem,
    /// What is to go on record of it.
    pub(super) record: Option<Refusal>,
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
        return Ok(Credentials::None(Box::new(app.client_ip(request))));
    };
    Ok(match told {
        Ok(caller) => Credentials::Caller(Box::new(caller)),
        Err(problem) => {
            let key = refusals::shown(headers);
            let record = key.and_then(|key| Refusal::of_socket(app, app.client_ip(request), key));
            Credentials::Refused(Box::new(Refused { problem, record }))
        }
    })
}

fn ticket(request: &Request) -> Option<&str> {
    let query = request.uri().query()?;
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("ticket="))
}
