//! `agentguard replay`: run any run again from the inputs it really had, in fresh staging, and compare.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sha2::{Digest as _, Sha256};

use crate::model::change::ChangedPath;
use crate::model::event::{Event, SnapshotRef};
use crate::model::spec::{InputSource, PublishPolicy, RunSpec};
use crate::model::{Digest, EntryKind, RunId, RunRecord, Text};
use crate::rules::redact::REDACTED;
use crate::rules::relocate::relocate;
use crate::rules::reproduction::{Comparison, compare, compare_paths};
use crate::rules::run_ref::RunRef;
use crate::run::begin::{NewRun, Touched};
use crate::run::day_budget;
use crate::run::driver::{Connections, drive};
use crate::run::progress::{Progress, Warning};
use crate::run::recover::recover;
use crate::run::resolve::Surroundings;
use crate::run::settle::Finished;
use crate::run::stdin::StdinPlan;
use crate::store::bundle::{DEFAULT_LIMIT, IMPORTED_NAME};
use crate::store::change_set;
use crate::store::journal;
use crate::store::kept::{self, Relying};
use crate::store::log::RunLog;
use crate::store::outputs;
use crate::store::run_dir::BASE_NAME;
use crate::store::run_dir::RunDir;
use crate::store::snapshot::ManifestEntry;
use crate::store::state_dir::StateDir;
use crate::sys::copy_tree::copy_tree;
use crate::sys::relay::Passing;
use crate::sys::walk::Access;

use super::import::import_file;
use super::render;
use super::run::{parent_run, report_recovered};
use super::run_choice::choose;

/// What was asked.
#[derive(Clone, Debug)]
pub struct ReplayRequest {
    /// Where.
    pub at: Surroundings,
    /// Which run.
    pub run: String,
    /// Another command instead of the recorded one; empty for the recorded one.
    pub command: Vec<OsString>,
    /// Whether an accepted result is published.
    pub publish: PublishPolicy,
}

/// What a replay came to.
#[derive(Debug)]
pub struct Replayed {
    /// The new run.
    pub finished: Finished,
    /// The run it replays.
    pub original: RunId,
    /// How the two differ.
    pub comparison: Comparison,
}

/// Replays a run.
pub fn replay(request: &ReplayRequest, progress: &Arc<dyn Progress>) -> anyhow::Result<Replayed> {
    let bundle = named_bundle(&request.run);
    let state = match bundle {
        Some(_) => StateDir::open_or_create(&request.at.state)?,
        None => StateDir::open(&request.at.state)?,
    };
    report_recovered(&recover(&state), progress);
    let run = bundle.map_or_else(|| Ok(request.run.clone()), |file| run_of(&state, file))?;
    // Until this run's own directory names the snapshot, nothing but this lock keeps it.
    let relying = kept::rely(&state).with_context(|| format!("cannot lock {:?}", state.path()))?;
    let log = RunLog::at(state.path());
    let original = choose(&log, &run)?.record().with_context(|| format!("cannot read {:?}", log.path()))?;
    let dir = RunDir::of(&state, original.run_id);
    if !dir.exists() {
        bail!(
            "run {} is in the log and its directory {:?} is gone (`gc` removes old ones): it cannot be replayed",
            original.run_id,
            dir.path()
        );
    }
    let mut recorded = dir.read_spec()?;
    let journal = journal::read(&dir.journal())?;
    if dir.join(IMPORTED_NAME).exists() {
        move_here(&mut recorded, &request.at.project, progress)?;
    }
    refuse_redacted(&recorded, &request.command, progress)?;
    let again = Again { run_id: original.run_id, command: &request.command, purpose: Purpose::Replay(request.publish) };
    let mut spec = respecify(&recorded, &journal, &again)?;
    warn_about_environment(&recorded, progress);
    check_stdin(&dir, &journal)?;
    day_budget::apply(&mut spec, &state)?;
    let connect = |own: &RunDir| connections(&dir, own, relying);
    let finished = drive(&state, NewRun::mint(Touched::Something), spec, connect, progress)?;
    let comparison = compare_runs(&state, &original, &finished.record)?;
    Ok(Replayed { finished, original: original.run_id, comparison })
}

/// The bundle that stands where a run is named, if it is one: what names a run is no file.
fn named_bundle(text: &str) -> Option<&Path> {
    (text.parse::<RunRef>().is_err() && Path::new(text).is_file()).then(|| Path::new(text))
}

/// Imports a bundle of one run and names it.
fn run_of(state: &StateDir, file: &Path) -> anyhow::Result<String> {
    let imported = import_file(state, file, DEFAULT_LIMIT)?;
    let runs: Vec<RunId> = imported.new.into_iter().chain(imported.same).collect();
    match &runs[..] {
        [run] => Ok(run.to_string()),
        runs => {
            let ids: Vec<String> = runs.iter().map(|run| format!("\n  agentguard replay {run}")).collect();
            bail!("{file:?} held {} runs, which are imported now: replay one of them{}", runs.len(), ids.concat())
        }
    }
}

