//! How a process of a run sees the world: which view is tried, what it is made of, and what was in force in the end.
//!
//! Ways are tried in order by really entering them; the step that a kernel refuses is named, and the next way is taken
//! only where the user left the choice open.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::RunId;
use crate::model::record::Isolation;
use crate::model::spec::{IsolationLevel, Network, RunSpec, ViewKind};
use crate::store::run_dir::RunDir;
use crate::sys::inside::{Access, Entered, Step};
use crate::sys::xattr;
use crate::view::clone::{self, CloneLayout};
use crate::view::overlay::{self, Bound, Changes, Confinement, OverlayLayout, Shown};

/// The directory of a run that its processes find at [`Private::seen`].
pub const PRIVATE: &str = "agent";

/// One way to give a process its view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Copy on write over the live tree.
    Overlay,
    /// A private copy, mounted over the live tree.
    Clone,
    /// A private copy, entered as the working directory where nothing can be mounted; the live tree is closed.
    EnteredClone,
    /// The same, and absolute paths still lead to the live tree.
    LooseClone,
    /// The live tree: only staging is apart (publish mode).
    Plain,
}

impl Way {
    /// The word of the record.
    pub fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Clone | Self::EnteredClone | Self::LooseClone => "clone",
            Self::Plain => "staging",
        }
    }

    /// Whether the copy is entered under its own path.
    pub fn is_moved(self) -> bool {
        matches!(self, Self::EnteredClone | Self::LooseClone)
    }

    /// Whether paths outside of the view are shown inside by mounts.
    pub fn mounts(self) -> bool {
        matches!(self, Self::Overlay | Self::Clone)
    }
}

/// What stands against an overlay, found before one is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle(pub String);

/// The ways to try, best first.
pub fn ways(spec: &RunSpec, obstacle: Option<&Obstacle>) -> Vec<Way> {
    let policy = &spec.view;
    let is_workspace = spec.workspace.is_some();
    match (policy.isolation, policy.wanted) {
        (IsolationLevel::None, _) if is_workspace => vec![Way::LooseClone],
        (IsolationLevel::None, _) => vec![Way::Plain],
        (_, ViewKind::Overlay) => vec![Way::Overlay],
        (IsolationLevel::Strict, ViewKind::Clone) => vec![Way::Clone],
        (IsolationLevel::Auto, ViewKind::Clone) if is_workspace => vec![Way::Clone, Way::EnteredClone, Way::LooseClone],
        (IsolationLevel::Auto, ViewKind::Clone) => vec![Way::Clone],
        (IsolationLevel::Strict, ViewKind::Auto) if obstacle.is_some() => vec![Way::Clone],
        (IsolationLevel::Strict, ViewKind::Auto) if is_workspace => vec![Way::Overlay, Way::Clone],
        (IsolationLevel::Strict, ViewKind::Auto) => vec![Way::Overlay],
        (IsolationLevel::Auto, ViewKind::Auto) if !is_workspace && obstacle.is_some() => vec![Way::Plain],
        (IsolationLevel::Auto, ViewKind::Auto) if !is_workspace => vec![Way::Overlay, Way::Plain],
        (IsolationLevel::Auto, ViewKind::Auto) if obstacle.is_some() => {
            vec![Way::Clone, Way::EnteredClone, Way::LooseClone]
        }
        (IsolationLevel::Auto, ViewKind::Auto) => vec![Way::Overlay, Way::Clone, Way::EnteredClone, Way::LooseClone],
    }
}

/// Where a run's processes have what is theirs alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Private {
    /// On the host.
    pub host: PathBuf,
    /// As they see it.
    pub seen: PathBuf,
}

impl Private {
    /// The directories of a run. Mounted ways see it at a short path of its own (a socket's path has room for 107 bytes),
    /// since the state directory is hidden from them.
    pub fn of(dir: &RunDir, way: Way) -> Self {
        let host = dir.join(PRIVATE);
        let seen = if way.mounts() { mount_point(dir.run_id()) } else { host.clone() };
        Self { host, seen }
    }
}

