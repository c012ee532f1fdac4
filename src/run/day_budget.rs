//! What an agent's runs may cost in a day (UTC), over all of them: what was spent is read from the log, and a run may spend
//! what is left. Runs that go on at the same time do not see each other's cost.

use crate::model::RunSpec;
use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::rules::exit_code::AgentExit;
use crate::store::log::{ReadError, RunLog};
use crate::store::state_dir::StateDir;
use crate::sys::clock;

use super::ended::{Life, Stage};

/// Imported runs are of other days and stand at the log's end: so many in a row are passed over.
const IMPORTED_AT_MOST: u32 = 1000;

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Writes into a specification what is left of its day's budget.
pub fn apply(spec: &mut RunSpec, state: &StateDir) -> Result<(), ReadError> {
    spec.budget.left_today_usd = None;
    let Some(daily) = spec.budget.daily_usd else { return Ok(()) };
    let now = clock::now().unix_micros();
    let midnight = now - now.rem_euclid(DAY_MICROS);
    let (mut spent, mut old) = (0.0, 0_u32);
    for line in RunLog::at(state.path()).newest_first()? {
        // A damaged line is told of by the commands that read the log.
        let Ok(cost) = line?.cost() else { continue };
        if cost.end_time.unix_micros() < midnight {
            old += 1;
            if old > IMPORTED_AT_MOST {
                break;
            }
            continue;
        }
        old = 0;
        if cost.agent == spec.agent {
            spent += cost.cost_usd.unwrap_or(0.0);
        }
    }
    spec.budget.left_today_usd = Some((daily - spent).max(0.0));
    Ok(())
}

/// Ends a run for which nothing is left, before anything is spawned.
pub(super) fn admit(life: Life) -> Stage<Life> {
    match (life.spec.budget.daily_usd, life.spec.budget.left_today_usd) {
        (Some(daily), Some(left)) if left <= 0.0 => {
            let agent = life.spec.agent.to_string_lossy().into_owned();
            let message = format!("the runs of {agent} have cost what they may in a day (${daily:.2}, UTC)");
            let failure = Failure::new(ErrorKind::BudgetCost, message)
                .with_hint("`daily_usd` in agentguard.toml is the limit; it begins anew at midnight UTC");
            Err(life.end(Status::Failed, Some(failure), AgentExit::default()))
        }
        _ => Ok(life),
    }
}
