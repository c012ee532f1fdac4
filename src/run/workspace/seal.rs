//! After the agent: what it changed is read, hashed, compared with what stood there, and written down.

use std::sync::Arc;

use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, Sealed as SealedEvent, SnapshotRef};
use crate::model::record::InputDrift;
use crate::model::{RelPath, Text};
use crate::rules::exit_code::AgentExit;
use crate::run::attempt::Attempted;
use crate::run::ended::{Life, Stage, chain};
use crate::run::environment::AttemptPlaces;
use crate::run::progress::{Progress, Stage as Shown, Warning};
use crate::run::scene::Scene;
use crate::run::seal::{sealing_policy, status_of};
use crate::run::signals::{Signals, Worked, interruptible};
use crate::run::snapshot::{cancelled, capture_policy, workspace_root};
use crate::store::change_set::{self, output_hash};
use crate::store::snapshot::{CaptureRoot, Durability, KeepLimit, Sealed, SnapshotStore, hash_roots};
use crate::store::staged::{Refused, Staged, compare};
use crate::sys::clock;
use crate::view::harvest::{Afterwards, harvest};

use super::commit::upper_roots;
use super::{Origin, UPPER};

/// What is kept of the new contents, so that `diff` can show them later.
const KEPT: KeepLimit = KeepLimit { per_file: 4 << 20, total: 256 << 20 };

/// A run whose agent succeeded and whose changes are sealed.
#[derive(Debug)]
#[must_use]
pub struct SealedWorkspace {
    /// The run.
    pub life: Life,
    /// What stood there when it began.
    pub origin: Origin,
    /// Where the attempt had its things.
    pub places: AttemptPlaces,
    /// How the attempt saw the world.
    pub scene: Scene,
    /// How the agent ended.
    pub agent: AgentExit,
    /// The upper layer as it was sealed.
    pub sealed: Arc<Sealed>,
    /// What it changes.
    pub staged: Staged,
    /// Inputs that changed under the run.
    pub drift: InputDrift,
}

/// What the worker thread brings back.
struct Read {
    sealed: Sealed,
    contents: Option<SnapshotRef>,
    staged: Staged,
    drift: InputDrift,
}

