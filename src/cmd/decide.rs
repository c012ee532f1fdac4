//! `agentguard apply`, `discard`, `undo`: decide on a held run, take a published one back.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context as _;

use crate::model::event::Purpose;
use crate::model::{Failure, RunId};
use crate::run::progress::Progress;
use crate::run::recover::recover;
use crate::run::resolve::Surroundings;
use crate::run::workspace::decide::{Decision, apply, discard, undo};
use crate::store::log::RunLog;
use crate::store::state_dir::StateDir;

use super::run::report_recovered;
use super::run_choice::choose;

/// What was asked.
#[derive(Clone, Debug)]
pub struct DecideRequest {
    /// Where.
    pub at: Surroundings,
    /// Which run.
    pub run: String,
    /// What to do with it.
    pub purpose: Purpose,
}

/// Decides. `Some`: it was refused, and everything is as it was before.
pub fn decide(
    request: &DecideRequest,
    progress: &Arc<dyn Progress>,
    out: &mut dyn Write,
) -> anyhow::Result<Option<Failure>> {
    let state = StateDir::open(&request.at.state)?;
    report_recovered(&recover(&state), progress);
    let log = RunLog::at(state.path());
    let run_id = choose(&log, &request.run)?.head().with_context(|| format!("cannot read {:?}", log.path()))?.run_id;
    let decision = match request.purpose {
        Purpose::Apply => apply(&state, run_id)?,
        Purpose::Discard => discard(&state, run_id)?,
        Purpose::Undo => undo(&state, run_id)?,
    };
    match decision {
        Decision::Refused(failure) => Ok(Some(failure)),
        Decision::Done => {
            writeln!(out, "{}", done(request.purpose, run_id))?;
            Ok(None)
        }
    }
}

fn done(purpose: Purpose, run_id: RunId) -> String {
    let run = run_id.short();
    match purpose {
        Purpose::Apply => format!("applied run {run}"),
        Purpose::Discard => format!("discarded run {run}; the workspace is as it was"),
        Purpose::Undo => format!("took run {run} back; the workspace is as it was before it"),
    }
}
