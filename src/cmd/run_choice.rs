//! Which run is meant: the one place where a reference that names none, or several, is explained to a person.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};

use super::render::{escape, local_time};
use crate::rules::run_ref::RunRef;
use crate::store::log::{Candidate, FindError, Line, RunLog};

/// The line of the run that `text` names; every command that takes RUN asks here. The error lists the runs that may
/// have been meant, newest first.
pub fn choose(log: &RunLog, text: &str) -> anyhow::Result<Line> {
    let reference: RunRef = text.parse()?;
    match log.find(&reference) {
        Err(FindError::Ambiguous { count, candidates, .. }) => {
            let shown = if count > candidates.len() as u64 { ", the newest of them" } else { "" };
            Err(anyhow!("{reference} may be any of {count} runs{shown}:{}", listed(&candidates)))
        }
        Err(FindError::Unknown { recent, .. }) if recent.is_empty() => {
            Err(anyhow!("no run {reference}: {} holds none", escape(log.path().as_os_str().as_encoded_bytes())))
        }
        Err(FindError::Unknown { recent, .. }) => {
            Err(anyhow!("no run {reference}; the newest are:{}", listed(&recent)))
        }
        found => found.with_context(|| format!("look up run {reference}")),
    }
}

fn listed(runs: &[Candidate]) -> String {
    let mut list = String::new();
    for run in runs {
        let (agent, time) = (escape(&run.agent.0), local_time(run.start_time));
        // Writing to a String cannot fail.
        _ = write!(list, "\n  {}  {time}  {agent}  {}", run.run_id, run.status);
    }
    list
}
