//! Routes that go wrong, for tests of what then happens. A gateway has them only when a test asked for them in code.

use axum::Router;
use axum::routing::get;

use crate::app::AppState;

/// The text that must never reach a client.
const PANIC: &str = "a handler panicked on purpose: the secret is 4711";

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/testing/panic", get(panic))
        .route("/testing/never", get(std::future::pending::<()>))
        // Not in the table of routes, on purpose.
        .route("/testing/unlisted", get(async || ()))
}

async fn panic() {
    panic!("{PANIC}");
}
