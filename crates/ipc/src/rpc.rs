//! The schema's interfaces over the traits of [`crate::service`]. Each method takes its parameters apart and calls what
//! it is about at once, so that calls keep their order, and fills in the answer when it has come.

mod admin;
mod exchange;
mod feed;
mod fill;
mod session;

use std::rc::Rc;

use capnp::Error;
use stack_proto::gateway_capnp::gateway;
use stack_types::{ErrorCode, Problem};

use crate::edge::OriginImpl;
use crate::refusal::exception;
use crate::server::Conn;
use admin::AdminImpl;
use session::SessionImpl;

/// What stands at the socket.
pub(crate) struct GatewayImpl(pub(crate) Rc<Conn>);

impl gateway::Server for GatewayImpl {
    async fn login(
        self: Rc<Self>,
        params: gateway::LoginParams,
        mut results: gateway::LoginResults,
    ) -> Result<(), Error> {
        let conn = &self.0;
        let _call = conn.begin()?;
        let handed = conn.hand_out()?;
        let token = params.get()?.get_token()?.to_string()?;
        let logged_in = match conn.shared.service.login(token, conn.peer).await {
            Ok(logged_in) => logged_in,
            Err(problem) => {
                conn.login_failed().await;
                return Err(conn.refuse(None, &problem));
            }
        };
        conn.entered();
        let mut results = results.get();
        results.set_user_id(logged_in.user_id.as_str());
        fill::texts(&logged_in.scopes, |count| {
            results.reborrow().init_scopes(count)
        });
        results.set_session(capnp_rpc::new_client(SessionImpl::new(
            conn.clone(),
            logged_in.session,
            logged_in.user_id,
            handed,
        )));
        Ok(())
    }

    async fn operator(
        self: Rc<Self>,
        _: gateway::OperatorParams,
        mut results: gateway::OperatorResults,
    ) -> Result<(), Error> {
        let conn = &self.0;
        let _call = conn.begin()?;
        let handed = conn.hand_out()?;
        let admin = conn.settle(conn.shared.service.operator(conn.peer))?;
        conn.entered();
        let admin = AdminImpl::new(conn.clone(), admin, handed);
        results.get().set_admin(capnp_rpc::new_client(admin));
        Ok(())
    }

    async fn version(
        self: Rc<Self>,
        _: gateway::VersionParams,
        mut results: gateway::VersionResults,
    ) -> Result<(), Error> {
        let _call = self.0.begin()?;
        let version = self.0.shared.service.version();
        let mut results = results.get();
        results.set_version(&version.version[..]);
        results.set_commit(&version.commit[..]);
        fill::texts(&version.protocols, |count| {
            results.reborrow().init_protocols(count)
        });
        Ok(())
    }

    async fn edge(
        self: Rc<Self>,
        params: gateway::EdgeParams,
        mut results: gateway::EdgeResults,
    ) -> Result<(), Error> {
        let conn = &self.0;
        let _call = conn.begin()?;
        let version = params.get()?.get_version();
        let Some(origin) = &conn.shared.origin else {
            let problem = Problem::new(ErrorCode::NotFound, "this gateway has no edges");
            return Err(exception(&problem));
        };
        // Not one of the calls that are counted: a link has its own bounds, and holds the connection open while it lasts.
        let (gate, tasks) = (Some(conn.gate.clone()), conn.shared.tasks.clone());
        let origin = conn.settle(OriginImpl::client(origin.clone(), version, gate, tasks))?;
        conn.entered();
        conn.ledger.is_of_edge();
        let mut client = results.get().init_origin();
        client.set_as_capability(origin.client.hook);
        Ok(())
    }
}
