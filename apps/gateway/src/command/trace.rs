//! Where a message is, as people read it: what is known of it in lines, then a table of people, one of connections and
//! one of those that have closed.

use std::io::{self, Write};

use serde_json::Value;
use stack_types::Timestamp;

use super::table::{Table, left, right};
use super::text;

/// Writes the answer of the gateway.
pub(super) fn write(found: &Value, out: &mut impl Write) -> io::Result<()> {
    let seq = number(&found["message"]["seq"]);
    for line in about(found) {
        writeln!(out, "{}", text::shown(&line))?;
    }
    let list = |name: &str| {
        found[name]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    writeln!(out)?;
    let mut people = Table::new([
        left("USER"),
        left("ROLE"),
        right("READ"),
        right("CONNECTIONS"),
        left("LAST SEEN"),
        left("WHAT BECAME OF IT"),
    ]);
    people.write(out, list("people").iter().map(person))?;
    more(found, "people", "people", out)?;
    if !list("connections").is_empty() {
        writeln!(out)?;
        let mut connections = Table::new([
            left("CONNECTION"),
            left("USER"),
            left("SESSION"),
            left("FROM"),
            left("WHERE IT STANDS"),
            left("DEVICE"),
        ]);
        let rows = list("connections").iter();
        connections.write(out, rows.map(|row| connection(row, seq)))?;
        more(found, "connections", "connections", out)?;
    }
    if !list("closed").is_empty() {
        writeln!(out)?;
        let mut closed = Table::new([
            left("NO LONGER"),
            left("USER"),
            left("SESSION"),
            left("ENDED"),
            left("HOW"),
            left("WHAT IT HAD"),
        ]);
        closed.write(out, list("closed").iter().map(ended))?;
        more(found, "closed", "that have ended", out)?;
    }
    Ok(())
}

fn more(found: &Value, name: &str, of: &str, out: &mut impl Write) -> io::Result<()> {
    match number(&found["not_listed"][name]) {
        0 => Ok(()),
        more => writeln!(out, "and {more} more {of}; --user shows one person's"),
    }
}

/// What is known of the message itself.
fn about(found: &Value) -> Vec<String> {
    let (room, message, commit) = (&found["room"], &found["message"], &found["commit"]);
    let id = string(&room["id"]);
    let seq = number(&message["seq"]);
    let mut lines = Vec::new();
    if message["state"] == "dropped" {
        let first = number(&room["first"]);
        lines.push(format!(
            "{id} {seq} is dropped: the room keeps events from {first} on"
        ));
    } else {
        let redacted = match message["state"] == "redacted" {
            true => ", redacted since",
            false => "",
        };
        lines.push(format!(
            "{id} {seq}: {} of {}, {} bytes{redacted}",
            string(&message["type"]),
            user(&message["sender"]),
            number(&message["bytes"]),
        ));
        lines.push(format!("in the log   {}", at(&message["ts"])));
    }
    if commit.is_null() {
        lines.push(format!(
            "how it went out is not remembered: memory reaches back to {} at best",
            at(&found["remembered_since"])
        ));
    } else {
        let (first, last) = (number(&commit["first"]), number(&commit["last"]));
        let together = match first == last {
            true => String::new(),
            false => format!(", together with {first} to {last}"),
        };
        lines.push(format!(
            "committed    {}{together}",
            at(&commit["committed_at"])
        ));
        lines.push(format!(
            "published    {} later",
            later(&commit["published_us"])
        ));
        lines.push(format!(
            "handed out   {} later, to {}; {} fell behind",
            later(&commit["handed_us"]),
            several(number(&commit["readers"]), "live reader"),
            number(&commit["fell_behind"]),
        ));
    }
    lines
}

fn person(row: &Value) -> [String; 6] {
    let (connections, of_room) = (number(&row["connections"]), number(&row["subscriptions"]));
    let arrived = match string(&row["arrival"]) {
        "sent" => "they have sent it".to_owned(),
        "read" => "read: their marker is at it or behind it".to_owned(),
        "handed" => "handed over to a socket of theirs, not marked as read".to_owned(),
        "at_edge" => "handed out by an edge, which knows how far it is".to_owned(),
        "on_its_way" => "its turn has not come yet".to_owned(),
        "behind" => "their connection is behind, and not there yet".to_owned(),
        "missed" => "their connection ended before it was handed over".to_owned(),
        "later" => "their subscription begins behind it".to_owned(),
        "not_subscribed" => "connected, and not subscribed to this room".to_owned(),
        "away" => "no connection".to_owned(),
        "not_theirs" => format!(
            "not for them: history is theirs from {} on",
            number(&row["first"])
        ),
        "not_in_room" => "not in this room".to_owned(),
        other => other.to_owned(),
    };
    [
        user(&row["user"]),
        row["role"].as_str().unwrap_or("-").to_owned(),
        number(&row["read_seq"]).to_string(),
        format!("{of_room} of {connections}"),
        match row["last_seen_at"].as_u64() {
            _ if connections > 0 => "now".to_owned(),
            Some(at) => text::utc(Timestamp(at)),
            None => "-".to_owned(),
        },
        arrived,
    ]
}

fn connection(row: &Value, seq: u64) -> [String; 6] {
    let by = &row["connection"];
    let cursor = number(&row["cursor"]);
    let since = |name: &str| at(&row[name]);
    let mut stands = match string(&row["state"]) {
        "handed" => "handed over".to_owned(),
        "on_its_way" => format!("live, has {cursor}"),
        "behind" => format!(
            "behind: has {cursor}, {} to go, reads from the log since {}",
            several(seq.saturating_sub(cursor), "event"),
            since("behind_since")
        ),
        "later" => format!(
            "begins behind {}, subscribed {}",
            number(&row["from"]),
            since("subscribed_at")
        ),
        "at_edge" => format!(
            "at an edge, from {} on, since {}",
            number(&row["from"]) + 1,
            since("subscribed_at")
        ),
        other => other.to_owned(),
    };
    let waiting = number(&row["waiting_bytes"]);
    if waiting > 0 {
        stands.push_str(&format!("; its socket has yet to take {waiting} bytes"));
    }
    [
        or_none(&by["id"]),
        user(&row["user"]),
        or_none(&by["session"]),
        from(by),
        stands,
        or_none(&by["device"]),
    ]
}

fn ended(row: &Value) -> [String; 6] {
    let by = &row["connection"];
    let ending = &row["ending"];
    let code = |ending: &Value| match ending["code"].as_u64() {
        Some(code) => code.to_string(),
        None => "no code".to_owned(),
    };
    let how = match (row["reason"].as_str(), string(&ending["by"])) {
        (Some(reason), _) => format!("unsubscribed: {reason}"),
        (None, "server") => format!(
            "closed here: {} {}",
            code(ending),
            string(&ending["reason"])
        ),
        (None, "client") => format!("closed by its client: {}", code(ending)),
        (None, "nobody") => "broken off, or silent for too long".to_owned(),
        (None, _) if row["is_open"] == true => "unsubscribed, still connected".to_owned(),
        (None, _) => "not remembered".to_owned(),
    };
    let had = match string(&row["state"]) {
        "handed" => "it was handed over".to_owned(),
        "missed" => format!("not this one: it had {}", number(&row["cursor"])),
        "before" => "it ended before the commit".to_owned(),
        "later" => format!("it began behind {}", number(&row["from"])),
        "at_edge" => "an edge knows".to_owned(),
        other => other.to_owned(),
    };
    [
        or_none(&by["id"]),
        user(&row["user"]),
        or_none(&by["session"]),
        at(&row["ended_at"]),
        how,
        had,
    ]
}

/// From where it is connected: an address, or a way that has none.
fn from(by: &Value) -> String {
    let ip = by["ip"].as_str();
    match by["way"].as_str() {
        Some("local") => "local socket".to_owned(),
        Some("edge") => format!("{} by an edge", ip.unwrap_or("-")),
        _ => ip.unwrap_or("-").to_owned(),
    }
}

fn user(named: &Value) -> String {
    let name = named["username"].as_str().or_else(|| named["id"].as_str());
    name.unwrap_or("-").to_owned()
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn or_none(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A time to the millisecond.
fn at(value: &Value) -> String {
    let at = number(value);
    let seconds = text::utc(Timestamp(at));
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at % 1000)
}

/// Microseconds as milliseconds.
fn later(value: &Value) -> String {
    let us = number(value);
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

fn several(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}
