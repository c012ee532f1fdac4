//! The breakers on the road of a run: before anything is spawned it is asked whether what the run needs works, and when
//! the run is in the log its end is counted.

use std::sync::Arc;

use crate::model::breaker::{Breaker, BreakerPolicy, Ending, Refusal};
use crate::model::error_kind::{Failure, Status};
use crate::model::{RunId, RunRecord, RunSpec, Text, Timestamp};
use crate::rules::breaker::{Change, Passage, Relation, Verdict, ask, is_probe, lend, settle, verdict};
use crate::rules::exit_code::AgentExit;
use crate::rules::nearest::nearest;
use crate::rules::upstream::{Needs, Upstream, refusal, upstream};
use crate::store::breakers::{BreakerError, Breakers};
use crate::store::run_dir::RunDir;
use crate::store::state_dir::StateDir;
use crate::sys::clock;

use super::ended::{Life, Stage, chain};
use super::progress::{Progress, Warning};

/// A breaker that is asked.
struct Asked {
    agent: Text,
    /// How the run comes to depend on it; `None` for the run's own agent.
    upstream: Option<Upstream>,
    answer: Binding,
}

/// What the end of a run did to breakers, for people.
#[derive(Debug, Default)]
pub struct Told {
    /// What was wrong.
    pub warnings: Vec<String>,
    /// What has opened or closed.
    pub news: Vec<String>,
}

/// Whether the answer is obeyed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// A refused run is not started.
    Obeyed,
    /// The run is started in any case; but if it may be the probe it is, so that nobody else tries meanwhile.
    Heard,
}

/// Ends a run that depends on an open breaker; takes the lease where the run is let through to try.
pub(super) fn admit(life: Life, progress: &Arc<dyn Progress>) -> Stage<Life> {
    if life.spec.replay_of.is_some() || life.spec.breaker.refusal == Refusal::Never {
        // A replay looks at the past, with the inputs of then.
        return Ok(life);
    }
    match look(&life.state, &life.spec, life.dir.run_id(), progress) {
        Ok(None) => Ok(life),
        Ok(Some(failure)) => Err(life.end(Status::Blocked, Some(failure), AgentExit::default())),
        Err(error) => {
            // Whatever keeps breakers from being read is no failure of what the run needs.
            let what = format!("it is not known whether what this run needs works: {}", chain(&error));
            progress.warn(Warning(what));
            Ok(life)
        }
    }
}

/// What can be said without the lock.
enum Glance {
    /// Everything is closed.
    Free,
    /// Something is not, whoever comes first.
    Refused(Failure),
    /// It depends on who comes first, or on a file that is to be rebuilt.
    Contested,
}

/// `Some`: why the run is not started.
fn look(
    state: &StateDir,
    spec: &RunSpec,
    run: RunId,
    progress: &Arc<dyn Progress>,
) -> Result<Option<Failure>, BreakerError> {
    let breakers = Breakers::at(state);
    let asked = to_ask(spec, || breakers.needs(), &mut |what| progress.warn(Warning(what)))?;
    let now = clock::now();
    match glance(&breakers, &asked, now)? {
        Glance::Free => return Ok(None),
        Glance::Refused(failure) => return Ok(Some(failure)),
        Glance::Contested => {}
    }
    let mut locked = breakers.lock()?;
    let mut probed = Vec::new();
    let mut answer = None;
    for one in &asked {
        let breaker = locked.read(&one.agent)?;
        match ask(&breaker, now, |holder| breakers.is_alive(holder)) {
            Passage::Probe => probed.push(breaker),
            passage => answer = answer.or_else(|| one.refusal(&breaker, passage)),
        }
    }
    for agent in locked.rebuilt() {
        progress.warn(Warning(rebuilt(agent)));
    }
    if answer.is_some() {
        return Ok(answer);
    }
    for mut breaker in probed {
        lend(&mut breaker, run);
        let name = breaker.agent.to_string_lossy();
        progress.note(&format!("this run is a probe: it decides whether {name} works again"));
        locked.write(breaker)?;
    }
    Ok(None)
}

