//! How a patch looks: colours as git users know them, and bytes as whoever reads them needs them.

use std::io::{self, Write};

use crate::cmd::render::{Paint, escape_line};

/// Who reads the lines of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A program, which must have the exact bytes.
    Program,
    /// A terminal, which must not obey them.
    Terminal,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour or not.
    pub paint: Paint,
    /// Who reads it.
    pub reader: Reader,
}

/// What a part of the answer is; the colours are git's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Header,
    Hunk,
    Removed,
    Added,
    Plain,
}

impl Part {
    fn code(self) -> &'static [u8] {
        match self {
            Self::Header => b"\x1b[1m",
            Self::Hunk => b"\x1b[36m",
            Self::Removed => b"\x1b[31m",
            Self::Added => b"\x1b[32m",
            Self::Plain => b"",
        }
    }
}

impl Style {
    /// Writes bytes that hold nothing a terminal obeys.
    pub(super) fn write(self, out: &mut dyn Write, part: Part, bytes: &[u8]) -> io::Result<()> {
        if self.paint == Paint::Plain || part == Part::Plain || bytes.is_empty() {
            return out.write_all(bytes);
        }
        out.write_all(part.code())?;
        out.write_all(bytes)?;
        out.write_all(b"\x1b[m")
    }

    /// Writes a line (without its newline) of somebody's text after its sign.
    pub(super) fn write_text(self, out: &mut dyn Write, part: Part, sign: &[u8], text: &[u8]) -> io::Result<()> {
        match self.reader {
            Reader::Program => self.write(out, part, &[sign, text].concat()),
            Reader::Terminal => self.write(out, part, &[sign, self.spelled_out(text).as_bytes()].concat()),
        }
    }

    fn spelled_out(self, text: &[u8]) -> String {
        match self.paint {
            Paint::Plain => escape_line(text, ("", "")),
            // In reverse, as `less` shows what it does not obey.
            Paint::Colour => escape_line(text, ("\x1b[7m", "\x1b[27m")),
        }
    }
}
