//! Fills a room with messages, as fast as the gateway commits them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Server;
use crate::dialect::{Heard, Template};
use crate::http;
use crate::swarm::{Kind, Swarm};

/// One connection may have so many messages on their way to the disk.
const IN_FLIGHT: u64 = 256;

/// Makes the room if it is missing, sends `count` messages to it, and gives its head.
///
/// # Errors
/// The gateway refuses.
pub(crate) fn run(server: &Server, room: &str, count: u64) -> Result<u64> {
    let token = server.token()?.context("only a gateway has rooms")?;
    http::make_room(server.address, &token, room)?;
    let mut swarm = Swarm::new(server.address, server.dialect, Some(&token))?;
    let sender = swarm.gather(1, 1, None, |_| Kind::Speaker)?[0];
    let mut template = Template::new(server.dialect, room, false);
    let (mut sent, mut answered, mut head) = (0, 0, 0);
    let mut out = Vec::new();
    while answered < count {
        while sent < count && sent - answered < IN_FLIGHT {
            template.push(sent, &mut out);
            sent += 1;
        }
        swarm.send(sender, &out);
        out.clear();
        let mut fault = None;
        swarm.turn(Duration::from_millis(100), |_, _, heard| match heard {
            Heard::Answer { frame, .. } => {
                answered += 1;
                head = head.max(seq_in(frame));
            }
            Heard::Refused(text) => fault = Some(String::from_utf8_lossy(text).into_owned()),
            Heard::Closed => fault = Some("closed".into()),
            Heard::Message { .. } | Heard::Open => {}
        })?;
        if let Some(fault) = fault {
            bail!("the room could not be filled: {fault}");
        }
    }
    Ok(head)
}

/// The `seq` in an answer; zero when there is none.
pub(crate) fn seq_in(answer: &[u8]) -> u64 {
    const SEQ: &str = r#""seq":"#;
    let text = String::from_utf8_lossy(answer);
    let digits = text
        .split_once(SEQ)
        .map(|(_, rest)| rest)
        .unwrap_or_default();
    let end = digits
        .find(|digit: char| !digit.is_ascii_digit())
        .unwrap_or(digits.len());
    digits[..end].parse().unwrap_or(0)
}
