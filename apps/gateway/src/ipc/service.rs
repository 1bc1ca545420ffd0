//! What stands at the local socket: login, and the ways to the other interfaces.

use std::sync::Arc;

use futures_util::FutureExt as _;
use stack_auth::{Credential, Scope};
use stack_ipc::service::{Admin, Answer, LoggedIn, Peer, Service, Version};
use stack_types::Problem;

use super::admin::{AdminActor, AdminService};
use super::session::BotSession;
use crate::app::AppState;
use crate::http::refusals::Refusal;

/// The gateway, for whoever may connect.
pub(super) struct GatewayService {
    app: AppState,
}

impl GatewayService {
    pub(super) fn new(app: AppState) -> Self {
        Self { app }
    }
}

async fn login(app: AppState, token: String, peer: Peer) -> Result<LoggedIn, Problem> {
    let caller = app.auth().authenticate(&token).and_then(|caller| {
        match caller.credential {
            Credential::ApiKey { .. } => Ok(caller),
            // A person's token would outlive here what closes their sockets in the browser: it is for those.
            Credential::Session { .. } | Credential::RoomToken { .. } => Err(Problem::forbidden(
                "the local socket is for bots: log in with an API key",
            )),
        }
    });
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => {
            tracing::info!(uid = peer.uid, pid = peer.pid, code = %problem.code, "a login at the local socket was refused");
            if let Some(refusal) = Refusal::of_login(&app, "local socket") {
                refusal.record(&app).await;
            }
            return Err(problem);
        }
    };
    let user_id = caller.user.id;
    let scopes = match &caller.credential {
        Credential::ApiKey { scopes, .. } => scopes.iter().map(|scope| name(*scope)).collect(),
        _ => Vec::new(),
    };
    tracing::info!(user = %user_id, pid = peer.pid, "a bot has logged in at the local socket");
    Ok(LoggedIn {
        session: BotSession::begin(app, caller)?,
        user_id,
        scopes,
    })
}

/// A scope as the protocol calls it.
fn name(scope: Scope) -> String {
    match scope {
        Scope::Read => "read",
        Scope::Send => "send",
        Scope::Rooms => "rooms",
        Scope::Presence => "presence",
        Scope::ChatToken => "chat_token",
        Scope::Admin => "admin",
    }
    .to_owned()
}

impl Service for GatewayService {
    fn login(&self, token: String, peer: Peer) -> Answer<LoggedIn> {
        login(self.app.clone(), token, peer).boxed()
    }

    fn operator(&self, peer: Peer) -> Result<Arc<dyn Admin>, Problem> {
        AdminService::of_gateway(self.app.clone(), AdminActor::Operator(peer))
    }

    fn version(&self) -> Version {
        Version {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: env!("STACK_BUILD_COMMIT").to_owned(),
            protocols: crate::ws::SUBPROTOCOLS
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
        }
    }
}
