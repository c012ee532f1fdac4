//! The command line as it is typed. What it means is decided in `settings`; the rest of the program never sees this.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::breaker::BreakerArgs;
use super::bundle::{ExportArgs, ImportArgs};
use super::diff::DiffArgs;
use super::failed::FailedArgs;
use super::gc::GcArgs;
use super::prices::PricesArgs;
use super::query::{FilterArgs, StatsArgs};
use super::report::ReportArgs;

/// Supervise any agent process: its writes are staged, its result is verified, and what is published is all of it or
/// nothing.
#[derive(Debug, Parser)]
#[command(
    name = "agentguard",
    version,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true
)]
#[command(after_long_help = "Start with `agentguard demo`. Every command has examples in its own --help.")]
pub struct Cli {
    /// Where runs are recorded [default: .agentguard in the project root]
    #[arg(long, global = true, value_name = "DIR", env = "AGENTGUARD_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,
    /// When to use colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: When,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// `auto` looks at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If it is a terminal
    Auto,
    /// In any case
    Always,
    /// Not at all
    Never,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Supervise one run of a command
    Run(Box<RunArgs>),
    /// Run a recorded run again from the inputs it had, and compare
    Replay(ReplayArgs),
    /// List runs, newest first
    Log(LogArgs),
    /// Count runs by agent, failure class, day, model or label: success, duration, tokens, cost
    Stats(StatsArgs),
    /// Show all about one run
    Show(ShowArgs),
    /// Apply the changes of a held run to its workspace
    #[command(
        after_long_help = "Examples:\n  agentguard run --hold -- codex exec 'fix the tests'\n  agentguard diff @\n  agentguard apply @\n\nExits with 122, and changes nothing, if somebody else has changed one of the paths meanwhile."
    )]
    Apply(DecideArgs),
    /// Drop the changes of a held run
    #[command(after_long_help = "Examples:\n  agentguard discard @")]
    Discard(DecideArgs),
    /// Take a published run back: contents, modes and times are what they were before it
    #[command(
        after_long_help = "Examples:\n  agentguard undo @\n\nExits with 122, and changes nothing, if somebody has changed one of the paths since. Runs with --out replace their\ntargets whole and cannot be taken back."
    )]
    Undo(DecideArgs),
    /// Show what a run changed, as a patch; with two runs, how they differ
    Diff(DiffArgs),
    /// Put runs, with all that a replay needs, into a portable file
    Export(ExportArgs),
    /// Take runs from bundles into this project's log, to be shown and replayed here
    Import(ImportArgs),
    /// Write one self-contained HTML page about the runs: charts, failures, costs, a searchable table
    Report(ReportArgs),
    /// See which agents are broken, close their circuit breakers or open them
    Breaker(BreakerArgs),
    /// The dead letters: list failed runs, redrive them, or acknowledge them
    Failed(FailedArgs),
    /// See what model calls are reckoned to cost, or take a newer table of prices over
    Prices(PricesArgs),
    /// Finish or take back interrupted commits, write missing records, sweep leftovers
    #[command(
        after_long_help = "Examples:\n  agentguard recover\n\nExits with 1 if something could not be recovered; `run` and `replay` recover by themselves."
    )]
    Recover,
    /// Remove what is kept no longer: old runs, what only they relied on, remains
    Gc(GcArgs),
    /// Check the log's chain, the run directories and the snapshots; repair nothing
    #[command(after_long_help = "Examples:\n  agentguard fsck\n\nExits with 1 if there is a problem.")]
    Fsck,
    /// Try what this machine allows, and say what is missing and how to get it
    #[command(
        after_long_help = "Examples:\n  agentguard doctor\n\nExits with 1 if an agent cannot be given a view at its project's own path."
    )]
    Doctor,
    /// See it work: small agents through success, a partial write, a drift, a replay and a cascade
    #[command(
        after_long_help = "Examples:\n  agentguard demo\n\nEverything happens in a temporary directory, which is removed at the end."
    )]
    Demo,
    /// Print the JSON Schema of the run record
    #[command(after_long_help = "Examples:\n  agentguard schema > run-record.schema.json")]
    Schema,
    /// Print shell completions
    #[command(
        after_long_help = "Examples:\n  agentguard completions bash > /etc/bash_completion.d/agentguard\n  agentguard completions zsh > ~/.zfunc/_agentguard"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Print a man page
    #[command(after_long_help = "Examples:\n  agentguard man | man -l -\n  agentguard man run | man -l -")]
    Man {
        /// Which subcommand's page [default: the program's]
        subcommand: Option<String>,
    },
}

