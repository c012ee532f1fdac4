//! The second stage: the inputs are read into the store and laid out for the agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, SnapshotRef, SnapshotTaken};
use crate::model::spec::{InputPolicy, InputRoot, InputSource, RunSpec, WorkspacePolicy};
use crate::model::{ByteSize, Digest, Text};
use crate::rules::exit_code::AgentExit;
use crate::store::ignore::{IgnorePolicy, UserGit};
use crate::store::kept;
use crate::store::snapshot::{
    Baseline, CaptureError, CapturePolicy, CaptureProgress, CaptureRoot, Exclude, LoadError, Manifest,
    MaterialiseError, SnapshotStore, Style,
};
use crate::store::staged::Began;
use crate::sys::inside::may_mount;
use crate::sys::overlay_layer::Whiteouts;
use crate::sys::{clock, mount_table};

use super::begin::{Begun, Target};
use super::ended::{Life, Stage, chain};
use super::progress::{Progress, Stage as Shown, Warning};
use super::scene::Obstacle;
use super::signals::{Signals, Worked, interruptible};
use super::workspace::{Origin, ROOT_NAME, skipped_paths};

/// Directory of a run with a layer that makes the live workspace what a recorded snapshot says.
const DIFFERENCE: &str = "difference";

/// Inputs up to these are read on the spot.
const SMALL_ROOTS: usize = 8;
const SMALL_BYTES: u64 = 256 * 1024;

/// A run whose inputs are in the store.
#[derive(Debug)]
#[must_use]
pub struct Snapshotted {
    /// The run.
    pub life: Life,
    /// What every attempt starts from.
    pub ground: Ground,
}

/// What every attempt of a run starts from.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The targets.
    pub targets: Vec<Target>,
    /// The listing of its input roots, for the hash that standard input is added to.
    pub root_listing: RootListing,
    /// Where the frozen inputs were laid out; `None` without inputs.
    pub inputs: Option<PathBuf>,
    /// The workspace as it is now; `None` in publish mode.
    pub origin: Option<Origin>,
    /// What stands against an overlay.
    pub obstacle: Option<Obstacle>,
    /// A layer that makes the live workspace what a recorded snapshot says.
    pub difference: Option<PathBuf>,
}

/// The listing of a snapshot's roots; that of a large workspace is only read where somebody needs it.
#[derive(Clone, Debug)]
pub enum RootListing {
    /// Its bytes.
    Known(Vec<u8>),
    /// In the manifest of this snapshot.
    Stored(SnapshotStore, SnapshotRef),
}

impl RootListing {
    /// The bytes; none if the store cannot give them.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Known(listing) => Some(listing.clone()),
            Self::Stored(store, snapshot) => Some(store.load(snapshot).ok()?.root_listing()),
        }
    }
}

/// What the worker thread brings back.
struct Frozen {
    taken: SnapshotTaken,
    root_listing: RootListing,
    baseline: Option<Arc<Baseline>>,
    difference: Option<PathBuf>,
}

