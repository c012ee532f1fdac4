//! `Event`: one line of a run's journal, written before its effect is relied on.
//!
//! The journal (`runs/<id>/journal`) is JSON lines. The record is a fold of it, recovery is a decision over it;
//! nothing about a run is known from anywhere else.

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::digest::Digest;
use super::entry::EntryKind;
use super::error_kind::{Failure, Status};
use super::record::{Changes, GitState, InputDrift, Isolation, Mode, Usage, VerifyRecord};
use super::run_id::RunId;
use super::text::Text;
use super::timestamp::Timestamp;

/// Something that happened, or is about to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "a run has some ten events, and they are read more often than moved")]
pub enum Event {
    /// The run exists: from here on it will be in the log.
    Started(Box<Header>),
    /// The inputs are in the store.
    Snapshotted(SnapshotTaken),
    /// An attempt is about to be spawned into empty staging.
    AttemptStarted(AttemptStart),
    /// A model call that the attempt made, as the meter saw it; written when the attempt has ended.
    Called(Box<Call>),
    /// The attempt's process has ended.
    AttemptEnded(AttemptEnd),
    /// Staging was read and hashed; nothing may change it any more.
    Sealed(Sealed),
    /// One verify command has ended.
    VerifyEnded(VerifyRecord),
    /// The gate's answer.
    Judged(Judgement),
    /// The commit rolls forward from here: durable before the first rename.
    CommitIntended(CommitPlan),
    /// Every target is its new self, durably.
    CommitDone(CommitDone),
    /// The commit was taken back: every target is its old self.
    CommitAborted(CommitAborted),
    /// Written by recovery in place of what a dead supervisor could not write.
    Interrupted(Interrupted),
    /// The run is over.
    Settled(Settled),
    /// An ended run is taken up again: a held result is decided on, or a published one taken back.
    Reopened(Reopened),
    /// What was taken up is done with.
    Closed(Closed),
}

/// What is known when a run begins; copied into its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The run.
    pub run_id: RunId,
    /// When it began.
    pub time: Timestamp,
    /// The agent's name.
    pub agent: Text,
    /// Arguments, secrets redacted.
    pub command: Vec<Text>,
    /// Working directory.
    pub cwd: Text,
    /// How the agent is given a place to write.
    pub mode: Mode,
    /// Target names, in the order of the listing.
    pub targets: Vec<Text>,
    /// Agents this run depends on.
    pub needs: Vec<String>,
    /// `--label` pairs.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The run whose agent started this one.
    pub parent_run_id: Option<RunId>,
    /// The run this one replays.
    pub replay_of: Option<RunId>,
    /// The failed run this one redrives.
    #[serde(default)]
    pub redrive_of: Option<RunId>,
    /// Host name.
    pub host: Text,
    /// User name.
    pub user: Text,
    /// Version of agentguard.
    pub agentguard: String,
    /// Git state.
    pub git: Option<GitState>,
    /// What keeps the agent's writes apart.
    pub isolation: Isolation,
}

/// The snapshot of the inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotTaken {
    /// When it was complete.
    pub time: Timestamp,
    /// SHA-256 of the root listing, without stdin.
    pub input_hash: Digest,
    /// Where the store keeps it.
    pub snapshot: SnapshotRef,
    /// Files in it.
    pub files: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Paths that would not hold still while they were read.
    pub unstable: Vec<Text>,
    /// Sockets and devices that were left out.
    pub skipped: u64,
    /// Paths of a workspace that git would ignore, and git's own objects: they are live at replay time. A directory
    /// counts once.
    #[serde(default)]
    pub left_out: u64,
    /// A moment of the clock that stamps files, before the agent was started: what no snapshot holds and was changed
    /// later was changed by somebody else. Null in publish mode.
    #[serde(default)]
    pub began: Option<(i64, u32)>,
}

/// Names a snapshot in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotRef {
    /// SHA-256 of the manifest's bytes.
    pub manifest: Digest,
    /// The pack that holds the manifest.
    pub pack: Digest,
}

/// An attempt begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptStart {
    /// From 1.
    pub number: u32,
    /// When.
    pub time: Timestamp,
    /// Where the agent writes.
    pub staging: Text,
    /// The empty directory that the run's private files are mounted on in the agent's view; null where nothing is mounted.
    #[serde(default)]
    pub private: Option<Text>,
}

