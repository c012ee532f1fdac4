//! Applying a commit plan: one rename per target, each step idempotent, judged by where the staged inode is found.
//!
//! The same code runs in life and in recovery. After any crash within it, calling it again completes the plan; after
//! an error it has taken back what it did.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::event::{Identity, TargetOperation};
use crate::sys::rename::{Exchanged, exchange, without_replacing};
use crate::sys::{crash, durable, identity};

use super::snapshot::{RootChange, fingerprint};

/// Every target is its new self, durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied;

/// Why a plan was not applied. Every target is its old self again, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A target is not what it was when the run began.
    #[error("somebody else changed {path:?}")]
    Conflict {
        /// The target.
        path: PathBuf,
    },
    /// The kernel said no.
    #[error("{step} {path:?}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
    /// Neither the staged object nor the result is where it should be: somebody took it away.
    #[error("what was staged for {path:?} is gone, and the target is not it")]
    Gone {
        /// The target.
        path: PathBuf,
    },
    /// The kernel said no, and no again when the targets were to be taken back: they are mixed, and recovery will
    /// complete the plan.
    #[error("{path:?} could not be taken back after an error; `agentguard recover` completes the commit")]
    Mixed {
        /// The target.
        path: PathBuf,
        /// The kernel's words.
        source: io::Error,
    },
}

fn io_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ApplyError {
    let path = path.to_path_buf();
    move |source| ApplyError::Io { step, path, source }
}

/// Applies every operation, or none.
pub fn apply(operations: &[TargetOperation]) -> Result<Applied, ApplyError> {
    for (done, operation) in operations.iter().enumerate() {
        if let Err(error) = apply_one(operation) {
            take_back(&operations[..=done])?;
            return Err(error);
        }
    }
    if let Err(error) = make_durable(operations) {
        take_back(operations)?;
        return Err(error);
    }
    for operation in operations {
        // If it cannot be put aside it goes with staging, without its grace.
        let _ = put_aside(operation);
    }
    Ok(Applied)
}

fn make_durable(operations: &[TargetOperation]) -> Result<(), ApplyError> {
    for operation in operations {
        let synced = crash::point("commit.applied").and_then(|()| sync_parents(operation));
        synced.map_err(io_error("cannot make durable", operation.target.as_path()))?;
    }
    Ok(())
}

/// Whether the object at a path is the one that was meant. The inode decides: it cannot be reused while it is there.
/// The device does not: its number may be another after a reboot.
fn is_at(path: &Path, wanted: Identity) -> Result<bool, ApplyError> {
    is_object(path, wanted).map_err(io_error("cannot look at", path))
}

fn is_object(path: &Path, wanted: Identity) -> io::Result<bool> {
    Ok(identity::identity(path)?.is_some_and(|found| found.ino == wanted.ino))
}

/// Whether an operation was done before a crash: the target is what was staged, or what stood there was displaced.
/// That the staged object is gone proves nothing.
fn was_applied(operation: &TargetOperation) -> Result<bool, ApplyError> {
    if is_at(operation.target.as_path(), operation.staged_identity)? {
        return Ok(true);
    }
    match operation.previous {
        Some(previous) => {
            Ok(is_at(operation.staged.as_path(), previous)? || is_at(operation.displaced.as_path(), previous)?)
        }
        None => Ok(false),
    }
}

fn apply_one(operation: &TargetOperation) -> Result<(), ApplyError> {
    let (staged, target) = (operation.staged.as_path(), operation.target.as_path());
    if !is_at(staged, operation.staged_identity)? {
        return match was_applied(operation)? {
            true => Ok(()),
            false => Err(ApplyError::Gone { path: target.to_path_buf() }),
        };
    }
    make_parents(operation)?;
    crash::point("commit.target").map_err(io_error("cannot publish", target))?;
    let Some(previous) = operation.previous else {
        return match without_replacing(staged, target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(conflict(target)),
            renamed => renamed.map_err(io_error("cannot publish", target)),
        };
    };
    let moved_aside = is_at(operation.displaced.as_path(), previous)?;
    if !moved_aside {
        if !matches(target, operation)? {
            return Err(conflict(target));
        }
        if exchange(staged, target).map_err(io_error("cannot publish", target))? == Exchanged::Swapped {
            return check_displaced(operation);
        }
        std::fs::rename(target, operation.displaced.as_path()).map_err(io_error("cannot put aside", target))?;
        crash::point("commit.two_step").map_err(io_error("cannot publish", target))?;
    }
    // The second of the two steps of a filesystem without exchange.
    match without_replacing(staged, target) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(conflict(target)),
        renamed => renamed.map_err(io_error("cannot publish", target)),
    }
}

