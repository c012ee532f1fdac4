//! One attempt: staging is laid out, the agent is supervised to its end, and what came of it becomes one event.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::call::Call;
use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::{AttemptEnd, Event, StdinCapture};
use crate::model::spec::{IsolationLevel, ViewKind};
use crate::model::{ByteSize, Text, Timestamp};
use crate::rules::exit_code::{AgentExit, NOT_EXECUTABLE, NOT_FOUND};
use crate::rules::step::{AttemptOutcome, ProcessEnd, StopCause};
use crate::sys::descendants::Swept;
use crate::sys::{clock, mount_table, process};
use crate::view::clone_copy::CopyBase;

use super::begin::Target;
use super::ended::{Life, Stage, chain};
use super::environment::AttemptPlaces;
use super::lay_out::{LaidOut, StagePlan};
use super::processes::Processes;
use super::progress::{Progress, Stage as Shown, Warning};
use super::retrying::Turn;
use super::scene::{self, Scene, Way};
use super::signals::{Signals, Worked};
use super::snapshot::{Ground, RootListing, cancelled, with_stdin};
use super::stdin::Kept;
use super::supervise::{StartError, Streams, Watched, watch};
use super::told::{self, Told};
use super::workspace::{Origin, ROOT_NAME};

/// A run whose attempt has ended, well or not.
#[derive(Debug)]
#[must_use]
pub struct Attempted {
    /// The run.
    pub life: Life,
    /// Its targets.
    pub targets: Vec<Target>,
    /// Where the attempt had its things.
    pub places: AttemptPlaces,
    /// How it saw the world.
    pub scene: Scene,
    /// What its private copy was before.
    pub copied: Option<CopyBase>,
    /// How the agent ended.
    pub agent: AgentExit,
    /// Why the attempt failed; `None` if the agent succeeded.
    pub failure: Option<Failure>,
    /// The workspace as it was when the run began.
    pub origin: Option<Origin>,
}

