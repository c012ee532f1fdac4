//! `Parent`: a directory that a plan changes names in. It keeps its mode, and its time is the caller's to decide.

use crate::model::{RelPath, Text};
use crate::sys::{clock, walk};

use super::directories::{Beneath, split};
use super::error::{ApplyError, Trouble, unreachable};
use super::plan::{Action, Operation, Plan, path_order};

/// A directory in which names change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Below the root; none: the root itself.
    pub path: Option<RelPath>,
    /// Which one.
    pub ino: u64,
    /// Its permission bits; put back if they had to be lifted to rename in it.
    pub mode: u32,
    /// Its time before the plan, given back when the plan is taken back.
    pub before: (i64, u32),
    /// Its time afterwards, best effort. None: whatever the kernel makes of it.
    pub after: Option<(i64, u32)>,
}

impl Parent {
    /// The path, empty for the root.
    pub(super) fn bytes(&self) -> &[u8] {
        self.path.as_ref().map_or(b"", RelPath::as_bytes)
    }
}

/// Looks for a directory among sorted parents.
pub(super) fn find<'a>(parents: &'a [Parent], dir: &[u8]) -> Option<&'a Parent> {
    parents.binary_search_by(|parent| path_order(parent.bytes(), dir)).ok().map(|at| &parents[at])
}

/// What one who is not root must be allowed in a directory to rename in it.
pub(super) const ACCESS: u32 = 0o300;

/// The directories that a plan's operations change names in.
///
/// Afterwards their time will be the present one: a known one, so that whoever undoes the plan can tell whether
/// somebody else has changed the directory since.
pub(super) fn look_at(plan: &Plan) -> Result<Vec<Parent>, ApplyError> {
    let mut directories = Beneath::new(plan.open_root()?, &[]);
    let micros = clock::now().unix_micros();
    let nanos = u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1000;
    let after = Some((micros.div_euclid(1_000_000), nanos));
    let mut found: Vec<Parent> = Vec::new();
    let mut conflicts = Vec::new();
    let mut last: Option<&[u8]> = None;
    for Operation { path, action } in &plan.operations {
        let (dir, _) = split(path.as_bytes());
        if last == Some(dir) || matches!(action, Action::Adjust { .. }) {
            continue;
        }
        last = Some(dir);
        match directories.at(dir).and_then(walk::stat_of).map_err(unreachable) {
            Ok(stat) => found.push(Parent {
                path: RelPath::new(dir.to_vec()).ok(),
                ino: stat.ino,
                mode: stat.permissions(),
                before: stat.mtime,
                after,
            }),
            Err(Trouble::Conflict) => conflicts.push(Text(path.as_bytes().to_vec())),
            Err(trouble) => return Err(trouble.of(dir)),
        }
    }
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflict { paths: conflicts, kept: Vec::new() });
    }
    found.sort_by(|left, right| path_order(left.bytes(), right.bytes()));
    found.dedup_by(|later, earlier| later.path == earlier.path);
    Ok(found)
}
