//! Breakers from the run log: the same state machine that judges runs as they end, over the lines of those that ended.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::{BreakerError, agents, file, io_error};
use crate::model::breaker::{Breaker, BreakerPolicy, Ending};
use crate::model::{RunId, Text};
use crate::rules::breaker::{Relation, Verdict, settle, verdict};
use crate::rules::upstream::Needs;
use crate::store::log::RunLog;
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;
use crate::sys::durable;

/// What the log says of each agent.
struct Fold<'a> {
    state: &'a StateDir,
    /// Runs that are not done with: they will be counted, or were and may be counted again.
    live: HashSet<RunId>,
    agents: BTreeMap<Text, (Breaker, BreakerPolicy)>,
    needs: Needs,
}

/// Makes every file anew; the list of agents comes last, and says that all of it is there.
pub(super) fn all(state: &StateDir, dir: &Path) -> Result<(), BreakerError> {
    let fold = Fold::of(state, None)?;
    for (breaker, _) in fold.agents.values() {
        if *breaker != Breaker::closed(breaker.agent.clone()) {
            file::write(dir, breaker)?;
        }
    }
    durable::sync_directory(dir).map_err(io_error("cannot sync", dir))?;
    agents::write(dir, &fold.needs)?;
    durable::sync_directory(dir).map_err(io_error("cannot sync", dir))
}

/// What every file would say, if it were made anew.
pub(super) fn look(state: &StateDir) -> Result<(BTreeMap<Text, Breaker>, Needs), BreakerError> {
    let fold = Fold::of(state, None)?;
    let breakers = fold.agents.into_iter().map(|(agent, (breaker, _))| (agent, breaker)).collect();
    Ok((breakers, fold.needs))
}

/// One agent's breaker.
pub(super) fn one(state: &StateDir, agent: &Text) -> Result<Breaker, BreakerError> {
    let mut fold = Fold::of(state, Some(agent))?;
    Ok(fold.agents.remove(agent).map_or_else(|| Breaker::closed(agent.clone()), |(breaker, _)| breaker))
}

impl<'a> Fold<'a> {
    fn of(state: &'a StateDir, only: Option<&Text>) -> Result<Self, BreakerError> {
        let marks = std::fs::read_dir(state.live()).map_err(io_error("cannot read", &state.live()))?;
        let live = marks.flatten().filter_map(|mark| mark.file_name().to_str()?.parse().ok()).collect();
        let mut fold = Self { state, live, agents: BTreeMap::new(), needs: Needs::new() };
        // Cheaper than to read the line: most are of other agents.
        let name = only.and_then(|agent| serde_json::to_vec(agent).ok());
        for line in RunLog::at(state.path()).in_order().map_err(BreakerError::Log)? {
            let line = line.map_err(BreakerError::Log)?;
            if name.as_ref().is_some_and(|name| memchr::memmem::find(&line.bytes, name).is_none()) {
                continue;
            }
            // A damaged line tells nothing; `fsck` reports it.
            let Ok(ending) = line.ending() else { continue };
            if only.is_none_or(|agent| *agent == ending.agent) {
                fold.take(&ending);
            }
        }
        Ok(fold)
    }

    fn take(&mut self, ending: &Ending) {
        if ending.replay_of.is_none() {
            self.needs.insert(ending.agent.clone(), ending.needs.clone());
        }
        let fresh = || (Breaker::closed(ending.agent.clone()), BreakerPolicy::default());
        let (breaker, policy) = self.agents.entry(ending.agent.clone()).or_insert_with(fresh);
        if breaker.consecutive == 0 && verdict(ending) == Verdict::Failure {
            // The policy is no part of the record; where the run's directory is gone, the default one decides.
            let spec = RunDir::of(self.state, ending.run_id).read_spec();
            *policy = spec.map(|spec| spec.breaker).unwrap_or_default();
        }
        let is_live = |run: &RunId| self.live.contains(run);
        let around = ending.parent_run_id.filter(|parent| !is_live(&ending.run_id) && is_live(parent));
        settle(breaker, ending, Relation::Own, policy, around.unwrap_or(ending.run_id));
        breaker.counted.retain(|counted| is_live(&counted.mark));
    }
}
