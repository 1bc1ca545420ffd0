//! What is run: scenarios, subjects, sizes.

use serde::{Deserialize, Serialize};

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// Stack, with persistence.
    Gateway,
    /// Node `ws`, plain.
    Ws,
    /// Node `ws`, corked per tick.
    WsCorked,
    /// Socket.IO.
    SocketIo,
    /// nats-server over its WebSocket listener.
    Nats,
    /// A bare send loop.
    SendLoop,
    /// Append and `fdatasync`, one write per group.
    Append,
    /// Append and `fdatasync`, one write per message.
    AppendEach,
    /// Plain redb rows.
    RedbRows,
    /// A transport of the bus.
    Bus,
    /// A loop over bare sockets of the transport's library.
    BareSockets,
    /// A loop over bare sockets of the RPC library.
    BareRpc,
}

impl Subject {
    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway => "stack",
            Self::Ws => "ws",
            Self::WsCorked => "ws-corked",
            Self::SocketIo => "socket.io",
            Self::Nats => "nats-server",
            Self::SendLoop => "send-loop",
            Self::Append => "append",
            Self::AppendEach => "append-each",
            Self::RedbRows => "redb-rows",
            Self::Bus => "stack's bus",
            Self::BareSockets => "bare-sockets",
            Self::BareRpc => "bare-rpc",
        }
    }

    /// How the generator speaks to it.
    pub(crate) fn dialect(self) -> &'static str {
        match self {
            Self::SocketIo => "socket-io",
            Self::Nats => "nats",
            _ => "stack",
        }
    }
}

/// What a server finds on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Nothing.
    Fresh,
    /// The rooms of [`filled_rooms`], kept from round to round.
    Filled,
}

/// One scenario against one subject.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) scenario: &'static str,
    pub(crate) subject: Subject,
    /// The generator's.
    pub(crate) arguments: Vec<String>,
    pub(crate) data: Data,
    /// Time is measured, so others on the machine disturb it.
    pub(crate) timed: bool,
}

