//! The tables of the report: ratios against the targets first, then what was measured.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::plan::{IPC, IPC_NEIGHBOURS, Subject, WIRES};
use super::results::{Number, Results, median};

/// What a target wants.
#[derive(Clone, Copy)]
enum Wanted {
    AtLeast(f64),
    AtMost(f64),
    /// Nothing; the number is told for comparison.
    Nothing,
}

/// One line of the table of targets.
struct Line {
    what: String,
    value: Option<f64>,
    unit: &'static str,
    wanted: Wanted,
    /// The cases it stands on.
    cases: Vec<(&'static str, Subject)>,
}

const DELIVERIES: &str = "/deliveries_per_s";
const MESSAGES: &str = "/messages_per_s";
const P50: &str = "/latency/p50_us";
const P99: &str = "/latency/p99_us";

/// The whole report. `profiles` is the folder of what people found out about the targets that are missed.
///
/// # Errors
/// A profile cannot be read.
pub(crate) fn render(results: &Results, profiles: Option<&Path>) -> Result<String> {
    let mut out = String::new();
    let conditions = results.conditions.render();
    out.push_str(&format!(
        "Conditions: {conditions} {} {}\n",
        others(results),
        generator(results)
    ));
    out.push_str("\n| against the targets | reached | wanted | |\n| --- | ---: | ---: | --- |\n");
    let lines = targets(results);
    for line in &lines {
        if let Some(row) = line.row(results) {
            out.push_str(&row);
        }
    }
    if let Some(profiles) = profiles {
        out.push_str(&why(&lines, profiles)?);
    }
    out.push_str(&fan_out(results));
    out.push_str(&rest(results));
    let failures: Vec<_> = results
        .runs
        .iter()
        .filter(|run| run.failure.is_some())
        .collect();
    if !failures.is_empty() {
        out.push_str("\nFailed:\n\n");
        for run in failures {
            out.push_str(&format!("- {}\n", run.line().trim()));
        }
    }
    Ok(out)
}

/// The targets that are missed, each with what `profiles/<scenario>.md` says of it.
fn why(lines: &[Line], profiles: &Path) -> Result<String> {
    let mut out = String::new();
    let mut told = Vec::new();
    for line in lines.iter().filter(|line| line.met() == Some(false)) {
        let Some((scenario, _)) = line.cases.first() else {
            continue;
        };
        if told.contains(scenario) {
            continue;
        }
        told.push(*scenario);
        let missed: Vec<_> = lines
            .iter()
            .filter(|line| line.met() == Some(false))
            .filter(|line| line.cases.first().is_some_and(|case| case.0 == *scenario))
            .map(|line| line.what.as_str())
            .collect();
        let profile = profiles.join(format!("{scenario}.md"));
        let text = if profile.exists() {
            fs::read_to_string(profile)?
        } else {
            "Not profiled yet.".into()
        };
        // The file's own heading would stand in the middle of a line.
        let text = match text.split_once('\n') {
            Some((heading, rest)) if heading.starts_with("# ") => rest,
            _ => &text,
        };
        out.push_str(&format!("\n**{}.** {}\n", missed.join("; "), text.trim()));
    }
    if !out.is_empty() {
        out.insert_str(0, "\n### What is missed, and why\n");
    }
    Ok(out)
}

/// Where the generator may have set the pace, so that a number tells of it and not of the server.
fn generator(results: &Results) -> String {
    let mut limited: Vec<String> = results
        .runs
        .iter()
        .filter(|run| run.generator_was_the_limit())
        .map(|run| format!("{} of {}", run.scenario, run.subject.name()))
        .collect();
    limited.sort();
    limited.dedup();
    if limited.is_empty() {
        "The generator was the limit in no run.".into()
    } else {
        format!(
            "**The generator was the limit** in: {}.",
            limited.join(", ")
        )
    }
}

/// How busy the machine was with other things.
fn others(results: &Results) -> String {
    let shares: Vec<f64> = results
        .runs
        .iter()
        .filter_map(|run| run.number("/shares/others"))
        .collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    let middle = median(shares).unwrap_or(0.0);
    format!(
        "Everything else on the machine took {:.0} % of a core in the median run and {:.0} % in the worst.",
        middle * 100.0,
        most * 100.0
    )
}

fn targets(results: &Results) -> Vec<Line> {
    use Subject::{Append, AppendEach, Gateway, Nats, RedbRows, SendLoop, SocketIo, Ws, WsCorked};
    use Wanted::{AtLeast, AtMost, Nothing};
    let mut lines = Vec::new();
    let mut ratio =
        |what: &str, ours: (&'static str, &str), theirs: (&'static str, Subject, &str), wanted| {
            let ours: Number<'_> = (ours.0, Gateway, ours.1);
            lines.push(Line {
                what: what.to_owned(),
                value: results.ratio(ours, theirs),
                unit: "×",
                wanted,
                cases: vec![(ours_name(ours), Gateway), (theirs.0, theirs.1)],
            });
        };
    for (scenario, how) in [
        ("hot", ""),
        ("hot-all", ", each in flight until all have it"),
    ] {
        for (peer, wanted) in [(Ws, 20.0), (WsCorked, 2.0), (Nats, 1.5), (SocketIo, 25.0)] {
            let what = format!("hot fan-out{how}: deliveries/s by {}", peer.name());
            ratio(
                &what,
                (scenario, DELIVERIES),
                (scenario, peer, DELIVERIES),
                AtLeast(wanted),
            );
        }
    }
    for (peer, wanted) in [
        (SendLoop, AtLeast(0.7)),
        (Ws, AtLeast(1.15)),
        (SocketIo, AtLeast(1.4)),
        (Nats, Nothing),
    ] {
        let what = format!("cold fan-out: deliveries/s by {}", peer.name());
        ratio(
            &what,
            ("cold", DELIVERIES),
            ("cold", peer, DELIVERIES),
            wanted,
        );
    }
    for (peer, wanted) in [
        (Ws, AtMost(0.9)),
        (WsCorked, Nothing),
        (Nats, Nothing),
        (SocketIo, Nothing),
    ] {
        let what = format!("open loop, 50,000 deliveries/s: p99 by {}", peer.name());
        ratio(&what, ("open", P99), ("open", peer, P99), wanted);
    }
    for (floor, plain, keyed) in [
        (Append, AtLeast(0.6), AtLeast(0.4)),
        (AppendEach, Nothing, Nothing),
        (RedbRows, AtLeast(1.5), Nothing),
    ] {
        let what = format!("durable ack: messages/s by {}", floor.name());
        ratio(&what, ("acks", MESSAGES), ("disk", floor, MESSAGES), plain);
        let what = format!("durable ack with keys: messages/s by {}", floor.name());
        ratio(
            &what,
            ("acks-key", MESSAGES),
            ("disk", floor, MESSAGES),
            keyed,
        );
    }
    ratio(
        "10 % stalled readers: p99 of the others by the run without",
        ("slow", P99),
        ("slow-none", Gateway, P99),
        AtMost(1.3),
    );

    let mut own = |what: &str, value: Option<f64>, unit, wanted, scenario: &'static str| {
        let cases = vec![(scenario, Gateway)];
        lines.push(Line {
            what: what.to_owned(),
            value,
            unit,
            wanted,
            cases,
        });
    };
    let number = |scenario, path| results.median(scenario, Gateway, path);
    own(
        "durable ack: p99 by p50",
        number("acks", "/p99_by_p50"),
        "×",
        AtMost(6.0),
        "acks",
    );
    own(
        "durable ack with keys: p99 by p50",
        number("acks-key", "/p99_by_p50"),
        "×",
        AtMost(6.0),
        "acks-key",
    );
    own(
        "idle connection, server RSS",
        number("idle", "/rss_per_connection"),
        " B",
        AtMost(4096.0),
        "idle",
    );
    own(
        "idle connection with a subscription",
        number("idle-room", "/rss_per_connection"),
        " B",
        Nothing,
        "idle-room",
    );
    own(
        "stalled reader, server RSS",
        per_stalled_reader(results),
        " B",
        AtMost(32_768.0),
        "slow",
    );
    own(
        "resume storm: longest pause between accepts",
        number("storm", "/longest_accept_gap_s"),
        " s",
        AtMost(1.0),
        "storm",
    );
    own(
        "history page of 50, large room by small, the room in the cache of 512 MiB",
        number("history", "/ratio"),
        "×",
        AtMost(1.3),
        "history",
    );
    own(
        "the same, random pages of 270 MB with the cache of 64 MiB that is the default",
        number("history-cold", "/ratio"),
        "×",
        Nothing,
        "history-cold",
    );
    own(
        "newest page of 50, large room by small",
        number("history", "/ratio_newest"),
        "×",
        AtMost(1.3),
        "history",
    );
    lines.extend(wires(results));
    lines.extend(local_socket(results));
    lines
}