/// Nearly always everything is closed.
fn glance(breakers: &Breakers, asked: &[Asked], now: Timestamp) -> Result<Glance, BreakerError> {
    let mut glance = Glance::Free;
    for one in asked {
        let breaker = match breakers.read(&one.agent) {
            Ok(None) => continue,
            Ok(Some(breaker)) => breaker,
            Err(BreakerError::Damaged { .. }) => {
                glance = Glance::Contested;
                continue;
            }
            Err(error) => return Err(error),
        };
        let passage = ask(&breaker, now, |holder| breakers.is_alive(holder));
        if let Some(failure) = one.refusal(&breaker, passage) {
            return Ok(Glance::Refused(failure));
        }
        if passage == Passage::Probe {
            glance = Glance::Contested;
        }
    }
    Ok(glance)
}

impl Asked {
    fn refusal(&self, breaker: &Breaker, passage: Passage) -> Option<Failure> {
        let refuses = matches!(passage, Passage::CoolingDown { .. } | Passage::Probing { .. });
        let is_obeyed = self.answer == Binding::Obeyed;
        (refuses && is_obeyed).then(|| refusal(self.upstream.as_ref(), breaker, passage))
    }
}

/// Which breakers have a say, nearest first.
fn to_ask(
    spec: &RunSpec,
    recorded: impl FnOnce() -> Result<Needs, BreakerError>,
    warn: &mut dyn FnMut(String),
) -> Result<Vec<Asked>, BreakerError> {
    let by_itself = spec.breaker.refusal == Refusal::UpstreamAndSelf;
    let own = Asked {
        agent: spec.agent.clone(),
        upstream: None,
        answer: if by_itself { Binding::Obeyed } else { Binding::Heard },
    };
    if spec.needs.is_empty() && !by_itself {
        return Ok(vec![own]);
    }
    let recorded = recorded()?;
    warn_about_strangers(spec, &recorded, warn);
    let mut asked = vec![own];
    asked.extend(upstream(&spec.agent, &spec.needs, &recorded).into_iter().map(|found| Asked {
        agent: found.agent.clone(),
        upstream: Some(found),
        answer: Binding::Obeyed,
    }));
    Ok(asked)
}

/// A need that no run ever had for its agent protects from nothing: it may be a typo.
fn warn_about_strangers(spec: &RunSpec, recorded: &Needs, warn: &mut dyn FnMut(String)) {
    for need in &spec.needs {
        if Text::from(need.as_str()) == spec.agent {
            let what = "a run cannot need its own agent: that need is left out (--breaker-self refuses its own runs)";
            warn(format!("--needs {need}: {what}"));
            continue;
        }
        if recorded.contains_key(&Text::from(need.as_str())) {
            continue;
        }
        let names: Vec<_> = recorded.keys().map(Text::to_string_lossy).collect();
        let near = nearest(need, names.iter().map(AsRef::as_ref));
        let near = near.map_or_else(String::new, |near| format!(": did you mean {near}?"));
        warn(format!("--needs {need}: no run of that agent is known here{near}"));
    }
}

/// What the breakers would say to a run, were it to begin now.
#[derive(Debug, Default)]
pub struct Foresight {
    /// Each breaker that is asked, nearest first; none where none is.
    pub answers: Vec<Answer>,
    /// What is wrong with what the run needs.
    pub warnings: Vec<String>,
}

/// What one breaker would say.
#[derive(Debug)]
pub struct Answer {
    /// Whose it is.
    pub agent: Text,
    /// How the run comes to depend on it; `None` for the run's own agent.
    pub upstream: Option<Upstream>,
    /// Counted failures since the last success.
    pub consecutive: u32,
    /// Whether the run may go.
    pub passage: Passage,
    /// Why the run would not be started; `None` if it would, whatever the answer.
    pub refusal: Option<Failure>,
}

impl Foresight {
    /// Looks at what is there, without a lock and without a word of it being changed. `state`: none if there is none yet.
    pub fn of(state: Option<&StateDir>, spec: &RunSpec) -> Result<Self, BreakerError> {
        if spec.breaker.refusal == Refusal::Never {
            return Ok(Self::default());
        }
        let breakers = state.map(Breakers::at);
        let peek = breakers.as_ref().map(Breakers::peek).transpose()?;
        let recorded = || Ok(peek.as_ref().map(|peek| peek.needs().clone()).unwrap_or_default());
        let mut warnings = Vec::new();
        let asked = to_ask(spec, recorded, &mut |what| warnings.push(what))?;
        let now = clock::now();
        let mut answers = Vec::with_capacity(asked.len());
        for one in asked {
            let breaker = match &peek {
                Some(peek) => peek.read(&one.agent)?,
                None => Breaker::closed(one.agent.clone()),
            };
            let is_alive = |holder| breakers.as_ref().is_some_and(|breakers| breakers.is_alive(holder));
            let passage = ask(&breaker, now, is_alive);
            let refusal = one.refusal(&breaker, passage);
            let Asked { agent, upstream, .. } = one;
            answers.push(Answer { agent, upstream, consecutive: breaker.consecutive, passage, refusal });
        }
        Ok(Self { answers, warnings })
    }
}

