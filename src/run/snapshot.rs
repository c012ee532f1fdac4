//! The second stage: the inputs are read into the store and laid out for the agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, SnapshotTaken};
use crate::model::spec::{InputPolicy, InputRoot, InputSource};
use crate::model::{ByteSize, Digest, Text};
use crate::rules::exit_code::AgentExit;
use crate::store::snapshot::{
    CaptureError, CapturePolicy, CaptureProgress, CaptureRoot, Exclude, LoadError, MaterialiseError, SnapshotStore,
};
use crate::sys::clock;

use super::begin::{Begun, Target};
use super::ended::{Life, Stage, chain};
use super::progress::{Progress, Stage as Shown, Warning};
use super::signals::{Signals, Worked, interruptible};

/// Inputs up to these are read on the spot.
const SMALL_ROOTS: usize = 8;
const SMALL_BYTES: u64 = 256 * 1024;

/// A run whose inputs are in the store.
#[derive(Debug)]
#[must_use]
pub struct Snapshotted {
    /// The run.
    pub life: Life,
    /// Its targets.
    pub targets: Vec<Target>,
    /// The listing of its input roots, for the hash that standard input is added to.
    pub root_listing: Vec<u8>,
    /// Where the frozen inputs were laid out; `None` without inputs.
    pub inputs: Option<PathBuf>,
}

/// What the worker thread brings back.
struct Frozen {
    taken: SnapshotTaken,
    root_listing: Vec<u8>,
}

/// Reads the inputs (or finds those of an earlier run) and lays them out.
pub async fn take(begun: Begun, signals: &mut Signals, progress: &Arc<dyn Progress>) -> Stage<Snapshotted> {
    let Begun { life, targets } = begun;
    let store = SnapshotStore::at(life.state.path());
    let (policy, project) = (life.spec.inputs.clone(), life.spec.project.to_path_buf());
    let state = life.state.path().to_path_buf();
    let wanted = has_inputs(&policy);
    let inputs = match wanted.then(|| life.dir.make("inputs")).transpose() {
        Ok(inputs) => inputs,
        Err(error) => return Err(life.fail(ErrorKind::SnapshotFailed, &error)),
    };
    let (destination, shown) = (inputs.clone(), Arc::clone(progress));
    let small = is_small(&policy);
    let work = move || freeze(&store, &policy, &project, state, destination, &*shown);
    // What is read in no time is not worth a thread.
    let frozen = if small { Ok(Worked::Done(work())) } else { interruptible(signals, work).await };
    let frozen = match frozen {
        Ok(Worked::Done(Ok(frozen))) => frozen,
        Ok(Worked::Done(Err(failure))) => {
            return Err(life.end(Status::Failed, Some(failure), AgentExit::default()));
        }
        Ok(Worked::Cancelled(signal)) => return Err(cancelled(life, signal)),
        Err(error) => return Err(life.fail(ErrorKind::SnapshotFailed, &error)),
    };
    for path in &frozen.taken.unstable {
        progress.warn(Warning(format!("input changed while it was read: {}", path.to_string_lossy())));
    }
    let life = life.note(Event::Snapshotted(frozen.taken), "snapshot.taken")?;
    Ok(Snapshotted { life, targets, root_listing: frozen.root_listing, inputs })
}

/// A signal came before the agent was spawned.
pub fn cancelled(life: Life, signal: i32) -> Box<super::ended::Ended> {
    let failure = Failure::new(ErrorKind::Cancelled, format!("told to stop by signal {signal}"));
    let agent = AgentExit { cancelled_by: Some(signal), ..AgentExit::default() };
    life.end(Status::Cancelled, Some(failure), agent)
}

/// No inputs, or a few small files.
fn is_small(policy: &InputPolicy) -> bool {
    let small = |root: &InputRoot| {
        root.path.as_path().metadata().is_ok_and(|found| found.is_file() && found.len() < SMALL_BYTES)
    };
    match &policy.source {
        InputSource::Live(roots) => roots.len() <= SMALL_ROOTS && roots.iter().all(small),
        InputSource::Recorded(_) => false,
    }
}

fn has_inputs(policy: &InputPolicy) -> bool {
    match &policy.source {
        InputSource::Live(roots) => !roots.is_empty(),
        InputSource::Recorded(_) => true,
    }
}

