//! The second stage: the inputs are read into the store and laid out for the agent.

use std::path::PathBuf;
use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, SnapshotTaken};
use crate::model::spec::{InputPolicy, InputSource};
use crate::model::{ByteSize, Digest, Text};
use crate::rules::exit_code::AgentExit;
use crate::store::snapshot::{CaptureError, CapturePolicy, CaptureProgress, CaptureRoot, Exclude, SnapshotStore};
use crate::sys::clock;

use super::begin::{Begun, Target};
use super::ended::{Life, Stage, chain};
use super::progress::{Progress, Stage as Shown, Warning};
use super::signals::{Signals, Worked, interruptible};

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
    let work = move || freeze(&store, &policy, &project, state, destination, &*shown);
    let frozen = match interruptible(signals, work).await {
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

fn has_inputs(policy: &InputPolicy) -> bool {
    match &policy.source {
        InputSource::Live(roots) => !roots.is_empty(),
        InputSource::Recorded(_) => true,
    }
}

fn freeze(
    store: &SnapshotStore,
    policy: &InputPolicy,
    project: &std::path::Path,
    state: PathBuf,
    destination: Option<PathBuf>,
    progress: &dyn Progress,
) -> Result<Frozen, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new(ErrorKind::SnapshotFailed, chain(error));
    let taken = match &policy.source {
        InputSource::Live(roots) => {
            let roots: Vec<CaptureRoot> = roots
                .iter()
                .map(|root| CaptureRoot { name: root.name.clone(), path: root.path.to_path_buf() })
                .collect();
            let exclude = Exclude::new(&policy.exclude).map_err(|error| failed(&error))?;
            let capture =
                CapturePolicy { exclude, skip: vec![state], limit_bytes: policy.limit.0, ..CapturePolicy::default() };
            let show = |so_far: CaptureProgress| {
                progress.stage(Shown::Snapshot { files: so_far.files, bytes: ByteSize(so_far.bytes) });
            };
            let captured = store.capture(project, &roots, &capture, &show).map_err(|error| explain(&error))?;
            SnapshotTaken {
                time: clock::now(),
                input_hash: captured.input_hash,
                snapshot: captured.snapshot,
                files: captured.files,
                bytes: captured.bytes,
                unstable: captured.unstable,
                skipped: captured.skipped,
            }
        }
        InputSource::Recorded(snapshot) => {
            let manifest = store.load(snapshot).map_err(|error| failed(&error))?;
            SnapshotTaken {
                time: clock::now(),
                input_hash: manifest.root_digest(),
                snapshot: snapshot.clone(),
                files: manifest.totals().0,
                bytes: manifest.totals().1,
                unstable: Vec::new(),
                skipped: 0,
            }
        }
    };
    let manifest = store.load(&taken.snapshot).map_err(|error| failed(&error))?;
    if let Some(destination) = destination {
        store.materialise(&manifest, &destination).map_err(|error| failed(&error))?;
    }
    Ok(Frozen { root_listing: manifest.root_listing(), taken })
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