fn conflict(target: &Path) -> ApplyError {
    ApplyError::Conflict { path: target.to_path_buf() }
}

/// Whether what stands at a path is what stood at the target when the run began.
fn matches(path: &Path, operation: &TargetOperation) -> Result<bool, ApplyError> {
    let print = fingerprint(path, RootChange::RenameAllowed).map_err(io_error("cannot look at", path))?;
    Ok(print == operation.fingerprint)
}

/// Somebody may have saved between our check and our rename: what was displaced is looked at again, and if it is not
/// what was seen, the exchange is undone. Measured: check-then-rename loses such an edit every time, this never.
fn check_displaced(operation: &TargetOperation) -> Result<(), ApplyError> {
    let (staged, target) = (operation.staged.as_path(), operation.target.as_path());
    if matches(staged, operation)? {
        return Ok(());
    }
    exchange(staged, target).map_err(|source| ApplyError::Mixed { path: target.to_path_buf(), source })?;
    Err(conflict(target))
}

fn make_parents(operation: &TargetOperation) -> Result<(), ApplyError> {
    for parent in &operation.parents {
        let path = parent.as_path();
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(io_error("cannot make", path)(error));
            }
            _ => {}
        }
        let above = path.parent().unwrap_or(Path::new("/"));
        durable::sync_directory(above).map_err(io_error("cannot make durable", above))?;
    }
    Ok(())
}

fn sync_parents(operation: &TargetOperation) -> io::Result<()> {
    let parent = |path: &Path| path.parent().unwrap_or(Path::new("/")).to_path_buf();
    durable::sync_directory(&parent(operation.target.as_path()))?;
    durable::sync_directory(&parent(operation.staged.as_path()))
}

/// The displaced object leaves staging for the trash, where it outlives its readers.
fn put_aside(operation: &TargetOperation) -> io::Result<()> {
    let (staged, displaced) = (operation.staged.as_path(), operation.displaced.as_path());
    match operation.previous {
        Some(previous) if is_object(staged, previous)? => std::fs::rename(staged, displaced),
        _ => Ok(()),
    }
}

/// Undoes, last first, whatever of these operations was done.
fn take_back(operations: &[TargetOperation]) -> Result<(), ApplyError> {
    for operation in operations.iter().rev() {
        let target = operation.target.as_path();
        take_back_one(operation).map_err(|source| ApplyError::Mixed { path: target.to_path_buf(), source })?;
        for parent in operation.parents.iter().rev() {
            // Not empty: somebody else uses it by now.
            let _ = std::fs::remove_dir(parent.as_path());
        }
    }
    Ok(())
}

fn take_back_one(operation: &TargetOperation) -> io::Result<()> {
    let (staged, target) = (operation.staged.as_path(), operation.target.as_path());
    let displaced = operation.displaced.as_path();
    if is_object(target, operation.staged_identity)? {
        return match operation.previous {
            None => std::fs::rename(target, staged),
            Some(previous) if is_object(displaced, previous)? => {
                std::fs::rename(target, staged)?;
                std::fs::rename(displaced, target)
            }
            Some(_) => exchange(staged, target).map(|_| ()),
        };
    }
    // Only the first of two steps was done.
    match operation.previous {
        Some(previous) if identity::identity(target)?.is_none() && is_object(displaced, previous)? => {
            without_replacing(displaced, target)
        }
        _ => Ok(()),
    }
}
