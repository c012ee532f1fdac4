//! `Plan`: what is to be done, in full, so that another process can complete it.

use std::cmp::Ordering;
use std::os::fd::OwnedFd;

use crate::model::{RelPath, Text};
use crate::sys::beneath;
use crate::sys::walk::ObjectKind;

use super::attributes::Attributes;
use super::error::{ApplyError, Trouble};
use super::parents::{self, Parent};
use super::seen::Seen;

/// Many operations below one root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The root, absolute.
    pub root: Text,
    /// What changes; sorted by path, a directory before what is in it.
    pub operations: Vec<Operation>,
    /// The directories that the plan changes names in, as they were when it was made; sorted the same way.
    pub parents: Vec<Parent>,
}

/// One path changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Below the root.
    pub path: RelPath,
    /// How.
    pub action: Action,
}

/// How a path changes. Staged and put-aside paths are absolute, in directories of the run's own on the root's mount.
///
/// A new, replaced or removed directory is one operation with everything in it: no other operation may lie below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing stood there: the staged object, of any kind, a whole tree too, moves there.
    Place {
        /// Where it is until then.
        staged: Text,
        /// The staged object.
        after: Seen,
    },
    /// Something stood there, of whatever kind: the two change places. What is displaced stays at `staged`.
    Replace {
        /// Where the new object is until then, and the old one from then on.
        staged: Text,
        /// What stood there.
        before: Seen,
        /// The staged object.
        after: Seen,
    },
    /// What stood there, a whole tree too, moves to `aside` and stays there.
    Remove {
        /// What stood there.
        before: Seen,
        /// Where nothing is yet.
        aside: Text,
    },
    /// An object that stays gets other metadata in place.
    Adjust {
        /// What it has.
        before: Attributes,
        /// What it gets.
        after: Attributes,
    },
}

impl Plan {
    /// Sorts the operations and looks at the directories they change names in.
    pub fn new(root: Text, mut operations: Vec<Operation>) -> Result<Self, ApplyError> {
        operations.sort_by(|left, right| path_order(left.path.as_bytes(), right.path.as_bytes()));
        let mut plan = Self { root, operations, parents: Vec::new() };
        plan.judge()?;
        plan.parents = parents::look_at(&plan)?;
        Ok(plan)
    }

    /// Opens the root.
    pub(super) fn open_root(&self) -> Result<OwnedFd, ApplyError> {
        beneath::open_handle(&self.root.0).map_err(|error| Trouble::Io("cannot open", error).of(&self.root.0))
    }

    /// Whether the plan can be carried out by the rules of [`Action`].
    pub(super) fn judge(&self) -> Result<(), ApplyError> {
        let unsound = |why, path: &Text| Err(ApplyError::Unsound { why, path: path.clone() });
        if !self.root.0.starts_with(b"/") {
            return unsound("the root is not absolute", &self.root);
        }
        let mut covering: Option<&[u8]> = None;
        let mut previous: &[u8] = b"";
        for Operation { path, action } in &self.operations {
            let (bytes, name) = (path.as_bytes(), &Text(path.as_bytes().to_vec()));
            if path_order(previous, bytes) != Ordering::Less {
                return unsound("two operations on one path, or out of order", name);
            }
            if covering.is_some_and(|above| bytes.starts_with(above) && bytes.get(above.len()) == Some(&b'/')) {
                return unsound("an operation below one that moves its directory", name);
            }
            match action {
                Action::Adjust { before, after } if !before.is_object_of(after) => {
                    return unsound("an adjustment of one object into another", name);
                }
                Action::Replace { before, after, .. } if before.ino == after.ino => {
                    return unsound("an object in place of itself", name);
                }
                Action::Adjust { .. } => {}
                _ => covering = Some(bytes),
            }
            if let Some(place) = action.place()
                && !is_place(&place.0)
            {
                return unsound("a staged path that is not absolute or names nothing", place);
            }
            previous = bytes;
        }
        Ok(())
    }
}

/// Whether bytes are an absolute path that ends in a name.
fn is_place(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(b"");
    path.starts_with(b"/") && !path.contains(&0) && !matches!(name, b"" | b"." | b"..")
}

impl Action {
    /// Where the staged object is, or the removed one will be.
    pub(super) fn place(&self) -> Option<&Text> {
        match self {
            Self::Place { staged, .. } | Self::Replace { staged, .. } => Some(staged),
            Self::Remove { aside, .. } => Some(aside),
            Self::Adjust { .. } => None,
        }
    }

    /// The metadata change of a directory: carried out after everything below it.
    pub(super) fn directory_adjustment(&self) -> Option<(&Attributes, &Attributes)> {
        match self {
            Self::Adjust { before, after } if before.kind == ObjectKind::Directory => Some((before, after)),
            _ => None,
        }
    }
}

/// Byte order, with the slash before everything else: what is in a directory follows it directly.
pub(super) fn path_order(left: &[u8], right: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    left.iter().map(rank).cmp(right.iter().map(rank))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_directory_follows_it_directly() {
        let mut paths = ["a-b", "a", "a/z", "a/b", "a/b/c", "a!", "b"];
        paths.sort_by(|left, right| path_order(left.as_bytes(), right.as_bytes()));
        assert_eq!(paths, ["a", "a/b", "a/b/c", "a/z", "a!", "a-b", "b"]);
    }

    fn place(path: &str, staged: &str) -> Operation {
        let seen = Seen {
            ino: 1,
            kind: ObjectKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            ctime: None,
            below: None,
            content: None,
        };
        let path = RelPath::new(path.into()).expect("a path");
        Operation { path, action: Action::Place { staged: staged.into(), after: seen } }
    }

    #[test]
    fn plans_that_nobody_can_carry_out_are_refused() {
        let refused = |operations: Vec<Operation>| Plan::new("/".into(), operations).is_err();
        assert!(refused(vec![place("x", "/s/1"), place("x", "/s/2")]), "one path twice");
        assert!(refused(vec![place("x/y", "/s/1"), place("x", "/s/2")]), "below a new directory");
        assert!(refused(vec![place("x", "s/1")]), "a relative place");
        assert!(refused(vec![place("x", "/s/..")]), "a place that is no name");
        assert!(Plan::new("rel".into(), vec![]).is_err(), "a relative root");
        assert!(!refused(vec![place("x", "/s/1"), place("x-y", "/s/2")]));
    }
}
