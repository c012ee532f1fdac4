//! The overlay view: the workspace at its own path, copied on write, as a list of steps.
//!
//! A plain composer: which layers there are, what is shown besides and how much is confined is decided by the caller. A
//! view for verify commands is the same with the agent's upper as the topmost lower layer and another upper.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, makedev, mknodat, statat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::model::Text;
use crate::model::spec::Network;
use crate::sys::inside::{Access, Bind, Layers, Step, Writes, may_mount};

/// What an agent is to see.
#[derive(Clone, Debug)]
pub struct OverlayLayout {
    /// The live tree, and where the view of it is.
    pub workspace: PathBuf,
    /// Layers between the live tree and the changes, the topmost first.
    pub above: Vec<PathBuf>,
    /// Where changes go; without it the view is read-only.
    pub changes: Option<Changes>,
    /// The state directory: nothing in it is visible, except for what is shown elsewhere.
    pub state_dir: PathBuf,
    /// Directories, mostly of the run, that are shown at another path, which is made if it is missing.
    pub private: Vec<Shown>,
    /// Files and directories that are shown over the view; there must be something of their kind.
    pub binds: Vec<Bound>,
    /// The working directory.
    pub cwd: PathBuf,
    /// How much more is closed.
    pub confinement: Confinement,
}

/// Where an overlay's changes go: two directories on one filesystem, made for this view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// What was changed.
    pub upper: PathBuf,
    /// An empty directory for the kernel.
    pub work: PathBuf,
}

/// A directory that is shown at another path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which.
    pub host_path: PathBuf,
    /// Where it is inside.
    pub view_path: PathBuf,
}

/// Something that is shown over the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What.
    pub host_path: PathBuf,
    /// Where.
    pub view_path: PathBuf,
    /// Whether it can be written.
    pub access: Access,
}

/// How much is closed besides the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// What lies outside of the view is as open as ever.
    Open,
    /// Nothing outside of these can be written. Paths as they are inside; the workspace is not implied.
    Confined(Vec<PathBuf>),
}

/// A view could not be composed.
#[derive(Debug, thiserror::Error)]
#[error("cannot hide the state directory from the view: {path:?}")]
pub struct OverlayError {
    path: PathBuf,
    source: io::Error,
}

/// What a child can do before the layout is known: namespaces (a user namespace only for who may not mount without), and
/// the process that serves renames, unless that must be confined too.
pub fn opening(network: Network, is_confined: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if !may_mount() {
        steps.push(Step::UserNamespace { uid: geteuid().as_raw(), gid: getegid().as_raw() });
    }
    steps.push(Step::MountNamespace);
    if network == Network::None {
        steps.push(Step::NetworkNamespace);
    }
    if !is_confined {
        steps.push(Step::ServeRenames);
    }
    steps
}

/// The rest, from the mounts to the capabilities. Puts a whiteout for the state directory into the upper layer where that
/// hides it.
pub fn steps(layout: &OverlayLayout) -> Result<Vec<Step>, OverlayError> {
    let mut steps = vec![Step::Overlay(layers(layout))];
    if hide_state(layout)? == Hidden::ByMask {
        steps.push(Step::Mask { path: layout.state_dir.as_path().into() });
    }
    for Shown { host_path, view_path } in &layout.private {
        steps.push(Step::MakeDirectory { path: view_path.as_path().into() });
        steps.push(bind(host_path, view_path, Access::ReadWrite));
    }
    for Bound { host_path, view_path, access } in &layout.binds {
        steps.push(bind(host_path, view_path, *access));
    }
    steps.push(Step::Enter { directory: layout.cwd.as_path().into() });
    if let Confinement::Confined(writable) = &layout.confinement {
        steps.push(Step::Confine { writable: texts(writable) });
        // After it, so that what is done for the agent is confined like the agent.
        steps.push(Step::ServeRenames);
    }
    steps.push(Step::DropAdmin);
    Ok(steps)
}

fn layers(layout: &OverlayLayout) -> Layers {
    let mut lower = texts(&layout.above);
    lower.push(layout.workspace.as_path().into());
    Layers {
        lower,
        writes: layout
            .changes
            .as_ref()
            .map(|changes| Writes { upper: changes.upper.as_path().into(), work: changes.work.as_path().into() }),
        target: layout.workspace.as_path().into(),
    }
}

fn bind(host_path: &Path, view_path: &Path, access: Access) -> Step {
    Step::Bind(Bind { from: host_path.into(), to: view_path.into(), access })
}

fn texts(paths: &[PathBuf]) -> Vec<Text> {
    paths.iter().map(|path| path.as_path().into()).collect()
}

/// How the state directory is hidden.
#[derive(PartialEq, Eq)]
enum Hidden {
    /// It does not exist inside.
    ByWhiteout,
    /// It is there, and empty.
    ByMask,
    /// There is nothing to hide.
    Absent,
}

fn hide_state(layout: &OverlayLayout) -> Result<Hidden, OverlayError> {
    if layout.state_dir.symlink_metadata().is_err() {
        return Ok(Hidden::Absent);
    }
    let (Some(parent), Some(name)) = (layout.state_dir.parent(), layout.state_dir.file_name()) else {
        return Ok(Hidden::ByMask);
    };
    if parent != layout.workspace {
        return Ok(Hidden::ByMask);
    }
    // The layer of an earlier view that hides it already.
    let there = layout.above.iter().map(|layer| layer.join(name)).find(|path| path.symlink_metadata().is_ok());
    match (there, &layout.changes) {
        (Some(there), _) if is_whiteout(&there) => Ok(Hidden::ByWhiteout),
        (_, Some(changes)) => put_whiteout(&changes.upper.join(name)),
        (_, None) => Ok(Hidden::ByMask),
    }
}

fn put_whiteout(path: &Path) -> Result<Hidden, OverlayError> {
    // Anybody may make this one device (vfs_mknod, since Linux 5.8).
    match mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), makedev(0, 0)) {
        Ok(()) => Ok(Hidden::ByWhiteout),
        Err(Errno::EXIST) if is_whiteout(path) => Ok(Hidden::ByWhiteout),
        Err(Errno::PERM) => Ok(Hidden::ByMask),
        Err(errno) => Err(OverlayError { path: path.to_path_buf(), source: errno.into() }),
    }
}

fn is_whiteout(path: &Path) -> bool {
    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(0, 0)
    })
}
