//! One attempt: staging is laid out, the agent is supervised to its end, and what came of it becomes one event.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::{AttemptEnd, AttemptStart, Event, StdinCapture};
use crate::model::{Text, Timestamp};
use crate::rules::exit_code::{AgentExit, NOT_EXECUTABLE, NOT_FOUND};
use crate::rules::step::{AttemptOutcome, ProcessEnd, StopCause};
use crate::store::run_dir::BASE_NAME;
use crate::sys::clock;
use crate::sys::process;
use crate::usage::usage_file;

use super::begin::Target;
use super::ended::{Life, Stage};
use super::environment::AttemptPlaces;
use super::progress::{Progress, Stage as Shown, Warning};
use super::signals::Signals;
use super::snapshot::{Snapshotted, with_stdin};
use super::stdin::Kept;
use super::supervise::{Streams, Watched, watch};

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
    /// How the agent ended.
    pub agent: AgentExit,
    /// Why the attempt failed; `None` if the agent succeeded.
    pub failure: Option<Failure>,
}

/// Runs one attempt.
pub async fn make(
    snapshotted: Snapshotted,
    number: u32,
    streams: Streams,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<Attempted> {
    let Snapshotted { life, targets, root_listing, inputs } = snapshotted;
    let staging = crate::view::staging::place(&life.dir.join("staging"), life.dir.run_id(), targets_of(&targets));
    let start = AttemptStart { number, time: clock::now(), staging: Text::from(staging.as_path()) };
    let life = life.note(Event::AttemptStarted(start), "attempt.started")?;
    let places = match lay_out(&life, number, staging, inputs, &targets) {
        Ok(places) => places,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    progress.stage(Shown::Running);
    let staged_stdout = streams.staged_stdout.is_some();
    let watched = watch(&life, &places, streams, signals, progress).await;
    let (agent, failure, end) = match watched {
        Ok(watched) => {
            warn_about_relays(&watched, progress);
            let agent = agent_exit(&watched.outcome);
            let failure = failure_of(&watched.outcome, &life).or_else(|| unstaged_stdout(&watched, staged_stdout));
            let end = ended(&life, &watched, &places, &root_listing, failure.clone());
            (agent, failure, end)
        }
        Err(error) => {
            let (code, failure) = not_spawned(&life, &error);
            let agent = AgentExit { code: Some(code), ..AgentExit::default() };
            let end = empty_end(clock::now(), Some(code), failure.clone());
            (agent, Some(failure), end)
        }
    };
    let life = life.note(Event::AttemptEnded(end), "attempt.ended")?;
    Ok(Attempted { life, targets, places, agent, failure })
}

/// Everything the attempt needs exists and is empty.
fn lay_out(
    life: &Life,
    number: u32,
    staging: PathBuf,
    inputs: Option<PathBuf>,
    targets: &[Target],
) -> Result<AttemptPlaces, LayOutError> {
    let base = life.dir.join(BASE_NAME);
    let staging = crate::view::staging::prepare(&staging, targets_of(targets), life.spec.staging_base, &base)
        .map_err(LayOutError::Staging)?;
    let temporary = life.dir.make("tmp").map_err(LayOutError::Directory)?;
    Ok(AttemptPlaces {
        run_id: life.dir.run_id(),
        number,
        parent: life.spec.parent_run_id,
        staging,
        inputs,
        temporary,
        usage: life.dir.join("usage.jsonl"),
    })
}

fn targets_of(targets: &[Target]) -> impl Iterator<Item = &crate::model::spec::OutputTarget> + Clone {
    targets.iter().map(|target| &target.output)
}

/// The attempt's directories could not be made.
#[derive(Debug, thiserror::Error)]
enum LayOutError {
    #[error("cannot prepare staging")]
    Staging(#[source] crate::view::staging::StagingError),
    #[error("cannot prepare the attempt")]
    Directory(#[source] crate::store::run_dir::RunDirError),
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

fn failure_of(outcome: &AttemptOutcome, life: &Life) -> Option<Failure> {
    match (outcome.stopped, outcome.end) {
        (Some(StopCause::Timeout), _) => {
            let limit = life.spec.time.timeout.unwrap_or_default();
            let message = format!("the agent ran longer than --timeout {}", humantime::format_duration(limit));
            Some(Failure::new(ErrorKind::Timeout, message))
        }
        (Some(StopCause::Cancelled(signal)), _) => {
            Some(Failure::new(ErrorKind::Cancelled, format!("told to stop by signal {signal}")))
        }
        (None, ProcessEnd::Code(0)) => None,
        (None, ProcessEnd::Code(code)) => {
            Some(Failure::new(ErrorKind::ExitCode, format!("the agent exited with {code}")))
        }
        (None, ProcessEnd::Signal(signal)) => {
            Some(Failure::new(ErrorKind::Signal, format!("the agent died of signal {signal}")))
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
        stdout_bytes: 0,
        stderr_bytes: 0,
        isolation: None,
    }
}

fn ended(
    life: &Life,
    watched: &Watched,
    places: &AttemptPlaces,
    root_listing: &[u8],
    failure: Option<Failure>,
) -> AttemptEnd {
    let agent = agent_exit(&watched.outcome);
    let reported = usage_file::read(&places.usage);
    let stdin = watched.stdin.or_else(|| recorded_stdin(life)).map(|kept| StdinCapture {
        digest: kept.digest,
        size: kept.size,
        input_hash: kept.digest.map(|digest| with_stdin(root_listing, digest, kept.size)),
    });
    AttemptEnd {
        time: clock::now(),
        exit_code: agent.code,
        signal: agent.signal,
        failure,
        cancelled_by: agent.cancelled_by,
        stdin,
        usage: reported.usage,
        cost_usd: reported.cost_usd,
        stdout_bytes: watched.stdout.bytes,
        stderr_bytes: watched.stderr.bytes,
        isolation: None,
    }
}

/// A replay was given the standard input of its original, which lies in this run's directory.
fn recorded_stdin(life: &Life) -> Option<Kept> {
    use sha2::Digest as _;
    life.spec.replay_of?;
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