/// An attempt's process has ended (or never began).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// When.
    pub time: Timestamp,
    /// The agent's exit code.
    pub exit_code: Option<i32>,
    /// The signal it died of.
    pub signal: Option<i32>,
    /// Why the attempt failed; null if the agent succeeded.
    pub failure: Option<Failure>,
    /// The signal that told agentguard to stop, where one did.
    pub cancelled_by: Option<i32>,
    /// What the agent read from a captured standard input.
    pub stdin: Option<StdinCapture>,
    /// Token usage of this attempt.
    pub usage: Option<Usage>,
    /// US dollars.
    pub cost_usd: Option<f64>,
    /// Where they come from: `reported` (also where this is null), or `priced:` and the day of the table.
    #[serde(default)]
    pub cost_source: Option<String>,
    /// How long the API asked to be left alone; null where it did not.
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
    /// Bytes the agent printed on each stream.
    pub stdout_bytes: u64,
    /// The same for standard error.
    pub stderr_bytes: u64,
    /// What was in force while the agent ran; null where it never ran.
    #[serde(default)]
    pub isolation: Option<Isolation>,
    /// Processes that outlived the agent and were killed; null where it never ran.
    #[serde(default)]
    pub leaked_processes: Option<u64>,
}

/// Standard input that passed through agentguard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdinCapture {
    /// SHA-256 of the bytes kept; null where there were more than are kept.
    pub digest: Option<Digest>,
    /// Bytes that passed.
    pub size: u64,
    /// SHA-256 of the root listing with `stdin` in it; null where it was not kept.
    pub input_hash: Option<Digest>,
}

/// What the agent left in staging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// When it had been read.
    pub time: Timestamp,
    /// SHA-256 of the target listing; null if nothing was staged.
    pub output_hash: Option<Digest>,
    /// Files, links and fifos.
    pub files: u64,
    /// Bytes in regular files.
    pub bytes: u64,
    /// The contents of what was staged, as far as they are kept; null where none are.
    #[serde(default)]
    pub contents: Option<SnapshotRef>,
    /// Files the agent wrote where nothing is kept; null where that was not observed.
    #[serde(default)]
    pub discarded: Option<u64>,
    /// Inputs that changed under the run; null where that was not observed.
    #[serde(default)]
    pub drift: Option<InputDrift>,
}

/// The gate's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// When.
    pub time: Timestamp,
    /// Null: accepted. Else why not.
    pub rejection: Option<Failure>,
}

/// What a commit is about to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitPlan {
    /// When it was decided.
    pub time: Timestamp,
    /// One operation per target; none in workspace mode.
    pub operations: Vec<TargetOperation>,
    /// The file with the operations of a workspace commit.
    #[serde(default)]
    pub plan: Option<PlanFile>,
    /// What it will have changed.
    pub changes: Changes,
}

/// A plan in a file of its own, in the run's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFile {
    /// Its name there.
    pub name: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
}

/// One target becomes its staged self.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetOperation {
    /// The staged object, on the target's filesystem.
    pub staged: Text,
    /// Its identity: the redo test is where this inode is found.
    pub staged_identity: Identity,
    /// The target.
    pub target: Text,
    /// What stands at the target before; null where nothing does.
    pub previous: Option<Identity>,
    /// Stat fingerprint of what stands there; see [`crate::model::event::Identity`] for which object it is.
    pub fingerprint: Option<Digest>,
    /// Where the displaced object is put.
    pub displaced: Text,
    /// Directories above the target that the commit makes, outermost first.
    pub parents: Vec<Text>,
}

/// Which object a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Seconds and nanoseconds of the last modification, so that a reused inode is not mistaken for the object.
    pub mtime: (i64, u32),
}

/// The commit is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDone {
    /// When.
    pub time: Timestamp,
}

/// The commit was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitAborted {
    /// When.
    pub time: Timestamp,
    /// Why.
    pub failure: Failure,
}

/// A dead supervisor's run, as recovery found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interrupted {
    /// When recovery wrote this.
    pub time: Timestamp,
    /// Entries it found in staging.
    pub staged_files: u64,
    /// Bytes it found in staging.
    pub staged_bytes: u64,
}

/// The run is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// When.
    pub time: Timestamp,
    /// How.
    pub status: Status,
    /// What went wrong outside of attempts, gate and commit (snapshot, spawn, journal).
    pub failure: Option<Failure>,
    /// The code agentguard is about to exit with.
    pub guard_exit_code: Option<i32>,
}

/// Why an ended run is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Its held result is applied.
    Apply,
    /// Its held result is dropped.
    Discard,
    /// Its published result is taken back.
    Undo,
}

/// An ended run is taken up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reopened {
    /// When.
    pub time: Timestamp,
    /// What for.
    pub purpose: Purpose,
}

/// What was taken up is done with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// When.
    pub time: Timestamp,
    /// What it was taken up for.
    pub purpose: Purpose,
    /// Null: it was done. Else why not; everything is as it was before.
    pub failure: Option<Failure>,
}

/// What an [`EntryKind`] is called in messages.
pub fn kind_word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symbolic link",
        EntryKind::Fifo => "fifo",
    }
}
