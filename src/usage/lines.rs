//! What an agent prints, cut into lines and into documents that span several: for readers that want to see each once, as it
//! comes. Memory is bounded; a line that is longer than what is kept is passed over, and that is said.

use memchr::memchr;

/// Longest line, and longest document, that is looked at.
const MOST_BYTES: usize = 8 << 20;

/// Something that an agent printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A line, without its end.
    Line(&'a [u8]),
    /// A JSON document over several lines: from one that is `{` alone to one that is `}` alone.
    Document(&'a [u8]),
}

/// One stream.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    /// That line is too long.
    too_long: bool,
    document: Option<Vec<u8>>,
    /// Whether anything was passed over.
    lost: bool,
}

impl Lines {
    /// Takes the next bytes and shows every piece that is complete.
    pub(super) fn take(&mut self, mut bytes: &[u8], show: &mut dyn FnMut(Piece<'_>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.begun.is_empty() && !self.too_long {
                self.line(&bytes[..end], show);
            } else {
                self.go_on(&bytes[..end]);
                self.end_line(show);
            }
            bytes = &bytes[end + 1..];
        }
        self.go_on(bytes);
    }

    /// The end of the stream: a last line needs no newline.
    pub(super) fn finish(&mut self, show: &mut dyn FnMut(Piece<'_>)) {
        if !self.begun.is_empty() {
            self.end_line(show);
        }
    }

    /// Whether a line or document was too long to be looked at.
    pub(super) fn lost_some(&self) -> bool {
        self.lost
    }

    fn go_on(&mut self, bytes: &[u8]) {
        if self.begun.len() + bytes.len() > MOST_BYTES {
            (self.too_long, self.lost) = (true, true);
            self.begun = Vec::new();
        } else if !self.too_long {
            self.begun.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, show: &mut dyn FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.too_long) {
            self.document = None;
            return;
        }
        let mut begun = std::mem::take(&mut self.begun);
        self.line(&begun, show);
        begun.clear();
        self.begun = begun;
    }

    fn line(&mut self, line: &[u8], show: &mut dyn FnMut(Piece<'_>)) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line == b"{" {
            self.document = Some(Vec::new());
        }
        // Inside a document that somebody writes over several lines every line is indented.
        let goes_on = matches!(line.first(), None | Some(b' ' | b'\t')) || line == b"{" || line == b"}";
        if !goes_on {
            self.document = None;
        }
        if let Some(document) = &mut self.document {
            document.extend_from_slice(line);
            document.push(b'\n');
            if document.len() > MOST_BYTES {
                (self.document, self.lost) = (None, true);
            } else if line == b"}" {
                show(Piece::Document(document));
                self.document = None;
            }
            return;
        }
        show(Piece::Line(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(chunks: &[&[u8]]) -> (Vec<String>, bool) {
        let mut lines = Lines::default();
        let mut seen = Vec::new();
        let mut show = |piece: Piece<'_>| {
            seen.push(match piece {
                Piece::Line(line) => String::from_utf8_lossy(line).into_owned(),
                Piece::Document(bytes) => format!("document of {}", bytes.len()),
            });
        };
        for chunk in chunks {
            lines.take(chunk, &mut show);
        }
        lines.finish(&mut show);
        let lost = lines.lost_some();
        (seen, lost)
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        let whole = b"one\r\n\ntwo\n{\n  \"a\": 1\n}\nlast";
        let expected = ["one", "", "two", "document of 13", "last"];
        assert_eq!(pieces(&[whole]).0, expected);
        for cut in 0..whole.len() {
            assert_eq!(pieces(&[&whole[..cut], &whole[cut..]]).0, expected, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = whole.chunks(1).collect();
        assert_eq!(pieces(&bytes).0, expected);
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_is_kept_and_the_next_is_seen() {
        let chunk = vec![b'x'; 1 << 20];
        let mut chunks: Vec<&[u8]> = vec![&chunk; 20];
        chunks.push(b"\nshort\n");
        assert_eq!(pieces(&chunks), (vec!["short".to_owned()], true));
    }
}
