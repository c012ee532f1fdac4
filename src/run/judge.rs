//! The gate: limits and expectations, then the verify commands on a throwaway copy. Its answer is one event.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, Judgement};
use crate::model::record::Changes;
use crate::model::spec::OutputKind;
use crate::model::{EntryKind, Text};
use crate::rules::expectation::{Limits, ResultSummary, objection};
use crate::store::changes::{Change, changes};
use crate::store::snapshot::Sealed;
use crate::sys::clock;
use crate::sys::copy_tree::copy_tree;
use crate::sys::walk::{Access, ObjectKind};

use super::ended::{Ended, Life, Stage, chain};
use super::processes::Processes;
use super::progress::{Progress, Stage as Shown};
use super::seal::{SealedRun, StagedTarget};
use super::signals::{Signals, Worked, interruptible};
use super::snapshot::cancelled;
use super::verify::{self, Check};
use super::verify_view::VerifyView;

/// A run whose result may be published.
#[derive(Debug)]
#[must_use]
pub struct Accepted {
    /// What was sealed, and is still.
    pub sealed: SealedRun,
    /// What publishing it will change.
    pub changes: Changes,
}

/// Judges the sealed result.
pub async fn judge(
    sealed: SealedRun,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<Accepted> {
    let summary = summarise(&sealed.tree, &sealed.life.spec.gate.expect);
    if let Some(rejection) = sealed.staged.iter().find_map(wrong_kind) {
        return Err(reject(sealed, rejection));
    }
    let gate = sealed.life.spec.gate.clone();
    let limits = Limits { files: gate.max_files, bytes: gate.max_bytes.map(|size| size.0) };
    if let Some(rejection) = objection(&summary, limits) {
        return Err(reject(sealed, rejection));
    }
    let compared = {
        let (tree, staged) = (Arc::clone(&sealed.tree), sealed.staged.clone());
        let work = move || compare(&tree, &staged);
        if sealed.staged.is_empty() { Ok(Worked::Done(work())) } else { interruptible(signals, work).await }
    };
    let (list, totals) = match compared {
        Ok(Worked::Done(Ok(compared))) => compared,
        Ok(Worked::Done(Err(error))) | Err(error) => return Err(sealed.life.fail(ErrorKind::PublishIo, &error)),
        Ok(Worked::Cancelled(signal)) => return Err(cancelled(sealed.life, signal)),
    };
    let sealed =
        if gate.verify.is_empty() { sealed } else { verify_all(sealed, &list, processes, signals, progress).await? };
    let judged = Judgement { time: clock::now(), rejection: None };
    let SealedRun { life, staged, untouched, places, scene, agent, tree } = sealed;
    let life = life.note(Event::Judged(judged), "judged")?;
    Ok(Accepted { sealed: SealedRun { life, staged, untouched, places, scene, agent, tree }, changes: totals })
}

/// A directory where a file was asked for, or the other way round.
fn wrong_kind(one: &StagedTarget) -> Option<Failure> {
    let is_directory = one.staged.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let wanted = one.target.output.kind == OutputKind::Directory;
    let name = one.target.output.name.to_string_lossy().escape_debug().to_string();
    let message = match (wanted, is_directory) {
        (true, true) | (false, false) => return None,
        (true, false) => format!("{name} was asked for as a directory and staged as something else"),
        (false, true) => format!("{name} was asked for as a file and staged as a directory"),
    };
    Some(Failure::new(ErrorKind::Expectation, message))
}

fn reject(sealed: SealedRun, rejection: Failure) -> Box<Ended> {
    let judged = Judgement { time: clock::now(), rejection: Some(rejection) };
    match sealed.life.note(Event::Judged(judged), "judged") {
        Ok(life) => life.end(Status::Rejected, None, sealed.agent),
        Err(ended) => ended,
    }
}

/// What the pure gate needs to know of the result.
fn summarise(tree: &Sealed, expect: &[String]) -> ResultSummary {
    let matchers = glob_sets(expect);
    let mut met = vec![false; expect.len()];
    let mut privileged = Vec::new();
    for (index, entry) in tree.manifest.entries().iter().enumerate() {
        if entry.kind != EntryKind::File {
            continue;
        }
        let path = tree.manifest.path_of(index);
        if entry.mode & 0o6000 != 0 {
            privileged.push(Text(path.clone()).to_string_lossy().escape_debug().to_string());
        }
        if entry.size > 0 {
            let (whole, within) = names_of(&path, tree);
            for (met, matcher) in met.iter_mut().zip(&matchers) {
                *met |= matcher.is_match(whole) || within.is_some_and(|within| matcher.is_match(within));
            }
        }
    }
    let unmatched = expect.iter().zip(met).filter(|(_, met)| !met).map(|(glob, _)| glob.clone()).collect();
    let specials = tree
        .specials
        .iter()
        .map(|found| (found.path.to_string_lossy().escape_debug().to_string(), special_word(found.kind)))
        .collect();
    ResultSummary { files: tree.files, bytes: tree.bytes, unmatched, specials, privileged }
}

fn special_word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Socket => "socket",
        _ => "device",
    }
}