/// The transports of the bus beside their libraries.
fn wires(results: &Results) -> Vec<Line> {
    use Subject::{BareSockets, Bus};
    let kinds = [
        (
            "batches of 100 frames, frames/s",
            MESSAGES,
            Wanted::AtLeast(0.5),
        ),
        ("one frame and back, p50", P50, Wanted::Nothing),
    ];
    let line =
        |(scenario, wire): (&'static str, &str), (what, path, wanted): (&str, &str, _)| Line {
            what: format!("bus over {wire}: {what} by bare sockets"),
            value: results.ratio((scenario, Bus, path), (scenario, BareSockets, path)),
            unit: "×",
            wanted,
            cases: vec![(scenario, Bus), (scenario, BareSockets)],
        };
    WIRES
        .iter()
        .flat_map(|wire| kinds.map(|kind| line(*wire, kind)))
        .collect()
}

const EVENTS: &str = "/events_per_s";

/// The local socket beside its library, and what programs on it do to others.
fn local_socket(results: &Results) -> [Line; 2] {
    use Subject::{BareRpc, Gateway};
    [
        Line {
            what: "local socket: events/s to a program by a bare loop over the RPC library".into(),
            value: results.ratio((IPC, Gateway, EVENTS), (IPC, BareRpc, EVENTS)),
            unit: "×",
            wanted: Wanted::AtLeast(0.5),
            cases: vec![(IPC, Gateway), (IPC, BareRpc)],
        },
        Line {
            what: "500 WebSocket clients: p99 beside programs that stall and flood by p99 without"
                .into(),
            value: results.median(IPC_NEIGHBOURS, Gateway, "/ratio"),
            unit: "×",
            wanted: Wanted::AtMost(1.3),
            cases: vec![(IPC_NEIGHBOURS, Gateway)],
        },
    ]
}

