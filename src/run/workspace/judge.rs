//! The gate: what is never published, protected paths, limits and expectations, then the verify commands on a view of
//! the staged result whose writes are thrown away. Its answer is one event.

use std::path::Path;
use std::sync::Arc;

use crate::model::EntryKind;
use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, Judgement};
use crate::model::spec::OnDrift;
use crate::rules::expectation::{Limits, ResultSummary, objection};
use crate::run::ended::{Ended, Stage};
use crate::run::judge::{check_one, glob_sets, write_changes};
use crate::run::processes::Processes;
use crate::run::progress::Progress;
use crate::run::signals::Signals;
use crate::run::snapshot::cancelled;
use crate::run::verify_view::VerifyView;

use super::seal::SealedWorkspace;
use super::{ROOT_NAME, protect};

/// Judges the sealed changes.
pub async fn judge(
    sealed: SealedWorkspace,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<SealedWorkspace> {
    if let Some(rejection) = first_objection(&sealed) {
        return Err(reject(sealed, rejection));
    }
    let sealed = if sealed.life.spec.gate.verify.is_empty() || sealed.staged.changes.paths.is_empty() {
        sealed
    } else {
        verify_all(sealed, processes, signals, progress).await?
    };
    let judged = Judgement { time: crate::sys::clock::now(), rejection: None };
    let SealedWorkspace { life, origin, places, scene, agent, sealed, staged, drift } = sealed;
    let life = life.note(Event::Judged(judged), "judged")?;
    Ok(SealedWorkspace { life, origin, places, scene, agent, sealed, staged, drift })
}

fn reject(sealed: SealedWorkspace, rejection: Failure) -> Box<Ended> {
    let judged = Judgement { time: crate::sys::clock::now(), rejection: Some(rejection) };
    match sealed.life.note(Event::Judged(judged), "judged") {
        Ok(life) => life.end(Status::Rejected, None, sealed.agent),
        Err(ended) => ended,
    }
}

fn first_objection(sealed: &SealedWorkspace) -> Option<Failure> {
    let life = &sealed.life;
    let gate = &life.spec.gate;
    if life.spec.on_drift == OnDrift::Fail
        && let Some(first) = sealed.drift.paths.first()
    {
        let shown = first.to_string_lossy().escape_debug().to_string();
        let message = format!("{} inputs changed under the run (--on-drift fail): {shown}", sealed.drift.count);
        return Some(Failure::new(ErrorKind::Expectation, message).with_hint("run again"));
    }
    let summary = summarise(sealed);
    let limits = Limits { files: gate.max_files, bytes: gate.max_bytes.map(|size| size.0) };
    objection(&summary, limits).or_else(|| protect::objection(life, &sealed.origin, &sealed.staged.changes.paths))
}

/// What the pure gate needs to know of the changes.
fn summarise(sealed: &SealedWorkspace) -> ResultSummary {
    let staged = &sealed.staged;
    let (files, bytes) = staged.changes.staged();
    let mut specials = Vec::new();
    let mut privileged = Vec::new();
    for refused in &staged.refused {
        let shown = String::from_utf8_lossy(refused.path.as_bytes()).escape_debug().to_string();
        match refused.what {
            "setuid or setgid file" => privileged.push(shown),
            what => specials.push((shown, what)),
        }
    }
    let expect = &sealed.life.spec.gate.expect;
    ResultSummary { files, bytes, unmatched: unmatched(sealed, expect), specials, privileged }
}

/// Expected globs that no non-empty file of the workspace will match: what was changed first, then what was not.
fn unmatched(sealed: &SealedWorkspace, expect: &[String]) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt as _;
    if expect.is_empty() {
        return Vec::new();
    }
    let matchers = glob_sets(expect);
    let mut met = vec![false; expect.len()];
    let mut meet = |path: &[u8]| {
        for (met, matcher) in met.iter_mut().zip(&matchers) {
            *met |= matcher.is_match(Path::new(std::ffi::OsStr::from_bytes(path)));
        }
    };
    let paths = &sealed.staged.changes.paths;
    for changed in paths {
        if changed.after.is_some_and(|side| side.kind == EntryKind::File && side.size > 0) {
            meet(&changed.path.0);
        }
    }
    let prefix = [ROOT_NAME.as_bytes(), b"/"].concat();
    for entry in sealed.origin.baseline.entries() {
        if entry.kind() != EntryKind::File || entry.size() == 0 {
            continue;
        }
        let path = entry.path();
        if let Some(path) = path.0.strip_prefix(&prefix[..])
            && paths.binary_search_by(|changed| changed.path.0[..].cmp(path)).is_err()
        {
            meet(path);
        }
    }
    expect.iter().zip(met).filter(|(_, met)| !met).map(|(glob, _)| glob.clone()).collect()
}

/// Runs the verify commands in order on one throwaway view.
async fn verify_all(
    sealed: SealedWorkspace,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<SealedWorkspace> {
    let view = VerifyView::of_workspace(&sealed.life, &sealed.places, &sealed.scene)
        .and_then(|view| write_changes(&view.changes, &sealed.staged.changes.paths).map(|()| view));
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
