//! `tail`: what is said in a room, as it is said, until somebody has seen enough. A gateway that goes away is waited
//! for, and the room is read on from the last event that was shown.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use stack_ipc::service::{Admin as _, Start};
use stack_ipc::{AdminClient, ClientError, Delivery, Subscription};
use stack_proto::JsonCodec;
use stack_types::{
    ErrorCode, Event, EventBody, EventCodec as _, MemberAction, RoomAction, RoomId, RoomRole, Seq,
    UserId,
};

use super::CommandError;
use super::reach::reach_gateway;
use super::text::{self, shown};

/// How long to wait before a gateway that is away is looked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// Why the room itself is at its end here.
const FINAL: [&str; 3] = ["deleted", "revoked", "unreadable"];
/// Accounts whose names are known at most. Of a server with more, the rest are shown by their ids.
const NAMES: usize = 10_000;
const NAMES_OF_PAGE: u32 = 500;

/// Follows a room for ever. It ends with an error, or when nobody takes the output any more.
pub(super) async fn follow(
    path: &Path,
    room: &RoomId,
    after: Option<u64>,
    as_json: bool,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let mut admin = reach_gateway(path).await?;
    let mut start = after.map_or(Start::Live, |after| Start::After(Seq(after)));
    let mut shower = Shower {
        room,
        as_json,
        names: Names::default(),
    };
    loop {
        match admin.follow(room, start).await {
            Ok(mut events) => {
                let cursor = shower.show(&admin, &mut events, start, out).await?;
                start = Start::After(cursor);
            }
            Err(error) if is_away(&error) => {}
            Err(error) => return Err(error.into()),
        }
        say("the gateway is away; waiting for it");
        admin = wait_for(path).await?;
        say("the gateway is back");
    }
}

fn is_away(error: &ClientError) -> bool {
    match error {
        ClientError::Broken | ClientError::Unreachable(_) | ClientError::Closed => true,
        error => error.code() == Some(ErrorCode::Unavailable),
    }
}

async fn wait_for(path: &Path) -> Result<AdminClient, CommandError> {
    loop {
        tokio::time::sleep(AGAIN).await;
        match reach_gateway(path).await {
            Ok(admin) => return Ok(admin),
            Err(CommandError::Away { .. }) => {}
            Err(CommandError::Client(error)) if is_away(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Tells whoever watches; nobody has to.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "stack-gateway: {text}");
}

struct Shower<'a> {
    room: &'a RoomId,
    as_json: bool,
    names: Names,
}

impl Shower<'_> {
    /// Shows what comes until the connection ends, and says up to where.
    async fn show(
        &mut self,
        admin: &AdminClient,
        events: &mut Subscription,
        start: Start,
        out: &mut impl Write,
    ) -> Result<Seq, CommandError> {
        let mut cursor = match start {
            Start::After(after) => after,
            Start::Live => events.head(),
        };
        while let Some(delivery) = events.next().await {
            match delivery {
                Delivery::Events(events) => {
                    for event in &events {
                        self.event(admin, event, out).await?;
                        cursor = event.seq;
                    }
                }
                Delivery::Gap { from, to, reason } => {
                    cursor = to;
                    if self.as_json {
                        let payload =
                            json!({ "room": self.room, "from": from, "to": to, "reason": reason });
                        let gap = json!({ "type": "gap", "payload": payload });
                        out.write_all(text::json(&gap)?.as_bytes())?;
                    } else {
                        let reason = shown(&reason);
                        writeln!(out, "-- events {from} to {to} are gone: {reason}")?;
                    }
                }
                Delivery::Ended { reason } if FINAL.contains(&reason.as_str()) => {
                    return Err(CommandError::Ended(reason));
                }
                // Of the connection. Whether the room still is to be had, the next one says.
                Delivery::Ended { .. } => break,
            }
            out.flush()?;
        }
        Ok(cursor)
    }

    async fn event(
        &mut self,
        admin: &AdminClient,
        event: &Event,
        out: &mut impl Write,
    ) -> Result<(), CommandError> {
        if self.as_json {
            let mut frame = Vec::new();
            JsonCodec.encode(event, &mut frame);
            let frame = String::from_utf8_lossy(&frame);
            out.write_all(text::tame_json(&frame).as_bytes())?;
            return Ok(());
        }
        self.names.learn(admin, event).await;
        out.write_all(line(event, &self.names).as_bytes())?;
        Ok(())
    }
}