/// The scenario of a number; its lifetime is the plan's.
fn ours_name(number: Number<'_>) -> &'static str {
    const NAMES: [&str; 7] = ["hot", "hot-all", "cold", "open", "acks", "acks-key", "slow"];
    NAMES
        .into_iter()
        .find(|name| *name == number.0)
        .unwrap_or_default()
}

/// How much more the server grew where readers stalled, for each of them.
fn per_stalled_reader(results: &Results) -> Option<f64> {
    const STALLED: f64 = 100.0;
    let growth = |scenario| {
        let after = results.median(scenario, Subject::Gateway, "/rss_end")?;
        let before = results.median(scenario, Subject::Gateway, "/rss_gathered")?;
        Some(after - before)
    };
    Some((growth("slow")? - growth("slow-none")?).max(0.0) / STALLED)
}

impl Line {
    /// Whether the target is reached; `None` where there is no number or no target.
    fn met(&self) -> Option<bool> {
        let value = self.value?;
        match self.wanted {
            Wanted::AtLeast(least) => Some(value >= least),
            Wanted::AtMost(most) => Some(value <= most),
            Wanted::Nothing => None,
        }
    }

    fn row(&self, results: &Results) -> Option<String> {
        let value = self.value?;
        let reached = format!("{}{}", figure(value), self.unit);
        let wanted = match self.wanted {
            Wanted::AtLeast(least) => format!("≥ {}{}", figure(least), self.unit),
            Wanted::AtMost(most) => format!("≤ {}{}", figure(most), self.unit),
            Wanted::Nothing => String::new(),
        };
        let mut verdict = self.met().map(mark).unwrap_or_default();
        let limited: Vec<_> = self
            .cases
            .iter()
            .filter(|(scenario, subject)| results.generator_was_the_limit(scenario, *subject))
            .map(|(_, subject)| subject.name())
            .collect();
        if !limited.is_empty() {
            verdict.push_str(&format!(
                " (the generator was the limit for {})",
                limited.join(" and ")
            ));
        }
        Some(format!(
            "| {} | {reached} | {wanted} | {} |\n",
            self.what,
            verdict.trim()
        ))
    }
}

/// Whether a target is reached, for people.
pub(crate) fn mark(met: bool) -> String {
    if met {
        "reached".into()
    } else {
        "**missed**".into()
    }
}

fn fan_out(results: &Results) -> String {
    use Subject::{Gateway, Nats, SendLoop, SocketIo, Ws, WsCorked};
    let mut out = String::from(
        "\n| fan-out | subject | deliveries/s | p50 | p99 | server's core | generator's core |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for (scenario, label) in [
        ("hot", "hot, 32 unanswered"),
        ("hot-all", "hot, 32 until all have them"),
        ("cold", "cold, one until all have it"),
        ("open", "open loop"),
        ("slow-none", "open loop, nobody stalls"),
        ("slow", "open loop, 10 % stall"),
    ] {
        for subject in [Gateway, Ws, WsCorked, Nats, SocketIo, SendLoop] {
            let number = |path| results.median(scenario, subject, path);
            let Some(deliveries) = number(DELIVERIES) else {
                continue;
            };
            let latency = |path| match number(path) {
                Some(us) if us > 0.0 => duration(us),
                _ => "–".into(),
            };
            let share = |path| {
                number(path).map_or_else(|| "–".into(), |share| format!("{:.0} %", share * 100.0))
            };
            out.push_str(&format!(
                "| {label} | {} | {} | {} | {} | {} | {} |\n",
                subject.name(),
                figure(deliveries),
                latency(P50),
                latency(P99),
                share("/shares/server"),
                share("/shares/generator"),
            ));
        }
    }
    out
}

/// What the transports of the bus carry, if they were measured.
fn bus(results: &Results) -> String {
    let mut out = String::new();
    for (scenario, wire) in WIRES {
        for subject in [Subject::Bus, Subject::BareSockets] {
            let number = |path| results.median(scenario, subject, path);
            if let (Some(frames), Some(p50), Some(p99)) =
                (number(MESSAGES), number(P50), number(P99))
            {
                out.push_str(&format!(
                    "| {wire} | {} | {} | {} | {} |\n",
                    subject.name(),
                    figure(frames),
                    duration(p50),
                    duration(p99)
                ));
            }
        }
    }
    if !out.is_empty() {
        out.insert_str(
            0,
            "\n| bus | subject | frames/s in batches of 100 | one frame and back, p50 | p99 |\n| --- | --- | ---: | ---: | ---: |\n",
        );
    }
    out
}

/// What a program gets over the local socket, if it was measured.
fn ipc(results: &Results) -> String {
    let ours = |path| results.median(IPC, Subject::Gateway, path);
    let bare = |path| results.median(IPC, Subject::BareRpc, path);
    let rows = [
        (
            "events/s from the log, in batches",
            ours(EVENTS),
            bare(EVENTS),
        ),
        (
            "the same, by Stack's own client",
            ours("/client_events_per_s"),
            None,
        ),
        (
            "events/s live, each sent by the same program",
            ours("/live_events_per_s"),
            None,
        ),
        (
            "messages/s, 64 on their way (bare: calls/s, nothing is written)",
            ours("/sends_per_s"),
            bare("/calls_per_s"),
        ),
    ];
    let times = [
        ("from send to event, p50", ours("/live/p50_us"), None),
        ("from send to event, p99", ours("/live/p99_us"), None),
        (
            "one message to the disk and back (bare: one call), p50",
            ours("/send_alone/p50_us"),
            bare("/call_alone/p50_us"),
        ),
        (
            "the same, p99",
            ours("/send_alone/p99_us"),
            bare("/call_alone/p99_us"),
        ),
    ];
    if rows[0].1.is_none() {
        return String::new();
    }
    let mut out =
        "\n| local socket | stack | bare RPC library |\n| --- | ---: | ---: |\n".to_owned();
    let shown = |number: Option<f64>, show: fn(f64) -> String| number.map_or("–".into(), show);
    for (what, ours, bare) in rows {
        let (ours, bare) = (shown(ours, figure), shown(bare, figure));
        out.push_str(&format!("| {what} | {ours} | {bare} |\n"));
    }
    for (what, ours, bare) in times {
        let (ours, bare) = (shown(ours, duration), shown(bare, duration));
        out.push_str(&format!("| {what} | {ours} | {bare} |\n"));
    }
    out
}

fn rest(results: &Results) -> String {
    use Subject::{Append, AppendEach, Gateway, Nats, RedbRows, SocketIo, Ws, WsCorked};
    let mut out =
        String::from("\n| disk | messages/s | p50 | p99 |\n| --- | ---: | ---: | ---: |\n");
    for (label, scenario, subject) in [
        ("stack, 100 rooms, 32 unanswered in each", "acks", Gateway),
        ("the same, each with a key", "acks-key", Gateway),
        (
            "append + fdatasync, groups of 100 in one write",
            "disk",
            Append,
        ),
        (
            "append + fdatasync, groups of 100 in 100 writes",
            "disk",
            AppendEach,
        ),
        (
            "redb, a row per message, groups of 100 over 100 rooms",
            "disk",
            RedbRows,
        ),
    ] {
        let number = |path| results.median(scenario, subject, path);
        if let (Some(messages), Some(p50), Some(p99)) = (number(MESSAGES), number(P50), number(P99))
        {
            out.push_str(&format!(
                "| {label} | {} | {} | {} |\n",
                figure(messages),
                duration(p50),
                duration(p99)
            ));
        }
    }
    out.push_str(&bus(results));
    out.push_str(&ipc(results));
    out.push_str(
        "\n| server RSS | idle connection | with a subscription |\n| --- | ---: | ---: |\n",
    );
    for subject in [Gateway, Ws, WsCorked, Nats, SocketIo] {
        let bytes = |scenario| {
            let bytes = results.median(scenario, subject, "/rss_per_connection");
            bytes.map_or_else(|| "–".into(), |bytes| format!("{} B", figure(bytes)))
        };
        out.push_str(&format!(
            "| {} | {} | {} |\n",
            subject.name(),
            bytes("idle"),
            bytes("idle-room")
        ));
    }
    let mut facts = String::new();
    let mut fact = |label: &str, scenario, path, show: fn(f64) -> String| {
        if let Some(number) = results.median(scenario, Gateway, path) {
            facts.push_str(&format!("| {label} | {} |\n", show(number)));
        }
    };
    let seconds = |number: f64| format!("{number:.2} s");
    let mib = |number: f64| format!("{:.1} MiB", number / 1024.0 / 1024.0);
    fact(
        "storm: until all clients are in",
        "storm",
        "/all_open_s",
        seconds,
    );
    fact(
        "storm: until all have all events",
        "storm",
        "/seconds",
        seconds,
    );
    fact(
        "storm: time to get in, p99",
        "storm",
        "/opening/p99_us",
        duration,
    );
    fact("storm: server RSS before", "storm", "/rss_before", mib);
    fact("storm: server RSS at its peak", "storm", "/rss_peak", mib);
    fact("catch-up: events", "catch-up", "/events", figure);
    fact("catch-up: events/s", "catch-up", "/events_per_s", figure);
    fact(
        "catch-up: growth of server RSS at its peak",
        "catch-up",
        "/rss_growth",
        mib,
    );
    fact(
        "catch-up: p99 of a live reader beside it",
        "catch-up",
        "/live_latency/p99_us",
        duration,
    );
    fact(
        "history: page of 50 in the large room, p50",
        "history",
        "/large/p50_us",
        duration,
    );
    fact(
        "history: page of 50 in the small room, p50",
        "history",
        "/small/p50_us",
        duration,
    );
    fact(
        "history: page of 50 in the large room, p99",
        "history",
        "/large/p99_us",
        duration,
    );
    fact(
        "history: page of 50 in the small room, p99",
        "history",
        "/small/p99_us",
        duration,
    );
    if !facts.is_empty() {
        out.push_str(&format!("\n| stack | |\n| --- | ---: |\n{facts}"));
    }
    out
}

/// A number with three significant digits, thousands set apart.
pub(crate) fn figure(number: f64) -> String {
    if number.abs() < 100.0 {
        let digits = if number.abs() < 1.0 {
            3
        } else if number.abs() < 10.0 {
            2
        } else {
            1
        };
        let text = format!("{number:.digits$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let plain = format!("{number:.0}");
    let digits: Vec<char> = plain.chars().collect();
    let mut out = String::new();
    for (index, digit) in digits.iter().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(*digit);
    }
    out
}

/// Microseconds, in the unit that reads best.
pub(crate) fn duration(us: f64) -> String {
    if us < 1000.0 {
        format!("{us:.0} µs")
    } else if us < 1e6 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missed_is_told_with_its_profile() {
        let line = |what: &str, scenario, wanted| Line {
            what: what.into(),
            value: Some(1.0),
            unit: "×",
            wanted,
            cases: vec![(scenario, Subject::Gateway)],
        };
        let lines = [
            line("a", "cold", Wanted::AtLeast(2.0)),
            line("b", "hot", Wanted::AtLeast(0.5)),
            line("c", "cold", Wanted::AtMost(0.5)),
            line("d", "idle", Wanted::AtMost(0.5)),
        ];
        let folder = std::env::temp_dir().join(format!("bench-profiles-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("cold.md"), "Five system calls.\n").unwrap();
        fs::write(folder.join("hot.md"), "Nobody asks.\n").unwrap();
        let text = why(&lines, &folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(
            text.unwrap(),
            "\n### What is missed, and why\n\n**a; c.** Five system calls.\n\n**d.** Not profiled yet.\n"
        );
        assert_eq!(why(&lines[1..2], &folder).unwrap(), "");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(figure(0.0), "0");
        assert_eq!(figure(0.7), "0.7");
        assert_eq!(figure(1.15), "1.15");
        assert_eq!(figure(20.0), "20");
        assert_eq!(figure(28.44), "28.4");
        assert_eq!(figure(4096.0), "4,096");
        assert_eq!(figure(3_353_606.4), "3,353,606");
        assert_eq!(duration(950.0), "950 µs");
        assert_eq!(duration(12_340.0), "12.3 ms");
    }
}
