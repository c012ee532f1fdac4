//! The supervision of one process: it is spawned, its streams are relayed and captured, and one loop turns what happens
//! into events for the pure `step`. Knows nothing of what the run makes of the outcome.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::model::Text;
use crate::model::record::Isolation;
use crate::rules::placeholder;
use crate::rules::step::{AttemptOutcome, ProcessEnd, StopCause};
use crate::store::capture::{Capture, KEPT_BYTES, tail_path};
use crate::sys::clock;
use crate::sys::descendants::Swept;
use crate::sys::descriptor::Flag;
use crate::sys::inside::{FailedStep, InsideError, Running};
use crate::sys::process::{ChildStdout, Launch, Limits};
use crate::sys::pty::{relay_terminal, type_input};
use crate::sys::relay::{Passing, RelayEnd, relay_input, relay_output};
use crate::sys::terminal::Terminal;
use crate::usage::meter::{Meter, MeterError, Route, RouteError};
use crate::usage::reader::Reading;

use super::attend::{Attended, Attending, attend};
use super::ended::Life;
use super::environment::{AttemptPlaces, Variables};
use super::own_terminal::OwnTerminal;
use super::processes::Processes;
use super::progress::{Progress, Warning};
use super::scene::{Scene, SceneError};
use super::signals::Signals;
use super::spending::{Listener, Spending};
use super::stdin::{Given, Keep, Kept, StdinPlan, keep_beside};
use super::told::Said;
use super::using::{Printed, Using};

/// Nothing an orphan holds open is waited for longer than this once the agent is dead.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

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
#[derive(Debug)]
pub struct Watched {
    /// How the agent ended.
    pub outcome: AttemptOutcome,
    /// What became of its standard output.
    pub stdout: RelayEnd,
    /// What became of its standard error.
    pub stderr: RelayEnd,
    /// What it said of itself.
    pub said: Said,
    /// What it may spend, and has.
    pub spending: Arc<Spending>,
    /// What was kept of its standard input.
    pub stdin: Option<Kept>,
    /// What was in force while it ran.
    pub isolation: Isolation,
    /// What became of the processes that it left behind.
    pub swept: Swept,
}

