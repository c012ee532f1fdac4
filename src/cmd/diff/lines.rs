//! Two contents line by line: what is the same, and what is not.

use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput};

/// A NUL within this many bytes makes a content binary, as it does for git (`buffer_is_binary` in `xdiff-interface.c`).
const FIRST_BYTES: usize = 8000;

/// Whether a content is shown as lines.
pub(super) fn is_binary(content: &[u8]) -> bool {
    content[..content.len().min(FIRST_BYTES)].contains(&0)
}

/// Lines of both sides that stand in each other's place; one of the two ranges may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replacement {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

/// Two contents, compared. A line holds its newline; the last one may have none.
#[derive(Debug)]
pub(super) struct LineDiff<'a> {
    pub(super) old: Vec<&'a [u8]>,
    pub(super) new: Vec<&'a [u8]>,
    pub(super) replacements: Vec<Replacement>,
}

impl<'a> LineDiff<'a> {
    /// Compares two contents.
    pub(super) fn of(old: &'a [u8], new: &'a [u8]) -> Self {
        let (old, new) = (lines(old), lines(new));
        let replacements = replacements(&old, &new);
        Self { old, new, replacements }
    }

    /// Lines added and removed.
    pub(super) fn counts(&self) -> Counts {
        let count = |counts: Counts, one: &Replacement| Counts {
            added: counts.added + one.new.len() as u64,
            removed: counts.removed + one.old.len() as u64,
        };
        self.replacements.iter().fold(Counts::default(), count)
    }

    /// The replacements in groups that are shown together: at most twice `context` same lines lie between them.
    pub(super) fn hunks(&self, context: usize) -> Vec<Hunk<'_>> {
        let mut hunks: Vec<Range<usize>> = Vec::new();
        for (at, replacement) in self.replacements.iter().enumerate() {
            match hunks.last_mut() {
                Some(open)
                    if replacement.old.start - self.replacements[open.end - 1].old.end <= context.saturating_mul(2) =>
                {
                    open.end = at + 1;
                }
                _ => hunks.push(at..at + 1),
            }
        }
        hunks.into_iter().map(|group| self.hunk(&self.replacements[group], context)).collect()
    }

    fn hunk<'h>(&self, replacements: &'h [Replacement], context: usize) -> Hunk<'h> {
        let span = |side: fn(&Replacement) -> &Range<usize>, total: usize| {
            let (first, last) = (replacements.first().map(side), replacements.last().map(side));
            let start = first.map_or(0, |range| range.start.saturating_sub(context));
            start..last.map_or(0, |range| range.end.saturating_add(context).min(total))
        };
        Hunk { old: span(|one| &one.old, self.old.len()), new: span(|one| &one.new, self.new.len()), replacements }
    }
}

/// Replacements and the same lines around them.
#[derive(Debug)]
pub(super) struct Hunk<'a> {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
    pub(super) replacements: &'a [Replacement],
}

/// Lines added and removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) added: u64,
    pub(super) removed: u64,
}

fn lines(content: &[u8]) -> Vec<&[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').collect()
}

/// As git compares them: the same algorithm, and the same taste in where a change begins that could begin in several places.
fn replacements(old: &[&[u8]], new: &[&[u8]]) -> Vec<Replacement> {
    let mut input = InternedInput::default();
    input.reserve(lines_count(old), lines_count(new));
    input.update_before(old.iter().copied());
    input.update_after(new.iter().copied());
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_lines(&input);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    diff.hunks().map(|hunk| Replacement { old: range(hunk.before), new: range(hunk.after) }).collect()
}

fn lines_count(lines: &[&[u8]]) -> u32 {
    u32::try_from(lines.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacements_are_shown_together_where_their_context_touches() {
        let old: Vec<String> = (0..30).map(|line| format!("{line}\n")).collect();
        let mut new = old.clone();
        new[2] = "two\n".into();
        new[9] = "nine\n".into();
        new.remove(20);
        let (old, new) = (old.concat(), new.concat());
        let diff = LineDiff::of(old.as_bytes(), new.as_bytes());
        assert_eq!(diff.counts(), Counts { added: 2, removed: 3 });
        let ranges = |context| -> Vec<(Range<usize>, Range<usize>)> {
            diff.hunks(context).into_iter().map(|hunk| (hunk.old, hunk.new)).collect()
        };
        assert_eq!(ranges(3), [(0..13, 0..13), (17..24, 17..23)]);
        assert_eq!(ranges(0), [(2..3, 2..3), (9..10, 9..10), (20..21, 20..20)]);
        assert_eq!(ranges(usize::MAX), [(0..30, 0..29)]);
    }

    #[test]
    fn a_last_line_without_newline_is_another_line() {
        assert_eq!(LineDiff::of(b"a\nb", b"a\nb\n").counts(), Counts { added: 1, removed: 1 });
        assert_eq!(LineDiff::of(b"", b"").counts(), Counts::default());
        assert_eq!(LineDiff::of(b"", b"a\nb").counts(), Counts { added: 2, removed: 0 });
    }
}
