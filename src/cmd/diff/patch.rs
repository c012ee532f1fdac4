//! The changes as a patch: a unified diff with git's extended headers (git-diff(1), "Generating patch text with -p").
//!
//! What such a patch has no words for (an empty directory, a fifo, a mode beyond git's two) is a line that begins with
//! `#`, which `git apply` and `patch` pass over. A content that is not shown ends its line in ` differ`, which makes
//! `git apply` refuse the whole patch instead of applying half of it.

use std::io::{self, Write};

use super::lines::{Hunk, LineDiff};
use super::pair::{Difference, Pair};
use super::quote::{prefixed, quoted};
use super::rows::{Row, has_content};
use super::style::{Part, Style};
use crate::model::EntryKind;
use crate::model::change::Side;
use crate::model::event::kind_word;

/// Bytes of the heading after a hunk's ranges, as git has it.
const HEADING_BYTES: usize = 80;

/// A patch being written.
pub(super) struct Patch<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) style: Style,
    /// Same lines around what differs.
    pub(super) context: usize,
}

impl Patch<'_> {
    /// Writes all about one row.
    pub(super) fn row(&mut self, row: &Row<'_>, pair: &Pair) -> io::Result<()> {
        self.remarks(row)?;
        let (old, new) = (row.before.filter(|side| has_content(*side)), row.after.filter(|side| has_content(*side)));
        match (old, new) {
            (None, None) => Ok(()),
            // A path that becomes another kind of thing is removed and created, as git has it.
            (Some(before), Some(after)) if before.kind != after.kind => {
                self.section(row.path, old, None, &pair.removal())?;
                self.section(row.path, None, new, &pair.creation())
            }
            _ => self.section(row.path, old, new, &pair.difference()),
        }
    }

    /// What git's headers cannot say.
    fn remarks(&mut self, row: &Row<'_>) -> io::Result<()> {
        match (row.before, row.after) {
            (Some(before), Some(after)) if before.kind == after.kind => {
                let said_by_git = has_content(before) && is_plain(before) && is_plain(after);
                if said_by_git || before.mode == after.mode {
                    return Ok(());
                }
                self.remark(
                    row,
                    &format!("mode of {} {:04o} -> {:04o}", kind_word(after.kind), before.mode, after.mode),
                )
            }
            (before, after) => {
                for (side, what) in [(before, "deleted"), (after, "created")] {
                    if let Some(side) = side.filter(|side| !has_content(*side)) {
                        self.remark(row, &format!("{} {what}, mode {:04o}", kind_word(side.kind), side.mode))?;
                    }
                }
                match after.filter(|side| has_content(*side) && side.mode & 0o7000 != 0 && side.kind == EntryKind::File)
                {
                    Some(side) => self.remark(row, &format!("mode of file {:04o}", side.mode)),
                    None => Ok(()),
                }
            }
        }
    }

    fn remark(&mut self, row: &Row<'_>, what: &str) -> io::Result<()> {
        let line = [b"# ", what.as_bytes(), b": ", &quoted(&row.name())].concat();
        self.header(&line)
    }

    fn section(
        &mut self,
        path: &[u8],
        old: Option<Side>,
        new: Option<Side>,
        difference: &Difference<'_>,
    ) -> io::Result<()> {
        let (old_mode, new_mode) = (old.map(git_mode), new.map(git_mode));
        if matches!(difference, Difference::None) && old_mode == new_mode {
            return Ok(());
        }
        let (a, b) = (prefixed(b"a/", path), prefixed(b"b/", path));
        self.header(&[b"diff --git ", &a[..], b" ", &b].concat())?;
        match (old_mode, new_mode) {
            (None, Some(mode)) => self.header(format!("new file mode {mode}").as_bytes())?,
            (Some(mode), None) => self.header(format!("deleted file mode {mode}").as_bytes())?,
            (Some(old), Some(new)) if old != new || !is_shown(difference) => {
                self.header(format!("old mode {old}").as_bytes())?;
                self.header(format!("new mode {new}").as_bytes())?;
            }
            _ => {}
        }
        let name = |side: Option<Side>, name: Vec<u8>| if side.is_some() { name } else { b"/dev/null".to_vec() };
        let (a, b) = (name(old, a), name(new, b));
        match difference {
            Difference::None => Ok(()),
            Difference::Binary => self.plain(&[b"Binary files ", &a[..], b" and ", &b, b" differ"].concat()),
            Difference::Unshown(why) => {
                self.plain(&[b"Files ", &a[..], b" and ", &b, b" (", why.as_bytes(), b") differ"].concat())
            }
            Difference::Lines(lines) => {
                self.header(&[b"--- ", &a[..], tab_after(path, old)].concat())?;
                self.header(&[b"+++ ", &b[..], tab_after(path, new)].concat())?;
                self.hunks(lines)
            }
        }
    }

    fn hunks(&mut self, lines: &LineDiff<'_>) -> io::Result<()> {
        let (mut above, mut seen) = (None, 0);
        for hunk in lines.hunks(self.context) {
            above = heading(&lines.old[seen..hunk.old.start]).or(above);
            seen = hunk.old.start;
            self.hunk(lines, &hunk, above)?;
        }
        Ok(())
    }

    fn hunk(&mut self, lines: &LineDiff<'_>, hunk: &Hunk<'_>, above: Option<&[u8]>) -> io::Result<()> {
        let ranges = format!("@@ -{} +{} @@", range(&hunk.old), range(&hunk.new));
        self.style.write(self.out, Part::Hunk, ranges.as_bytes())?;
        if let Some(above) = above {
            self.style.write_text(self.out, Part::Plain, b" ", above)?;
        }
        self.out.write_all(b"\n")?;
        let mut same = hunk.old.start;
        for replacement in hunk.replacements {
            self.text(Part::Plain, b" ", &lines.old[same..replacement.old.start])?;
            self.text(Part::Removed, b"-", &lines.old[replacement.old.clone()])?;
            self.text(Part::Added, b"+", &lines.new[replacement.new.clone()])?;
            same = replacement.old.end;
        }
        self.text(Part::Plain, b" ", &lines.old[same..hunk.old.end])
    }

    fn text(&mut self, part: Part, sign: &[u8], lines: &[&[u8]]) -> io::Result<()> {
        for line in lines {
            let (text, end): (&[u8], &[u8]) = match line.strip_suffix(b"\n") {
                Some(text) => (text, b"\n"),
                None => (line, b"\n\\ No newline at end of file\n"),
            };
            self.style.write_text(self.out, part, sign, text)?;
            self.out.write_all(end)?;
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> io::Result<()> {
        self.style.write(self.out, Part::Header, line)?;
        self.out.write_all(b"\n")
    }

    fn plain(&mut self, line: &[u8]) -> io::Result<()> {
        self.out.write_all(line)?;
        self.out.write_all(b"\n")
    }
}

/// Whether the patch holds the contents. Where it does not, git's header has lines for the modes even if they are the same:
/// a header of one line would be passed over by `git apply`, and the rest of the patch applied.
fn is_shown(difference: &Difference<'_>) -> bool {
    matches!(difference, Difference::None | Difference::Lines(_))
}

/// The modes git knows (`canon_mode` in git's `cache.h`).
fn git_mode(side: Side) -> &'static str {
    match side.kind {
        EntryKind::Symlink => "120000",
        _ if side.mode & 0o100 != 0 => "100755",
        _ => "100644",
    }
}

/// Whether git's mode says all about this one.
fn is_plain(side: Side) -> bool {
    side.kind == EntryKind::Symlink || matches!(side.mode, 0o644 | 0o755)
}

/// git ends a name that holds a space in a tab, so that `patch` does not take what follows for a time stamp.
fn tab_after(path: &[u8], side: Option<Side>) -> &'static [u8] {
    if side.is_some() && path.contains(&b' ') { b"\t" } else { b"" }
}

/// Lines counted from 1; an empty range names the line before it.
fn range(lines: &std::ops::Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => (lines.start + 1).to_string(),
        count => format!("{},{count}", lines.start + 1),
    }
}

/// The nearest line above that looks like a function's first (git's default, `def_ff` in `xdiff/xemit.c`).
fn heading<'a>(above: &[&'a [u8]]) -> Option<&'a [u8]> {
    let is_first = |line: &&&[u8]| line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_$".contains(byte));
    let line = above.iter().rev().find(is_first)?;
    Some(line[..line.len().min(HEADING_BYTES)].trim_ascii_end())
}
