//! What backups are called: `stack-20261121T094212.123Z.redb`, by when they were begun, with `.age` behind it when they
//! are enciphered. Nothing else in a folder or bucket is ever taken for one.

use std::fmt;
use std::str::FromStr;

use stack_types::Timestamp;

use crate::command::{date, days_until};

const FRONT: &str = "stack-";
const PLAIN: &str = ".redb";
const SEALED: &str = ".redb.age";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The name of a backup. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// When it was begun.
    pub(crate) at: Timestamp,
    /// Whether it is enciphered.
    pub(crate) sealed: bool,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, time) = (self.at.0 / DAY_MS, self.at.0 % DAY_MS);
        let (year, month, day) = date(day);
        let (seconds, millis) = (time / 1000, time % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let behind = if self.sealed { SEALED } else { PLAIN };
        write!(
            f,
            "{FRONT}{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{millis:03}Z{behind}"
        )
    }
}

/// It is the name of something else.
#[derive(Debug)]
pub(crate) struct OtherName;

impl FromStr for Name {
    type Err = OtherName;

    fn from_str(text: &str) -> Result<Self, OtherName> {
        let rest = text.strip_prefix(FRONT).ok_or(OtherName)?;
        let (time, sealed) = match rest.strip_suffix(SEALED) {
            Some(time) => (time, true),
            None => (rest.strip_suffix(PLAIN).ok_or(OtherName)?, false),
        };
        let number = |from: usize, to: usize| {
            let digits = time.get(from..to).ok_or(OtherName)?;
            digits.parse::<u64>().map_err(|_| OtherName)
        };
        let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
        let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
        let seconds = hour * 3600 + minute * 60 + second;
        let days = days_until(year, month, day).ok_or(OtherName)?;
        let name = Self {
            at: Timestamp(days * DAY_MS + seconds * 1000 + number(16, 19)?),
            sealed,
        };
        // Whatever else is written like it comes back otherwise.
        match name.to_string() == text {
            true => Ok(name),
            false => Err(OtherName),
        }
    }
}

/// Which of the backups go when so many stay: the oldest, and never the one that was just made, whatever clocks said.
pub(crate) fn to_remove(mut names: Vec<Name>, made: Name, keep: usize) -> Vec<Name> {
    names.retain(|name| *name != made);
    names.sort_by_key(|name| std::cmp::Reverse(*name));
    names.split_off(names.len().min(keep.saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_795_254_132_123);

    #[test]
    fn a_name_comes_back() {
        for sealed in [false, true] {
            for at in [Timestamp(0), AT, Timestamp(1_709_164_799_999)] {
                let name = Name { at, sealed };
                assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
            }
        }
        let name = Name {
            at: AT,
            sealed: true,
        };
        assert_eq!(name.to_string(), "stack-20261121T094212.123Z.redb.age");
    }

    #[test]
    fn what_is_called_otherwise_is_no_backup() {
        for text in [
            "",
            "stack.redb",
            "stack-.redb",
            "stack-20261121T094212.123Z.redb.part",
            "stack-20261121T094212.123Z.redb.age.part",
            "stack-20261121T094212Z.redb",
            "stack-20261321T094212.123Z.redb",
            "stack-20260230T094212.123Z.redb",
            "stack-20261121T254212.123Z.redb",
            "stack-+0261121T094212.123Z.redb",
            "stack-20261121T094212.1ö3Z.redb",
            "my-stack-20261121T094212.123Z.redb",
        ] {
            assert!(text.parse::<Name>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_oldest_go_and_never_the_one_just_made() {
        let name = |at| Name {
            at: Timestamp(at),
            sealed: at % 2 == 0,
        };
        let all: Vec<_> = [5, 1, 4, 2, 3].map(name).into();
        assert_eq!(to_remove(all.clone(), name(5), 3), [name(2), name(1)]);
        assert_eq!(to_remove(all.clone(), name(5), 9), []);
        // A clock that was set back.
        assert_eq!(to_remove(all.clone(), name(1), 1), [5, 4, 3, 2].map(name));
        assert_eq!(to_remove(all, name(1), 2), [4, 3, 2].map(name));
    }
}
