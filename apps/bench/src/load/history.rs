//! Pages of history: the same page in a large room and in a small one, in turn, one request at a time.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::Server;
use crate::dialect::Heard;
use crate::frame;
use crate::latency::Latencies;
use crate::swarm::{ConnId, Kind, Swarm};

/// Which rooms.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The large room.
    #[arg(long, default_value = "big")]
    large: String,
    /// Its head, at least.
    #[arg(long, default_value_t = 1_000_000)]
    large_head: u64,
    /// The small room.
    #[arg(long, default_value = "small")]
    small: String,
    /// Its head, at least.
    #[arg(long, default_value_t = 1000)]
    small_head: u64,
    /// Pages of each room and kind.
    #[arg(long, default_value_t = 2000)]
    pages: u64,
    /// Read the large room from end to end first, so that as much of it is in memory as may be.
    #[arg(long)]
    warm: bool,
}

/// Events on a page.
const LIMIT: u64 = 50;
/// Events on a page that is read to warm up.
const WARM_LIMIT: u64 = 500;

/// Runs the scenario.
///
/// # Errors
/// The gateway refuses a page.
pub(crate) fn run(server: &Server, options: &Options) -> Result<Value> {
    let mut swarm = Swarm::new(server.address, server.dialect, server.token()?.as_deref())?;
    let reader = swarm.gather(1, 1, None, |_| Kind::Listener)?[0];
    swarm.stay_awake();
    if options.warm {
        for (id, after) in (0..options.large_head - WARM_LIMIT)
            .step_by(WARM_LIMIT as usize)
            .enumerate()
        {
            let cursor = format!(r#","after":{after}"#);
            page(
                &mut swarm,
                reader,
                id as u64,
                &options.large,
                WARM_LIMIT,
                &cursor,
            )?;
        }
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let [mut large, mut small] = [Latencies::new()?, Latencies::new()?];
    let [mut large_newest, mut small_newest] = [Latencies::new()?, Latencies::new()?];
    for turn in 0..options.pages {
        for (room, head, latencies, newest) in [
            (
                &options.large,
                options.large_head,
                &mut large,
                &mut large_newest,
            ),
            (
                &options.small,
                options.small_head,
                &mut small,
                &mut small_newest,
            ),
        ] {
            let after = random.below(head - LIMIT);
            let cursor = format!(r#","after":{after}"#);
            latencies.record(page(&mut swarm, reader, turn, room, LIMIT, &cursor)?);
            newest.record(page(&mut swarm, reader, turn, room, LIMIT, "")?);
        }
    }
    Ok(json!({
        "large": large.summary(),
        "small": small.summary(),
        "ratio": large.at(0.5) / small.at(0.5),
        "large_newest": large_newest.summary(),
        "small_newest": small_newest.summary(),
        "ratio_newest": large_newest.at(0.5) / small_newest.at(0.5),
    }))
}

/// Asks for one page and gives the time it took.
fn page(
    swarm: &mut Swarm,
    reader: ConnId,
    id: u64,
    room: &str,
    limit: u64,
    cursor: &str,
) -> Result<u64> {
    /// A page that is full has at least so many bytes.
    const FULL_BYTES: usize = LIMIT as usize * crate::dialect::BODY_BYTES;
    let text = format!(
        r#"{{"type":"history","id":{id},"payload":{{"room":"{room}","limit":{limit}{cursor}}}}}"#
    );
    let mut out = Vec::new();
    frame::push(frame::TEXT, text.as_bytes(), &mut out);
    let asked = swarm.now();
    swarm.send(reader, &out);
    let mut answered = None;
    let mut fault = None;
    while answered.is_none() {
        swarm.turn(Duration::from_secs(5), |_, now, heard| match heard {
            Heard::Answer { frame, .. } if frame.len() >= FULL_BYTES => answered = Some(now),
            Heard::Answer { frame, .. } | Heard::Refused(frame) => {
                fault = Some(String::from_utf8_lossy(frame).into_owned());
            }
            Heard::Closed => fault = Some("closed".into()),
            Heard::Message { .. } | Heard::Open => {}
        })?;
        if let Some(fault) = fault.take() {
            bail!("no full page of {room}: {fault}");
        }
    }
    Ok(answered.unwrap_or(asked) - asked)
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
