//! Text in XML 1.0: its characters are fewer than those of Unicode, and what is not among them cannot even be escaped.

/// Text for an element's content: sequences that command a terminal are taken out, bytes that are no UTF-8 are replaced,
/// characters that XML does not have are left out, and its own signs are entities.
pub(super) fn content(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut xml = String::with_capacity(text.len() + text.len() / 8);
    for letter in without_ansi(&text).chars().filter(|letter| is_xml(*letter)) {
        match letter {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // Otherwise a reader makes a newline of it.
            '\r' => xml.push_str("&#13;"),
            other => xml.push(other),
        }
    }
    xml
}

/// Text for an attribute in double quotes: white space stays what it is.
pub(super) fn attribute(bytes: &[u8]) -> String {
    content(bytes).replace('"', "&quot;").replace('\n', "&#10;").replace('\t', "&#9;")
}

/// `Char` of XML 1.0, section 2.2; the control characters that it discourages are left out too.
fn is_xml(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\r' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// The text without the escape sequences of terminals (ECMA-48): CSI, and the strings that ST or BEL ends.
fn without_ansi(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\x1b' => match letters.next() {
                Some('[') => skip_csi(&mut letters),
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut letters),
                // Intermediate bytes, then the final one.
                Some(' '..='/') => while letters.next_if(|letter| matches!(letter, ' '..='/')).is_some() {},
                _ => {}
            },
            '\u{9b}' => skip_csi(&mut letters),
            other => kept.push(other),
        }
    }
    kept
}

type Letters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn skip_csi(letters: &mut Letters<'_>) {
    while letters.next_if(|letter| matches!(letter, ' '..='?')).is_some() {}
    letters.next_if(|letter| matches!(letter, '@'..='~'));
}

/// To its end, or to that of the line: output that was cut off does not take the rest with it.
fn skip_string(letters: &mut Letters<'_>) {
    while let Some(letter) = letters.next_if(|letter| *letter != '\n') {
        if letter == '\x07' || (letter == '\x1b' && letters.next_if_eq(&'\\').is_some()) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_does_not_have_is_left_out_and_colours_too() {
        let hostile =
            "\x1b[1;31mred\x1b[0m \x1b]0;title\x07<b>&\0\u{fffe}\u{1}é\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n";
        assert_eq!(content(hostile.as_bytes()), "red &lt;b&gt;&amp;élink\n");
        assert_eq!(content(b"a\xff\r]]>"), "a\u{fffd}&#13;]]&gt;");
        assert_eq!(attribute(b"\"a\nb\tc\""), "&quot;a&#10;b&#9;c&quot;");
        assert_eq!(content(b"\x1b]0;never ended\nnext"), "\nnext");
    }
}
