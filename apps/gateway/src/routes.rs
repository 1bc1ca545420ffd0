//! The routes, and which layers stand around them.

mod admin;
mod admin_users;
mod api_keys;
mod audit;
mod auth;
mod erasures;
mod health;
mod invites;
mod messages;
mod oauth;
mod passkeys;
mod recovery;
mod rooms;
mod second_factor;
mod sessions;
mod setup;
mod signed_in;
mod testing;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;

use crate::app::AppState;
use crate::http::measures::{self, Teller};
use crate::http::{api, around, carried_out, identity};
use crate::{assets, ws};

/// Everything the gateway answers.
pub(crate) fn router(app: &AppState) -> Router {
    let routes = Router::new()
        .route("/health", get(health::health))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/ping", get(health::ping))
        .route("/version", get(health::version))
        .route("/.well-known/jwks.json", get(health::public_keys))
        .route("/ws", get(ws::upgrade).connect(ws::upgrade))
        .merge(measures::route(
            !app.config().metrics.listen.is_empty(),
            app.live(),
            teller(app),
        ))
        .nest(identity::BASE, api(v1(app), app))
        .fallback(assets::serve);
    around(routes, app)
}

/// What is answered where the measures have addresses of their own.
pub(crate) fn measures(app: &AppState) -> Router {
    measures::router(app.live(), teller(app))
}

fn teller(app: &AppState) -> Teller {
    let app = app.clone();
    Arc::new(move || app.metrics())
}

/// Version 1 of the API. Who calls is established behind the routing, so that an unknown address or method is told as
/// such, and not as one that needs a sign-in.
fn v1(app: &AppState) -> Router<AppState> {
    let mut routes = Router::new()
        .merge(auth::routes())
        .merge(oauth::routes())
        .merge(passkeys::routes())
        .merge(setup::routes())
        .merge(second_factor::routes())
        .merge(recovery::routes())
        .merge(sessions::routes())
        .merge(invites::routes())
        .merge(admin_users::routes())
        .merge(erasures::routes())
        .merge(users::routes())
        .merge(rooms::routes())
        .merge(messages::routes())
        .merge(admin::routes())
        .merge(api_keys::routes())
        .merge(audit::routes());
    if app.config().testing.routes {
        routes = routes.merge(testing::routes());
    }
    let routes = carried_out(routes, app);
    routes.route_layer(from_fn_with_state(app.clone(), identity::establish))
}
