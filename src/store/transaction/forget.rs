//! Forgetting: what an applied plan has displaced is removed, and it can no longer be undone.

use std::io;

use crate::sys::remove::remove_tree_at;

use super::directories::Places;
use super::error::is_unreachable;
use super::plan::{Action, Plan};
use super::seen::look;

/// Removes everything that the plan has displaced; nothing else under those names. An error leaves the rest for the
/// next call.
pub fn forget(plan: &Plan) -> io::Result<()> {
    let mut places = Places::default();
    for operation in &plan.operations {
        let (Action::Replace { staged: place, before, .. } | Action::Remove { before, aside: place }) =
            &operation.action
        else {
            continue;
        };
        let spot = match places.spot(&place.0) {
            Err(error) if is_unreachable(&error) => continue,
            spot => spot?,
        };
        if look(spot)?.is_some_and(|stat| before.is_object(&stat)) {
            remove_tree_at(spot.0, spot.1)?;
        }
    }
    Ok(())
}
