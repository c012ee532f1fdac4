//! Applying a plan: the moves, then the metadata of what stays, then the directories, then a last look.

use rustix::io::Errno;

use crate::model::Text;
use crate::sys::crash;
use crate::sys::held::Held;

use super::adjust::adjust;
use super::error::{ApplyError, Trouble, unreachable};
use super::finish::{directories, finish, lift};
use super::hands::{Hands, Past};
use super::moves::Move;
use super::plan::{Action, Operation, Plan};
use super::take_back::take_back;

/// Every path is its new self. Not yet durable: see [`super::make_durable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Applied;

/// Applies every operation, or none. The plan has just been [checked](super::check), and its intention is durable.
///
/// After a crash within it, [`complete`] finishes; after an error it has taken back what it did, times of directories
/// included, durably.
pub fn apply(plan: &Plan) -> Result<Applied, ApplyError> {
    carry_out(plan, Past::Fresh)
}

/// Finishes a plan whose process died anywhere in [`apply`], in here, or before. People may have gone on working in the
/// tree since: what they changed after it had its new self stands, what they changed before is a conflict.
pub fn complete(plan: &Plan) -> Result<Applied, ApplyError> {
    carry_out(plan, Past::Interrupted)
}

fn carry_out(plan: &Plan, past: Past) -> Result<Applied, ApplyError> {
    plan.judge()?;
    let mut hands = match (Hands::open(plan, past), past) {
        (Ok(hands), _) => hands,
        (Err(error), Past::Fresh) => return Err(error),
        // Whatever was done of the plan is where the root went.
        (Err(error), Past::Interrupted) => return Err(unfinished(plan, error)),
    };
    match forward(plan, &mut hands) {
        Ok(()) => Ok(Applied),
        Err(cause) => Err(take_back(plan, &mut hands, cause)),
    }
}

fn unfinished(plan: &Plan, error: ApplyError) -> ApplyError {
    let source = match error {
        ApplyError::Io { source, .. } => source,
        _ => Errno::STALE.into(),
    };
    ApplyError::Mixed { path: plan.root.clone(), source }
}

fn forward(plan: &Plan, hands: &mut Hands<'_>) -> Result<(), ApplyError> {
    let directories = directories(plan);
    crash::point("apply.checked").map_err(|source| Trouble::Io("cannot work in", source).of(&plan.root.0))?;
    lift(hands, &directories)?;
    let (adjustments, moves): (Vec<_>, Vec<_>) =
        plan.operations.iter().partition(|operation| matches!(operation.action, Action::Adjust { .. }));
    for operation in moves.iter().chain(&adjustments) {
        step(hands, operation).map_err(|trouble| trouble.of(operation.path.as_bytes()))?;
    }
    finish(hands, &directories)?;
    look_again(plan, hands)?;
    crash::point("apply.applied").map_err(|source| Trouble::Io("cannot work in", source).of(&plan.root.0))
}

fn step(hands: &mut Hands<'_>, operation: &Operation) -> Result<(), Trouble> {
    if operation.action.directory_adjustment().is_some() {
        return Ok(());
    }
    crash::point("apply.step").map_err(Trouble::at("cannot change"))?;
    let live = hands.live.spot(operation.path.as_bytes()).map_err(unreachable)?;
    if let Action::Adjust { before, after } = &operation.action {
        let held = Held::open(live.0, live.1).map_err(unreachable)?;
        return adjust(&held, before, after, hands.facts.who);
    }
    let Some(place) = operation.action.place() else { return Ok(()) };
    let own = hands.places.spot(&place.0).map_err(Trouble::at("cannot reach what is staged for"))?;
    let moved = Move { live, own, facts: &hands.facts };
    match &operation.action {
        Action::Place { after, .. } => moved.place(after),
        Action::Replace { before, after, .. } => moved.replace(before, after),
        Action::Remove { before, .. } => moved.remove(before),
        Action::Adjust { .. } => Ok(()),
    }
}

/// Somebody who had a displaced object open may have written to it after it was looked at.
fn look_again(plan: &Plan, hands: &mut Hands<'_>) -> Result<(), ApplyError> {
    let mut paths = Vec::new();
    for Operation { path, action } in &plan.operations {
        let (Action::Replace { staged: place, before, .. } | Action::Remove { before, aside: place }) = action else {
            continue;
        };
        let own = hands.places.spot(&place.0);
        let still = own.and_then(|own| hands.facts.is_still(own, before));
        if !still.map_err(|source| Trouble::Io("cannot look at", source).of(path.as_bytes()))? {
            paths.push(Text(path.as_bytes().to_vec()));
        }
    }
    if paths.is_empty() { Ok(()) } else { Err(ApplyError::Conflict { paths, kept: Vec::new() }) }
}
