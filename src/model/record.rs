//! `RunRecord`: one line of `runs.jsonl`. Field order is the contract: the nine fields that every run has come
//! first; `prev` comes last, because it is filled in under the log's lock.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error_kind::{ErrorClass, Failure, Status};
use super::run_id::RunId;
use super::text::Text;
use super::timestamp::Timestamp;

/// The version of the record's shape.
pub const RECORD_SCHEMA: u32 = 1;

/// What happened in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunRecord {
    /// UUIDv7, lower-case, hyphenated.
    pub run_id: RunId,
    /// When the run began.
    pub start_time: Timestamp,
    /// When it ended; for an interrupted run, the last moment its journal knows of.
    pub end_time: Timestamp,
    /// How it ended.
    pub status: Status,
    /// SHA-256 of the input listing; null only where the snapshot was never taken.
    pub input_hash: Option<Digest>,
    /// SHA-256 of the listing of what was staged, published or not; null if nothing was staged.
    pub output_hash: Option<Digest>,
    /// Tokens over all attempts; null where unknown, never zero for unknown.
    pub tokens_used: Option<u64>,
    /// US dollars over all attempts; null where unknown.
    pub cost_usd: Option<f64>,
    /// The recovery pattern; null means success.
    pub error_class: Option<ErrorClass>,
    /// Version of this shape.
    pub schema: u32,
    /// The agent's name: `--agent`, else the command's basename.
    pub agent: Text,
    /// The argument vector, secrets redacted.
    pub command: Vec<Text>,
    /// Working directory of the agent.
    pub cwd: Text,
    /// `publish` or `workspace`.
    pub mode: Mode,
    /// What would be published, by path relative to the project (absolute if outside).
    pub targets: Vec<Text>,
    /// Whether the result reached its targets.
    pub published: bool,
    /// The agent's exit code; null if it died of a signal or never ran.
    pub exit_code: Option<i32>,
    /// The signal the agent died of.
    pub signal: Option<i32>,
    /// The code agentguard exited with; null where its supervisor died.
    pub guard_exit_code: Option<i32>,
    /// What went wrong; null on success.
    pub error: Option<Failure>,
    /// Every attempt, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Every verify command that was run, in order.
    pub verify: Vec<VerifyRecord>,
    /// What publishing changed at the targets; null where nothing was published.
    pub changes: Option<Changes>,
    /// Files the agent wrote where nothing is kept; null where that is not observed.
    pub discarded: Option<u64>,
    /// Processes that outlived the agent and were killed; null where that is not observed.
    pub leaked_processes: Option<u64>,
    /// Token usage over all attempts; null where the agent said nothing.
    pub usage: Option<Usage>,
    /// `reported` or `priced:<table date>`; null without a cost.
    pub cost_source: Option<String>,
    /// What kept the agent's writes apart.
    pub isolation: Isolation,
    /// Inputs that changed under the run; null where that is not observed.
    pub input_drift: Option<InputDrift>,
    /// Agents this run depends on.
    pub needs: Vec<String>,
    /// `--label` pairs.
    pub labels: BTreeMap<String, String>,
    /// The run whose agent started this one.
    pub parent_run_id: Option<RunId>,
    /// The run this one replays.
    pub replay_of: Option<RunId>,
    /// The failed run this one redrives.
    pub redrive_of: Option<RunId>,
    /// Host name.
    pub host: Text,
    /// User name, or the numeric id where it has none.
    pub user: Text,
    /// Version of agentguard that ran it.
    pub agentguard: String,
    /// State of the git work tree around the run; null outside one.
    pub git: Option<GitState>,
    /// SHA-256 of the previous line of the log with its newline; null on the first.
    pub prev: Option<Digest>,
}

/// How the agent was given a place to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// An empty staging directory that becomes the targets.
    Publish,
    /// A copy-on-write view of a directory.
    Workspace,
}

/// One attempt of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttemptRecord {
    /// When it was started.
    pub start: Timestamp,
    /// When its process had ended.
    pub end: Timestamp,
    /// The agent's exit code.
    pub exit_code: Option<i32>,
    /// The signal it died of.
    pub signal: Option<i32>,
    /// The class of its failure; null if the agent succeeded.
    pub error_class: Option<ErrorClass>,
    /// Its failure.
    pub error: Option<Failure>,
    /// Tokens of this attempt.
    pub tokens: Option<u64>,
    /// US dollars of this attempt.
    pub cost: Option<f64>,
    /// Entries in staging when it ended (files, links, fifos; not directories).
    pub staged_files: u64,
    /// Bytes in staging when it ended.
    pub staged_bytes: u64,
}

/// One verify command that was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VerifyRecord {
    /// The shell command, secrets redacted.
    pub command: Text,
    /// Its exit code; null if it was killed.
    pub exit_code: Option<i32>,
    /// How long it ran.
    pub duration_ms: u64,
}

/// What publishing changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Paths that did not exist before.
    pub created: u64,
    /// Paths whose content, kind or mode changed.
    pub modified: u64,
    /// Paths that no longer exist.
    pub deleted: u64,
    /// Bytes of the published files.
    pub bytes: u64,
}

/// Token usage in the normal form: `tokens_used` is the sum of the first four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Input tokens that were not served from a cache.
    pub input_uncached: u64,
    /// Input tokens served from a cache.
    pub input_cached: u64,
    /// Tokens written to a cache.
    pub cache_write: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
    /// Reasoning tokens, within `output`; null where not told apart.
    pub reasoning: Option<u64>,
    /// Number of calls; null where unknown.
    pub calls: Option<u64>,
    /// Models that were named, sorted.
    pub models: Vec<String>,
    /// Where the figures come from: `usage_file`, `stdout:<format>`, `session_file` or `meter`.
    pub source: String,
    /// Whether the source counts every call.
    pub exact: bool,
}

impl Usage {
    /// The sum of the four classes, null on overflow.
    pub fn tokens(&self) -> Option<u64> {
        self.input_uncached.checked_add(self.input_cached)?.checked_add(self.cache_write)?.checked_add(self.output)
    }
}

/// What kept the agent's writes apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Isolation {
    /// `staging` (an own directory, nothing enforced), `overlay`, `clone` or `none`.
    pub view: String,
    /// `none`, `auto` or `strict`: what was in force.
    pub level: String,
    /// Landlock ABI in force; null where Landlock was not used.
    pub landlock_abi: Option<u32>,
    /// `host` or `none`.
    pub network: String,
    /// What the agent's processes could not escape: `namespace` (an id namespace of their own, whose end is theirs) or
    /// `subreaper` (whatever it left behind was looked for and killed). Null before there was an agent.
    #[serde(default)]
    pub processes: Option<String>,
}

/// Paths of the snapshot that changed under the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputDrift {
    /// How many.
    pub count: u64,
    /// The first twenty.
    pub paths: Vec<Text>,
}

/// State of a git work tree, read from its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GitState {
    /// Object id of `HEAD`; null before the first commit.
    pub commit: Option<String>,
    /// Branch name; null when detached.
    pub branch: Option<String>,
    /// Whether tracked files differ from the index; null where that was not looked at.
    pub dirty: Option<bool>,
}
