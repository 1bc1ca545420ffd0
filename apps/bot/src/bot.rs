//! The bot: what its rooms, its reminders and its programs share, and how it speaks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use stack_ipc::service::NewMessage;
use stack_ipc::{Client, ClientError};
use stack_types::{ErrorCode, RoomId, Seq, UserId};
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::pace::{Pace, turn};
use crate::state::State;

/// How long to wait with something that the gateway cannot do just now, when it does not say.
const PAUSE: Duration = Duration::from_secs(1);
/// So many users are known to be people or bots; more, and they are asked for again.
const KNOWN_USERS: usize = 4096;

/// Said when an answer does not fit into a room's messages.
const TOO_LONG: &str = "The answer is too long for this room.";

/// What everything shares.
#[derive(Debug)]
pub(crate) struct Bot {
    /// The gateway.
    pub(crate) client: Client,
    /// The bot's own id.
    pub(crate) me: UserId,
    /// What it does.
    pub(crate) config: Config,
    /// What survives a restart.
    pub(crate) state: State,
    /// Places for programs.
    pub(crate) programs: Semaphore,
    /// Places for each program, by the name of its command.
    pub(crate) places: BTreeMap<String, Semaphore>,
    /// Ends everything.
    pub(crate) stop: CancellationToken,
    paces: Mutex<HashMap<RoomId, Arc<Mutex<Pace>>>>,
    bots: Mutex<HashMap<UserId, bool>>,
}

/// Whether no later try can succeed, whatever is asked.
pub(crate) fn is_final(error: &ClientError) -> bool {
    matches!(error, ClientError::Closed)
        || matches!(
            error.code(),
            Some(
                ErrorCode::Unauthenticated
                    | ErrorCode::InvalidCredentials
                    | ErrorCode::TokenExpired
            )
        )
}

/// How long to wait before the same can be tried again; `None` when it cannot.
fn retry_in(error: &ClientError) -> Option<Duration> {
    match error {
        ClientError::Refused(problem) if problem.code.retryable() => {
            Some(problem.retry_after.unwrap_or(PAUSE))
        }
        ClientError::Broken | ClientError::Unreachable(_) => Some(PAUSE),
        _ => None,
    }
}

impl Bot {
    /// A bot that is logged in.
    pub(crate) fn new(
        client: Client,
        config: Config,
        state: State,
        stop: CancellationToken,
    ) -> Self {
        let places = |(name, command): (&String, &crate::config::Command)| {
            (name.clone(), Semaphore::new(command.at_once))
        };
        Self {
            me: client.who().user_id,
            programs: Semaphore::new(config.limits.programs),
            places: config.commands.iter().map(places).collect(),
            client,
            config,
            state,
            stop,
            paces: Mutex::default(),
            bots: Mutex::default(),
        }
    }

    /// Says something in a room as the answer to a message, at the pace of the room, once for each key. While the
    /// gateway is away it waits.
    ///
    /// # Errors
    /// The gateway refuses it for good.
    pub(crate) async fn say(
        &self,
        room: &RoomId,
        answers: Seq,
        key: String,
        body: String,
    ) -> Result<(), ClientError> {
        let pace = self
            .paces
            .lock()
            .entry(room.clone())
            .or_insert_with(|| Arc::new(Mutex::new(Pace::new(self.config.limits.per_room))))
            .clone();
        turn(&pace).await;
        let mut message = NewMessage {
            body,
            data: None,
            key: Some(key),
            reply_to: Some(answers),
        };
        loop {
            let error = match self.client.send(room, message.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if let Some(pause) = retry_in(&error) {
                tracing::warn!(%room, error = %error, "says it in {room} later: {error}");
                sleep(pause).await;
                continue;
            }
            match &error {
                ClientError::Refused(problem)
                    if problem.code == ErrorCode::PayloadTooLarge && message.body != TOO_LONG =>
                {
                    TOO_LONG.clone_into(&mut message.body);
                }
                // The message that is answered was taken back, or is not there for the bot any more.
                ClientError::Refused(problem)
                    if problem.field.as_deref() == Some("reply_to")
                        && message.reply_to.is_some() =>
                {
                    message.reply_to = None;
                }
                _ => return Err(error),
            }
        }
    }

    /// Whether somebody is a bot. Who is not known any more counts as one.
    ///
    /// # Errors
    /// The gateway does not say.
    pub(crate) async fn is_bot(&self, user: UserId) -> Result<bool, ClientError> {
        if let Some(known) = self.bots.lock().get(&user) {
            return Ok(*known);
        }
        loop {
            let bot = match self.client.user(user).await {
                Ok(account) => account.bot,
                Err(error) if error.code() == Some(ErrorCode::NotFound) => return Ok(true),
                Err(error) => match retry_in(&error) {
                    Some(pause) => {
                        sleep(pause).await;
                        continue;
                    }
                    None => return Err(error),
                },
            };
            let mut bots = self.bots.lock();
            if bots.len() >= KNOWN_USERS {
                bots.clear();
            }
            bots.insert(user, bot);
            return Ok(bot);
        }
    }
}
