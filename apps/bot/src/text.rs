//! Makes what a program has written fit to be said in a room.

/// What stands in place of what was cut off.
const CUT: &str = "\n… (cut off)";
/// What a program without output says.
const NOTHING: &str = "(no output)";

/// The text of some output: UTF-8 whatever it was, without colours and other control characters, without what turns the
/// direction of writing around, and without blanks at its ends. When it was cut off, or is longer than `limit` bytes, it
/// says so and is not longer than that and the note.
pub(crate) fn presentable(output: &[u8], limit: usize, mut cut: bool) -> String {
    let mut text = plain(&String::from_utf8_lossy(output));
    text.truncate(text.trim_end().len());
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit));
        cut = true;
    }
    if text.trim_start().is_empty() {
        NOTHING.clone_into(&mut text);
    }
    if cut {
        text.push_str(CUT);
    }
    text
}

/// Takes out escape sequences and control characters; of the latter the ends of lines stay, and tabs.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => {
                // ESC [ … letter; of other sequences only the escape is known.
                if letters.next_if_eq(&'[').is_some() {
                    while letters
                        .next_if(|letter| ('\u{20}'..='\u{3f}').contains(letter))
                        .is_some()
                    {}
                    letters.next_if(|letter| ('\u{40}'..='\u{7e}').contains(letter));
                }
            }
            '\r' => {
                if letters.peek() != Some(&'\n') {
                    plain.push('\n');
                }
            }
            '\n' | '\t' => plain.push(letter),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            letter if letter.is_control() => {}
            letter => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_becomes_plain_text() {
        for (output, text) in [
            (&b"hello\n"[..], "hello"),
            (b"\x1b[1;31mred\x1b[0m text", "red text"),
            (b"a\r\nb\rc", "a\nb\nc"),
            (b"bell\x07 null\x00 end", "bell null end"),
            (b"\xff\xfe broken", "\u{fffd}\u{fffd} broken"),
            ("right\u{202e}left".as_bytes(), "rightleft"),
            (b"", NOTHING),
            (b" \n\x1b[2J\n", NOTHING),
            (b"  indented", "  indented"),
        ] {
            assert_eq!(presentable(output, 100, false), text);
        }
    }

    #[test]
    fn long_output_is_cut_between_letters() {
        let text = presentable("ääää".as_bytes(), 5, false);
        assert_eq!(text, format!("ää{CUT}"));
        // The pipe was cut within a letter.
        let text = presentable(&"ää".as_bytes()[..3], 5, true);
        assert_eq!(text, format!("ä\u{fffd}{CUT}"));
        assert_eq!(presentable(b"12345", 5, false), "12345");
    }
}
