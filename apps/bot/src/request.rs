//! Takes a message apart that may be a command.

use std::time::Duration;

use stack_daemon::parse_duration;

/// Something that the bot is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// `help`
    Help,
    /// `remind <duration> <text>`
    Remind(Result<Remind<'a>, &'static str>),
    /// Anything else: a program of the configuration, if it has one of that name.
    Run(Run<'a>),
}

/// What to remind of, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remind<'a> {
    /// How long from the message on.
    pub(crate) after: Duration,
    /// Of what.
    pub(crate) text: &'a str,
}

/// Which program to run, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run<'a> {
    /// The command's name.
    pub(crate) name: &'a str,
    /// Its words. There are no quotes: what stands between blanks is a word.
    pub(crate) words: Vec<&'a str>,
}

/// How a reminder is asked for.
pub(crate) const REMIND_USAGE: &str = "remind <duration> <text>, such as: remind 1h30m Tea";

/// The names that programs cannot have.
pub(crate) const BUILT_IN: [&str; 2] = ["help", "remind"];

impl<'a> Request<'a> {
    /// Reads a message; `None` when it is not meant for the bot.
    pub(crate) fn parse(prefix: &str, body: &'a str) -> Option<Self> {
        let line = body.strip_prefix(prefix)?;
        // A name stands right behind the prefix, or it is something like "! wow".
        let name_end = line.find(char::is_whitespace).unwrap_or(line.len());
        let (name, rest) = line.split_at(name_end);
        if !is_name(name) {
            return None;
        }
        Some(match name {
            "help" => Self::Help,
            "remind" => Self::Remind(parse_remind(rest.trim())),
            _ => Self::Run(Run {
                name,
                words: rest.split_whitespace().collect(),
            }),
        })
    }
}

/// Whether a command can be called that.
pub(crate) fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&name.len())
        && name.bytes().next().is_some_and(letter)
        && name
            .bytes()
            .all(|byte| letter(byte) || byte == b'-' || byte == b'_')
}

fn parse_remind(rest: &str) -> Result<Remind<'_>, &'static str> {
    let (duration, text) = rest
        .split_once(char::is_whitespace)
        .ok_or("Say when, and of what")?;
    let after =
        parse_duration(duration).map_err(|_| "Say when as a duration, such as 90s, 1h30m or 2d")?;
    Ok(Remind {
        after,
        text: text.trim_start(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_at_the_beginning() {
        for body in [
            "",
            "hello",
            " !help",
            "!",
            "! help",
            "!!",
            "!Help",
            "?help",
            "!ä",
            "say !help",
        ] {
            assert_eq!(Request::parse("!", body), None, "{body}");
        }
        assert_eq!(Request::parse("!", "!help"), Some(Request::Help));
        assert_eq!(Request::parse("!", "!help me\n"), Some(Request::Help));
        assert_eq!(Request::parse("bot: ", "bot: help"), Some(Request::Help));
    }

    #[test]
    fn words_stand_between_blanks() {
        let run = |body| match Request::parse("!", body) {
            Some(Request::Run(run)) => (run.name, run.words),
            other => panic!("{other:?}"),
        };
        assert_eq!(run("!ping"), ("ping", vec![]));
        assert_eq!(
            run("!ping  a\t\"b c\" $(d)\n"),
            ("ping", vec!["a", "\"b", "c\"", "$(d)"])
        );
    }

    #[test]
    fn reminders_have_a_time_and_a_text() {
        let remind = |body| match Request::parse("!", body) {
            Some(Request::Remind(remind)) => remind,
            other => panic!("{other:?}"),
        };
        let tea = Remind {
            after: Duration::from_secs(300),
            text: "the tea  is ready",
        };
        assert_eq!(remind("!remind 5m the tea  is ready "), Ok(tea));
        for body in [
            "!remind",
            "!remind 5m",
            "!remind 5m  ",
            "!remind tea 5m",
            "!remind -5m tea",
        ] {
            assert!(remind(body).is_err(), "{body}");
        }
    }
}
