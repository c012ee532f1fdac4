//! `RunSpec`: everything a run will do, resolved once from arguments, environment and configuration (or from a
//! recorded run); nobody reads those again. Kept as `runs/<id>/run.json`, so `replay` takes the same road.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::breaker::BreakerPolicy;
use super::error_kind::{ErrorClass, ErrorKind};
use super::event::SnapshotRef;
use super::price::Price;
use super::run_id::RunId;
use super::size::ByteSize;
use super::text::Text;
use super::usage_format::UsageFormat;

/// Everything one run will do. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The agent's name.
    pub agent: Text,
    /// Exact argument vector, placeholders not yet expanded.
    pub command: Vec<Text>,
    /// Working directory.
    pub cwd: Text,
    /// Project root, the base of relative names in listings.
    pub project: Text,
    /// What the agent reads, frozen.
    pub inputs: InputPolicy,
    /// What it may publish.
    pub outputs: Vec<OutputTarget>,
    /// What staging starts from.
    pub staging_base: StagingBase,
    /// What the gate demands.
    pub gate: GatePolicy,
    /// How long things may take.
    pub time: TimePolicy,
    /// When a failed attempt is followed by another.
    #[serde(default)]
    pub retry: RetryPolicy,
    /// How much an attempt may use.
    #[serde(default)]
    pub budget: Budget,
    /// Whose words are believed about tokens and cost.
    #[serde(default)]
    pub usage: UsageFormat,
    /// Prices of models, besides those that are known.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
    /// Whether a meter stands between the agent and its API.
    #[serde(default)]
    pub meter: Option<MeterPolicy>,
    /// Whether the agent runs on a terminal of its own.
    #[serde(default)]
    pub tty: Tty,
    /// What becomes of an accepted result.
    pub publish: PublishPolicy,
    /// The directory that the agent changes in place; `None` in publish mode.
    #[serde(default)]
    pub workspace: Option<WorkspacePolicy>,
    /// What the agent may see and change.
    #[serde(default)]
    pub view: ViewPolicy,
    /// What becomes of a run whose inputs changed under it.
    #[serde(default)]
    pub on_drift: OnDrift,
    /// Of a replay in workspace mode: whether the recorded snapshot has roots besides the workspace.
    #[serde(default)]
    pub recorded_inputs: bool,
    /// Environment values kept for replay, by name.
    pub environment: BTreeMap<Text, Text>,
    /// `--label` pairs.
    pub labels: BTreeMap<String, String>,
    /// Agents this run depends on.
    pub needs: Vec<String>,
    /// When the agent's breaker opens, and whether open ones refuse the run.
    #[serde(default)]
    pub breaker: BreakerPolicy,
    /// The run whose agent started this one.
    pub parent_run_id: Option<RunId>,
    /// The run this one replays.
    pub replay_of: Option<RunId>,
    /// The failed run this one redrives.
    #[serde(default)]
    pub redrive_of: Option<RunId>,
}

impl RunSpec {
    /// The run whose recorded environment and standard input this one is given.
    pub fn again_of(&self) -> Option<RunId> {
        self.replay_of.or(self.redrive_of)
    }
}

/// A directory whose changes are staged, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspacePolicy {
    /// The directory, free of symbolic links.
    pub path: Text,
    /// Its name in messages and the record: relative to the project, `.` for the project itself, absolute if outside.
    pub name: Text,
    /// Paths inside it that are the real ones for agent and verify: never staged, never in a snapshot.
    pub passthrough: Vec<Text>,
    /// Whether an accepted result waits for `apply`.
    pub hold: Hold,
    /// What becomes of an accepted result that meets somebody else's change.
    pub on_conflict: OnConflict,
}

/// Whether an accepted result is applied at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It is applied.
    #[default]
    No,
    /// It is kept for `apply` or `discard`.
    Yes,
}

/// What becomes of a result that meets a conflict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The run fails; staging is dropped.
    #[default]
    Fail,
    /// The run is held.
    Hold,
}

/// What becomes of a run whose inputs changed under it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrift {
    /// The record says so.
    #[default]
    Record,
    /// The result is rejected.
    Fail,
}

/// How the agent's view is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewPolicy {
    /// Which view.
    pub wanted: ViewKind,
    /// How much must be enforced.
    pub isolation: IsolationLevel,
    /// Further paths that may be written under [`IsolationLevel::Strict`].
    pub allow_write: Vec<Text>,
    /// Whether there is a network.
    pub network: Network,
}

/// Which view is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewKind {
    /// The best that works here.
    #[default]
    Auto,
    /// Copy on write over the live tree.
    Overlay,
    /// A private copy.
    Clone,
}

/// How much must be enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationLevel {
    /// What works here.
    #[default]
    Auto,
    /// A view, and no writes outside of it; refused where that cannot be had.
    Strict,
    /// Nothing.
    None,
}