const RUN_EXAMPLES: &str = "\
Examples:
  agentguard run -- codex exec 'fix the failing test'      (changes in place, applied only if the run succeeds)
  agentguard run --verify 'cargo test' --passthrough target -- aider --message 'add a test'
  agentguard run --hold -- claude -p 'refactor'            (then: agentguard diff @, agentguard apply @)
  agentguard run --out report -- ./make-report --to '{staging}'
  agentguard run --input 'data/*.csv' --out-file summary.md --verify 'grep -q Total $AGENTGUARD_RESULT/summary.md' -- \\
      sh -c 'agent --data {inputs}/data > {staging}/summary.md'
  agentguard run --stdout report.md --timeout 10m -- codex exec 'write the weekly report'
  agentguard run --agent nightly          (the command stands in agentguard.toml)
  agentguard run --explain --agent nightly          (what that would be, and where each setting comes from; nothing is run)

The command finds in its environment: AGENTGUARD_STAGING (write here), AGENTGUARD_INPUTS (read the frozen inputs here),
AGENTGUARD_USAGE (append JSON lines of tokens and cost), AGENTGUARD_RUN_ID, AGENTGUARD_ATTEMPT, TMPDIR, TRACEPARENT.
{staging} and {inputs} in its arguments are replaced by the paths.

Every option can stand in agentguard.toml under [defaults] or [agents.NAME], and as AGENTGUARD_<OPTION>; a flag wins over the
environment, that over [agents.NAME], that over [defaults].

Exit codes: 0 published or nothing to publish; the agent's own 1-119; 120 rejected by the gate; 121 not started, because what it needs is broken;
122 conflict; 123 over budget; 124 timeout; 125 agentguard failed or was called wrongly; 126/127 command not executable/not found;
128+N died of signal N.
With --explain: 0 if the run would start, else what it would end with (121, 125, 126, 127).";

