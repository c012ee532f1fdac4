//! After the agent: staging is read, hashed and counted. From here on nothing may change it; whether anything did is
//! checked again right before the commit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Stat;

use crate::model::Text;
use crate::model::error_kind::{ErrorKind, Failure, Status};
use crate::model::event::{Event, Sealed};
use crate::model::spec::StagingBase;
use crate::rules::exit_code::AgentExit;
use crate::store::outputs;
use crate::store::snapshot::{self, CapturePolicy, CaptureRoot, hash_roots};
use crate::sys::walk::Access;
use crate::sys::{clock, durable, hard_links, identity};
use crate::view::staging::Staging;

use super::attempt::Attempted;
use super::begin::Target;
use super::commit::SYNC_EACH;
use super::ended::{Life, Stage, chain};
use super::environment::AttemptPlaces;
use super::layer;
use super::progress::{Progress, Stage as Shown};
use super::scene::Scene;
use super::signals::{Signals, Worked, interruptible};
use super::snapshot::cancelled;

/// A run whose agent succeeded and whose staging is sealed.
#[derive(Debug)]
#[must_use]
pub struct SealedRun {
    /// The run.
    pub life: Life,
    /// Targets that were staged, each with its staged object.
    pub staged: Vec<StagedTarget>,
    /// Targets that the agent left alone.
    pub untouched: Vec<Text>,
    /// Where the attempt had its things.
    pub places: AttemptPlaces,
    /// How the attempt saw the world.
    pub scene: Scene,
    /// How the agent ended.
    pub agent: AgentExit,
    /// What was sealed.
    pub tree: Arc<snapshot::Sealed>,
}

/// One target and what will become of it.
#[derive(Clone, Debug)]
pub struct StagedTarget {
    /// The target.
    pub target: Target,
    /// The staged object.
    pub staged: PathBuf,
}

/// Whether staging differs from what it started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

/// Seals staging; a failed attempt ends here, once it is known what it had staged.
pub async fn seal(attempted: Attempted, signals: &mut Signals, progress: &Arc<dyn Progress>) -> Stage<SealedRun> {
    let Attempted { life, targets, places, scene, agent, failure, .. } = attempted;
    progress.stage(Shown::Sealing);
    let Some(staging) = places.staging.clone() else {
        let none = std::io::Error::other("there is no staging directory");
        return Err(life.fail(ErrorKind::PublishIo, &none));
    };
    let discarded = match layer::take_outputs(&scene, &targets, &staging) {
        Ok(discarded) => discarded,
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    let (staged, untouched) = split(targets, &staging, life.spec.staging_base);
    let work = {
        let roots = roots_of(&staged);
        let started_from = match life.spec.staging_base {
            StagingBase::Empty => None,
            StagingBase::Current => Some(target_roots(&staged)),
        };
        let succeeded = failure.is_none();
        move || read_staging(&staging, &roots, started_from.as_deref(), succeeded)
    };
    // Nothing to read is not worth a thread.
    let sealed = if staged.is_empty() { Ok(Worked::Done(work())) } else { interruptible(signals, work).await };
    let (tree, changed) = match sealed {
        Ok(Worked::Done(Ok(sealed))) => sealed,
        Ok(Worked::Done(Err(sealing))) => {
            return Err(life.end(Status::Failed, Some(failure.unwrap_or(sealing)), agent));
        }
        Ok(Worked::Cancelled(signal)) => return Err(cancelled(life, signal)),
        Err(error) => return Err(life.fail(ErrorKind::PublishIo, &error)),
    };
    // A copy of the present content that the agent left as it was is nothing staged.
    let staged = if changed == Changed::No { Vec::new() } else { staged };
    // `show --manifest outputs` and `replay` read it.
    let listed = if staged.is_empty() { Ok(()) } else { outputs::write(&life.dir, &tree.manifest) };
    if let Err(error) = listed {
        let unwritten = publish_io(format!("the list of the outputs cannot be written: {error}"));
        return Err(life.end(status_of(agent), Some(failure.unwrap_or(unwritten)), agent));
    }
    let sealed = Sealed {
        time: clock::now(),
        output_hash: (!staged.is_empty()).then_some(tree.root_digest),
        files: if staged.is_empty() { 0 } else { tree.files },
        bytes: if staged.is_empty() { 0 } else { tree.bytes },
        contents: None,
        discarded,
        drift: None,
    };
    let life = life.note(Event::Sealed(sealed), "sealed")?;
    if failure.is_some() {
        return Err(life.end(status_of(agent), None, agent));
    }
    Ok(SealedRun { life, staged, untouched, places, scene, agent, tree: Arc::new(tree) })
}

/// The status of a run whose attempt failed.
pub fn status_of(agent: AgentExit) -> Status {
    if agent.cancelled_by.is_some() { Status::Cancelled } else { Status::Failed }
}

/// Which targets the agent staged. A staging directory that is itself the target counts once something is in it; one
/// that began with the target's present content counts in any case.
fn split(targets: Vec<Target>, staging: &Staging, base: StagingBase) -> (Vec<StagedTarget>, Vec<Text>) {
    let (mut staged, mut untouched) = (Vec::new(), Vec::new());
    for target in targets {
        let path = staged_path(&staging.path, &target);
        let is_staged = if target.output.staged_as.0.is_empty() {
            // A directory whose content was there and was taken out is staged too: empty.
            base == StagingBase::Current || std::fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some())
        } else {
            path.symlink_metadata().is_ok()
        };
        if is_staged {
            staged.push(StagedTarget { target, staged: path });
        } else {
            untouched.push(target.output.name);
        }
    }
    (staged, untouched)
}

