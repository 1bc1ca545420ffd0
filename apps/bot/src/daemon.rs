//! Connects, finds the rooms to read, and reads each in a task of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use stack_daemon::{FolderLock, create_folder, read_token};
use stack_ipc::{Client, ClientConfig};
use stack_types::RoomId;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bot::{Bot, is_final};
use crate::config::Config;
use crate::reminders;
use crate::room::Room;
use crate::state::State;

/// How often the cursors are written.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Answers until it is told to stop.
///
/// # Errors
/// It cannot go on: the token is refused, the state is damaged or another process's.
pub(crate) async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let token = read_token(&config.token_file)?;
    let folder = &config.state_dir;
    create_folder(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let lock = FolderLock::take(folder)
        .await
        .with_context(|| format!("cannot lock {}", folder.display()))?;
    let Some(_lock) = lock else {
        bail!("another bot works in {}", folder.display());
    };
    let state = State::open(folder)?;
    let connected = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        connected = Client::connect(ClientConfig::new(&config.socket, token)) => connected,
    };
    let client =
        connected.with_context(|| format!("cannot log in at {}", config.socket.display()))?;
    // When one room cannot go on, the others end what they are at.
    let bot = Arc::new(Bot::new(client, config, state, stop.child_token()));
    let me = bot.me;
    tracing::info!(bot = %me, "answers as {me}");

    let mut tasks = JoinSet::new();
    let reminding = bot.clone();
    tasks.spawn(async move {
        reminders::run(reminding).await;
        Ok(())
    });
    tasks.spawn(save_often(bot.clone()));
    let mut outcome = read_rooms(&bot, &mut tasks).await;
    bot.stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        outcome = outcome.and(ended.context("a task has panicked").flatten());
    }
    let saved = bot.state.save().await.context("cannot write the state");
    outcome.and(saved)
}

/// Starts a task for each room, until the process ends or one of them cannot go on.
async fn read_rooms(bot: &Arc<Bot>, tasks: &mut JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut read: BTreeSet<RoomId> = bot.config.rooms.iter().cloned().collect();
    let all = read.is_empty();
    for room in &read {
        tasks.spawn(Room::new(bot.clone(), room.clone()).run());
    }
    let mut look = true;
    loop {
        if all && look {
            let rooms = tokio::select! {
                () = bot.stop.cancelled() => return Ok(()),
                rooms = bot.client.rooms() => rooms,
            };
            match rooms {
                Ok(rooms) => {
                    for room in rooms.into_iter().filter(|room| room.role.is_some()) {
                        if read.insert(room.id.clone()) {
                            tasks.spawn(Room::new(bot.clone(), room.id).run());
                        }
                    }
                }
                Err(error) if is_final(&error) => {
                    return Err(error).context("cannot list the rooms");
                }
                Err(error) => tracing::error!(error = %error, "cannot list the rooms: {error}"),
            }
        }
        tokio::select! {
            () = bot.stop.cancelled() => return Ok(()),
            () = sleep(bot.config.look_every) => look = true,
            Some(ended) = tasks.join_next() => {
                look = false;
                ended.context("a task has panicked").flatten()?;
            }
        }
    }
}

async fn save_often(bot: Arc<Bot>) -> anyhow::Result<()> {
    while !bot.stop.is_cancelled() {
        tokio::select! {
            () = bot.stop.cancelled() => {}
            () = sleep(SAVE_EVERY) => {}
        }
        if let Err(error) = bot.state.save().await {
            tracing::error!(error = %error, "cannot write the state: {error}");
        }
    }
    Ok(())
}