/// Runs one attempt.
pub async fn make(
    life: Life,
    ground: Ground,
    turn: &Turn,
    streams: &mut Streams,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<Attempted> {
    let Ground { targets, root_listing, inputs, origin, obstacle, difference } = ground;
    let ways = scene::ways(&life.spec, obstacle.as_ref());
    let stage = StagePlan {
        turn,
        inputs,
        difference: difference.as_deref(),
        targets: &targets,
        links: links_of(origin.as_ref(), difference.is_some()),
    };
    let start = stage.start(&life, &ways);
    let life = life.note(Event::AttemptStarted(start), "attempt.started")?;
    let staging = match stage.prepare(&life) {
        Ok(staging) => staging,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let left_open = life.spec.view.wanted == ViewKind::Auto && life.spec.view.isolation != IsolationLevel::None;
    if let Some(obstacle) = obstacle.filter(|_| left_open) {
        progress.note(&format!("no overlay: {}", obstacle.0));
    }
    let mut refused = None;
    for (tried, way) in ways.iter().copied().enumerate() {
        let laid_out = stage.lay_out(&life, way, staging.clone(), signals).await;
        let LaidOut { mut scene, places, copied } = match laid_out {
            Ok(Worked::Done(laid_out)) => laid_out,
            Ok(Worked::Cancelled(signal)) => return Err(cancelled(life, signal)),
            Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
        };
        progress.stage(Shown::Running);
        scene.not_before = origin.as_ref().map(|origin| origin.began.0);
        let watched = watch(&life, &places, &scene, streams, processes, signals, progress).await;
        let watched = match watched {
            Err(StartError::Step(step)) if tried + 1 < ways.len() => {
                progress.note(&format!("no {}: {step}; trying {}", way.word(), ways[tried + 1].word()));
                stage.take_down(&life, way);
                refused = Some(step);
                continue;
            }
            watched => watched,
        };
        if way == Way::LooseClone && life.spec.view.isolation != IsolationLevel::None {
            let why = refused.as_ref().map(|step| format!(" ({step})")).unwrap_or_default();
            let what = "nothing keeps absolute paths from leading the agent to the live tree";
            progress.warn(Warning(format!("{what}{why}; `agentguard doctor` tells what is missing")));
        }
        let calls = watched.as_ref().map(|watched| watched.spending.calls()).unwrap_or_default();
        let (agent, failure, end) =
            conclude(&life, watched, streams, &root_listing, (&places, &scene, &calls), progress);
        let mut life = life;
        for call in calls {
            if let Err(error) = life.journal.append(Event::Called(Box::new(call))) {
                return Err(life.fail(ErrorKind::PublishIo, &error));
            }
        }
        let life = life.note(Event::AttemptEnded(end), "attempt.ended")?;
        return Ok(Attempted { life, targets, places, scene, copied, agent, failure, origin });
    }
    let none = io::Error::other("no view was left to try");
    Err(life.fail(ErrorKind::SpawnFailed, &none))
}

/// Files that are laid into an overlay's layer beforehand, so that their names stay names of one file: as many as are worth
/// it. In a tree that is not what its snapshot says their contents are not those of the live ones.
fn links_of(origin: Option<&Origin>, differs: bool) -> Vec<Vec<PathBuf>> {
    const MOST_BYTES: u64 = 256 << 20;
    let Some(origin) = origin.filter(|_| !differs) else { return Vec::new() };
    let prefix = [ROOT_NAME.as_bytes(), b"/"].concat();
    let mut bytes = 0_u64;
    let mut wanted = Vec::new();
    for group in origin.baseline.link_groups() {
        bytes = bytes.saturating_add(group.size);
        let names: Option<Vec<PathBuf>> = group
            .paths
            .iter()
            .map(|path| path.0.strip_prefix(&prefix[..]).map(|inside| Text(inside.to_vec()).to_path_buf()))
            .collect();
        if bytes <= MOST_BYTES {
            wanted.extend(names);
        }
    }
    wanted
}

/// What came of the agent, as the road, the gate and the journal need it.
fn conclude(
    life: &Life,
    watched: Result<Watched, StartError>,
    streams: &Streams,
    root_listing: &RootListing,
    (places, scene, calls): (&AttemptPlaces, &Scene, &[Call]),
    progress: &Arc<dyn Progress>,
) -> (AgentExit, Option<Failure>, AttemptEnd) {
    match watched {
        Ok(watched) => {
            warn_about_relays(&watched, progress);
            let agent = agent_exit(&watched.outcome);
            let staged_stdout = streams.staged_stdout.is_some();
            let told = told::gather(life, places, scene, &watched.said, &watched.spending, calls);
            if !told.unpriced.is_empty() {
                let models = told.unpriced.join(", ");
                let what = format!("the cost is not known: no price of {models} (`agentguard prices --help`)");
                if watched.spending.is_limited_in_usd() {
                    progress.warn(Warning(format!("{what}; the budget of dollars counts the rest alone")));
                } else {
                    progress.note(&what);
                }
            }
            let failure = unkillable(&watched.swept)
                .or_else(|| failure_of(&watched, life, &told))
                .or_else(|| unstaged_stdout(&watched, staged_stdout));
            let end = ended(life, &watched, told, root_listing, failure.clone());
            (agent, failure, end)
        }
        Err(error) => {
            let (code, failure) = not_started(life, &error);
            let agent = AgentExit { code, ..AgentExit::default() };
            (agent, Some(failure.clone()), empty_end(clock::now(), code, failure))
        }
    }
}

fn not_started(life: &Life, error: &StartError) -> (Option<i32>, Failure) {
    match error {
        StartError::Process(error) => {
            let (code, failure) = not_spawned(life, error);
            (Some(code), failure)
        }
        // What was asked for cannot be given: agentguard's own failure, and no quiet downgrade.
        error => {
            let failure = Failure::new(ErrorKind::SpawnFailed, chain(error));
            (None, failure.with_hint(way_out(life, error)))
        }
    }
}

/// What to do about a view that cannot be had.
fn way_out(life: &Life, error: &StartError) -> String {
    let doctor = "`agentguard doctor` tells what is missing and how to get it";
    let layer = match error {
        StartError::Step(step) if step.step == "overlay" => mount_table::mount_of(life.state.path()).ok(),
        _ => None,
    };
    let Some(mounted) = layer else { return doctor.to_owned() };
    let kind = mounted.fs_type;
    format!(
        "{doctor}; the changes would lie in the state directory ({kind}): --state-dir DIR elsewhere or --view clone may do"
    )
}

/// What may still write must not be published.
pub(super) fn unkillable(swept: &Swept) -> Option<Failure> {
    let pids: Vec<String> = swept.left.iter().map(ToString::to_string).collect();
    let message = format!("{} processes that it left could not be killed: {}", pids.len(), pids.join(", "));
    (!pids.is_empty()).then(|| Failure::new(ErrorKind::Unkillable, message))
}

fn agent_exit(outcome: &AttemptOutcome) -> AgentExit {
    let (code, signal) = match outcome.end {
        ProcessEnd::Code(code) => (Some(code), None),
        ProcessEnd::Signal(signal) => (None, Some(signal)),
    };
    let cancelled_by = match outcome.stopped {
        Some(StopCause::Cancelled(signal)) => Some(signal),
        _ => None,
    };
    AgentExit { code, signal, cancelled_by }
}

/// Why an attempt failed, from how it was stopped, what it spent, how it exited, and what it said of that.
fn failure_of(watched: &Watched, life: &Life, told: &Told) -> Option<Failure> {
    let (outcome, spending) = (&watched.outcome, &watched.spending);
    let over_budget = match outcome.stopped {
        Some(cause @ (StopCause::Tokens | StopCause::Cost | StopCause::Calls)) => Some(cause),
        None => spending.passed_with(told.usage.as_ref(), told.known_usd),
        Some(_) => None,
    };
    if let Some(cause) = over_budget {
        return Some(spending.failure(cause, told.usage.as_ref(), told.known_usd));
    }
    told::judged(outcome, failure_of_process(outcome, life), told.verdict.as_ref())
}

fn failure_of_process(outcome: &AttemptOutcome, life: &Life) -> Option<Failure> {
    match (outcome.stopped, outcome.end) {
        (Some(StopCause::Timeout), _) => {
            let limit = life.spec.time.timeout.unwrap_or_default();
            let message = format!("the agent ran longer than --timeout {}", humantime::format_duration(limit));
            Some(Failure::new(ErrorKind::Timeout, message))
        }
        (Some(StopCause::Cancelled(signal)), _) => {
            Some(Failure::new(ErrorKind::Cancelled, format!("told to stop by signal {signal}")))
        }
        (Some(cause), _) => Some(limit_reached(cause, life)),
        (None, ProcessEnd::Code(0)) => None,
        (None, ProcessEnd::Code(code)) => {
            Some(Failure::new(ErrorKind::ExitCode, format!("the agent exited with {code}")))
        }
        (None, ProcessEnd::Signal(signal)) => {
            Some(Failure::new(ErrorKind::Signal, format!("the agent died of signal {signal}")))
        }
    }
}

/// The limits of an attempt besides its timeout.
fn limit_reached(cause: StopCause, life: &Life) -> Failure {
    let spec = &life.spec;
    let time = |limit: Option<Duration>| humantime::format_duration(limit.unwrap_or_default()).to_string();
    match cause {
        // The others are told of where they are known.
        StopCause::Timeout
        | StopCause::Deadline
        | StopCause::Cancelled(_)
        | StopCause::Tokens
        | StopCause::Cost
        | StopCause::Calls => {
            let message = format!("the run took longer than --deadline {}", time(spec.time.deadline));
            Failure::new(ErrorKind::Deadline, message)
        }
        StopCause::Idle => {
            let message = format!("the agent did nothing for --idle-timeout {}", time(spec.time.idle_timeout));
            let hint = "nothing was printed, staged or computed: it may wait for input or for a server";
            Failure::new(ErrorKind::IdleTimeout, message).with_hint(hint)
        }
        StopCause::Output => {
            let most = spec.budget.max_output.unwrap_or(ByteSize(0));
            Failure::new(ErrorKind::OutputLimit, format!("the agent printed more than --max-output {most}"))
        }
        StopCause::Staged => {
            let message = match (spec.gate.max_files, spec.gate.max_bytes) {
                (None, None) => "the agent was stopped before it filled the disk that it stages on".to_owned(),
                _ => "the agent staged more than --max-files or --max-bytes allow, or filled the disk".to_owned(),
            };
            Failure::new(ErrorKind::Limit, message)
        }
    }
}

/// Standard output is the result (`--stdout`) and did not reach staging whole.
fn unstaged_stdout(watched: &Watched, staged_stdout: bool) -> Option<Failure> {
    let error = watched.stdout.error.as_ref().filter(|_| staged_stdout)?;
    Some(Failure::new(ErrorKind::PublishIo, format!("the agent's standard output could not be staged: {error}")))
}

fn not_spawned(life: &Life, error: &io::Error) -> (i32, Failure) {
    let program = life.spec.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
    let cwd_is_there = life.spec.cwd.as_path().is_dir();
    let (code, message) = match error.kind() {
        _ if !cwd_is_there => (NOT_EXECUTABLE, format!("no such working directory: {:?}", life.spec.cwd)),
        io::ErrorKind::NotFound => (NOT_FOUND, format!("command not found: {program:?}")),
        // A directory of PATH that may not be searched: what a shell calls not found is not found.
        io::ErrorKind::PermissionDenied if process::find_program(OsStr::new(&program)).is_none() => {
            (NOT_FOUND, format!("command not found: {program:?}"))
        }
        _ => (NOT_EXECUTABLE, format!("cannot execute {program:?}: {error}")),
    };
    (code, Failure::new(ErrorKind::SpawnFailed, message))
}

fn empty_end(time: Timestamp, exit_code: Option<i32>, failure: Failure) -> AttemptEnd {
    AttemptEnd {
        time,
        exit_code,
        signal: None,
        failure: Some(failure),
        cancelled_by: None,
        stdin: None,
        usage: None,
        cost_usd: None,
        cost_source: None,
        retry_after_ms: None,
        stdout_bytes: 0,
        stderr_bytes: 0,
        isolation: None,
        leaked_processes: None,
    }
}

fn ended(
    life: &Life,
    watched: &Watched,
    told: Told,
    root_listing: &RootListing,
    failure: Option<Failure>,
) -> AttemptEnd {
    let agent = agent_exit(&watched.outcome);
    let retry_after = told::retry_after(told.verdict.as_ref(), failure.as_ref());
    let stdin = watched.stdin.or_else(|| recorded_stdin(life)).map(|kept| StdinCapture {
        digest: kept.digest,
        size: kept.size,
        input_hash: kept.digest.and_then(|digest| Some(with_stdin(&root_listing.bytes()?, digest, kept.size))),
    });
    AttemptEnd {
        time: clock::now(),
        exit_code: agent.code,
        signal: agent.signal,
        failure,
        cancelled_by: agent.cancelled_by,
        stdin,
        usage: told.usage,
        cost_usd: told.cost_usd,
        cost_source: told.cost_source,
        retry_after_ms: retry_after.and_then(|wait| u64::try_from(wait.as_millis()).ok()),
        stdout_bytes: watched.stdout.bytes,
        stderr_bytes: watched.stderr.bytes,
        isolation: Some(watched.isolation.clone()),
        leaked_processes: Some(watched.swept.killed),
    }
}

/// A replay was given the standard input of its original, which lies in this run's directory.
fn recorded_stdin(life: &Life) -> Option<Kept> {
    use sha2::Digest as _;
    life.spec.again_of()?;
    let bytes = std::fs::read(life.dir.join("stdin")).ok().filter(|bytes| !bytes.is_empty())?;
    Some(Kept { digest: Some(crate::model::Digest(sha2::Sha256::digest(&bytes).into())), size: bytes.len() as u64 })
}

fn warn_about_relays(watched: &Watched, progress: &Arc<dyn Progress>) {
    if let Some(Kept { digest: None, size }) = watched.stdin {
        let message = format!("standard input ({size} bytes) was not kept: the run cannot be replayed");
        progress.warn(Warning(message));
    }
    for (name, end) in [("standard output", &watched.stdout), ("standard error", &watched.stderr)] {
        if end.held_open {
            progress.warn(Warning(format!("a process that the agent left behind still holds its {name}")));
        }
        if let Some(error) = &end.error {
            progress.warn(Warning(format!("the agent's {name} could not be passed on whole: {error}")));
        }
    }
}
