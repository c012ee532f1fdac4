//! `agentguard export`: runs in a portable file.

use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::model::{ByteSize, RunRecord};
use crate::rules::run_ref::is_failure;
use crate::run::resolve::Surroundings;
use crate::store::bundle::{self, SUFFIX, Written};
use crate::store::kept;
use crate::store::letters::acknowledged;
use crate::store::log::RunLog;
use crate::store::run_dir::{Alive, RunDir};
use crate::store::state_dir::{StateDir, StateDirError};

use super::render::escape;
use super::run_choice::choose;

/// What was asked.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Where.
    pub at: Surroundings,
    /// Which runs.
    pub which: Which,
    /// Where to.
    pub to: Destination,
}

/// Which runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that were named.
    Named(Vec<String>),
    /// Every failed run that nobody has acknowledged and whose directory is there.
    AllFailed,
}

/// Where a bundle goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// One bundle in this file; an existing directory, or a name that ends in `/`, takes one bundle for each run.
    Path(PathBuf),
}

/// Exports; what is said goes to `say`, a bundle for standard output to `out`.
pub fn export(request: &ExportRequest, out: &mut dyn Write, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let state = match StateDir::open(&request.at.state) {
        // A CI step that collects failures also runs where nothing has.
        Err(StateDirError::Absent(_)) if request.which == Which::AllFailed => {
            say("no failed run to export");
            return Ok(());
        }
        opened => opened?,
    };
    let _relying = kept::rely(&state).with_context(|| format!("cannot lock {:?}", state.path()))?;
    let runs = match &request.which {
        Which::Named(names) => named(&state, names)?,
        Which::AllFailed => all_failed(&state, say)?,
    };
    if runs.is_empty() {
        say("no failed run to export");
        return Ok(());
    }
    match &request.to {
        Destination::Stdout => {
            let written = write(&state, &runs, out)?;
            say(&told(&runs, "standard output", written));
        }
        Destination::Path(path) if is_directory(path) => {
            std::fs::create_dir_all(path).with_context(|| format!("cannot make {path:?}"))?;
            for run in &runs {
                let file = path.join(format!("{}{SUFFIX}", run.run_id));
                write_file(&state, std::slice::from_ref(run), &file, say)?;
            }
        }
        Destination::Path(path) => write_file(&state, &runs, path, say)?,
    }
    Ok(())
}

fn is_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn named(state: &StateDir, names: &[String]) -> anyhow::Result<Vec<RunRecord>> {
    let log = RunLog::at(state.path());
    let mut runs = Vec::with_capacity(names.len());
    for name in names {
        let record = choose(&log, name)?.record().with_context(|| format!("cannot read {:?}", log.path()))?;
        let dir = RunDir::of(state, record.run_id);
        if !dir.exists() {
            bail!(
                "run {} is in the log and its directory is gone (`gc` removes old ones): it cannot be exported",
                record.run_id
            );
        }
        runs.push(record);
    }
    Ok(runs)
}

fn all_failed(state: &StateDir, say: &mut dyn FnMut(&str)) -> anyhow::Result<Vec<RunRecord>> {
    let acknowledged = acknowledged(state)?;
    let (mut runs, mut gone) = (Vec::new(), 0_u64);
    for line in RunLog::at(state.path()).in_order()? {
        // A damaged line is for `fsck` to report.
        let Ok(record) = line?.record() else { continue };
        if !is_failure(record.status) || acknowledged.contains(&record.run_id) {
            continue;
        }
        let dir = RunDir::of(state, record.run_id);
        if !dir.exists() {
            gone += 1;
        } else if !Alive::is_held(state, record.run_id) {
            runs.push(record);
        }
    }
    if gone > 0 {
        say(&format!("{gone} failed runs have no directory any more and are left out"));
    }
    Ok(runs)
}

fn write(state: &StateDir, runs: &[RunRecord], out: &mut dyn Write) -> anyhow::Result<Written> {
    let plan = bundle::plan(state, runs)?;
    Ok(bundle::write(state, &plan, out)?)
}

/// Under another name until it is whole: nobody ever finds half a bundle.
fn write_file(state: &StateDir, runs: &[RunRecord], path: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As private as any file that the user makes: a bundle is to be passed on.
    let usual = std::fs::Permissions::from_mode(0o666);
    let temporary = tempfile::Builder::new().prefix(".agentguard-export-").permissions(usual).tempfile_in(dir);
    let temporary = temporary.with_context(|| format!("cannot write in {dir:?}"))?;
    let written = {
        let mut out = BufWriter::new(temporary.as_file());
        write(state, runs, &mut out)?
    };
    let packed = temporary.as_file().metadata().map_or(0, |found| found.len());
    temporary.persist(path).map_err(|error| error.error).with_context(|| format!("cannot write {path:?}"))?;
    let shown = escape(path.as_os_str().as_encoded_bytes());
    say(&format!("{} ({})", told(runs, &shown, written), ByteSize(packed)));
    Ok(())
}

fn told(runs: &[RunRecord], to: &str, written: Written) -> String {
    let what = match runs {
        [run] => format!("run {}", run.run_id),
        runs => format!("{} runs", runs.len()),
    };
    format!("{what} to {to}: {} files, {} unpacked", written.contents, ByteSize(written.unpacked_bytes))
}
