//! Importing: unpack, check, and from the intention on only forward.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::BundleError;
use super::check::check;
use super::header::RunHeader;
use super::line::{public_record, to_line};
use super::unpack::unpack;
use crate::model::{RunId, RunRecord};
use crate::rules::redact_bundle::Secrets;
use crate::rules::run_ref::RunRef;
use crate::store::kept;
use crate::store::log::{FindError, RunLog};
use crate::store::run_dir::{RunDir, write_private};
use crate::store::state_dir::{StateDir, make_private_directory};
use crate::sys::append_lock::AppendLock;
use crate::sys::{crash, durable, remove};

const STAGING: &str = "import";
const LOCK: &str = "import.lock";
/// The records that will be in the log; that it is there says that everything else is.
const INTENDED: &str = "intended";

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Imported {
    /// Runs that are in the log now and were not before, or have their directory again.
    pub new: Vec<RunId>,
    /// Runs that were here already, the same.
    pub same: Vec<RunId>,
}

/// Takes a bundle: all of its runs, or none.
pub fn import(state: &StateDir, from: &mut dyn Read, limit: u64) -> Result<Imported, BundleError> {
    let lock_path = state.path().join(LOCK);
    let _lock = AppendLock::exclusive(&lock_path).map_err(BundleError::at("lock", &lock_path))?;
    settle_locked(state)?;
    let staging = state.path().join(STAGING);
    let imported = stage(state, &staging, from, limit);
    match imported {
        Ok(imported) => settle_locked(state).map(|()| imported),
        Err(error) => {
            // What cannot be removed now is removed by the next command.
            let _ = remove::remove_tree(&staging);
            Err(error)
        }
    }
}

/// Completes an import that was intended, and removes what another has left; nothing while an import is under way.
pub fn settle(state: &StateDir) -> Result<(), BundleError> {
    if !state.path().join(STAGING).exists() {
        return Ok(());
    }
    let lock_path = state.path().join(LOCK);
    match AppendLock::try_exclusive(&lock_path).map_err(BundleError::at("lock", &lock_path))? {
        Some(_lock) => settle_locked(state),
        None => Ok(()),
    }
}

fn stage(state: &StateDir, staging: &Path, from: &mut dyn Read, limit: u64) -> Result<Imported, BundleError> {
    let inside = StateDir::open_or_create(staging)?;
    let unpacked = unpack(from, &inside, limit)?;
    let records = check(&inside, &unpacked)?;
    let mut imported = Imported::default();
    let mut lines = Vec::new();
    for (record, run) in records.iter().zip(&unpacked.header.runs) {
        if is_here(state, record)? {
            imported.same.push(run.run_id);
            forget(&inside, run)?;
        } else {
            imported.new.push(run.run_id);
            lines.extend(to_line(record, INTENDED)?);
        }
    }
    crash::point("import.verified").map_err(BundleError::at("import", staging))?;
    if !imported.new.is_empty() {
        intend(staging, &lines)?;
    }
    Ok(imported)
}

/// From here on the import is completed by whoever comes next.
fn intend(staging: &Path, lines: &[u8]) -> Result<(), BundleError> {
    durable::sync_tree(staging).map_err(BundleError::at("sync", staging))?;
    let (path, temporary) = (staging.join(INTENDED), staging.join("intended.new"));
    write_private(&temporary, lines)
        .and_then(|()| durable::sync_file(&temporary))
        .and_then(|()| std::fs::rename(&temporary, &path))
        .and_then(|()| durable::sync_directory(staging))
        .and_then(|()| crash::point("import.intended"))
        .map_err(BundleError::at("write", &path))
}

/// Whether the run is here already, the same: its line and its directory.
fn is_here(state: &StateDir, record: &RunRecord) -> Result<bool, BundleError> {
    let log = RunLog::at(state.path());
    let line = match log.find(&RunRef::Id(record.run_id)) {
        Ok(line) => line,
        Err(FindError::Read(error)) => return Err(error.into()),
        Err(_) => return Ok(false),
    };
    let dir = RunDir::of(state, record.run_id);
    // Where the run was exported from, the log has what the bundle has not.
    let secrets = dir.read_spec().map(|spec| Secrets::of(&spec)).unwrap_or_default();
    let known = line.record().ok().map(|known| public_record(&known, &secrets)).transpose()?;
    match known {
        Some(known) if known == *record => Ok(dir.exists()),
        _ => Err(BundleError::Differs(record.run_id)),
    }
}

fn forget(inside: &StateDir, run: &RunHeader) -> Result<(), BundleError> {
    let dir = RunDir::of(inside, run.run_id);
    remove::remove_tree(dir.path()).map_err(BundleError::at("remove", dir.path()))
}

/// Idempotent, and safe to be killed at any point.
fn settle_locked(state: &StateDir) -> Result<(), BundleError> {
    let staging = state.path().join(STAGING);
    let path = staging.join(INTENDED);
    match std::fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        read => complete(state, &staging, &read.map_err(BundleError::at("read", &path))?)?,
    }
    remove::remove_tree(&staging).map_err(BundleError::at("remove", &staging))
}

fn complete(state: &StateDir, staging: &Path, lines: &[u8]) -> Result<(), BundleError> {
    let path = staging.join(INTENDED);
    let mut records: Vec<RunRecord> = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record = serde_json::from_slice(line).map_err(|error| BundleError::at("read", &path)(error.into()))?;
        records.push(record);
    }
    let _relying = kept::rely(state).map_err(BundleError::at("lock", state.path()))?;
    let (from, to) = (staging.join("snapshots"), state.path().join("snapshots"));
    for kind in ["large", "packs"] {
        move_all(&from.join(kind), &to.join(kind))?;
    }
    move_all(&staging.join("runs"), &state.runs())?;
    crash::point("import.placed").map_err(BundleError::at("import", staging))?;
    let _repaired = RunLog::at(state.path()).append_missing(&mut records)?;
    crash::point("import.logged").map_err(BundleError::at("import", staging))
}

/// Moves what stands in a directory to another one where nothing has its name; durable on return.
fn move_all(from: &Path, to: &Path) -> Result<(), BundleError> {
    let entries = match std::fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(BundleError::at("read", from))?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let paths = paths.map_err(BundleError::at("read", from))?;
    if paths.is_empty() {
        return Ok(());
    }
    for dir in [to.parent().unwrap_or(to), to] {
        make_private_directory(dir).map_err(BundleError::at("make", dir))?;
    }
    for path in paths {
        let target = to.join(path.file_name().unwrap_or_default());
        // Contents are named by their hash: what is there is the same.
        if target.symlink_metadata().is_err() {
            std::fs::rename(&path, &target).map_err(BundleError::at("move", &path))?;
        }
    }
    for dir in [to, to.parent().unwrap_or(to), from] {
        durable::sync_directory(dir).map_err(BundleError::at("sync", dir))?;
    }
    Ok(())
}