/// Whether the agent has a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's.
    #[default]
    Host,
    /// None but the loopback interface.
    None,
}

/// What is frozen before the agent starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputPolicy {
    /// Where the inputs come from.
    pub source: InputSource,
    /// `--exclude` globs, matched against paths relative to the project and against file names.
    pub exclude: Vec<String>,
    /// Most new bytes a snapshot may add to the store.
    pub limit: ByteSize,
}

/// Where the inputs come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputSource {
    /// Read now: each root by its listing name.
    Live(Vec<InputRoot>),
    /// Those of an earlier run.
    Recorded(SnapshotRef),
}

/// One root of the input listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InputRoot {
    /// Relative to the project, absolute if outside.
    pub name: Text,
    /// Where it is.
    pub path: Text,
}

/// One thing that may be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTarget {
    /// Relative to the project, absolute if outside: its name in the output listing.
    pub name: Text,
    /// Where it is published.
    pub path: Text,
    /// Where it is staged, relative to the staging directory; empty for the staging directory itself.
    pub staged_as: Text,
    /// Which option named it.
    pub kind: OutputKind,
}

/// Which option named an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// `--out`.
    Directory,
    /// `--out-file`.
    File,
    /// `--stdout`.
    Stdout,
}

/// What staging starts from (`--out-from`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StagingBase {
    /// Nothing.
    Empty,
    /// A copy of what the targets hold now.
    Current,
}

/// What the gate demands of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePolicy {
    /// Shell commands, in order; all must pass.
    pub verify: Vec<Text>,
    /// How long each may take.
    pub verify_timeout: Option<Duration>,
    /// Globs that must match a non-empty file of the result.
    pub expect: Vec<String>,
    /// Most files in the result.
    pub max_files: Option<u64>,
    /// Most bytes in the result.
    pub max_bytes: Option<ByteSize>,
    /// Globs of paths that may not change, besides those that are always protected.
    #[serde(default)]
    pub protect: Vec<String>,
    /// Globs of protected paths that may change all the same.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimePolicy {
    /// Wall time of one attempt.
    pub timeout: Option<Duration>,
    /// Time of one attempt without output, staged changes and processor time.
    #[serde(default)]
    pub idle_timeout: Option<Duration>,
    /// Wall time over all attempts, from the start of the run.
    #[serde(default)]
    pub deadline: Option<Duration>,
    /// From TERM to KILL.
    pub kill_after: Duration,
}

/// When a failed attempt is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub retries: u32,
    /// The longest wait before the second attempt; doubled for each further one.
    pub backoff: Duration,
    /// No wait is longer.
    pub backoff_max: Duration,
    /// After which failures.
    pub on: Vec<RetryOn>,
    /// Whether an attempt finds the reason for the failure of the one before.
    pub feedback: Feedback,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 0,
            backoff: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            on: vec![RetryOn::Class(ErrorClass::CleanAbort), RetryOn::Class(ErrorClass::PartialWrite)],
            feedback: Feedback::No,
        }
    }
}

/// A failure to try again after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// Every failure of a class.
    Class(ErrorClass),
    /// A precise cause.
    Kind(ErrorKind),
}

/// Whether an attempt is told why the one before it failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feedback {
    /// It begins like the first.
    #[default]
    No,
    /// In a file.
    File,
}

/// Whether an agent runs on a pseudoterminal of its own, through which its output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tty {
    /// If agentguard's three streams are a terminal.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// Its streams are pipes.
    Never,
}

/// How much an attempt may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Bytes that it may print, on both streams together.
    pub max_output: Option<ByteSize>,
    /// Added to its niceness.
    pub nice: Option<i32>,
    /// Memory of all its processes, or where that cannot be limited of each.
    pub memory: Option<ByteSize>,
    /// Processes at a time.
    pub pids: Option<u64>,
    /// Tokens, over all attempts.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// US dollars, over all attempts.
    #[serde(default)]
    pub max_cost_usd: Option<f64>,
    /// Model calls, over all attempts.
    #[serde(default)]
    pub max_calls: Option<u64>,
    /// US dollars that the agent's runs may cost in a day (UTC).
    #[serde(default)]
    pub daily_usd: Option<f64>,
    /// What was left of them when the run began.
    #[serde(default)]
    pub left_today_usd: Option<f64>,
}

/// A meter between the agent and its API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterPolicy {
    /// Variables that the agent takes its API's address from, and where calls go that come by each.
    pub upstreams: Vec<(String, String)>,
}

/// What becomes of an accepted result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishPolicy {
    /// It becomes the targets.
    Commit,
    /// It is hashed, compared and dropped (`replay` without `--commit`).
    Drop,
}

/// The `run.json` of a run directory: the spec as it was resolved, and its version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Version of this shape.
    pub schema: u32,
    /// The run.
    pub run_id: RunId,
    /// What was asked.
    pub spec: RunSpec,
}
