//! The way to what is looked after: the socket of the gateway that runs, or the file when none does.

use std::path::Path;

use stack_ipc::service::Admin;
use stack_ipc::{AdminClient, Client, ClientError};
use stack_storage::StoreHandle;

use super::CommandError;
use crate::config::Config;
use crate::offline::{self, OfflineError};

/// Who carries commands out.
pub(super) struct Reached {
    pub(super) admin: Box<dyn Admin>,
    /// The file, when this process has opened it.
    store: Option<StoreHandle>,
}

/// The gateway that runs on the data folder, or else the file in it. Whoever names a socket means the gateway behind it
/// and no file.
pub(super) async fn reach(config: &Config, only_gateway: bool) -> Result<Reached, CommandError> {
    let (path, away) = match reach_gateway(&config.socket_path()).await {
        Ok(gateway) => {
            return Ok(Reached {
                admin: Box::new(gateway),
                store: None,
            });
        }
        Err(CommandError::Away { path, away }) if !only_gateway => (path, away),
        Err(error) => return Err(error),
    };
    match offline::open(config) {
        Ok((admin, store)) => Ok(Reached {
            admin: Box::new(admin),
            store: Some(store),
        }),
        Err(OfflineError::Running(folder)) => Err(CommandError::NoSocket { folder, path, away }),
        Err(error) => Err(error.into()),
    }
}

/// The gateway that runs.
pub(super) async fn reach_gateway(path: &Path) -> Result<AdminClient, CommandError> {
    Client::operator(path).await.map_err(|error| match error {
        ClientError::Unreachable(away) => CommandError::Away {
            path: path.to_owned(),
            away,
        },
        error => error.into(),
    })
}

impl Reached {
    /// Closes the file, if it was opened.
    pub(super) async fn close(self) {
        drop(self.admin);
        if let Some(store) = self.store {
            store.shutdown().await;
        }
    }
}
