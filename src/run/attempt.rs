//! One attempt: the agent is spawned into empty staging, its streams are relayed and captured, and one loop turns
//! what happens into events for the pure `step`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::model::error_kind::{ErrorKind, Failure};
use crate::model::event::{AttemptEnd, AttemptStart, Event, StdinCapture};
use crate::model::{Text, Timestamp};
use crate::rules::exit_code::{AgentExit, NOT_EXECUTABLE, NOT_FOUND};
use crate::rules::step::{Action, AttemptEvent, AttemptOutcome, AttemptState, ProcessEnd, StopCause, step};
use crate::store::capture::{Capture, KEPT_BYTES};
use crate::store::run_dir::BASE_NAME;
use crate::sys::clock;
use crate::sys::descriptor::Flag;
use crate::sys::process::{self, ChildStdout, Launch, Running};
use crate::sys::relay::{Passing, RelayEnd, relay_input, relay_output};
use crate::sys::terminal::{Foreground, Terminal};
use crate::usage::usage_file;

use super::begin::Target;
use super::ended::{Life, Stage};
use super::environment::AttemptPlaces;
use super::progress::{Progress, Stage as Shown, Warning};
use super::signals::{Heard, Signals};
use super::snapshot::{Snapshotted, with_stdin};
use super::stdin::{Keep, Kept, StdinPlan, keep_beside};

/// Nothing an orphan holds open is waited for longer than this once the agent is dead.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

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

/// How the caller wants the agent's streams.
#[derive(Debug)]
pub struct Streams {
    /// Standard input.
    pub stdin: StdinPlan,
    /// Where standard output is passed.
    pub stdout: Passing,
    /// Where standard error is passed.
    pub stderr: Passing,
    /// Where standard output is staged (`--stdout`), relative to staging.
    pub staged_stdout: Option<PathBuf>,
}