fn freeze(
    store: &SnapshotStore,
    policy: &InputPolicy,
    project: &Path,
    state: PathBuf,
    destination: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<Frozen, Failure> {
    let destination = destination.as_deref();
    let first = freeze_once(store, policy, project, &state, destination, progress);
    let error = match first {
        Ok(frozen) => return Ok(frozen),
        Err(error) => error,
    };
    // The live files are there: what is damaged is put aside and they are read again.
    let Some(damaged) = error.damaged().filter(|_| matches!(policy.source, InputSource::Live(_))) else {
        return Err(error.failure());
    };
    progress.warn(Warning(format!("{}; the inputs are read again", chain(&error))));
    let again = store.set_aside(damaged).and_then(|()| destination.map_or(Ok(()), empty));
    again.map_err(|io| Failure::new(ErrorKind::SnapshotFailed, format!("{damaged:?} cannot be put aside: {io}")))?;
    freeze_once(store, policy, project, &state, destination, progress).map_err(|error| error.failure())
}

fn empty(directory: &Path) -> std::io::Result<()> {
    crate::sys::remove::remove_tree(directory)?;
    crate::store::state_dir::make_private_directory(directory)
}

fn freeze_once(
    store: &SnapshotStore,
    policy: &InputPolicy,
    project: &Path,
    state: &Path,
    destination: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Frozen, LayOutError> {
    let taken = match &policy.source {
        InputSource::Live(roots) => {
            let roots: Vec<CaptureRoot> = roots
                .iter()
                .map(|root| CaptureRoot { name: root.name.clone(), path: root.path.to_path_buf() })
                .collect();
            let exclude = Exclude::new(&policy.exclude).map_err(LayOutError::Exclude)?;
            let capture = CapturePolicy {
                exclude,
                skip: vec![state.to_path_buf()],
                limit_bytes: policy.limit.0,
                ..CapturePolicy::default()
            };
            let show = |so_far: CaptureProgress| {
                progress.stage(Shown::Snapshot { files: so_far.files, bytes: ByteSize(so_far.bytes) });
            };
            let captured = store.capture(project, &roots, &capture, &show).map_err(LayOutError::Capture)?;
            SnapshotTaken {
                time: clock::now(),
                input_hash: captured.input_hash,
                snapshot: captured.snapshot,
                files: captured.files,
                bytes: captured.bytes,
                unstable: captured.unstable,
                skipped: captured.skipped,
                left_out: 0,
            }
        }
        InputSource::Recorded(snapshot) => {
            let manifest = store.load(snapshot).map_err(LayOutError::Load)?;
            SnapshotTaken {
                time: clock::now(),
                input_hash: manifest.root_digest(),
                snapshot: snapshot.clone(),
                files: manifest.totals().0,
                bytes: manifest.totals().1,
                unstable: Vec::new(),
                skipped: 0,
                left_out: 0,
            }
        }
    };
    lay_out(store, taken, destination)
}

fn lay_out(store: &SnapshotStore, taken: SnapshotTaken, destination: Option<&Path>) -> Result<Frozen, LayOutError> {
    let manifest = store.load(&taken.snapshot).map_err(LayOutError::Load)?;
    if let Some(destination) = destination {
        store.materialise(&manifest, destination).map_err(LayOutError::Materialise)?;
    }
    Ok(Frozen { root_listing: manifest.root_listing(), taken })
}

/// Why inputs were not frozen.
#[derive(Debug, thiserror::Error)]
enum LayOutError {
    #[error("the inputs cannot be read")]
    Capture(#[source] CaptureError),
    #[error("a glob to exclude is none")]
    Exclude(#[source] globset::Error),
    #[error("the snapshot cannot be read (`agentguard fsck` looks at all of them)")]
    Load(#[source] LoadError),
    #[error("the frozen inputs cannot be laid out")]
    Materialise(#[source] MaterialiseError),
}

impl LayOutError {
    /// The file of the store that is not what it should be.
    fn damaged(&self) -> Option<&Path> {
        match self {
            Self::Load(error) | Self::Materialise(MaterialiseError::Load(error)) => error.damaged(),
            _ => None,
        }
    }

    fn failure(&self) -> Failure {
        match self {
            Self::Capture(error) => explain(error),
            error => Failure::new(ErrorKind::SnapshotFailed, chain(error)),
        }
    }
}

/// What a user can do about a capture that failed.
fn explain(error: &CaptureError) -> Failure {
    let failure = Failure::new(ErrorKind::SnapshotFailed, chain(error));
    match error {
        CaptureError::Unreadable { path, .. } => {
            let path = path.to_string_lossy();
            failure.with_hint(format!("make it readable, or leave it out: --exclude {path:?}"))
        }
        CaptureError::TooLarge { largest, .. } => {
            let named: Vec<String> = largest
                .iter()
                .map(|(path, bytes)| format!("{} ({})", path.to_string_lossy(), ByteSize(*bytes)))
                .collect();
            let exclude = largest.first().map(|(path, _)| path.to_string_lossy().into_owned()).unwrap_or_default();
            let largest = named.join(", ");
            failure.with_hint(format!(
                "largest: {largest}; leave out with --exclude {exclude:?}, or raise --snapshot-limit"
            ))
        }
        _ => failure,
    }
}

/// The input hash with captured standard input in it.
pub fn with_stdin(root_listing: &[u8], digest: Digest, size: u64) -> Digest {
    use sha2::Digest as _;
    Digest(sha2::Sha256::digest(listing_with_stdin(root_listing, digest, size)).into())
}

/// The root listing with one more root, named `stdin`.
pub fn listing_with_stdin(root_listing: &[u8], digest: Digest, size: u64) -> Vec<u8> {
    use crate::model::{Entry, EntryKind};
    let mut line = Vec::new();
    Entry { mode: 0o600, kind: EntryKind::File, digest, size, name: Text::from("stdin").0 }.write_to(&mut line);
    let mut lines: Vec<&[u8]> = split_listing(root_listing);
    lines.push(&line);
    lines.sort_by(|left, right| name_of(left).cmp(name_of(right)));
    lines.concat()
}

/// The lines of a listing, each with its final NUL (names cannot hold one).
fn split_listing(listing: &[u8]) -> Vec<&[u8]> {
    listing.split_inclusive(|byte| *byte == 0).collect()
}

fn name_of(line: &[u8]) -> &[u8] {
    let tab = line.iter().position(|byte| *byte == b'\t').map_or(0, |tab| tab + 1);
    &line[tab..]
}