/// The rooms of a filled gateway.
pub(crate) fn filled_rooms(quick: bool) -> [(&'static str, u64); 2] {
    [("small", 1000), ("big", large_room(quick))]
}

fn large_room(quick: bool) -> u64 {
    if quick { 20_000 } else { 1_000_000 }
}

/// How many subscribers a case has.
pub(crate) fn subscribers_of(case: &Case) -> String {
    let at = case
        .arguments
        .iter()
        .position(|argument| argument == "--subscribers");
    at.and_then(|at| case.arguments.get(at + 1))
        .cloned()
        .unwrap_or_else(|| "1000".into())
}

/// All cases of a round, in order.
pub(crate) fn cases(quick: bool) -> Vec<Case> {
    use Subject::{
        Append, AppendEach, BareRpc, BareSockets, Bus, Gateway, Nats, RedbRows, SendLoop, SocketIo,
        Ws, WsCorked,
    };
    let pick = |short: u64, full: u64| if quick { short } else { full };
    let subscribers = pick(50, 1000);
    let times = format!(
        "--warm-ms {} --measure-ms {}",
        pick(200, 1500),
        pick(500, 4000)
    );
    let fan_out = format!("fan-out --subscribers {subscribers} {times}");
    let connections = format!(
        "--base {} --more {} --settle-ms {}",
        pick(100, 1000),
        pick(200, 6000),
        pick(300, 3000)
    );
    let measure = format!("--measure-ms {}", pick(300, 3000));
    let slow = format!("{fan_out} --rate 50 --flood {}", 40_000);
    let pages = format!(
        "history --pages {} --large-head {} --small-head 1000",
        pick(100, 4000),
        large_room(quick)
    );
    let mut cases = Vec::new();
    let mut add = |scenario, subjects: &[Subject], arguments: &str| {
        for &subject in subjects {
            let listens = subject == SendLoop;
            let arguments = if listens {
                format!("{fan_out} --listen")
            } else {
                arguments.to_owned()
            };
            cases.push(Case {
                scenario,
                subject,
                arguments: arguments.split(' ').map(str::to_owned).collect(),
                data: if matches!(scenario, "catch-up" | "history" | "history-cold") {
                    Data::Filled
                } else {
                    Data::Fresh
                },
                timed: !matches!(scenario, "idle" | "idle-room"),
            });
        }
    };
    let everyone = [Gateway, Ws, WsCorked, Nats, SocketIo];
    add(
        "hot",
        &everyone,
        &format!("{fan_out} --in-flight 32 --window answered"),
    );
    add(
        "hot-all",
        &everyone,
        &format!("{fan_out} --in-flight 32 --window delivered"),
    );
    add(
        "cold",
        &[Gateway, SendLoop, Ws, SocketIo, Nats],
        &format!("{fan_out} --in-flight 1 --window delivered"),
    );
    add(
        "open",
        &everyone,
        &format!("{fan_out} --rate {}", 50_000 / subscribers),
    );
    add("acks", &[Gateway], &format!("acks {times}"));
    add("acks-key", &[Gateway], &format!("acks --key {times}"));
    add("disk", &[Append, AppendEach, RedbRows], &measure);
    add("idle", &everyone, &format!("idle {connections}"));
    add(
        "idle-room",
        &everyone,
        &format!("idle --subscribed {connections}"),
    );
    add("slow-none", &[Gateway], &slow);
    add("slow", &[Gateway], &format!("{slow} --stall"));
    add(
        "storm",
        &[Gateway],
        &format!("storm --clients {}", pick(200, 5000)),
    );
    add("catch-up", &[Gateway], "catch-up");
    add(HISTORY, &[Gateway], &format!("{pages} --warm"));
    add("history-cold", &[Gateway], &pages);
    for (scenario, wire) in WIRES {
        add(
            scenario,
            &[Bus, BareSockets],
            &format!("--wire {wire} {times}"),
        );
    }
    let events = format!("ipc --events {} {measure}", pick(5000, 100_000));
    add(IPC, &[Gateway], &events);
    add(IPC, &[BareRpc], &measure);
    let neighbours = format!(
        "ipc-neighbours --subscribers {} --measure-ms {}",
        pick(50, 500),
        pick(500, 5000)
    );
    add(IPC_NEIGHBOURS, &[Gateway], &neighbours);
    cases
}

/// A program at the local socket.
pub(crate) const IPC: &str = "ipc";
/// WebSocket clients beside programs that stall and flood.
pub(crate) const IPC_NEIGHBOURS: &str = "ipc-neighbours";

/// The transports of the bus, and what they are called.
pub(crate) const WIRES: [(&str, &str); 4] = [
    ("bus-nng-tcp", "nng+tcp"),
    ("bus-nng-ipc", "nng+ipc"),
    ("bus-zmq-tcp", "zmq+tcp"),
    ("bus-zmq-ipc", "zmq+ipc"),
];

/// Pages of a room that fits the cache; `history-cold` is the same with the cache that a gateway has by default.
pub(crate) const HISTORY: &str = "history";

/// The gateway's page cache for [`HISTORY`], in MiB.
pub(crate) const HISTORY_CACHE_MIB: usize = 512;

/// The scenario of [`soak`].
pub(crate) const SOAK: &str = "soak";

/// The gateway's page cache in a soak, in MiB.
pub(crate) const SOAK_CACHE_MIB: usize = 16;

/// The gateway for minutes.
pub(crate) fn soak(minutes: f64, window_s: u64) -> Case {
    let arguments = format!("soak --minutes {minutes} --window-s {window_s}");
    Case {
        scenario: SOAK,
        subject: Subject::Gateway,
        arguments: arguments.split(' ').map(str::to_owned).collect(),
        data: Data::Fresh,
        timed: true,
    }
}
