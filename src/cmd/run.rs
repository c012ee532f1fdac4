//! `agentguard run`: resolve what was asked, recover what was left, then take the road.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};

use crate::model::breaker::BreakerPolicy;
use crate::model::price::Price;
use crate::model::spec::{
    Budget, GatePolicy, InputPolicy, InputSource, MeterPolicy, Network, OnDrift, PublishPolicy, RetryPolicy, RunSpec,
    StagingBase, TimePolicy, Tty, ViewPolicy,
};
use crate::model::{ByteSize, RunId, Text, UsageFormat};
use crate::run::begin::{NewRun, Touched};
use crate::run::day_budget;
use crate::run::driver::{Connections, drive};
use crate::run::environment::{OUTER_STATE, OUTER_WORKSPACE};
use crate::run::progress::{Progress, Warning};
use crate::run::recover::{Outcome, Recovered, recover};
use crate::run::resolve::{OutputWish, Surroundings, inputs, outputs};
use crate::run::resolve_workspace::{make_passthrough, view, workspace};
use crate::run::settle::Finished;
use crate::run::stdin::StdinPlan;
use crate::store::state_dir::{STATE_NAME, StateDir, project_root};
use crate::sys::clock;
use crate::sys::relay::Passing;
use crate::usage::meter::routes;

pub use crate::run::resolve_workspace::{ViewWish, WorkspaceWish};

/// Environment variables whose values a replay needs and that are no secrets.
pub const RECORDED_VARIABLES: [&str; 8] = ["PATH", "LANG", "TZ", "HOME", "SHELL", "TERM", "CI", "PWD"];

/// What was asked, every layer of configuration resolved.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Where.
    pub at: Surroundings,
    /// The agent's name, if it was given one.
    pub agent: Option<String>,
    /// The command.
    pub command: Vec<OsString>,
    /// Paths and globs to freeze.
    pub inputs: Vec<PathBuf>,
    /// Globs to leave out of them.
    pub exclude: Vec<String>,
    /// Most new bytes of a snapshot.
    pub snapshot_limit: ByteSize,
    /// What may be published.
    pub outputs: Vec<OutputWish>,
    /// What staging starts from.
    pub staging_base: StagingBase,
    /// The directory that is changed in place, where no output is named.
    pub workspace: WorkspaceWish,
    /// How the agent is given its view.
    pub view: ViewWish,
    /// What becomes of a run whose inputs changed under it.
    pub on_drift: OnDrift,
    /// What the gate demands.
    pub gate: GatePolicy,
    /// How long things may take.
    pub time: TimePolicy,
    /// When a failed attempt is followed by another.
    pub retry: RetryPolicy,
    /// How much an attempt may use.
    pub budget: Budget,
    /// Whose words are believed about tokens and cost.
    pub usage: UsageFormat,
    /// Where a meter sends calls, beside what is known; `None`: no meter.
    pub meter: Option<Vec<(String, String)>>,
    /// Prices of models, besides those that are known.
    pub prices: BTreeMap<String, Price>,
    /// Where the agent's standard input comes from.
    pub stdin: StdinWish,
    /// Whether it runs on a terminal of its own.
    pub tty: Tty,
    /// Agents this run depends on.
    pub needs: Vec<String>,
    /// When the agent's breaker opens, and whether open ones refuse the run.
    pub breaker: BreakerPolicy,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Further variables whose values are recorded.
    pub record_env: Vec<String>,
}

/// Where standard input comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StdinWish {
    /// From wherever agentguard's own comes.
    Inherit,
    /// Nothing is there to read.
    Null,
    /// From a file.
    File(PathBuf),
}

impl StdinWish {
    pub(super) fn plan(&self) -> anyhow::Result<StdinPlan> {
        match self {
            Self::Inherit => Ok(StdinPlan::observe()),
            Self::Null => Ok(StdinPlan::Nothing),
            Self::File(path) => {
                let file = File::open(path).with_context(|| format!("--stdin: cannot read {path:?}"))?;
                if !file.metadata().with_context(|| format!("--stdin: cannot look at {path:?}"))?.is_file() {
                    bail!("--stdin: {path:?} is no regular file: write inherit, null or the path of a file");
                }
                Ok(StdinPlan::File(file))
            }
        }
    }
}

/// Finds project, state directory and home around the current directory.
pub fn surroundings(state_dir: Option<&Path>) -> anyhow::Result<Surroundings> {
    let cwd = std::env::current_dir().context("cannot find the current directory")?;
    let project = project_root(&cwd);
    let state = match state_dir {
        Some(named) => resolve_state(&cwd.join(named)),
        None => outer_state(&project).unwrap_or_else(|| project.join(STATE_NAME)),
    };
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok());
    let outer = std::env::var_os(OUTER_WORKSPACE).map(PathBuf::from);
    Ok(Surroundings { cwd, project, state, home, outer })
}

/// Inside another agentguard's view of this project: the state directory that it gives its nested runs.
fn outer_state(project: &Path) -> Option<PathBuf> {
    let workspace = PathBuf::from(std::env::var_os(OUTER_WORKSPACE)?);
    let state = PathBuf::from(std::env::var_os(OUTER_STATE)?);
    project.starts_with(&workspace).then(|| resolve_state(&state))
}

/// Links above a state directory that may not exist yet are resolved, so that paths compare.
fn resolve_state(path: &Path) -> PathBuf {
    if let Ok(resolved) = path.canonicalize() {
        return resolved;
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_path_buf(),
    }
}

