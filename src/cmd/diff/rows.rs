//! What of a change set is shown: a row for every path but the directories that other rows imply, as git has it.

use crate::model::EntryKind;
use crate::model::change::{ChangeSet, ChangedPath, Side};

use super::paths::Filter;

/// One path that is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    pub(super) path: &'a [u8],
    /// What stood there, without a directory that what was in it implies.
    pub(super) before: Option<Side>,
    /// What will stand there, likewise.
    pub(super) after: Option<Side>,
}

impl Row<'_> {
    /// git's letter for what happens: added, deleted, another type, modified.
    pub(super) fn letter(&self) -> u8 {
        match (self.before, self.after) {
            (None, _) => b'A',
            (_, None) => b'D',
            (Some(before), Some(after)) if before.kind != after.kind => b'T',
            _ => b'M',
        }
    }

    /// The path; a slash marks a directory.
    pub(super) fn name(&self) -> Vec<u8> {
        let is_directory = |side: &Option<Side>| side.is_none_or(|side| side.kind == EntryKind::Directory);
        let slash: &[u8] = if is_directory(&self.before) && is_directory(&self.after) { b"/" } else { b"" };
        [self.path, slash].concat()
    }

    /// Whether the content is the same, as far as its hash tells.
    pub(super) fn has_same_content(&self) -> bool {
        match (self.before, self.after) {
            (Some(before), Some(after)) => {
                before.kind == after.kind
                    && (!has_content(before) || before.digest.is_some_and(|digest| after.digest == Some(digest)))
            }
            _ => false,
        }
    }
}

/// Whether there is something to show line by line: a file's content, or a link's target.
pub(super) fn has_content(side: Side) -> bool {
    matches!(side.kind, EntryKind::File | EntryKind::Symlink)
}

/// The rows that a filter lets through, in the order of the set.
pub(super) fn rows<'a>(changes: &'a ChangeSet, filter: &Filter) -> Vec<Row<'a>> {
    let shown = changes.paths.iter().filter(|changed| filter.lets_through(&changed.path.0));
    shown.filter_map(|changed| row(changes, changed)).collect()
}

fn row<'a>(changes: &ChangeSet, changed: &'a ChangedPath) -> Option<Row<'a>> {
    let is_directory = |side: &Side| side.kind == EntryKind::Directory;
    let (mut before, mut after) = (changed.before, changed.after);
    let stays_directory = before.as_ref().is_some_and(is_directory) && after.as_ref().is_some_and(is_directory);
    if !stays_directory {
        before = before.filter(|side| !is_directory(side) || !any_below(changes, changed, |one| one.before.is_some()));
        after = after.filter(|side| !is_directory(side) || !any_below(changes, changed, |one| one.after.is_some()));
    }
    (before.is_some() || after.is_some()).then_some(Row { path: &changed.path.0, before, after })
}

/// Whether a change below this path says that it is, or was, a directory.
fn any_below(changes: &ChangeSet, changed: &ChangedPath, says: impl Fn(&ChangedPath) -> bool) -> bool {
    let inside = [&changed.path.0[..], b"/"].concat();
    // Not the next ones: `d-x` stands between `d` and `d/x`.
    let first = changes.paths.partition_point(|one| one.path.0 < inside);
    changes.paths[first..].iter().take_while(|one| one.path.0.starts_with(&inside)).any(says)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::ChangeKind;
    use crate::model::{Digest, Text};

    fn changed(path: &str, before: Option<EntryKind>, after: Option<EntryKind>) -> ChangedPath {
        let side = |kind| Side { kind, mode: 0o755, digest: Some(Digest::OF_NOTHING), size: 0 };
        let change = match (before, after) {
            (None, _) => ChangeKind::Created,
            (_, None) => ChangeKind::Deleted,
            _ => ChangeKind::Modified,
        };
        ChangedPath { change, path: Text::from(path), before: before.map(side), after: after.map(side) }
    }

    #[test]
    fn a_directory_is_shown_only_where_nothing_in_it_says_so() {
        use EntryKind::{Directory as D, File as F};
        let set = ChangeSet {
            paths: vec![
                changed("becomes-dir", Some(F), Some(D)),
                changed("becomes-dir/f", None, Some(F)),
                changed("becomes-file", Some(D), Some(F)),
                changed("becomes-file/f", Some(F), None),
                changed("empty", None, Some(D)),
                changed("gone", Some(D), None),
                changed("gone-too", Some(D), None),
                changed("gone/f", Some(F), None),
                changed("mode", Some(D), Some(D)),
                changed("mode/f", None, Some(F)),
                changed("was-empty", Some(D), Some(F)),
            ],
        };
        let shown: Vec<String> = rows(&set, &Filter::default())
            .iter()
            .map(|row| format!("{} {}", char::from(row.letter()), String::from_utf8_lossy(&row.name())))
            .collect();
        let expected = [
            "D becomes-dir",
            "A becomes-dir/f",
            "A becomes-file",
            "D becomes-file/f",
            "A empty/",
            "D gone-too/",
            "D gone/f",
            "M mode/",
            "A mode/f",
            "T was-empty",
        ];
        assert_eq!(shown, expected);
    }
}
