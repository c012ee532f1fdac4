//! One line, or one JSON object, per path: for scripts.

use std::io::{self, Write};

use serde::Serialize;

use super::lines::Counts;
use super::pair::Pair;
use super::quote::quoted;
use super::rows::Row;
use crate::model::change::ChangedPath;

/// How names stand in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A line each, quoted as git does where they could be misread.
    Lines,
    /// Their own bytes, each followed by a NUL (`-z`).
    Nul,
}

impl Names {
    fn end(self, out: &mut dyn Write, name: &[u8]) -> io::Result<()> {
        match self {
            Self::Lines => {
                out.write_all(&quoted(name))?;
                out.write_all(b"\n")
            }
            Self::Nul => {
                out.write_all(name)?;
                out.write_all(b"\0")
            }
        }
    }
}

/// `--name-only`.
pub(super) fn name(row: &Row<'_>, names: Names, out: &mut dyn Write) -> io::Result<()> {
    names.end(out, &row.name())
}

/// `--name-status`: git's letter, and the name.
pub(super) fn status(row: &Row<'_>, names: Names, out: &mut dyn Write) -> io::Result<()> {
    let after: u8 = match names {
        Names::Lines => b'\t',
        Names::Nul => 0,
    };
    out.write_all(&[row.letter(), after])?;
    names.end(out, &row.name())
}

/// `--numstat`: lines added and removed, `-` where they cannot be counted, and the name.
pub(super) fn numbers(row: &Row<'_>, pair: &Pair, names: Names, out: &mut dyn Write) -> io::Result<()> {
    match pair.difference().counts() {
        Some(Counts { added, removed }) => write!(out, "{added}\t{removed}\t")?,
        None => out.write_all(b"-\t-\t")?,
    }
    names.end(out, &row.name())
}

/// One element of `--json`.
#[derive(Debug, Serialize)]
struct Element<'a> {
    #[serde(flatten)]
    changed: &'a ChangedPath,
    /// Lines; null where they cannot be counted.
    added: Option<u64>,
    removed: Option<u64>,
}

/// An array being written.
pub(super) struct Array {
    before_next: &'static [u8],
}

impl Array {
    pub(super) fn begin() -> Self {
        Self { before_next: b"[\n" }
    }

    pub(super) fn add(&mut self, changed: &ChangedPath, counts: Option<Counts>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(std::mem::replace(&mut self.before_next, b",\n"))?;
        let (added, removed) = (counts.map(|counts| counts.added), counts.map(|counts| counts.removed));
        serde_json::to_writer(out, &Element { changed, added, removed }).map_err(io::Error::from)
    }

    pub(super) fn finish(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(if self.before_next == b"[\n" { b"[]\n" } else { b"\n]\n" })
    }
}