/// Reads the inputs (or finds those of an earlier run) and lays them out.
pub async fn take(begun: Begun, signals: &mut Signals, progress: &Arc<dyn Progress>) -> Stage<Snapshotted> {
    let Begun { life, targets, began } = begun;
    let store = SnapshotStore::at(life.state.path());
    let wanted = has_inputs(&life.spec);
    let inputs = match wanted.then(|| life.dir.make("inputs")).transpose() {
        Ok(inputs) => inputs,
        Err(error) => return Err(life.fail(ErrorKind::SnapshotFailed, &error)),
    };
    // What the store holds already is relied on from before it is found there until the journal says so.
    let relying = match kept::rely(&life.state) {
        Ok(relying) => relying,
        Err(error) => return Err(life.fail(ErrorKind::SnapshotFailed, &error)),
    };
    let (destination, shown) = (inputs.clone(), Arc::clone(progress));
    let small = life.spec.workspace.is_none() && is_small(&life.spec.inputs);
    let freezing = Freezing {
        store,
        spec: life.spec.clone(),
        state: life.state.path().to_path_buf(),
        destination,
        layer: life.dir.join(DIFFERENCE),
    };
    let work = move || freezing.freeze(&*shown);
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
    let Frozen { mut taken, root_listing, baseline, difference } = frozen;
    taken.began = life.spec.workspace.is_some().then_some(began);
    let life = life.note(Event::Snapshotted(taken), "snapshot.taken")?;
    drop(relying);
    let obstacle =
        obstacle(&life.spec, |uid, gid| baseline.as_ref().map_or(0, |baseline| baseline.foreign_owners(uid, gid)));
    let origin = life.spec.workspace.clone().zip(baseline).map(|(policy, baseline)| Origin {
        skip: skipped_paths(&policy, life.state.path()),
        hides_state: life.state.path().starts_with(policy.path.as_path()),
        policy,
        baseline,
        began: Began(began),
    });
    let ground = Ground { targets, root_listing, inputs, origin, obstacle, difference };
    Ok(Snapshotted { life, ground })
}

/// Lays the frozen inputs out again, for another attempt: the one before may have written to them where nothing is mounted.
pub fn lay_out_inputs(life: &Life, inputs: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let taken = life.journal.events().iter().find_map(|event| match event {
        Event::Snapshotted(taken) => Some(&taken.snapshot),
        _ => None,
    });
    let Some(snapshot) = taken else { return Ok(()) };
    let store = SnapshotStore::at(life.state.path());
    empty(inputs)?;
    let manifest = store.load(snapshot)?;
    let is_workspace = life.spec.workspace.is_some();
    let wanted = |name: &[u8]| !is_workspace || name != ROOT_NAME.as_bytes();
    Ok(store.materialise_some(&manifest, inputs, &wanted)?)
}

/// What stands against an overlay, as far as it can be told before one is mounted.
/// `foreign`: how many paths of the workspace have another owner or group than a user and a group.
pub(super) fn obstacle(spec: &RunSpec, foreign: impl FnOnce(u32, u32) -> u64) -> Option<Obstacle> {
    let covered = spec.workspace.as_ref().map_or(&spec.project, |workspace| &workspace.path).as_path();
    if covered == Path::new("/") {
        return Some(Obstacle("the project is the root directory".to_owned()));
    }
    if let Ok(mounts) = mount_table::below(covered)
        && let Some(first) = mounts.first()
    {
        return Some(Obstacle(format!("{} is another filesystem", first.display())));
    }
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let foreign = if may_mount() { 0 } else { foreign(ids.0, ids.1) };
    (foreign > 0).then(|| Obstacle(format!("{foreign} paths have another owner or group than yours")))
}

/// Makes a private copy of the live workspace what a recorded snapshot says.
pub fn apply_recorded(snapshot: &SnapshotRef, spec: &RunSpec, state: &Path, copy: &Path) -> Result<(), String> {
    let Some(workspace) = &spec.workspace else { return Ok(()) };
    let apply = || -> Result<(), LayOutError> {
        let store = SnapshotStore::at(state);
        let manifest = store.load(snapshot).map_err(LayOutError::Load)?;
        let policy = capture_policy(spec, state).map_err(LayOutError::Exclude)?;
        let live = workspace.path.as_path();
        let found = store.difference(&manifest, &ROOT_NAME.into(), live, &policy).map_err(LayOutError::Capture)?;
        found.lay_out(copy, Style::Apply).map_err(LayOutError::Materialise)
    };
    apply().map_err(|error| chain(&error))
}

/// The roots of a workspace's snapshot.
pub fn workspace_root(spec: &RunSpec) -> Vec<CaptureRoot> {
    let root = |policy: &WorkspacePolicy| CaptureRoot { name: ROOT_NAME.into(), path: policy.path.to_path_buf() };
    let mut roots: Vec<CaptureRoot> = spec.workspace.iter().map(root).collect();
    if let InputSource::Live(inputs) = &spec.inputs.source {
        roots.extend(inputs.iter().map(|root| CaptureRoot { name: root.name.clone(), path: root.path.to_path_buf() }));
    }
    roots
}

