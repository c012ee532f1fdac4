//! Bytes of unknown origin as text that a terminal shows and does not obey.

use std::fmt::Write as _;

use crate::model::Text;

/// The bytes as printable text: what is UTF-8 and visible stays; controls (C0, DEL, C1), line separators and
/// characters that change the direction of the text around them become `\n`, `\t`, `\xNN` or `\u{NNNN}`; so do bytes
/// that are not UTF-8; a backslash is doubled, so that the bytes can be told from the result.
pub fn escape(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            push_escaped(&mut shown, letter);
        }
        for byte in chunk.invalid() {
            push_hex(&mut shown, *byte);
        }
    }
    shown
}

/// One line of a text as a terminal shows it and does not obey it: as [`escape()`], but for tabs and backslashes, which
/// stay as they are. `marks` stand around what was spelled out, so that it can be told from text that reads the same.
pub fn escape_line(line: &[u8], marks: (&str, &str)) -> String {
    let mut shown = String::with_capacity(line.len());
    let spell_out = |shown: &mut String, push: &dyn Fn(&mut String)| {
        shown.push_str(marks.0);
        push(shown);
        shown.push_str(marks.1);
    };
    for chunk in line.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\t' | '\\' => shown.push(letter),
                hidden if is_unsafe(hidden) => spell_out(&mut shown, &|shown| push_escaped(shown, hidden)),
                visible => shown.push(visible),
            }
        }
        for byte in chunk.invalid() {
            spell_out(&mut shown, &|shown| push_hex(shown, *byte));
        }
    }
    shown
}

fn push_escaped(shown: &mut String, letter: char) {
    match letter {
        '\n' => shown.push_str("\\n"),
        '\t' => shown.push_str("\\t"),
        '\\' => shown.push_str("\\\\"),
        '\0'..='\x1f' | '\x7f' => push_hex(shown, letter as u8),
        // Writing to a String cannot fail.
        hidden if is_unsafe(hidden) => _ = write!(shown, "\\u{{{:x}}}", u32::from(hidden)),
        visible => shown.push(visible),
    }
}

fn push_hex(shown: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    _ = write!(shown, "\\x{byte:02x}");
}

/// Controls, separators of lines, and the directional characters of UAX #9 (the "Trojan Source" set), which can make
/// a name read as another.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The argument vector as one line that `bash`, `zsh` and `ksh` read back as the same arguments: plain words as they
/// are, others in single quotes, those that a terminal could obey as `$'…'`.
pub fn shell_quote(arguments: &[Text]) -> String {
    let words: Vec<String> = arguments.iter().map(|argument| quote_word(&argument.0)).collect();
    words.join(" ")
}

fn quote_word(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(is_unsafe) => {
            if is_plain(text) {
                text.to_owned()
            } else {
                format!("'{}'", text.replace('\'', "'\\''"))
            }
        }
        _ => ansi_c_quote(bytes),
    }
}

fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

fn ansi_c_quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("$'");
    for chunk in bytes.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\n' => quoted.push_str("\\n"),
                '\t' => quoted.push_str("\\t"),
                '\\' | '\'' => quoted.extend(['\\', letter]),
                // Byte by byte: `\u` would mean another thing in another locale.
                hidden if is_unsafe(hidden) => {
                    hidden.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_octal(&mut quoted, byte));
                }
                visible => quoted.push(visible),
            }
        }
        chunk.invalid().iter().for_each(|byte| push_octal(&mut quoted, *byte));
    }
    quoted.push('\'');
    quoted
}

/// Three octal digits end by themselves; `\x1bc` would swallow the `c` in some shells.
fn push_octal(quoted: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    _ = write!(quoted, "\\{byte:03o}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_visible_stays_and_what_a_terminal_obeys_is_spelled_out() {
        assert_eq!(escape("plain naïve 日本 🦀".as_bytes()), "plain naïve 日本 🦀");
        assert_eq!(escape(b"a\nb\tc\x1b[31m\x7f\\"), "a\\nb\\tc\\x1b[31m\\x7f\\\\");
        assert_eq!(escape(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(escape("\u{9b}31m\u{202e}gpj.exe\u{2066}".as_bytes()), "\\u{9b}31m\\u{202e}gpj.exe\\u{2066}");
    }

    #[test]
    fn a_line_of_text_keeps_its_tabs_and_backslashes_and_has_the_rest_marked() {
        assert_eq!(escape_line(b"\ta\\b\x1b[31m\r", ("", "")), "\ta\\b\\x1b[31m\\x0d");
        assert_eq!(escape_line("\u{202e}x\u{9b}".as_bytes(), ("<", ">")), "<\\u{202e}>x<\\u{9b}>");
        assert_eq!(escape_line(b"\xff", ("<", ">")), "<\\xff>");
    }

    #[test]
    fn quoting_is_as_light_as_the_word_allows() {
        let quoted = |words: &[&[u8]]| shell_quote(&words.iter().map(|word| Text(word.to_vec())).collect::<Vec<_>>());
        assert_eq!(quoted(&[b"python3", b"-m", b"a.b", b"--x=1"]), "python3 -m a.b --x=1");
        assert_eq!(quoted(&[b"", b"two words", b"it's"]), "'' 'two words' 'it'\\''s'");
        assert_eq!(quoted(&[b"a\nb", b"\x1bc\xff"]), "$'a\\nb' $'\\033c\\377'");
    }

    fn obeyed(text: &str) -> bool {
        text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || text.chars().any(is_unsafe)
    }

    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[\\x00-\\x7f\u{80}-\u{9f}\u{200e}\u{200f}\u{2028}-\u{202e}\u{2066}-\u{2069}'\\\\]{0,30}"
                .prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_reach_the_terminal_as_a_control(bytes in hostile()) {
            prop_assert!(!obeyed(&escape(&bytes)));
            prop_assert!(!obeyed(&escape_line(&bytes, ("", "")).replace('\t', "")));
            prop_assert!(!obeyed(&shell_quote(&[Text(bytes)])));
        }

        #[test]
        fn different_bytes_look_different(one in hostile(), other in hostile()) {
            prop_assert_eq!(one == other, escape(&one) == escape(&other));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn bash_reads_the_quoted_words_back_as_they_were(bytes in hostile()) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| *byte != 0).collect();
            let script = format!("printf %s {}", shell_quote(&[Text(bytes.clone())]));
            let Ok(read) = std::process::Command::new("bash").arg("-c").arg(script).output() else { return Ok(()) };
            prop_assert_eq!(read.stdout, bytes);
        }
    }
}
