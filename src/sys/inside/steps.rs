//! The steps of a plan, performed top to bottom.

use std::path::Path;

use super::init::Birth;
use super::plan::{Entered, FailedStep, Step};
use super::renames::Helper;
use super::{capabilities, confine, mounts, namespaces, renames};

/// Performs the steps in their order. Renames are served by `helper`, or by a process that is started for it.
pub(super) fn perform(
    steps: &[Step],
    birth: Birth,
    entered: &mut Entered,
    helper: Option<&Helper>,
) -> Result<(), FailedStep> {
    let mounting = steps.iter().position(Step::mounts).unwrap_or(steps.len());
    let (before, from_here) = steps.split_at(mounting);
    for step in before {
        alone(step, birth, entered, helper)?;
    }
    let held = from_here.iter().map(mounts::hold).collect::<Result<Vec<_>, _>>()?;
    for (step, held) in from_here.iter().zip(held) {
        if step.mounts() { mounts::perform(step, held)? } else { alone(step, birth, entered, helper)? }
    }
    Ok(())
}

/// A step that mounts nothing of a view.
fn alone(step: &Step, birth: Birth, entered: &mut Entered, helper: Option<&Helper>) -> Result<(), FailedStep> {
    match step {
        Step::UserNamespace { uid, gid } => namespaces::enter_user(*uid, *gid, birth),
        Step::MountNamespace => namespaces::enter_mount(birth),
        Step::NetworkNamespace => namespaces::enter_network(birth),
        Step::PidNamespace => namespaces::enter_pid(birth).map(|()| entered.pids = true),
        Step::Enter { directory } => enter(directory.as_path()),
        Step::Confine { writable } => {
            entered.landlock_abi = Some(confine::confine(writable)?);
            Ok(())
        }
        Step::ServeRenames => {
            entered.renames = match helper {
                Some(helper) => helper.serve()?,
                None => renames::serve()?,
            };
            Ok(())
        }
        Step::DropAdmin => capabilities::drop_admin(),
        Step::Overlay(_)
        | Step::OverlayInMemory { .. }
        | Step::Bind(_)
        | Step::Mask { .. }
        | Step::MakeDirectory { .. }
        | Step::MakeFile { .. } => mounts::perform(step, mounts::hold(step)?),
    }
}

fn enter(directory: &Path) -> Result<(), FailedStep> {
    std::env::set_current_dir(directory).map_err(FailedStep::io("working directory", directory))
}
