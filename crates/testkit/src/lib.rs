//! Starts gateways on port 0, each with a store of its own in memory, and talks to them as browsers and programs do.
//! For tests: what goes wrong here panics, with what went wrong.
//!
//! A test awaits what it is about, within [`PATIENCE`]; nothing here sleeps.

mod bots;
mod http;
mod native;
mod one_time_code;
mod program;
mod ws;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stack_gateway::config::{Config, Faults};
use stack_gateway::{Change, Gateway, RunningGateway};
use stack_types::{ManualClock, Timestamp};

pub use crate::bots::Bot;
pub use crate::http::{Answer, Call, Client, Person};
pub use crate::native::Native;
pub use crate::one_time_code::one_time_code;
pub use crate::program::Program;
pub use crate::ws::{Closed, Socket, Stream};

/// How long a test waits for what should happen at once. Long, since test machines are slow and it costs nothing when
/// all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A password that is good enough for every account.
pub const PASSWORD: &str = "correct horse battery staple";

/// A gateway for one test.
#[derive(Debug)]
pub struct TestGateway {
    running: RunningGateway,
}

/// The configuration that tests start from: everything in memory, any port, cheap passwords, the routes that go wrong,
/// and no rate limits, since a test is quicker than a person.
#[must_use]
pub fn config() -> Config {
    let mut config = Config {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        rate_enabled: false,
        shutdown_deadline: Duration::from_secs(5),
        ..Config::default()
    };
    config.testing.in_memory = true;
    config.testing.cheap_passwords = true;
    config.testing.routes = true;
    config
}

/// A clock that a test moves, set to some day in 2026.
#[must_use]
pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp(1_790_000_000_000)))
}

impl TestGateway {
    /// Starts a gateway.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a gateway with something different.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        change(&mut config);
        let running = Gateway::start(config).await.expect("the gateway starts");
        Self { running }
    }

    /// The address that is listened on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.running.addr()
    }

    /// Everything that is listened on.
    #[must_use]
    pub fn listening(&self) -> &[String] {
        self.running.listening()
    }

    /// Lets the gateway read its configuration again.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn reload(&self) -> Result<Vec<Change>, Faults> {
        self.running.reload().await
    }

    /// The gateway's own origin, as a browser would see it.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin())
    }

    /// A client without cookies, as programs have.
    #[must_use]
    pub fn program(&self) -> Client {
        Client::program(self.origin())
    }

    /// A client that keeps cookies and says where its page is from, as browsers do.
    #[must_use]
    pub fn browser(&self) -> Client {
        Client::browser(self.origin())
    }

    /// Makes an account and signs it in, with a bearer token.
    pub async fn person(&self, username: &str) -> Person {
        Person::register(self.program(), username).await
    }

    /// Opens a WebSocket as somebody.
    pub async fn socket(&self, person: &Person) -> Socket {
        let authorization = format!("Bearer {}", person.token);
        Socket::open(
            self.addr(),
            "/ws",
            &[("authorization", authorization.as_str())],
        )
        .await
    }

    /// The setup token, while there is no administrator.
    #[must_use]
    pub fn setup_token(&self) -> Option<&str> {
        let (_, token) = self.running.setup_url()?.split_once('#')?;
        Some(token)
    }

    /// Takes the gateway down.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
    }
}
