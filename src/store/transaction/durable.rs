//! Durability: contents before the intention, names after the apply.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use crate::sys::{beneath, durable, walk};

use super::directories::{Beneath, Places, split};
use super::plan::{Action, Plan};

/// Up to this many objects are synced one by one; beyond, one `syncfs` is cheaper (measured).
const EACH: usize = 4;

/// Makes what is staged durable, and the names it is staged under: before the intention is written, which relies on
/// them.
pub fn flush(plan: &Plan) -> io::Result<()> {
    let staged: Vec<&[u8]> = plan
        .operations
        .iter()
        .filter_map(|operation| match &operation.action {
            Action::Place { staged, .. } | Action::Replace { staged, .. } => Some(&*staged.0),
            Action::Remove { .. } | Action::Adjust { .. } => None,
        })
        .collect();
    if staged.is_empty() {
        return Ok(());
    }
    if staged.len() <= EACH && flush_each(&staged)? == Flushed::All {
        return Ok(());
    }
    // Staging is on the root's mount.
    sync_all(plan)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flushed {
    All,
    TooMany,
}

/// Trees are not worth walking: only single files are synced one by one.
fn flush_each(staged: &[&[u8]]) -> io::Result<Flushed> {
    let mut places = Places::default();
    let mut files = Vec::new();
    for path in staged {
        let (dir, name) = places.spot(path)?;
        match walk::lstat_at(dir, name)?.kind() {
            walk::ObjectKind::Directory => return Ok(Flushed::TooMany),
            walk::ObjectKind::File => match walk::open_file_at(dir, name) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Flushed::TooMany),
                file => files.push(file?),
            },
            // A link or a pipe lives in its directory.
            _ => {}
        }
    }
    for file in files {
        durable::sync_open(&file)?;
    }
    let directories: BTreeSet<&[u8]> = staged.iter().map(|path| split(path).0).collect();
    for dir in directories {
        durable::sync_open(readable(beneath::open_handle(or_root(dir))?.as_fd())?)?;
    }
    Ok(Flushed::All)
}

/// Makes what was applied, or taken back, durable: the names in every directory touched, and the metadata set in place.
pub fn make_durable(plan: &Plan) -> io::Result<()> {
    let in_place = plan.operations.iter().any(|operation| matches!(operation.action, Action::Adjust { .. }));
    let places: BTreeSet<&[u8]> =
        plan.operations.iter().filter_map(|operation| Some(split(&operation.action.place()?.0).0)).collect();
    if in_place || plan.parents.len() + places.len() > EACH {
        return sync_all(plan);
    }
    let root = beneath::open_handle(&plan.root.0)?;
    let mut live = Beneath::new(root, &plan.parents);
    let mut opened = Vec::new();
    for parent in &plan.parents {
        match live.at(parent.bytes()).and_then(readable) {
            Ok(dir) => opened.push(dir),
            // One that may not be read, or was moved away since.
            Err(_) => return sync_all(plan),
        }
    }
    for place in places {
        opened.push(readable(beneath::open_handle(or_root(place))?.as_fd())?);
    }
    opened.iter().try_for_each(durable::sync_open)
}

/// One call for everything: the run's own directories are on the root's mount.
fn sync_all(plan: &Plan) -> io::Result<()> {
    let root = beneath::open_handle(&plan.root.0)?;
    // The root may not be readable; a staged object's directory is.
    let place = plan.operations.iter().find_map(|operation| operation.action.place());
    match (readable(root.as_fd()), place) {
        (Err(_), Some(place)) => {
            let dir = beneath::open_handle(or_root(split(&place.0).0))?;
            durable::sync_filesystem(readable(dir.as_fd())?)
        }
        (root, _) => durable::sync_filesystem(root?),
    }
}

/// A handle cannot be synced.
fn readable(handle: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(openat(handle, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn or_root(dir: &[u8]) -> &[u8] {
    if dir.is_empty() { b"/" } else { dir }
}
