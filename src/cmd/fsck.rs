//! `agentguard fsck`: look at everything that is kept, report what is wrong, repair nothing.

use std::io::Write;

use crate::rules::recovery::decide;
use crate::run::ended::chain;
use crate::run::resolve::Surroundings;
use crate::run::workspace::commit::read_plan;
use crate::store::breakers::Breakers;
use crate::store::change_set;
use crate::store::journal;
use crate::store::letters::Letters;
use crate::store::log::RunLog;
use crate::store::outputs;
use crate::store::run_dir::RunDir;
use crate::store::snapshot::SnapshotStore;
use crate::store::state_dir::StateDir;

use super::recover::Health;
use super::render;
use super::replay::check_stdin;

/// Checks the log's chain, every run directory, every snapshot.
pub fn fsck(at: &Surroundings, out: &mut dyn Write) -> anyhow::Result<Health> {
    let state = StateDir::open(&at.state)?;
    let mut problems = Vec::new();
    let log = RunLog::at(state.path());
    let checked = log.check(&mut |problem| problems.push(log.describe(&problem)))?;
    let runs = check_runs(&state, &mut problems);
    let store = SnapshotStore::at(state.path());
    problems.extend(store.check().into_iter().map(|problem| format!("{}: {}", problem.path.display(), problem.what)));
    problems.extend(Breakers::at(&state).check());
    problems.extend(Letters::at(&state).check());
    for problem in &problems {
        writeln!(out, "{}", render::escape(problem.as_bytes()))?;
    }
    let count = problems.len();
    writeln!(out, "{} records, {runs} run directories checked: {}", checked.lines, verdict(count))?;
    Ok(if count == 0 { Health::Well } else { Health::Unwell })
}

fn verdict(problems: usize) -> String {
    match problems {
        0 => "no problems".to_owned(),
        1 => "1 problem".to_owned(),
        more => format!("{more} problems"),
    }
}

fn check_runs(state: &StateDir, problems: &mut Vec<String>) -> usize {
    let Ok(entries) = std::fs::read_dir(state.runs()) else {
        problems.push(format!("{:?} cannot be read", state.runs()));
        return 0;
    };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    for name in &names {
        let shown = name.to_string_lossy();
        match shown.parse() {
            Ok(run_id) => {
                let dir = RunDir::of(state, run_id);
                problems.extend(check_run(state, &dir).into_iter().map(|what| format!("run {run_id}: {what}")));
            }
            Err(_) => problems.push(format!("runs/{shown} is no run directory")),
        }
    }
    names.len()
}

fn check_run(state: &StateDir, dir: &RunDir) -> Vec<String> {
    let mut problems = Vec::new();
    if let Err(error) = dir.read_spec() {
        problems.push(chain(&error));
    }
    match journal::read(&dir.journal()) {
        Err(error) => problems.push(chain(&error)),
        Ok(events) => {
            if let Err(error) = decide(&events) {
                problems.push(format!("its journal is not the life of a run: {error}"));
            }
            problems.extend(check_snapshot(state, &events));
            problems.extend(damaged_stdin(dir, &events));
            problems.extend(damaged_plans(dir, &events));
        }
    }
    if let Err(error) = outputs::read(dir) {
        problems.push(chain(&error));
    }
    if let Err(error) = change_set::read(dir) {
        problems.push(chain(&error));
    }
    problems
}

/// A commit that was carried out must be one that can be taken back.
fn damaged_plans(dir: &RunDir, events: &[crate::model::Event]) -> Vec<String> {
    let plans = events.iter().filter_map(|event| match event {
        crate::model::Event::CommitIntended(plan) => plan.plan.as_ref(),
        _ => None,
    });
    plans.filter_map(|file| read_plan(dir, file).err()).map(|error| format!("its plan: {}", chain(&error))).collect()
}

/// Standard input that was kept must be what was read; input that was not kept is no damage.
fn damaged_stdin(dir: &RunDir, events: &[crate::model::Event]) -> Option<String> {
    let kept = events.iter().any(|event| {
        matches!(event, crate::model::Event::AttemptEnded(end) if end.stdin.is_some_and(|stdin| stdin.digest.is_some()))
    });
    kept.then(|| check_stdin(dir, events).err()).flatten().map(|error| format!("{error:#}"))
}

/// A run that has a snapshot must be able to load it.
fn check_snapshot(state: &StateDir, events: &[crate::model::Event]) -> Option<String> {
    let taken = events.iter().find_map(|event| match event {
        crate::model::Event::Snapshotted(taken) => Some(&taken.snapshot),
        _ => None,
    })?;
    SnapshotStore::at(state.path()).load(taken).err().map(|error| format!("its snapshot: {}", chain(&error)))
}