/// Seals what was changed; a failed attempt ends here, once it is known what it had staged.
pub async fn seal(
    attempted: Attempted,
    origin: Origin,
    signals: &mut Signals,
    progress: &Arc<dyn Progress>,
) -> Stage<SealedWorkspace> {
    let Attempted { life, places, scene, copied, agent, failure, .. } = attempted;
    progress.stage(Shown::Sealing);
    let work = {
        let (roots, origin, store) = (upper_roots(&life), origin.clone(), SnapshotStore::at(life.state.path()));
        let (spec, state) = (life.spec.clone(), life.state.path().to_path_buf());
        let (copy, upper) = (scene.copy.clone(), life.dir.join(UPPER));
        let is_verified = failure.is_none() && !life.spec.gate.verify.is_empty();
        let afterwards = if is_verified { Afterwards::Needed } else { Afterwards::Done };
        move || {
            let devices = match copied {
                Some(base) => harvest(&copy, &base, &upper, afterwards).map_err(|error| failed(&error))?,
                None => Vec::new(),
            };
            too_much(&upper, &spec).map_or(Ok(()), Err)?;
            let policy = capture_policy(&spec, &state).map_err(|error| failed(&error))?;
            let roots_now = workspace_root(&spec);
            let mut read = read(&store, &roots, &origin, |origin| {
                let drift = origin.baseline.drift(&roots_now, &policy).map_err(|error| failed(&error))?;
                let prefix = [super::ROOT_NAME.as_bytes(), b"/"].concat();
                let inside = |path: Text| Text(path.0.strip_prefix(&prefix[..]).unwrap_or(&path.0).to_vec());
                Ok(InputDrift { count: drift.count(), paths: drift.first_paths.into_iter().map(inside).collect() })
            })?;
            read.staged.refused.extend(refused_devices(devices, &origin.skip));
            Ok::<Read, Failure>(read)
        }
    };
    let read = match interruptible(signals, work).await {
        Ok(Worked::Done(Ok(read))) => read,
        Ok(Worked::Done(Err(sealing))) => {
            let status = match (&failure, sealing.kind) {
                (None, ErrorKind::Limit) => Status::Rejected,
                _ => status_of(agent),
            };
            return Err(life.end(status, Some(failure.unwrap_or(sealing)), agent));
        }
        Ok(Worked::Cancelled(signal)) => return Err(cancelled(life, signal)),
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let Read { sealed, contents, staged, drift } = read;
    warn_about_drift(&drift, progress);
    let listed = if staged.changes.paths.is_empty() { Ok(()) } else { change_set::write(&life.dir, &staged.changes) };
    if let Err(error) = listed {
        let unwritten = Failure::new(ErrorKind::PublishIo, format!("the list of changes cannot be written: {error}"));
        return Err(life.end(status_of(agent), Some(failure.unwrap_or(unwritten)), agent));
    }
    let (files, bytes) = staged.changes.staged();
    let event = SealedEvent {
        time: clock::now(),
        output_hash: output_hash(&staged.changes),
        // A deletion is staged, too.
        files: files.max(u64::from(!staged.changes.paths.is_empty())),
        bytes,
        contents,
        discarded: None,
        drift: Some(drift.clone()),
    };
    let life = life.note(Event::Sealed(event), "sealed")?;
    if failure.is_some() {
        return Err(life.end(status_of(agent), None, agent));
    }
    Ok(SealedWorkspace { life, origin, places, scene, agent, sealed: Arc::new(sealed), staged, drift })
}

fn failed(error: &dyn std::error::Error) -> Failure {
    Failure::new(ErrorKind::PublishIo, chain(error))
}

fn read(
    store: &SnapshotStore,
    roots: &[CaptureRoot],
    origin: &Origin,
    drift: impl FnOnce(&Origin) -> Result<InputDrift, Failure>,
) -> Result<Read, Failure> {
    // A layer with nothing in it (but the note that hides the state directory) needs no pack.
    let is_empty = roots.iter().all(|root| holds_nothing(&root.path));
    let (sealed, contents) = if is_empty {
        (hash_roots(roots, &sealing_policy()).map_err(|error| failed(&error))?, None)
    } else {
        let kept = store.seal_roots(roots, &sealing_policy(), KEPT, Durability::Deferred);
        kept.map(|(sealed, contents)| (sealed, Some(contents))).map_err(|error| failed(&error))?
    };
    let staged = compare(&origin.workspace(), &sealed).map_err(|error| failed(&error))?;
    Ok(Read { sealed, contents, staged, drift: drift(origin)? })
}

/// Devices that an agent has made in a copy are no part of the layer, and its result is refused for them.
fn refused_devices(devices: Vec<Vec<u8>>, skip: &[Vec<u8>]) -> impl Iterator<Item = Refused> {
    let skip: Vec<RelPath> = skip.iter().filter_map(|path| RelPath::new(path.clone()).ok()).collect();
    let paths = devices.into_iter().filter_map(|path| RelPath::new(path).ok());
    paths
        .filter(move |path| !skip.iter().any(|skipped| path.as_path().starts_with(skipped.as_path())))
        .map(|path| Refused { path, what: "device" })
}

/// A result that is far beyond the limits is not read: a sparse file of terabytes is made in no time and hashed in hours.
/// What may turn out to be the same as before is not counted.
fn too_much(upper: &std::path::Path, spec: &crate::model::RunSpec) -> Option<Failure> {
    let most = spec.gate.max_bytes?.0;
    let live = spec.workspace.as_ref()?.path.as_path();
    let mut bytes = 0_u64;
    for entry in walkdir::WalkDir::new(upper).follow_root_links(false).into_iter().flatten() {
        let (Ok(inside), Ok(metadata)) = (entry.path().strip_prefix(upper), entry.metadata()) else { continue };
        let is_same_size = || live.join(inside).symlink_metadata().is_ok_and(|there| there.len() == metadata.len());
        if metadata.is_file() && !is_same_size() {
            bytes = bytes.saturating_add(metadata.len());
        }
    }
    let message = format!("the result has {bytes} bytes, more than --max-bytes {most}");
    (bytes > most.max(AT_ONCE)).then(|| Failure::new(ErrorKind::Limit, message))
}

/// So much is read in a moment, and then the record has the hash of what was staged.
const AT_ONCE: u64 = 1 << 30;

/// Whether a layer has nothing but whiteouts at its top.
fn holds_nothing(upper: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    let is_whiteout = |entry: std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_char_device());
    std::fs::read_dir(upper).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(is_whiteout)))
}

fn warn_about_drift(drift: &InputDrift, progress: &Arc<dyn Progress>) {
    if let Some(first) = drift.paths.first() {
        let more = if drift.count > 1 { format!(" and {} more", drift.count - 1) } else { String::new() };
        progress.warn(Warning(format!("changed by somebody else meanwhile: {}{more}", first.to_string_lossy())));
    }
}