fn staged_path(staging: &Path, target: &Target) -> PathBuf {
    if target.output.staged_as.0.is_empty() {
        staging.to_path_buf()
    } else {
        staging.join(target.output.staged_as.as_path())
    }
}

/// The roots of the output listing.
pub fn roots_of(staged: &[StagedTarget]) -> Vec<CaptureRoot> {
    staged.iter().map(|one| CaptureRoot { name: one.target.output.name.clone(), path: one.staged.clone() }).collect()
}

/// The same names for what the targets hold now.
fn target_roots(staged: &[StagedTarget]) -> Vec<CaptureRoot> {
    staged
        .iter()
        .map(|one| CaptureRoot { name: one.target.output.name.clone(), path: one.target.output.path.to_path_buf() })
        .collect()
}

fn read_staging(
    staging: &crate::view::staging::Staging,
    roots: &[CaptureRoot],
    started_from: Option<&[CaptureRoot]>,
    succeeded: bool,
) -> Result<(snapshot::Sealed, Changed), Failure> {
    let given = (staging.identity.dev, staging.identity.ino);
    // The inode of a directory that was removed may be that of the link put in its place: the kind counts too.
    let is_ours = |found: &Stat| (found.st_dev, found.st_ino) == given && identity::file_type(found).is_dir();
    match identity::lstat(&staging.path) {
        Ok(Some(found)) if is_ours(&found) => {}
        Ok(_) => {
            let message = "the staging directory is not the one the agent was given";
            return Err(Failure::new(ErrorKind::Tampered, message));
        }
        Err(error) => return Err(publish_io(format!("cannot look at staging: {error}"))),
    }
    // The result will have to be durable: its pages are on their way while it is hashed.
    let flushing = (succeeded && has_many_files(&staging.path)).then(|| start_flushing(&staging.path));
    let sealed = (|| {
        hard_links::separate_from_outside(&staging.path)
            .map_err(|error| publish_io(format!("cannot separate hard links in staging: {error}")))?;
        let tree = hash_roots(roots, &sealing_policy()).map_err(|error| publish_io(chain(&error)))?;
        let unchanged = match started_from {
            Some(roots) => is_same(roots, &tree),
            None => false,
        };
        Ok((tree, if unchanged { Changed::No } else { Changed::Yes }))
    })();
    drop(flushing);
    sealed
}

fn publish_io(message: String) -> Failure {
    Failure::new(ErrorKind::PublishIo, message)
}

/// Whether the targets hold just what was staged. Ones that cannot be read are taken to differ.
fn is_same(targets: &[CaptureRoot], tree: &snapshot::Sealed) -> bool {
    let policy = CapturePolicy { access: Access::AsIs, ..sealing_policy() };
    hash_roots(targets, &policy).is_ok_and(|now| now.root_digest == tree.root_digest)
}

/// Everything in staging is the result, however large; limits are the gate's.
pub fn sealing_policy() -> CapturePolicy {
    CapturePolicy { limit_bytes: u64::MAX, access: Access::Own, ..CapturePolicy::default() }
}

/// Whether the commit will sync the whole filesystem rather than a few files.
fn has_many_files(staging: &Path) -> bool {
    let files = walkdir::WalkDir::new(staging)
        .follow_root_links(false)
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file());
    files.take(SYNC_EACH as usize + 1).count() as u64 > SYNC_EACH
}

/// Starts write-back of the staging filesystem in the background; whether it succeeded is asked again by the commit,
/// which does its own sync.
fn start_flushing(staging: &Path) -> Option<std::thread::JoinHandle<()>> {
    let directory = std::fs::File::open(staging).ok()?;
    let flush = move || {
        let _ = durable::sync_filesystem(&directory);
    };
    std::thread::Builder::new().spawn(flush).ok()
}