/// Runs the request. An error means that no run is in the log because of it, or not yet; it says which.
pub fn run(request: &RunRequest, progress: &Arc<dyn Progress>) -> anyhow::Result<Finished> {
    let mut spec = specify(request)?;
    let stdin = request.stdin.plan()?;
    spec.workspace.as_ref().map_or(Ok(()), make_passthrough)?;
    let state = StateDir::open_or_create(&request.at.state)?;
    let recovered = recover(&state);
    report_recovered(&recovered, progress);
    let made = spec.workspace.as_ref().is_some_and(|workspace| !workspace.passthrough.is_empty());
    let touched = match recovered.is_empty() && !made && state.is_older_than(clock::stamp_of_start()) {
        true => Touched::Nothing,
        false => Touched::Something,
    };
    day_budget::apply(&mut spec, &state)?;
    let connect = move |_: &_| Ok(Connections { stdin, stdout: Passing::ToStdout, stderr: Passing::ToStderr });
    Ok(drive(&state, NewRun::mint(touched), spec, connect, progress)?)
}

/// What an earlier command left behind and this one put right is said, once.
pub fn report_recovered(recovered: &[Recovered], progress: &Arc<dyn Progress>) {
    for one in recovered {
        if !matches!(one.what, Outcome::Forgotten) {
            progress.warn(Warning(format!("recovered run {}: {}", one.run, describe(&one.what))));
        }
    }
}

/// What recovery did, in words.
pub fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Forgotten => "it had not begun; what it had made was removed".to_owned(),
        Outcome::Interrupted => {
            "its supervisor died; entered in the log as interrupted, nothing was published".to_owned()
        }
        Outcome::Completed => "its commit was completed; the new result is in place".to_owned(),
        Outcome::TakenBack(why) => format!("its commit was taken back: {why}"),
        Outcome::Entered => "it had ended; entered in the log".to_owned(),
        Outcome::Stuck(why) => format!("cannot be recovered: {why}"),
    }
}

/// Everything that can be refused is refused here, and nothing is made.
pub(super) fn specify(request: &RunRequest) -> anyhow::Result<RunSpec> {
    if request.command.is_empty() {
        bail!("no command: write `agentguard run [OPTIONS] -- CMD [ARGS]`");
    }
    StateDir::refuse_unusable(&request.at.state)?;
    let workspace = match request.outputs.is_empty() {
        true => Some(workspace(&request.at, &request.workspace)?),
        false => None,
    };
    let view = view(&request.at, &request.view)?;
    let outputs = outputs(&request.at, &request.outputs)?;
    let roots = inputs(&request.at, &request.inputs)?;
    let command: Vec<Text> = request.command.iter().map(|argument| Text::from(argument.as_os_str())).collect();
    if roots.is_empty() && command.iter().any(|argument| contains(&argument.0, b"{inputs}")) {
        bail!("the command names {{inputs}} and there are none: add --input PATH");
    }
    let is_asked_for = request.workspace.directory.is_some();
    if workspace.is_some() && !is_asked_for && command.iter().any(|argument| contains(&argument.0, b"{staging}")) {
        bail!(
            "the command names {{staging}} and publishes nothing: add --out DIR, --out-file FILE or --stdout FILE\n\
             hint: with --workspace DIR the braces are left as they are"
        );
    }
    let agent = request.agent.clone().map_or_else(|| basename(&command[0]), Text::from);
    Ok(RunSpec {
        agent,
        command,
        cwd: request.at.cwd.as_path().into(),
        project: request.at.project.as_path().into(),
        inputs: InputPolicy {
            source: InputSource::Live(roots),
            exclude: request.exclude.clone(),
            limit: request.snapshot_limit,
        },
        outputs,
        staging_base: request.staging_base,
        gate: request.gate.clone(),
        time: request.time,
        retry: request.retry.clone(),
        budget: request.budget,
        usage: request.usage,
        prices: request.prices.clone(),
        meter: request.meter.as_deref().map(|asked| meter(asked, &view)).transpose()?,
        tty: request.tty,
        publish: PublishPolicy::Commit,
        workspace,
        view,
        on_drift: request.on_drift,
        recorded_inputs: false,
        environment: recorded_environment(&request.record_env),
        labels: request.labels.clone(),
        needs: request.needs.clone(),
        breaker: request.breaker,
        parent_run_id: parent_run(),
        replay_of: None,
        redrive_of: None,
    })
}

/// A meter for the variables that agents are known to look at, and those that were asked for.
fn meter(asked: &[(String, String)], view: &ViewPolicy) -> anyhow::Result<MeterPolicy> {
    if view.network == Network::None {
        bail!("--meter and --no-network do not go together: the meter is reached over the host's loopback");
    }
    let routes = routes(asked, |variable| std::env::var_os(variable)).context("--meter")?;
    let upstreams = routes.into_iter().map(|route| (route.variable.clone(), route.address())).collect();
    Ok(MeterPolicy { upstreams })
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(bytes, needle).is_some()
}

fn basename(command: &Text) -> Text {
    command.as_path().file_name().map_or_else(|| command.clone(), Text::from)
}

/// The run whose agent started this agentguard, if one did.
pub fn parent_run() -> Option<RunId> {
    std::env::var("AGENTGUARD_RUN_ID").ok()?.parse().ok()
}

/// Values of the allow-list (`LC_*` too) and of what `--record-env` names.
fn recorded_environment(further: &[String]) -> BTreeMap<Text, Text> {
    let wanted = |name: &str| {
        RECORDED_VARIABLES.contains(&name) || name.starts_with("LC_") || further.iter().any(|one| one == name)
    };
    std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(wanted))
        .map(|(name, value)| (Text::from(name), Text::from(value)))
        .collect()
}