/// Why a process was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot be executed, or could not be supervised.
    #[error(transparent)]
    Process(#[from] io::Error),
    /// Its view cannot be composed.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// Its view cannot be entered here: the step that the kernel refused.
    #[error("cannot enter the view: {0}")]
    Step(FailedStep),
    /// The meter cannot be started.
    #[error(transparent)]
    Meter(MeterError),
    /// An address that the meter should send calls to is none.
    #[error(transparent)]
    Route(RouteError),
    /// This program could not be started again to enter it.
    #[error("cannot enter the view")]
    Inside(#[source] InsideError),
}

impl From<InsideError> for StartError {
    fn from(error: InsideError) -> Self {
        match error {
            InsideError::NotExecuted(error) => Self::Process(error),
            InsideError::Step(step) => Self::Step(step),
            other => Self::Inside(other),
        }
    }
}

/// Spawns the agent and supervises it to its end.
pub async fn watch(
    life: &Life,
    places: &AttemptPlaces,
    scene: &Scene,
    streams: &Streams,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Result<Watched, StartError> {
    let terminal = Terminal::observe();
    let recorded: Vec<(Text, Text)> = match life.spec.again_of() {
        Some(_) => life.spec.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        None => Vec::new(),
    };
    let using = Using::of(life, scene, places);
    let meter = meter(life, &using)?;
    let mut variables = places.variables(&recorded);
    let argv = with_meter(meter.as_ref(), places.arguments(&life.spec.command), &mut variables);
    // Before the agent starts: it may change the file it is given.
    let beside = match &streams.stdin {
        StdinPlan::Beside(offset) => Some((rustix::stdio::stdin(), *offset)),
        StdinPlan::File(file) => Some((file.as_fd(), 0)),
        _ => None,
    };
    let beside = beside.and_then(|(from, offset)| {
        keep_beside(&life.dir.join("stdin"), from, offset).unwrap_or_else(|error| {
            progress.warn(Warning(format!("standard input was not kept for replay: {error}")));
            None
        })
    });
    let (own, theirs) = OwnTerminal::of(&life.spec, streams, &terminal)?.unzip();
    let launch = Launch {
        argv: &argv,
        cwd: life.spec.cwd.as_path(),
        environment: &variables,
        stdin: streams.stdin.child()?,
        stdout: theirs.map_or(ChildStdout::Pipes, ChildStdout::Terminal),
        terminal: &terminal,
        limits: Limits {
            nice: life.spec.budget.nice,
            memory: life.spec.budget.memory.map(|size| size.0),
            pids: life.spec.budget.pids,
        },
    };
    let (child, isolation) = processes.start_in(scene, &launch)?;
    let time = &life.spec.time;
    let (foreground, own) = (terminal.given(), own.as_ref());
    let attending = Attending { time, using: &using, foreground, own, processes, progress: Some(progress) };
    drop(launch);
    let supervised = supervise(life, places, child, streams, &attending, signals).await?;
    // Calls that are still on their way end with it, and are told of.
    drop(meter);
    let Supervised { outcome, stdout, stderr, said, stdin, swept } = supervised;
    let spending = Arc::clone(&using.spending);
    Ok(Watched { outcome, stdout, stderr, said, spending, stdin: beside.or(stdin), isolation, swept })
}

/// The meter that was asked for.
fn meter(life: &Life, using: &Using) -> Result<Option<Meter>, StartError> {
    let Some(policy) = &life.spec.meter else { return Ok(None) };
    let routes = policy.upstreams.iter().map(|(variable, address)| Route::to(variable, address));
    let routes = routes.collect::<Result<Vec<Route>, _>>().map_err(StartError::Route)?;
    let secret: String = clock::random::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
    let ledger = Arc::clone(&using.spending);
    Meter::start(routes, secret, ledger).map(Some).map_err(StartError::Meter)
}

/// Leads an agent to the meter: by the variables that it takes its API's address from, and where it has to be told on its
/// command line, by `{meter}` (the address of `OPENAI_BASE_URL`) or `{meter:VARIABLE}`.
fn with_meter(meter: Option<&Meter>, argv: Vec<OsString>, variables: &mut Variables) -> Vec<OsString> {
    let Some(meter) = meter else { return argv };
    let bases: Vec<(String, String)> =
        meter.variables().map(|(name, base)| (format!("{{meter:{name}}}"), base)).collect();
    variables.extend(meter.variables().map(|(name, base)| (name.into(), Some(base.into()))));
    // A proxy of the caller's is not for loopback.
    for name in ["NO_PROXY", "no_proxy"] {
        let before = std::env::var(name).ok().filter(|value| !value.is_empty());
        let value = before.map_or_else(|| "127.0.0.1".to_owned(), |value| format!("{value},127.0.0.1"));
        variables.push((name.into(), Some(value.into())));
    }
    let plain = meter.base_of("OPENAI_BASE_URL").map(|base| ("{meter}".to_owned(), base));
    let values: Vec<(&str, &[u8])> =
        bases.iter().chain(&plain).map(|(name, base)| (name.as_str(), base.as_bytes())).collect();
    argv.iter().map(|one| placeholder::expand(&Text::from(one.as_os_str()), &values).as_os_str().to_owned()).collect()
}

/// The same without what was known before.
struct Supervised {
    outcome: AttemptOutcome,
    stdout: RelayEnd,
    stderr: RelayEnd,
    said: Said,
    stdin: Option<Kept>,
    swept: Swept,
}

/// How a relay ended, and what was said on the way.
struct Relayed {
    end: RelayEnd,
    said: Reading,
}

impl Relayed {
    fn without_words(end: RelayEnd) -> Self {
        Self { end, said: Reading::default() }
    }
}

/// Threads that relay, the flag that stops them, and where they report.
struct Relays {
    stop: Arc<Flag>,
    stdout: oneshot::Receiver<Relayed>,
    stderr: oneshot::Receiver<Relayed>,
    stdin: Option<oneshot::Receiver<Option<Kept>>>,
}

async fn supervise(
    life: &Life,
    places: &AttemptPlaces,
    mut child: Running,
    streams: &Streams,
    attending: &Attending<'_>,
    signals: &mut Signals,
) -> io::Result<Supervised> {
    // Without them the child is dropped, which ends it.
    let relays = start_relays(life, places, &mut child, streams, attending)?;
    let Attended { mut outcome, swept } = attend(child, attending, signals).await?;
    // Ctrl-C and Ctrl-\\ went to the agent's group alone: that it died of them says that somebody cancelled the run.
    if let (Some(_), None, ProcessEnd::Signal(signal @ (2 | 3))) = (attending.foreground, outcome.stopped, outcome.end)
    {
        outcome.stopped = Some(StopCause::Cancelled(signal));
    }
    relays.stop.raise();
    let stdout = finished(relays.stdout, outcome.stopped.is_some(), signals).await;
    let stderr = finished(relays.stderr, outcome.stopped.is_some(), signals).await;
    // Told to stop while its output was still on the way: the run is cancelled like any other.
    outcome.stopped = outcome.stopped.or(stdout.cut_by.or(stderr.cut_by).map(StopCause::Cancelled));
    let (stdout, stderr) = (stdout.relay, stderr.relay);
    let said = Said { stdout: stdout.said, stderr: stderr.said };
    let (stdout, stderr) = (stdout.end, stderr.end);
    let stdin = match relays.stdin {
        Some(kept) => tokio::time::timeout(DRAIN_PATIENCE, kept).await.ok().and_then(Result::ok).flatten(),
        None => None,
    };
    Ok(Supervised { outcome, stdout, stderr, said, stdin, swept })
}

/// How a relay that was told to stop came to its end.
struct Drained {
    relay: Relayed,
    /// The signal that ended the wait for it.
    cut_by: Option<i32>,
}

/// Waits for a relay that has been told to stop. It passes on what is in the pipe, and may be held up by whoever reads
/// agentguard's output: as long as it takes when the agent came to its own end, a bounded time when it was stopped.
async fn finished(relay: oneshot::Receiver<Relayed>, stopped: bool, signals: &mut Signals) -> Drained {
    let unread =
        || RelayEnd { bytes: 0, held_open: false, error: Some(io::Error::other("its reader did not take it")) };
    let lost = |cut_by| Drained { relay: Relayed::without_words(unread()), cut_by };
    tokio::select! {
        biased;
        end = relay => end.map_or_else(|_| lost(None), |relay| Drained { relay, cut_by: None }),
        signal = signals.next() => lost(Some(signal)),
        () = tokio::time::sleep(DRAIN_PATIENCE), if stopped => lost(None),
    }
}

fn start_relays(
    life: &Life,
    places: &AttemptPlaces,
    child: &mut Running,
    streams: &Streams,
    attending: &Attending<'_>,
) -> io::Result<Relays> {
    let Using { printed, spending, .. } = attending.using;
    let stop = Arc::new(Flag::new()?);
    let staged = streams
        .staged_stdout
        .as_ref()
        .map(|path| places.staging.as_ref().map_or_else(|| path.clone(), |staging| staging.path.join(path)));
    let capture = |from: Option<Source>, passing, name: &str, staged, listener| {
        let into = Captured { path: life.dir.join(name), staged, listener, printed: Arc::clone(printed) };
        capture(from, passing, into, &stop)
    };
    let (of_stdout, of_stderr) = (Listener::to_stdout(spending), Listener::to_stderr(spending));
    if let Some(own) = attending.own {
        let from = Source::Terminal(own.ours.try_clone()?);
        let stdout = capture(Some(from), streams.stdout, "stdout", staged.as_deref(), of_stdout)?;
        let (nothing, stderr) = oneshot::channel();
        let _ = nothing.send(Relayed::without_words(RelayEnd { bytes: 0, held_open: false, error: None }));
        let stdin = Some(type_for(own, streams, &life.dir.join("stdin"), &stop)?);
        return Ok(Relays { stop, stdout, stderr, stdin });
    }
    let stdout =
        capture(child.stdout.take().map(Source::Pipe), streams.stdout, "stdout", staged.as_deref(), of_stdout)?;
    let stderr = capture(child.stderr.take().map(Source::Pipe), streams.stderr, "stderr", None, of_stderr)?;
    let stdin = match child.stdin.take() {
        Some(pipe) => {
            let given = if let StdinPlan::Through(given) = &streams.stdin { given.clone() } else { Given::default() };
            Some(feed(pipe, given, &life.dir.join("stdin"), &attending.using.nothing_came, &stop)?)
        }
        None => None,
    };
    Ok(Relays { stop, stdout, stderr, stdin })
}

/// Where an agent's output comes from.
enum Source {
    /// A stream.
    Pipe(OwnedFd),
    /// Its own terminal.
    Terminal(OwnedFd),
}

/// What the caller types, or feeds, is typed on the agent's own terminal.
fn type_for(
    own: &OwnTerminal,
    streams: &Streams,
    path: &Path,
    stop: &Arc<Flag>,
) -> io::Result<oneshot::Receiver<Option<Kept>>> {
    let (report, end) = oneshot::channel();
    let (to, stop, suspend) = (own.ours.try_clone()?, Arc::clone(stop), Arc::clone(&own.suspend));
    let from = match &streams.stdin {
        StdinPlan::File(file) | StdinPlan::Recorded(file) => OwnedFd::from(file.try_clone()?),
        StdinPlan::Nothing => OwnedFd::from(std::fs::File::open("/dev/null")?),
        StdinPlan::Inherit | StdinPlan::Beside(_) | StdinPlan::Through(_) => rustix::io::dup(rustix::stdio::stdin())?,
    };
    // What is typed is for this moment; what was fed is the run's input.
    let mut keep = matches!(streams.stdin, StdinPlan::Through(_)).then(|| Keep::into(path));
    std::thread::Builder::new().spawn(move || {
        let typed = type_input(
            &to,
            &from,
            &stop,
            || suspend.notify_one(),
            |bytes| {
                if let Some(keep) = &mut keep {
                    keep.write(bytes);
                }
            },
        );
        // A terminal that takes no more ends what the agent was given; that much it had.
        drop(typed);
        let _ = report.send(keep.and_then(Keep::finish));
    })?;
    Ok(end)
}

/// Where a captured stream goes besides the caller's own.
struct Captured<'a> {
    /// Where it is kept.
    path: PathBuf,
    /// Where it is staged.
    staged: Option<&'a Path>,
    listener: Listener,
    printed: Arc<Printed>,
}

fn capture(
    from: Option<Source>,
    passing: Passing,
    into: Captured<'_>,
    stop: &Arc<Flag>,
) -> io::Result<oneshot::Receiver<Relayed>> {
    let from = from.ok_or_else(|| io::Error::other("the agent has no pipe"))?;
    let Captured { path, staged, mut listener, printed } = into;
    let mut kept = Capture::into(&path, KEPT_BYTES);
    let mut staged = staged.map(std::fs::File::create).transpose()?;
    let (report, end) = oneshot::channel();
    let stop = Arc::clone(stop);
    std::thread::Builder::new().spawn(move || {
        let mut not_kept = None;
        let sink = |bytes: &[u8]| {
            use std::io::Write as _;
            if let Some(staged) = &mut staged {
                staged.write_all(bytes)?;
            }
            // A full disk under the capture must not cut the agent's own stream.
            if not_kept.is_none() {
                not_kept = kept.write(bytes).err();
            }
            listener.hear(bytes);
            printed.add(bytes.len())
        };
        let mut end = match from {
            Source::Pipe(pipe) => relay_output(pipe, passing, &stop, sink),
            Source::Terminal(terminal) => relay_terminal(&terminal, passing, &stop, sink),
        };
        if end.error.is_none() {
            end.error = not_kept.or_else(|| kept.finish().err());
        }
        // The receiver is gone if a signal ended the wait.
        let said = listener.finish(|| std::fs::read(tail_path(&path)).unwrap_or_default());
        let _ = report.send(Relayed { end, said });
    })?;
    Ok(end)
}

fn feed(
    pipe: OwnedFd,
    given: Given,
    path: &Path,
    nothing_came: &Arc<AtomicBool>,
    stop: &Arc<Flag>,
) -> io::Result<oneshot::Receiver<Option<Kept>>> {
    let (report, end) = oneshot::channel();
    let (stop, nothing_came) = (Arc::clone(stop), Arc::clone(nothing_came));
    nothing_came.store(true, Ordering::Relaxed);
    let mut keep = Keep::into(path);
    std::thread::Builder::new().spawn(move || {
        let mut before = given.before;
        let mut untaken = given.untaken.lock().unwrap_or_else(PoisonError::into_inner);
        before.append(&mut untaken);
        // An error of the agent's pipe ends what it was given; that much it had.
        let (left, _) = relay_input(pipe, before, &stop, |bytes| {
            nothing_came.store(false, Ordering::Relaxed);
            keep.write(bytes);
        });
        nothing_came.store(false, Ordering::Relaxed);
        *untaken = left;
        drop(untaken);
        let _ = report.send(keep.finish());
    })?;
    Ok(end)
}
