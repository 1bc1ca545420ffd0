//! Tells reminders when they are due: once, since each has a key, also when the bot is killed between telling one and
//! forgetting it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stack_types::{Clock as _, RoomId, Seq, SystemClock};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bot::Bot;
use crate::state::Reminder;

/// The clock is looked at this often at least, since it can be set.
const LOOK: Duration = Duration::from_secs(10);
/// Later than this it is said that the reminder is late.
const LATE: Duration = Duration::from_secs(60);

/// Tells reminders until the process ends.
pub(crate) async fn run(bot: Arc<Bot>) {
    let mut telling = JoinSet::new();
    let mut told: BTreeSet<(RoomId, Seq)> = BTreeSet::new();
    loop {
        let now = SystemClock.now();
        let mut pause = LOOK;
        for reminder in bot.state.reminders() {
            if reminder.due > now {
                pause = pause.min(reminder.due.since(now));
                break;
            }
            if told.insert((reminder.room.clone(), reminder.seq)) {
                telling.spawn(tell(bot.clone(), reminder));
            }
        }
        tokio::select! {
            () = bot.stop.cancelled() => break,
            () = bot.state.reminded() => {}
            () = sleep(pause) => {}
            Some(done) = telling.join_next() => if let Ok(place) = done {
                told.remove(&place);
            }
        }
    }
    // What is not told is told after the next start.
    telling.shutdown().await;
}

async fn tell(bot: Arc<Bot>, reminder: Reminder) -> (RoomId, Seq) {
    let Reminder {
        room,
        seq,
        due,
        text,
        ..
    } = reminder;
    if bot.state.has_reminder(&room, seq) {
        let late = SystemClock.now().since(due) > LATE;
        let late = if late { " (late: I was away)" } else { "" };
        let body = format!("Reminder{late}: {text}");
        if let Err(error) = bot.say(&room, seq, format!("remind:{seq}"), body).await {
            tracing::error!(%room, %seq, error = %error, "cannot tell the reminder of {seq} in {room}, and forgets it: {error}");
        }
        bot.state.forget(&room, seq);
        if let Err(error) = bot.state.save().await {
            tracing::error!(error = %error, "cannot write the state: {error}");
        }
    }
    (room, seq)
}