/// A result path as the listing names it (`report/a.md`), and as it is within what verify sees (`a.md`).
fn names_of<'a>(path: &'a [u8], tree: &Sealed) -> (&'a Path, Option<&'a Path>) {
    use std::os::unix::ffi::OsStrExt as _;
    let as_path = |bytes| Path::new(std::ffi::OsStr::from_bytes(bytes));
    let within = tree.manifest.roots().find_map(|(_, root)| {
        let rest = path.strip_prefix(&root.name[..])?;
        let basename = root.name.rsplit(|byte| *byte == b'/').next()?;
        match rest {
            [] => path.get(path.len() - basename.len()..),
            [b'/', below @ ..] => Some(below),
            _ => None,
        }
    });
    (as_path(path), within.map(as_path))
}

/// One matcher per glob.
pub(super) fn glob_sets(globs: &[String]) -> Vec<GlobSet> {
    let one = |glob: &String| {
        let glob = GlobBuilder::new(glob).literal_separator(true).build().ok()?;
        GlobSetBuilder::new().add(glob).build().ok()
    };
    // Globs were checked when the arguments were resolved; one that does not compile matches nothing.
    globs.iter().map(|glob| one(glob).unwrap_or_else(GlobSet::empty)).collect()
}

fn compare(tree: &Sealed, staged: &[StagedTarget]) -> io::Result<(Vec<Change>, Changes)> {
    let targets: Vec<(Vec<u8>, PathBuf)> =
        staged.iter().map(|one| (one.target.output.name.0.clone(), one.target.output.path.to_path_buf())).collect();
    changes(&tree.manifest, &targets)
}

/// Runs the verify commands in order on one throwaway copy.
async fn verify_all(
    sealed: SealedRun,
    list: &[Change],
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<SealedRun> {
    let result = match copy_result(&sealed, signals).await {
        Ok(Worked::Done(Ok(result))) => result,
        Ok(Worked::Done(Err(failure))) => return Err(reject(sealed, failure)),
        Ok(Worked::Cancelled(signal)) => return Err(cancelled(sealed.life, signal)),
        Err(error) => return Err(sealed.life.fail(ErrorKind::PublishIo, &error)),
    };
    let view = VerifyView::of_publish(&sealed.life, &sealed.places, &sealed.scene, &result)
        .and_then(|view| write_changes(&view.changes, list).map(|()| view));
    let view = match view {
        Ok(view) => view,
        Err(error) => return Err(sealed.life.fail(ErrorKind::PublishIo, &error)),
    };
    let mut sealed = sealed;
    for number in 0..sealed.life.spec.gate.verify.len() {
        let (life, checked) = check_one(sealed.life, number, &view, processes, signals, progress).await?;
        sealed.life = life;
        if let Some(signal) = checked.cancelled_by {
            return Err(cancelled(sealed.life, signal));
        }
        if let Some(rejection) = checked.rejection {
            return Err(reject(sealed, rejection));
        }
    }
    Ok(sealed)
}

/// Runs one verify command in its view.
pub(super) async fn check_one(
    life: Life,
    number: usize,
    view: &VerifyView,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<(Life, verify::Checked)> {
    let command = life.spec.gate.verify[number].clone();
    progress.stage(Shown::Verifying(command.clone()));
    let check = Check {
        command: &command,
        cwd: life.spec.cwd.as_path(),
        view,
        log: life.dir.join(&format!("verify-{}.log", number + 1)),
        timeout: life.spec.gate.verify_timeout,
        kill_after: life.spec.time.kill_after,
    };
    let checked = verify::run(&check, processes, signals).await;
    let life = life.note(Event::VerifyEnded(checked.record.clone()), "verify.ended")?;
    Ok((life, checked))
}

/// The copy that verify commands see: for a single directory that directory, else one with every target by its
/// basename.
async fn copy_result(sealed: &SealedRun, signals: &mut Signals) -> io::Result<Worked<Result<PathBuf, Failure>>> {
    // What is published and nothing else: a stray file beside it must not pass for part of the result.
    let staged: Vec<(PathBuf, PathBuf)> =
        sealed.staged.iter().map(|one| (one.staged.clone(), one.target.output.staged_as.to_path_buf())).collect();
    let scratch = sealed.life.dir.join("scratch");
    let work = move || {
        let failed = |error: &dyn std::error::Error| {
            Failure::new(
                ErrorKind::VerifyUnrunnable,
                format!("the result cannot be copied for verify: {}", chain(error)),
            )
        };
        crate::sys::remove::remove_tree(&scratch).map_err(|error| failed(&error))?;
        crate::store::state_dir::make_private_directory(&scratch).map_err(|error| failed(&error))?;
        let result = scratch.join("result");
        if !matches!(&staged[..], [(_, name)] if name.as_os_str().is_empty()) {
            crate::store::state_dir::make_private_directory(&result).map_err(|error| failed(&error))?;
        }
        for (from, name) in &staged {
            let to = if name.as_os_str().is_empty() { result.clone() } else { result.join(name) };
            copy_tree(from, &to, Access::Own).map_err(|error| failed(&error))?;
        }
        Ok(result)
    };
    interruptible(signals, work).await
}

/// The list of changes that verify commands find.
pub(super) fn write_changes(path: &Path, list: &[impl serde::Serialize]) -> io::Result<()> {
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    for change in list {
        serde_json::to_writer(&mut out, change)?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