/// What the supervision of one process brought back.
struct Watched {
    outcome: AttemptOutcome,
    stdout: RelayEnd,
    stderr: RelayEnd,
    stdin: Option<Kept>,
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

/// Spawns the agent and supervises it to its end.
async fn watch(
    life: &Life,
    places: &AttemptPlaces,
    streams: Streams,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> io::Result<Watched> {
    let terminal = Terminal::observe();
    if terminal.given().is_some() {
        signals.watch_children()?;
    }
    let recorded: Vec<(Text, Text)> = match life.spec.replay_of {
        Some(_) => life.spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        None => Vec::new(),
    };
    let argv: Vec<OsString> = places.arguments(&life.spec.command);
    // Before the agent starts: it may change the file it is given.
    let beside = match streams.stdin {
        StdinPlan::Beside(offset) => keep_beside(&life.dir.join("stdin"), offset).unwrap_or_else(|error| {
            progress.warn(Warning(format!("standard input was not kept for replay: {error}")));
            None
        }),
        _ => None,
    };
    let child = process::launch(&Launch {
        argv: &argv,
        cwd: life.spec.cwd.as_path(),
        environment: &places.variables(&recorded),
        stdin: streams.stdin.child()?,
        stdout: ChildStdout::Pipes,
        terminal: &terminal,
    })?;
    let watched = supervise(life, places, child, &streams, terminal.given(), signals).await?;
    Ok(Watched { stdin: beside.or(watched.stdin), ..watched })
}

/// Threads that relay, the flag that stops them, and where they report.
struct Relays {
    stop: Arc<Flag>,
    stdout: oneshot::Receiver<RelayEnd>,
    stderr: oneshot::Receiver<RelayEnd>,
    stdin: Option<oneshot::Receiver<Option<Kept>>>,
}

async fn supervise(
    life: &Life,
    places: &AttemptPlaces,
    mut child: Running,
    streams: &Streams,
    foreground: Option<&Foreground>,
    signals: &mut Signals,
) -> io::Result<Watched> {
    let relays = match start_relays(life, places, &mut child, streams) {
        Ok(relays) => relays,
        Err(error) => {
            child.signal_group(Signal::KILL);
            child.reap();
            return Err(error);
        }
    };
    let outcome = attend(&child, &life.spec.time, foreground, signals).await;
    // The leader is a zombie still, so its group's number is its own: whoever is left in it goes now.
    child.signal_group(Signal::KILL);
    child.reap();
    if let Some(foreground) = foreground {
        foreground.take_back();
    }
    let mut outcome = outcome?;
    // Ctrl-C and Ctrl-\\ went to the agent's group alone: that it died of them says that somebody cancelled the run.
    if let (Some(_), None, ProcessEnd::Signal(signal @ (2 | 3))) = (foreground, outcome.stopped, outcome.end) {
        outcome.stopped = Some(StopCause::Cancelled(signal));
    }
    relays.stop.raise();
    let stdout = finished(relays.stdout, outcome.stopped.is_some(), signals).await;
    let stderr = finished(relays.stderr, outcome.stopped.is_some(), signals).await;
    // Told to stop while its output was still on the way: the run is cancelled like any other.
    outcome.stopped = outcome.stopped.or(stdout.cut_by.or(stderr.cut_by).map(StopCause::Cancelled));
    let (stdout, stderr) = (stdout.relay, stderr.relay);
    let stdin = match relays.stdin {
        Some(kept) => tokio::time::timeout(DRAIN_PATIENCE, kept).await.ok().and_then(Result::ok).flatten(),
        None => None,
    };
    Ok(Watched { outcome, stdout, stderr, stdin })
}

/// How a relay that was told to stop came to its end.
struct Drained {
    relay: RelayEnd,
    /// The signal that ended the wait for it.
    cut_by: Option<i32>,
}

/// Waits for a relay that has been told to stop. It passes on what is in the pipe, and may be held up by whoever reads
/// agentguard's output: as long as it takes when the agent came to its own end, a bounded time when it was stopped.
async fn finished(relay: oneshot::Receiver<RelayEnd>, stopped: bool, signals: &mut Signals) -> Drained {
    let lost = |cut_by| Drained {
        relay: RelayEnd { bytes: 0, held_open: false, error: Some(io::Error::other("its reader did not take it")) },
        cut_by,
    };
    tokio::select! {
        biased;
        end = relay => end.map_or_else(|_| lost(None), |relay| Drained { relay, cut_by: None }),
        signal = signals.next() => lost(Some(signal)),
        () = tokio::time::sleep(DRAIN_PATIENCE), if stopped => lost(None),
    }
}

fn start_relays(life: &Life, places: &AttemptPlaces, child: &mut Running, streams: &Streams) -> io::Result<Relays> {
    let stop = Arc::new(Flag::new()?);
    let staged = streams.staged_stdout.as_ref().map(|path| places.staging.path.join(path));
    let stdout = capture(child.stdout.take(), streams.stdout, &life.dir.join("stdout"), staged.as_deref(), &stop)?;
    let stderr = capture(child.stderr.take(), streams.stderr, &life.dir.join("stderr"), None, &stop)?;
    let stdin = match child.stdin.take() {
        Some(pipe) => Some(feed(pipe, &life.dir.join("stdin"), &stop)?),
        None => None,
    };
    Ok(Relays { stop, stdout, stderr, stdin })
}

fn capture(
    from: Option<OwnedFd>,
    passing: Passing,
    path: &Path,
    staged: Option<&Path>,
    stop: &Arc<Flag>,
) -> io::Result<oneshot::Receiver<RelayEnd>> {
    let from = from.ok_or_else(|| io::Error::other("the agent has no pipe"))?;
    let mut kept = Capture::into(path, KEPT_BYTES);
    let mut staged = staged.map(std::fs::File::create).transpose()?;
    let (report, end) = oneshot::channel();
    let stop = Arc::clone(stop);
    std::thread::Builder::new().spawn(move || {
        let mut not_kept = None;
        let mut end = relay_output(from, passing, &stop, |bytes| {
            use std::io::Write as _;
            if let Some(staged) = &mut staged {
                staged.write_all(bytes)?;
            }
            // A full disk under the capture must not cut the agent's own stream.
            if not_kept.is_none() {
                not_kept = kept.write(bytes).err();
            }
            Ok(())
        });
        if end.error.is_none() {
            end.error = not_kept.or_else(|| kept.finish().err());
        }
        // The receiver is gone if a signal ended the wait.
        let _ = report.send(end);
    })?;
    Ok(end)
}

fn feed(pipe: OwnedFd, path: &Path, stop: &Arc<Flag>) -> io::Result<oneshot::Receiver<Option<Kept>>> {
    let (report, end) = oneshot::channel();
    let stop = Arc::clone(stop);
    let mut keep = Keep::into(path);
    std::thread::Builder::new().spawn(move || {
        let relayed = relay_input(pipe, &stop, |bytes| keep.write(bytes));
        // An error of the agent's pipe ends what it was given; that much it had.
        drop(relayed);
        let _ = report.send(keep.finish());
    })?;
    Ok(end)
}

/// The loop: the only place where sources meet; `step` decides, this performs.
async fn attend(
    child: &Running,
    time: &crate::model::spec::TimePolicy,
    foreground: Option<&Foreground>,
    signals: &mut Signals,
) -> io::Result<AttemptOutcome> {
    let ended = child.ending()?;
    let far = Instant::now() + Duration::from_secs(60 * 60 * 24 * 365 * 30);
    let elapsed = time.timeout.map_or(far, |timeout| Instant::now() + timeout);
    let mut grace = far;
    let mut timed_out = false;
    let mut state = AttemptState::Running;
    loop {
        let event = tokio::select! {
            biased;
            ready = ended.readable() => {
                ready?.clear_ready();
                match child.has_ended()? {
                    Some(end) => AttemptEvent::Exited(process_end(end)),
                    None => continue,
                }
            }
            heard = signals.hear() => match heard {
                Heard::Stop(signal) => AttemptEvent::Signalled(signal),
                Heard::ChildChanged => {
                    suspend_together(child, foreground);
                    continue;
                }
            },
            () = sleep_until(elapsed), if !timed_out => {
                timed_out = true;
                AttemptEvent::TimeElapsed
            }
            () = sleep_until(grace), if grace < far => {
                grace = far;
                AttemptEvent::GraceElapsed
            }
        };
        match step(&mut state, event) {
            Action::Wait => {}
            Action::Terminate => {
                child.signal_group(Signal::TERM);
                // A stopped process does not see TERM before it is continued.
                child.signal_group(Signal::CONT);
                grace = Instant::now() + time.kill_after;
            }
            Action::Kill => child.signal_group(Signal::KILL),
            Action::Finish(outcome) => return Ok(outcome),
        }
    }
}

/// Ctrl-Z stopped the agent: give the shell its terminal, stop too, and go on together.
fn suspend_together(child: &Running, foreground: Option<&Foreground>) {
    let Some(foreground) = foreground else { return };
    if child.was_stopped() {
        foreground.take_back();
        process::stop_self();
        // The terminal may be gone by now; the agent then reads its end.
        let _ = foreground.give_to(child.group());
        child.signal_group(Signal::CONT);
    }
}

fn process_end(end: process::Ended) -> ProcessEnd {
    match (end.code, end.signal) {
        (Some(code), _) => ProcessEnd::Code(code),
        (None, signal) => ProcessEnd::Signal(signal.unwrap_or(0)),
    }
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
