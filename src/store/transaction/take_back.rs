//! Taking back: whatever of a plan was done is undone, last first. Every operation is asked, so that it does not matter
//! who did it, this process or one that was killed.

use std::io;

use crate::model::Text;
use crate::sys::crash;
use crate::sys::held::Held;

use super::adjust::adjust;
use super::durable::make_durable;
use super::error::{ApplyError, Trouble, is_unreachable};
use super::finish::{directories, lift, restore};
use super::hands::Hands;
use super::moves::{Move, TakenBack};
use super::plan::{Action, Operation, Plan};
use super::seen::{Seen, look};

/// Makes the tree its old self, durably. Answers with the cause; or with `Mixed` if that failed too.
pub(super) fn take_back(plan: &Plan, hands: &mut Hands<'_>, cause: ApplyError) -> ApplyError {
    hands.live.forget();
    match undo(plan, hands) {
        Ok(kept) if kept.is_empty() => cause,
        Ok(kept) => with_kept(cause, kept),
        Err(ApplyError::Io { path, source, .. }) => ApplyError::Mixed { path, source },
        Err(other) => other,
    }
}

/// That somebody's change was met while taking back is a conflict, whatever the cause of taking back was.
fn with_kept(cause: ApplyError, kept: Vec<Text>) -> ApplyError {
    let mut paths = match cause {
        ApplyError::Conflict { paths, .. } => paths,
        _ => Vec::new(),
    };
    paths.extend(kept.iter().cloned());
    paths.sort();
    paths.dedup();
    ApplyError::Conflict { paths, kept }
}

fn undo(plan: &Plan, hands: &mut Hands<'_>) -> Result<Vec<Text>, ApplyError> {
    let directories = directories(plan);
    lift(hands, &directories)?;
    let mut kept = Vec::new();
    for operation in plan.operations.iter().rev() {
        let name = || Text(operation.path.as_bytes().to_vec());
        match undo_one(hands, operation) {
            Ok(TakenBack::Done) => {}
            Ok(TakenBack::Kept) => kept.push(name()),
            Err(Trouble::Io(step, source)) => return Err(ApplyError::Io { step, path: name(), source }),
            Err(Trouble::Conflict | Trouble::Gone) => kept.push(name()),
        }
    }
    kept.reverse();
    restore(hands, &directories)?;
    crash::point("apply.taken_back")
        .and_then(|()| make_durable(plan))
        .map_err(|source| Trouble::Io("cannot make durable", source).of(&plan.root.0))?;
    Ok(kept)
}

fn undo_one(hands: &mut Hands<'_>, operation: &Operation) -> Result<TakenBack, Trouble> {
    if operation.action.directory_adjustment().is_some() {
        return Ok(TakenBack::Done);
    }
    crash::point("apply.taking_back").map_err(Trouble::at("cannot take back"))?;
    let live = match hands.live.spot(operation.path.as_bytes()) {
        Err(error) if is_unreachable(&error) => return unreachable_one(hands, operation),
        live => live.map_err(Trouble::at("cannot reach"))?,
    };
    if let Action::Adjust { before, after } = &operation.action {
        let held = match Held::open(live.0, live.1) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TakenBack::Done),
            held => held.map_err(Trouble::at("cannot look at"))?,
        };
        return match adjust(&held, after, before, hands.facts.who) {
            // Somebody else's metadata, or object, stays.
            Err(Trouble::Conflict) => Ok(TakenBack::Done),
            other => other.map(|()| TakenBack::Done),
        };
    }
    let Some(place) = operation.action.place() else { return Ok(TakenBack::Done) };
    let own = hands.places.spot(&place.0).map_err(Trouble::at("cannot reach what was staged for"))?;
    let moved = Move { live, own, facts: &hands.facts };
    match &operation.action {
        Action::Place { after, .. } => moved.unplace(after),
        Action::Replace { before, after, .. } => moved.unreplace(before, after),
        Action::Remove { before, .. } => moved.unremove(before),
        Action::Adjust { .. } => Ok(TakenBack::Done),
    }
}

/// Somebody has moved the directory away: what was done in it went with it.
fn unreachable_one(hands: &mut Hands<'_>, operation: &Operation) -> Result<TakenBack, Trouble> {
    let Some(place) = operation.action.place() else { return Ok(TakenBack::Done) };
    let found = hands.places.spot(&place.0).and_then(look).map_err(Trouble::at("cannot look at"))?;
    let is_staged = |after: &Seen| found.as_ref().is_some_and(|stat| after.is_object(stat));
    let undone = match &operation.action {
        Action::Place { after, .. } | Action::Replace { after, .. } => is_staged(after),
        Action::Remove { .. } => found.is_none(),
        Action::Adjust { .. } => true,
    };
    Ok(if undone { TakenBack::Done } else { TakenBack::Kept })
}
