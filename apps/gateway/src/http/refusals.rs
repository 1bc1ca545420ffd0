//! Refusals that are worth a look: they go on record, a few of each sender and a few of all, so that nobody fills the
//! audit log by being refused.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request};
use http::{HeaderMap, header};
use stack_auth::{AuditAction, Auth, Caller};
use stack_rate::{DEFAULT_CAPACITY, IpKey, Limiter, Quota};
use stack_types::Clock;

use super::access::{self, Need};
use super::identity::{BASE, Identity};
use crate::app::App;

const WINDOW: Duration = Duration::from_secs(10 * 60);
/// Entries about one address, of one kind, in the window.
const OF_ONE: u32 = 3;
/// Entries about everybody, of one kind, in the window.
const OF_ALL: u32 = 30;

/// How many refusals went on record lately.
pub(crate) struct Refusals {
    of_one: Limiter<(AuditAction, IpKey)>,
    of_all: Limiter<AuditAction>,
}

impl Refusals {
    /// None yet.
    pub(crate) fn new(clock: &Arc<dyn Clock>) -> Self {
        let of = |count| Quota::new(count, WINDOW);
        Self {
            of_one: Limiter::new(of(OF_ONE), DEFAULT_CAPACITY, clock.clone()),
            of_all: Limiter::new(of(OF_ALL), DEFAULT_CAPACITY, clock.clone()),
        }
    }

    fn is_to_be_told(&self, action: AuditAction, from: IpKey) -> bool {
        self.of_one.check(&(action, from)).is_ok() && self.of_all.check(&action).is_ok()
    }
}

/// A refusal that is to go on record.
pub(crate) struct Refusal {
    caller: Option<Caller>,
    ip: IpAddr,
    action: AuditAction,
    target: String,
}

impl Refusal {
    /// What is to go on record of a request that was refused at the table of routes: somebody who is no admin asked for
    /// what admins do, or a program came with a key that is no good.
    pub(crate) fn of(app: &App, request: &Request) -> Option<Self> {
        let identity = request.extensions().get::<Identity>()?;
        let pattern = request.extensions().get::<MatchedPath>()?;
        let pattern = pattern.as_str().strip_prefix(BASE)?;
        let action = match &identity.caller {
            Ok(caller) => match access::need(request.method(), pattern)? {
                Need::Admin | Need::RecentAdmin if caller.require_admin().is_err() => {
                    AuditAction::AccessRefused
                }
                _ => return None,
            },
            Err(_) if carries_key(request) => AuditAction::ApiKeyRefused,
            Err(_) => return None,
        };
        let ip = app.client_ip(request);
        app.refusals()
            .is_to_be_told(action, ip.into())
            .then(|| Self {
                caller: identity.caller.as_ref().ok().cloned(),
                ip,
                action,
                // The pattern and not the path: what stands in its place may be anything.
                target: format!("{} {pattern}", request.method()),
            })
    }

    /// What is to go on record of a key that is no good, shown on this machine where there are no requests.
    pub(crate) fn of_login(app: &App, target: &str) -> Option<Self> {
        let (action, ip) = (AuditAction::ApiKeyRefused, IpAddr::from([127, 0, 0, 1]));
        let is_told = app.refusals().is_to_be_told(action, ip.into());
        is_told.then(|| Self {
            caller: None,
            ip,
            action,
            target: target.to_owned(),
        })
    }

    /// The same of a token that somebody shows at a socket.
    pub(crate) fn of_socket(app: &App, ip: IpAddr, token: &str) -> Option<Self> {
        let action = AuditAction::ApiKeyRefused;
        let is_told =
            Auth::looks_like_api_key(token) && app.refusals().is_to_be_told(action, ip.into());
        is_told.then(|| Self {
            caller: None,
            ip,
            action,
            target: "GET /ws".to_owned(),
        })
    }

    /// Puts it on record.
    pub(crate) async fn record(self, app: &App) {
        let recorded =
            app.auth()
                .record_refusal(self.caller.as_ref(), self.ip, self.action, self.target);
        if let Err(failed) = recorded.await {
            tracing::warn!(%failed, "a refusal did not go on record");
        }
    }
}

fn carries_key(request: &Request) -> bool {
    shown(request.headers()).is_some_and(Auth::looks_like_api_key)
}

/// What the `Authorization` header shows.
pub(crate) fn shown(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.split_once(' ').map(|(_, token)| token.trim())
}
