//! Reads one room, and has its commands answered.
//!
//! How far the room is read is kept as a cursor: the last message in front of everything that is not answered yet. After a
//! restart the bot reads on from there. It answers what is not too old, and what it has answered before is sent once all the
//! same, since each answer has a key.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use stack_ipc::service::{Cursor, Start};
use stack_ipc::{ClientError, Delivery, Subscription};
use stack_types::{Clock as _, Event, EventBody, RoomId, Seq, SystemClock, Timestamp};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::answer::{Asked, answer};
use crate::bot::{Bot, is_final};
use crate::pace::{Admission, Verdict};
use crate::request::Request;

/// So many commands of a room are being answered at most; with more the room is not read on.
const AT_WORK: usize = 64;
/// How long commands may go on when the bot ends. What is not done then is killed.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

/// A room that is read.
pub(crate) struct Room {
    bot: Arc<Bot>,
    id: RoomId,
    admission: Admission,
    tasks: JoinSet<()>,
    /// What the tasks answer.
    at_work: HashMap<Id, Seq>,
    /// Everything up to here was read.
    read: Option<Seq>,
}

/// How a subscription came to its end.
enum End {
    Stopped,
    Deleted,
    Lost(String),
}

impl Room {
    /// A room, from where it was read to before.
    pub(crate) fn new(bot: Arc<Bot>, id: RoomId) -> Self {
        let limits = bot.config.limits;
        Self {
            read: bot.state.cursor(&id),
            admission: Admission::new(limits.per_user, limits.per_room),
            bot,
            id,
            tasks: JoinSet::new(),
            at_work: HashMap::new(),
        }
    }

