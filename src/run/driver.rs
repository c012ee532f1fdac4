//! The driver: it knows the order of the stages, and nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::spec::OutputKind;
use crate::model::{RunId, RunSpec};
use crate::store::run_dir::RunDirError;
use crate::store::state_dir::StateDir;
use crate::store::trash;
use crate::sys::relay::Passing;

use super::attempt;
use super::begin::{BeginError, NewRun, begin};
use super::ended::{Life, Stage};
use super::judge::{self, judge};
use super::processes::Processes;
use super::progress::Progress;
use super::retrying::{self, Turn};
use super::seal::seal;
use super::settle::{Finished, SettleError, settle, settle_committed};
use super::signals::Signals;
use super::snapshot::{Ground, Snapshotted, cancelled, take};
use super::stdin::StdinPlan;
use super::supervise::Streams;
use super::workspace;
use super::{commit, commit::Committed};

/// Why a run has no record yet.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// No process could be made.
    #[error("cannot start processes")]
    Processes(#[source] io::Error),
    /// The kernel gave no signals or no event loop.
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    /// It has ended, and its end is not in the log.
    #[error("run {run_id} is not in the log yet (the next command, or `agentguard recover`, enters it)")]
    Settle {
        /// The run.
        run_id: RunId,
        /// What stood in the way.
        source: SettleError,
    },
    /// Standard input of the original could not be laid out.
    #[error("cannot lay out the recorded standard input")]
    Stdin(#[source] RunDirError),
}

/// How a run's streams are connected.
#[derive(Debug)]
pub struct Connections {
    /// Standard input.
    pub stdin: StdinPlan,
    /// Where the agent's standard output is passed.
    pub stdout: Passing,
    /// Where its standard error is passed.
    pub stderr: Passing,
}

/// How much of the trash is removed after a run while its caller waits.
const SWEEP_BUDGET: Duration = Duration::from_millis(20);

/// Runs a specification from its first event to its line in the log.
pub fn drive(
    state: &StateDir,
    new: NewRun,
    spec: RunSpec,
    connections: impl FnOnce(&crate::store::run_dir::RunDir) -> io::Result<Connections>,
    progress: &Arc<dyn Progress>,
) -> Result<Finished, RunError> {
    // Before anything has a thread, or a lock that a copy of this process would hold on to.
    let mut processes = Processes::for_run(&spec).map_err(RunError::Processes)?;
    // What this run displaces is too young to be removed by it.
    let waiting = trash::is_waiting(state);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Signals)?;
    let finished = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(RunError::Signals)?;
        let settled = match travel(state, new, spec, connections, &mut processes, &mut signals, progress).await? {
            Ok(committed) => settle_committed(committed),
            Err(ended) => settle(*ended),
        };
        settled.map_err(|source| RunError::Settle { run_id: new.run_id, source })
    });
    if waiting {
        trash::sweep(state, trash::Sweep::Aged, SWEEP_BUDGET);
    }
    finished
}

/// The road.
async fn travel(
    state: &StateDir,
    new: NewRun,
    spec: RunSpec,
    connections: impl FnOnce(&crate::store::run_dir::RunDir) -> io::Result<Connections>,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Result<Stage<Committed>, RunError> {
    // Reserved before anything is promised: the record of a run that fills the disk still fits.
    crate::store::log::RunLog::at(state.path()).reserve();
    let begun = match begin(state, spec, new, progress)? {
        Ok(begun) => begun,
        Err(ended) => return Ok(Err(ended)),
    };
    let streams = match connections(&begun.life.dir) {
        Ok(connections) => streams(connections, &begun.life.spec),
        Err(error) => return Ok(Err(begun.life.fail(crate::model::ErrorKind::SnapshotFailed, &error))),
    };
    Ok(follow(begun, streams, state, processes, signals, progress).await)
}

async fn follow(
    begun: super::begin::Begun,
    mut streams: Streams,
    state: &StateDir,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<Committed> {
    let Snapshotted { mut life, ground } = take(begun, signals, progress).await?;
    sweep_trash_meanwhile(state);
    let mut turn = Turn::first();
    let accepted = loop {
        let failed = match attempted(life, ground.clone(), &turn, &mut streams, processes, signals, progress).await {
            Ok(accepted) => break accepted,
            Err(failed) => failed,
        };
        (life, turn) = retrying::after(failed, &turn, &mut streams, processes, signals, progress).await?;
    };
    match accepted {
        Accepted::Outputs(accepted) => {
            if let Some(signal) = signals.pending().await {
                return Err(cancelled(accepted.sealed.life, signal));
            }
            commit::commit(*accepted, progress)
        }
        Accepted::Workspace(accepted) => {
            if let Some(signal) = signals.pending().await {
                return Err(cancelled(accepted.life, signal));
            }
            workspace::publish(*accepted, progress)
        }
    }
}

/// A result that the gate let pass.
enum Accepted {
    /// Of publish mode.
    Outputs(Box<judge::Accepted>),
    /// Changes of a workspace.
    Workspace(Box<workspace::seal::SealedWorkspace>),
}

/// One attempt, from its pristine start to the gate's word.
async fn attempted(
    life: Life,
    ground: Ground,
    turn: &Turn,
    streams: &mut Streams,
    processes: &mut Processes,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<Accepted> {
    let mut attempted = attempt::make(life, ground, turn, streams, processes, signals, progress).await?;
    if let Some(origin) = attempted.origin.take() {
        let sealed = workspace::seal::seal(attempted, origin, signals, progress).await?;
        let accepted = workspace::judge::judge(sealed, processes, signals, progress).await?;
        return Ok(Accepted::Workspace(Box::new(accepted)));
    }
    let sealed = seal(attempted, signals, progress).await?;
    Ok(Accepted::Outputs(Box::new(judge(sealed, processes, signals, progress).await?)))
}

fn streams(connections: Connections, spec: &RunSpec) -> Streams {
    let stdout = spec.outputs.iter().find(|output| output.kind == OutputKind::Stdout);
    Streams {
        stdin: connections.stdin,
        // Like `agent > FILE`: what is published there is not shown here.
        stdout: if stdout.is_some() { Passing::Withheld } else { connections.stdout },
        stderr: connections.stderr,
        staged_stdout: stdout.map(|output| PathBuf::from(output.staged_as.as_os_str())),
    }
}

/// Displaced trees of earlier runs are removed while this run's agent works: nobody waits for it.
fn sweep_trash_meanwhile(state: &StateDir) {
    if trash::is_waiting(state) {
        let state = state.clone();
        // Without a thread the sweep after the run does it, a little at a time.
        let _ = std::thread::Builder::new().spawn(move || trash::sweep(&state, trash::Sweep::Aged, Duration::MAX));
    }
}