/// What is said of a breaker that was damaged.
pub fn rebuilt(agent: &Text) -> String {
    format!("the breaker of {} was damaged; it was rebuilt from the run log", agent.to_string_lossy())
}

/// Counts the end of a run that is in the log, once, however often this is called while `mark` (the run's own, or that of
/// the run around it) stands among the living. Returns what a person should know.
pub(super) fn count(
    state: &StateDir,
    record: &RunRecord,
    policy: &BreakerPolicy,
    mark: RunId,
) -> Result<Told, BreakerError> {
    let breakers = Breakers::at(state);
    let ending = Ending::from(record);
    let failed = verdict(&ending) == Verdict::Failure;
    if !breakers.is_built() && !failed {
        return Ok(Told::default());
    }
    let is_stranger = record.replay_of.is_none() && !breakers.knows(&record.agent, &record.needs);
    let probed = probed(&breakers, record)?;
    let own = match breakers.read(&record.agent) {
        Ok(None) => failed,
        Ok(Some(mut breaker)) => settle(&mut breaker, &ending, Relation::Own, policy, mark) != Change::None,
        Err(BreakerError::Damaged { .. }) => true,
        Err(error) => return Err(error),
    };
    if !is_stranger && !own && probed.is_empty() {
        return Ok(Told::default());
    }
    let mut locked = breakers.lock()?;
    let mut told = Told::default();
    let own = own.then(|| (record.agent.clone(), Relation::Own));
    for (agent, relation) in own.into_iter().chain(probed.into_iter().map(|agent| (agent, Relation::Dependent))) {
        let mut breaker = locked.read(&agent)?;
        let change = settle(&mut breaker, &ending, relation, policy, mark);
        told.news.extend(news(&breaker, &ending, change));
        if change != Change::None {
            locked.write(breaker)?;
        }
    }
    // Where the list was just built from the log, this run was in it already.
    if is_stranger && !breakers.knows(&record.agent, &record.needs) {
        locked.note(&record.agent, &record.needs)?;
    }
    told.warnings.extend(locked.rebuilt().iter().map(rebuilt));
    Ok(told)
}

/// Agents upstream whose lease the run has.
fn probed(breakers: &Breakers, record: &RunRecord) -> Result<Vec<Text>, BreakerError> {
    if record.needs.is_empty() || !breakers.is_built() {
        return Ok(Vec::new());
    }
    let found = upstream(&record.agent, &record.needs, &breakers.needs()?).into_iter().map(|found| found.agent);
    // A damaged one has lost its lease.
    let has_lease =
        |agent: &Text| breakers.read(agent).is_ok_and(|read| read.is_some_and(|one| is_probe(&one, record.run_id)));
    Ok(found.filter(has_lease).collect())
}

fn news(breaker: &Breaker, ending: &Ending, change: Change) -> Option<String> {
    let name = breaker.agent.to_string_lossy();
    // Where the breakers were just built from the log, this run was in it already.
    let is_new = breaker.since == Some(ending.end_time);
    match &breaker.opened {
        None if change == Change::Closed => Some(format!("{name} works again: its breaker is closed")),
        Some(opened) if change == Change::Opened || is_new => {
            let why = match breaker.consecutive {
                _ if breaker.agent != ending.agent => "this try failed".to_owned(),
                1 => "1 failure".to_owned(),
                count => format!("{count} failures in a row"),
            };
            let until = opened.next_probe;
            Some(format!("the breaker of {name} is open ({why}): what needs it is refused until {until}"))
        }
        _ => None,
    }
}

/// The same for a run of which only its directory tells the policy.
pub(super) fn count_recorded(
    state: &StateDir,
    dir: &RunDir,
    record: &RunRecord,
    mark: RunId,
) -> Result<Told, BreakerError> {
    let policy = dir.read_spec().map(|spec| spec.breaker).unwrap_or_default();
    count(state, record, &policy, mark)
}
