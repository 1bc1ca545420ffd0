//! How what others have written reaches a terminal: names, titles and messages are anybody's, and a terminal obeys
//! what it is shown.

use std::fmt::Write as _;

use serde::Serialize;
use stack_types::Timestamp;

/// Whether a character does more in a terminal than stand there: controls, ANSI's among them, and what turns the
/// direction of the text around it or cannot be seen. What joins emoji stays.
fn is_unruly(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}')
}

/// The text as a person may see it, on one line.
pub fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            c if is_unruly(c) => {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// A line of JSON. What is unruly is escaped, which leaves the same JSON: it stands in strings only.
///
/// # Errors
/// The value has no JSON.
pub(super) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(tame_json(&serde_json::to_string(value)?))
}

/// JSON that is there already, as a line.
pub(super) fn tame_json(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if is_unruly(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(line, "\\u{unit:04x}");
            }
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// A time as people read it, in UTC.
pub(super) fn utc(at: Timestamp) -> String {
    const DAY_S: u64 = 24 * 60 * 60;
    let seconds = at.0 / 1000;
    let (day, time) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = date(day);
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970, by the Gregorian calendar: counted from 1 March of the year 0, so that a
/// leap day comes last.
pub(crate) fn date(days: u64) -> (u64, u64, u64) {
    const TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = days.saturating_add(TO_1970);
    let (era, of_era) = (days / ERA, days % ERA);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The day since 1970 of a date, the other way round; `None` for what is none. A day that its month has not is one of
/// the next.
pub(crate) fn days_until(year: u64, month: u64, day: u64) -> Option<u64> {
    const TO_1970: u64 = 719_468;
    const ERA: u64 = 146_097;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year.checked_sub(u64::from(month <= 2))?;
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    let of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + of_year;
    (era * ERA + of_era).checked_sub(TO_1970)
}

/// A number with its unit as people read it.
pub(super) fn amount(value: f64, unit: Option<&str>) -> String {
    const STEPS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    match unit {
        Some("bytes") if value >= 1024.0 => {
            let mut value = value / 1024.0;
            let mut steps = STEPS.iter();
            let mut step = steps.next();
            while value >= 1024.0
                && let Some(larger) = steps.next()
            {
                value /= 1024.0;
                step = Some(larger);
            }
            format!("{value:.1} {}", step.unwrap_or(&"KiB"))
        }
        Some("s") => format!("{value:.3} s"),
        Some(unit) => format!("{value} {unit}"),
        None => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        let hostile = "a\u{1b}[31mred\u{9b}2J\r\n\t\0\u{7f}\u{202e}txt.exe\u{2066}\u{200b}\u{feff}";
        let seen = shown(hostile);
        assert_eq!(
            seen,
            "a\\u{1b}[31mred\\u{9b}2J\\u{d}\\n\\t\\u{0}\\u{7f}\\u{202e}txt.exe\\u{2066}\\u{200b}\\u{feff}"
        );
        assert_eq!(shown("Ann Ängström 👩‍💻 שלום"), "Ann Ängström 👩‍💻 שלום");
    }

    #[test]
    fn json_stays_the_same_json() {
        let hostile = serde_json::json!({ "title": "x\u{1b}[2J\u{9b}\u{202e}\u{e0041}é\"\\", "n": [1, null] });
        let line = json(&hostile).unwrap();
        let (body, end) = line.split_at(line.len() - 1);
        assert_eq!(end, "\n");
        assert!(!body.chars().any(is_unruly), "{body}");
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read, hostile);
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01 00:00:00Z"),
            (951_782_399_999, "2000-02-28 23:59:59Z"),
            (951_782_400_000, "2000-02-29 00:00:00Z"),
            (1_709_164_800_000, "2024-02-29 00:00:00Z"),
            (1_735_689_599_000, "2024-12-31 23:59:59Z"),
            (1_795_243_286_000, "2026-11-21 06:41:26Z"),
            (4_107_542_400_000, "2100-03-01 00:00:00Z"),
        ] {
            assert_eq!(utc(Timestamp(ms)), text);
        }
        // Whatever a peer says is a time.
        utc(Timestamp(u64::MAX));
    }

    #[test]
    fn amounts_are_short() {
        assert_eq!(amount(3.0, None), "3");
        assert_eq!(amount(1023.0, Some("bytes")), "1023 bytes");
        assert_eq!(amount(1536.0, Some("bytes")), "1.5 KiB");
        assert_eq!(
            amount(5.0 * 1024.0 * 1024.0 * 1024.0, Some("bytes")),
            "5.0 GiB"
        );
        assert_eq!(amount(0.012_34, Some("s")), "0.012 s");
    }

    proptest! {
        #[test]
        fn whatever_is_shown_is_tame(text in any::<String>()) {
            prop_assert!(!shown(&text).chars().any(is_unruly));
            let line = json(&text).unwrap();
            prop_assert!(!line.trim_end_matches('\n').chars().any(is_unruly));
            let read: String = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