/// `agentguard run`.
#[derive(Debug, Default, Args)]
#[command(after_long_help = RUN_EXAMPLES)]
pub struct RunArgs {
    /// Name of the agent [default: the command's basename]
    #[arg(long, value_name = "NAME", help_heading = "Naming")]
    pub agent: Option<String>,
    /// Attach a label to the record (repeatable)
    #[arg(long, value_name = "K=V", help_heading = "Naming")]
    pub label: Vec<String>,
    /// Agents whose results this run builds on: it is not started while one of them is broken (repeatable)
    #[arg(long, value_name = "NAME[,NAME]", help_heading = "Naming")]
    pub needs: Vec<String>,
    /// Freeze this file, directory or glob before the agent starts (repeatable)
    #[arg(long, value_name = "PATH|GLOB", help_heading = "Inputs")]
    pub input: Vec<PathBuf>,
    /// Leave out of the inputs what matches (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Inputs")]
    pub exclude: Vec<String>,
    /// Refuse a snapshot that would add more than this to the store [default: 4GiB]
    #[arg(long, value_name = "SIZE", help_heading = "Inputs")]
    pub snapshot_limit: Option<String>,
    /// Publish a directory (repeatable; a single one is the staging directory itself)
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    pub out: Vec<PathBuf>,
    /// Publish a file, staged under its own name (repeatable)
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    pub out_file: Vec<PathBuf>,
    /// What staging starts from: empty, or a copy of what the targets hold [default: empty]
    #[arg(long, value_name = "BASE", help_heading = "Outputs")]
    pub out_from: Option<String>,
    /// Publish the agent's standard output to a file: the safe form of `agent > FILE`
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    pub stdout: Option<PathBuf>,
    /// Stage what the agent changes in this directory [default, without an output option: the project root]
    #[arg(long, value_name = "DIR", num_args = 0..=1, help_heading = "Outputs")]
    pub workspace: Option<Option<PathBuf>>,
    /// Keep an accepted result for `apply` or `discard` instead of applying it
    #[arg(long, help_heading = "Outputs")]
    pub hold: bool,
    /// What becomes of a result that meets somebody else's change: fail or hold [default: fail]
    #[arg(long, value_name = "WHAT", help_heading = "Outputs")]
    pub on_conflict: Option<String>,
    /// A path inside the workspace that is the real one and not staged, such as a cache (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Outputs")]
    pub passthrough: Vec<PathBuf>,
    /// What becomes of a run whose inputs changed under it: record or fail [default: record]
    #[arg(long, value_name = "WHAT", help_heading = "Inputs")]
    pub on_drift: Option<String>,
    /// Reject a result that changes a path that matches (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Gate")]
    pub protect: Vec<String>,
    /// Let the result change protected paths that match (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Gate")]
    pub allow: Vec<String>,
    /// Demand a non-empty file of the result that matches (repeatable)
    #[arg(long, value_name = "GLOB", help_heading = "Gate")]
    pub expect: Vec<String>,
    /// Reject a result with more files
    #[arg(long, value_name = "N", help_heading = "Gate")]
    pub max_files: Option<String>,
    /// Reject a result with more bytes
    #[arg(long, value_name = "SIZE", help_heading = "Gate")]
    pub max_bytes: Option<String>,
    /// Judge the result with a shell command; it looks at $AGENTGUARD_RESULT (repeatable, in order, all must pass)
    #[arg(long, value_name = "CMD", help_heading = "Gate")]
    pub verify: Vec<OsString>,
    /// Reject a result whose verify command runs longer than this
    #[arg(long, value_name = "TIME", help_heading = "Gate")]
    pub verify_timeout: Option<String>,
    /// Run no verify command, also none of the configuration
    #[arg(long, conflicts_with = "verify", help_heading = "Gate")]
    pub no_verify: bool,
    /// Stop the agent after this long
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub timeout: Option<String>,
    /// Stop the agent after this long without output, staged changes and processor time
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub idle_timeout: Option<String>,
    /// End the run after this long, over all attempts
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub deadline: Option<String>,
    /// From asking the agent to stop (TERM) to making it (KILL) [default: 5s]
    #[arg(long, value_name = "TIME", help_heading = "Time")]
    pub kill_after: Option<String>,
    /// Try again up to N times after a failure, each time from the beginning [default: 0]
    #[arg(long, value_name = "N", help_heading = "Retries")]
    pub retries: Option<String>,
    /// The longest wait before the second attempt, doubled for each further one; any time up to it is waited [default: 1s]
    #[arg(long, value_name = "TIME", help_heading = "Retries")]
    pub backoff: Option<String>,
    /// No wait is longer, but for one that an API asks for [default: 60s]
    #[arg(long, value_name = "TIME", help_heading = "Retries")]
    pub backoff_max: Option<String>,
    /// After which failures to try again: classes (clean_abort, partial_write, silent_drift) or kinds, with commas
    /// [default: clean_abort,partial_write]
    #[arg(long, value_name = "CLASS", help_heading = "Retries")]
    pub retry_on: Vec<String>,
    /// Tell each further attempt why the one before failed, in the file $AGENTGUARD_FEEDBACK
    #[arg(long, help_heading = "Retries")]
    pub feedback: bool,
    /// Where standard input comes from: inherit, null or a file [default: inherit]
    #[arg(long, value_name = "inherit|null|FILE", help_heading = "Streams")]
    pub stdin: Option<PathBuf>,
    /// Run the agent on a terminal of its own: auto (if agentguard is on one), always or never [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = "Streams")]
    pub tty: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub budget: BudgetArgs,
    /// The agent counts as broken after this many failures in a row [default: 3]
    #[arg(long, value_name = "N", help_heading = "Circuit breaker")]
    pub breaker_threshold: Option<String>,
    /// From then until a run that needs it is let through to try; longer after each try that fails [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = "Circuit breaker")]
    pub breaker_cooldown: Option<String>,
    /// Do not start this run either while its own agent is broken
    #[arg(long, help_heading = "Circuit breaker")]
    pub breaker_self: bool,
    /// Start this run whatever is broken; its end is counted all the same
    #[arg(long, conflicts_with = "breaker_self", help_heading = "Circuit breaker")]
    pub no_breaker: bool,
    /// How much must be enforced: auto, strict or none [default: auto]
    #[arg(long, value_name = "LEVEL", help_heading = "Isolation")]
    pub isolation: Option<String>,
    /// How the agent is given its view: auto, overlay or clone [default: auto]
    #[arg(long, value_name = "VIEW", help_heading = "Isolation")]
    pub view: Option<String>,
    /// With --isolation strict: a further path that may be written (repeatable)
    #[arg(long, value_name = "PATH", help_heading = "Isolation")]
    pub allow_write: Vec<PathBuf>,
    /// No network but the loopback interface
    #[arg(long, help_heading = "Isolation")]
    pub no_network: bool,
    /// Record the value of this environment variable for replay (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "Recording")]
    pub record_env: Vec<String>,
    /// Write this run's record there too; `-` is standard output
    #[arg(long, value_name = "PATH|-", help_heading = "Recording")]
    pub record: Option<PathBuf>,
    /// Write this run there as JUnit XML, its attempts as reruns; `-` is standard output
    #[arg(long, value_name = "PATH|-", help_heading = "Recording")]
    pub junit: Option<PathBuf>,
    /// Write what came of this run there as AGENT_RUN_…=value lines, for GitLab's dotenv reports; `-` is standard output
    #[arg(long, value_name = "PATH|-", help_heading = "Recording")]
    pub dotenv: Option<PathBuf>,
    /// Speak the language of a CI system: auto (the one around), github, gitlab or off; without some of it with
    /// ,no-fence ,no-annotation ,no-summary ,no-section after it [default: auto]
    #[arg(long, value_name = "SYSTEM", help_heading = "Messages")]
    pub ci: Option<String>,
    /// Run nothing and write nothing: print what would be run, where every setting comes from, and what would come of it
    #[arg(long, help_heading = "Messages")]
    pub explain: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub talk: TalkArgs,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// How much an agent may use.
#[derive(Debug, Default, Args)]
pub struct BudgetArgs {
    /// Whose words count about tokens and cost: auto (what is recognised), off, file ($AGENTGUARD_USAGE alone), or the name of
    /// an agent's format: claude, codex, gemini, qwen, opencode, pi, copilot, aider, mini, llm, cn; in the environment: AGENTGUARD_USAGE_FORMAT [default: auto]
    #[arg(long, value_name = "FORMAT", help_heading = "Budget")]
    pub usage: Option<String>,
    /// Stand between the agent and its API on loopback, and read usage off the wire: exact, and call by call
    #[arg(long, help_heading = "Budget")]
    pub meter: bool,
    /// With --meter: where calls go that come by this variable, e.g. OPENAI_BASE_URL=http://127.0.0.1:8080/v1 (repeatable)
    #[arg(long, value_name = "VARIABLE=URL", help_heading = "Budget")]
    pub meter_upstream: Vec<String>,
    /// Stop the agent when it has used more tokens than this, over all attempts
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub max_tokens: Option<String>,
    /// Stop the agent when it has cost more US dollars than this, over all attempts
    #[arg(long, value_name = "USD", help_heading = "Budget")]
    pub max_cost_usd: Option<String>,
    /// Stop the agent when it has made more model calls than this, over all attempts
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub max_calls: Option<String>,
    /// Be so much nicer to others than agentguard was started (1 to 19)
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub nice: Option<String>,
    /// Address space of each of the agent's processes
    #[arg(long, value_name = "SIZE", help_heading = "Budget")]
    pub memory: Option<String>,
    /// Processes of the agent's user; root is not held to it
    #[arg(long, value_name = "N", help_heading = "Budget")]
    pub pids: Option<String>,
    /// Stop an agent that prints more
    #[arg(long, value_name = "SIZE", help_heading = "Budget")]
    pub max_output: Option<String>,
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct TalkArgs {
    /// Say nothing but errors
    #[arg(long, short, help_heading = "Messages")]
    pub quiet: bool,
    /// Say more about what is done
    #[arg(long, short, conflicts_with = "quiet", help_heading = "Messages")]
    pub verbose: bool,
    /// Show progress on standard error; auto looks whether it is a terminal [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = "Messages")]
    pub progress: Option<When>,
}

/// `agentguard replay`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard replay @                     (the newest run)
  agentguard replay @failed               (the newest failed one)
  agentguard replay 7f3a91c2 -- ./fixed-agent --to '{staging}'
  agentguard replay 7f3a91c2 --commit     (publish the result if the gate accepts it)
  agentguard replay run.tar.zst           (a bundle: imported into this project, then replayed in it)

The run is given the recorded arguments, working directory, environment values, standard input and frozen inputs
($AGENTGUARD_INPUTS, {inputs}); paths outside of those are read as they are today.

Exits with 0 if status, exit code and outputs are reproduced, 1 if they diverge; with another command after -- or with
--commit, as `run` does.")]
pub struct ReplayArgs {
    /// Run id, a unique prefix or suffix of one, @ (newest), @-1, @failed; or a bundle's file
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Publish the result if the gate accepts it
    #[arg(long)]
    pub commit: bool,
    /// Keep the agent's output from being taken for commands of a CI system, as with `run`: auto, github, gitlab or off
    /// [default: auto]
    #[arg(long, value_name = "SYSTEM")]
    pub ci: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub talk: TalkArgs,
    /// Another command instead of the recorded one
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `agentguard apply`, `discard`, `undo`.
#[derive(Debug, Args)]
pub struct DecideArgs {
    /// Run id, a unique prefix or suffix of one, @ (newest), @-1, @failed
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Say nothing but errors
    #[arg(long, short)]
    pub quiet: bool,
}

/// `agentguard log`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard log -n 5
  agentguard log --status failed --since 2026-11-01
  agentguard log --kind api_rate_limit --label team=search --min-cost 0.50
  agentguard log --grep 'disk quota' --format csv
  agentguard log --agent nightly --format jsonl | jq .error
  agentguard log --since 1h --format otlp >> traces.jsonl             (read by the collector's otlpjsonfile receiver)
  agentguard log --format prometheus > a.tmp && mv a.tmp /var/lib/node_exporter/agentguard.prom
  agentguard log --since 1d --format junit > junit.xml
  agentguard log -n 1 --format intoto > link.json")]
pub struct LogArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would become the command's help")]
    pub filters: FilterArgs,
    /// At most this many [default: 50; all of them with otlp, prometheus, intoto and junit]
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// How to print them
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    pub format: LogFormat,
}

/// How `log` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Table,
    /// One JSON array
    Json,
    /// The stored lines
    Jsonl,
    /// RFC 4180, with titles
    Csv,
    /// A table for a document
    Markdown,
    /// OpenTelemetry traces: OTLP/JSON, one object per line
    Otlp,
    /// Sums for the textfile collector of Prometheus
    Prometheus,
    /// in-toto link statements, unsigned, one per line
    Intoto,
    /// JUnit XML
    Junit,
}

/// `agentguard show`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  agentguard show @
  agentguard show 7f3a91c2 --stderr
  agentguard show @ --manifest outputs | sha256sum -c
  agentguard show @ --manifest inputs --listing | sha256sum     (is the run's input_hash)")]
pub struct ShowArgs {
    /// Run id, a unique prefix or suffix of one, @ (newest), @-1, @failed
    #[arg(value_name = "RUN")]
    pub run: String,
    /// Print the record as JSON
    #[arg(long, group = "what")]
    pub json: bool,
    /// Print what the agent printed
    #[arg(long, group = "what")]
    pub stdout: bool,
    /// Print what the agent printed on standard error
    #[arg(long, group = "what")]
    pub stderr: bool,
    /// List the model calls that the meter saw (`run --meter`)
    #[arg(long, group = "what")]
    pub calls: bool,
    /// With --calls: one JSON object a line
    #[arg(long, requires = "calls")]
    pub jsonl: bool,
    /// Print `sha256sum -c` lines of what it read or staged
    #[arg(long, value_name = "SIDE", group = "what")]
    pub manifest: Option<ManifestSide>,
    /// With --manifest: print the raw listing that the hash is taken over, of the roots or of DIR
    #[arg(long, value_name = "DIR", requires = "manifest", num_args = 0..=1)]
    pub listing: Option<Option<OsString>>,
}

/// Which manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ManifestSide {
    /// What the run read
    Inputs,
    /// What it staged
    Outputs,
}
