//! The scenarios: each loads one server and gives its numbers as one JSON object.

pub(crate) mod acks;
pub(crate) mod bus;
pub(crate) mod catch_up;
pub(crate) mod fan_out;
pub(crate) mod fill;
pub(crate) mod history;
pub(crate) mod idle;
pub(crate) mod ipc;
pub(crate) mod restart;
pub(crate) mod soak;
pub(crate) mod storm;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::dialect::{Dialect, ROOM};
use crate::http;
use crate::swarm::Swarm;

/// The server under load.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// Where it listens.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Its process, whose time and memory are measured.
    #[arg(long)]
    pub(crate) pid: u32,
    /// How it is spoken to.
    #[arg(long, value_enum, default_value = "stack")]
    pub(crate) dialect: Dialect,
    /// It is a gateway: it wants users and rooms.
    #[arg(long)]
    pub(crate) gateway: bool,
    /// The gateway's local socket.
    #[arg(long)]
    socket: Option<PathBuf>,
}

impl Server {
    /// The gateway's local socket.
    ///
    /// # Errors
    /// It was not named.
    pub(crate) fn socket(&self) -> Result<&Path> {
        self.socket.as_deref().context("--socket is missing")
    }

    /// Prepares the server and gives a swarm that can speak to it.
    ///
    /// # Errors
    /// The gateway refuses.
    pub(crate) fn swarm(&self) -> Result<Swarm> {
        let token = self.token()?;
        if let Some(token) = &token {
            http::make_room(self.address, token, ROOM)?;
        }
        Swarm::new(self.address, self.dialect, token.as_deref())
    }

    /// A user's token, where the server knows users.
    ///
    /// # Errors
    /// The gateway refuses.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        self.gateway
            .then(|| http::sign_in(self.address, "bench"))
            .transpose()
    }
}
