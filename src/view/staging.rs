//! Publish staging: an empty directory on the targets' filesystem that becomes the targets.
//!
//! It lies in the run's directory where a rename from there reaches the targets, else in a hidden directory beside
//! the first target (`.agentguard-<run>`), so that publishing stays one rename.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::model::RunId;
use crate::model::event::Identity;
use crate::model::spec::{OutputKind, OutputTarget, StagingBase};
use crate::sys::copy_tree::copy_tree;
use crate::sys::walk::Access;
use crate::sys::{identity, mount, remove};

/// A prepared staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// Where it is.
    pub path: PathBuf,
    /// Which directory it is: one that was replaced is not what the agent was given.
    pub identity: Identity,
}

/// Staging could not be prepared.
#[derive(Debug, thiserror::Error)]
#[error("{step} {path:?}")]
pub struct StagingError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StagingError {
    let path = path.to_path_buf();
    move |source| StagingError { step, path, source }
}

/// The hidden directory that a run may use beside a target on another filesystem than its state.
pub fn sibling(directory: &Path, run_id: RunId) -> PathBuf {
    directory.join(format!(".agentguard-{run_id}"))
}

/// Every hidden directory that a run may have made for a target.
pub fn siblings(target: &Path, run_id: RunId) -> impl Iterator<Item = PathBuf> {
    target.ancestors().skip(1).map(move |directory| sibling(directory, run_id))
}

/// Where staging goes: `own` (in the run's directory), unless every target is on one other filesystem.
pub fn place<'a>(own: &Path, run_id: RunId, outputs: impl Iterator<Item = &'a OutputTarget>) -> PathBuf {
    let home = mount::place(mount::nearest_existing(own)).ok();
    let mut parents = outputs.map(|output| mount::nearest_existing(parent_of(output.path.as_path())));
    let Some(first) = parents.next() else { return own.to_path_buf() };
    let there = mount::place(first).ok();
    if there == home || there.is_none() || parents.any(|parent| mount::place(parent).ok() != there) {
        return own.to_path_buf();
    }
    sibling(first, run_id).join("staging")
}

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// Makes staging anew: whatever an earlier attempt left is gone.
///
/// With [`StagingBase::Current`] the targets' content is copied to `kept` first, unless it is there already (a further
/// attempt, a replay), and staging starts from that.
pub fn prepare<'a>(
    path: &Path,
    outputs: impl Iterator<Item = &'a OutputTarget> + Clone,
    base: StagingBase,
    kept: &Path,
) -> Result<Staging, StagingError> {
    remove::remove_tree(path).map_err(failed("cannot empty", path))?;
    let above = parent_of(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(above).map_err(failed("cannot make", above))?;
    let single = outputs.clone().find(|output| output.staged_as.0.is_empty());
    fs::create_dir(path).map_err(failed("cannot make", path))?;
    if base == StagingBase::Current {
        if kept.symlink_metadata().is_err() {
            fs::DirBuilder::new().mode(0o700).create(kept).map_err(failed("cannot make", kept))?;
            for output in outputs.clone().filter(|output| output.kind != OutputKind::Stdout) {
                keep_current(output, kept)?;
            }
        }
        for output in outputs {
            start_from(output, kept, path)?;
        }
    } else if let Some(target) = single {
        take_mode(target.path.as_path(), path)?;
    }
    let identity = identity::identity(path).map_err(failed("cannot look at", path))?;
    let identity = identity.ok_or_else(|| failed("cannot look at", path)(io::ErrorKind::NotFound.into()))?;
    Ok(Staging { path: path.to_path_buf(), identity })
}

/// A directory that replaces another keeps its mode; the agent must be able to write into it in any case.
fn take_mode(target: &Path, staging: &Path) -> Result<(), StagingError> {
    match fs::symlink_metadata(target) {
        Ok(metadata) if metadata.is_dir() => {
            fs::set_permissions(staging, fs::Permissions::from_mode(metadata.mode() & 0o7777 | 0o700))
                .map_err(failed("cannot set the mode of", staging))
        }
        _ => Ok(()),
    }
}

/// Where the present content of an output is kept.
fn kept_as(output: &OutputTarget, kept: &Path) -> PathBuf {
    kept.join(output.path.as_path().file_name().unwrap_or_default())
}

fn keep_current(output: &OutputTarget, kept: &Path) -> Result<(), StagingError> {
    let target = output.path.as_path();
    match identity::lstat(target).map_err(failed("cannot look at", target))? {
        Some(_) => copy(target, &kept_as(output, kept), Access::AsIs),
        None => Ok(()),
    }
}

fn start_from(output: &OutputTarget, kept: &Path, staging: &Path) -> Result<(), StagingError> {
    let from = kept_as(output, kept);
    if from.symlink_metadata().is_err() {
        return Ok(());
    }
    if output.staged_as.0.is_empty() {
        fs::remove_dir(staging).map_err(failed("cannot replace", staging))?;
        return copy(&from, staging, Access::Own);
    }
    copy(&from, &staging.join(output.staged_as.as_path()), Access::Own)
}

fn copy(from: &Path, to: &Path, access: Access) -> Result<(), StagingError> {
    copy_tree(from, to, access)
        .map(|_| ())
        .map_err(|error| failed("cannot copy to staging", from)(io::Error::other(error)))
}
