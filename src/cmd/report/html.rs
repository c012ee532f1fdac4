//! Text as HTML shows it and does not obey it. Everything that a run could choose goes through here: first what a
//! terminal would obey is spelled out (controls, bytes that are no UTF-8, characters that turn the direction of the text
//! around them), then it is cut, then what HTML would obey is written as entities.

use crate::cmd::render::escape;
use crate::model::Text;

/// Characters of a name.
pub(super) const NAME: usize = 64;
/// Characters of a message or a command.
pub(super) const SENTENCE: usize = 240;

/// The first characters of the bytes, spelled out; `…` for what was cut. No HTML yet.
pub(super) fn plain(bytes: &[u8], most: usize) -> String {
    // Not all of ten kilobytes need to be spelled out to be cut: a character has four bytes at most.
    let bytes = &bytes[..bytes.len().min(most * 4 + 4)];
    let shown = escape(bytes);
    match shown.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &shown[..at]),
        None => shown,
    }
}

/// The same as HTML.
pub(super) fn text(bytes: &[u8], most: usize) -> String {
    entities(&plain(bytes, most))
}

/// A name as HTML.
pub(super) fn name(name: &Text) -> String {
    text(&name.0, NAME)
}

/// A sentence as HTML.
pub(super) fn sentence(words: &str) -> String {
    text(words.as_bytes(), SENTENCE)
}

/// What HTML would obey, as entities: good in text and in quoted attributes.
pub(super) fn entities(text: &str) -> String {
    let mut html = String::with_capacity(text.len() + text.len() / 8);
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_html_or_a_reader_would_obey_is_left() {
        let hostile = "</script>\"'&\0\u{202e}\u{1b}[31m".as_bytes();
        assert_eq!(text(hostile, 100), "&lt;/script&gt;&quot;&#39;&amp;\\x00\\u{202e}\\x1b[31m");
        assert_eq!(text(b"\xff\xfe", 100), "\\xff\\xfe");
        let long = text(&b"x".repeat(10_000), NAME);
        assert_eq!((long.chars().count(), long.ends_with('…')), (NAME + 1, true));
        assert!(text("é".repeat(5000).as_bytes(), 10).starts_with("éééééééééé…"));
    }
}