/// An imported run is replayed in the project that one is in: the one it was recorded in is elsewhere.
fn move_here(recorded: &mut RunSpec, project: &Path, progress: &Arc<dyn Progress>) -> anyhow::Result<()> {
    let there = recorded.project.clone();
    relocate(recorded, project);
    if let Some(workspace) = recorded.workspace.as_ref().filter(|workspace| !workspace.path.as_path().is_dir()) {
        let path = workspace.path.as_path();
        bail!(
            "the run's workspace would be {path:?} here, which is no directory: make it, or start in another project"
        );
    }
    // A workspace brings its own directories along.
    if recorded.workspace.is_none() && !recorded.cwd.as_path().is_dir() {
        recorded.cwd = recorded.project.clone();
    }
    let (there, here) = (render::escape(&there.0), render::escape(project.as_os_str().as_encoded_bytes()));
    progress
        .warn(Warning(format!("imported: recorded in {there}, replayed in {here}, with today's HOME, PATH and SHELL")));
    Ok(())
}

/// Secrets do not travel: whoever replays gives them anew.
pub(super) fn refuse_redacted(
    recorded: &RunSpec,
    command: &[OsString],
    progress: &Arc<dyn Progress>,
) -> anyhow::Result<()> {
    let has_gap = |text: &Text| memchr::memmem::find(&text.0, REDACTED.as_bytes()).is_some();
    if command.is_empty() && recorded.command.iter().any(has_gap) {
        let recorded = render::shell_quote(&recorded.command);
        bail!("the recorded command lost its secrets when it was exported: give it anew after --\n  {recorded}");
    }
    if recorded.gate.verify.iter().any(has_gap) {
        let words = "a recorded verify command lost its secrets when it was exported: it may judge otherwise here";
        progress.warn(Warning(words.to_owned()));
    }
    Ok(())
}

/// How a run is to be run again.
pub(super) struct Again<'a> {
    /// The run.
    pub(super) run_id: RunId,
    /// Another command instead of the recorded one; empty for the recorded one.
    pub(super) command: &'a [OsString],
    /// What for.
    pub(super) purpose: Purpose,
}

/// What a run is run again for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To look at what happened.
    Replay(PublishPolicy),
    /// So that its work is done after all.
    Redrive,
}

/// The recorded specification, with the recorded snapshot as its inputs. A redrive of a run that ended before its inputs
/// were read reads them now, as that run would have.
pub(super) fn respecify(recorded: &RunSpec, journal: &[Event], again: &Again<'_>) -> anyhow::Result<RunSpec> {
    let run_id = again.run_id;
    let taken = journal.iter().find_map(|event| match event {
        Event::Snapshotted(taken) => Some(taken.snapshot.clone()),
        _ => None,
    });
    let had_inputs = match &recorded.inputs.source {
        InputSource::Live(roots) => !roots.is_empty(),
        InputSource::Recorded(_) => recorded.workspace.is_none() || recorded.recorded_inputs,
    };
    let is_taken = taken.is_some();
    let source = match taken {
        Some(snapshot) if had_inputs || recorded.workspace.is_some() => InputSource::Recorded(snapshot),
        Some(_) => InputSource::Live(Vec::new()),
        None if again.purpose == Purpose::Redrive => recorded.inputs.source.clone(),
        None => bail!("run {run_id} has no snapshot of its inputs: it ended before they were read"),
    };
    let mut spec = recorded.clone();
    spec.inputs.source = source;
    if is_taken {
        spec.recorded_inputs = recorded.workspace.is_some() && had_inputs;
    }
    (spec.publish, spec.replay_of, spec.redrive_of) = match again.purpose {
        Purpose::Replay(publish) => (publish, Some(run_id), None),
        Purpose::Redrive => (PublishPolicy::Commit, None, Some(run_id)),
    };
    spec.parent_run_id = parent_run();
    if !again.command.is_empty() {
        spec.command = again.command.iter().map(|argument| Text::from(argument.as_os_str())).collect();
    }
    Ok(spec)
}

/// Recorded values are brought along; what differs from today is named, so that nobody wonders.
pub(super) fn warn_about_environment(recorded: &RunSpec, progress: &Arc<dyn Progress>) {
    let differing: Vec<String> = recorded
        .environment
        .iter()
        .filter(|(name, value)| std::env::var_os(name.as_os_str()).is_none_or(|now| now != value.as_os_str()))
        .map(|(name, _)| render::escape(&name.0))
        .collect();
    if !differing.is_empty() {
        let names = differing.join(", ");
        progress.warn(Warning(format!("the recorded values of {names} differ from today's and are used")));
    }
}