/// The mount point of a run's private directory, which is empty outside of its views.
pub fn mount_point(run_id: RunId) -> PathBuf {
    let temporary = std::env::temp_dir();
    let base = if temporary.is_absolute() { temporary } else { PathBuf::from("/tmp") };
    base.join(format!("agentguard-{}", run_id.short()))
}

/// Makes the mount point: a new directory of the user's own, or none.
pub fn make_mount_point(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // Left by an earlier attempt of this run; somebody else's is none of ours.
            let found = path.symlink_metadata()?;
            let own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
            if own { Ok(()) } else { Err(error) }
        }
        made => made,
    }
}

/// Everything a way is made of.
#[derive(Clone, Debug)]
pub struct Scene {
    /// How.
    pub way: Way,
    /// The directory that the view covers: the workspace, or in publish mode the project.
    pub covered: PathBuf,
    /// Layers between the live tree and the changes, the topmost first.
    pub above: Vec<PathBuf>,
    /// Where an overlay's changes go.
    pub changes: Changes,
    /// The private copy.
    pub copy: PathBuf,
    /// The state directory.
    pub state: PathBuf,
    /// The run's private directory.
    pub private: Private,
    /// What is shown over the view.
    pub binds: Vec<Bound>,
    /// Working directory, as in the live tree.
    pub cwd: PathBuf,
    /// Further writable paths under `strict`.
    pub allow_write: Vec<PathBuf>,
    /// How much must be enforced.
    pub level: IsolationLevel,
    /// Whether there is a network.
    pub network: Network,
    /// The process is not there before whatever is changed gets a later stamp than this ([`clock::wait_past`]): what
    /// others change from its start on is told from what they changed before the run began.
    pub not_before: Option<(i64, u32)>,
}

