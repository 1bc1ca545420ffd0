//! Slack's text: what it puts into angle brackets, and its three escapes. The rest is what people wrote, and stays.

use super::people::People;

/// The text as it was read.
pub(super) fn plain(text: &str, people: &People) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        unescape(&rest[..at], &mut out);
        rest = &rest[at + 1..];
        let Some(end) = rest.find('>') else {
            // Slack escapes what people write, so that this is not its own.
            out.push('<');
            break;
        };
        marked(&rest[..end], people, &mut out);
        rest = &rest[end + 1..];
    }
    unescape(rest, &mut out);
    out
}

fn marked(inner: &str, people: &People, out: &mut String) {
    let (target, label) = match inner.split_once('|') {
        Some((target, label)) => (target, Some(label).filter(|label| !label.is_empty())),
        None => (inner, None),
    };
    if let Some(user) = target.strip_prefix('@') {
        out.push('@');
        unescape(label.unwrap_or_else(|| people.name_of(user)), out);
    } else if let Some(channel) = target.strip_prefix('#') {
        out.push('#');
        unescape(label.unwrap_or_else(|| people.channel(channel)), out);
    } else if let Some(command) = target.strip_prefix('!') {
        match label {
            // Groups and dates say what is to be shown.
            Some(label) => unescape(label, out),
            None => {
                out.push('@');
                unescape(command.split('^').next().unwrap_or(command), out);
            }
        }
    } else {
        let bare = |link: &str| {
            let link = link.strip_prefix("mailto:").unwrap_or(link);
            let link = link.strip_prefix("https://").unwrap_or(link);
            let link = link.strip_prefix("http://").unwrap_or(link);
            link.trim_end_matches('/').to_owned()
        };
        match label {
            Some(label) if bare(label) != bare(target) => {
                unescape(label, out);
                out.push_str(" (");
                unescape(target, out);
                out.push(')');
            }
            _ => unescape(target.strip_prefix("mailto:").unwrap_or(target), out),
        }
    }
}

fn unescape(text: &str, out: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let escapes = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];
        match escapes.iter().find(|(escape, _)| rest.starts_with(escape)) {
            Some((escape, char)) => {
                out.push(*char);
                rest = &rest[escape.len()..];
            }
            None => {
                out.push('&');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
}

/// A reaction's name as an emoji, where it is one of the common ones; else between colons, as people know it.
pub(super) fn emoji(name: &str) -> String {
    let (bare, tone) = match name.split_once("::") {
        Some((bare, tone)) => (bare, tone_of(tone)),
        None => (name, None),
    };
    match EMOJI.iter().find(|(known, _)| *known == bare) {
        Some((_, emoji)) => format!("{emoji}{}", tone.unwrap_or_default()),
        None => {
            let sane = |char: &char| !char.is_control() && !char.is_whitespace();
            let name: String = bare.chars().filter(sane).take(60).collect();
            let mut emoji = format!(":{name}:");
            if emoji.len() > 64 {
                emoji = ":custom:".to_owned();
            }
            emoji
        }
    }
}

fn tone_of(tone: &str) -> Option<&'static str> {
    Some(match tone {
        "skin-tone-2" => "\u{1f3fb}",
        "skin-tone-3" => "\u{1f3fc}",
        "skin-tone-4" => "\u{1f3fd}",
        "skin-tone-5" => "\u{1f3fe}",
        "skin-tone-6" => "\u{1f3ff}",
        _ => return None,
    })
}

const EMOJI: [(&str, &str); 44] = [
    ("+1", "👍"),
    ("thumbsup", "👍"),
    ("-1", "👎"),
    ("thumbsdown", "👎"),
    ("heart", "❤️"),
    ("blue_heart", "💙"),
    ("green_heart", "💚"),
    ("yellow_heart", "💛"),
    ("purple_heart", "💜"),
    ("broken_heart", "💔"),
    ("joy", "😂"),
    ("rolling_on_the_floor_laughing", "🤣"),
    ("smile", "😄"),
    ("grinning", "😀"),
    ("slightly_smiling_face", "🙂"),
    ("wink", "😉"),
    ("blush", "😊"),
    ("heart_eyes", "😍"),
    ("thinking_face", "🤔"),
    ("cry", "😢"),
    ("sob", "😭"),
    ("sweat_smile", "😅"),
    ("open_mouth", "😮"),
    ("scream", "😱"),
    ("rage", "😡"),
    ("clap", "👏"),
    ("raised_hands", "🙌"),
    ("pray", "🙏"),
    ("wave", "👋"),
    ("ok_hand", "👌"),
    ("muscle", "💪"),
    ("point_up", "☝️"),
    ("eyes", "👀"),
    ("fire", "🔥"),
    ("tada", "🎉"),
    ("rocket", "🚀"),
    ("100", "💯"),
    ("white_check_mark", "✅"),
    ("heavy_check_mark", "✔️"),
    ("x", "❌"),
    ("warning", "⚠️"),
    ("bulb", "💡"),
    ("star", "⭐"),
    ("heavy_plus_sign", "➕"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::command::slack::records::User;

    fn people() -> People {
        let users: Vec<User> =
            serde_json::from_str(r#"[{"id":"U1","name":"ada"},{"id":"U2"}]"#).unwrap();
        let channels = HashMap::from([("C1".to_owned(), "general".to_owned())]);
        People::new(users, channels)
    }

    #[test]
    fn text_reads_as_it_did_in_slack() {
        let people = people();
        for (from, to) in [
            (
                "hello &amp; welcome, 1 &lt; 2 &gt; 0",
                "hello & welcome, 1 < 2 > 0",
            ),
            ("&amp;lt; stays", "&lt; stays"),
            ("<@U1> and <@U9> and <@U9|grace>", "@ada and @U9 and @grace"),
            ("in <#C1|general> and <#C1>", "in #general and #general"),
            (
                "<!here> <!subteam^S1|@ops> <!date^1^{date}|yesterday>",
                "@here @ops yesterday",
            ),
            (
                "<https://a.example/?q=1&amp;r=2>",
                "https://a.example/?q=1&r=2",
            ),
            (
                "<https://a.example|the docs>",
                "the docs (https://a.example)",
            ),
            ("<http://a.example|a.example>", "http://a.example"),
            ("<mailto:ada@a.example|ada@a.example>", "ada@a.example"),
            ("a < b and <never closed", "a < b and <never closed"),
            ("& alone", "& alone"),
            ("", ""),
        ] {
            assert_eq!(plain(from, &people), to, "{from}");
        }
    }

    #[test]
    fn reactions_are_emoji_or_keep_their_names() {
        assert_eq!(emoji("+1"), "👍");
        assert_eq!(emoji("+1::skin-tone-3"), "👍\u{1f3fc}");
        assert_eq!(emoji("our_parrot"), ":our_parrot:");
        assert!(emoji(&"ü".repeat(100)).len() <= 64);
    }
}
