//! The plan that undoes an applied one: the same moves backwards, refused where somebody has touched the result.

use std::collections::BTreeMap;

use crate::model::Text;
use crate::sys::walk::{self, ObjectKind};

use super::attributes::Attributes;
use super::directories::Beneath;
use super::error::{ApplyError, Trouble, unreachable};
use super::finish::directories;
use super::parents::Parent;
use super::passage::Passage;
use super::plan::{Action, Operation, Plan};
use super::seen::Seen;

/// What undoes a plan that was applied, as long as what it displaced is still there. It is checked and applied like any
/// other, and its own reverse is the plan again.
///
/// Directories get their old times back, unless somebody else has changed them since.
pub fn reverse(plan: &Plan) -> Result<Plan, ApplyError> {
    let times = times(plan)?;
    let now = |path: &[u8]| times.get(path).copied();
    let parents = plan.parents.iter().map(|parent| reversed_parent(parent, now(parent.bytes())));
    let operations = plan.operations.iter().map(|Operation { path, action }| {
        let action = match action {
            Action::Place { staged, after } => Action::Remove { before: moved(after), aside: staged.clone() },
            Action::Replace { staged, before, after } => {
                Action::Replace { staged: staged.clone(), before: moved(after), after: moved(before) }
            }
            Action::Remove { before, aside } => Action::Place { staged: aside.clone(), after: moved(before) },
            Action::Adjust { before, after } if after.kind == ObjectKind::Directory => {
                let theirs = after.mtime.is_some() && after.mtime != now(path.as_bytes());
                let mtime = before.mtime.filter(|_| !theirs);
                Action::Adjust { before: after.clone(), after: Attributes { mtime, ..before.clone() } }
            }
            // A time that was left alone is the one it had: what it must still be.
            Action::Adjust { before, after } => {
                let mtime = after.mtime.or(before.mtime);
                Action::Adjust { before: Attributes { mtime, ..after.clone() }, after: before.clone() }
            }
        };
        Operation { path: path.clone(), action }
    });
    Ok(Plan { root: plan.root.clone(), operations: operations.collect(), parents: parents.collect() })
}

/// The present times of a plan's directories, by path.
type Times<'a> = BTreeMap<&'a [u8], (i64, u32)>;

fn times(plan: &Plan) -> Result<Times<'_>, ApplyError> {
    let mut live = Beneath::new(plan.open_root()?, &plan.parents);
    let mut passage = Passage::default();
    let looked = look_at(plan, &mut live, &mut passage);
    let closed = passage.close(&mut live);
    let times = looked?;
    closed.map_err(|source| Trouble::Io("cannot put back a mode below", source).of(&plan.root.0))?;
    Ok(times)
}

fn look_at<'a>(plan: &'a Plan, live: &mut Beneath<'_>, passage: &mut Passage) -> Result<Times<'a>, ApplyError> {
    let mut times = Times::new();
    let mut conflicts = Vec::new();
    for directory in directories(plan) {
        let looked = live.at(directory.path).and_then(|handle| {
            let stat = walk::stat_of(handle)?;
            passage.open(directory.path, handle).map(|()| stat.mtime)
        });
        match looked.map_err(unreachable) {
            Ok(mtime) => drop(times.insert(directory.path, mtime)),
            Err(Trouble::Conflict) => conflicts.push(Text(directory.path.to_vec())),
            Err(trouble) => return Err(trouble.of(directory.path)),
        }
    }
    if conflicts.is_empty() { Ok(times) } else { Err(ApplyError::Conflict { paths: conflicts, kept: Vec::new() }) }
}

/// An object after a rename: its ctime is another.
fn moved(seen: &Seen) -> Seen {
    Seen { ctime: None, content: None, ..seen.clone() }
}

fn reversed_parent(parent: &Parent, now: Option<(i64, u32)>) -> Parent {
    let theirs = parent.after.is_some() && parent.after != now;
    let before = now.unwrap_or(parent.before);
    Parent { before, after: (!theirs).then_some(parent.before), ..parent.clone() }
}
