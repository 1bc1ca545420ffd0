//! Finds the rooms to follow, and follows each in a task of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use stack_daemon::{FolderLock, create_folder, read_token};
use stack_ipc::{Client, ClientConfig};
use stack_types::RoomId;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::archive::Rotation;
use crate::cli::Cli;
use crate::follow::{Follow, is_final};

/// Archives until it is told to stop.
///
/// # Errors
/// It cannot go on: the token is refused, the archive is damaged or another process's.
pub(crate) async fn run(cli: Cli, stop: CancellationToken) -> anyhow::Result<()> {
    let token = read_token(&cli.token_file)?;
    create_folder(&cli.dir).with_context(|| format!("cannot make {}", cli.dir.display()))?;
    let lock = FolderLock::take(&cli.dir)
        .await
        .with_context(|| format!("cannot lock {}", cli.dir.display()))?;
    let Some(_lock) = lock else {
        bail!("another archiver works in {}", cli.dir.display());
    };
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connected = Client::connect(ClientConfig::new(&cli.socket, token)) => connected,
    };
    let client = connected.with_context(|| format!("cannot log in at {}", cli.socket.display()))?;
    let bot = client.who().user_id;
    tracing::info!(%bot, dir = %cli.dir.display(), "archives as {bot} into {}", cli.dir.display());

    let follow = Follow {
        client: client.clone(),
        dir: cli.dir,
        rotation: Rotation {
            bytes: cli.rotate_bytes,
            age: cli.rotate_every,
        },
        gather: cli.gather,
        look_every: cli.look_every,
        // When one room cannot go on, the others end what they are at.
        stop: stop.child_token(),
    };
    let mut followed: BTreeSet<RoomId> = cli.rooms.into_iter().collect();
    let all = followed.is_empty();
    let mut tasks = JoinSet::new();
    for room in &followed {
        tasks.spawn(follow.clone().run(room.clone()));
    }
    let mut outcome = Ok(());
    let mut look = true;
    while outcome.is_ok() && !stop.is_cancelled() {
        if all && look {
            let rooms = tokio::select! {
                () = stop.cancelled() => break,
                rooms = client.rooms() => rooms,
            };
            match rooms {
                Ok(rooms) => {
                    for room in rooms.into_iter().filter(|room| room.role.is_some()) {
                        if followed.insert(room.id.clone()) {
                            tasks.spawn(follow.clone().run(room.id));
                        }
                    }
                }
                Err(error) if is_final(&error) => {
                    outcome = Err(error).context("cannot list the rooms");
                    break;
                }
                Err(error) => tracing::error!(error = %error, "cannot list the rooms: {error}"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(follow.look_every) => look = true,
            Some(ended) = tasks.join_next() => {
                look = false;
                outcome = ended.context("a room's task has panicked").flatten();
                if outcome.is_ok() && tasks.is_empty() && !all {
                    tracing::warn!("all rooms were deleted");
                    break;
                }
            }
        }
    }
    follow.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        outcome = outcome.and(ended.context("a room's task has panicked").flatten());
    }
    outcome
}
