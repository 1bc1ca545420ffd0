//! Durations as people write them: `90s`, `1h30m`, `2d`.

use std::time::Duration;

/// The units, the longest first, in seconds.
const UNITS: [(char, u64); 5] = [
    ('w', 7 * 24 * 3600),
    ('d', 24 * 3600),
    ('h', 3600),
    ('m', 60),
    ('s', 1),
];

/// A text is no duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a duration such as 90s, 15m, 1h30m or 2d")]
pub struct InvalidDuration;

/// Reads a duration: numbers with the units `w`, `d`, `h`, `m` and `s`, each at most once, the longer first.
///
/// # Errors
/// It is none, or longer than can be counted.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let mut units = UNITS.iter();
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .ok_or(InvalidDuration)?;
        let count: u64 = rest[..digits].parse().map_err(|_| InvalidDuration)?;
        let unit = rest[digits..].chars().next().ok_or(InvalidDuration)?;
        // Going on from the unit before: none comes twice, and none behind a shorter one.
        let (_, length) = units
            .find(|(name, _)| *name == unit)
            .ok_or(InvalidDuration)?;
        seconds = count
            .checked_mul(*length)
            .and_then(|part| seconds.checked_add(part))
            .ok_or(InvalidDuration)?;
        rest = &rest[digits + unit.len_utf8()..];
    }
    if text.is_empty() {
        return Err(InvalidDuration);
    }
    Ok(Duration::from_secs(seconds))
}

/// A duration in whole seconds as [`parse_duration`] reads it, with blanks between the parts: `1h 30m`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    // Weeks are for those who write; days are read more easily.
    for (name, length) in &UNITS[1..] {
        if rest >= *length {
            parts.push(format!("{}{name}", rest / length));
            rest %= length;
        }
    }
    if parts.is_empty() {
        return "0s".to_owned();
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("1h30m", 5400),
            ("2d", 172_800),
            ("1w1d1h1m1s", 694_861),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "5x",
            "5m5m",
            "5s1h",
            "1.5h",
            "5 m",
            "ä",
            "5ä",
            "99999999999999999999s",
            "18446744073709551615w",
            "١s",
        ] {
            assert_eq!(parse_duration(text), Err(InvalidDuration), "{text}");
        }
    }

    #[test]
    fn durations_are_shown_in_parts() {
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h 30m");
        assert_eq!(format_duration(Duration::from_secs(694_861)), "8d 1h 1m 1s");
        assert_eq!(format_duration(Duration::from_millis(400)), "0s");
    }
}
