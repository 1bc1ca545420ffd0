//! Answers one command.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use stack_daemon::format_duration;
use stack_types::{RoomId, Seq, Timestamp, UserId};
use tokio::time::timeout;

use crate::bot::Bot;
use crate::config::Command;
use crate::request::{REMIND_USAGE, Remind, Request, Run};
use crate::runner::{self, End, Outcome};
use crate::state::{NotKept, Reminder};
use crate::text::presentable;

/// How long a command waits for a place to run.
const QUEUE: Duration = Duration::from_secs(30);
/// The longest text of a reminder, in bytes.
const LONGEST_REMINDER: usize = 500;

/// A message that asks for something.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Where.
    pub(crate) room: RoomId,
    /// Its number.
    pub(crate) seq: Seq,
    /// Its time.
    pub(crate) ts: Timestamp,
    /// Whose it is.
    pub(crate) user: UserId,
    /// Its text.
    pub(crate) body: String,
}

/// Answers a command; when there are too many it says just that.
pub(crate) async fn answer(bot: Arc<Bot>, asked: Asked, crowded: bool) {
    let (room, seq) = (&asked.room, asked.seq);
    let body = if crowded {
        let every = format_duration(bot.config.limits.per_user.every);
        format!("Too many commands; not all of them are answered. One in {every} is fine.")
    } else {
        match Request::parse(&bot.config.prefix, &asked.body) {
            Some(Request::Help) => help(&bot),
            Some(Request::Remind(Ok(remind))) => keep(&bot, &asked, remind).await,
            Some(Request::Remind(Err(fault))) => {
                format!("{fault}: {}{REMIND_USAGE}", bot.config.prefix)
            }
            Some(Request::Run(run)) => match bot.config.commands.get(run.name) {
                Some(command) => execute(&bot, &asked, &run, command).await,
                None => return,
            },
            None => return,
        }
    };
    // One answer for each message, however often it is read.
    if let Err(error) = bot.say(room, seq, format!("answer:{seq}"), body).await {
        tracing::error!(%room, %seq, error = %error, "cannot answer {seq} in {room}: {error}");
    }
}

fn help(bot: &Bot) -> String {
    let prefix = &bot.config.prefix;
    let mut text =
        format!("{prefix}help: this\n{prefix}{REMIND_USAGE} (take the message back to cancel it)");
    for (name, command) in &bot.config.commands {
        let blank = if command.usage.is_empty() { "" } else { " " };
        // Writing to a string succeeds.
        let _ = write!(text, "\n{prefix}{name}{blank}{}", command.usage);
        if !command.help.is_empty() {
            let _ = write!(text, ": {}", command.help);
        }
    }
    text
}

async fn keep(bot: &Bot, asked: &Asked, remind: Remind<'_>) -> String {
    let limits = bot.config.limits;
    if remind.after.is_zero() || remind.after > limits.remind_within {
        let within = format_duration(limits.remind_within);
        return format!("A reminder lies 1s to {within} ahead.");
    }
    if remind.text.len() > LONGEST_REMINDER {
        return format!("A reminder has {LONGEST_REMINDER} bytes at most.");
    }
    let reminder = Reminder {
        room: asked.room.clone(),
        seq: asked.seq,
        user: asked.user,
        // From the message on, so that it is the same when the message is read again.
        due: asked.ts.plus(remind.after),
        text: remind.text.to_owned(),
    };
    let (of_user, in_all) = (limits.reminders_per_user, limits.reminders);
    match bot.state.remind(reminder, of_user, in_all).await {
        Ok(()) => format!("I will remind you in {}.", format_duration(remind.after)),
        Err(NotKept::TooManyOfUser) => "You have too many reminders already.".to_owned(),
        Err(NotKept::TooMany) => "There are too many reminders already.".to_owned(),
        Err(NotKept::Disk(error)) => {
            tracing::error!(error = %error, "cannot keep a reminder: {error}");
            "I cannot keep reminders just now.".to_owned()
        }
    }
}

async fn execute(bot: &Bot, asked: &Asked, run: &Run<'_>, command: &Command) -> String {
    let (room, seq, name) = (&asked.room, asked.seq, run.name);
    if let Err(fault) = command.check(&run.words) {
        return format!(
            "{fault} Usage: {}{name} {}",
            bot.config.prefix, command.usage
        )
        .trim_end()
        .to_owned();
    }
    let (Some(own), all) = (bot.places.get(name), &bot.programs) else {
        return String::new();
    };
    let places = async { (own.acquire().await, all.acquire().await) };
    let Ok((Ok(_own), Ok(_all))) = timeout(QUEUE, places).await else {
        return "Too busy; try again later.".to_owned();
    };
    match bot.state.begin(room, seq).await {
        Ok(true) => {}
        // The bot ended while it ran, or before the answer was sent. What it did is done, and is not done again.
        Ok(false) => {
            return format!("{name} was begun and I was restarted; I do not run it again.");
        }
        Err(error) => {
            tracing::error!(%room, %seq, error = %error, "does not run {name}, since it cannot be noted: {error}");
            return format!("I cannot run {name} just now.");
        }
    }
    let user = asked.user;
    tracing::info!(%room, %seq, %user, name, "runs {name} for {user} in {room}");
    match runner::run(command, &run.words).await {
        Ok(outcome) => tell(name, command, &outcome),
        Err(error) => {
            report(name, &error);
            format!("{name} cannot be run.")
        }
    }
}

fn report(name: &str, error: &io::Error) {
    tracing::error!(name, error = %error, "cannot run {name}: {error}");
}

fn tell(name: &str, command: &Command, outcome: &Outcome) -> String {
    let cut = outcome.end == End::TooMuch;
    let text = presentable(&outcome.output, command.max_output, cut);
    match outcome.end {
        End::Exited(status) if status.success() => text,
        End::Exited(status) => format!("{text}\n({name} failed: {status})"),
        End::TooMuch => text,
        End::TimedOut => {
            let timeout = format_duration(command.timeout);
            format!("{text}\n({name} was stopped after {timeout})")
        }
    }
}