/// A scene could not be composed.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// An overlay's layers cannot be prepared.
    #[error(transparent)]
    Overlay(#[from] overlay::OverlayError),
    /// A directory cannot be made.
    #[error("cannot make {path:?}")]
    Make {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> SceneError {
    let path = path.to_path_buf();
    move |source| SceneError::Make { path, source }
}

impl Scene {
    /// The working directory as the process will name it.
    pub fn seen_cwd(&self) -> PathBuf {
        match self.cwd.strip_prefix(&self.covered) {
            Ok(inside) if self.way.is_moved() && inside.as_os_str().is_empty() => self.copy.clone(),
            Ok(inside) if self.way.is_moved() => self.copy.join(inside),
            _ => self.cwd.clone(),
        }
    }

    /// The covered directory as the process will name it.
    pub fn seen_covered(&self) -> PathBuf {
        if self.way.is_moved() { self.copy.clone() } else { self.covered.clone() }
    }

    /// How much is closed besides the view.
    pub fn confinement(&self) -> Confinement {
        let own = [self.seen_covered(), self.private.seen.clone()];
        match (self.level, self.way) {
            (IsolationLevel::Strict, _) => {
                let binds = self.binds.iter().filter(|bind| bind.access == Access::ReadWrite);
                let binds = binds.map(|bind| bind.view_path.clone());
                Confinement::Confined(own.into_iter().chain(binds).chain(self.allow_write.iter().cloned()).collect())
            }
            // Absolute paths still lead to the live tree: it alone is closed.
            (IsolationLevel::Auto, Way::EnteredClone) => {
                // What is passed through lies in the live tree, and the copy leads there.
                let through = self.binds.iter().map(|bind| bind.host_path.clone());
                Confinement::Confined(own.into_iter().chain(through).chain(all_but(&self.covered)).collect())
            }
            _ => Confinement::Open,
        }
    }

    /// What the init process does before the rest is known: see [`opening`].
    pub fn opening(&self) -> Vec<Step> {
        opening(self.way, self.level, self.network)
    }

    /// Makes what the view needs on the host, and the steps that enter it.
    pub fn steps(&self) -> Result<Vec<Step>, SceneError> {
        if self.way.mounts() {
            make_mount_point(&self.private.seen).map_err(failed(&self.private.seen))?;
        }
        let private = vec![Shown { host_path: self.private.host.clone(), view_path: self.private.seen.clone() }];
        match self.way {
            Way::Overlay => {
                make_layer(&self.changes.upper, &self.covered).map_err(failed(&self.changes.upper))?;
                make_anew(&self.changes.work).map_err(failed(&self.changes.work))?;
                Ok(overlay::steps(&OverlayLayout {
                    workspace: self.covered.clone(),
                    above: self.above.clone(),
                    changes: Some(self.changes.clone()),
                    state_dir: self.state.clone(),
                    private,
                    binds: self.binds.clone(),
                    cwd: self.cwd.clone(),
                    confinement: self.confinement(),
                })?)
            }
            Way::Clone => Ok(clone::steps(&CloneLayout {
                workspace: self.covered.clone(),
                copy: self.copy.clone(),
                state_dir: self.state.clone(),
                private,
                binds: self.binds.clone(),
                cwd: self.cwd.clone(),
                confinement: self.confinement(),
            })),
            Way::EnteredClone | Way::LooseClone | Way::Plain => {
                Ok(clone::steps_without_mounts(&self.seen_cwd(), &self.confinement()))
            }
        }
    }

    /// What the record says was in force.
    pub fn isolation(&self, entered: &Entered) -> Isolation {
        let level = level_in_force(self.level, self.way);
        let network = match self.network {
            Network::Host => "host",
            Network::None => "none",
        };
        Isolation {
            view: self.way.word().to_owned(),
            level: level.to_owned(),
            landlock_abi: entered.landlock_abi,
            network: network.to_owned(),
            processes: Some(if entered.pids { "namespace" } else { "subreaper" }.to_owned()),
        }
    }
}

/// The record's word for how much is enforced, where so much was asked for.
pub fn level_in_force(level: IsolationLevel, way: Way) -> &'static str {
    match (level, way) {
        (IsolationLevel::Strict, _) => "strict",
        (IsolationLevel::None, _) | (_, Way::Plain | Way::LooseClone) => "none",
        (IsolationLevel::Auto, _) => "auto",
    }
}

/// What an init process does before anything else of a scene is known: its namespaces, which must have its process ids
/// where it has mounts of its own.
pub fn opening(way: Way, level: IsolationLevel, network: Network) -> Vec<Step> {
    let mut steps = match way {
        Way::Overlay => overlay::opening(network, level == IsolationLevel::Strict),
        Way::Clone => clone::opening(network),
        Way::EnteredClone | Way::LooseClone | Way::Plain => clone::opening_without_mounts(network),
    };
    if way.mounts() {
        // What is started from here on sees the namespace's own /proc.
        let at = steps.iter().position(|step| *step == Step::ServeRenames).unwrap_or(steps.len());
        steps.insert(at, Step::PidNamespace);
    }
    steps
}

/// An empty layer; its top directory is what the covered one looks like inside. One that is there is kept: what it holds
/// was put there before.
fn make_layer(upper: &Path, covered: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(upper) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = fs::metadata(covered)?;
    let own = fs::metadata(upper)?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        // Few may give it that owner; for the others it is their own, as everything that they make is.
        let _ = std::os::unix::fs::chown(upper, Some(metadata.uid()), Some(metadata.gid()));
    }
    let (from, to) = (fs::File::open(covered)?, fs::File::open(upper)?);
    let xattrs = xattr::read_all(std::os::fd::AsFd::as_fd(&from))?;
    xattr::write_all(std::os::fd::AsFd::as_fd(&to), &xattrs)?;
    // A filesystem without attributes cannot hold a layer: the mount will say so.
    let _ = crate::sys::overlay_layer::mark_impure(std::os::fd::AsFd::as_fd(&to));
    fs::set_permissions(upper, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

fn make_anew(path: &Path) -> io::Result<()> {
    crate::sys::remove::remove_tree(path)?;
    fs::DirBuilder::new().mode(0o700).create(path)
}

/// Everything but one directory: what stands beside it, and beside each directory above it. What is made in those
/// directories themselves stays closed.
pub(super) fn all_but(directory: &Path) -> Vec<PathBuf> {
    let mut open = Vec::new();
    for (below, above) in directory.ancestors().zip(directory.ancestors().skip(1)) {
        let beside = fs::read_dir(above).into_iter().flatten().flatten().map(|entry| entry.path());
        open.extend(beside.filter(|path| path != below));
    }
    open
}