/// How a run's inputs are captured.
pub fn capture_policy(spec: &RunSpec, state: &Path) -> Result<CapturePolicy, globset::Error> {
    let mut policy = CapturePolicy {
        exclude: Exclude::new(&spec.inputs.exclude)?,
        skip: vec![state.to_path_buf()],
        limit_bytes: spec.inputs.limit.0,
        ..CapturePolicy::default()
    };
    if let Some(workspace) = &spec.workspace {
        policy.ignore = IgnorePolicy::Git(UserGit::of_environment(|name| std::env::var_os(name)));
        policy.without =
            workspace.passthrough.iter().map(|inside| Text([ROOT_NAME.as_bytes(), b"/", &inside.0].concat())).collect();
    }
    Ok(policy)
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

/// Whether there are inputs besides a workspace.
fn has_inputs(spec: &RunSpec) -> bool {
    match &spec.inputs.source {
        InputSource::Live(roots) => !roots.is_empty(),
        InputSource::Recorded(_) => spec.workspace.is_none() || spec.recorded_inputs,
    }
}

/// What is frozen, from where to where.
struct Freezing {
    store: SnapshotStore,
    spec: RunSpec,
    state: PathBuf,
    destination: Option<PathBuf>,
    /// Where a difference layer goes.
    layer: PathBuf,
}

impl Freezing {
    fn freeze(&self, progress: &dyn Progress) -> Result<Frozen, Failure> {
        let error = match self.freeze_once(progress) {
            Ok(frozen) => return Ok(frozen),
            Err(error) => error,
        };
        // The live files are there: what is damaged is put aside and they are read again.
        let is_live = matches!(self.spec.inputs.source, InputSource::Live(_));
        let Some(damaged) = error.damaged().filter(|_| is_live) else {
            return Err(error.failure());
        };
        progress.warn(Warning(format!("{}; the inputs are read again", chain(&error))));
        let again = self.store.set_aside(damaged).and_then(|()| self.destination.as_deref().map_or(Ok(()), empty));
        again
            .map_err(|io| Failure::new(ErrorKind::SnapshotFailed, format!("{damaged:?} cannot be put aside: {io}")))?;
        self.freeze_once(progress).map_err(|error| error.failure())
    }

    fn freeze_once(&self, progress: &dyn Progress) -> Result<Frozen, LayOutError> {
        match &self.spec.inputs.source {
            InputSource::Live(_) => self.freeze_live(progress),
            InputSource::Recorded(snapshot) => self.freeze_recorded(snapshot),
        }
    }

    fn freeze_live(&self, progress: &dyn Progress) -> Result<Frozen, LayOutError> {
        let show = |so_far: CaptureProgress| {
            progress.stage(Shown::Snapshot { files: so_far.files, bytes: ByteSize(so_far.bytes) });
        };
        let roots = workspace_root(&self.spec);
        let policy = capture_policy(&self.spec, &self.state).map_err(LayOutError::Exclude)?;
        let project = self.spec.project.as_path();
        let captured = self.store.capture(project, &roots, &policy, &show).map_err(LayOutError::Capture)?;
        let taken = SnapshotTaken {
            time: clock::now(),
            input_hash: captured.input_hash,
            snapshot: captured.snapshot,
            files: captured.files,
            bytes: captured.bytes,
            unstable: captured.unstable,
            skipped: captured.skipped,
            left_out: captured.left_out,
            began: None,
        };
        self.lay_out(taken, Some(captured.baseline))
    }

    fn freeze_recorded(&self, snapshot: &SnapshotRef) -> Result<Frozen, LayOutError> {
        let manifest = self.store.load(snapshot).map_err(LayOutError::Load)?;
        let (files, bytes) = manifest.totals();
        let taken = SnapshotTaken {
            time: clock::now(),
            input_hash: manifest.root_digest(),
            snapshot: snapshot.clone(),
            files,
            bytes,
            unstable: Vec::new(),
            skipped: 0,
            left_out: 0,
            began: None,
        };
        let baseline_of = |workspace: &WorkspacePolicy| {
            Arc::new(self.store.baseline_of(&manifest, &ROOT_NAME.into(), workspace.path.as_path()))
        };
        let baseline = self.spec.workspace.as_ref().map(baseline_of);
        let difference = match &self.spec.workspace {
            Some(workspace) => self.lay_out_difference(&manifest, workspace)?,
            None => self.lay_out_missing(&manifest)?,
        };
        Ok(Frozen { difference, ..self.lay_out(taken, baseline)? })
    }

    /// What has changed since the recorded snapshot, as a layer over the live tree.
    fn lay_out_difference(
        &self,
        manifest: &Manifest,
        workspace: &WorkspacePolicy,
    ) -> Result<Option<PathBuf>, LayOutError> {
        let policy = capture_policy(&self.spec, &self.state).map_err(LayOutError::Exclude)?;
        let live = workspace.path.as_path();
        let found = self.store.difference(manifest, &ROOT_NAME.into(), live, &policy).map_err(LayOutError::Capture)?;
        if found.is_empty() {
            return Ok(None);
        }
        let style = Style::Layer(Whiteouts::AsPossible);
        found.lay_out(&self.layer, style).map_err(LayOutError::Materialise)?;
        Ok(Some(self.layer.clone()))
    }

    /// Inputs below the project of which nothing is left in their own place, as a layer over the live tree: there is nothing
    /// that they could be mounted over.
    fn lay_out_missing(&self, manifest: &Manifest) -> Result<Option<PathBuf>, LayOutError> {
        let project = self.spec.project.as_path();
        let is_missing = |name: &Text| {
            let is_inside = name.as_path().is_relative() && name.as_path() != Path::new(".");
            let found = project.join(name.as_path()).symlink_metadata();
            is_inside
                && *name != Text::from("stdin")
                && found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        let names = manifest.roots().map(|(_, root)| Text(root.name.to_vec()));
        let missing: Vec<Text> = names.filter(|name| is_missing(name)).collect();
        if missing.is_empty() {
            return Ok(None);
        }
        let wanted = |name: &[u8]| missing.iter().any(|one| one.0 == name);
        self.store.materialise_some(manifest, &self.layer, &wanted).map_err(LayOutError::Materialise)?;
        for name in &missing {
            for above in name.as_path().ancestors().skip(1) {
                // Directories that are there are what they are there.
                if let Ok(live) = std::fs::metadata(project.join(above)) {
                    let _ = std::fs::set_permissions(self.layer.join(above), live.permissions());
                }
            }
        }
        Ok(Some(self.layer.clone()))
    }

    /// A workspace without further inputs needs neither the manifest nor a place for it.
    fn lay_out(&self, taken: SnapshotTaken, baseline: Option<Arc<Baseline>>) -> Result<Frozen, LayOutError> {
        if self.spec.workspace.is_some() && self.destination.is_none() {
            let root_listing = RootListing::Stored(self.store.clone(), taken.snapshot.clone());
            return Ok(Frozen { root_listing, taken, baseline, difference: None });
        }
        let manifest = self.store.load(&taken.snapshot).map_err(LayOutError::Load)?;
        if let Some(destination) = &self.destination {
            let wanted = |name: &[u8]| name != ROOT_NAME.as_bytes();
            self.store.materialise_some(&manifest, destination, &wanted).map_err(LayOutError::Materialise)?;
        }
        let root_listing = RootListing::Known(manifest.root_listing());
        Ok(Frozen { root_listing, taken, baseline, difference: None })
    }
}

fn empty(directory: &Path) -> std::io::Result<()> {
    crate::sys::remove::remove_tree(directory)?;
    crate::store::state_dir::make_private_directory(directory)
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
pub(super) fn explain(error: &CaptureError) -> Failure {
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