/// An event on one line.
fn line(event: &Event, names: &Names) -> String {
    let who = names.of(&event.sender);
    let what = match &event.body {
        EventBody::Message { body, reply_to, .. } => match reply_to {
            Some(to) => format!("(to {to}) {body}"),
            None => body.clone(),
        },
        EventBody::Tombstone => "-- taken back".to_owned(),
        EventBody::Edited { target_seq, body } => match body {
            Some(body) => format!("-- {target_seq} is now: {body}"),
            None => format!("-- {target_seq} was changed, and taken back since"),
        },
        EventBody::Redacted { target_seq, reason } => {
            format!("-- took {target_seq} back{}", because(reason.as_deref()))
        }
        EventBody::Erased { targets } => {
            let listed: Vec<_> = targets.iter().map(ToString::to_string).collect();
            format!("-- erased {}", listed.join(", "))
        }
        EventBody::Reacted {
            target_seq, emoji, ..
        } if emoji.is_empty() => format!("-- a reaction to {target_seq}, erased since"),
        EventBody::Reacted {
            target_seq,
            emoji,
            remove: false,
        } => format!("-- {emoji} to {target_seq}"),
        EventBody::Reacted {
            target_seq, emoji, ..
        } => format!("-- no {emoji} to {target_seq} any more"),
        EventBody::Room { action, title, .. } => match action {
            RoomAction::Created => format!("-- made the room: {title}"),
            RoomAction::Changed => format!("-- changed the room: {title}"),
        },
        EventBody::Member {
            action,
            user_id,
            role,
            reason,
        } => {
            let whom = names.of(user_id);
            let what = match action {
                MemberAction::Joined => "joined",
                MemberAction::Left => "left",
                MemberAction::Removed => "was removed",
                MemberAction::Banned => "was banned",
                MemberAction::Unbanned => "may come back",
                MemberAction::Muted => "was muted",
                MemberAction::Unmuted => "may speak again",
                MemberAction::Role => "has another role",
            };
            let role = match role {
                None => "",
                Some(RoomRole::Guest) => " as guest",
                Some(RoomRole::Member) => " as member",
                Some(RoomRole::Moderator) => " as moderator",
                Some(RoomRole::Owner) => " as owner",
            };
            format!("-- {whom} {what}{role}{}", because(reason.as_deref()))
        }
    };
    let (at, seq) = (text::utc(event.ts), event.seq);
    format!("{at}  {seq:>6}  {}  {}\n", shown(who), shown(&what))
}

fn because(reason: Option<&str>) -> String {
    reason.map_or(String::new(), |reason| format!(": {reason}"))
}

/// What people are called: accounts are only told in the order in which they were made, so all are read up to those
/// that are needed.
#[derive(Default)]
struct Names {
    known: HashMap<UserId, String>,
    last: Option<String>,
}

impl Names {
    fn of<'a>(&'a self, user: &'a UserId) -> &'a str {
        self.known.get(user).map_or(user.as_str(), String::as_str)
    }

    /// Asks for the names that an event needs. Without an answer it is shown all the same.
    async fn learn(&mut self, admin: &AdminClient, event: &Event) {
        let whom = match &event.body {
            EventBody::Member { user_id, .. } => Some(user_id),
            _ => None,
        };
        let users: Vec<_> = whom.into_iter().chain([&event.sender]).collect();
        while self.known.len() < NAMES && users.iter().any(|user| !self.known.contains_key(user)) {
            let page = admin.users(self.last.clone(), Some(NAMES_OF_PAGE)).await;
            let Ok(page) = page else {
                return;
            };
            for user in page.users {
                self.last = Some(user.id.to_string());
                self.known.insert(user.id, user.username);
            }
            if page.next.is_none() {
                // Whoever is not among them has no account any more. The next unknown one is looked for from the
                // beginning: ids that a backend gave are in no order of time.
                self.last = None;
                for user in users {
                    self.known.entry(*user).or_insert_with(|| user.to_string());
                }
                return;
            }
        }
    }
}