    /// Reads and answers until the process ends or the room is deleted.
    ///
    /// # Errors
    /// The token is good no more.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let outcome = self.run_inner().await;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(LAST_WAIT, all).await.is_err() {
            let room = &self.id;
            tracing::warn!(%room, "gives up commands of {room} that are not done");
        }
        self.tasks.shutdown().await;
        outcome
    }

    async fn run_inner(&mut self) -> anyhow::Result<()> {
        let (bot, room) = (self.bot.clone(), self.id.clone());
        loop {
            let subscribed = tokio::select! {
                () = bot.stop.cancelled() => return Ok(()),
                subscribed = self.subscribe() => subscribed,
            };
            match subscribed {
                Ok(subscription) => match self.follow(subscription).await? {
                    End::Stopped => return Ok(()),
                    End::Deleted => {
                        tracing::warn!(%room, "{room} was deleted");
                        return Ok(());
                    }
                    End::Lost(reason) => {
                        tracing::warn!(%room, reason, "reads {room} no more: {reason}");
                    }
                },
                Err(error) if is_final(&error) => {
                    return Err(error).with_context(|| format!("cannot read {room}"));
                }
                Err(error) => {
                    tracing::error!(%room, error = %error, "cannot read {room}: {error}");
                }
            }
            tokio::select! {
                () = bot.stop.cancelled() => return Ok(()),
                () = sleep(bot.config.look_every) => {}
            }
        }
    }

    /// Subscribes from where the room was read to, but not from before what is too old to answer.
    async fn subscribe(&mut self) -> Result<Subscription, ClientError> {
        let client = self.bot.client.clone();
        let room = self.id.clone();
        let Some(read) = self.read else {
            let subscription = client.subscribe(&room, Start::Live).await?;
            let read = subscription.cursor();
            self.read_to(read);
            // Not later, or what comes from here on would be missed after a crash.
            if let Err(error) = self.bot.state.save().await {
                tracing::error!(%room, error = %error, "cannot write the state: {error}");
            }
            tracing::info!(%room, %read, "reads {room} from now on");
            return Ok(subscription);
        };
        let oldest = SystemClock.now().minus(self.bot.config.max_age);
        let page = client
            .history(&room, Cursor::AfterTs(oldest), Some(1))
            .await?;
        let young = page
            .events
            .first()
            .map_or(page.head, |event| event.seq.prev());
        let after = read.max(young);
        self.read_to(after);
        tracing::info!(%room, %after, "reads {room} behind {after}");
        client.subscribe(&room, Start::After(after)).await
    }

    async fn follow(&mut self, mut subscription: Subscription) -> anyhow::Result<End> {
        let bot = self.bot.clone();
        loop {
            tokio::select! {
                biased;
                () = bot.stop.cancelled() => return Ok(End::Stopped),
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                delivery = subscription.next(), if self.tasks.len() < AT_WORK => match delivery {
                    Some(Delivery::Events(events)) => for event in events {
                        self.event(event).await?;
                    },
                    Some(Delivery::Gap { to, .. }) => self.read_to(to),
                    Some(Delivery::Ended { reason }) => match reason.as_str() {
                        "deleted" => return Ok(End::Deleted),
                        "revoked" => bail!("the bot's token was revoked"),
                        _ => return Ok(End::Lost(reason)),
                    },
                    None => return Ok(End::Lost("the client is closed".to_owned())),
                },
            }
        }
    }

    fn ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            // A panic was logged where it happened; the message is not tried again.
            Err(error) => error.id(),
        };
        self.at_work.remove(&id);
        self.note();
    }

    async fn event(&mut self, event: Event) -> anyhow::Result<()> {
        let (seq, ts, user) = (event.seq, event.ts, event.sender);
        match event.body {
            EventBody::Message { body, .. } if self.is_for_bot(user, ts, &body) => {
                let (id, room) = (self.bot.clone(), self.id.clone());
                // A bot's commands count for nothing, so that bots do not talk to each other for ever.
                let bot = tokio::select! {
                    () = self.bot.stop.cancelled() => return Ok(()),
                    bot = id.is_bot(user) => bot,
                };
                match bot {
                    Ok(true) => {}
                    Ok(false) => {
                        let asked = Asked {
                            room,
                            seq,
                            ts,
                            user,
                            body,
                        };
                        self.admit(asked);
                    }
                    Err(error) if is_final(&error) => {
                        return Err(error).context("cannot ask who sent a message");
                    }
                    Err(error) => {
                        tracing::error!(%room, %seq, error = %error, "does not know who sent {seq} in {room}, and leaves it: {error}");
                    }
                }
            }
            EventBody::Redacted { target_seq, .. }
                if self.bot.state.forget(&self.id, target_seq) =>
            {
                let room = &self.id;
                tracing::info!(%room, seq = %target_seq, "the reminder of {target_seq} in {room} was taken back");
            }
            EventBody::Erased { targets } => {
                let room = &self.id;
                for target in targets {
                    if self.bot.state.forget(room, target) {
                        tracing::info!(%room, seq = %target, "the reminder of {target} in {room} was erased");
                    }
                }
            }
            _ => {}
        }
        self.read_to(seq);
        Ok(())
    }

    /// Whether a message is a command that the bot knows, and not too old.
    fn is_for_bot(&self, user: stack_types::UserId, ts: Timestamp, body: &str) -> bool {
        let config = &self.bot.config;
        let known = match Request::parse(&config.prefix, body) {
            Some(Request::Run(run)) => config.commands.contains_key(run.name),
            Some(_) => true,
            None => false,
        };
        known && user != self.bot.me && SystemClock.now().since(ts) <= config.max_age
    }

    fn admit(&mut self, asked: Asked) {
        let (room, seq) = (&asked.room, asked.seq);
        let crowded = match self.admission.judge(asked.user, asked.ts) {
            Verdict::Answer => false,
            Verdict::Tell => true,
            Verdict::Ignore => {
                tracing::debug!(%room, %seq, "leaves {seq} in {room}: too many commands");
                return;
            }
        };
        let handle = self.tasks.spawn(answer(self.bot.clone(), asked, crowded));
        self.at_work.insert(handle.id(), seq);
    }

    fn read_to(&mut self, seq: Seq) {
        self.read = Some(self.read.map_or(seq, |read| read.max(seq)));
        self.note();
    }

    /// Notes the cursor: the last message in front of all that is not answered.
    fn note(&self) {
        let Some(read) = self.read else {
            return;
        };
        let waiting: BTreeSet<Seq> = self.at_work.values().copied().collect();
        let cursor = waiting.first().map_or(read, |first| first.prev().min(read));
        self.bot.state.read_to(&self.id, cursor);
    }
}
