//! The plan that undoes an applied one: the same moves backwards, refused where somebody has touched the result.

use crate::model::Text;
use crate::sys::walk::{self, ObjectKind};

use super::attributes::Attributes;
use super::directories::Beneath;
use super::error::{ApplyError, Trouble, unreachable};
use super::parents::Parent;
use super::plan::{Action, Operation, Plan};
use super::seen::Seen;

/// What undoes a plan that was applied, as long as what it displaced is still there. It is checked and applied like any
/// other, and its own reverse is the plan again.
///
/// Directories get their old times back, unless somebody else has changed them since.
pub fn reverse(plan: &Plan) -> Result<Plan, ApplyError> {
    let mut live = Beneath::new(plan.open_root()?, &plan.parents);
    let mut conflicts = Vec::new();
    let mut parents = Vec::with_capacity(plan.parents.len());
    for parent in &plan.parents {
        match time_of(&mut live, parent.bytes()) {
            Ok(now) => parents.push(reversed_parent(parent, now)),
            Err(Trouble::Conflict) => conflicts.push(Text(parent.bytes().to_vec())),
            Err(trouble) => return Err(trouble.of(parent.bytes())),
        }
    }
    let mut operations = Vec::with_capacity(plan.operations.len());
    for Operation { path, action } in &plan.operations {
        let action = match action {
            Action::Place { staged, after } => Action::Remove { before: moved(after), aside: staged.clone() },
            Action::Replace { staged, before, after } => {
                Action::Replace { staged: staged.clone(), before: moved(after), after: moved(before) }
            }
            Action::Remove { before, aside } => Action::Place { staged: aside.clone(), after: moved(before) },
            Action::Adjust { before, after } if after.kind == ObjectKind::Directory => {
                match time_of(&mut live, path.as_bytes()) {
                    Ok(now) => {
                        let theirs = after.mtime.is_some_and(|mtime| mtime != now);
                        let mtime = before.mtime.filter(|_| !theirs);
                        Action::Adjust { before: after.clone(), after: Attributes { mtime, ..before.clone() } }
                    }
                    Err(Trouble::Conflict) => {
                        conflicts.push(Text(path.as_bytes().to_vec()));
                        continue;
                    }
                    Err(trouble) => return Err(trouble.of(path.as_bytes())),
                }
            }
            // A time that was left alone is the one it had: what it must still be.
            Action::Adjust { before, after } => {
                let mtime = after.mtime.or(before.mtime);
                Action::Adjust { before: Attributes { mtime, ..after.clone() }, after: before.clone() }
            }
        };
        operations.push(Operation { path: path.clone(), action });
    }
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflict { paths: conflicts, kept: Vec::new() });
    }
    Ok(Plan { root: plan.root.clone(), operations, parents })
}

/// An object after a rename: its ctime is another.
fn moved(seen: &Seen) -> Seen {
    Seen { ctime: None, content: None, ..seen.clone() }
}

fn time_of(live: &mut Beneath<'_>, dir: &[u8]) -> Result<(i64, u32), Trouble> {
    let stat = live.at(dir).and_then(walk::stat_of).map_err(unreachable)?;
    Ok(stat.mtime)
}

fn reversed_parent(parent: &Parent, now: (i64, u32)) -> Parent {
    let theirs = parent.after.is_some_and(|after| after != now);
    Parent { before: now, after: (!theirs).then_some(parent.before), ..parent.clone() }
}