/// The standard input that the journal tells of, or a word on why there is none.
pub fn check_stdin(dir: &RunDir, journal: &[Event]) -> anyhow::Result<()> {
    let told = journal.iter().rev().find_map(|event| match event {
        Event::AttemptEnded(end) => Some(end.stdin),
        _ => None,
    });
    let Some(stdin) = told.flatten() else { return Ok(()) };
    let Some(digest) = stdin.digest else {
        bail!("the run read {} bytes from standard input that were not kept: it cannot be replayed", stdin.size);
    };
    let path = dir.join("stdin");
    let bytes = std::fs::read(&path).with_context(|| format!("the recorded standard input {path:?} cannot be read"))?;
    if Sha256::digest(&bytes)[..] != digest.0 {
        bail!("the recorded standard input {path:?} is damaged: its hash does not match");
    }
    Ok(())
}

/// The streams of a run that is run again, and what its directory has from the original.
/// From then on the new run's directory names what it relies on.
pub(super) fn connections(original: &RunDir, own: &RunDir, relying: Relying) -> io::Result<Connections> {
    lay_out_base(original, own)?;
    let stdin = lay_out_stdin(&original.join("stdin"), own)?;
    drop(relying);
    Ok(Connections { stdin, stdout: Passing::ToStdout, stderr: Passing::ToStderr })
}

/// What staging started from then (`--out-from current`), not what the targets hold today.
fn lay_out_base(original: &RunDir, own: &RunDir) -> io::Result<()> {
    let base = original.join(BASE_NAME);
    if base.symlink_metadata().is_err() {
        return Ok(());
    }
    copy_tree(&base, &own.join(BASE_NAME), Access::AsIs).map(|_| ()).map_err(io::Error::other)
}

/// The new run has its own copy of the recorded standard input, so it can be replayed in turn.
fn lay_out_stdin(recorded: &Path, own: &RunDir) -> io::Result<StdinPlan> {
    match std::fs::copy(recorded, own.join("stdin")) {
        Ok(_) => Ok(StdinPlan::Recorded(std::fs::File::open(own.join("stdin"))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(StdinPlan::Nothing),
        Err(error) => Err(error),
    }
}

fn compare_runs(state: &StateDir, original: &RunRecord, replay: &RunRecord) -> anyhow::Result<Comparison> {
    let mut comparison = compare(original, replay);
    if original.output_hash != replay.output_hash {
        let was = listed(state, original.run_id)?;
        comparison.paths = compare_paths(&was, &listed(state, replay.run_id)?);
    }
    Ok(comparison)
}

/// A run's outputs, sorted, each with a mark of its mode, kind and content.
fn listed(state: &StateDir, run_id: RunId) -> anyhow::Result<Vec<(Text, String)>> {
    let dir = RunDir::of(state, run_id);
    if let Some(changes) = change_set::read(&dir)? {
        let mark = |changed: ChangedPath| {
            let after = changed.after.map_or_else(
                || "deleted".to_owned(),
                |side| format!("{:o} {:?} {}", side.mode, side.kind, side.digest.unwrap_or(Digest::OF_NOTHING)),
            );
            (changed.path, after)
        };
        return Ok(changes.paths.into_iter().map(mark).collect());
    }
    let Some(manifest) = outputs::read(&dir)? else { return Ok(Vec::new()) };
    let mark = |(index, entry): (usize, &ManifestEntry)| {
        // A directory's hash says what its entries say already.
        let content = if entry.kind == EntryKind::Directory { String::new() } else { entry.digest.to_string() };
        (Text(manifest.path_of(index)), format!("{:o} {:?} {content}", entry.mode, entry.kind))
    };
    let mut entries: Vec<(Text, String)> = manifest.entries().iter().enumerate().map(mark).collect();
    entries.sort();
    Ok(entries)
}

/// Says how the two runs differ.
pub fn report(replayed: &Replayed, out: &mut dyn Write) -> io::Result<()> {
    let Replayed { finished, original, comparison } = replayed;
    let (new, old) = (finished.record.run_id.short(), original.short());
    if comparison.reproduced() {
        return writeln!(out, "reproduced: run {new} ended as run {old} did, with the same outputs");
    }
    writeln!(out, "diverged: run {new} is not what run {old} was")?;
    for difference in &comparison.differences {
        writeln!(out, "  {difference}")?;
    }
    for path in &comparison.paths {
        writeln!(out, "  {}: {}", render::escape(&path.path.0), path.what)?;
    }
    Ok(())
}

/// The recorded snapshot of a run, for commands that look into it.
pub fn snapshot_of(state: &StateDir, run_id: RunId) -> anyhow::Result<Option<SnapshotRef>> {
    let journal = journal::read(&RunDir::of(state, run_id).journal())?;
    Ok(journal.into_iter().find_map(|event| match event {
        Event::Snapshotted(taken) => Some(taken.snapshot),
        _ => None,
    }))
}
